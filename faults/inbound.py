"""Fault injection while receiving, with one Evolution instance by webhook and one by WebSocket.

1. A product with both instances runs; customers write to both at a steady rate.
2. Meanwhile our processes are killed, Evolution crashes (it loses its retries and sometimes its
   webhook settings), and so does wwebjs-api.
3. Once everything is processed, the simulator's ledger is compared with the database.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from bench.product import Product, running
from faults.chaos import PACE, Chaos, SecondWorker, children
from faults.run import second_worker, snapshot
from faults.verdict import Verdict

# Seconds without any progress after the last message.
IDLE_TIMEOUT = 240.0
CUSTOMERS = 40
WEBSOCKET = "faults_websocket"
SETTINGS = {
    **PACE,
    "EVOLUTION_BACKFILL_SECONDS": "20",
}
EVOLUTION = {
    "hold_offline": True,
    "webhook_initial_seconds": 1.0,
    "webhook_timeout_seconds": 10.0,
}


@dataclass(frozen=True, slots=True)
class InboundPlan:
    """`rate`: messages a second; `kill_every`: seconds between kills; `kills`: the maximum.

    Every `emptied_every`-th crash of Evolution clears its webhook settings.
    """

    count: int
    seed: int
    rate: float
    kill_every: float
    kills: int | None = None
    emptied_every: int = 2


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message from a customer to an instance."""

    number: int
    id: str
    instance: str
    sender: str
    text: str


def inbound_messages(count: int, seed: int, instances: Sequence[str]) -> list[InboundMessage]:
    """Return the messages of a run; they depend only on the seed."""
    rng = random.Random(seed * 104_729)
    return [
        InboundMessage(
            number=number,
            id=f"3AFA{seed:04d}{number:08d}",
            instance=rng.choice(instances),
            sender=f"55119{80_000_000 + rng.randrange(CUSTOMERS)}",
            text=f"inbound {seed} {number}",
        )
        for number in range(count)
    ]


def run_inbound(
    plan: InboundPlan,
    *,
    say: Callable[[str], object] = lambda line: None,
    prepared: Path | None = None,
) -> Verdict:
    """Run the plan and return the verdict. `prepared`: bench/product.py: running()."""
    began = time.monotonic()
    with running(prepared, **SETTINGS) as product, second_worker(product) as second:
        headers = {"Authorization": f"Token {product.token()}"}
        names = _prepare(product, headers, emptied_every=plan.emptied_every)
        messages = inbound_messages(plan.count, plan.seed, names)
        chaos = _chaos(product, second, plan, say)
        chaos.start()
        _write_all(product, messages, rate=plan.rate, say=say)
        chaos.stop()
        say(f"{time.monotonic() - began:6.1f} s  all are written; waiting until idle")
        problems = _wait_until_idle(product, headers, names, messages, say)
        ledger = {name: _ledger(product, name) for name in names}
        verdict = judge_inbound(messages, ledger, snapshot(product, "inbound"))
        verdict.faults += problems
    kills = ", ".join(f"{name} {n}" for name, n in sorted(chaos.kills.items())) or "none"
    verdict.heading = (
        f"{plan.count} inbound messages, seed {plan.seed}, in {time.monotonic() - began:.0f} s;"
        f" killed: {kills}"
    )
    return verdict


