"""Processes are killed in the middle of a send; every message ends in a correct state."""

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
from tests.product.prepared import prepared_data

pytestmark = [pytest.mark.product]


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """A separate product that quickly detects a dead worker."""
    with running(
        prepared_data(), WORKER_HEARTBEAT_SECONDS="0.5", WORKER_STALLED_SECONDS="3"
    ) as product:
        yield product


@pytest.fixture(scope="module")
def api(product: Product) -> Api:
    api = Api(product, {"Authorization": f"Token {product.token()}"})
    # After a crash, a send whose worker was killed may go on for as long as a request may take.
    change = {"confirm_seconds": 2, "fallback_per_minute": 600, "request_timeout_seconds": 4}
    response = requests.patch(
        f"{product.url}/api/channels/{api.channel}/", json=change, headers=api.headers, timeout=20
    )
    assert response.ok, response.text
    return api


def kill(product: Product, word: str) -> None:
    """Kill (-9) the product's processes with an argument that ends with this word."""
    matches = [
        process
        for process in psutil.Process(product.process.pid).children(recursive=True)
        if any(part.endswith(word) for part in _command(process)[:4])
    ]
    assert matches, f"no process with {word!r}"
    for process in matches:
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(process.pid, signal.SIGKILL)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def delivered(simulator: str, text: str) -> int:
    """Return how often a text reached the customer, by the simulator's ledger."""
    ledger = requests.get(f"{simulator}/_control/book", timeout=10).json()
    return int(ledger["delivered_by_text"].get(text, 0))


def requested(product: Product, text: str) -> bool:
    """Whether the Graph API received a request with this text."""
    requests_ = requests.get(f"{product.graph}/_control/requests", timeout=10).json()
    return any(text in str(request.get("body")) for request in requests_)


def final(message: Any) -> bool:
    return message["status"] in ("sent", "delivered", "read") or bool(
        message["decision"] and not message["next_attempt_at"]
    )


def test_a_worker_killed_while_the_provider_responds_leaves_a_correct_status(
    product: Product, api: Api
) -> None:
    text = "O worker cai durante o envio"
    sent = api.send("+5511999990082", text)  # accepted by Graph after some seconds
    wait_until(lambda: requested(product, text), bool)
    kill(product, "worker")

    message = api.wait_for(sent, lambda m: m["status"] in ("delivered", "read") and final(m))

    # Meta's statuses contain our reference, so they prove the send whose response was lost.
    assert message["attempts"][0]["outcome"] == "accepted"
    assert delivered(product.graph, text) == 1
    assert delivered(product.wwebjs, text) == 0


def test_a_send_whose_worker_is_killed_is_unconfirmed_and_then_uses_the_fallback(
    product: Product, api: Api
) -> None:
    text = "Ninguém sabe se foi"
    sent = api.send("+5511999990080", text)  # hangs and is never accepted
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

    ledger = requests.get(f"{product.graph}/_control/book", timeout=10).json()
    order = [m["text"] for m in ledger["messages"] if m["text"].startswith("Em ordem")]
    # At most one message was being sent when the worker died: its outcome is unknown.
    interrupted = [m["text"] for m in ended if m["attempts"][0]["outcome"] == "unknown"]
    assert len(interrupted) <= 1
    texts = [f"Em ordem {position}" for position in range(10)]
    assert order == [text for text in texts if text in order or text not in interrupted]


def test_web_killed_right_after_accepting_loses_nothing(product: Product, api: Api) -> None:
    sent = api.send("+5511955550002", "O web cai")
    kill(product, "uvicorn")
    wait_until(
        lambda: _is_ready(f"{product.url}/readyz"),
        bool,
    )
    message = api.wait_for(sent, final)
    assert message["attempts"][0]["outcome"] == "accepted"
    assert delivered(product.graph, "O web cai") == 1


def test_without_valkey_messages_are_still_sent(product: Product, api: Api) -> None:
    kill(product, "valkey.sock")
    sent = api.send("+5511999990047", "Sem Valkey")
    message = api.wait_for(sent, lambda m: m["icon"] == "globe")
    assert delivered(product.wwebjs, "Sem Valkey") == 1
    assert len(message["attempts"]) == 2


def test_a_killed_postgresql_gives_503_at_worst_and_the_product_recovers(
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

    codes = {wait_until(status, lambda code: code != 0)}
    wait_until(lambda: codes.add(code := status()) or code, lambda code: code == 200)
    assert codes <= {200, 503}
    message = api.wait_for(api.send("+5511955550003", "PostgreSQL voltou"), final)
    assert message["status"] in ("sent", "delivered", "read")


def test_workers_never_send_a_message_twice_after_a_long_database_outage(
    product: Product, api: Api, graph: Provider, wwebjs: Provider
) -> None:
    """Both workers are considered dead after the outage; one of them is still sending.

    The first worker to return takes over the message. The channel uses the fallback immediately
    after an unknown outcome, so nothing else prevents a second send while the first is running.
    """
    graph.simulator.settings.slow_seconds = 20.0
    graph.plays("slow")
    change = {
        "graph_url": graph.url, "access_token": GRAPH_TOKEN, "app_secret": APP_SECRET,
        "wwebjs_url": wwebjs.url, "wwebjs_api_key": WWEBJS_KEY, "wwebjs_session_id": WWEBJS_SESSION,
        "confirm_seconds": 0, "request_timeout_seconds": 40,
    }  # fmt: skip
    response = requests.patch(
        f"{product.url}/api/channels/{api.channel}/", json=change, headers=api.headers, timeout=20
    )
    assert response.ok, response.text
    assert response.json()["phone_number_id"] == NUMBER_ID
    pace = {"WORKER_HEARTBEAT_SECONDS": "0.5", "WORKER_STALLED_SECONDS": "3"}
    with subprocess.Popen(
        [sys.executable, "manage.py", "worker"], cwd=ROOT, env={**product.environment, **pace}
    ) as second:
        try:
            heartbeat_file = f"**/worker-*-{second.pid}"
            wait_until(lambda: list(product.data_dir.glob(heartbeat_file)), bool)
            sent = api.send("+5511955550004", "Uma vez só")
            wait_until(graph.sends, bool)
            engine = [process for _, process in postgres_of(product)]
            for process in engine:
                process.suspend()
            time.sleep(4)  # longer than WORKER_STALLED_SECONDS
            for process in engine:
                process.kill()
            wait_until(lambda: _is_ready(f"{product.url}/readyz"), bool)
            error_codes = set()

            def read_message() -> Any:
                with contextlib.suppress(requests.RequestException):
                    message = api.message(sent)
                    error_codes.update(attempt["error_code"] for attempt in message["attempts"])
                    return message
                return {"status": "", "decision": ""}

            message = wait_until(read_message, final)
        finally:
            second.terminate()
    assert "worker_lost" in error_codes  # taken over while the first worker was sending
    assert message["status"] in ("sent", "delivered", "read")
    assert [attempt["route"] for attempt in message["attempts"]] == ["official"]
    assert len(graph.sends()) == 1
    assert wwebjs.sends() == []


def postgres_of(product: Product) -> list[tuple[str, psutil.Process]]:
    """Return the processes of the product's PostgreSQL."""
    return [
        (name, process)
        for name, process in processes(product)
        if "postgres" in name or "postgres" in process.name()
    ]


def _is_ready(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False
