"""Webhook intake of one web process on 32 connections, beside a bare application."""

from __future__ import annotations

import asyncio
from itertools import islice

from bench import events, load
from bench.product import (
    SCRIPT,
    Product,
    another_web,
    cpu_between,
    cpu_seconds,
    paused,
    wait_for_port,
)
from bench.results import Goal, Result, result

CONNECTIONS = 32
ROUNDS = 3
SECONDS = 5.0
# Prepared before each round; more than a web process takes in that time.
MAX_REQUESTS = 15_000


def measure(product: Product, *, short: bool = False) -> list[Result]:
    """Alternate between both, so that a slower moment of the machine concerns both."""
    count, rounds = (50, 1) if short else (MAX_REQUESTS, ROUNDS)
    address = product.engines()["database_url"]
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    total = 0
    with product.database() as database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS bench_bare (id bigserial PRIMARY KEY, body jsonb NOT NULL)"
        )
        bare_web = another_web(product, "bench.bare_intake:application", BARE_DATABASE_URL=address)
        with bare_web as bare, paused(product, "manage.py worker"):
            wait_for_port(bare)
            _run(bare, CONNECTIONS)
            _run(product.port, CONNECTIONS)
            used = cpu_seconds(product)
            for _ in range(rounds):
                for name, port in (("bare", bare), ("ours", product.port)):
                    stored, rate = _run(port, count)
                    total += stored
                    rates[name].append(rate)
            used = cpu_between(used, cpu_seconds(product))
            # They are of unknown messages: the worker need not read them.
            database.execute("DELETE FROM messaging_inboundevent WHERE state = 'pending'")
        database.execute("DROP TABLE bench_bare")
    best = {name: max(values) for name, values in rates.items()}
    return [
        result(
            "webhook intake, 32 connections, one web process", best["ours"], "webhooks/s",
            Goal(1.2, "ratio", at_least=True), yardstick=best["bare"],
        ),
        result(
            "webhook intake: processor time of the load per request",
            used[SCRIPT] / total * 1000, "ms",
        ),
    ]  # fmt: skip


def _run(port: int, count: int) -> tuple[int, float]:
    """Return how many were stored, and the rate."""
    prepared = iter(list(islice(events.unknown_statuses(), count)))
    sent, seconds = asyncio.run(
        load.closed_loop([port], prepared, connections=CONNECTIONS, count=count, seconds=SECONDS)
    )
    if sent.accepted != sum(sent.statuses.values()):
        raise RuntimeError(f"not all were stored: {sent.statuses}")
    return sent.accepted, sent.accepted / seconds
