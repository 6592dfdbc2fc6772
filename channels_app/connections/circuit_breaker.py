"""Circuit breakers: a route that rejects everything until somebody acts is not used meanwhile.

A channel has one for its primary route and one for its attached wwebjs session. A rejection caused
by account or configuration opens it. While it is open, one message at a time probes the route after
1, 2, 4, 8 and then every 15 minutes; the first accepted message closes it. Staff are alerted once.
Each step is one conditional UPDATE, so any number of workers agree.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import structlog
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext

from channels_app.incidents import incidents
from channels_app.models import Channel, Incident
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
    return rule.kind == ErrorClass.CONFIG and rule.fallback == FallbackRule.ALARM


def is_open(channel: Channel, route: str) -> bool:
    """Whether the breaker of this channel's route was open when the channel was loaded."""
    return getattr(channel, f"{_prefix(route)}_opened_at") is not None


def probe_is_due(channel: Channel, route: str, now: dt.datetime) -> bool:
    """Whether a message may claim the next probe of an open route."""
    due = getattr(channel, f"{_prefix(route)}_probe_at")
    return is_open(channel, route) and (due is None or due <= now)


def claim_probe(channel: Channel, route: str, now: dt.datetime) -> bool:
    """Claim the due probe; False if another message claimed it first."""
    prefix = _prefix(route)
    tries = getattr(channel, f"{prefix}_probes") + 1
    due = Q(**{f"{prefix}_probe_at": None}) | Q(**{f"{prefix}_probe_at__lte": now})
    claimed = _rows(channel, prefix).filter(due)
    return bool(
        claimed.update(
            **{
                f"{prefix}_probe_at": now + min(FIRST_PROBE * 2 ** min(tries, 10), LAST_PROBE),
                f"{prefix}_probes": tries,
            }
        )
    )


def trip(channel: Channel, route: str, *, code: str, late: bool = False) -> None:
    """Open the breaker if it is closed, and alert staff."""
    prefix, now = _prefix(route), timezone.now()
    with transaction.atomic():
        opened = Channel.objects.filter(pk=channel.pk, **{f"{prefix}_opened_at": None}).update(
            **{
                f"{prefix}_opened_at": now,
                f"{prefix}_code": code[:64],
                f"{prefix}_late": late,
                f"{prefix}_probe_at": now + FIRST_PROBE,
                f"{prefix}_probes": 0,
            }
        )
        if opened:
            log.error("circuit breaker opened", channel=channel.pk, route=route, code=code)
            _open_incident(channel, _incident_route(channel, route), code, now)


def close(channel: Channel, route: str) -> None:
    """Close the breaker if it is open: the route accepted a message."""
    with transaction.atomic():
        if _close(channel, route):
            incidents.mark_recovered(
                channel, route=_incident_route(channel, route), at=timezone.now()
            )


def channel_saved(sender: type[Channel], instance: Channel, **kwargs: Any) -> None:
    """Signal receiver: close a breaker if the settings of its route have changed.

    Any other change may have fixed the route as well, so the next message probes it.
    """
    saved = kwargs.get("update_fields")
    for route, names in (
        ("", Channel.PRIMARY_ROUTE_SETTINGS),
        (Incident.Route.WWEBJS, Channel.WWEBJS_SETTINGS),
    ):
        if instance.has_changed(set(names).intersection(saved if saved is not None else names)):
            _reset(instance, route)
        else:
            prefix = _prefix(route)
            _rows(instance, prefix).update(**{f"{prefix}_probe_at": timezone.now()})


def _reset(channel: Channel, route: str) -> None:
    with transaction.atomic():
        if _close(channel, route) and _incident_route(channel, route) == Incident.Route.OFFICIAL:
            # The incident of a session ends when monitoring finds it ready, or with the session.
            incidents.close_silently(channel, route=Incident.Route.OFFICIAL)


def _close(channel: Channel, route: str) -> bool:
    prefix = _prefix(route)
    closed: dict[str, Any] = {
        f"{prefix}_opened_at": None,
        f"{prefix}_code": "",
        f"{prefix}_late": False,
        f"{prefix}_probe_at": None,
        f"{prefix}_probes": 0,
    }
    if not _rows(channel, prefix).update(**closed):
        return False
    for name, value in closed.items():
        setattr(channel, name, value)
    log.info("circuit breaker closed", channel=channel.pk, route=_incident_route(channel, route))
    session_changed.send(sender=Channel, channel=channel)
    return True


def alert_once(channel: Channel, route: str, *, code: str) -> None:
    """Alert staff to a limit that Meta set on the number, once until a message is accepted."""
    with transaction.atomic():
        # The row lock ensures that only one worker raises the alert.
        Channel.objects.select_for_update().filter(pk=channel.pk).first()
        incident_route = _incident_route(channel, route)
        if not incidents.current(channel).filter(route=incident_route).exists():
            _open_incident(channel, incident_route, code, timezone.now())


