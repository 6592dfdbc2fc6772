"""Whether the fallbacks of a channel would work now, checked before it is needed. No network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.utils.translation import gettext as _

from channels_app.connections.monitor import stored_state
from channels_app.incidents.reason_text import describe, render_reason
from channels_app.models import Channel, Connection, FallbackChoice
from channels_app.providers import engines
from channels_app.providers.base import Text
from channels_app.providers.sessions import State

# Checks registered by higher layers: why a Baileys channel cannot send now, or "". They are called
# with the channels of `extensions.channels`; see instances.apps.
CONNECTION: list[Callable[[Channel], str]] = []


@dataclass(frozen=True, slots=True)
class RankedFallback:
    """A fallback of a channel. `number` is its rank from 1, or 0 if it is the only one.

    `channel` is the channel that sends, unless it is attached. `problem` is why it would not work
    now, or "".
    """

    number: int
    kind: str
    channel: Channel | None
    problem: str

    @property
    def label(self) -> Text:
        """The name of its route."""
        return engines.label(self.kind)


def ranked_fallbacks(channel: Channel) -> list[RankedFallback]:
    """Return the fallbacks of `channel` in their order, each with its problem.

    A fallback that was not checked yet is no problem; neither is any of an inactive channel.
    """
    fallbacks = channel.fallbacks
    return [
        RankedFallback(
            rank if len(fallbacks) > 1 else 0, one.kind, one.channel, _problem_of(channel, one)
        )
        for rank, one in enumerate(fallbacks, start=1)
    ]


def _problem_of(channel: Channel, fallback: FallbackChoice) -> str:
    if not channel.active:
        return ""
    other = fallback.channel
    if other is not None:
        return channel_problem(other)
    return _session_problem(channel.connection(fallback.kind))


def _session_problem(connection: Connection) -> str:
    session = stored_state(connection)
    if session.state == State.READY:
        is_tripped = connection.breaker_opened_at is not None
        return _breaker_problem(connection.breaker_code) if is_tripped else ""
    return "" if session.code in ("", "unchecked") else session.detail


def channel_problem(other: Channel) -> str:
    """Return why a channel that is a fallback could not send now, or "".

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


def inactive_problem(channel: Channel) -> str:
    """Name the channels whose fallback does not work because this one is inactive, or ""."""
    names = "" if channel.active else channel.is_fallback_of
    if not names:
        return ""
    return _("It is the fallback of %(names)s, which can no longer use it.") % {"names": names}


def _breaker_problem(code: str) -> str:
    return _("Paused after a rejection: %(reason)s") % {"reason": describe(code)}
