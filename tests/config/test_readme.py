"""The READMEs' numbers to try match the product's output and the simulators."""

from __future__ import annotations

import pytest

from messaging.demo_settings import NUMBERS
from simulators.base import fallback_digits, graph_digits
from simulators.graph import tables as graph_tables
from simulators.wwebjs import tables as wwebjs_tables
from tests.config.product import BASE_DIR


def table(readme: str) -> list[tuple[str, str]]:
    """Return the numbers to try and their results, as a README lists them."""
    rows = [
        line.strip("| ").split(" | ", 1)
        for line in (BASE_DIR / readme).read_text().splitlines()
        if line.startswith("| +55")
    ]
    return [(number, text) for number, text in rows]


def test_the_demo_prints_the_same_numbers_and_texts_as_the_readme() -> None:
    assert table("README.md") == list(NUMBERS)


def test_both_readmes_list_the_same_numbers() -> None:
    assert [number for number, _ in table("README.pt-BR.md")] == [number for number, _ in NUMBERS]


@pytest.mark.parametrize("number", [number for number, _ in NUMBERS])
def test_the_simulators_know_the_digits(number: str) -> None:
    official = {scenario.digits for scenario in graph_tables.SCENARIOS.values()}
    fallback = {scenario.digits for scenario in wwebjs_tables.SCENARIOS.values()}
    assert graph_digits(number) in official
    assert fallback_digits(number) in fallback
