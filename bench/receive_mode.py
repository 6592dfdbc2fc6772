"""Receive modes: how fast they switch, how fast events appear, and whether any event is lost.

Runs a complete product against the Evolution simulator: web, worker, one listener, PostgreSQL and
Valkey share the machine with the simulator and this script.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
import psycopg
import requests

from bench.product import ROOT, Product, login, open_page, percentiles, running, wait_for_frame
from bench.results import Goal, Result, result

NAME = "bench"
DRAIN_SECONDS = 400


@dataclass(frozen=True, slots=True)
class Plan:
    """How often and how long each measurement runs."""

    switches: int = 50
    visible: int = 200
    sessions: int = 200
    changes: int = 20
    takeovers: int = 5
    taken_over: int = 20
    rate: int = 300
    seconds: int = 60
    busy_switches: int = 100
    busy_rate: int = 100
    busy_seconds: int = 40
    settle_seconds: float = 10.0
    pause_seconds: float = 1.0


SHORT = Plan(
    switches=2, visible=2, sessions=3, changes=1, takeovers=0, rate=50, seconds=1,
    busy_switches=2, busy_rate=20, busy_seconds=1, settle_seconds=0.2, pause_seconds=0.0,
)  # fmt: skip


@dataclass
class Bench:
    """A product, the simulator behind it, and its database."""

    product: Product
    api: requests.Session
    database: psycopg.Connection[Any]
    plan: Plan
    results: list[Result] = field(default_factory=list)

    @property
    def evolution(self) -> str:
        return self.product.evolution

    def control(self, endpoint: str, **options: Any) -> Any:
        response = requests.post(f"{self.evolution}/_control/{endpoint}", json=options, timeout=10)
        response.raise_for_status()
        return response.json()

    def create(self, name: str) -> None:
        """Create an instance whose namespace exists in the simulator."""
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

    def add(self, name: str) -> None:
        """Create an instance and a Baileys channel for it."""
        self.create(name)
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

    def found(self, name: str, seconds: Sequence[float], limit: float) -> None:
        """Add the median with its limit in milliseconds to the results."""
        median = statistics.median(seconds) * 1000
        self.results.append(result(name, median, "ms", Goal(limit)))

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


def measure(product: Product, *chosen: str, short: bool = False) -> list[Result]:
    """Run all or the chosen measurements and print their figures."""
    api = requests.Session()
    api.headers.update(product.headers())
    with product.database() as database:
        bench = Bench(product, api, database, SHORT if short else Plan())
        bench.add(NAME)
        ok = wait_for(lambda: bench.switch("websocket") == 200, 20)
        assert ok, "the first switch"
        for part in (switches, changes, visible, steady, busy, takeovers, sessions):
            if not chosen or part.__name__ in chosen:
                part(bench)
    return bench.results


def switches(bench: Bench) -> None:
    """Time of the whole call, in both directions."""
    times: dict[str, list[float]] = {"webhook": [], "websocket": []}
    for number in range(bench.plan.switches):
        to = "webhook" if number % 2 == 0 else "websocket"
        started = time.perf_counter()
        status = bench.switch(to)
        times[to].append(time.perf_counter() - started)
        assert status == 200, (to, status)
    percentiles("switch to webhook", times["webhook"])
    percentiles("switch to WebSocket", times["websocket"])
    for to, seconds in times.items():
        bench.found(f"receive mode: switch to {to}, p50", seconds, 500)
    percentiles(
        "switch, both directions (wanted: p50 <= 500 ms)", [*times["webhook"], *times["websocket"]]
    )


def changes(bench: Bench) -> None:
    """Time from the mode in the database to the listener's socket, without a notification."""
    times = []
    for number in range(bench.plan.changes):
        name = f"change_{number:02d}"
        bench.add(name)
        started = time.perf_counter()
        bench.set_websocket_mode(name)
        assert wait_for(lambda name=name: bench.joined(name) == 1, 20)  # type: ignore[misc]
        times.append(time.perf_counter() - started)
    percentiles("mode in the database to joined (wanted: <= 1 s)", times)
    bench.found("receive mode: mode in the database to joined, p50", times, 1000)


def visible(bench: Bench) -> None:
    """Time from the emission to the message on an open page of its conversation."""
    cookies = login(bench.product)
    bench.control("inbound", instance=NAME, id="VIS", text="oi", **{"from": "5511955550000"})
    sql = "SELECT conversation_id FROM messaging_message WHERE provider_message_id = 'VIS'"
    assert wait_for(lambda: bool(bench.query(sql)), 20)
    page = open_page(bench.product, cookies, conversation=bench.query(sql))
    for mode in ("webhook", "websocket"):
        assert bench.switch(mode) == 200
        time.sleep(bench.plan.pause_seconds)
        times = []
        for number in range(bench.plan.visible):
            text = f"VIS{mode}{number:03d}"
            started = time.time()
            bench.control("inbound", instance=NAME, id=text, text=text, **{"from": "5511955550000"})
            times.append(wait_for_frame(page, "message", text) - started)
            time.sleep(0.02)
        target = " (wanted: p50 <= 100 ms)" if mode == "websocket" else ""
        percentiles(f"event by {mode} to an open page{target}", times)
        bench.found(f"receive mode: event by {mode} to an open page, p50", times, 100)


