"""What the READMEs promise a newcomer is what the product says and does."""

from __future__ import annotations

import pytest

from messaging.demo_settings import NUMBERS
from simulators.base import fallback_digits, graph_digits
from simulators.graph import tables as graph_tables
from simulators.wwebjs import tables as wwebjs_tables
from tests.config.product import BASE_DIR


def table(readme: str) -> list[tuple[str, str]]:
    """The numbers to try with what they show, as a README lists them."""
    rows = [
        line.strip("| ").split(" | ", 1)
        for line in (BASE_DIR / readme).read_text().splitlines()
        if line.startswith("| +55")
    ]
    return [(number, words) for number, words in rows]


def test_the_demo_prints_the_numbers_of_the_readme_in_the_same_words() -> None:
    assert table("README.md") == list(NUMBERS)


def test_both_readmes_name_the_same_numbers() -> None:
    assert [number for number, _ in table("README.pt-BR.md")] == [number for number, _ in NUMBERS]


@pytest.mark.parametrize("number", [number for number, _ in NUMBERS])
def test_the_simulators_know_the_digits(number: str) -> None:
    official = {scenario.digits for scenario in graph_tables.SCENARIOS.values()}
    fallback = {scenario.digits for scenario in wwebjs_tables.SCENARIOS.values()}
    assert graph_digits(number) in official
    assert fallback_digits(number) in fallback
