"""How soon a send becomes unconfirmed after its worker is killed in the middle of it."""

from __future__ import annotations

import statistics
import time

import requests

from bench import load
from bench.product import Product, percentiles, processes
from bench.results import Goal, Result, result

KILLS = 5
PATIENCE = 60.0


def measure(product: Product, *, short: bool = False) -> list[Result]:
    """Kill the worker during a send, five times. The settings are the default ones."""
    headers = product.headers()
    url = f"{product.url}/api/channels/"
    channel = load.official_channel(product, headers)
    load.unscripted(product)
    # Only the worker's death may end the attempt.
    _limit(f"{url}{channel['id']}/", headers, 120)
    kills = 1 if short else KILLS
    seconds = [_kill(product, headers, channel["id"], number) for number in range(kills)]
    _limit(f"{url}{channel['id']}/", headers, channel["request_timeout_seconds"])
    percentiles("worker killed in the middle of a send -> unconfirmed", seconds)
    median = statistics.median(seconds)
    return [result("worker killed during a send, until unconfirmed, p50", median, "s", Goal(30))]


def _limit(url: str, headers: dict[str, str], seconds: int) -> None:
    body = {"request_timeout_seconds": seconds}
    requests.patch(url, json=body, headers=headers, timeout=10).raise_for_status()


def _kill(product: Product, headers: dict[str, str], channel: int, number: int) -> float:
    body = {"channel": channel, "to": f"+55{11 + number}999990080", "text": f"crash {number}"}
    sent = requests.post(f"{product.url}/api/messages/", json=body, headers=headers, timeout=10)
    address = f"{product.url}/api/messages/{sent.json()['id']}/"
    _wait(address, headers, "sending")
    for name, process in processes(product):
        if name == "manage.py worker":
            process.kill()
    killed = time.monotonic()
    message = _wait(address, headers, "unconfirmed")
    assert [attempt["error_code"] for attempt in message["attempts"]] == ["worker_lost"]
    return time.monotonic() - killed


def _wait(address: str, headers: dict[str, str], status: str) -> dict[str, list[dict[str, str]]]:
    deadline = time.monotonic() + PATIENCE
    while True:
        message = requests.get(address, headers=headers, timeout=10).json()
        if message["status"] == status:
            return dict(message)
        if time.monotonic() > deadline:
            raise RuntimeError(f"never {status}: {message['status']}")
        time.sleep(0.05)
