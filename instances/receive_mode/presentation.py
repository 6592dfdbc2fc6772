"""The receive-mode card for pages and their live frames."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from channels_app.incidents.reason_text import field_for_code
from instances.api.receive_mode import sessions
from instances.listener import registry
from instances.live import GROUP
from instances.models import Difference, Mode, WhatsAppSession
from instances.receive_mode import backfill
from messaging.live import frames as live_frames

Phase = WhatsAppSession.Phase

SHOWN_CHANGES = 30


@dataclass(frozen=True, slots=True)
class ModeRow:
    """One of the two modes on the card. A click on the active one switches to the other."""

    name: str
    label: str
    explanation: str
    question: str
    active: bool
    click_leads_to: str


def rows(session: WhatsAppSession) -> list[ModeRow]:
    """Return both modes of a session in the current language."""
    texts = {
        Mode.WEBHOOK: (
            _("Receives messages by HTTP POST"),
            _("Deactivate the webhook? WebSocket will be activated."),
            Mode.WEBSOCKET,
        ),
        Mode.WEBSOCKET: (
            _("Receives messages in real time by WS"),
            _("Deactivate WebSocket? The webhook will be activated."),
            Mode.WEBHOOK,
        ),
    }
    return [
        ModeRow(
            name=mode.value,
            label=mode.label,
            explanation=explanation,
            question=question,
            active=session.mode == mode,
            click_leads_to=(other if session.mode == mode else mode).value,
        )
        for mode, (explanation, question, other) in texts.items()
    ]


def card(session: WhatsAppSession, *, may_change: bool) -> SafeString:
    """Return the card's HTML. Later calls return newer versions."""
    error = session.found_error.partition("|")[0]
    # During a switch, the settings cannot be compared.
    drifted = session.in_sync is False and session.switching_phase in ("", Phase.JOINING)
    is_missing = drifted and Difference.INSTANCE in session.differences
    context = {
        "session": session,
        "modes": rows(session),
        "may_change": may_change,
        "listening": session.listener_connected and registry.is_fresh(session.listener_seen_at),
        "on_off": ",".join((_("on"), _("off"), _("unknown"))),
        "other_mode": Difference.MODE in session.differences,
        "drifted": drifted,
        "is_missing": is_missing,
        "differs": [d.label for d in session.differences if d != Difference.MODE],
        "recovered": backfill.recovered_lately(session),
        "problem": "" if is_missing and error == "instance_missing" else _error_heading(error),
        "version": live_frames.now_ms(),
    }
    return render_to_string("instances/_card.html", context)


def _error_heading(code: str) -> str:
    """Return the heading for an Evolution error, or "" if there is none."""
    if not code:
        return ""
    match field_for_code(code, evolution=True):
        case "evolution_api_key":
            return _("Evolution does not accept the key:")
        case "evolution_url" if code != "wrong_address":
            return _("Evolution does not respond:")
    return _("Evolution does not report its receive mode:")


class InstancesView(live_frames.View):
    """The cards of all sessions."""

    permissions = ("instances.view_whatsappsession",)
    group = GROUP

    def catch_up(self, since: dt.datetime, sent: live_frames.SentFrames) -> list[live_frames.Frame]:
        return self.frames({"sessions": sessions().values_list("pk", flat=True)})

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[live_frames.Frame]:
        may_change = self.user.has_perm("instances.change_whatsappsession")
        matching = sessions().filter(pk__in=list(changed.get("sessions", ())))
        return [_frame(session, may_change) for session in matching]


class InstanceView(InstancesView):
    """The card and the change history of the session that the parameter names."""

    def exists(self) -> bool:
        return sessions().filter(channel__evolution__instance_name=self.value).exists()

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[live_frames.Frame]:
        mine = sessions().filter(channel__evolution__instance_name=self.value)
        mine = mine.filter(pk__in=list(changed.get("sessions", ())))
        cards = super().frames({"sessions": mine.values_list("pk", flat=True)})
        return [*cards, *map(history, mine)]


def history(session: WhatsAppSession) -> live_frames.Frame:
    """Return the change history, newest first. Its version is the time of the last change."""
    changes = session.mode_changes.select_related("user", "cancelled_by")[:SHOWN_CHANGES]
    times = [change.finished_at or change.started_at for change in changes]
    version = round(max(times).timestamp() * 1000) if times else 0
    context = {"session": session, "changes": changes, "version": version}
    return {
        "kind": "history",
        "key": f"history:{session.pk}",
        "version": version,
        "sort": "",
        "html": render_to_string("instances/_history.html", context),
    }


def _frame(session: WhatsAppSession, may_change: bool) -> live_frames.Frame:
    return {
        "kind": "session",
        "key": f"session:{session.pk}",
        "version": live_frames.now_ms(),
        "sort": session.name,
        "html": card(session, may_change=may_change),
    }
