"""One run: start a product and a second worker, send, kill, wait until idle, judge."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from bench.product import ROOT, Product, running
from faults.chaos import PACE, Chaos, SecondWorker
from faults.traffic import SentMessage, planned_messages
from faults.verdict import Verdict, judge

SENDERS = 6
# Seconds without any progress; a long queue may take a while.
IDLE_TIMEOUT = 180.0
CHANNEL = {
    "request_timeout_seconds": 2,
    "confirm_seconds": 6,
    "fallback_per_minute": 600,
    "fallback_new_chats_per_day": 100_000,
    "on_unconfirmed": "fallback",
}
GRAPH = {
    "status_delay": 0.1,
    "late_failure_delay": 1.0,
    "slow_seconds": 1.0,
    "hang_seconds": 10.0,
    # Meta retries for days; this is enough for every restart.
    "webhook_attempts": 12,
}
WWEBJS = {
    "send_seconds": 0.02,
    "ack_delay": 0.1,
    "protocol_timeout": 4.0,
    "late_delivery_seconds": 1.0,
}
EVOLUTION = {
    "ack_delays": [0.1, 0.2, 0.4],
    "hang_seconds": 10.0,
    "slow_seconds": 1.0,
    "webhook_initial_seconds": 1.0,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """`kill_every`: seconds between kills, on average; `kills`: the maximum."""

    count: int
    seed: int
    kill_every: float
    kills: int | None = None


def run(
    plan: Plan,
    *,
    say: Callable[[str], object] = lambda line: None,
    prepared: Path | None = None,
) -> Verdict:
    """Run the plan and return the verdict. `prepared`: bench/product.py: running()."""
    began = time.monotonic()
    with running(prepared, **PACE) as product, second_worker(product) as second:
        headers = {"Authorization": f"Token {product.token()}"}
        channels = _prepare(product, headers)
        to_send = planned_messages(plan.count, plan.seed)
        chaos = Chaos(
            product, second, seed=plan.seed, every=plan.kill_every, max_kills=plan.kills, say=say
        )
        chaos.start()
        accepted = _send_all(product, headers, channels, to_send, say)
        sent_after = time.monotonic() - began
        chaos.stop()
        say(f"{sent_after:6.1f} s  all {len(accepted)} are accepted; waiting until idle")
        _wait_until_idle(product, say)
        verdict = judge(
            to_send,
            accepted,
            snapshot(product, "all"),
            _ledger(product.graph),
            _ledger(product.wwebjs) + _ledger(product.evolution),
        )
    kills = ", ".join(f"{name} {n}" for name, n in sorted(chaos.kills.items())) or "none"
    verdict.heading = (
        f"{plan.count} messages, seed {plan.seed}, in {time.monotonic() - began:.0f} s;"
        f" killed: {kills}"
    )
    return verdict


@contextlib.contextmanager
def second_worker(product: Product) -> Iterator[SecondWorker]:
    second = SecondWorker(product)
    second.start()
    try:
        yield second
    finally:
        second.stop()


def _prepare(product: Product, headers: dict[str, str]) -> dict[str, int]:
    """Set up channels and simulators; return the channels' ids by `SentMessage.channel`."""
    for simulator, values in (
        (product.graph, GRAPH), (product.wwebjs, WWEBJS), (product.evolution, EVOLUTION),
    ):  # fmt: skip
        _post(f"{simulator}/_control/settings", values)
    url = f"{product.url}/api/channels/"
    [main, *_] = requests.get(f"{url}?kind=official", headers=headers, timeout=20).json()
    [session, *_] = requests.get(f"{url}?kind=baileys", headers=headers, timeout=20).json()
    short_timeout = {"request_timeout_seconds": CHANNEL["request_timeout_seconds"]}
    for channel, changes in ((main, CHANNEL), (session, short_timeout)):
        requests.patch(
            f"{url}{channel['id']}/", json=changes, headers=headers, timeout=20
        ).raise_for_status()
    _post(
        f"{product.wwebjs}/_control/settings",
        {"webhook_url": f"{product.url}/api/webhooks/wwebjs/{main['id']}"},
    )
    from messaging import demo_settings

    refused = {
        "name": "Refused account",
        "phone_number": demo_settings.FALLBACK_NUMBER,
        "phone_number_id": "106540352242999",
        "fallback": "wwebjs",
        "wwebjs_url": product.wwebjs,
        "wwebjs_api_key": demo_settings.WWEBJS_API_KEY,
        "wwebjs_session_id": demo_settings.WWEBJS_SESSION,
    }
    with_baileys = {
        "name": "With Baileys",
        "phone_number_id": "106540352242998",
        "fallback": "baileys",
        "fallback_channel": session["id"],
    }
    ids = {"main": int(main["id"])}
    for name, own in (("account", refused), ("baileys", with_baileys)):
        body = {
            **CHANNEL,
            **own,
            "kind": "official",
            "graph_url": product.graph,
            "access_token": demo_settings.ACCESS_TOKEN,
            "app_secret": demo_settings.APP_SECRET,
        }
        number = {
            "phone_number_id": body["phone_number_id"],
            "token": body["access_token"],
            "app_secret": body["app_secret"],
        }
        _post(f"{product.graph}/_control/numbers", number)
        made = requests.post(url, json=body, headers=headers, timeout=20)
        made.raise_for_status()
        ids[name] = int(made.json()["id"])
    return ids


