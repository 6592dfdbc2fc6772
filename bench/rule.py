"""Meta's sizing rule for one number: 80 messages and 320 webhooks a second, on this machine.

`python -m bench.rule [search]`; RATE and SECONDS change the rule. At a rate that the machine does
not hold, the load ends as soon as the backlog shows it, and the search finds the highest held one.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bench import load
from bench.pages import Pages
from bench.product import (
    Product,
    cpu_between,
    cpu_seconds,
    login,
    of_product,
    running,
)
from bench.results import Goal, Result, result

RULE = 80
STATUSES = 4
CUSTOMERS = 2000
PAGES = 20
STATUS_DELAY = 0.2
# After the last message: until its last status has arrived and been applied.
GRACE_SECONDS = 5.0
DRAIN_SECONDS = 60.0
IDLE_SECONDS = 240.0
# With this much work waiting, in seconds of the load, it is not held.
HOPELESS_SECONDS = 5.0
# At a low rate a moment's delay is not a backlog.
LEAST_HOPELESS = 50.0
HELD = 0.98
WARM_UP_PER_SECOND, WARM_UP_SECONDS = 5.0, 2.0
SEARCH_SECONDS = 20.0


@dataclass
class Outcome:
    """What one load reached. Durations in seconds."""

    per_second: float
    seconds: float
    complete: bool
    accepted: int = 0
    sent_per_second: float = 0.0
    webhooks_per_second: float = 0.0
    webhooks: list[float] = field(default_factory=list)
    accept_to_provider: list[float] = field(default_factory=list)
    rest: list[float] = field(default_factory=list)
    backlog: int = 0
    drained_after: float | None = None
    cpu: dict[str, float] = field(default_factory=dict)
    cpu_messages: int = 1
    refused: int = 0
    frames: int = 0

    @property
    def held(self) -> bool:
        return (
            self.complete
            and not self.backlog
            and not self.refused
            and self.sent_per_second >= HELD * self.per_second
            and self.webhooks_per_second >= HELD * STATUSES * self.per_second
        )


def measure(product: Product, *, short: bool = False) -> list[Result]:
    """Run the rule; if it is not held, also search for the highest held rate."""
    per_second = float(os.environ.get("RATE", 5 if short else RULE))
    seconds = float(os.environ.get("SECONDS", 1 if short else 600))
    runner = prepare(product, warm_up=not short)
    outcome = runner.run(per_second, seconds)
    results = figures(outcome)
    if short:
        return results
    held = outcome.per_second
    if not outcome.held:
        print(*results, "not held; searching for the highest held rate", sep="\n", flush=True)
        held = search(runner, below=per_second)
    return [
        *results,
        result("the rule: highest held rate", held, "messages/s", Goal(RULE, at_least=True)),
    ]


def prepare(product: Product, *, warm_up: bool = True) -> Runner:
    product.set(product.graph, status_delay=STATUS_DELAY)
    load.scripted(product, "played")
    token = product.token()
    channel = load.official_channel(product, {"Authorization": f"Token {token}"})
    runner = Runner(product, token, channel["id"], login(product))
    if warm_up:  # the first requests load code and fill caches
        runner.run(WARM_UP_PER_SECOND, WARM_UP_SECONDS)
    return runner


@dataclass
class Runner:
    """Runs loads on one product."""

    product: Product
    token: str
    channel: int
    cookies: str

    def run(self, per_second: float, seconds: float) -> Outcome:
        return asyncio.run(self._run(per_second, seconds))

    def wait_until_idle(self) -> bool:
        """Return whether everything is done within four minutes."""
        return asyncio.run(self._wait_until_idle())

    async def _wait_until_idle(self) -> bool:
        outcome = Outcome(0, 0, complete=True)
        with self.product.database() as database:
            await self._drain(database, outcome, IDLE_SECONDS)
        return outcome.drained_after is not None

    async def _run(self, per_second: float, seconds: float) -> Outcome:
        product = self.product
        await load.delete(f"{product.graph}/_control/book")
        await load.delete(f"{product.graph}/_control/timings")
        pages = Pages(product.port, self.cookies)
        with product.database() as database:
            await pages.open(self._targets(database))
            requests = load.messages(
                self.token, [self.channel], customers=CUSTOMERS, text=f"rule {per_second:g}"
            )
            sent = load.Sent()
            watch = asyncio.create_task(self._watch(database, per_second, sent))
            before, began = cpu_seconds(product), time.time()
            duration = await load.at_rate(
                product.port, requests,
                per_second=per_second, seconds=seconds, sent=sent, enough=watch.done,
            )  # fmt: skip
            complete = not watch.done()
            watch.cancel()
            outcome = Outcome(per_second, duration, complete, accepted=sent.accepted_in_time)
            outcome.rest = sent.seconds
            outcome.refused = sum(sent.statuses.values()) - sent.accepted
            await self._drain(database, outcome, DRAIN_SECONDS)
            outcome.cpu = cpu_between(before, cpu_seconds(product))
            outcome.frames = pages.texts
            pages.close()
            await self._read_books(database, outcome, began)
        return outcome

    def _targets(self, database: psycopg.Connection[Any]) -> list[str]:
        """Half of the pages show the list of conversations, the others one conversation each."""
        rows = database.execute(
            "SELECT id FROM messaging_conversation ORDER BY id DESC LIMIT %s", [PAGES // 2]
        ).fetchall()
        ids = [row[0] for row in rows] * PAGES
        return ["/ws/live/?alarms=&inbox="] * (PAGES - PAGES // 2) + [
            f"/ws/live/?alarms=&conversation={id_}" for id_ in ids[: PAGES // 2]
        ]

    async def _watch(
        self, database: psycopg.Connection[Any], per_second: float, sent: load.Sent
    ) -> None:
        """Return once so much is waiting that the rate cannot be held."""
        hopeless = max(LEAST_HOPELESS, HOPELESS_SECONDS * per_second)
        while True:
            await asyncio.sleep(2)
            messages, events = await asyncio.to_thread(waiting, database)
            if sent.in_flight + messages > hopeless or events > hopeless * STATUSES:
                return

    async def _drain(
        self, database: psycopg.Connection[Any], outcome: Outcome, seconds: float
    ) -> None:
        """Wait until nothing is left to do; note the backlog after the grace period."""
        began = time.monotonic()
        wait = GRACE_SECONDS + STATUSES * STATUS_DELAY
        while time.monotonic() < began + seconds:
            settled = await load.post(f"{self.product.graph}/_control/settle?timeout=0.1")
            messages, events = await asyncio.to_thread(waiting, database)
            left = messages + events + (not settled["settled"])
            elapsed = time.monotonic() - began
            if not left:
                outcome.drained_after = elapsed
                return
            if elapsed > wait and not outcome.backlog:
                outcome.backlog = left
            await asyncio.sleep(0.2)

    async def _read_books(
        self, database: psycopg.Connection[Any], outcome: Outcome, began: float
    ) -> None:
        book = (await load.get(f"{self.product.graph}/_control/book"))["messages"]
        timings = await load.get(f"{self.product.graph}/_control/timings")
        ended = began + outcome.seconds
        # Statuses follow their message by up to this much.
        behind = STATUSES * STATUS_DELAY
        received = {entry["reference"].partition(".")[0]: entry["at"] for entry in book}
        outcome.cpu_messages = max(1, len(received))
        in_time = sum(at <= ended + 1 for at in received.values())
        outcome.sent_per_second = in_time / outcome.seconds
        stored = [seconds for at, seconds, status in timings if status == 200]
        outcome.webhooks = stored or [0.0]
        in_time = sum(status == 200 and at <= ended + behind + 1 for at, _, status in timings)
        outcome.webhooks_per_second = in_time / outcome.seconds
        rows = database.execute(
            "SELECT id::text, extract(epoch FROM created_at)::float8 FROM messaging_message"
            " WHERE direction = 'out' AND created_at >= to_timestamp(%s)", [began],
        ).fetchall()  # fmt: skip
        outcome.accept_to_provider = [
            received[id_] - at for id_, at in rows if id_ in received
        ] or [0.0]  # fmt: skip


def waiting(database: psycopg.Connection[Any]) -> tuple[int, int]:
    """Return the numbers of unsent messages and of unread events."""
    sql = (
        "SELECT (SELECT count(*) FROM messaging_message WHERE status IN ('queued', 'sending')),"
        " (SELECT count(*) FROM messaging_inboundevent WHERE state = 'pending')"
    )
    messages, events = database.execute(sql).fetchall()[0]
    return messages, events


def _least(per_second: float) -> Goal:
    return Goal(round(HELD * per_second, 3), at_least=True)


def figures(outcome: Outcome) -> list[Result]:
    """Return the figures of one load."""
    ours = of_product(outcome.cpu) / outcome.cpu_messages * 1000
    rest, webhooks, sends = outcome.rest or [0.0], outcome.webhooks, outcome.accept_to_provider
    rate, seconds = outcome.per_second, outcome.seconds
    results = [
        result("the rule: messages offered", rate, "messages/s", Goal(RULE, at_least=True)),
        result("the rule: duration of the load", seconds, "s"),
        result(
            "the rule: messages accepted", outcome.accepted / seconds, "messages/s", _least(rate)
        ),
        result(
            "the rule: messages sent to the provider", outcome.sent_per_second, "messages/s",
            _least(rate),
        ),
        result(
            "the rule: webhooks answered", outcome.webhooks_per_second, "webhooks/s",
            _least(STATUSES * rate),
        ),
        result("the rule: webhook p50", _ms(webhooks, 0.5), "ms", Goal(50)),
        result("the rule: webhook p99", _ms(webhooks, 0.99), "ms", Goal(250)),
        result("the rule: accept to provider p50", _ms(sends, 0.5), "ms", Goal(20)),
        result("the rule: accept to provider p99", _ms(sends, 0.99), "ms", Goal(150)),
        result("the rule: REST request p50", _ms(rest, 0.5), "ms"),
        result("the rule: REST request p99", _ms(rest, 0.99), "ms"),
        result("the rule: refused or failed REST requests", outcome.refused, "requests", Goal(0)),
        result("the rule: backlog at the end", outcome.backlog, "messages and events", Goal(0)),
        result("the rule: processor time per message, ours", ours, "ms", Goal(20)),
        *(
            result(f"the rule: processor time per message, {name}", each, "ms")
            for name, each in sorted(_each(outcome).items())
        ),
        result("the rule: frames to open pages", outcome.frames / seconds, "frames/s"),
    ]  # fmt: skip
    if outcome.backlog:
        left = DRAIN_SECONDS if outcome.drained_after is None else outcome.drained_after
        results.append(result("the rule: until the backlog was gone (at most 60)", left, "s"))
    return results


NAMES = {
    "uvicorn": "web", "manage.py worker": "worker", "listen_evolution": "listener",
    "postgres": "PostgreSQL", "valkey": "Valkey", "this script": "load and pages",
}  # fmt: skip


def _each(outcome: Outcome) -> dict[str, float]:
    return {
        NAMES.get(name, name): used / outcome.cpu_messages * 1000
        for name, used in outcome.cpu.items()
    }


def _ms(seconds: Sequence[float], share: float) -> float:
    ordered = sorted(seconds)
    if share == 0.5:
        return statistics.median(ordered) * 1000
    return ordered[min(len(ordered) - 1, round(len(ordered) * share))] * 1000


def search(runner: Runner, *, below: float) -> float:
    """Return the highest held rate, by 20-second loads: nine at most.

    Ends with what is known if a load leaves more behind than is done in four minutes.
    """
    held, failed = 0.0, below
    rate, doubling, left = 2.5, True, 3
    while left:
        if doubling and rate >= failed:
            doubling = False
        if not doubling:
            rate, left = round((held + failed) / 2, 1), left - 1
        if not runner.wait_until_idle():
            print(f"  {rate:g} messages/s is not tried: the backlog does not go", flush=True)
            break
        if _holds(runner, rate):
            held = rate
        else:
            failed, doubling = rate, False
        rate *= 2
    return held


def _holds(runner: Runner, rate: float) -> bool:
    outcome = runner.run(rate, SEARCH_SECONDS)
    used = of_product(outcome.cpu) / outcome.cpu_messages * 1000
    print(
        f"  {rate:6g} messages/s: {'held' if outcome.held else 'not held'},"
        f" {outcome.sent_per_second:.1f} sent/s, {outcome.webhooks_per_second:.1f} webhooks/s,"
        f" accept to provider p50 {_ms(outcome.accept_to_provider, 0.5):.0f} ms, webhook p50"
        f" {_ms(outcome.webhooks, 0.5):.0f} ms, {used:.0f} ms of processor a message, backlog"
        f" {outcome.backlog}",
        flush=True,
    )
    return outcome.held


if __name__ == "__main__":
    with running() as product:
        if "search" in sys.argv[1:]:
            print(f"highest held: {search(prepare(product), below=float('inf'))} messages/s")
        else:
            for line in measure(product, short="SHORT" in os.environ):
                print(line)
