"""A running simulator, a webhook receiver, a socket client, and the comparison with captures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import requests
import socketio
from aiohttp import web

from simulators.base import run_in_thread
from simulators.evolution.app import EvolutionSettings, create_app
from tests import FIXTURES_DIR

FIXTURES = FIXTURES_DIR / "evolution"
KEY = "testkey"
WAIT_SECONDS = 60.0


def capture(number: str) -> list[Any]:
    """Return the entries of the capture file whose name starts with the number."""
    [path] = FIXTURES.glob(f"{number}_*.json")
    entries: list[Any] = json.loads(path.read_text())
    return entries


def wait_until(condition: Callable[[], Any], *, seconds: float = WAIT_SECONDS) -> Any:
    """Return the first true value of `condition`; AssertionError on timeout."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("the condition did not become true in time")


class Receiver:
    """A webhook receiver that records requests and answers with configured statuses."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.answers: list[int] = []
        self.received: list[dict[str, Any]] = []
        self._answers_allowed = threading.Event()
        self._answers_allowed.set()

    async def handle(self, request: web.Request) -> web.Response:
        entry = {
            "path": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": json.loads(await request.read()),
        }
        status = self.answers.pop(0) if self.answers else self.status
        entry["answered"] = status
        self.received.append(entry)
        await asyncio.to_thread(self._answers_allowed.wait, WAIT_SECONDS)
        return web.Response(status=status)

    @contextlib.contextmanager
    def delayed_answers(self) -> Iterator[None]:
        """Accept requests, but answer them only after the block."""
        self._answers_allowed.clear()
        try:
            yield
        finally:
            self._answers_allowed.set()

    def bodies(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the received payloads, of one event or all."""
        found = [entry["body"] for entry in self.received]
        return [body for body in found if event is None or body["event"] == event]

    def wait_for(self, count: int) -> None:
        """Wait until at least `count` requests have arrived."""
        wait_until(lambda: len(self.received) >= count)

    def ids(self) -> list[str]:
        """Return the received message ids."""
        return [body["data"]["key"]["id"] for body in self.bodies() if "key" in body["data"]]


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """Start a receiver on a separate port."""
    target = Receiver()
    app = web.Application(client_max_size=50_000_000)
    app.router.add_route("*", "/{path:.*}", target.handle)
    with run_in_thread(app) as running:
        target.url = running.url
        yield target


