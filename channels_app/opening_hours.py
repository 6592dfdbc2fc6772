"""The opening hours of a channel, in its own time zone. Pure.

`{"mon": [["08:00", "12:00"], ["13:00", "18:00"]], "sat": [["20:00", "02:00"]]}`: a day that is not
named is closed; a period that ends before it begins ends on the next day; "24:00" is the end of
the day. No hours at all: always open.
"""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from typing import Any

from django.utils.translation import gettext_lazy as _

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_PERIODS = 6
_PERIOD = re.compile(
    r"(\d{1,2})\s*(?:[:hH]\s*(\d{2})?)?\s*(?:-|–|—|às|as|a|to)\s*(\d{1,2})\s*(?:[:hH]\s*(\d{2})?)?"
)
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d|24:00")


def error_in(hours: Any) -> str:
    """Return what is wrong with hours that somebody entered, or ""."""
    if not isinstance(hours, dict) or not set(hours) <= set(DAYS):
        return str(_("Give the periods of each day: mon, tue, wed, thu, fri, sat, sun."))
    for periods in hours.values():
        if not isinstance(periods, list) or len(periods) > MAX_PERIODS:
            return str(_("Give each day a list of at most six periods."))
        for period in periods:
            if not isinstance(period, list) or len(period) != 2 or not all(map(_is_time, period)):
                return str(_("Give each period as its begin and end, such as 08:00 and 18:00."))
            if period[0] == period[1] or period[0] == "24:00":
                return str(_("A period must end after it begins."))
    return ""


def to_text(periods: list[list[str]]) -> str:
    """Return the periods of a day as people write them: "08:00-12:00, 13:00-18:00"."""
    return ", ".join(f"{begin}-{end}" for begin, end in periods)


def from_text(text: str) -> list[list[str]]:
    """Return the periods that somebody wrote: "8-12, 13:30 – 18h". ValueError if they are none."""
    periods = []
    for part in filter(None, map(str.strip, re.split(r"[,;]|\be\b|\band\b", text))):
        match = _PERIOD.fullmatch(part)
        if match is None:
            raise ValueError(f"no period: {part}")
        hours, minutes, until, until_minutes = match.groups()
        begin, end = f"{hours:0>2}:{minutes or '00'}", f"{until:0>2}:{until_minutes or '00'}"
        if error_in({"mon": [[begin, end]]}):
            raise ValueError(f"no period: {part}")
        periods.append([begin, end])
    return periods


def is_time_zone(name: str) -> bool:
    """Return whether there is a time zone with this name, such as America/Sao_Paulo."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def is_open(hours: dict[str, list[list[str]]], at: dt.datetime, time_zone: str) -> bool:
    """Return whether the hours include this time, which is aware."""
    if not hours:
        return True
    local = at.astimezone(zoneinfo.ZoneInfo(time_zone))
    clock = local.strftime("%H:%M")
    today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
    for begin, end in hours.get(today, []):
        if begin <= clock and (clock < end or end < begin):
            return True
    return any(clock < end < begin for begin, end in hours.get(yesterday, []))


def local_day(at: dt.datetime, time_zone: str) -> dt.date:
    """Return the date of this time in the time zone."""
    return at.astimezone(zoneinfo.ZoneInfo(time_zone)).date()


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and _TIME.fullmatch(value) is not None
