"""Sizes for people: with units, and beside the limit that they break. Pure.

What is stored with an error is English and in bytes (`detail`); `in_units` writes it for a reader.
"""

from __future__ import annotations

import re

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

_DETAIL = re.compile(r"(?:(\d{1,15}) bytes)?(?:; )?(?:at most (\d{1,15}) bytes)?")


def detail(size: int | None, most: int | None) -> str:
    """Return the detail of an error about a size, as it is stored. `None`: not known."""
    parts = [f"{size} bytes"] if size is not None else []
    parts += [f"at most {most} bytes"] if most is not None else []
    return "; ".join(parts)


def in_units(stored: str) -> str | None:
    """Return what `detail` made in the active language, with units; None for any other text."""
    found = _DETAIL.fullmatch(stored)
    if found is None or not stored:
        return None
    size, most = (filesizeformat(int(number)) if number else "" for number in found.groups())
    if not most:
        return size
    words = _("%(size)s; the limit is %(most)s") if size else _("the limit is %(most)s")
    return words % {"size": size, "most": most}


def too_large(size: int | None, most: int) -> str:
    """Say in the active language that a request is larger than what is taken."""
    if size is None or size <= most:
        return _("The request is too large: the limit is %(most)s.") % {
            "most": filesizeformat(most)
        }
    return _("The request has %(size)s; the limit is %(most)s.") % {
        "size": filesizeformat(size),
        "most": filesizeformat(most),
    }
