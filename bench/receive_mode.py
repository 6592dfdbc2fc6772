"""Receive modes: how fast they switch, how fast events appear, and whether any event is lost.

Runs a complete product against the Evolution simulator: web, worker, one listener, PostgreSQL and
Valkey share the machine with the simulator and this script.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil
import psycopg
import requests

from bench.product import ROOT, Product, login, open_page, percentiles, running, wait_for_frame

NAME = "bench"
SWITCHES = 50
VISIBLE = 200
SESSIONS = 200
CHANGES = 20
TAKEOVERS, TAKEN_OVER = 5, 20
RATE, SECONDS = 300, 60
BUSY_SWITCHES, BUSY_RATE, BUSY_SECONDS = 100, 100, 40
DRAIN_SECONDS = 400


@dataclass
class Bench:
    """A product, the simulator behind it, and its database."""

    product: Product
    api: requests.Session
    database: psycopg.Connection[Any]

    @property
    def evolution(self) -> str:
        return self.product.evolution

    def control(self, endpoint: str, **options: Any) -> Any:
        response = requests.post(f"{self.evolution}/_control/{endpoint}", json=options, timeout=10)
        response.raise_for_status()
        return response.json()

    def add(self, name: str) -> None:
        """Create a Baileys channel and an instance whose namespace exists."""
        headers = {"apikey": self.key}
        body = {"instanceName": name, "integration": "WHATSAPP-BAILEYS"}
        created = requests.post(
            f"{self.evolution}/instance/create", json=body, headers=headers, timeout=10
        )
        created.raise_for_status()
        socket = {"websocket": {"enabled": True, "events": ["CALL"]}}
        address = f"{self.evolution}/websocket/set/{name}"
        requests.post(address, json=socket, headers=headers, timeout=10).raise_for_status()
        self.control("event", instance=name, event="call", data={}, socket_only=True)
        channel = {
            "name": name,
            "kind": "baileys",
            "evolution_url": self.evolution,
            "evolution_api_key": self.key,
            "instance_name": name,
        }
        response = self.api.post(f"{self.product.url}/api/channels/", json=channel, timeout=10)
        response.raise_for_status()

    @property
    def key(self) -> str:
        settings = requests.get(f"{self.evolution}/_control/settings", timeout=10).json()
        return str(settings["api_key"])

    def switch(self, to: str, name: str = NAME) -> int:
        address = f"{self.product.url}/api/instance-management/enable-{to}/{name}"
        return self.api.post(address, timeout=30).status_code

    def joined(self, prefix: str) -> int:
        """Count the instances with this prefix that have a client in their namespace."""
        rows = requests.get(f"{self.evolution}/_control/instances", timeout=10).json()["instances"]
        return sum(row["clients"] > 0 for name, row in rows.items() if name.startswith(prefix))

    def set_websocket_mode(self, prefix: str) -> None:
        """Set these sessions to WebSocket mode in the database, without a notification."""
        self.database.execute(
            "UPDATE instances_whatsappsession SET webhook_enabled = false, websocket_enabled ="
            " true, webhook_url = NULL, webhook_base64 = NULL WHERE channel_id IN"
            " (SELECT channel_id FROM channels_app_evolutioncredentials"
            " WHERE instance_name LIKE %s)",
            [f"{prefix}%"],
        )

    def query(self, sql: str, *values: Any) -> Any:
        row = self.database.execute(sql, values).fetchone()
        return row[0] if row else None

    def stored(self, prefix: str) -> int:
        """Count the messages of a flood that are stored."""
        sql = "SELECT count(*) FROM messaging_message WHERE provider_message_id LIKE %s"
        return int(self.query(sql, f"{prefix}%"))

    def flood(self, prefix: str, *, count: int, rate: float) -> None:
        # A separate sender, so that other floods' rows do not slow down this conversation.
        self.control(
            "flood",
            instance=NAME,
            count=count,
            per_second=rate,
            prefix=prefix,
            **{"from": f"55119{abs(hash(prefix)) % 10**8:08d}"},
        )

    def emitted(self) -> dict[str, Any]:
        # The simulator responds slowly while it waits for hundreds of receivers.
        floods = requests.get(f"{self.evolution}/_control/floods", timeout=120).json()
        return dict(floods[-1])


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def main(*chosen: str) -> None:
    """Run all or the chosen measurements and print their figures."""
    with running() as product, contextlib.ExitStack() as stack:
        engines = json.loads((product.data_dir / "engines.json").read_text())
        database = psycopg.connect(engines["database_url"], autocommit=True)
        stack.callback(database.close)
        api = requests.Session()
        api.headers["Authorization"] = f"Token {product.token()}"
        bench = Bench(product, api, database)
        bench.add(NAME)
        ok = wait_for(lambda: bench.switch("websocket") == 200, 20)
        assert ok, "the first switch"
        for measure in (switches, changes, visible, steady, busy, takeovers, sessions):
            if not chosen or measure.__name__ in chosen:
                measure(bench)


def switches(bench: Bench) -> None:
    """Time of the whole call, in both directions."""
    times: dict[str, list[float]] = {"webhook": [], "websocket": []}
    for number in range(SWITCHES):
        to = "webhook" if number % 2 == 0 else "websocket"
        started = time.perf_counter()
        status = bench.switch(to)
        times[to].append(time.perf_counter() - started)
        assert status == 200, (to, status)
    percentiles("switch to webhook", times["webhook"])
    percentiles("switch to WebSocket", times["websocket"])
    percentiles(
        "switch, both directions (wanted: p50 <= 500 ms)", [*times["webhook"], *times["websocket"]]
    )


def changes(bench: Bench) -> None:
    """Time from the mode in the database to the listener's socket, without a notification."""
    times = []
    for number in range(CHANGES):
        name = f"change_{number:02d}"
        bench.add(name)
        started = time.perf_counter()
        bench.set_websocket_mode(name)
        assert wait_for(lambda name=name: bench.joined(name) == 1, 20)  # type: ignore[misc]
        times.append(time.perf_counter() - started)
    percentiles("mode in the database to joined (wanted: <= 1 s)", times)


