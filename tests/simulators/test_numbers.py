from __future__ import annotations

import pathlib
import re

import phonenumbers
import pytest

import simulators
from simulators.base import example_number, fallback_digits, graph_digits, whatsapp_id
from simulators.graph import app as graph_app
from simulators.graph import tables as graph_tables
from simulators.wwebjs import app as wwebjs_app
from simulators.wwebjs import tables as wwebjs_tables


@pytest.mark.parametrize(
    "row", graph_app.describe() + wwebjs_app.describe(), ids=lambda row: row["name"]
)
def test_every_example_is_a_valid_brazilian_mobile(row: dict[str, str]) -> None:
    number = phonenumbers.parse(row["example"])

    assert number.country_code == 55
    assert phonenumbers.is_valid_number(number)
    assert phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE


def test_one_number_selects_a_scenario_for_each_provider() -> None:
    number = example_number(graph="47", fallback="06")

    assert number == "+55 11 99999-0647"
    assert graph_digits(number) == "47"
    assert fallback_digits("5511999990647@c.us") == "06"


@pytest.mark.parametrize("number", ["+5511988887747", "+5511999881347", "+16505551047", "47", ""])
def test_numbers_without_the_four_nines_are_ordinary(number: str) -> None:
    assert graph_digits(number) == fallback_digits(number) == "00"


def test_the_ninth_digit_does_not_change_the_scenario() -> None:
    assert graph_digits("553199990947") == graph_digits("5531999990947") == "47"
    assert fallback_digits("553199990947") == fallback_digits("5531999990947") == "09"


@pytest.mark.parametrize(
    ("number", "known_as"),
    [
        ("+55 11 99999-1234", "5511999991234"),
        ("+55 28 99999-1234", "5528999991234"),
        ("+55 31 99999-1234", "553199991234"),
        ("+55 31 9999-1234", "553199991234"),
        ("+1 650 555 1234", "16505551234"),
    ],
)
def test_some_brazilian_numbers_are_registered_without_the_ninth_digit(
    number: str, known_as: str
) -> None:
    assert whatsapp_id(number) == known_as


@pytest.mark.parametrize("table", [graph_tables.SCENARIOS, wwebjs_tables.SCENARIOS])
def test_no_two_scenarios_share_their_digits(table: dict[str, graph_tables.GraphScenario]) -> None:
    digits = [scenario.digits for scenario in table.values()]

    assert len(set(digits)) == len(digits)
    assert all(re.fullmatch(r"\d\d", pair) for pair in digits)
    assert table["ok"].digits == "00"


def test_the_package_imports_neither_django_nor_the_product() -> None:
    folder = pathlib.Path(simulators.__file__).parent
    imported = {
        match
        for module in folder.glob("*.py")
        for match in re.findall(r"^\s*(?:from|import) (\w+)", module.read_text(), re.MULTILINE)
    }

    assert "django" not in imported
    assert not imported & {"accounts", "channels_app", "config", "instances", "messaging"}
