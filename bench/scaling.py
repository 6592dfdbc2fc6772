"""One, two and four sets of web, worker and listener on one PostgreSQL.

Each set has a phone number of its own, whose webhooks arrive at its web process. The sets are
processes on this machine: on few processors they share them, and only the work of PostgreSQL per
message shows how far one database reaches.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator

import psycopg
import requests

from bench import load
from bench.product import (
    Product,
    another,
    another_web,
    cpu_between,
    cpu_seconds,
    of_product,
    wait_for_port,
)
from bench.results import Goal, Result, result
from bench.rule import waiting
from messaging import demo_settings

SETS = (1, 2, 4)
MESSAGES = 400
CONNECTIONS = 8
PATIENCE = 300.0
# A set needs two: web and worker are busy at the same time.
PROCESSORS_OF_A_SET = 2
LINEAR = 0.8
NOTIFY_SECONDS = 5.0
COMMITTERS = 16


def measure(product: Product, *, short: bool = False) -> list[Result]:
    """Send a number of messages with four statuses each, as fast as the sets complete them."""
    sizes, count = ((1, 2), 6) if short else (SETS, MESSAGES)
    product.set(product.graph, status_delay=0.05)
    load.scripted(product, "played")
    token = product.token()
    ports, channels = [product.port], [_channel(product, token, 0, product.port)]
    results = _notifying_commits(product, 0.3 if short else NOTIFY_SECONDS)
    one = 0.0
    with contextlib.ExitStack() as sets:
        for size in sizes:
            while len(ports) < size:
                ports.append(sets.enter_context(_one_more(product)))
                channels.append(_channel(product, token, len(ports) - 1, ports[-1]))
            _run(product, token, ports, channels, 4 * size)
            before = cpu_seconds(product)
            rate = _run(product, token, ports, channels, count)
            used = cpu_between(before, cpu_seconds(product))
            one = one or rate
            name = f"scaling: {size} {'set' if size == 1 else 'sets'}"
            enough = (os.cpu_count() or 1) >= PROCESSORS_OF_A_SET * size
            goals = [Goal(LINEAR * size, "ratio", at_least=True)] if size > 1 and enough else []
            results += [
                result(name, rate, "messages/s", *goals, yardstick=one),
                result(
                    f"{name}, processor time of PostgreSQL per message",
                    used["postgres"] / count * 1000, "ms",
                ),
                result(
                    f"{name}, processor time per message, ours",
                    of_product(used) / count * 1000, "ms",
                ),
            ]  # fmt: skip
    return results


def _notifying_commits(product: Product, seconds: float) -> list[Result]:
    """Count how many small transactions with a notification the database commits.

    PostgreSQL takes one lock for all databases from the notification to the end of the commit, so
    notifying transactions commit one after another, on however many processors.
    """
    address = product.engines()["database_url"]
    with product.database() as database:
        database.execute("CREATE TABLE IF NOT EXISTS bench_commits (at timestamptz)")
        insert = "INSERT INTO bench_commits VALUES (now())"
        plain = asyncio.run(_commits(address, [insert], seconds))
        notify = "SELECT pg_notify('bench', gen_random_uuid()::text)"
        notifying = asyncio.run(_commits(address, [insert, notify], seconds))
        database.execute("DROP TABLE bench_commits")
    return [
        result(
            f"scaling: commits with NOTIFY, {COMMITTERS} connections", notifying, "commits/s",
            yardstick=plain,
        )
    ]  # fmt: skip


async def _commits(address: str, statements: list[str], seconds: float) -> float:
    committed = 0

    async def commit() -> None:
        nonlocal committed
        async with await psycopg.AsyncConnection.connect(address) as connection:
            while time.perf_counter() < ends:
                for statement in statements:
                    await connection.execute(statement)
                await connection.commit()
                committed += 1

    ends = time.perf_counter() + seconds
    await asyncio.gather(*(commit() for _ in range(COMMITTERS)))
    return committed / seconds


@contextlib.contextmanager
def _one_more(product: Product) -> Iterator[int]:
    """Run one more set; yields the port of its web process."""
    with (
        another(product, "manage.py", "worker"),
        another(product, "manage.py", "listen_evolution"),
        another_web(product) as port,
    ):
        wait_for_port(port)
        yield port


def _channel(product: Product, token: str, number: int, port: int) -> int:
    """Create a channel whose number's webhooks go to this port; return its id."""
    phone_number_id = str(106540352243000 + number)
    graph_number = {
        "phone_number_id": phone_number_id,
        "token": demo_settings.ACCESS_TOKEN,
        "app_secret": demo_settings.APP_SECRET,
        "webhook_url": f"http://127.0.0.1:{port}/api/webhooks/cloud",
    }
    requests.post(
        f"{product.graph}/_control/numbers", json=graph_number, timeout=10
    ).raise_for_status()
    body = {
        "name": f"Set {number}",
        "kind": "official",
        "phone_number_id": phone_number_id,
        "graph_url": product.graph,
        "access_token": demo_settings.ACCESS_TOKEN,
        "app_secret": demo_settings.APP_SECRET,
    }
    headers = {"Authorization": f"Token {token}"}
    made = requests.post(f"{product.url}/api/channels/", json=body, headers=headers, timeout=20)
    if not made.ok:
        raise RuntimeError(made.text)
    return int(made.json()["id"])


def _run(
    product: Product, token: str, ports: list[int], channels: list[int], count: int
) -> float:  # fmt: skip
    text = f"set {len(ports)} {time.time():.0f}"
    accepted = load.messages(token, channels, customers=500, text=text)
    began = time.perf_counter()
    sent, _ = asyncio.run(load.closed_loop(ports, accepted, connections=CONNECTIONS, count=count))
    if sent.accepted != count:
        raise RuntimeError(f"not all were accepted: {sent.statuses}")
    with product.database() as database:
        while time.perf_counter() - began < PATIENCE:
            settled = asyncio.run(load.post(f"{product.graph}/_control/settle?timeout=5"))
            if settled["settled"] and not any(waiting(database)):
                return count / (time.perf_counter() - began)
            time.sleep(0.02)
        raise RuntimeError(f"not all are complete: {waiting(database)}")
