"""A short part of the fault suite (`make faults`): every kind of process dies once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from faults.run import Plan, run
from faults.traffic import CARRIED, letters
from faults.verdict import judge


@pytest.mark.product
def test_under_fire_nothing_is_lost_or_doubled_and_every_icon_is_true() -> None:
    verdict = run(Plan(count=150, seed=5, kill_every=4, kills=5), say=print)
    print(verdict.report())
    assert verdict.faults == []
    assert verdict.counts["reached the customer"] > 100


def test_the_seed_alone_decides_what_is_sent() -> None:
    assert letters(500, 3) == letters(500, 3)
    assert letters(500, 3) != letters(500, 4)


def test_the_verdict_finds_each_kind_of_fault() -> None:
    [letter] = letters(1, 1)
    taken = {"text": letter.text, "delivered": True}

    def faults(
        message: Mapping[str, object],
        *,
        graph: int = 0,
        web: int = 0,
        rule: str = "first",
        told: tuple[str, ...] = (),
    ) -> list[str]:
        row = {
            "text": letter.text, "status": "read", "icon": "read", "route": "official",
            "decision": "", "waiting": False,
            "attempts": [
                {"outcome": "accepted", "code": "", "rule": rule, "route": "official", "told": told}
            ],
            **message,
        }  # fmt: skip
        database = {"set_aside": 0, "messages": {"a": row}}
        found = judge([letter], {0: "a"}, database, [taken] * graph, [taken] * web).faults
        return [fault.partition(":")[0] for fault in found]

    proved = {"status": "unconfirmed", "decision": "held", "attempts": [
        {"outcome": "unknown", "code": "", "rule": "first", "route": "official", "told": ("sent",)}
    ]}  # fmt: skip
    assert faults(proved, graph=1) == ["Meta's proof was not heard"]
    assert faults({}, graph=1) == []
    assert faults({}) == [
        "ticks for what Graph never took",
        "two ticks for what did not arrive",
    ]
    assert faults({"status": "sent"}, graph=1) == ["one tick for what was delivered"]
    globe = {"icon": "globe", "route": "wwebjs"}
    assert faults(globe, web=1) == []
    assert faults(globe, web=1, graph=1) == ["arrived 1 + 1 times"]
    assert faults(globe, web=1, graph=1, rule="unconfirmed") == []
    assert faults(globe, web=1, graph=1, told=("sent", "failed", "delivered")) == []
    assert faults(globe, web=1, graph=1, told=("delivered", "failed")) == ["arrived 1 + 1 times"]
    assert faults({}, graph=2) == ["arrived 2 + 0 times", "one way sent it twice"]
    rejected = {"status": "rejected", "icon": "rejected", "route": "official"}
    assert faults({**rejected, "decision": "no_fallback"}) == []
    assert faults({**rejected, "decision": "no_fallback"}, graph=1) == ["an X for what arrived"]
    assert faults(rejected) == ["not finished"]
    assert judge([letter], {}, {"set_aside": 0, "messages": {}}, [], []).faults


def test_the_verdict_finds_a_fallback_that_carries_nothing_and_a_changed_order() -> None:
    main = [letter for letter in letters(3000, 1) if letter.channel == "main"]
    refused = [n for n in main if n.graph in CARRIED and n.fallback == "00"]
    row = {
        "status": "rejected", "icon": "rejected", "route": "official", "decision": "no_fallback",
        "waiting": False, "attempts": [],
    }  # fmt: skip
    accepted = {letter.number: letter.text for letter in refused}
    database = {
        "set_aside": 0,
        "messages": {letter.text: {**row, "text": letter.text} for letter in refused},
    }
    [fault] = judge(refused, accepted, database, [], []).faults
    assert fault == f"the fallback carried only 0 of {len(refused)}"

    again = [n for n in main if n.graph == "16"]
    two = [n for n in again if n.to == again[0].to][:2]
    taken = [{"text": letter.text, "delivered": True} for letter in reversed(two)]
    found = judge(two, {}, {"set_aside": 0, "messages": {}}, taken, []).faults
    assert f"out of order: {two[0]}" in found
