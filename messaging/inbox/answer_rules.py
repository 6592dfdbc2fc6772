"""Whether a channel answers a customer by itself, and with what. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from channels_app import opening_hours
from messaging.delivery.verdict import WINDOW

GREETING: Final = "greeting"
AWAY: Final = "away"
# A customer who has just been written to is in a conversation with a person: no greeting, and for a
# shorter time no answer that nobody is there.
NO_GREETING_AFTER: Final = dt.timedelta(hours=12)
NO_AWAY_AFTER: Final = dt.timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Texts:
    """What a channel answers, its hours, and their time zone."""

    greeting: str
    away: str
    hours: Mapping[str, Any]
    time_zone: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A customer who wrote. `answered`: the kinds of automatic answers of the channel's day.

    `answered_at`: the time of the latest automatic answer of any day. `is_elsewhere`: another app
    or agent has the conversation at Meta; a message takes it over.
    """

    last_inbound_at: dt.datetime
    last_outgoing_at: dt.datetime | None
    is_group: bool
    is_elsewhere: bool
    answered: Collection[str]
    answered_at: dt.datetime | None = None


def answer(texts: Texts, waiting: Waiting, *, now: dt.datetime) -> str | None:
    """Return the kind of the answer to send now, or None.

    Out of hours that is the out-of-hours answer, otherwise the greeting; each once a day, at most
    one to a message, within the 24-hour window, never to a group, and not while a person or another
    app answers.
    """
    if waiting.is_group or waiting.is_elsewhere:
        return None
    if now - waiting.last_inbound_at >= WINDOW:
        return None
    if waiting.answered_at is not None and waiting.last_inbound_at <= waiting.answered_at:
        return None
    is_open = opening_hours.is_open(dict(texts.hours), now, texts.time_zone)
    kind, text, pause = (
        (GREETING, texts.greeting, NO_GREETING_AFTER)
        if is_open
        else (AWAY, texts.away, NO_AWAY_AFTER)
    )
    if not text.strip() or kind in waiting.answered:
        return None
    if waiting.last_outgoing_at is not None and now - waiting.last_outgoing_at < pause:
        return None
    return kind
