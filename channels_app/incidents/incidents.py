"""Incidents of connections: alerts go out once for the drop and once for its end.

A drop is stored and shown in the pages at once. E-mail and webhook wait for `ALERT_AFTER_SECONDS`,
in which many connections come back by themselves. The reason of an incident follows what is true
now. Where it changes after the alert so that a person must do something else, one further alert is
sent an incident, once the new reason has lasted as long.
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

from channels_app import tasks
from channels_app.connections.states import SERVER_ABSENCES
from channels_app.incidents.reason_text import encode_reason, person_action, render_reason
from channels_app.models import Channel, Incident
from channels_app.signals import incident_changed, session_changed
from core import http_client

# A connection that serves for so long is back; one that drops sooner is the same incident.
STABLE_FOR = dt.timedelta(seconds=60)
# Refusals of single messages end by not coming for so long: nothing else tells that the mistake
# was mended.
NO_REJECTION_FOR = dt.timedelta(hours=1)
# A refusal more within this time is not written down: a campaign may have thousands.
WRITTEN_EVERY = dt.timedelta(minutes=1)
WEBHOOK_SECONDS = 10.0

# What is not about the fallback's connection: the words when it begins and when it ends.
_OTHER_WORDS: dict[str, tuple[Any, Any]] = {
    Incident.Route.OFFICIAL: (
        gettext_lazy("Alterna: the official API refuses all messages of “%(name)s”"),
        gettext_lazy("Alterna: the official API takes messages of “%(name)s” again"),
    ),
    Incident.Route.BAILEYS: (
        gettext_lazy("Alterna: the Baileys channel “%(name)s” does not work"),
        gettext_lazy("Alterna: the Baileys channel “%(name)s” works again"),
    ),
    Incident.Route.NEW_CHATS: (
        gettext_lazy("Alterna: WhatsApp stopped first messages by the fallback of “%(name)s”"),
        gettext_lazy("Alterna: the fallback of “%(name)s” may write to new customers again"),
    ),
    Incident.Route.FALLBACKS: (
        gettext_lazy("Alterna: unusually much of “%(name)s” goes out by the fallback"),
        gettext_lazy("Alterna: “%(name)s” sends as usual again"),
    ),
    Incident.Route.REQUESTS: (
        gettext_lazy("Alterna: messages of “%(name)s” are refused"),
        gettext_lazy("Alterna: no message of “%(name)s” was refused like that for an hour"),
    ),
    Incident.Route.RECEIVE_MODE: (
        gettext_lazy("Alterna: messages to “%(name)s” may not be received"),
        gettext_lazy("Alterna: messages to “%(name)s” are received as agreed again"),
    ),
}
_EVENTS: dict[str, str] = {
    Incident.Route.OFFICIAL: "official",
    Incident.Route.NEW_CHATS: "new_chats",
    Incident.Route.FALLBACKS: "fallbacks",
    Incident.Route.REQUESTS: "requests",
    Incident.Route.RECEIVE_MODE: "receive_mode",
}


class AlertFailed(Exception):
    """The alert's receiver did not take it; it may be sent again."""


def open_or_update(
    channel: Channel, *, route: str, reason: str, detail: str, at: dt.datetime, code: str = ""
) -> None:
    """Open an incident, or count one more drop of the one that is open. In a transaction."""
    is_open = _open(channel, route, code)
    if is_open.update(recovered_at=None, drops=F("drops") + 1, last_drop_at=at):
        _set_reason(is_open, reason, detail, at)
    else:
        Incident.objects.create(
            channel=channel, route=route, code=code[:64], opened_at=at, last_drop_at=at,
            reason=reason[:64], detail=detail[:300], first_reason=reason[:64], reason_since=at,
            server_absence=SERVER_ABSENCES.get(reason, ""),
        )  # fmt: skip
    incident_changed.send(sender=Incident, channel=channel)


def observed(channel: Channel, *, route: str, reason: str, detail: str, at: dt.datetime) -> None:
    """Have the open incident of a connection that still does not serve say why it does not now.

    In a transaction. Does nothing where there is none, or where it says so already.
    """
    if _set_reason(_open(channel, route).filter(recovered_at=None), reason, detail, at):
        incident_changed.send(sender=Incident, channel=channel)