def visible(bench: Bench) -> None:
    """Time from the emission to the message on an open page of its conversation."""
    cookies = login(bench.product)
    bench.control("inbound", instance=NAME, id="VIS", text="oi", **{"from": "5511955550000"})
    sql = "SELECT conversation_id FROM messaging_message WHERE provider_message_id = 'VIS'"
    assert wait_for(lambda: bool(bench.query(sql)), 20)
    page = open_page(bench.product, cookies, conversation=bench.query(sql))
    for mode in ("webhook", "websocket"):
        assert bench.switch(mode) == 200
        time.sleep(1)
        times = []
        for number in range(VISIBLE):
            text = f"VIS{mode}{number:03d}"
            started = time.time()
            bench.control("inbound", instance=NAME, id=text, text=text, **{"from": "5511955550000"})
            times.append(wait_for_frame(page, "message", text) - started)
            time.sleep(0.02)
        target = " (wanted: p50 <= 100 ms)" if mode == "websocket" else ""
        percentiles(f"event by {mode} to an open page{target}", times)


def steady(bench: Bench) -> None:
    """A steady stream of events in each mode."""
    for mode in ("websocket", "webhook"):
        assert bench.switch(mode) == 200
        time.sleep(1)
        prefix, count = f"STEADY{mode.upper()}", RATE * SECONDS
        started = time.perf_counter()
        bench.flood(prefix, count=count, rate=RATE)
        assert wait_for(lambda: bool(bench.emitted()["done"]), SECONDS * 3)
        emitted = time.perf_counter() - started
        wait_for(lambda prefix=prefix, count=count: bench.stored(prefix) >= count, DRAIN_SECONDS)  # type: ignore[misc]
        stored = bench.stored(prefix)
        print(
            f"{RATE}/s by {mode}: {count} emitted in {emitted:.1f} s, {count - stored} lost,"
            f" all stored {time.perf_counter() - started - emitted:.1f} s later",
            flush=True,
        )


