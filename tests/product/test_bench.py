"""Each measurement of `bench/` in its short form: that it works, not what it measures."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import results
from bench.__main__ import NAMES
from bench.product import Product, running
from bench.results import Goal, Result, result
from faults.chaos import PACE
from tests.product.prepared import prepared_data


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """One product for all; a dead worker is detected soon."""
    with running(prepared_data(), **PACE) as product:
        yield product


@pytest.mark.product
@pytest.mark.parametrize("name", NAMES)
def test_the_short_form_of_a_measurement_runs(product: Product, name: str) -> None:
    found = importlib.import_module(f"bench.{name}").measure(product, short=True)

    assert found
    assert all(isinstance(line, Result) and line.value >= 0 for line in found)
    assert len({line.name for line in found}) == len(found)


@pytest.mark.parametrize(
    ("value", "yardstick", "goal", "ratio", "text", "met"),
    [
        (60, 50, Goal(1.2, "ratio", at_least=True), 1.2, ">= 1.2 of the yardstick", True),
        (59, 50, Goal(1.2, "ratio", at_least=True), 1.18, ">= 1.2 of the yardstick", False),
        (49, None, Goal(50), None, "<= 50 ms", True),
        (51, None, Goal(50), None, "<= 50 ms", False),
        (160, 100, Goal(60, "excess"), 1.6, "<= 60 ms above the yardstick", True),
        (161, 100, Goal(60, "excess"), 1.61, "<= 60 ms above the yardstick", False),
    ],
)
def test_a_goal_is_met_by_the_numbers_and_says_what_it_demands(
    value: float, yardstick: float | None, goal: Goal, ratio: float | None, text: str, met: bool
) -> None:
    line = result("a", value, "ms", goal, yardstick=yardstick)

    assert (line.ratio, line.goal, line.met) == (ratio, text, met)


def test_the_ratio_of_a_duration_is_better_if_it_is_shorter() -> None:
    assert result("a", 2, "s", yardstick=1, less_is_better=True).ratio == 0.5


def test_a_partial_run_replaces_only_its_own_results(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results.write([result("a", 1, "s"), result("b", 2, "s")], path)
    results.write([result("b", 3, "s"), dataclasses.asdict(result("c", 4, "s"))], path)

    content = json.loads(path.read_text())
    assert list(content) == ["machine", "versions", "commit", "results"]
    assert [(row["name"], row["value"]) for row in content["results"]] == [
        ("a", 1), ("b", 3), ("c", 4),
    ]  # fmt: skip
    assert list(content["results"][0]) == [field.name for field in dataclasses.fields(Result)]

    results.write([result("d", 1, "s")], path, fresh=True)
    assert [row["name"] for row in json.loads(path.read_text())["results"]] == ["d"]
