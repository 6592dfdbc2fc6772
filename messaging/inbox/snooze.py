"""Until when a conversation can be snoozed with one click. Pure."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MORNING: Final = dt.time(9)
# "Later today" is this long from now, at a full hour; it is not offered if that is too late.
LATER: Final = dt.timedelta(hours=3)
EVENING: Final = dt.time(21)


class Until(StrEnum):
    LATER = "later"
    TOMORROW = "tomorrow"
    MONDAY = "monday"


@dataclass(frozen=True, slots=True)
class Choice:
    name: Until
    until: dt.datetime


def choices(now: dt.datetime) -> list[Choice]:
    """Return what is offered at `now`, whose time zone counts; all in the future, earliest first.

    On a Sunday, Monday is tomorrow and is offered once.
    """
    offered = []
    later = _full_hour(now + LATER)
    if later.date() == now.date() and later.time() <= EVENING:
        offered.append(Choice(Until.LATER, later))
    tomorrow = _morning(now, days=1)
    offered.append(Choice(Until.TOMORROW, tomorrow))
    monday = _morning(now, days=7 - now.weekday())
    if monday != tomorrow:
        offered.append(Choice(Until.MONDAY, monday))
    return offered


def time_of(name: str, now: dt.datetime) -> dt.datetime | None:
    """Return the time of a choice as of `now`, or None if it is not offered any more."""
    return next((choice.until for choice in choices(now) if choice.name == name), None)


def _full_hour(moment: dt.datetime) -> dt.datetime:
    """Return the first full hour that is not before the moment."""
    full = moment.replace(minute=0, second=0, microsecond=0)
    return full if full == moment else full + dt.timedelta(hours=1)


def _morning(now: dt.datetime, *, days: int) -> dt.datetime:
    day = now.date() + dt.timedelta(days=days)
    return dt.datetime.combine(day, MORNING, tzinfo=now.tzinfo)
