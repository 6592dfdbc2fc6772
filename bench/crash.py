"""How soon a send becomes unconfirmed after its worker is killed in the middle of it."""

from __future__ import annotations

import time

import requests

from bench.product import Product, percentiles, processes, running

KILLS = 5
PATIENCE = 60.0


def main() -> None:
    with running() as product:
        headers = {"Authorization": f"Token {product.token()}"}
        [channel, *_] = requests.get(
            f"{product.url}/api/channels/?kind=official", headers=headers, timeout=10
        ).json()
        # Only the worker's death may end the attempt.
        requests.patch(
            f"{product.url}/api/channels/{channel['id']}/",
            json={"request_timeout_seconds": 120}, headers=headers, timeout=10,
        ).raise_for_status()  # fmt: skip
        requests.post(
            f"{product.graph}/_control/settings", json={"hang_seconds": 120}, timeout=10
        ).raise_for_status()
        seconds = [_kill(product, headers, channel["id"], number) for number in range(KILLS)]
        percentiles("worker killed in the middle of a send -> unconfirmed", seconds)


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
