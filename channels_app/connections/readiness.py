"""Whether the fallback of a channel would work now, known before it is needed. No network."""

from __future__ import annotations

from collections.abc import Callable

from django.utils.translation import gettext as _

from channels_app.connections.states import State
from channels_app.connections.wwebjs_session import stored_state
from channels_app.incidents.reason_text import describe, render_reason
from channels_app.models import Channel

# What floors above know of a Baileys channel's connection: why it cannot send now, "" where it can.
# Asked with the channels of `card_parts.channels`; see instances.apps.
CONNECTION: list[Callable[[Channel], str]] = []


def fallback_trouble(channel: Channel) -> str:
    """Say why the fallback of `channel` would not work now; "" where it would, or there is none.

    What has not been looked at yet is no trouble. Reads `fallback_channel`.
    """
    if not channel.active:
        return ""
    if channel.fallback == Channel.Fallback.WWEBJS:
        return _of_session(channel)
    other = channel.fallback_channel
    if channel.fallback == Channel.Fallback.BAILEYS and other is not None:
        return baileys_trouble(other)
    return ""


def _of_session(channel: Channel) -> str:
    session = stored_state(channel)
    if session.state == State.READY:
        return _left_alone(channel.wwebjs_breaker_code) if channel.wwebjs_breaker_opened_at else ""
    return "" if session.code in ("", "unchecked") else session.detail


def baileys_trouble(other: Channel) -> str:
    """Say why nothing would go out through a Baileys channel now; "" where it would.

    Its health alone does not tell: that stays good while the connection is only being made anew.
    """
    if not other.active:
        return _("The channel “%(name)s” is not active.") % {"name": other.name}
    if other.breaker_opened_at:
        return _left_alone(other.breaker_code)
    for trouble in CONNECTION:
        if told := trouble(other):
            return told
    if other.health == Channel.Health.FAILING:
        return render_reason(other.health_detail) or str(other.get_health_display())
    return ""


def inactive_trouble(channel: Channel) -> str:
    """Say whose fallback does not work because this channel is not active; "" where none's."""
    names = "" if channel.active else channel.is_fallback_of
    if not names:
        return ""
    return _("It is the fallback of %(names)s: that fallback does not work any more.") % {
        "names": names
    }


def _left_alone(code: str) -> str:
    return _("Left alone for now after a refusal: %(reason)s") % {"reason": describe(code)}
