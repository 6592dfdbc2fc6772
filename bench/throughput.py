"""Send throughput with one and two workers over many conversations, beside a pooled client."""

from __future__ import annotations

import asyncio
import itertools
import time

import requests

from bench import load
from bench.product import Product, another, cpu_between, cpu_seconds, of_product, paused, processes
from bench.results import Goal, Result, result
from messaging import demo_settings

MESSAGES = 600
PATIENCE = 300.0
WORKER = "manage.py worker"
_runs = itertools.count()


def measure(product: Product, *, short: bool = False) -> list[Result]:
    """Accept messages while the workers are stopped, then let them send all at once."""
    count = 20 if short else MESSAGES
    load.scripted(product, "silent")
    token = product.token()
    channel = load.official_channel(product, {"Authorization": f"Token {token}"})["id"]
    client = _client_rate(product, count)
    used = cpu_seconds(product)
    one = _send(product, token, channel, count)
    used = cpu_between(used, cpu_seconds(product))
    with another(product, "manage.py", "worker"):
        _wait_for_workers(product, 2)
        two = _send(product, token, channel, count)
    load.unscripted(product)
    return [
        result(
            "send throughput, one worker", one, "messages/s",
            Goal(0.8, "ratio", at_least=True), yardstick=client,
        ),
        result("send throughput, two workers", two, "messages/s", yardstick=client),
        result(
            "send throughput, two workers beside one", two, "messages/s",
            Goal(1.6, "ratio", at_least=True), yardstick=one,
        ),
        result(
            "send throughput: processor time per message, ours, acceptance included",
            of_product(used) / count * 1000, "ms",
        ),
        result(
            "send throughput: processor time per message, simulators",
            used["simulators"] / count * 1000, "ms",
        ),
    ]  # fmt: skip


def _client_rate(product: Product, count: int) -> float:
    """Send the same bodies with `requests` in a loop."""
    url = f"{product.graph}/v23.0/{demo_settings.PHONE_NUMBER_ID}/messages"
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {demo_settings.ACCESS_TOKEN}"
    began = time.perf_counter()
    for number in range(count):
        body = {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": f"+55119{load.FIRST_CUSTOMER + number}",
            "type": "text",
            "text": {"body": f"client {number}"},
            "biz_opaque_callback_data": f"client{number}.1",
        }
        session.post(url, json=body, timeout=10).raise_for_status()
    return count / (time.perf_counter() - began)


def _send(product: Product, token: str, channel: int, count: int) -> float:
    """Return the rate from the first to the last request that the provider receives."""
    requests.delete(f"{product.graph}/_control/book", timeout=10).raise_for_status()
    accepted = load.messages(token, [channel], customers=count, text=f"throughput {next(_runs)}")
    with paused(product, WORKER):
        sent, _ = asyncio.run(
            load.closed_loop([product.port], accepted, connections=4, count=count)
        )
        if sent.accepted != count:
            raise RuntimeError(f"not all were accepted: {sent.statuses}")
        resumed = time.time()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(0.3)
        entries = requests.get(f"{product.graph}/_control/book", timeout=60).json()["messages"]
        if len(entries) >= count:
            return float(count / (max(entry["at"] for entry in entries) - resumed))
    raise RuntimeError(f"only {len(entries)} of {count} were sent")


def _wait_for_workers(product: Product, count: int) -> None:
    """Wait until this many workers have registered with the queue."""
    with product.database() as database:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            row = database.execute("SELECT count(*) FROM procrastinate_workers").fetchone()
            if row and row[0] >= count:
                break
            time.sleep(0.1)
        else:
            raise RuntimeError("the second worker does not start")
    running = sum(name == WORKER for name, _ in processes(product))
    if running != count:
        raise RuntimeError(f"{running} workers are running")
