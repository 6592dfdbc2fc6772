"""Renders the wwebjs session on a channel's card, without query or network access."""

from __future__ import annotations

from typing import Any

from django import template

from channels_app.connections import number_confirmation, readiness
from channels_app.connections.linked_numbers import UNCONFIRMED, UNKNOWN, is_same_number
from channels_app.connections.monitor import stored_state
from channels_app.connections.readiness import RankedFallback
from channels_app.connections.session_engines import SessionState
from channels_app.connections.wwebjs_commands import START_FAILED
from channels_app.models import Channel, Provider
from channels_app.providers.sessions import State
from channels_app.providers.wwebjs.states import recovers_by_restart

register = template.Library()


@register.inclusion_tag("channels_app/_session.html")
def wwebjs_session(channel: Channel, may_change: bool) -> dict[str, Any]:
    """Render state, problem and buttons, or nothing if the channel has no such session."""
    session = stored_state(channel.wwebjs)
    unchecked = not session.code or session.code in ("unchecked", "not_configured")
    numbers = [one.number for one in readiness.ranked_fallbacks(channel) if not one.channel]
    return {
        "channel": channel,
        "number": next(iter(numbers), 0),
        "configured": channel.has_wwebjs,
        "session": session,
        "unchecked": unchecked,
        "label": session.label,
        "field_label": session.field_label,
        "tone": _tone(session),
        "linked": session.code == UNCONFIRMED
        or (session.state in (State.CONNECTED, State.READY) and session.code != UNKNOWN),
        "also_linked_at": number_confirmation.also_linked_at(channel.wwebjs),
        "same_number": is_same_number(session.own_number, channel.phone_number),
        "may_change": may_change,
        "buttons": _buttons(session, unchecked=unchecked)
        if may_change and channel.has_wwebjs
        else (),
    }


@register.inclusion_tag("channels_app/_session_line.html")
def wwebjs_session_line(channel: Channel) -> dict[str, Any]:
    """Render the session's state, since when, and its last drop, on one line."""
    session = stored_state(channel.wwebjs)
    return {"provider": Provider.WWEBJS, "session": session, "tone": _tone(session)}


@register.filter
def wwebjs_state(channel: Channel) -> str:
    """Return the stored state of the channel's session, for the card's `data-wwebjs-state`."""
    if not channel.uses_wwebjs:
        return State.NOT_CONFIGURED
    state = channel.wwebjs.state
    return State.DISCONNECTED if state in ("", State.NOT_CONFIGURED) else state


@register.simple_tag
def ranked_fallbacks(channel: Channel) -> list[RankedFallback]:
    """Return the channel's fallbacks in their order, each with its problem."""
    return readiness.ranked_fallbacks(channel)


def _tone(session: SessionState) -> str:
    if session.state == State.READY:
        return "ok"
    return "failing" if session.state == State.ERROR else "waiting"


def _buttons(session: SessionState, *, unchecked: bool) -> tuple[str, ...]:
    """Return the actions that a person can take now, the most likely first."""
    if session.code == "unlinking":
        return ("connect",)
    if session.code == "never_ready":
        return ("start_again", "disconnect")
    match session.state:
        case State.STARTING | State.QR:
            return ("qr", "disconnect")
        case State.PAIRING | State.CONNECTED | State.READY:
            return ("disconnect",)
    if session.code == UNCONFIRMED:
        return ("confirm_number", "disconnect")
    if unchecked:
        return ("check",)
    if session.state == State.DISCONNECTED:
        return ("connect",)
    if session.code == "qr_expired":
        return ("qr", "disconnect")
    if recovers_by_restart(session.code):
        return ("connect", "disconnect")
    # A wrong address or key must be corrected first.
    return ("connect",) if session.code in START_FAILED else ("check",)
