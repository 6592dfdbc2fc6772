"""What PostgreSQL can keep in a text or a JSON column. Pure."""

from __future__ import annotations

import math
from typing import Any

DEEPEST = 200


def storable(value: Any, depth: int = 0) -> Any:
    """Return JSON data without what PostgreSQL cannot keep in it.

    That is NUL characters, halves of surrogate pairs, and numbers that are none. What is nested
    deeper than DEEPEST becomes None: no provider's event is.
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


def is_storable(value: Any) -> bool:
    """Return whether JSON data can be kept as it is."""
    return bool(storable(value) == value)
