"""Statuses applied by one reader, 100 in a webhook, beside the parse of the same bytes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import psycopg

from bench import events, load
from bench.product import Product, paused
from bench.results import Goal, Result, result

IN_A_WEBHOOK = 100
MESSAGES = 1000
SAMPLE_SECONDS = 0.004
PATIENCE = 300.0


def measure(product: Product, *, short: bool = False) -> list[Result]:
    """Store sent messages, receive their statuses while the worker is stopped, let it read."""
    bodies = _bodies(product, 25 if short else MESSAGES)
    count = sum(body.count(b'"status":"') for body in bodies)
    parsed = _parse_rate(bodies, count)
    with product.database() as database:
        _wait_until_read(database)
        with paused(product, "manage.py worker"):
            _post(product, bodies)
            locks = LongestLock(product)
        seconds = _wait_until_read(database)
        longest = locks.stop()
        wrong = database.execute(
            "SELECT count(*) FROM messaging_message m JOIN messaging_deliveryattempt a"
            " ON a.message_id = m.id WHERE a.provider_message_id LIKE 'wamid.BENCH%'"
            " AND m.status <> 'read'"
        ).fetchone()
    if wrong and wrong[0]:
        raise RuntimeError(f"{wrong[0]} messages are not read")
    return [
        result(
            "statuses applied by one reader, 100 in a webhook", count / seconds, "statuses/s",
            Goal(3000, at_least=True), yardstick=parsed,
        ),
        result("statuses: longest transaction that holds row locks", longest, "s", Goal(0.2)),
    ]  # fmt: skip


def _bodies(product: Product, count: int) -> list[bytes]:
    channel = load.official_channel(product, product.headers())["id"]
    rows = json.loads(product.python("-m", "bench.rows", str(count), str(channel)))
    updates = [
        events.status(id_, wamid, customer, name)
        for name in events.STATUSES
        for id_, wamid, customer in rows
    ]
    return [
        events.body(updates[start : start + IN_A_WEBHOOK])
        for start in range(0, len(updates), IN_A_WEBHOOK)
    ]


def _parse_rate(bodies: list[bytes], count: int) -> float:
    from django.conf import settings

    if not settings.configured:  # the parser's texts are marked for translation
        settings.configure(USE_I18N=False)
    from channels_app.providers.cloud import events as parser

    began = time.perf_counter()
    found = sum(len(list(parser.read(json.loads(body)))) for body in bodies)
    seconds = time.perf_counter() - began
    if found != count:
        raise RuntimeError(f"{found} events parsed of {count}")
    return count / seconds


def _post(product: Product, bodies: list[bytes]) -> None:
    prepared = map(events.request, bodies)
    sent, _ = asyncio.run(
        load.closed_loop([product.port], prepared, connections=1, count=len(bodies))
    )
    if sent.accepted != len(bodies):
        raise RuntimeError(f"not all were stored: {sent.statuses}")


def _wait_until_read(database: psycopg.Connection[Any]) -> float:
    """Wait until no event is pending; return how long it took."""
    began = time.perf_counter()
    sql = "SELECT count(*) FROM messaging_inboundevent WHERE state = 'pending'"
    while True:
        row = database.execute(sql).fetchone()
        elapsed = time.perf_counter() - began
        if row and not row[0]:
            return elapsed
        if elapsed > PATIENCE:
            raise RuntimeError(f"{row} events are never read")
        time.sleep(0.01)


class LongestLock:
    """Samples the transactions that have written or locked a row, until `stop`.

    PostgreSQL gives a transaction its id with its first lock on a row and releases the locks at
    its end. So the time with an id is at least that of each of its locks.
    """

    def __init__(self, product: Product) -> None:
        self._database = product.database()
        self._ended = threading.Event()
        self._seen: dict[str, tuple[float, float]] = {}
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        sql = "SELECT backend_xid::text FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
        while not self._ended.wait(SAMPLE_SECONDS):
            now = time.perf_counter()
            for (xid,) in self._database.execute(sql):
                first, _ = self._seen.get(xid, (now, now))
                self._seen[xid] = first, now

    def stop(self) -> float:
        """Return the longest time in seconds; one sample longer than it was seen."""
        self._ended.set()
        self._thread.join()
        self._database.close()
        longest = max((last - first for first, last in self._seen.values()), default=0.0)
        return longest + SAMPLE_SECONDS
