"""Sanitize text and JSON for PostgreSQL columns; read the numbers of an address. Pure."""

from __future__ import annotations

import datetime as dt
import math
import unicodedata
from typing import Any

DEEPEST = 200


def storable(value: Any, depth: int = 0) -> Any:
    """Return JSON data without values that PostgreSQL cannot store.

    These are NUL characters, unpaired surrogates and non-finite numbers. Values nested deeper than
    DEEPEST become None; no provider's event is nested that deep.
    """
    if isinstance(value, str):
        return value.replace("\x00", "").encode(errors="replace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if depth > DEEPEST:
        return None
    if isinstance(value, list):
        return [storable(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {storable(key): storable(item, depth + 1) for key, item in value.items()}
    return value


# Letters and signs that show nothing: fillers of Hangul, an empty Braille pattern, and characters
# that only change the one before them.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing: spaces, line ends and characters without width."""
    return all(
        unicodedata.category(sign) in ("Cc", "Cf", "Zs", "Zl", "Zp")
        or sign in _FILLERS
        or "\ufe00" <= sign <= "\ufe0f"
        for sign in text
    )


def is_storable(value: Any) -> bool:
    """Return whether JSON data can be stored unchanged."""
    return bool(storable(value) == value)


def safe_id(value: object) -> str | None:
    """Return a provider's id if it can be stored, else None."""
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        return None
    return value if value.isprintable() and " " not in value else None


def row_id(text: str) -> int:
    """Return the id of a row that a form or an address names; one that no row has if it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


def page_number(text: str) -> int:
    """Return the number of a page that an address names; the first if it is none."""
    return max(int(text), 1) if text.isascii() and text.isdecimal() and len(text) < 6 else 1


def moment(text: str) -> dt.datetime | None:
    """Return the time, with its zone, that an address names in ISO 8601; None if it is none."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
