"""Incidents of connections: one alert when a connection drops and one when it recovers.

A drop is stored and shown in the pages at once. E-mail and webhook alerts wait for
`ALERT_AFTER_SECONDS`, because many connections recover automatically. An incident's reason follows
the current state. If it changes after the alert so that a different action is needed, one further
alert per incident is sent once the new reason has lasted as long.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels_app import queue
from channels_app.incidents.reason_text import encode_reason, person_action, render_reason
from channels_app.models import Connection, Incident, Provider
from channels_app.providers.sessions import SERVER_ABSENCES
from channels_app.signals import incident_changed, session_changed
from core import http_client

# A connection has recovered after working for this long; an earlier drop is the same incident.
STABLE_FOR = dt.timedelta(seconds=60)
# An incident of rejected messages ends after this time without a rejection: nothing else shows that
# the cause was fixed.
NO_REJECTION_FOR = dt.timedelta(hours=1)
# A notice of the provider ends after this time, because nothing else does.
NOTICE_FOR = dt.timedelta(days=1)
# Further rejections within this time are not recorded: a campaign may cause thousands.
REJECTION_INTERVAL = dt.timedelta(minutes=1)
WEBHOOK_SECONDS = 10.0

# Subjects of incidents that do not concern the fallback's connection: at the start and at the end.
_SUBJECTS: dict[str, tuple[Any, Any]] = {
    Provider.OFFICIAL: (
        gettext_lazy("Alterna: the official API rejects all messages of “%(name)s”"),
        gettext_lazy("Alterna: the official API accepts messages of “%(name)s” again"),
    ),
    Provider.BAILEYS: (
        gettext_lazy("Alterna: the Baileys channel “%(name)s” does not work"),
        gettext_lazy("Alterna: the Baileys channel “%(name)s” works again"),
    ),
    Incident.Kind.NEW_CHATS: (
        gettext_lazy("Alterna: WhatsApp blocked new chats through the fallback of “%(name)s”"),
        gettext_lazy("Alterna: the fallback of “%(name)s” can write to new customers again"),
    ),
    Incident.Kind.FALLBACKS: (
        gettext_lazy("Alterna: an unusual share of “%(name)s” is sent through the fallback"),
        gettext_lazy("Alterna: “%(name)s” is sending normally again"),
    ),
    Incident.Kind.REQUESTS: (
        gettext_lazy("Alterna: messages of “%(name)s” are rejected"),
        gettext_lazy(
            "Alterna: no message of “%(name)s” was rejected for this reason in the last hour"
        ),
    ),
    Incident.Kind.RECEIVE_MODE: (
        gettext_lazy("Alterna: messages to “%(name)s” may not be received"),
        gettext_lazy("Alterna: messages to “%(name)s” are received as configured again"),
    ),
}
_SUBJECTS[Incident.Kind.ACCOUNT] = _SUBJECTS[Incident.Kind.NOTICE] = (
    gettext_lazy("Alterna: Meta reports a problem with the account of “%(name)s”"),
    gettext_lazy("Alterna: a problem with the account of “%(name)s” is over"),
)
# Kinds that nothing ends but time.
_ENDS_AFTER: dict[str, dt.timedelta] = {
    Incident.Kind.REQUESTS: NO_REJECTION_FOR,
    Incident.Kind.NOTICE: NOTICE_FOR,
}
_EVENTS: dict[str, str] = {
    Provider.OFFICIAL: "official",
    Incident.Kind.NEW_CHATS: "new_chats",
    Incident.Kind.FALLBACKS: "fallbacks",
    Incident.Kind.REQUESTS: "requests",
    Incident.Kind.RECEIVE_MODE: "receive_mode",
    Incident.Kind.ACCOUNT: "account",
    Incident.Kind.NOTICE: "account",
}


class AlertFailed(Exception):
    """The recipient did not accept the alert; it may be sent again."""


def open_or_update(
    connection: Connection,
    *,
    reason: str,
    detail: str,
    at: dt.datetime,
    kind: str = Incident.Kind.CONNECTION,
    code: str = "",
) -> None:
    """Open an incident, or count one more drop of the one that is open. In a transaction."""
    is_open = _open(connection, kind, code)
    if is_open.update(recovered_at=None, drops=F("drops") + 1, last_drop_at=at):
        _set_reason(is_open, reason, detail, at)
    else:
        Incident.objects.create(
            connection=connection, kind=kind, code=code[:64], opened_at=at, last_drop_at=at,
            reason=reason[:64], detail=detail[:300], first_reason=reason[:64], reason_since=at,
            server_absence=SERVER_ABSENCES.get(reason, ""),
        )  # fmt: skip
    incident_changed.send(sender=Incident, channel=connection.channel)


def observed(connection: Connection, *, reason: str, detail: str, at: dt.datetime) -> None:
    """Update the reason of the open incident of a connection that has not recovered.

    In a transaction. Does nothing if there is no incident or the reason is unchanged.
    """
    if _set_reason(_open(connection).filter(recovered_at=None), reason, detail, at):
        incident_changed.send(sender=Incident, channel=connection.channel)


def _set_reason(rows: QuerySet[Incident], reason: str, detail: str, at: dt.datetime) -> bool:
    if absence := SERVER_ABSENCES.get(reason):
        rows.exclude(server_absence=Incident.ServerAbsence.RESTARTED).update(server_absence=absence)
    elif person_action(reason) == "link":
        # The connection recovers because a person links the phone, not automatically.
        rows.exclude(server_absence="").update(server_absence="")
    rows.exclude(reason=reason[:64]).update(reason_since=at)
    values = {"reason": reason[:64], "detail": detail[:300]}
    return bool(rows.exclude(**values).update(**values))


def open_incident(connection: Connection) -> Incident | None:
    """Return the incident of this connection that is not closed yet; it may have recovered."""
    return _open(connection).first()


def record_rejection(connection: Connection, *, code: str, detail: str, at: dt.datetime) -> bool:
    """Open or update the incident of messages that are rejected with this code.

    Returns whether it was opened. Any number of workers may call this concurrently.
    """
    existing = _open(connection, Incident.Kind.REQUESTS, code)
    latest = existing.values_list("last_drop_at", flat=True).first()
    if latest is not None and latest > at - REJECTION_INTERVAL:
        return False
    with transaction.atomic():
        # The row lock ensures that only one worker opens the incident.
        Connection.objects.select_for_update(no_key=True).filter(pk=connection.pk).first()
        open_or_update(
            connection, kind=Incident.Kind.REQUESTS, code=code, reason=code, detail=detail, at=at
        )
    return latest is None


def mark_recovered(
    connection: Connection,
    *,
    at: dt.datetime,
    kind: str = Incident.Kind.CONNECTION,
    code: str = "",
) -> None:
    """Record that the connection works again; `process_due` closes the incident if it lasts."""
    if _open(connection, kind, code).filter(recovered_at=None).update(recovered_at=at):
        incident_changed.send(sender=Incident, channel=connection.channel)


def close_silently(connection: Connection, *, kind: str = Incident.Kind.CONNECTION) -> None:
    """Close an open incident without an alert: a person ended or changed the connection."""
    if _open(connection, kind).update(closed_at=timezone.now()):
        incident_changed.send(sender=Incident, channel=connection.channel)


def reopen(incident: Incident) -> None:
    """Undo `close_silently`: the connection was not ended after all. In a transaction.

    Does nothing if another incident was opened in the meantime.
    """
    if _open(incident.connection, incident.kind, incident.code).exists():
        return
    if Incident.objects.filter(pk=incident.pk).update(closed_at=None):
        incident_changed.send(sender=Incident, channel=incident.channel)


def current(connection: Connection | None = None) -> QuerySet[Incident]:
    """Return the incidents that have not recovered: of one connection, or of all."""
    rows = Incident.objects.filter(closed_at=None, recovered_at=None)
    rows = rows.select_related("connection__channel")
    return rows.filter(connection=connection) if connection is not None else rows


def alertable() -> QuerySet[Incident]:
    """Return the incidents to alert people to: all current ones except of inactive channels."""
    return current().filter(connection__channel__active=True)


def alert_lines() -> list[Incident]:
    """Return the incidents to alert people to, one for all of a connection with the same reason.

    It is the oldest of them, so that it stays the same while others join; `more` counts those.
    Forty paused templates are one line.
    """
    lines: dict[tuple[int, str, str], Incident] = {}
    for incident in alertable():  # newest first
        key = (incident.connection_id, incident.kind, incident.reason)
        incident.more = lines[key].more + 1 if key in lines else 0
        lines[key] = incident
    return list(lines.values())


def headline(incident: Incident) -> str:
    """Return one line with the route and the reason, without the channel, in the active language.

    Callers append to it, so it has no final full stop.
    """
    line = f"{incident.get_subject_display()}: {_reason(incident).removesuffix('.')}"
    if not incident.more:
        return line
    return _("%(line)s (and %(n)s more)") % {"line": line, "n": incident.more}


def first_reason(incident: Incident) -> str:
    """Return the incident's first reason in the active language; "" if it is still the reason."""
    return "" if incident.first_reason == incident.reason else render_reason(incident.first_reason)