def steady(bench: Bench) -> None:
    """A steady stream of events in each mode."""
    for mode in ("websocket", "webhook"):
        assert bench.switch(mode) == 200
        time.sleep(bench.plan.pause_seconds)
        prefix, count = f"STEADY{mode.upper()}", bench.plan.rate * bench.plan.seconds
        started = time.perf_counter()
        bench.flood(prefix, count=count, rate=bench.plan.rate)
        assert wait_for(lambda: bool(bench.emitted()["done"]), bench.plan.seconds * 3)
        emitted = time.perf_counter() - started
        wait_for(lambda prefix=prefix, count=count: bench.stored(prefix) >= count, DRAIN_SECONDS)  # type: ignore[misc]
        stored, drained = bench.stored(prefix), time.perf_counter() - started - emitted
        name = f"receive mode: events lost of {count} at {bench.plan.rate}/s by {mode}"
        bench.results.append(result(name, count - stored, "events", Goal(0)))
        print(
            f"{bench.plan.rate}/s by {mode}: {count} emitted in {emitted:.1f} s,"
            f" {count - stored} lost, all stored {drained:.1f} s later",
            flush=True,
        )


def busy(bench: Bench) -> None:
    """Switch back and forth while events arrive."""
    prefix, count = "BUSY", bench.plan.busy_rate * bench.plan.busy_seconds
    bench.flood(prefix, count=count, rate=bench.plan.busy_rate)
    results: dict[int, int] = {}
    times = []
    began = time.perf_counter()
    for number in range(bench.plan.busy_switches):
        started = time.perf_counter()
        status = bench.switch("webhook" if number % 2 == 0 else "websocket")
        times.append(time.perf_counter() - started)
        results[status] = results.get(status, 0) + 1
        due = began + (number + 1) * bench.plan.busy_seconds / bench.plan.busy_switches
        time.sleep(max(0.0, due - time.perf_counter()))
    meanwhile = int(bench.emitted()["emitted"])
    assert wait_for(lambda: bool(bench.emitted()["done"]), bench.plan.busy_seconds * 3)
    wait_for(lambda: bench.stored(prefix) >= count, DRAIN_SECONDS)
    sql = "SELECT count(*) FROM (SELECT {} FROM messaging_message WHERE text LIKE 'flood %%' AND"
    sql += " provider_message_id LIKE %s) AS found"
    rows = int(bench.query(sql.format("1"), f"{prefix}%"))
    texts = int(bench.query(sql.format("DISTINCT text"), f"{prefix}%"))
    name = "receive mode: events lost or duplicated while switching"
    wrong = count - texts + rows - texts
    bench.results.append(result(name, wrong, "events", Goal(0)))
    percentiles(f"switch while {bench.plan.busy_rate} events/s arrive", times)
    print(
        f"{bench.plan.busy_switches} switches {results} while {meanwhile} of {count} events"
        f" arrived: {count - texts} lost, {rows - texts} duplicated",
        flush=True,
    )


def takeovers(bench: Bench) -> None:
    """Time from killing one of two listeners to the last of its sessions joined again."""
    if not bench.plan.takeovers:
        print("takeovers: not in the short form (tests/instances/listener has them)")
        return
    prefix = "over_"
    for number in range(bench.plan.taken_over):
        bench.add(f"{prefix}{number:02d}")
    bench.set_websocket_mode(prefix)
    assert wait_for(lambda: bench.joined(prefix) == bench.plan.taken_over, 20)
    times = []
    for _ in range(bench.plan.takeovers):
        second = subprocess.Popen(
            [sys.executable, "manage.py", "listen_evolution"],
            cwd=ROOT, env=bench.product.environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        half = bench.plan.taken_over // 2
        shared = wait_for(partial(_has, half, second, bench.product.port + 3), 30)
        assert shared, "no sessions were given to the second listener"
        time.sleep(4)  # until the first one has released the sessions that it handed over
        second.kill()
        started = time.perf_counter()
        second.wait()
        lost = wait_for(lambda: bench.joined(prefix) < bench.plan.taken_over, 5)
        assert lost, "its sessions were never without a socket"
        assert wait_for(lambda: bench.joined(prefix) == bench.plan.taken_over, 30)
        times.append(time.perf_counter() - started)
    bench.found("receive mode: sessions of a killed listener taken over, p50", times, 5000)
    percentiles(
        f"{bench.plan.taken_over // 2} sessions of a killed listener taken over (wanted: 5 s)",
        times,
    )


def _has(count: int, listener: subprocess.Popen[bytes], port: int) -> bool:
    sockets = psutil.Process(listener.pid).net_connections()
    return sum(s.raddr[1:] == (port,) for s in sockets) >= count


def sessions(bench: Bench) -> None:
    """Many sessions in one listener process."""
    prefix = "many_"
    for number in range(bench.plan.sessions):
        bench.add(f"{prefix}{number:03d}")
    started = time.perf_counter()
    bench.set_websocket_mode(prefix)
    ok = wait_for(lambda: bench.joined(prefix) >= bench.plan.sessions, 60)
    joined = time.perf_counter() - started
    time.sleep(bench.plan.settle_seconds)
    for process in psutil.Process(bench.product.process.pid).children(recursive=True):
        if "listen_evolution" in " ".join(process.cmdline()):
            memory = process.memory_info().rss / 2**20
            bench.results.append(
                result(
                    f"receive mode: memory of a listener with {bench.plan.sessions} sessions",
                    memory,
                    "MB",
                    Goal(300),
                )
            )
            share = process.cpu_percent(interval=bench.plan.settle_seconds / 2)
            print(
                f"{bench.plan.sessions} sessions in one listener: joined {ok} in {joined:.1f} s,"
                f" {memory:.0f} MB (wanted: <= 300), {process.num_threads()} threads,"
                f" {share:.1f} % of a processor while idle",
                flush=True,
            )


if __name__ == "__main__":
    with running() as running_product:
        measure(running_product, *sys.argv[1:])
