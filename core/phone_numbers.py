"""Phone numbers: one written form, and the Brazilian ninth digit. Pure."""

from __future__ import annotations

import phonenumbers

DEFAULT_REGION = "BR"


def normalize(raw: str) -> str:
    """Return the number as E.164 with the plus sign.

    A number without a plus is read as a Brazilian one, else as an international one. A Brazilian
    mobile number may lack the ninth digit, as WhatsApp writes it. Raises ValueError when it is no
    number of any country.
    """
    raw = raw.strip()
    digits = "".join(filter(str.isdigit, raw))
    readings = (
        [(raw, None)] if raw.startswith("+") else [(raw, DEFAULT_REGION), (f"+{digits}", None)]
    )
    for text, region in readings:
        try:
            # Twice: what a country's own prefix was taken from may have another one.
            written = _e164(_e164(text, region))
        except phonenumbers.NumberParseException:
            continue
        if any(map(_is_valid, spellings(written))):
            return written
    raise ValueError("not a phone number")


def _e164(text: str, region: str | None = None) -> str:
    number = phonenumbers.parse(text, region)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _is_valid(number: str) -> bool:
    # Some countries' plans are longer than E.164, which WhatsApp's ids are.
    return len(number) <= 16 and phonenumbers.is_valid_number(phonenumbers.parse(number))


def spellings(number: str) -> list[str]:
    """Return the E.164 forms under which WhatsApp may know this number, the given one first.

    Brazilian mobiles are known with or without the ninth digit (contracts/wwebjs-api.md §3).
    """
    area, local = number[3:5], number[5:]
    if number.startswith("+55") and len(local) == 9 and local[0] == "9":
        return [number, f"+55{area}{local[1:]}"]
    if number.startswith("+55") and len(local) == 8 and local[0] in "6789":
        return [number, f"+55{area}9{local}"]
    return [number]


def pretty(number: str) -> str:
    """Return the number as people write it; unchanged where it cannot be read."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