def _set_reason(of: QuerySet[Incident], reason: str, detail: str, at: dt.datetime) -> bool:
    if absence := SERVER_ABSENCES.get(reason):
        of.exclude(server_absence=Incident.ServerAbsence.RESTARTED).update(server_absence=absence)
    elif person_action(reason) == "link":
        # Whoever links the phone brings it back; it does not come by itself.
        of.exclude(server_absence="").update(server_absence="")
    of.exclude(reason=reason[:64]).update(reason_since=at)
    words = {"reason": reason[:64], "detail": detail[:300]}
    return bool(of.exclude(**words).update(**words))


def open_incident(channel: Channel, *, route: str) -> Incident | None:
    """Return what is not over yet of this connection: an incident that may have recovered."""
    return _open(channel, route).first()


def record_rejection(channel: Channel, *, code: str, detail: str, at: dt.datetime) -> bool:
    """Open the incident of messages that are refused with this code, or say that it goes on.

    Returns whether it was opened. Any number of workers may say it at once.
    """
    known = _open(channel, Incident.Route.REQUESTS, code)
    latest = known.values_list("last_drop_at", flat=True).first()
    if latest is not None and latest > at - WRITTEN_EVERY:
        return False
    with transaction.atomic():
        # The row's lock lets one alone find that nobody has said it.
        Channel.objects.select_for_update().filter(pk=channel.pk).first()
        open_or_update(
            channel, route=Incident.Route.REQUESTS, code=code, reason=code, detail=detail, at=at
        )
    return latest is None


def mark_recovered(channel: Channel, *, route: str, at: dt.datetime, code: str = "") -> None:
    """Note that the connection serves again; `process_due` closes the incident when that lasts."""
    if _open(channel, route, code).filter(recovered_at=None).update(recovered_at=at):
        incident_changed.send(sender=Incident, channel=channel)


def close_silently(channel: Channel, *, route: str) -> None:
    """Close an open incident without a word: a person has ended the connection, or changed it."""
    if _open(channel, route).update(closed_at=timezone.now()):
        incident_changed.send(sender=Incident, channel=channel)


def reopen(incident: Incident) -> None:
    """Undo `close_silently`: the connection was not ended after all. In a transaction.

    Does nothing where another one was opened meanwhile.
    """
    if _open(incident.channel, incident.route, incident.code).exists():
        return
    if Incident.objects.filter(pk=incident.pk).update(closed_at=None):
        incident_changed.send(sender=Incident, channel=incident.channel)


def current(channel: Channel | None = None) -> QuerySet[Incident]:
    """What does not work now: of one channel, or of all."""
    found = Incident.objects.filter(closed_at=None, recovered_at=None).select_related("channel")
    return found.filter(channel=channel) if channel is not None else found


def alertable() -> QuerySet[Incident]:
    """What people are told of: all that is current, but a channel that is switched off may rest."""
    return current().filter(channel__active=True)


def headline(incident: Incident) -> str:
    """Say in one line what dropped and why, in the active language; not on which channel.

    It is a title that others go on from: no full stop at its end.
    """
    return f"{incident.get_route_display()}: {_reason(incident).removesuffix('.')}"


def first_reason(incident: Incident) -> str:
    """Say what the incident began with, in the active language; "" where that is its reason now."""
    return "" if incident.first_reason == incident.reason else render_reason(incident.first_reason)


def _reason(incident: Incident) -> str:
    """Say the reason in the active language, with the number of the provider's own code."""
    return render_reason(encode_reason(incident.reason, incident.detail))


def process_due() -> None:
    """Close what has been calm, and have staff told of what is due."""
    now = timezone.now()
    patience = dt.timedelta(seconds=settings.ALERT_AFTER_SECONDS)
    with transaction.atomic():
        waiting = Incident.objects.select_for_update(skip_locked=True).filter(closed_at=None)
        for incident in waiting.select_related(None):
            is_over = incident.last_drop_at <= now - NO_REJECTION_FOR
            if incident.route == Incident.Route.REQUESTS and is_over:
                incident.recovered_at = now
                _close(incident, now)
            elif incident.recovered_at is not None:
                if incident.recovered_at <= now - STABLE_FOR:
                    _close(incident, now)
            elif incident.told_at is None and incident.opened_at <= now - patience:
                incident.told_at, incident.alerted_reason = now, incident.reason
                incident.save(update_fields=["told_at", "alerted_reason"])
                _enqueue_alerts(incident, "down")
            elif _needs_another_alert(incident, now - patience):
                incident.updated_alert_at, incident.alerted_reason = now, incident.reason
                incident.save(update_fields=["updated_alert_at", "alerted_reason"])
                _enqueue_alerts(incident, "changed")


