"""Simulators on real sockets, and a receiver for their webhooks, without Django."""

from __future__ import annotations

import dataclasses
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from aiohttp import web

from simulators.base import run_in_thread
from simulators.graph import app as graph_app
from simulators.wwebjs import app as wwebjs_app

API_KEY = "suaapikey"
TOKEN = "EAAtest"
SECRET = "test_app_secret"
NUMBER_ID = "106540352242922"
ORDINARY = "+5511988887777"


def wait_until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    """Wait until the condition holds; fail if it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"


@dataclasses.dataclass
class Webhook:
    headers: dict[str, str]
    raw: bytes
    json: Any


class Receiver:
    """Records webhooks; answers with the statuses in ``answers``, then with 200."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[int] = []
        self._received: queue.Queue[Webhook] = queue.Queue()

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/{tail:.*}", self._receive)
        return app

    async def _receive(self, request: web.Request) -> web.Response:
        raw = await request.read()
        self._received.put(Webhook(dict(request.headers), raw, await request.json()))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    def next(self) -> Webhook:
        return self._received.get(timeout=5)

    def count(self) -> int:
        return self._received.qsize()

    def all(self) -> list[Webhook]:
        return [self._received.get_nowait() for _ in range(self._received.qsize())]


class Server:
    """A running simulator and its control API."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.url = url
        self.headers = headers

    def get(self, path: str, **extra: Any) -> requests.Response:
        return requests.get(self.url + path, headers=self.headers, timeout=10, **extra)

    def post(self, path: str, json: Any = None, **extra: Any) -> requests.Response:
        return requests.post(
            self.url + path,
            json=json,
            headers=self.headers,
            timeout=extra.pop("timeout", 10),
            **extra,
        )

    def control(self, path: str, body: Any = None) -> Any:
        answer = self.post(f"/_control/{path}", body or {})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def control_get(self, path: str) -> Any:
        return self.get(f"/_control/{path}").json()

    def settle(self) -> None:
        assert self.control("settle") == {"settled": True}

    def ledger(self) -> Any:
        return self.control_get("book")


class Graph(Server):
    def send(self, to: str = ORDINARY, content: str = "Oi", **extra: Any) -> requests.Response:
        timeout = extra.pop("timeout", 10)
        body = {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": to,
            "type": "text",
            "text": {"body": content},
            **extra,
        }
        return self.post(f"/v25.0/{NUMBER_ID}/messages", body, timeout=timeout)


class Wwebjs(Server):
    def send(self, to: str = ORDINARY, text: str = "Oi", **extra: Any) -> requests.Response:
        chat_id = "".join(filter(str.isdigit, to)) + "@c.us"
        body = {"chatId": chat_id, "contentType": "string", "content": text}
        return self.post("/client/sendMessage/TESTE", body, **extra)

    def status(self, session: str = "TESTE") -> Any:
        return self.get(f"/session/status/{session}").json()

    def act(self, action: str, session: str = "TESTE") -> Any:
        return self.control(f"sessions/{session}", {"action": action})


@pytest.fixture
def started() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def receiver(started: ExitStack) -> Receiver:
    receiver = Receiver()
    receiver.url = started.enter_context(run_in_thread(receiver.application())).url + "/hook"
    return receiver


@pytest.fixture
def start_graph(started: ExitStack, receiver: Receiver) -> Callable[..., Graph]:
    def start(**changes: Any) -> Graph:
        number = graph_app.GraphNumber(NUMBER_ID, token=TOKEN, app_secret=SECRET)
        defaults: dict[str, Any] = {
            "numbers": {NUMBER_ID: number},
            "webhook_url": receiver.url,
            "status_delay": 0.0,
            "late_failure_delay": 0.0,
            "slow_seconds": 0.1,
            "webhook_retry_delay": 0.01,
        }
        app = graph_app.create_app(graph_app.GraphSettings(**{**defaults, **changes}))
        running = started.enter_context(run_in_thread(app))
        return Graph(running.url, {"Authorization": f"Bearer {TOKEN}"})

    return start


@pytest.fixture
def meta(start_graph: Callable[..., Graph]) -> Graph:
    return start_graph()


@pytest.fixture
def start_wwebjs(started: ExitStack) -> Callable[..., Wwebjs]:
    def start(**changes: Any) -> Wwebjs:
        defaults: dict[str, Any] = {
            "api_key": API_KEY,
            "pushname": "Fake Clinica",
            "start_seconds": 0.0,
            "pairing_seconds": 0.0,
            "sync_seconds": 0.0,
            "blank_seconds": 0.0,
            "send_seconds": 0.0,
            "ack_delay": 0.0,
            "protocol_timeout": 0.2,
            "late_delivery_seconds": 0.1,
        }
        app = wwebjs_app.create_app(wwebjs_app.WwebjsSettings(**{**defaults, **changes}))
        running = started.enter_context(run_in_thread(app))
        return Wwebjs(running.url, {"x-api-key": API_KEY})

    return start


@pytest.fixture
def web_js(start_wwebjs: Callable[..., Wwebjs]) -> Wwebjs:
    return start_wwebjs(ready_sessions=("TESTE",))
