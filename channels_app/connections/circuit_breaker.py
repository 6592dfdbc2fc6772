"""Circuit breakers: a route that rejects everything until somebody acts is not used meanwhile.

Each connection has one. A rejection caused by account or configuration opens it. While it is open,
one message at a time probes the route after 1, 2, 4, 8 and then every 15 minutes; the first
accepted message closes it. Staff are alerted once. Each step is one conditional UPDATE, so any
number of workers agree.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import structlog
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext

from channels_app.incidents import incidents
from channels_app.models import Channel, Connection, Incident, Provider
from channels_app.providers.error_codes import ErrorClass, ErrorRule, FallbackRule
from channels_app.signals import session_changed

if TYPE_CHECKING:
    from django.contrib.auth.models import User

FIRST_PROBE, LAST_PROBE = dt.timedelta(minutes=1), dt.timedelta(minutes=15)
# WhatsApp does not document how long it rejects first messages (error 463); users report a day.
NEW_CHATS_STOP = dt.timedelta(hours=24)

log = structlog.get_logger(__name__)


def should_trip(rule: ErrorRule) -> bool:
    """Whether an error means that the route rejects every message until somebody acts."""
    return rule.kind == ErrorClass.CONFIG and rule.fallback == FallbackRule.IMMEDIATE_ALERT


def is_open(connection: Connection) -> bool:
    """Whether the breaker was open when the connection was loaded."""
    return connection.breaker_opened_at is not None


def probe_is_due(connection: Connection, now: dt.datetime) -> bool:
    """Whether a message may claim the next probe of an open breaker."""
    due = connection.breaker_probe_at
    return is_open(connection) and (due is None or due <= now)


def claim_probe(connection: Connection, now: dt.datetime) -> bool:
    """Claim the due probe; False if another message claimed it first."""
    tries = connection.breaker_probes + 1
    due = _tripped(connection).filter(Q(breaker_probe_at=None) | Q(breaker_probe_at__lte=now))
    claimed = due.update(
        breaker_probe_at=now + min(FIRST_PROBE * 2 ** min(tries, 10), LAST_PROBE),
        breaker_probes=tries,
    )
    return bool(claimed)


def trip(connection: Connection, *, code: str, late: bool = False) -> None:
    """Open the breaker if it is closed, and alert staff."""
    now = timezone.now()
    with transaction.atomic():
        closed = Connection.objects.filter(pk=connection.pk, breaker_opened_at=None)
        opened = closed.update(
            breaker_opened_at=now,
            breaker_code=code[:64],
            breaker_late=late,
            breaker_probe_at=now + FIRST_PROBE,
            breaker_probes=0,
        )
        if opened:
            log.error("circuit breaker opened", connection=str(connection), code=code)
            _open_incident(connection, code, now)


def close(connection: Connection) -> None:
    """Close the breaker if it is open: the connection accepted a message."""
    with transaction.atomic():
        if _close(connection):
            incidents.mark_recovered(connection, at=timezone.now())


def close_for_new_settings(connection: Connection) -> None:
    """Close the breaker: the settings that identify the connection have changed.

    The incident of a session ends when monitoring finds it ready, or with the session.
    """
    with transaction.atomic():
        if _close(connection) and connection.provider == Provider.OFFICIAL:
            incidents.close_silently(connection)


def request_probe(connection: Connection) -> None:
    """Let the next message probe the connection: something may have fixed it."""
    _tripped(connection).update(breaker_probe_at=timezone.now())


def _close(connection: Connection) -> bool:
    closed: dict[str, Any] = {
        "breaker_opened_at": None,
        "breaker_code": "",
        "breaker_late": False,
        "breaker_probe_at": None,
        "breaker_probes": 0,
    }
    if not _tripped(connection).update(**closed):
        return False
    for name, value in closed.items():
        setattr(connection, name, value)
    log.info("circuit breaker closed", connection=str(connection))
    session_changed.send(sender=Connection, channel=connection.channel)
    return True


def alert_once(connection: Connection, *, code: str) -> None:
    """Alert staff to a limit that Meta set on the number, once until a message is accepted."""
    with transaction.atomic():
        # The row lock ensures that only one worker raises the alert.
        Connection.objects.select_for_update(no_key=True).filter(pk=connection.pk).first()
        if not incidents.current(connection).filter(kind=Incident.Kind.CONNECTION).exists():
            _open_incident(connection, code, timezone.now())


def record_recovery(connection: Connection) -> None:
    """Record that a failed connection has accepted a message again."""
    incidents.mark_recovered(connection, at=timezone.now())


def block_new_chats(connection: Connection, *, code: str) -> None:
    """Block first messages by this connection's number for a while, and alert staff."""
    now = timezone.now()
    with transaction.atomic():
        unblocked = Connection.objects.filter(pk=connection.pk, new_chats_stopped_until=None)
        if unblocked.update(new_chats_stopped_until=now + NEW_CHATS_STOP):
            log.error("new chats blocked", connection=str(connection), code=code)
            _open_incident(connection, code, now, kind=Incident.Kind.NEW_CHATS)


