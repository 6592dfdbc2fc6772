"""A short version of the inbound fault suite (`make faults INBOUND=n`)."""

from __future__ import annotations

import pytest

from faults.inbound import InboundPlan, inbound_messages, judge_inbound, run_inbound
from tests.product.prepared import prepared_data


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
