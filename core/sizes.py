"""File sizes for display, with units and the limit they exceed. Pure.

Errors store an English detail in bytes (`detail`); `in_units` formats it for the reader.
"""

from __future__ import annotations

import re

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

_DETAIL = re.compile(r"(?:(\d{1,15}) bytes)?(?:; )?(?:at most (\d{1,15}) bytes)?")


def detail(size: int | None, most: int | None) -> str:
    """Return the stored detail of an error about a size. `None` means unknown."""
    parts = [f"{size} bytes"] if size is not None else []
    parts += [f"at most {most} bytes"] if most is not None else []
    return "; ".join(parts)


def in_units(stored: str) -> str | None:
    """Format a stored `detail` in the active language, with units; None for any other text."""
    match = _DETAIL.fullmatch(stored)
    if match is None or not stored:
        return None
    size, most = (filesizeformat(int(number)) if number else "" for number in match.groups())
    if not most:
        return size
    template = _("%(size)s; the limit is %(most)s") if size else _("the limit is %(most)s")
    return template % {"size": size, "most": most}


def too_large(size: int | None, most: int) -> str:
    """Return the message, in the active language, for a request that exceeds the limit."""
    if size is None or size <= most:
        return _("The request is too large: the limit is %(most)s.") % {
            "most": filesizeformat(most)
        }
    return _("The request has %(size)s; the limit is %(most)s.") % {
        "size": filesizeformat(size),
        "most": filesizeformat(most),
    }
