"""From which linked phone messages may be sent. Pure."""

from __future__ import annotations

import pytest

from channels_app.connections.linked_numbers import canonical, is_same, unconfirmed

OWN, OTHER = "5511988887777", "5511955550000"


@pytest.mark.parametrize(
    ("linked", "confirmed", "expected", "result"),
    [
        # No phone, or the first phone of a channel without a number.
        ("", OTHER, f"+{OWN}", ""),
        (OTHER, "", "", ""),
        (OTHER, "", "Loja centro", ""),
        # The channel's own number, in any spelling.
        (OWN, "", f"+{OWN}", ""),
        (OWN, OTHER, "+55 (11) 98888-7777", ""),
        (OWN, "", "(011) 98888-7777", ""),
        ("551188887777", "", f"+{OWN}", ""),
        (OWN, "", "+55 11 8888-7777", ""),
        # Another number, until someone confirms it; a fallback may have its own number.
        (OTHER, "", f"+{OWN}", OTHER),
        (OTHER, OTHER, f"+{OWN}", ""),
        ("551155550000", OTHER, f"+{OWN}", "551155550000"),
        # A change from the confirmed number, although no number was entered.
        (OWN, OTHER, "", OWN),
        # Another area or country: not a usual spelling of the number.
        ("5521988887777", "", f"+{OWN}", "5521988887777"),
        ("15551234567", "", "+44 555 123 4567", "15551234567"),
    ],
)
def test_an_unexpected_number_must_be_confirmed(
    linked: str, confirmed: str, expected: str, result: str
) -> None:
    assert unconfirmed(linked, confirmed=confirmed, expected=expected) == result


def test_numbers_are_compared_in_canonical_form() -> None:
    assert canonical("551188887777") == OWN == canonical(OWN)
    assert canonical("551133334444") == "551133334444"  # a landline has no ninth digit
    assert is_same("551188887777", OWN)
    assert not is_same("", "")
