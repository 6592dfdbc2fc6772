"""Phone number normalization, including the Brazilian ninth digit. Pure."""

from __future__ import annotations

import re

import phonenumbers

DEFAULT_REGION = "BR"


def normalize(raw: str) -> str:
    """Return the number as E.164 with the plus sign.

    A number without a plus is parsed as a Brazilian number first, then as an international one. A
    Brazilian mobile number may lack the ninth digit, as WhatsApp writes it. Raises ValueError if
    the number is not valid in any country.
    """
    raw = raw.strip()
    digits = "".join(filter(str.isdigit, raw))
    candidates = (
        [(raw, None)] if raw.startswith("+") else [(raw, DEFAULT_REGION), (f"+{digits}", None)]
    )
    for text, region in candidates:
        try:
            # Twice: after a national prefix is removed, another one may remain.
            number = _e164(_e164(text, region))
        except phonenumbers.NumberParseException:
            continue
        if any(map(_is_valid, spellings(number))):
            return number
    raise ValueError("not a phone number")


def _e164(text: str, region: str | None = None) -> str:
    number = phonenumbers.parse(text, region)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _is_valid(number: str) -> bool:
    # Some countries' numbering plans exceed the length of E.164, which WhatsApp's ids follow.
    return len(number) <= 16 and phonenumbers.is_valid_number(phonenumbers.parse(number))


def spellings(number: str) -> list[str]:
    """Return the E.164 forms that WhatsApp may use for this number, the given one first.

    Brazilian mobiles are registered with or without the ninth digit (docs/providers/wwebjs.md §3).
    """
    area, local = number[3:5], number[5:]
    if number.startswith("+55") and len(local) == 9 and local[0] == "9":
        return [number, f"+55{area}{local[1:]}"]
    if number.startswith("+55") and len(local) == 8 and local[0] in "6789":
        return [number, f"+55{area}9{local}"]
    return [number]


def pretty(number: str) -> str:
    """Return the number in international display format; unchanged if it cannot be parsed."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def other_brazilian_form(digits: str) -> str | None:
    """Return a Brazilian mobile number with the ninth digit removed or added, else None.

    WhatsApp stores older accounts without it, and the rules by area code have exceptions.
    """
    if re.fullmatch(r"55\d{2}9\d{8}", digits):
        return digits[:4] + digits[5:]
    if re.fullmatch(r"55\d{2}[6-9]\d{7}", digits):
        return f"{digits[:4]}9{digits[4:]}"
    return None
