"""Renders the wwebjs session on a channel's card, without network access."""

from __future__ import annotations

from typing import Any

from django import template

from channels_app import session_cards
from channels_app.connections import readiness, wwebjs
from channels_app.connections.linked_numbers import UNCONFIRMED, UNKNOWN, is_same_number
from channels_app.connections.readiness import RankedFallback
from channels_app.models import Channel
from channels_app.providers.sessions import State

register = template.Library()


@register.inclusion_tag("channels_app/_session.html")
def wwebjs_session(channel: Channel, may_change: bool) -> dict[str, Any]:
    """Render state, problem and buttons, or nothing if the channel has no such session."""
    shown = session_cards.context(
        channel.wwebjs, may_change=may_change, with_buttons=channel.has_wwebjs
    )
    session = shown["session"]
    numbers = [one.number for one in readiness.ranked_fallbacks(channel) if not one.channel]
    return {
        **shown,
        "number": next(iter(numbers), 0),
        "configured": channel.has_wwebjs,
        "unchecked": session.code in wwebjs.UNCHECKED,
        "linked": session.code == UNCONFIRMED
        or (session.state in (State.CONNECTED, State.READY) and session.code != UNKNOWN),
        "same_number": is_same_number(session.own_number, channel.phone_number),
    }


@register.inclusion_tag("channels_app/_session_line.html")
def wwebjs_session_line(channel: Channel) -> dict[str, Any]:
    """Render the session's state, since when, and its last drop, on one line."""
    return session_cards.line(channel.wwebjs)


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
