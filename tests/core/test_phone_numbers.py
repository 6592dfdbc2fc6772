from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core import phone_numbers


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+5511999990047", "+5511999990047"),
        ("  +55 (11) 99999-0047 ", "+5511999990047"),
        ("11 99999-0047", "+5511999990047"),
        ("(11) 3333-4444", "+551133334444"),
        ("5511999990047", "+5511999990047"),
        ("+1 415 555 2671", "+14155552671"),
        ("14155552671", "+14155552671"),
        ("+351 912 345 678", "+351912345678"),
        # The form that WhatsApp uses for older accounts, and so our contacts too.
        ("+553187654321", "+553187654321"),
        ("31 8765-4321", "+553187654321"),
    ],
)
def test_a_number_is_normalized(written: str, number: str) -> None:
    assert phone_numbers.normalize(written) == number


@pytest.mark.parametrize(
    "written",
    ["", " ", "+", "abc", "123", "+55", "+5511", "+551199999", "+999123456789", "99999-0047",
     "+55119999900470000", "0" * 300, "²³", "+55 11 99999-0047 e mais"],
)  # fmt: skip
def test_an_invalid_number_is_rejected(written: str) -> None:
    with pytest.raises(ValueError, match="not a phone number"):
        phone_numbers.normalize(written)


@given(st.text() | st.from_regex(r"\+?[0-9 ()-]{0,20}", fullmatch=True))
@example("+٥٥١١٩٩٩٩٩٠٠٤٧")
@example("490030000")
@example("+4920100000000000")
def test_any_text_gives_a_number_or_a_value_error(written: str) -> None:
    try:
        number = phone_numbers.normalize(written)
    except ValueError:
        return
    assert re.fullmatch(r"\+[1-9][0-9]{4,14}", number)
    assert phone_numbers.normalize(number) == number


@pytest.mark.parametrize(
    ("number", "spellings"),
    [
        ("+5531987654321", ["+5531987654321", "+553187654321"]),
        ("+553187654321", ["+553187654321", "+5531987654321"]),
        ("+553133334444", ["+553133334444"]),
        ("+14155552671", ["+14155552671"]),
        ("+5511", ["+5511"]),
    ],
)
def test_brazilian_mobiles_have_two_spellings(number: str, spellings: list[str]) -> None:
    assert phone_numbers.spellings(number) == spellings


@pytest.mark.parametrize(
    ("number", "pretty"),
    [
        ("+5511999990047", "+55 11 99999-0047"),
        ("+14155552671", "+1 415-555-2671"),
        ("BR.1", "BR.1"),
    ],
)
def test_a_number_is_displayed_in_international_format(number: str, pretty: str) -> None:
    assert phone_numbers.pretty(number) == pretty