def _needs_another_alert(incident: Incident, before: dt.datetime) -> bool:
    """Whether a person has to do something else than the alert said. Once an incident."""
    if incident.told_at is None or incident.updated_alert_at is not None:
        return False
    action = person_action(incident.reason)
    lasting = incident.reason_since is not None and incident.reason_since <= before
    return bool(action) and lasting and action != person_action(incident.alerted_reason)


def _close(incident: Incident, now: dt.datetime) -> None:
    incident.closed_at = now
    if incident.told_at is not None:
        incident.told_end_at = now
        _enqueue_alerts(incident, "recovered")
    incident.save(update_fields=["recovered_at", "closed_at", "told_end_at"])
    incident_changed.send(sender=Incident, channel=incident.channel)
    session_changed.send(sender=Incident, channel=incident.channel)


def _enqueue_alerts(incident: Incident, what: str) -> None:
    """Each receiver has a job of its own: the failure of one must not repeat the other's."""
    if not incident.channel.active:
        return
    if settings.ALERT_EMAILS:
        tasks.enqueue_alert(incident.pk, what=what, by="email")
    if settings.ALERT_WEBHOOK_URL:
        tasks.enqueue_alert(incident.pk, what=what, by="webhook")


def send_alert(incident_id: int, *, what: str, by: str) -> None:
    """Send the alert `what` ("down", "changed" or "recovered") by "email" or "webhook".

    Raises AlertFailed or OSError.
    """
    incident = Incident.objects.select_related("channel").filter(pk=incident_id).first()
    if incident is None:
        return
    if by == "email":
        subject, text = _words(incident, what)
        send_mail(subject, text, None, settings.ALERT_EMAILS)
    else:
        _post(incident, what)


def _post(incident: Incident, what: str) -> None:
    subject, text = _words(incident, what)
    body = {
        "event": f"{_EVENTS.get(incident.route, 'fallback')}.{what}",
        "incident": incident.pk,
        "channel": {"id": incident.channel_id, "name": incident.channel.name},
        "route": incident.route,
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


def _words(incident: Incident, what: str) -> tuple[str, str]:
    subject, lines = _subject_and_first_lines(incident, what)
    if what == "changed":
        subject = _("%(subject)s (the reason has changed)") % {"subject": subject}
    since = timezone.localtime(incident.opened_at).strftime("%Y-%m-%d %H:%M:%S %Z")
    lines.append(_("Since: %(time)s") % {"time": since})
    if what != "recovered" and (began := first_reason(incident)):
        lines.append(_("It began with: %(reason)s") % {"reason": began})
    if incident.route in _OTHER_WORDS and (others := incident.channel.is_fallback_of):
        lines.append(_("It is the fallback of: %(names)s") % {"names": others})
    return subject, "\n\n".join([*lines, _page(incident)])


def _subject_and_first_lines(incident: Incident, what: str) -> tuple[str, list[str]]:
    names = {"name": incident.channel.name, "route": incident.get_route_display()}
    is_over = what == "recovered"
    # Of an incident that is over, what it began with says more than its last moments.
    reason = (is_over and first_reason(incident)) or _reason(incident)
    if incident.route in _OTHER_WORDS:
        return _OTHER_WORDS[incident.route][is_over] % names, [reason]
    if is_over:
        subject = _("Alterna: the fallback of “%(name)s” works again") % names
        return subject, [_("%(route)s is ready to send again.") % names]
    subject = _("Alterna: the fallback of “%(name)s” does not work") % names
    first = _(
        "What the official API refuses cannot go out through %(route)s now. Reason: %(reason)s"
    ) % {**names, "reason": reason}
    return subject, [first]


def _iso(moment: dt.datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _page(incident: Incident) -> str:
    return f"{settings.PUBLIC_URL}/channels/{incident.channel_id}/"


def _open(channel: Channel, route: str, code: str = "") -> QuerySet[Incident]:
    return Incident.objects.filter(channel=channel, route=route, code=code[:64], closed_at=None)