def judge_inbound(
    messages: Sequence[InboundMessage],
    ledger: Mapping[str, Sequence[Mapping[str, Any]]],
    database: Mapping[str, Any],
) -> Verdict:
    """Compare Evolution's ledger with the database. Pure."""
    verdict = Verdict()
    rows: defaultdict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in database["messages"]:
        rows[row["instance"], row["id"]].append(row)
    emitted = {(name, entry["id"]): entry for name, all_ in ledger.items() for entry in all_}
    for message in messages:
        entry = emitted.get((message.instance, message.id))
        stored = rows[message.instance, message.id]
        verdict.counts[f"written to {message.instance}"] += 1
        if entry is None:
            verdict.faults.append(f"Evolution never had it: {message}")
        elif not stored:
            verdict.faults.append(f"lost: {message}")
        elif len(stored) > 1:
            verdict.faults.append(f"stored {len(stored)} times: {message}")
        elif (stored[0]["text"], stored[0]["from"]) != (message.text, f"+{message.sender}"):
            verdict.faults.append(f"stored as another one: {message} {stored[0]}")
        elif int(stored[0]["at"]) != entry["at"]:
            verdict.faults.append(f"stored with another time: {message} {stored[0]} {entry}")
        else:
            verdict.counts["stored once"] += 1
    known = {(message.instance, message.id) for message in messages}
    extra = [key for key, stored in rows.items() if stored and key not in known]
    verdict.faults += [f"no customer wrote it: {key}" for key in extra if key not in emitted]
    _judge_order(verdict, messages, database["messages"])
    for reason, count in database["recovered"].items():
        verdict.counts[f"recovered: {reason}"] += count
    if database["set_aside"]:
        verdict.faults.append(f"{database['set_aside']} events set aside")
    return verdict


def _judge_order(
    verdict: Verdict, messages: Sequence[InboundMessage], stored: Sequence[Mapping[str, Any]]
) -> None:
    """Check that each conversation is in the order of writing, except within one second."""
    numbers = {message.text: message.number for message in messages}
    latest: dict[tuple[str, str], tuple[int, int]] = {}
    highest: dict[tuple[str, str], int] = defaultdict(lambda: -1)
    for row in stored:
        number, second = numbers.get(row["text"]), int(row["at"])
        if number is None:
            continue
        chat = (row["instance"], row["from"])
        before_second, before_highest = latest.get(chat, (second, -1))
        if second != before_second:
            before_highest = highest[chat]
        if number < before_highest:
            verdict.faults.append(f"out of order: {row}")
        latest[chat] = (second, before_highest)
        highest[chat] = max(highest[chat], number)


# --- the run --------------------------------------------------------------------------------------


def _prepare(product: Product, headers: dict[str, str], *, emptied_every: int) -> list[str]:
    """Set up simulators and two instances, one per mode; return the instances' names."""
    from messaging import demo_settings

    settings = {**EVOLUTION, "webhook_emptied_every": emptied_every}
    _post(f"{product.evolution}/_control/settings", settings)
    key = {"apikey": demo_settings.EVOLUTION_API_KEY}
    body = {"instanceName": WEBSOCKET, "integration": "WHATSAPP-BAILEYS", "qrcode": True}
    url = f"{product.evolution}/instance/create"
    requests.post(url, json=body, headers=key, timeout=30).raise_for_status()
    _post(f"{product.evolution}/_control/scan", {"instance": WEBSOCKET, "number": "5511900000099"})
    fields = {
        "name": "Faults by WebSocket",
        "kind": "baileys",
        "evolution_url": product.evolution,
        "evolution_api_key": demo_settings.EVOLUTION_API_KEY,
        "instance_name": WEBSOCKET,
    }
    channels = f"{product.url}/api/channels/"
    requests.post(channels, json=fields, headers=headers, timeout=20).raise_for_status()
    management = f"{product.url}/api/instance-management"
    for mode, name in (("webhook", demo_settings.INSTANCE), ("websocket", WEBSOCKET)):
        address = f"{management}/enable-{mode}/{name}"
        requests.post(address, json={}, headers=headers, timeout=30).raise_for_status()
    deadline = time.monotonic() + 60
    while not _state(product, headers, WEBSOCKET)["websocketEnabled"]:
        # The first event creates the namespace.
        order = {"instance": WEBSOCKET, "event": "call", "data": {}, "socket_only": True}
        _post(f"{product.evolution}/_control/event", order)
        if time.monotonic() > deadline:
            raise RuntimeError("the WebSocket was not joined")
        time.sleep(0.5)
    return [demo_settings.INSTANCE, WEBSOCKET]


