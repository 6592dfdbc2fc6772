"""Cheap generators of load: requests on connections that stay open, in one event loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests as http

from bench.product import Product
from simulators.keep_alive import KeepAliveClient

HOST = "127.0.0.1"
# Far from the numbers that select a scenario (`simulators.base`).
FIRST_CUSTOMER = 80_000_000
ANSWER_SECONDS = 30.0


@dataclass
class Sent:
    """Requests so far: durations of the answered ones, and how many got which status."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    in_flight: int = 0
    # How many were accepted before the load ended; set by `at_rate`.
    accepted_in_time: int = 0

    @property
    def accepted(self) -> int:
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300)


@dataclass(frozen=True)
class Request:
    """One POST; `headers` are complete lines."""

    target: str
    body: bytes
    headers: bytes = b""


def messages(token: str, channels: list[int], *, customers: int, text: str) -> Iterator[Request]:
    """Yield REST requests that send a text, each to the next customer by the next channel."""
    headers = f"Authorization: Token {token}\r\nContent-Type: application/json\r\n".encode()
    number = 0
    while True:
        body = {
            "channel": channels[number % len(channels)],
            "to": f"+55119{FIRST_CUSTOMER + number % customers}",
            "text": f"{text} {number}",
        }
        yield Request("/api/messages/", json.dumps(body).encode(), headers)
        number += 1


async def ask(client: KeepAliveClient, request: Request, sent: Sent) -> bytes:
    """Send one request; a failed one counts as status 0."""
    sent.in_flight += 1
    began = time.perf_counter()
    try:
        answer = await client.request("POST", request.target, request.body, request.headers)
    except (OSError, TimeoutError):
        sent.statuses[0] += 1
        return b""
    finally:
        sent.in_flight -= 1
    sent.seconds.append(time.perf_counter() - began)
    sent.statuses[answer.status] += 1
    return answer.body


async def at_rate(
    port: int,
    requests: Iterator[Request],
    *,
    per_second: float,
    seconds: float,
    sent: Sent,
    enough: Callable[[], bool] = lambda: False,
) -> float:
    """Send at a fixed rate, however long the answers take; return the duration.

    Ends early once `enough()` holds. What is not answered half a minute later counts as failed.
    """
    client = KeepAliveClient(HOST, port, limit=64, timeout=ANSWER_SECONDS)
    tasks: set[asyncio.Task[bytes]] = set()
    began = time.perf_counter()
    for number in range(round(per_second * seconds)):
        wait = began + number / per_second - time.perf_counter()
        await asyncio.sleep(max(0.0, wait))
        if enough():
            break
        task = asyncio.create_task(ask(client, next(requests), sent))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    else:
        await asyncio.sleep(max(0.0, began + seconds - time.perf_counter()))
    duration = time.perf_counter() - began
    sent.accepted_in_time = sent.accepted
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=ANSWER_SECONDS)
        for task in late:
            task.cancel()
            sent.statuses[0] += 1
        await asyncio.gather(*late, return_exceptions=True)
    client.close()
    return duration


async def closed_loop(
    ports: list[int],
    requests: Iterator[Request],
    *,
    connections: int,
    count: int,
    seconds: float = float("inf"),
) -> tuple[Sent, float]:
    """Send on each connection the next request after an answer; return the duration.

    Ends after `count` requests or some seconds. The connections take turns with the ports.
    """
    sent = Sent()
    left = count
    ends = time.perf_counter() + seconds

    async def one(port: int) -> None:
        nonlocal left
        client = KeepAliveClient(HOST, port, limit=1, timeout=60)
        while left > 0 and time.perf_counter() < ends:
            left -= 1
            await ask(client, next(requests), sent)
        client.close()

    began = time.perf_counter()
    await asyncio.gather(*(one(ports[number % len(ports)]) for number in range(connections)))
    return sent, time.perf_counter() - began


async def get(url: str, patience: float = 60) -> Any:
    """Return the JSON of a simulator's control API."""
    return await _control("GET", url, patience)


async def delete(url: str) -> Any:
    return await _control("DELETE", url, 10)


async def post(url: str, patience: float = 60) -> Any:
    return await _control("POST", url, patience)


async def _control(method: str, url: str, patience: float) -> Any:
    address, _, target = url.removeprefix("http://").partition("/")
    host, _, port = address.partition(":")
    client = KeepAliveClient(host, int(port), timeout=patience)
    try:
        return json.loads((await client.request(method, f"/{target}")).body)
    finally:
        client.close()


def scripted(product: Product, scenario: str) -> None:
    """Let the Graph simulator play this scenario for every message from now on."""
    url = f"{product.graph}/_control/script"
    unscripted(product)
    body = {"scenarios": [scenario], "forever": True}
    http.post(url, json=body, timeout=10).raise_for_status()


def unscripted(product: Product) -> None:
    """Let the Graph simulator choose each scenario by the number again."""
    http.delete(f"{product.graph}/_control/script", timeout=10).raise_for_status()


def official_channel(product: Product, headers: dict[str, str]) -> dict[str, Any]:
    """Return the demo's official channel as REST shows it."""
    url = f"{product.url}/api/channels/?kind=official"
    return dict(http.get(url, headers=headers, timeout=10).json()[0])
