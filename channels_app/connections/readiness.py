"""Whether the fallback of a channel would work now, checked before it is needed. No network."""

from __future__ import annotations

from collections.abc import Callable

from django.utils.translation import gettext as _

from channels_app.connections.wwebjs_session import stored_state
from channels_app.incidents.reason_text import describe, render_reason
from channels_app.models import Channel, Connection
from channels_app.providers.sessions import State

# Checks registered by higher layers: why a Baileys channel cannot send now, or "". They are called
# with the channels of `extensions.channels`; see instances.apps.
CONNECTION: list[Callable[[Channel], str]] = []


def fallback_trouble(channel: Channel) -> str:
    """Return why the fallback of `channel` would not work now; "" if it would or there is none.

    A fallback that was not checked yet is no problem. Reads `fallback_channel`.
    """
    if not channel.active:
        return ""
    if channel.fallback == Channel.Fallback.WWEBJS:
        return _session_problem(channel)
    other = channel.fallback_channel
    if channel.fallback == Channel.Fallback.BAILEYS and other is not None:
        return baileys_trouble(other)
    return ""


def _session_problem(channel: Channel) -> str:
    session = stored_state(channel)
    if session.state == State.READY:
        connection = channel.wwebjs
        is_tripped = connection.breaker_opened_at is not None
        return _breaker_problem(connection.breaker_code) if is_tripped else ""
    return "" if session.code in ("", "unchecked") else session.detail


def baileys_trouble(other: Channel) -> str:
    """Return why a Baileys channel could not send now, or "".

    Its health alone is not sufficient: it stays good while the connection is only reconnecting.
    """
    if not other.active:
        return _("The channel “%(name)s” is not active.") % {"name": other.name}
    connection = other.primary
    if connection.breaker_opened_at is not None:
        return _breaker_problem(connection.breaker_code)
    for check in CONNECTION:
        if problem := check(other):
            return problem
    if connection.health == Connection.Health.FAILING:
        return render_reason(connection.health_detail) or str(connection.get_health_display())
    return ""


def inactive_trouble(channel: Channel) -> str:
    """Name the channels whose fallback does not work because this one is inactive, or ""."""
    names = "" if channel.active else channel.is_fallback_of
    if not names:
        return ""
    return _("It is the fallback of %(names)s, which can no longer use it.") % {"names": names}


def _breaker_problem(code: str) -> str:
    return _("Paused after a rejection: %(reason)s") % {"reason": describe(code)}
