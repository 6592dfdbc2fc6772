"""Socket.IO events to the journal, beside a bare client that counts the same events."""

from __future__ import annotations

import asyncio
import itertools
import time

import requests
import socketio

from bench.product import Product, cpu_between, cpu_seconds, paused
from bench.receive_mode import SHORT, Bench, Plan, wait_for
from bench.results import Goal, Result, result

OURS, BARE = "bench_socket", "bench_bare"
EVENTS = 3000
# More than the simulator can emit: it emits as fast as it can.
PER_SECOND = 100_000.0
PATIENCE = 300.0
_runs = itertools.count()


def measure(product: Product, *, short: bool = False) -> list[Result]:
    """Let the simulator emit as fast as it can, first to a bare client, then to the listener."""
    count = 100 if short else EVENTS
    api = requests.Session()
    api.headers.update(product.headers())
    with product.database() as database:
        bench = Bench(product, api, database, SHORT if short else Plan())
        bench.create(BARE)
        bare = asyncio.run(_bare(bench, count))
        bench.add(OURS)
        joined = wait_for(lambda: bench.switch("websocket", OURS) == 200, 30)
        assert joined, "the listener does not join"
        # Only the way to the journal is measured, not what the worker does then.
        with paused(product, "manage.py worker"):
            _listener(bench, 20)
            used = cpu_seconds(product)
            ours = _listener(bench, count)
            used = cpu_between(used, cpu_seconds(product))
    return [
        result(
            "Socket.IO events to the journal, one listener", ours, "events/s",
            Goal(0.8, "ratio", at_least=True), yardstick=bare,
        ),
        result(
            "Socket.IO events: processor time of the listener per event",
            used["listen_evolution"] / count * 1000, "ms",
        ),
        result(
            "Socket.IO events: processor time of the simulators per event",
            used["simulators"] / count * 1000, "ms",
        ),
    ]  # fmt: skip


def _flood(bench: Bench, instance: str, count: int) -> None:
    bench.control(
        "flood", instance=instance, count=count, per_second=PER_SECOND,
        prefix=f"SOCKET{next(_runs)}N",
    )  # fmt: skip


async def _bare(bench: Bench, count: int) -> float:
    client = socketio.AsyncClient(reconnection=False)
    counted = 0
    complete = asyncio.Event()

    def on_event(payload: object) -> None:
        nonlocal counted
        counted += 1
        if counted >= count:
            complete.set()

    client.on("messages.upsert", on_event, namespace=f"/{BARE}")
    await client.connect(
        bench.evolution, headers={"apikey": bench.key}, transports=["websocket"],
        namespaces=[f"/{BARE}"],
    )  # fmt: skip
    _set_events(bench, BARE)
    began = time.perf_counter()
    await asyncio.to_thread(_flood, bench, BARE, count)
    async with asyncio.timeout(PATIENCE):
        await complete.wait()
    seconds = time.perf_counter() - began
    await client.disconnect()
    return count / seconds


def _set_events(bench: Bench, name: str) -> None:
    body = {"websocket": {"enabled": True, "events": ["MESSAGES_UPSERT"]}}
    requests.post(
        f"{bench.evolution}/websocket/set/{name}", json=body, headers={"apikey": bench.key},
        timeout=10,
    ).raise_for_status()  # fmt: skip


def _listener(bench: Bench, count: int) -> float:
    last = bench.query("SELECT coalesce(max(id), 0) FROM messaging_inboundevent")
    sql = (
        "SELECT count(*) FROM messaging_inboundevent"
        " WHERE id > %s AND payload->>'event' = 'messages.upsert'"
    )
    began = time.perf_counter()
    _flood(bench, OURS, count)
    if not wait_for(lambda: bench.query(sql, last) >= count, PATIENCE):
        raise RuntimeError(f"{bench.query(sql, last)} of {count} events are stored")
    return count / (time.perf_counter() - began)