def record_recovery(channel: Channel, route: str) -> None:
    """Record that a failed route has accepted a message again."""
    incidents.mark_recovered(channel, route=_incident_route(channel, route), at=timezone.now())


def stop_new_chats(channel: Channel, *, code: str) -> None:
    """Block first messages by this number's web session for a while, and alert staff."""
    now = timezone.now()
    with transaction.atomic():
        stopped = Channel.objects.filter(pk=channel.pk, new_chats_stopped_until=None)
        if stopped.update(new_chats_stopped_until=now + NEW_CHATS_STOP):
            log.error("first messages by the fallback stopped", channel=channel.pk, code=code)
            _open_incident(channel, Incident.Route.NEW_CHATS, code, now)


def lift_new_chat_block(channel: Channel, *, user: User) -> bool:
    """Lift the new-chat block of this channel's session early. Returns whether there was one.

    The user and time are stored on the channel, logged, and added to the admin history. If WhatsApp
    rejects a first message again, the block returns.
    """
    now = timezone.now()
    with transaction.atomic():
        blocked = Channel.objects.filter(
            pk__in=sharing_session(channel), new_chats_stopped_until__isnull=False
        )
        lifted = list(blocked.select_for_update(no_key=True).order_by("pk"))
        for row in lifted:
            Channel.objects.filter(pk=row.pk).update(
                new_chats_stopped_until=None, new_chats_lifted_at=now, new_chats_lifted_by=user
            )
            log.warning("new-chat block lifted", channel=row.pk, user=user.get_username())
            LogEntry.objects.create(
                user=user,
                content_type=ContentType.objects.get_for_model(Channel),
                object_id=str(row.pk),
                object_repr=str(row)[:200],
                action_flag=CHANGE,
                change_message=gettext("The new-chat block was lifted."),
            )
            incidents.mark_recovered(row, route=Incident.Route.NEW_CHATS, at=now)
            session_changed.send(sender=Channel, channel=row)
    return bool(lifted)


def sharing_session(channel: Channel) -> list[int]:
    """Return the IDs of channels that may store a new-chat block of this channel's fallback."""
    if channel.fallback == Channel.Fallback.BAILEYS and channel.fallback_channel_id:
        return [channel.fallback_channel_id]
    ids = {channel.pk}
    if channel.has_wwebjs:
        same = Channel.objects.filter(
            wwebjs_url=channel.wwebjs_url, wwebjs_session_id=channel.wwebjs_session_id
        )
        ids.update(same.values_list("pk", flat=True))
    return sorted(ids)


def end_stops() -> None:
    """End the new-chat blocks that have expired."""
    expired = Channel.objects.filter(new_chats_stopped_until__lte=timezone.now())
    for channel in expired:
        with transaction.atomic():
            Channel.objects.filter(pk=channel.pk).update(new_chats_stopped_until=None)
            incidents.mark_recovered(channel, route=Incident.Route.NEW_CHATS, at=timezone.now())
            session_changed.send(sender=Channel, channel=channel)


def note_refused(channel: Channel, *, code: str, detail: str) -> None:
    """Alert staff, once per code, that single messages are rejected with it."""
    if incidents.record_rejection(channel, code=code, detail=detail, at=timezone.now()):
        log.error("messages are refused", channel=channel.pk, code=code)
        session_changed.send(sender=Channel, channel=channel)


def note_share(channel: Channel, *, jumped: bool, detail: str = "", code: str = "") -> None:
    """Open or end the incident of an unusual fallback rate: overall, or for one code."""
    route, now = Incident.Route.FALLBACKS, timezone.now()
    is_current = incidents.current(channel).filter(route=route, code=code).exists()
    with transaction.atomic():
        if jumped and not is_current:
            log.error("unusual fallback rate", channel=channel.pk, detail=detail, code=code)
            _open_incident(channel, route, "fallbacks_jumped", now, detail, code)
        elif is_current and not jumped:
            incidents.mark_recovered(channel, route=route, at=now, code=code)
            session_changed.send(sender=Channel, channel=channel)


def _open_incident(
    channel: Channel, route: str, reason: str, now: dt.datetime, detail: str = "", code: str = ""
) -> None:
    incidents.open_or_update(channel, route=route, reason=reason, detail=detail, at=now, code=code)
    session_changed.send(sender=Channel, channel=channel)


def _rows(channel: Channel, prefix: str) -> Any:
    return Channel.objects.filter(pk=channel.pk, **{f"{prefix}_opened_at__isnull": False})


def _prefix(route: str) -> str:
    """Return the column prefix: an attached session has its own columns."""
    return "wwebjs_breaker" if route == Incident.Route.WWEBJS else "breaker"


def _incident_route(channel: Channel, route: str) -> str:
    """Return the connection that an incident of this route concerns."""
    if route == Incident.Route.WWEBJS:
        return Incident.Route.WWEBJS
    official = channel.kind == Channel.Kind.OFFICIAL
    return Incident.Route.OFFICIAL if official else Incident.Route.BAILEYS