def lift_new_chat_block(channel: Channel, *, user: User) -> bool:
    """Lift the new-chat blocks of this channel's fallbacks early. Returns whether there was one.

    For any other than an official channel it is the block of its own number. The user and time are
    stored, logged, and added to the admin history. If WhatsApp rejects a first message again, the
    block returns.
    """
    is_official = channel.kind == Provider.OFFICIAL
    fallbacks = channel.fallback_connections if is_official else [channel.primary]
    if not fallbacks:
        return False
    now = timezone.now()
    with transaction.atomic():
        blocked = sharing_session(*fallbacks).filter(new_chats_stopped_until__isnull=False)
        lifted = list(
            blocked.select_for_update(no_key=True, of=("self",))
            .select_related("channel")
            .order_by("pk")
        )
        for row in lifted:
            Connection.objects.filter(pk=row.pk).update(
                new_chats_stopped_until=None, new_chats_lifted_at=now, new_chats_lifted_by=user
            )
            log.warning("new-chat block lifted", connection=str(row), user=user.get_username())
            LogEntry.objects.create(
                user=user,
                content_type=ContentType.objects.get_for_model(Channel),
                object_id=str(row.channel_id),
                object_repr=str(row.channel)[:200],
                action_flag=CHANGE,
                change_message=gettext("The new-chat block was lifted."),
            )
            incidents.mark_recovered(row, kind=Incident.Kind.NEW_CHATS, at=now)
            session_changed.send(sender=Connection, channel=row.channel)
    return bool(lifted)


def sharing_session(*connections: Connection) -> QuerySet[Connection]:
    """Return these connections and those that use the same session of the same server."""
    same = Q(pk__in=[connection.pk for connection in connections])
    for connection in connections:
        if connection.provider == Provider.WWEBJS and connection.address:
            same |= Q(provider=connection.provider, address=connection.address)
    return Connection.objects.filter(same)


def end_expired_blocks() -> None:
    """End the new-chat blocks that have expired."""
    expired = Connection.objects.filter(new_chats_stopped_until__lte=timezone.now())
    for connection in expired.select_related("channel"):
        with transaction.atomic():
            Connection.objects.filter(pk=connection.pk).update(new_chats_stopped_until=None)
            kind = Incident.Kind.NEW_CHATS
            incidents.mark_recovered(connection, kind=kind, at=timezone.now())
            session_changed.send(sender=Connection, channel=connection.channel)


def record_rejection(connection: Connection, *, code: str, detail: str) -> None:
    """Alert staff, once per code, that single messages are rejected with it."""
    if incidents.record_rejection(connection, code=code, detail=detail, at=timezone.now()):
        log.error("messages are rejected", connection=str(connection), code=code)
        session_changed.send(sender=Connection, channel=connection.channel)


def record_fallback_share(
    connection: Connection, *, is_anomalous: bool, detail: str = "", code: str = ""
) -> None:
    """Open or end the incident of an unusual fallback rate: overall, or for one code."""
    kind, now = Incident.Kind.FALLBACKS, timezone.now()
    is_current = incidents.current(connection).filter(kind=kind, code=code).exists()
    with transaction.atomic():
        if is_anomalous and not is_current:
            log.error("unusual fallback rate", connection=str(connection), code=code)
            _open_incident(connection, "fallbacks_jumped", now, detail, kind=kind, code=code)
        elif is_current and not is_anomalous:
            incidents.mark_recovered(connection, kind=kind, at=now, code=code)
            session_changed.send(sender=Connection, channel=connection.channel)


def _open_incident(
    connection: Connection,
    reason: str,
    now: dt.datetime,
    detail: str = "",
    *,
    kind: str = Incident.Kind.CONNECTION,
    code: str = "",
) -> None:
    incidents.open_or_update(connection, kind=kind, reason=reason, detail=detail, at=now, code=code)
    session_changed.send(sender=Connection, channel=connection.channel)


def _tripped(connection: Connection) -> QuerySet[Connection]:
    return Connection.objects.filter(pk=connection.pk, breaker_opened_at__isnull=False)
