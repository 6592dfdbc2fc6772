"""How fast a message is sent, and how fast a rejection becomes a globe on an open page."""

from __future__ import annotations

import datetime as dt
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import requests

from bench.product import (
    Product,
    cpu_seconds,
    login,
    memory,
    open_page,
    percentiles,
    running,
    wait_for_frame,
)

PER_SECOND = 20
SECONDS = 15
REJECTIONS = 30


def main() -> None:
    with running() as product:
        session = login(product)
        headers = {"Authorization": f"Token {product.token()}"}
        _settings(product.graph, {"status_delay": 0.2})
        wwebjs_seconds = 0.05
        _settings(product.wwebjs, {"send_seconds": wwebjs_seconds})
        channel = requests.get(f"{product.url}/api/channels/", headers=headers, timeout=10).json()
        channel_id = channel[0]["id"]
        requests.patch(
            f"{product.url}/api/channels/{channel_id}/",
            json={"fallback_per_minute": 600}, headers=headers, timeout=10,
        ).raise_for_status()  # fmt: skip
        accept_to_provider(product, headers, channel_id)
        rejection_to_globe(product, headers, session, channel_id, wwebjs_seconds)
        memory(product)


def accept_to_provider(product: Product, headers: dict[str, str], channel_id: int) -> None:
    """Send 20 messages a second, each to a different customer."""
    requests.delete(f"{product.graph}/_control/requests", timeout=10)
    answers: dict[str, tuple[float, float]] = {}
    http = threading.local()

    def send(number: int) -> None:
        if not hasattr(http, "session"):
            http.session = requests.Session()
        body = {
            "channel": channel_id,
            "to": f"+55119{80000000 + number}",
            "text": f"bench {number}",
        }
        began = time.time()
        answer = http.session.post(
            f"{product.url}/api/messages/", json=body, headers=headers, timeout=30
        )
        answer.raise_for_status()
        accepted = dt.datetime.fromisoformat(answer.json()["created_at"]).timestamp()
        answers[answer.json()["id"]] = (began, accepted)

    before = cpu_seconds(product)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        for number in range(PER_SECOND * SECONDS):
            time.sleep(max(0, began + number / PER_SECOND - time.monotonic()))
            pool.submit(send, number)
    received = _received(product, len(answers))
    print(f"{PER_SECOND} messages a second for {SECONDS} s:")
    percentiles(
        "  REST request sent -> provider request received",
        [received[id_] - sent for id_, (sent, _) in answers.items()],
    )
    percentiles(
        "  REST accept -> provider request received",
        [received[id_] - accepted for id_, (_, accepted) in answers.items()],
    )
    time.sleep(2)  # for the last statuses
    for name, seconds in cpu_seconds(product).items():
        used = (seconds - before.get(name, 0.0)) / len(answers) * 1000
        print(f"  CPU time of {name:<30} {used:6.1f} ms a message, statuses included")


def _received(product: Product, expected: int) -> dict[str, float]:
    """Return when the Graph simulator received each message, by our id."""
    deadline = time.monotonic() + 30
    while True:
        received = {}
        for record in requests.get(f"{product.graph}/_control/requests", timeout=10).json():
            body = record.get("body")
            if isinstance(body, dict) and "biz_opaque_callback_data" in body:
                received[body["biz_opaque_callback_data"].partition(".")[0]] = record["at"]
        if len(received) >= expected or time.monotonic() > deadline:
            return received
        time.sleep(0.2)


def rejection_to_globe(
    product: Product,
    headers: dict[str, str],
    cookies: str,
    channel_id: int,
    wwebjs_seconds: float,
) -> None:
    """Time from Meta's rejection to the frame with the globe on a connected WebSocket."""
    body = {"channel": channel_id, "to": "+5511999990047", "text": "bench"}
    seconds = []
    for number in range(REJECTIONS):
        sent = requests.post(
            f"{product.url}/api/messages/", json={**body, "text": f"globe {number}"},
            headers=headers, timeout=10,
        ).json()  # fmt: skip
        if number == 0:
            socket = open_page(product, cookies, conversation=sent["conversation"])
            time.sleep(1)
            continue
        arrived = wait_for_frame(socket, f"message:{sent['id']}", 'data-icon="globe"')
        message = requests.get(
            f"{product.url}/api/messages/{sent['id']}/", headers=headers, timeout=10
        ).json()
        rejected = dt.datetime.fromisoformat(message["attempts"][0]["finished_at"]).timestamp()
        seconds.append(arrived - rejected - wwebjs_seconds)
    percentiles("rejection received -> globe in a connected page's socket", seconds)


def _settings(simulator: str, values: dict[str, float]) -> None:
    requests.post(f"{simulator}/_control/settings", json=values, timeout=10).raise_for_status()
