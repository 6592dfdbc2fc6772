"""Reads the IDs of messages. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from core.text import safe_id


def short_id(value: object) -> str | None:
    """Return the short ID of a message from its ID in any build's format, else None."""
    if isinstance(value, Mapping):
        own = safe_id(value.get("id"))
        if own is not None:
            return own
        value = value.get("_serialized") or value.get("$1")
    serialized = safe_id(value)
    if serialized is None:
        return None
    # true_<chat>_<short ID>, and in groups one more part for the participant
    parts = serialized.split("_")
    return safe_id(parts[2]) if len(parts) >= 3 else serialized