def _chaos(
    product: Product, second: SecondWorker, plan: InboundPlan, say: Callable[[str], object]
) -> Chaos:
    def restart(simulator: str, longest: float) -> Callable[[random.Random], object]:
        def kill(rng: random.Random) -> None:
            downtime = rng.choice((0.0, 1.0, rng.uniform(1.0, longest)))
            _post(f"{simulator}/_control/restart", {"downtime_seconds": downtime})

        return kill

    def kill_listener(rng: random.Random) -> None:
        for process in children(product, "listen_evolution"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    return Chaos(
        product, second, seed=plan.seed, every=plan.kill_every, max_kills=plan.kills, say=say,
        others={
            "listener": kill_listener,
            "evolution": restart(product.evolution, 8.0),
            "wwebjs-api": restart(product.wwebjs, 5.0),
        },
    )  # fmt: skip


def _write_all(
    product: Product,
    messages: Sequence[InboundMessage],
    *,
    rate: float,
    say: Callable[[str], object],
) -> None:
    began = time.monotonic()
    with requests.Session() as http:
        for message in messages:
            time.sleep(max(0.0, began + message.number / rate - time.monotonic()))
            _write(http, product, message)
            if message.number and message.number % 1000 == 0:
                say(f"          {message.number} written after {time.monotonic() - began:.0f} s")


def _write(http: requests.Session, product: Product, message: InboundMessage) -> None:
    order = {
        "instance": message.instance,
        "id": message.id,
        "from": message.sender,
        "text": message.text,
        "name": "",
    }
    http.post(f"{product.evolution}/_control/inbound", json=order, timeout=20).raise_for_status()


def _wait_until_idle(
    product: Product,
    headers: dict[str, str],
    names: Sequence[str],
    messages: Sequence[InboundMessage],
    say: Callable[[str], object],
) -> list[str]:
    """Wait until everything is received and both modes are in sync, or progress stops.

    Return the remaining problems. Messages that Evolution lost before it had stored them are
    delivered again, as WhatsApp does.
    """
    progressed_at = reported_at = time.monotonic()
    least = None
    while True:
        delivered = {entry["id"] for name in names for entry in _ledger(product, name)}
        with requests.Session() as http:
            for message in messages:
                if message.id not in delivered:
                    _write(http, product, message)
        database = snapshot(product, "inbound")
        stored = {row["id"] for row in database["messages"]}
        left = Counter(
            missing=sum(message.id not in stored for message in messages),
            pending=database["pending"],
            gaps=database["gaps"],
            drifted=sum(not _is_in_sync(product, headers, name) for name in names),
            wwebjs=int(not _wwebjs_is_ready(product, headers)),
        )
        if not left.total():
            return []
        if least is None or left.total() < least:
            least, progressed_at = left.total(), time.monotonic()
        if time.monotonic() - progressed_at > IDLE_TIMEOUT:
            return [f"never idle: {+left}"]
        if time.monotonic() - reported_at > 20:
            reported_at = time.monotonic()
            say(f"          left: {dict(+left)}")
        time.sleep(1)


def _is_in_sync(product: Product, headers: dict[str, str], name: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        state = _state(product, headers, name)
        return state["inSync"] is True and state["switching"] is None
    return False


def _wwebjs_is_ready(product: Product, headers: dict[str, str]) -> bool:
    with contextlib.suppress(requests.RequestException):
        address = f"{product.url}/api/channels/?kind=official"
        channels = requests.get(address, headers=headers, timeout=20).json()
        return all(c["wwebjs_state"] == "ready" for c in channels if c["fallback"] == "wwebjs")
    return False


def _state(product: Product, headers: dict[str, str], name: str) -> dict[str, Any]:
    address = f"{product.url}/api/instance-management/connection-state/{name}"
    answer = requests.get(address, headers=headers, timeout=20)
    answer.raise_for_status()
    return dict(answer.json())


def _ledger(product: Product, name: str) -> list[dict[str, Any]]:
    address = f"{product.evolution}/_control/ledger?instance={name}"
    return list(requests.get(address, timeout=60).json())


def _post(url: str, body: Mapping[str, Any]) -> None:
    requests.post(url, json=body, timeout=30).raise_for_status()
