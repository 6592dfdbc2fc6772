"""The text of a QR code that links a phone. Pure."""

from __future__ import annotations

# No QR code can hold more.
MAX_LENGTH = 2000
# Served until WhatsApp has provided the first reference (docs/providers/wwebjs.md §7.2): the code
# then starts with JavaScript's word for a missing value.
_UNFINISHED = ("null", "undefined")


def read_code(value: object) -> str:
    """Return the text of a code that can be scanned, or "" for anything else."""
    if not isinstance(value, str) or len(value) > MAX_LENGTH:
        return ""
    return "" if value.lstrip().lower().startswith(_UNFINISHED) else value