class Server:
    """A running simulator with shortcuts for tests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = requests.Session()

    def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = KEY, **options: Any
    ) -> requests.Response:
        """Send a request, by default with the global key."""
        headers = {**({"apikey": key} if key else {}), **options.pop("headers", {})}
        options.setdefault("timeout", 10)
        return self.http.request(method, self.url + path, json=body, headers=headers, **options)

    def get(self, path: str) -> Any:
        """Return the JSON of a successful GET."""
        answer = self.call("GET", path)
        assert answer.ok, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None) -> Any:
        """Return the JSON of a successful POST."""
        answer = self.call("POST", path, body if body is not None else {})
        assert answer.ok, answer.text
        return answer.json()

    def control(self, endpoint: str, /, **body: Any) -> Any:
        """Post to the control API."""
        return self.post(f"/_control/{endpoint}", body)

    def ledger(self, name: str, **query: str) -> Any:
        """Read an endpoint of the control API."""
        answer = self.http.get(f"{self.url}/_control/{name}", params=query, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    def create(self, name: str, integration: str = "EVOLUTION", **more: Any) -> Any:
        """Create an instance."""
        body = {"instanceName": name, "integration": integration, "token": f"{name}-token"}
        return self.post("/instance/create", {**body, **more})

    def open_baileys(self, name: str = "b1", **more: Any) -> None:
        """Create a Baileys instance and link a phone to it."""
        self.create(name, "WHATSAPP-BAILEYS", **more)
        self.get(f"/instance/connect/{name}")
        self.control("scan", instance=name, number="5511900000777", name="Fake Bot")

    def set_webhook(self, name: str, url: str, events: list[str], **more: Any) -> Any:
        """Enable the webhook through `/webhook/set`."""
        webhook = {"enabled": True, "url": url, "events": events, **more}
        return self.post(f"/webhook/set/{name}", {"webhook": webhook})

    def set_websocket(self, name: str, events: list[str], *, enabled: bool = True) -> Any:
        """Set the WebSocket through `/websocket/set`."""
        return self.post(
            f"/websocket/set/{quote(name, safe='')}",
            {"websocket": {"enabled": enabled, "events": events}},
        )


class Listener:
    """A Socket.IO client of one namespace that records the received events."""

    def __init__(self, server: Server, namespace: str, **options: Any) -> None:
        self.received: list[tuple[str, Any]] = []
        self.rejection: Any = None
        self.namespace = namespace
        self.client = socketio.Client(reconnection=False)
        self.client.on("*", self._record_event, namespace=namespace)
        self.client.on("connect_error", self._record_rejection, namespace=namespace)
        options.setdefault("transports", ["websocket"])
        query = options.pop("query", "")
        self.client.connect(server.url + query, namespaces=[namespace], wait_timeout=5, **options)

    def _record_event(self, event: str, data: Any) -> None:
        self.received.append((event, data))

    def _record_rejection(self, data: Any) -> None:
        self.rejection = data

    def ids(self) -> list[str]:
        """Return the message ids of the received `messages.upsert`."""
        return [data["data"]["key"]["id"] for event, data in self.received if "upsert" in event]

    def events(self, name: str) -> list[Any]:
        """Return the payloads of one event."""
        return [data for event, data in self.received if event == name]


@contextlib.contextmanager
def listening(server: Server, namespace: str, **options: Any) -> Iterator[Listener]:
    """Connect a listener; raises ConnectionError if the namespace rejects it."""
    listener = Listener(server, namespace, **options)
    try:
        yield listener
    finally:
        listener.client.disconnect()


def quick_settings(**changes: Any) -> EvolutionSettings:
    """Return settings for tests: the recorded key and very short delays."""
    defaults: dict[str, Any] = {
        "api_key": KEY,
        "connect_wait_seconds": 0.0,
        "create_wait_seconds": 0.0,
        "redial_seconds": 0.02,
        "delete_seconds": 0.05,
        "webhook_initial_seconds": 0.02,
        "webhook_max_attempts": 4,
        "ack_delays": (0.01, 0.02, 0.03),
        "hang_seconds": 3.0,
        "slow_seconds": 0.3,
    }
    return EvolutionSettings(**{**defaults, **changes})


@contextlib.contextmanager
def running(**changes: Any) -> Iterator[Server]:
    """Start a simulator on a separate port."""
    with run_in_thread(create_app(quick_settings(**changes))) as app:
        yield Server(app.url)


# -- comparison ----------------------------------------------------------------------------------

_VOLATILE = (
    ("cuid", re.compile(r"^c[a-z0-9]{24}$")),
    ("uuid", re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")),
    ("token", re.compile(r"^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$")),
    ("time", re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")),
    ("whatsapp id", re.compile(r"^(3EB0[0-9A-F]{18}|RELAY1)$")),
    ("wamid", re.compile(r"^wamid\.[A-Za-z0-9+/]{22}==$")),
    ("picture", re.compile(r"^data:image/png;base64,[A-Za-z0-9+/=]+$")),
    ("qr", re.compile(r"^2@\w+={0,2},noiseKey=,identityKey=,advSecret=$")),
    ("pairing code", re.compile(r"^[A-Z0-9]{8}$")),
    ("template", re.compile(r'^\{"from":"api","templateId":"[0-9a-f-]{36}"\}$')),
    ("seconds", re.compile(r"^1[78]\d{8}(\d{3})?$")),
    ("file", re.compile(r"^\d+-1[78]\d{11}\.mp3$")),
)
_FIRST_EPOCH = 1_500_000_000


def _is_index(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(name.isdigit() for name in value)


def differences(recorded: Any, simulated: Any, *, path: str = "") -> list[str]:
    """Return the differences of two bodies, except ids, times, tokens, pictures and bytes."""
    if _is_index(recorded) and _is_index(simulated):
        return []
    if isinstance(recorded, dict) and isinstance(simulated, dict):
        found = [f"{path}: lacks {name!r}" for name in recorded if name not in simulated]
        found += [f"{path}: has {name!r} too" for name in simulated if name not in recorded]
        for name in recorded:
            if name in simulated:
                found += differences(recorded[name], simulated[name], path=f"{path}.{name}")
        return found
    if isinstance(recorded, list) and isinstance(simulated, list):
        if len(recorded) != len(simulated):
            return [f"{path}: {len(recorded)} items recorded, {len(simulated)} simulated"]
        pairs = enumerate(zip(recorded, simulated, strict=True))
        return [text for i, (a, b) in pairs for text in differences(a, b, path=f"{path}[{i}]")]
    if recorded == simulated and type(recorded) is type(simulated):
        return []
    if isinstance(recorded, str) and isinstance(simulated, str):
        for _, pattern in _VOLATILE:
            if pattern.match(recorded) and pattern.match(simulated):
                return []
    numbers = isinstance(recorded, int) and isinstance(simulated, int)
    if numbers and recorded > _FIRST_EPOCH and simulated > _FIRST_EPOCH:
        return []
    return [f"{path}: recorded {recorded!r}, simulated {simulated!r}"]


def body_of(answer: requests.Response) -> Any:
    """Return the JSON of a response, or its text, as stored in the captures."""
    try:
        return answer.json()
    except ValueError:
        return answer.text


class Replay:
    """Sends the recorded requests of one capture and translates the server's ids."""

    def __init__(self, server: Server, hook_url: str, *, recorded_hook: str) -> None:
        self._server = server
        self._hook_url = hook_url
        self._recorded_hook = recorded_hook
        self._ids: dict[str, str] = {}

    def translated(self, value: Any) -> Any:
        """Replace receiver and ids of a recorded value by those of this run."""
        text = json.dumps(value).replace(self._recorded_hook, self._hook_url)
        for recorded, simulated in self._ids.items():
            text = text.replace(recorded, simulated)
        return json.loads(text)

    def differences(self, entry: Any) -> list[str]:
        """Send the request of an entry; return the differences from the recorded response."""
        request, recorded = entry["request"], entry["response"]
        headers = dict(request["headers"])
        options: dict[str, Any] = {"timeout": 10}
        body = request["body"]
        if isinstance(body, str):
            options["data"] = body
        elif "multipart" in entry["label"]:
            options |= {"data": body, "files": {"file": ("a.png", b"png", "image/png")}}
        elif body is not None:
            options["data"] = json.dumps(self.translated(body))
            headers.setdefault("Content-Type", "application/json")
        answer = self._server.http.request(
            request["method"], self._server.url + request["path"], headers=headers, **options
        )
        simulated = body_of(answer)
        self._map_ids(recorded["body"], simulated)
        found = differences(self.translated(recorded["body"]), simulated)
        if answer.status_code != recorded["status"]:
            found.insert(0, f"status {recorded['status']} recorded, {answer.status_code} now")
        kind = answer.headers["Content-Type"].lower()
        if recorded["content_type"] and kind != recorded["content_type"].lower():
            found.append(f"content type {recorded['content_type']} recorded, {kind} now")
        return [f"{entry['label']}: {text}" for text in found]

    def _map_ids(self, recorded: Any, simulated: Any) -> None:
        try:
            self._ids[recorded["key"]["id"]] = simulated["key"]["id"]
        except (KeyError, TypeError):
            return