def _reason(incident: Incident) -> str:
    """Return the reason in the active language, with the provider's numeric code."""
    return render_reason(encode_reason(incident.reason, incident.detail))


def process_due() -> None:
    """Close recovered incidents and enqueue the alerts that are due."""
    now = timezone.now()
    alert_delay = dt.timedelta(seconds=settings.ALERT_AFTER_SECONDS)
    with transaction.atomic():
        unclosed = Incident.objects.select_for_update(skip_locked=True).filter(closed_at=None)
        for incident in unclosed:
            lasts = _ENDS_AFTER.get(incident.kind)
            if lasts is not None and incident.last_drop_at <= now - lasts:
                incident.recovered_at = now
                _close(incident, now)
            elif incident.recovered_at is not None:
                if incident.recovered_at <= now - STABLE_FOR:
                    _close(incident, now)
            elif incident.alerted_at is None and incident.opened_at <= now - alert_delay:
                incident.alerted_at, incident.alerted_reason = now, incident.reason
                incident.save(update_fields=["alerted_at", "alerted_reason"])
                _enqueue_alerts(incident, "down")
            elif _needs_another_alert(incident, now - alert_delay):
                incident.updated_alert_at, incident.alerted_reason = now, incident.reason
                incident.save(update_fields=["updated_alert_at", "alerted_reason"])
                _enqueue_alerts(incident, "changed")


