"""The recipient of a message that goes to a phone number."""

from __future__ import annotations

import re

from channels_app.providers import addresses
from channels_app.providers.base import Rejected
from channels_app.providers.error_codes import failure


def digits_of(to: str) -> str:
    """Return the digits of a phone number.

    Raises Rejected: "no_address" for an address of another kind, whose digits would be somebody
    else's number, and "invalid_recipient" for a text without digits.
    """
    digits = re.sub(r"\D", "", to)
    if addresses.is_user_id(to) or (digits and not re.fullmatch(r"[\d\s()+.-]+", to)):
        raise failure(Rejected, "no_address")
    if not digits:
        raise failure(Rejected, "invalid_recipient")
    return digits
