"""Processes are killed in the middle of a send; every message ends in a truthful state."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import requests

from bench.product import ROOT, Product, processes, running
from tests.conftest import (
    APP_SECRET,
    GRAPH_TOKEN,
    NUMBER_ID,
    WWEBJS_KEY,
    WWEBJS_SESSION,
    Provider,
)
from tests.product.conftest import Api, wait_until

pytestmark = [pytest.mark.product]


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """A product of its own, quick to notice a dead worker."""
    with running(WORKER_HEARTBEAT_SECONDS="0.5", WORKER_STALLED_SECONDS="3") as product:
        yield product


@pytest.fixture(scope="module")
def api(product: Product) -> Api:
    api = Api(product, {"Authorization": f"Token {product.token()}"})
    change = {"confirm_seconds": 2, "fallback_per_minute": 600}
    answer = requests.patch(
        f"{product.url}/api/channels/{api.channel}/", json=change, headers=api.headers, timeout=20
    )
    assert answer.ok, answer.text
    return api


def kill(product: Product, word: str) -> None:
    """Kill -9 the product's process with this word in its command line."""
    found = [
        process
        for process in psutil.Process(product.process.pid).children(recursive=True)
        if any(part.endswith(word) for part in _command(process)[:4])
    ]
    assert found, f"no process with {word!r}"
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(process.pid, signal.SIGKILL)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def delivered(simulator: str, text: str) -> int:
    """How often a text reached the customer, by the provider's own book."""
    book = requests.get(f"{simulator}/_control/book", timeout=10).json()
    return int(book["delivered_by_text"].get(text, 0))


def requested(product: Product, text: str) -> bool:
    """Whether the Graph API got a request with this text."""
    requests_ = requests.get(f"{product.graph}/_control/requests", timeout=10).json()
    return any(text in str(request.get("body")) for request in requests_)


def final(message: Any) -> bool:
    return message["status"] in ("sent", "delivered", "read") or bool(
        message["decision"] and not message["next_attempt_at"]
    )


def test_a_worker_killed_while_the_provider_answers_leaves_a_truthful_message(
    product: Product, api: Api
) -> None:
    text = "O worker cai durante o envio"
    sent = api.send("+5511999990082", text)  # accepted by Graph after some seconds
    wait_until(lambda: requested(product, text), bool)
    kill(product, "worker")

    message = api.wait_for(sent, lambda m: m["status"] in ("delivered", "read") and final(m))

    # Meta's statuses carry our reference: they prove the send whose answer nobody heard.
    assert message["attempts"][0]["outcome"] == "accepted"
    assert delivered(product.graph, text) == 1
    assert delivered(product.wwebjs, text) == 0


def test_a_worker_killed_before_the_provider_got_it_ends_unconfirmed_then_falls_back(
    product: Product, api: Api
) -> None:
    text = "Ninguém sabe se foi"
    sent = api.send("+5511999990080", text)  # hangs, never taken
    wait_until(lambda: requested(product, text), bool)
    kill(product, "worker")

    unconfirmed = api.wait_for(sent, lambda m: m["attempts"][0]["outcome"] == "unknown")
    assert unconfirmed["attempts"][0]["error_code"] == "worker_lost"
    message = api.wait_for(sent, lambda m: m["icon"] == "globe")
    assert [attempt["route"] for attempt in message["attempts"]] == ["official", "wwebjs"]
    assert delivered(product.graph, text) == 0
    assert delivered(product.wwebjs, text) == 1


def test_messages_in_order_survive_a_killed_worker(product: Product, api: Api) -> None:
    number = "+5511955550001"
    sent = [api.send(number, f"Em ordem {position}") for position in range(10)]
    kill(product, "worker")
    ended = [api.wait_for(message, final) for message in sent]

    book = requests.get(f"{product.graph}/_control/book", timeout=10).json()
    order = [m["text"] for m in book["messages"] if m["text"].startswith("Em ordem")]
    # At most one was on its way when the worker died: it may have left, or not.
    cut = [m["text"] for m in ended if m["attempts"][0]["outcome"] == "unknown"]
    assert len(cut) <= 1
    texts = [f"Em ordem {position}" for position in range(10)]
    assert order == [text for text in texts if text in order or text not in cut]


