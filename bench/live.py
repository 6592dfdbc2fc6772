"""One change to 1,000 open pages of a web process, beside a bare channel layer; idle sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import time
from typing import Any

from channels_redis.core import RedisChannelLayer

from bench import load
from bench.pages import Pages
from bench.product import (
    Product,
    another_web,
    cpu_between,
    cpu_seconds,
    login,
    paused,
    wait_for_port,
)
from bench.results import Goal, Result, result
from simulators.keep_alive import KeepAliveClient

PAGES = 1000
CHANGES = 5
PING_SECONDS, IDLE_SECONDS = 25.0, 52.0
PATIENCE = 60.0
WEB = "uvicorn"
# As in bench/bare_live.py, which needs the settings of the product.
GROUP = "bench.bare"
_changes = itertools.count()


def measure(product: Product, *, short: bool = False) -> list[Result]:
    """The pages have a web process of their own: the usual one makes the changes."""
    pages, changes = (20, 1) if short else (PAGES, CHANGES)
    ping, idle = (1.0, 2.0) if short else (PING_SECONDS, IDLE_SECONDS)
    token = product.token()
    channel = load.official_channel(product, {"Authorization": f"Token {token}"})["id"]
    cookies = login(product)
    bare_web = another_web(product, "bench.bare_live:application")
    web = another_web(product, "bench.live_web:application", BENCH_PING_SECONDS=str(ping))
    with bare_web as bare_port, web as port, paused(product, "manage.py worker"):
        wait_for_port(bare_port)
        bare = asyncio.run(_bare(product, bare_port, pages, changes))
        wait_for_port(port)
        ours, per_ping = asyncio.run(
            _ours(product, port, cookies, (token, channel), pages, changes, idle)
        )
    return [
        result(
            f"one change to {PAGES:,} open pages, last one", ours, "s",
            Goal(1.5), Goal(0.5, "ratio", at_least=True), yardstick=bare, less_is_better=True,
        ),
        result("live: processor time of an idle socket per ping", per_ping * 1000, "ms", Goal(0.5)),
    ]  # fmt: skip


async def _bare(product: Product, port: int, count: int, changes: int) -> float:
    layer = RedisChannelLayer(hosts=[product.engines()["redis_url"]], prefix="alterna")
    pages = Pages(port, "bare=1")
    await pages.open(["/"] * count)
    seconds = []
    for _ in range(changes):
        text = f"bare {next(_changes)} "
        pages.expect(text)
        began = time.perf_counter()
        await layer.group_send(GROUP, {"type": "bench.change", "text": text})
        seconds.append(await _last(pages, began))
    pages.close()
    await layer.close_pools()
    return statistics.median(seconds)


async def _last(pages: Pages, began: float) -> float:
    last = await pages.all_received(PATIENCE)
    if last is None:
        raise RuntimeError(f"{pages.missing} pages did not receive it, {pages.closed} are closed")
    return last - began


async def _ours(
    product: Product,
    port: int,
    cookies: str,
    sender: tuple[str, int],
    count: int,
    changes: int,
    idle: float,
) -> tuple[float, float]:
    """Return the median until the last page has a change, and the time of a ping in seconds."""
    token, channel = sender
    client = KeepAliveClient("127.0.0.1", product.port, timeout=30)

    async def change(text: str) -> Any:
        request = next(load.messages(token, [channel], customers=1, text=text))
        sent = load.Sent()
        body = await load.ask(client, request, sent)
        if not sent.accepted:
            raise RuntimeError(f"not accepted: {sent.statuses} {body!r}")
        return json.loads(body)

    message = await change("live")
    pages = Pages(port, cookies)
    await pages.open([f"/ws/live/?alarms=&conversation={message['conversation']}"] * count)
    seconds = []
    for _ in range(changes):
        text = f"live {next(_changes)} "
        pages.expect(text)
        began = time.perf_counter()
        await change(text)
        seconds.append(await _last(pages, began))
    # An update of the pages must not be counted as idling.
    await asyncio.sleep(1)
    pings, closed = pages.pings, pages.closed
    used = await _used(product, idle)
    pings = pages.pings - pings
    if pages.closed > closed or not pings:
        raise RuntimeError(f"{pages.closed - closed} pages were closed, {pings} pings arrived")
    pages.close()
    client.close()
    await asyncio.sleep(1)
    without_pages = await _used(product, idle)
    return statistics.median(seconds), (used - without_pages) / pings


async def _used(product: Product, seconds: float) -> float:
    """Return the processor time of web, PostgreSQL and Valkey during some seconds."""
    before = cpu_seconds(product)
    await asyncio.sleep(seconds)
    used = cpu_between(before, cpu_seconds(product))
    return used[WEB] + used["postgres"] + used["valkey"]
