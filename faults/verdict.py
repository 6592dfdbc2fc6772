"""Compare the simulators' ledgers with the database. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from faults.traffic import CARRIED, TRANSIENT, SentMessage

ACCEPTED = ("sent", "delivered", "read")
# The expected share of messages carried by the fallback: kills in the middle of a send hold some.
CARRIED_AT_LEAST = 0.7


@dataclass
class Verdict:
    """The counts, and every fault with its message."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    heading: str = ""

    def report(self) -> str:
        lines = [self.heading, *(f"  {n:7} {name}" for name, n in sorted(self.counts.items()))]
        lines += [f"FAULT {fault}" for fault in self.faults[:50]]
        lines.append("no fault" if not self.faults else f"{len(self.faults)} faults")
        return "\n".join(lines)


def judge(
    planned_messages: Sequence[SentMessage],
    accepted: Mapping[int, str],
    database: Mapping[str, Any],
    graph_ledger: Sequence[Mapping[str, Any]],
    session_ledgers: Sequence[Mapping[str, Any]],
) -> Verdict:
    """Return the verdict. `accepted` maps message numbers to our ids, for accepted messages.

    `session_ledgers` contains the entries of wwebjs-api and Evolution.
    """
    verdict = Verdict()
    by_graph, by_web = _by_text(graph_ledger), _by_text(session_ledgers)
    for planned in planned_messages:
        message = database["messages"].get(accepted.get(planned.number, ""))
        if message is None:
            verdict.faults.append(f"lost: {planned}")
            continue
        _judge_one(verdict, planned, message, by_graph[planned.text], by_web[planned.text])
    texts = Counter(message["text"] for message in database["messages"].values())
    for planned in planned_messages:
        if texts[planned.text] > 1:
            verdict.faults.append(f"stored twice: {planned}")
    _judge_order(verdict, planned_messages, graph_ledger)
    _judge_fallback(verdict, planned_messages, accepted, database["messages"])
    if database["set_aside"]:
        verdict.faults.append(f"{database['set_aside']} events set aside")
    return verdict


def _judge_one(
    verdict: Verdict,
    planned: SentMessage,
    message: Mapping[str, Any],
    graph: Sequence[Mapping[str, Any]],
    web: Sequence[Mapping[str, Any]],
) -> None:
    status, attempts = message["status"], message["attempts"]
    by_graph = sum(entry["delivered"] for entry in graph)
    by_web = sum(entry["delivered"] for entry in web)
    what = f"{planned} {message}"
    verdict.counts[f"icon {message['icon']}"] += 1
    verdict.counts["attempts"] += len(attempts)
    if message["icon"] == "globe":
        verdict.counts[f"globe by {message['route']}"] += 1
    verdict.counts["reached the customer"] += bool(by_graph + by_web)

    if message["waiting"] or (status not in ACCEPTED and not message["decision"]):
        verdict.faults.append(f"not finished: {what}")
    if any(attempt["outcome"] == "started" for attempt in attempts):
        verdict.faults.append(f"an attempt has no end: {what}")
    if any(
        attempt["outcome"] != "accepted" and _proved(attempt["statuses"]) for attempt in attempts
    ):
        verdict.faults.append(f"Meta's proof was ignored: {what}")

    official = status in ACCEPTED and message["route"] == "official"
    if official and not graph:
        verdict.faults.append(f"ticks for what Graph never took: {what}")
    if official and status in ("delivered", "read") and not by_graph:
        verdict.faults.append(f"two ticks for what did not arrive: {what}")
    if official and by_graph and status == "sent":
        verdict.faults.append(f"one tick for what was delivered: {what}")
    if message["icon"] == "globe" and not web:
        verdict.faults.append(f"a globe for what no session took: {what}")
    if message["icon"] == "globe" and status in ("delivered", "read") and not by_web:
        verdict.faults.append(f"a globe with ticks for what did not arrive: {what}")
    if status == "rejected" and by_graph + by_web:
        verdict.faults.append(f"an X for what arrived: {what}")
    if status == "unconfirmed":
        verdict.counts["held for a person"] += 1
        verdict.counts["held, and it had arrived"] += bool(by_graph + by_web)
        if not any(attempt["outcome"] == "unknown" for attempt in attempts):
            verdict.faults.append(f"a ? without an unknown attempt: {what}")
    if any(attempt["code"] == "worker_lost" for attempt in attempts):
        verdict.counts["worker lost, never proved"] += 1
    if any(attempt["rule"] == "breaker_open" for attempt in attempts):
        verdict.counts["straight to the fallback"] += 1

    # The channel's rule allows the fallback after an unconfirmed official send.
    by_rule = any(attempt["rule"] == "unconfirmed" for attempt in attempts)
    # Meta reports some messages as both failed and delivered; the first status decides.
    misled = any(_failed_first(attempt["statuses"]) for attempt in attempts)
    if by_graph + by_web > 1:
        verdict.counts["arrived twice, first answer unknown"] += by_rule
        verdict.counts["arrived twice, Meta reported the failure first"] += misled and not by_rule
        if not (by_rule or misled):
            verdict.faults.append(f"arrived {by_graph} + {by_web} times: {what}")
    if by_graph > 1 or by_web > 1:
        verdict.faults.append(f"one route sent it twice: {what}")


def _proved(statuses: Sequence[str]) -> bool:
    """Whether an attempt's statuses from Meta prove that the message was accepted."""
    if {"delivered", "read"} & set(statuses):
        return True
    return "sent" in statuses and "failed" not in statuses


def _failed_first(statuses: Sequence[str]) -> bool:
    """Whether a failure was processed before any status that proves delivery."""
    failed = statuses.index("failed") if "failed" in statuses else None
    return failed is not None and not {"delivered", "read"} & set(statuses[:failed])


def _judge_order(
    verdict: Verdict, planned_messages: Sequence[SentMessage], ledger: Sequence[Mapping[str, Any]]
) -> None:
    """Check that a customer's messages arrive in the order of acceptance, despite retries.

    Only messages that the official API finally accepts are judged.
    """
    by_text = {
        planned.text: planned
        for planned in planned_messages
        if planned.graph == "00" or (planned.graph in TRANSIENT and planned.channel == "main")
    }
    latest: dict[str, int] = defaultdict(lambda: -1)
    for entry in ledger:
        message = by_text.get(entry["text"])
        if message is None or not entry["delivered"]:
            continue
        if message.number < latest[message.to]:
            verdict.faults.append(f"out of order: {message}")
        latest[message.to] = max(latest[message.to], message.number)


def _judge_fallback(
    verdict: Verdict,
    planned_messages: Sequence[SentMessage],
    accepted: Mapping[int, str],
    messages: Mapping[str, Mapping[str, Any]],
) -> None:
    """Check that a healthy fallback carries the rejected messages that may use it."""
    due = [
        messages.get(accepted.get(planned.number, ""))
        for planned in planned_messages
        if planned.graph in CARRIED and planned.fallback == "00" and planned.channel == "main"
    ]
    carried = sum(message is not None and message["icon"] == "globe" for message in due)
    verdict.counts["to be carried by the fallback"] = len(due)
    verdict.counts["carried by the fallback"] = carried
    if carried < CARRIED_AT_LEAST * len(due):
        verdict.faults.append(f"the fallback carried only {carried} of {len(due)}")


def _by_text(ledger: Sequence[Mapping[str, Any]]) -> defaultdict[str, list[Mapping[str, Any]]]:
    entries: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in ledger:
        entries[entry["text"]].append(entry)
    return entries
