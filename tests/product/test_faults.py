"""A short version of the fault suite (`make faults`): every kind of process dies once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from faults.inbound import InboundPlan, inbound_messages, judge_inbound, run_inbound
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


@pytest.mark.product
def test_with_kills_every_inbound_message_is_received_once_in_both_modes() -> None:
    """Each of our processes, Evolution and wwebjs-api die once."""
    plan = InboundPlan(count=120, seed=7, rate=4, kill_every=3, kills=9, emptied_every=1)
    verdict = run_inbound(plan, say=print, prepared=prepared_data())
    print(verdict.report())
    assert verdict.faults == []
    assert verdict.counts["stored once"] == 120


def test_the_verdict_detects_each_kind_of_inbound_fault() -> None:
    first, second = inbound_messages(2, 1, ["a"])
    replayed = [first, type(second)(1, second.id, "a", first.sender, second.text)]
    assert inbound_messages(2, 1, ["a"]) == [first, second]
    ledger = {"a": [{"id": m.id, "at": 100 + m.number} for m in replayed]}

    def row(n: int, **changes: object) -> dict[str, object]:
        message = replayed[n]
        fields = {"instance": "a", "id": message.id, "text": message.text, "at": 100.0 + n}
        return {**fields, "from": f"+{message.sender}", **changes}

    def faults(*rows: dict[str, object], **changes: object) -> list[str]:
        database = {"messages": rows, "set_aside": 0, "recovered": {}, **changes}
        found = judge_inbound(replayed, ledger, database).faults
        return [fault.partition(":")[0] for fault in found]

    assert faults(row(0), row(1)) == []
    assert faults(row(0)) == ["lost"]
    assert faults(row(0), row(1), row(1)) == ["stored 2 times"]
    assert faults(row(0), row(1, text="another")) == ["stored as another one"]
    assert faults(row(0), row(1, at=7.0)) == ["stored with another time"]
    assert faults(row(1), row(0)) == ["out of order"]
    assert faults(row(0, at=101.0), row(1)) == ["stored with another time"]
    assert faults(row(0), row(1), row(1, id="X")) == ["no customer wrote it"]
    assert faults(row(0), row(1), set_aside=1) == ["1 events set aside"]
    empty = {"messages": [row(0), row(1)], "set_aside": 0, "recovered": {"look": 1}}
    assert len(judge_inbound(replayed, {}, empty).faults) == 2
    assert judge_inbound(replayed, ledger, empty).counts["recovered: look"] == 1


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