def _needs_another_alert(incident: Incident, before: dt.datetime) -> bool:
    """Whether a different action is needed than the alert said. At most once per incident."""
    if incident.alerted_at is None or incident.updated_alert_at is not None:
        return False
    action = person_action(incident.reason)
    lasting = incident.reason_since is not None and incident.reason_since <= before
    return bool(action) and lasting and action != person_action(incident.alerted_reason)


def _close(incident: Incident, now: dt.datetime) -> None:
    incident.closed_at = now
    if incident.alerted_at is not None:
        incident.end_alerted_at = now
        _enqueue_alerts(incident, "recovered")
    incident.save(update_fields=["recovered_at", "closed_at", "end_alerted_at"])
    incident_changed.send(sender=Incident, channel=incident.channel)
    session_changed.send(sender=Incident, channel=incident.channel)


def _enqueue_alerts(incident: Incident, what: str) -> None:
    """Enqueue a separate job per recipient: a retry of one must not repeat the other's alert."""
    if not incident.channel.active:
        return
    if settings.ALERT_EMAILS:
        queue.enqueue_alert(incident.pk, what=what, by="email")
    if settings.ALERT_WEBHOOK_URL:
        queue.enqueue_alert(incident.pk, what=what, by="webhook")


def send_alert(incident_id: int, *, what: str, by: str) -> None:
    """Send the alert `what` ("down", "changed" or "recovered") by "email" or "webhook".

    Raises AlertFailed or OSError.
    """
    incident = Incident.objects.select_related("connection__channel").filter(pk=incident_id).first()
    if incident is None:
        return
    if by == "email":
        subject, text = _subject_and_text(incident, what)
        send_mail(subject, text, None, settings.ALERT_EMAILS)
    else:
        _post(incident, what)


def _post(incident: Incident, what: str) -> None:
    subject, text = _subject_and_text(incident, what)
    body = {
        "event": f"{_EVENTS.get(incident.subject, 'fallback')}.{what}",
        "incident": incident.pk,
        "channel": {"id": incident.channel.pk, "name": incident.channel.name},
        "route": incident.subject,
        "reason": incident.reason,
        "first_reason": incident.first_reason,
        "code": incident.code,
        "summary": subject,
        "text": text,
        "drops": incident.drops,
        "opened_at": incident.opened_at.isoformat(),
        "recovered_at": _iso(incident.recovered_at) if what == "recovered" else None,
        "url": _page(incident),
    }
    try:
        answer = http_client.request(
            "POST", settings.ALERT_WEBHOOK_URL, json=body, timeout=WEBHOOK_SECONDS
        )
    except http_client.RequestFailed as error:
        raise AlertFailed(error.reason) from None
    if answer.status >= 300:
        raise AlertFailed(f"HTTP {answer.status}")


def _subject_and_text(incident: Incident, what: str) -> tuple[str, str]:
    subject, lines = _subject_and_first_lines(incident, what)
    if what == "changed":
        subject = _("%(subject)s (the reason has changed)") % {"subject": subject}
    since = timezone.localtime(incident.opened_at).strftime("%Y-%m-%d %H:%M:%S %Z")
    lines.append(_("Since: %(time)s") % {"time": since})
    if what != "recovered" and (first := first_reason(incident)):
        lines.append(_("First reason: %(reason)s") % {"reason": first})
    if incident.subject in _SUBJECTS and (others := incident.channel.is_fallback_of):
        lines.append(_("It is the fallback of: %(names)s") % {"names": others})
    return subject, "\n\n".join([*lines, _page(incident)])


def _subject_and_first_lines(incident: Incident, what: str) -> tuple[str, list[str]]:
    names = {"name": incident.channel.name, "route": incident.get_subject_display()}
    is_over = what == "recovered"
    # For a closed incident the first reason is more useful than the last one.
    reason = (is_over and first_reason(incident)) or _reason(incident)
    if incident.subject in _SUBJECTS:
        return _SUBJECTS[incident.subject][is_over] % names, [reason]
    if is_over:
        subject = _("Alterna: the fallback of “%(name)s” works again") % names
        return subject, [_("%(route)s is ready to send again.") % names]
    subject = _("Alterna: the fallback of “%(name)s” does not work") % names
    first = _(
        "Messages that the official API rejects cannot be sent through %(route)s now. Reason: "
        "%(reason)s"
    ) % {**names, "reason": reason}
    return subject, [first]


def _iso(moment: dt.datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _page(incident: Incident) -> str:
    return f"{settings.PUBLIC_URL}/channels/{incident.channel.pk}/"


def _open(
    connection: Connection, kind: str = Incident.Kind.CONNECTION, code: str = ""
) -> QuerySet[Incident]:
    return Incident.objects.filter(connection=connection, kind=kind, code=code[:64], closed_at=None)
