"""Memory of each process at rest and while many messages with their statuses pass."""

from __future__ import annotations

import asyncio
import contextlib
import time

import psutil

from bench import load
from bench.product import Product, processes
from bench.results import Goal, Result, result
from bench.rule import NAMES, waiting

MESSAGES = 100_000
MAX_SECONDS = 600.0
STEPS = 10
CONNECTIONS = 4
PATIENCE = 300.0
# Allocators and caches move by a few per cent.
FLAT = 0.95
MINE = ("uvicorn", "manage.py worker", "listen_evolution", "valkey", "postgres")


def measure(product: Product, *, short: bool = False) -> list[Result]:
    """Send in ten steps; each begins when the one before is complete.

    Ends after ten minutes with as many messages as passed by then.
    """
    steps, step = (2, 2) if short else (STEPS, MESSAGES // STEPS)
    product.set(product.graph, status_delay=0.05)
    load.scripted(product, "played")
    token = product.token()
    channel = load.official_channel(product, {"Authorization": f"Token {token}"})["id"]
    rest = _memory(product)
    began = time.monotonic()
    samples: list[tuple[int, dict[str, float]]] = []
    while len(samples) < steps and time.monotonic() - began < MAX_SECONDS:
        left = MAX_SECONDS - (time.monotonic() - began)
        # The first tenth of what passes, if all do not fit.
        size = step if not samples else min(step, max(1, samples[0][0]))
        done = _pass(product, token, channel, size, left / 10 if not samples else left)
        total = (samples[-1][0] if samples else 0) + done
        samples.append((total, _memory(product)))
    _, first = samples[0]
    total, last = samples[-1]
    results = [result("memory: messages that passed, with four statuses each", total, "messages")]
    for kind in MINE:
        name = NAMES[kind]
        results += [
            result(f"memory of {name} at rest", rest[kind], "MB"),
            result(
                f"memory of {name} at the end", last[kind], "MB",
                Goal(FLAT, "ratio", at_least=True), yardstick=first[kind], less_is_better=True,
            ),
        ]  # fmt: skip
    return results


def _pass(product: Product, token: str, channel: int, count: int, seconds: float) -> int:
    """Send up to `count` messages in about `seconds`, wait until all is done; return how many."""
    requests = load.messages(token, [channel], customers=1000, text=f"memory {time.time():.0f}")
    done = 0
    with product.database() as database:
        ends = time.monotonic() + seconds
        while done < count and (time.monotonic() < ends or not done):
            size = min(100, count - done)
            asyncio.run(
                load.closed_loop([product.port], requests, connections=CONNECTIONS, count=size)
            )
            done += size
            deadline = time.monotonic() + PATIENCE
            while not _is_idle(product) or any(waiting(database)):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"never idle: {waiting(database)}")
                time.sleep(0.05)
    return done


def _is_idle(product: Product) -> bool:
    settled = asyncio.run(load.post(f"{product.graph}/_control/settle?timeout=5"))
    return bool(settled["settled"])


def _memory(product: Product) -> dict[str, float]:
    """Return the resident memory in MB by kind; pages that PostgreSQL shares count once."""
    used = dict.fromkeys(MINE, 0.0)
    for kind, process in processes(product):
        with contextlib.suppress(psutil.Error):
            if kind == "postgres":
                found = process.memory_full_info()
                used[kind] += getattr(found, "pss", found.rss) / 2**20
            elif kind in used:
                used[kind] += process.memory_info().rss / 2**20
    return used
