"""How fast a message is sent, and how fast a rejection becomes a globe on an open page."""

from __future__ import annotations

import datetime as dt
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import requests

from bench import load
from bench.product import (
    Product,
    cpu_seconds,
    login,
    memory,
    open_page,
    percentiles,
    wait_for_frame,
)
from bench.results import Goal, Result, result
from messaging import demo_settings

PER_SECOND = 20
SECONDS = 15
REJECTIONS = 30
WWEBJS_SECONDS = 0.05
PATIENCE = 180.0


def measure(product: Product, *, short: bool = False) -> list[Result]:
    """Measure both; the memory of the processes is printed."""
    session = login(product)
    headers = product.headers()
    product.set(product.graph, status_delay=0.2)
    product.set(product.wwebjs, send_seconds=WWEBJS_SECONDS)
    load.unscripted(product)
    channel = requests.get(f"{product.url}/api/channels/", headers=headers, timeout=10).json()
    channel_id = channel[0]["id"]
    requests.patch(
        f"{product.url}/api/channels/{channel_id}/",
        json={"fallback_per_minute": 600, "fallback_new_chats_per_day": 100_000},
        headers=headers, timeout=10,
    ).raise_for_status()  # fmt: skip
    accept_to_provider(product, headers, channel_id, seconds=1 if short else SECONDS)
    found = rejection_to_globe(product, headers, session, channel_id, 3 if short else REJECTIONS)
    memory(product)
    return found


def accept_to_provider(
    product: Product, headers: dict[str, str], channel_id: int, *, seconds: int
) -> None:
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
        for number in range(PER_SECOND * seconds):
            time.sleep(max(0, began + number / PER_SECOND - time.monotonic()))
            pool.submit(send, number)
    received = _received(product, len(answers))
    print(f"{PER_SECOND} messages a second for {seconds} s:")
    percentiles(
        "  REST request sent -> provider request received",
        [received[id_] - sent for id_, (sent, _) in answers.items()],
    )
    percentiles(
        "  REST accept -> provider request received",
        [received[id_] - accepted for id_, (_, accepted) in answers.items()],
    )
    time.sleep(2)  # for the last statuses
    for name, total in cpu_seconds(product).items():
        used = (total - before.get(name, 0.0)) / len(answers) * 1000
        print(f"  CPU time of {name:<30} {used:6.1f} ms a message, statuses included")


def _received(product: Product, expected: int) -> dict[str, float]:
    """Return when the Graph simulator received each message, by our id."""
    deadline = time.monotonic() + PATIENCE
    while True:
        received = {}
        for record in requests.get(f"{product.graph}/_control/requests", timeout=10).json():
            body = record.get("body")
            if isinstance(body, dict) and "biz_opaque_callback_data" in body:
                received[body["biz_opaque_callback_data"].partition(".")[0]] = record["at"]
        if len(received) >= expected:
            return received
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {len(received)} of {expected} messages were sent")
        time.sleep(0.2)


def rejection_to_globe(
    product: Product, headers: dict[str, str], cookies: str, channel_id: int, count: int
) -> list[Result]:
    """Time from Graph's receipt of the request to the frame with the globe on an open page.

    The yardstick is the time that a bare client needs for the two requests to the simulators.
    """
    body = {"channel": channel_id, "to": "+5511999990047"}
    requests.delete(f"{product.graph}/_control/requests", timeout=10)
    seconds = []
    for number in range(count + 1):
        text = f"globe {number} {time.time()}"
        sent = requests.post(
            f"{product.url}/api/messages/", json={**body, "text": text},
            headers=headers, timeout=10,
        ).json()  # fmt: skip
        if number == 0:
            socket = open_page(product, cookies, conversation=sent["conversation"])
            time.sleep(1)
            continue
        arrived = wait_for_frame(socket, f"message:{sent['id']}", 'data-icon="globe"')
        seconds.append(arrived - _received(product, 0)[sent["id"]])
    socket.close()
    two = [_two_answers(product) for _ in range(count)]
    percentiles("rejection to globe in a connected page", seconds)
    percentiles("the two answers of the simulators to a bare client", two)
    return [
        result(
            "rejection to globe in a connected page, p50", statistics.median(seconds) * 1000, "ms",
            Goal(60, "excess"), yardstick=statistics.median(two) * 1000, less_is_better=True,
        )
    ]  # fmt: skip


_bare = requests.Session()


def _two_answers(product: Product) -> float:
    began = time.perf_counter()
    refused = _bare.post(
        f"{product.graph}/v23.0/{demo_settings.PHONE_NUMBER_ID}/messages",
        json={
            "messaging_product": "whatsapp", "to": "+5511999990047", "type": "text",
            "text": {"body": "bare"},
        },
        headers={"Authorization": f"Bearer {demo_settings.ACCESS_TOKEN}"}, timeout=10,
    )  # fmt: skip
    assert refused.status_code == 400, refused.text
    _bare.post(
        f"{product.wwebjs}/client/sendMessage/{demo_settings.WWEBJS_SESSION}",
        json={"chatId": "5511999990000@c.us", "contentType": "string", "content": "bare"},
        headers={"x-api-key": demo_settings.WWEBJS_API_KEY}, timeout=10,
    ).raise_for_status()  # fmt: skip
    return time.perf_counter() - began
