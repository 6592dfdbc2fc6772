"""Phone number normalization, including the spellings of countries that changed them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

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

    Some countries changed how their mobile numbers are written, and WhatsApp keeps an account under
    the form with which it was registered (docs/providers/wwebjs.md §3).
    """
    for spelling in _SPELLINGS:
        for pattern, other in (
            (spelling.current, spelling.former_of),
            (spelling.former, spelling.current_of),
        ):
            if match := pattern.fullmatch(number):
                return [number, *filter(None, [other(match)])]
    return [number]


def key(number: str) -> str:
    """Return the form that stands for all spellings of this number: the current one."""
    for spelling in _SPELLINGS:
        if match := spelling.former.fullmatch(number):
            return spelling.current_of(match)
    return number


@dataclass(frozen=True, slots=True)
class _Spelling:
    """The current and the former form of a country's mobile numbers, and how they correspond.

    `former_of` returns "" for a number that never had the former form.
    """

    current: re.Pattern[str]
    former: re.Pattern[str]
    current_of: Callable[[re.Match[str]], str]
    former_of: Callable[[re.Match[str]], str]


# The prefix of an Ivorian mobile number follows from the second digit of its former eight.
_IVORIAN_PREFIXES = {digit: ("01", "05", "07")[(int(digit) - 1) // 3] for digit in "123456789"}
_IVORIAN_PREFIXES["0"] = "01"


def _former_ivorian(match: re.Match[str]) -> str:
    return f"+225{match[2]}" if _IVORIAN_PREFIXES[match[2][1]] == match[1] else ""


_SPELLINGS = (
    # Brazil: with or without the ninth digit.
    _Spelling(
        re.compile(r"\+55(\d{2})9(\d{8})"),
        re.compile(r"\+55(\d{2})([6-9]\d{7})"),
        current_of=lambda match: f"+55{match[1]}9{match[2]}",
        former_of=lambda match: f"+55{match[1]}{match[2]}",
    ),
    # Mexico: without or with the mobile prefix 1, abolished in 2019.
    _Spelling(
        re.compile(r"\+52(\d{10})"),
        re.compile(r"\+521(\d{10})"),
        current_of=lambda match: f"+52{match[1]}",
        former_of=lambda match: f"+521{match[1]}",
    ),
    # Argentina: with or without the mobile prefix 9.
    _Spelling(
        re.compile(r"\+549([123]\d{9})"),
        re.compile(r"\+54([123]\d{9})"),
        current_of=lambda match: f"+549{match[1]}",
        former_of=lambda match: f"+54{match[1]}",
    ),
    # Ivory Coast: ten digits since 2021; the former eight of a mobile begin with 0 or 4 to 9.
    _Spelling(
        re.compile(r"\+225(01|05|07)([04-9]\d{7})"),
        re.compile(r"\+225(([04-9])(\d)\d{6})"),
        current_of=lambda match: f"+225{_IVORIAN_PREFIXES[match[3]]}{match[1]}",
        former_of=_former_ivorian,
    ),
)


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
