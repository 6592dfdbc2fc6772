"""Reads the times that providers report. Pure."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

# WhatsApp did not exist before. A counter or a duration must not put a message to where nobody
# looks.
_EARLIEST = dt.datetime(2009, 1, 1, tzinfo=dt.UTC)


def from_seconds(value: Any, *, per_second: int = 1) -> dt.datetime | None:
    """Return the time of a number of seconds since 1970, of its text, or of its two halves.

    None if it is no time: missing, zero, a text in another form, or milliseconds. A provider's
    message without a time has that of its arrival. `per_second` is 1000 for milliseconds.
    """
    seconds = whole_seconds(value)
    if seconds is None:
        return None
    try:
        time = dt.datetime.fromtimestamp(seconds / per_second, tz=dt.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    # A year that cannot be converted to local time would break every page that shows it.
    return time if time >= _EARLIEST and time.year < 9999 else None


def whole_seconds(value: Any) -> int | None:
    """Parse a number, a numeric string, or a 64-bit number in two halves.

    Evolution sends all three (docs/providers/evolution.md §3).
    """
    if isinstance(value, Mapping):
        low, high = value.get("low"), value.get("high")
        value = (high << 32) + (low & 0xFFFFFFFF) if type(low) is type(high) is int else None
    elif isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        value = int(value)
    return int(value) if type(value) in (int, float) and 0 < value < 10**15 else None