def test_web_killed_right_after_accepting_loses_nothing(product: Product, api: Api) -> None:
    sent = api.send("+5511955550002", "O web cai")
    kill(product, "uvicorn")
    wait_until(
        lambda: _answers(f"{product.url}/readyz"),
        bool,
    )
    message = api.wait_for(sent, final)
    assert message["attempts"][0]["outcome"] == "accepted"
    assert delivered(product.graph, "O web cai") == 1


def test_without_valkey_messages_still_go_out(product: Product, api: Api) -> None:
    kill(product, "valkey.sock")
    sent = api.send("+5511999990047", "Sem Valkey")
    message = api.wait_for(sent, lambda m: m["icon"] == "globe")
    assert delivered(product.wwebjs, "Sem Valkey") == 1
    assert len(message["attempts"]) == 2


def test_a_killed_postgresql_gives_503_at_worst_and_all_comes_back(
    product: Product, api: Api
) -> None:
    postgres = next(
        process
        for process in psutil.process_iter(["cmdline"])
        if str(product.data_dir) in " ".join(process.info["cmdline"] or [])
        and "bin/postgres" in " ".join(process.info["cmdline"] or [])
    )
    os.kill(postgres.pid, signal.SIGKILL)

    def status() -> int:
        url = f"{product.url}/api/channels/"
        return requests.get(url, headers=api.headers, timeout=60).status_code

    seen = {wait_until(status, lambda code: code != 0)}
    wait_until(lambda: seen.add(code := status()) or code, lambda code: code == 200)
    assert seen <= {200, 503}
    message = api.wait_for(api.send("+5511955550003", "PostgreSQL voltou"), final)
    assert message["status"] in ("sent", "delivered", "read")


def test_workers_that_lose_the_database_for_long_never_send_the_same_message_twice(
    product: Product, api: Api, graph: Provider, wwebjs: Provider
) -> None:
    """Both workers count as dead after the outage; one of them is still sending.

    The first to come back takes the message over. The channel falls back at once when a send may
    have failed, so nothing else keeps it from sending while the other one still is.
    """
    graph.simulator.settings.slow_seconds = 20.0
    graph.plays("slow")
    change = {
        "graph_url": graph.url, "access_token": GRAPH_TOKEN, "app_secret": APP_SECRET,
        "wwebjs_url": wwebjs.url, "wwebjs_api_key": WWEBJS_KEY, "wwebjs_session_id": WWEBJS_SESSION,
        "confirm_seconds": 0, "request_timeout_seconds": 40,
    }  # fmt: skip
    answer = requests.patch(
        f"{product.url}/api/channels/{api.channel}/", json=change, headers=api.headers, timeout=20
    )
    assert answer.ok, answer.text
    assert answer.json()["phone_number_id"] == NUMBER_ID
    pace = {"WORKER_HEARTBEAT_SECONDS": "0.5", "WORKER_STALLED_SECONDS": "3"}
    with subprocess.Popen(
        [sys.executable, "manage.py", "worker"], cwd=ROOT, env={**product.environment, **pace}
    ) as second:
        try:
            signs = f"**/worker-*-{second.pid}"
            wait_until(lambda: list(product.data_dir.glob(signs)), bool)
            sent = api.send("+5511955550004", "Uma vez só")
            wait_until(graph.sends, bool)
            engine = [process for _, process in postgres_of(product)]
            for process in engine:
                process.suspend()
            time.sleep(4)  # longer than a worker may be silent
            for process in engine:
                process.kill()
            wait_until(lambda: _answers(f"{product.url}/readyz"), bool)
            seen = set()

            def look() -> Any:
                with contextlib.suppress(requests.RequestException):
                    message = api.message(sent)
                    seen.update(attempt["error_code"] for attempt in message["attempts"])
                    return message
                return {"status": "", "decision": ""}

            message = wait_until(look, final)
        finally:
            second.terminate()
    assert "worker_lost" in seen  # it was taken over while the first one was sending
    assert message["status"] in ("sent", "delivered", "read")
    assert [attempt["route"] for attempt in message["attempts"]] == ["official"]
    assert len(graph.sends()) == 1
    assert wwebjs.sends() == []


def postgres_of(product: Product) -> list[tuple[str, psutil.Process]]:
    """The processes of the product's PostgreSQL."""
    return [
        (name, process)
        for name, process in processes(product)
        if "postgres" in name or "postgres" in process.name()
    ]


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False
