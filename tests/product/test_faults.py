"""A short version of the fault suite (`make faults`): every kind of process dies once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from faults.run import Plan, run
from faults.traffic import CARRIED, planned_messages
from faults.verdict import judge
from tests.product.prepared import prepared_data


@pytest.mark.product
def test_with_kills_nothing_is_lost_or_duplicated_and_every_icon_is_correct() -> None:
    verdict = run(
        Plan(count=150, seed=5, kill_every=4, kills=5), say=print, prepared=prepared_data()
    )
    print(verdict.report())
    assert verdict.faults == []
    assert verdict.counts["reached the customer"] > 100


def test_the_sent_messages_depend_only_on_the_seed() -> None:
    assert planned_messages(500, 3) == planned_messages(500, 3)
    assert planned_messages(500, 3) != planned_messages(500, 4)


def test_the_verdict_detects_each_kind_of_fault() -> None:
    [planned] = planned_messages(1, 1)
    taken = {"text": planned.text, "delivered": True}

    def faults(
        message: Mapping[str, object],
        *,
        graph: int = 0,
        web: int = 0,
        rule: str = "first",
        statuses: tuple[str, ...] = (),
    ) -> list[str]:
        row = {
            "text": planned.text, "status": "read", "icon": "read", "route": "official",
            "decision": "", "waiting": False,
            "attempts": [
                {"outcome": "accepted", "code": "", "rule": rule, "route": "official",
                 "statuses": statuses}
            ],
            **message,
        }  # fmt: skip
        database = {"set_aside": 0, "messages": {"a": row}}
        found = judge([planned], {0: "a"}, database, [taken] * graph, [taken] * web).faults
        return [fault.partition(":")[0] for fault in found]

    proved = {"status": "unconfirmed", "decision": "held", "attempts": [
        {"outcome": "unknown", "code": "", "rule": "first", "route": "official",
         "statuses": ("sent",)}
    ]}  # fmt: skip
    assert faults(proved, graph=1) == ["Meta's proof was ignored"]
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
    assert faults(globe, web=1, graph=1, statuses=("sent", "failed", "delivered")) == []
    assert faults(globe, web=1, graph=1, statuses=("delivered", "failed")) == [
        "arrived 1 + 1 times"
    ]
    assert faults({}, graph=2) == ["arrived 2 + 0 times", "one route sent it twice"]
    rejected = {"status": "rejected", "icon": "rejected", "route": "official"}
    assert faults({**rejected, "decision": "no_fallback"}) == []
    assert faults({**rejected, "decision": "no_fallback"}, graph=1) == ["an X for what arrived"]
    assert faults(rejected) == ["not finished"]
    assert judge([planned], {}, {"set_aside": 0, "messages": {}}, [], []).faults


def test_the_verdict_detects_an_unused_fallback_and_a_changed_order() -> None:
    main = [planned for planned in planned_messages(3000, 1) if planned.channel == "main"]
    refused = [n for n in main if n.graph in CARRIED and n.fallback == "00"]
    row = {
        "status": "rejected", "icon": "rejected", "route": "official", "decision": "no_fallback",
        "waiting": False, "attempts": [],
    }  # fmt: skip
    accepted = {planned.number: planned.text for planned in refused}
    database = {
        "set_aside": 0,
        "messages": {planned.text: {**row, "text": planned.text} for planned in refused},
    }
    [fault] = judge(refused, accepted, database, [], []).faults
    assert fault == f"the fallback carried only 0 of {len(refused)}"

    replayed = [n for n in main if n.graph == "16"]
    two = [n for n in replayed if n.to == replayed[0].to][:2]
    taken = [{"text": planned.text, "delivered": True} for planned in reversed(two)]
    found = judge(two, {}, {"set_aside": 0, "messages": {}}, taken, []).faults
    assert f"out of order: {two[0]}" in found