def _send_all(
    product: Product,
    headers: dict[str, str],
    channels: dict[str, int],
    to_send: list[SentMessage],
    say: Callable[[str], object],
) -> dict[int, str]:
    """Post every message to REST until it responds; return our ids by number.

    A customer's messages are posted one after another, because their order is judged.
    """
    by_customer: defaultdict[str, list[SentMessage]] = defaultdict(list)
    for message in to_send:
        by_customer[message.to].append(message)
    accepted: dict[int, str] = {}
    began = time.monotonic()
    turns = {to: threading.Lock() for to in by_customer}
    waiting = {to: iter(own) for to, own in by_customer.items()}

    local = threading.local()

    def send(to: str) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        with turns[to]:
            message = next(waiting[to])
            body = {"channel": channels[message.channel], "to": message.to, "text": message.text}
            key = {"Idempotency-Key": message.text}
            while True:
                try:
                    answer = local.session.post(
                        f"{product.url}/api/messages/",
                        json=body,
                        headers={**headers, **key},
                        timeout=20,
                    )
                except requests.RequestException:
                    time.sleep(0.2)
                    continue
                if answer.status_code in (200, 202):
                    break
                if answer.status_code < 500:
                    raise RuntimeError(f"REST refused {message}: {answer.text}")
                time.sleep(0.2)
        accepted[message.number] = answer.json()["id"]
        if len(accepted) % 1000 == 0:
            say(f"          {len(accepted)} accepted after {time.monotonic() - began:.0f} s")

    with ThreadPoolExecutor(SENDERS) as pool:
        for done in [pool.submit(send, message.to) for message in to_send]:
            done.result()
    return accepted


def _wait_until_idle(product: Product, say: Callable[[str], object]) -> None:
    """Wait until nothing is in progress, twice in a row, or until progress stops."""
    reported_at = progressed_at = time.monotonic()
    least = None
    idle_checks = 0
    while idle_checks < 2:
        for simulator in (product.graph, product.wwebjs, product.evolution):
            requests.post(f"{simulator}/_control/settle?timeout=30", timeout=60)
        unfinished = snapshot(product)
        idle_checks = 0 if any(unfinished.values()) else idle_checks + 1
        left = sum(unfinished.values())
        if least is None or left < least:
            least, progressed_at = left, time.monotonic()
        if time.monotonic() - progressed_at > IDLE_TIMEOUT:
            say(f"never idle: {unfinished}")
            return
        if time.monotonic() - reported_at > 20:
            reported_at = time.monotonic()
            say(f"          unfinished: {unfinished}")
        time.sleep(1)


def snapshot(product: Product, *arguments: str) -> Any:
    for retries_left in range(5, -1, -1):
        result = subprocess.run(
            [sys.executable, "-m", "faults.snapshot", *arguments],
            cwd=ROOT, env=product.environment, capture_output=True, text=True,
        )  # fmt: skip
        if result.returncode == 0:
            return json.loads(result.stdout.strip().splitlines()[-1])
        if not retries_left:
            raise RuntimeError(result.stderr[-2000:])
        time.sleep(2)
    return None


def _ledger(simulator: str) -> list[dict[str, Any]]:
    ledger = requests.get(f"{simulator}/_control/book", timeout=60).json()
    return list(ledger["messages"])


def _post(url: str, body: dict[str, Any]) -> None:
    requests.post(url, json=body, timeout=20).raise_for_status()
