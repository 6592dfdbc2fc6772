"""The text of a QR code that links a phone. Pure."""

from __future__ import annotations

# More does not fit into any QR code.
MAX_LENGTH = 2000
# Served until WhatsApp has given the first reference (contracts/wwebjs-api.md §7.2): JavaScript's
# word for a missing value stands in its place.
_UNFINISHED = ("null", "undefined")


def read_code(value: object) -> str:
    """Return the text of a code that can be scanned, "" for anything else."""
    if not isinstance(value, str) or len(value) > MAX_LENGTH:
        return ""
    return "" if value.lstrip().lower().startswith(_UNFINISHED) else value
