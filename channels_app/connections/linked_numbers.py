"""Decides whether the number of the linked phone is confirmed. Pure.

The rules, for an Evolution instance and a wwebjs session alike:

- The channel's own phone number needs no confirmation: a person, or Meta, entered it.
- A person must confirm any other number, once. A fallback may use a different number on purpose,
  so it is not an error, but nothing may be sent from it before the confirmation.
- A channel without a number accepts the first linked phone as the expected one.
- The first correct phone counts as confirmed: a later edit of the channel's number does not
  invalidate it.
- A later change to any other number is unconfirmed again.
- After a link ended, the number of the next phone is unknown until the server reports it.

While the linked number is unconfirmed, or unknown although one is expected, nothing is sent from
it. Received messages are still stored.
"""

from __future__ import annotations

import re

from channels_app.providers.sessions import State
from core.phone_numbers import other_brazilian_form

# The reason of a session's state, and of a send that was prevented.
UNCONFIRMED = "number_unconfirmed"
# The reason while the server does not report which phone is linked.
UNKNOWN = "number_unknown"
# The reason of the corresponding incident.
ANOTHER_PHONE = "another_phone"
# Reasons which mean that no phone is linked any more.
_UNLINKED = frozenset(
    {"unlinked", "unlinked_on_phone", "not_linked", "qr_limit", "instance_deleted", "instance_gone",
     "no_instance"}
)  # fmt: skip


def unconfirmed(linked: str, *, confirmed: str, expected: str) -> str:
    """Return the linked number if a person must confirm it first, else "".

    `confirmed` is the last confirmed number, `expected` the channel's phone number in any
    spelling; both may be empty.
    """
    if not linked or is_first(confirmed=confirmed, expected=expected):
        return ""
    return "" if is_same(linked, confirmed) or is_same(linked, expected) else linked


def is_first(*, confirmed: str, expected: str) -> bool:
    """Whether no number is expected, so that the next linked phone sets it."""
    return not (_digits(confirmed) or _digits(expected))


def is_same(linked: str, written: str) -> bool:
    """Whether a linked number (digits) equals a written one, in any usual spelling."""
    return bool(linked) and canonical(linked) in _readings(written)


def is_same_number(one: str, other: str) -> bool | None:
    """Whether two international numbers are the same WhatsApp account; None if one is unknown."""
    one, other = _digits(one), _digits(other)
    return one in (other, other_brazilian_form(other)) if one and other else None


def canonical(digits: str) -> str:
    """Return the canonical form for comparisons: Brazilian mobile numbers with the ninth digit."""
    other = other_brazilian_form(digits)
    return other if other is not None and len(other) > len(digits) else digits


def is_unlinked(state: str, code: str) -> bool:
    """Whether this state means that no phone is linked."""
    return state in (State.QR, State.PAIRING) or code in _UNLINKED


def _readings(written: str) -> set[str]:
    digits = _digits(written)
    readings = {digits}
    national = digits.lstrip("0")
    if not written.strip().startswith("+") and len(national) in (10, 11):
        readings.add(f"55{national}")
    return {canonical(reading) for reading in readings if reading}


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)
