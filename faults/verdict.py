"""Compares the simulators' own books with the database. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from faults.traffic import CARRIED, PASSING, SentMessage

TAKEN = ("sent", "delivered", "read")
# Of the messages that the fallback is to carry, a kill in the middle of a send leaves some held.
CARRIED_AT_LEAST = 0.7


@dataclass
class Verdict:
    """What was counted, and every fault with the message it was found at."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    heading: str = ""

    def report(self) -> str:
        lines = [self.heading, *(f"  {n:7} {name}" for name, n in sorted(self.counts.items()))]
        lines += [f"FAULT {fault}" for fault in self.faults[:50]]
        lines.append("no fault" if not self.faults else f"{len(self.faults)} faults")
        return "\n".join(lines)


def judge(
    letters: Sequence[SentMessage],
    accepted: Mapping[int, str],
    database: Mapping[str, Any],
    graph_book: Sequence[Mapping[str, Any]],
    session_books: Sequence[Mapping[str, Any]],
) -> Verdict:
    """Return the verdict. `accepted` are our ids of the messages that REST took, by number.

    `session_books` are what wwebjs-api and Evolution noted.
    """
    verdict = Verdict()
    by_graph, by_web = _by_text(graph_book), _by_text(session_books)
    for letter in letters:
        message = database["messages"].get(accepted.get(letter.number, ""))
        if message is None:
            verdict.faults.append(f"lost: {letter}")
            continue
        _judge_one(verdict, letter, message, by_graph[letter.text], by_web[letter.text])
    texts = Counter(message["text"] for message in database["messages"].values())
    for letter in letters:
        if texts[letter.text] > 1:
            verdict.faults.append(f"stored twice: {letter}")
    _judge_order(verdict, letters, graph_book)
    _judge_fallback(verdict, letters, accepted, database["messages"])
    if database["set_aside"]:
        verdict.faults.append(f"{database['set_aside']} events set aside")
    return verdict


def _judge_one(
    verdict: Verdict,
    letter: SentMessage,
    message: Mapping[str, Any],
    graph: Sequence[Mapping[str, Any]],
    web: Sequence[Mapping[str, Any]],
) -> None:
    status, attempts = message["status"], message["attempts"]
    by_graph = sum(entry["delivered"] for entry in graph)
    by_web = sum(entry["delivered"] for entry in web)
    what = f"{letter} {message}"
    verdict.counts[f"icon {message['icon']}"] += 1
    verdict.counts["attempts"] += len(attempts)
    if message["icon"] == "globe":
        verdict.counts[f"globe by {message['route']}"] += 1
    verdict.counts["reached the customer"] += bool(by_graph + by_web)

    if message["waiting"] or (status not in TAKEN and not message["decision"]):
        verdict.faults.append(f"not finished: {what}")
    if any(attempt["outcome"] == "started" for attempt in attempts):
        verdict.faults.append(f"an attempt has no end: {what}")
    if any(attempt["outcome"] != "accepted" and _proved(attempt["told"]) for attempt in attempts):
        verdict.faults.append(f"Meta's proof was not heard: {what}")

    official = status in TAKEN and message["route"] == "official"
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

    # The rule of the channel lets the fallback follow an official send that nothing proved.
    by_rule = any(attempt["rule"] == "unconfirmed" for attempt in attempts)
    # Meta says of some that they failed and that they arrived; what it says first is acted on.
    misled = any(_failed_first(attempt["told"]) for attempt in attempts)
    if by_graph + by_web > 1:
        verdict.counts["arrived twice, first answer unknown"] += by_rule
        verdict.counts["arrived twice, Meta told the failure first"] += misled and not by_rule
        if not (by_rule or misled):
            verdict.faults.append(f"arrived {by_graph} + {by_web} times: {what}")
    if by_graph > 1 or by_web > 1:
        verdict.faults.append(f"one way sent it twice: {what}")


def _proved(told: Sequence[str]) -> bool:
    """Whether what Meta told of an attempt says that it was taken for good."""
    return bool({"delivered", "read"} & set(told)) or ("sent" in told and "failed" not in told)


def _failed_first(told: Sequence[str]) -> bool:
    """Whether a failure was read while nothing that had been read said that it arrived."""
    failed = told.index("failed") if "failed" in told else None
    return failed is not None and not {"delivered", "read"} & set(told[:failed])


def _judge_order(
    verdict: Verdict, letters: Sequence[SentMessage], book: Sequence[Mapping[str, Any]]
) -> None:
    """The messages of a customer arrive in the order in which REST took them, retries or not.

    Judged where the official API takes them all in the end.
    """
    numbers = {
        letter.text: letter
        for letter in letters
        if letter.graph == "00" or (letter.graph in PASSING and letter.channel == "main")
    }
    latest: dict[str, int] = defaultdict(lambda: -1)
    for entry in book:
        letter = numbers.get(entry["text"])
        if letter is None or not entry["delivered"]:
            continue
        if letter.number < latest[letter.to]:
            verdict.faults.append(f"out of order: {letter}")
        latest[letter.to] = max(latest[letter.to], letter.number)


def _judge_fallback(
    verdict: Verdict,
    letters: Sequence[SentMessage],
    accepted: Mapping[int, str],
    messages: Mapping[str, Mapping[str, Any]],
) -> None:
    """What is refused and may be gone around goes out by a fallback that is well."""
    due = [
        messages.get(accepted.get(letter.number, ""))
        for letter in letters
        if letter.graph in CARRIED and letter.fallback == "00" and letter.channel == "main"
    ]
    carried = sum(message is not None and message["icon"] == "globe" for message in due)
    verdict.counts["to be carried by the fallback"] = len(due)
    verdict.counts["carried by the fallback"] = carried
    if carried < CARRIED_AT_LEAST * len(due):
        verdict.faults.append(f"the fallback carried only {carried} of {len(due)}")


def _by_text(book: Sequence[Mapping[str, Any]]) -> defaultdict[str, list[Mapping[str, Any]]]:
    found: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in book:
        found[entry["text"]].append(entry)
    return found