def busy(bench: Bench) -> None:
    """Switch back and forth while events arrive."""
    prefix, count = "BUSY", BUSY_RATE * BUSY_SECONDS
    bench.flood(prefix, count=count, rate=BUSY_RATE)
    results: dict[int, int] = {}
    times = []
    began = time.perf_counter()
    for number in range(BUSY_SWITCHES):
        started = time.perf_counter()
        status = bench.switch("webhook" if number % 2 == 0 else "websocket")
        times.append(time.perf_counter() - started)
        results[status] = results.get(status, 0) + 1
        due = began + (number + 1) * BUSY_SECONDS / BUSY_SWITCHES
        time.sleep(max(0.0, due - time.perf_counter()))
    meanwhile = int(bench.emitted()["emitted"])
    assert wait_for(lambda: bool(bench.emitted()["done"]), BUSY_SECONDS * 3)
    wait_for(lambda: bench.stored(prefix) >= count, DRAIN_SECONDS)
    sql = "SELECT count(*) FROM (SELECT {} FROM messaging_message WHERE text LIKE 'flood %%' AND"
    sql += " provider_message_id LIKE %s) AS found"
    rows = int(bench.query(sql.format("1"), f"{prefix}%"))
    texts = int(bench.query(sql.format("DISTINCT text"), f"{prefix}%"))
    percentiles(f"switch while {BUSY_RATE} events/s arrive", times)
    print(
        f"{BUSY_SWITCHES} switches {results} while {meanwhile} of {count} events arrived:"
        f" {count - texts} lost, {rows - texts} duplicated",
        flush=True,
    )


def takeovers(bench: Bench) -> None:
    """Time from killing one of two listeners to the last of its sessions joined again."""
    prefix = "over_"
    for number in range(TAKEN_OVER):
        bench.add(f"{prefix}{number:02d}")
    bench.set_websocket_mode(prefix)
    assert wait_for(lambda: bench.joined(prefix) == TAKEN_OVER, 20)
    times = []
    for _ in range(TAKEOVERS):
        second = subprocess.Popen(
            [sys.executable, "manage.py", "listen_evolution"],
            cwd=ROOT, env=bench.product.environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        shared = wait_for(partial(_has_half, second, bench.product.port + 3), 30)
        assert shared, "no sessions were given to the second listener"
        time.sleep(4)  # until the first one has released the sessions that it handed over
        second.kill()
        started = time.perf_counter()
        second.wait()
        lost = wait_for(lambda: bench.joined(prefix) < TAKEN_OVER, 5)
        assert lost, "its sessions were never without a socket"
        assert wait_for(lambda: bench.joined(prefix) == TAKEN_OVER, 30)
        times.append(time.perf_counter() - started)
    percentiles(f"{TAKEN_OVER // 2} sessions of a killed listener taken over (wanted: 5 s)", times)


def _has_half(listener: subprocess.Popen[bytes], port: int) -> bool:
    sockets = psutil.Process(listener.pid).net_connections()
    return sum(s.raddr[1:] == (port,) for s in sockets) >= TAKEN_OVER // 2


def sessions(bench: Bench) -> None:
    """Many sessions in one listener process."""
    prefix = "many_"
    for number in range(SESSIONS):
        bench.add(f"{prefix}{number:03d}")
    started = time.perf_counter()
    bench.set_websocket_mode(prefix)
    ok = wait_for(lambda: bench.joined(prefix) >= SESSIONS, 60)
    joined = time.perf_counter() - started
    time.sleep(10)
    for process in psutil.Process(bench.product.process.pid).children(recursive=True):
        if "listen_evolution" in " ".join(process.cmdline()):
            memory = process.memory_info().rss / 2**20
            share = process.cpu_percent(interval=5)
            print(
                f"{SESSIONS} sessions in one listener: joined {ok} in {joined:.1f} s,"
                f" {memory:.0f} MB (wanted: <= 300), {process.num_threads()} threads,"
                f" {share:.1f} % of a processor while idle",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
