"""Code shared by the simulated providers.

Each simulator is one aiohttp application. It serves the provider's routes and a control API under
``/_control/``, which tests and the demo use to inspect and control it.

Recipient numbers and scenarios
-------------------------------
A recipient number that ends in ``9999FFGG`` selects scenarios: ``GG`` (the last two digits)
selects one of the Graph API, ``FF`` (the two before) one of the fallback provider. For example,
Graph rejects +55 11 99999-0047 with 131047 and the fallback delivers it; Graph rejects
+55 11 99999-0647, which is not on WhatsApp Web either. ``00``, a pair without a scenario and a
number without the four nines succeed everywhere, so that ordinary test data never triggers a
fault by accident.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from simulators.keep_alive import KeepAliveClient

JsonObject = dict[str, Any]
_T = TypeVar("_T")

MARKER = "9999"
MAX_BODY_BYTES = 200 * 1024 * 1024
MAX_RECORDS = 20_000
_SHUTDOWN_SECONDS = 0.3


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """One possible provider response, selected by a pair of digits of the recipient's number."""

    name: str
    digits: str
    english: str
    portuguese: str


def only_digits(number: str) -> str:
    """Return the digits of a phone number or chat id, without its ``@server`` part."""
    return re.sub(r"\D", "", number.partition("@")[0])


def graph_digits(number: str) -> str:
    """Return the digits that select the Graph scenario; ``"00"`` for an ordinary number."""
    tail = only_digits(number)[-8:]
    return tail[6:] if len(tail) == 8 and tail.startswith(MARKER) else "00"


def fallback_digits(number: str) -> str:
    """Return the digits that select the fallback's scenario; ``"00"`` for an ordinary number."""
    tail = only_digits(number)[-8:]
    return tail[4:6] if len(tail) == 8 and tail.startswith(MARKER) else "00"


def example_number(*, graph: str = "00", fallback: str = "00") -> str:
    """Return a valid Brazilian mobile number that triggers the two scenarios."""
    return f"+55 11 9{MARKER}-{fallback}{graph}"


def whatsapp_id(number: str) -> str:
    """Return the digits under which a number is registered on WhatsApp.

    Brazilian accounts outside São Paulo, Rio and Espírito Santo (area codes 31 and above) are
    registered without the ninth digit, and both providers return that form
    (``docs/providers/wwebjs.md §3``, ``docs/providers/cloud.md §1.2``).
    """
    digits = only_digits(number)
    if len(digits) == 13 and digits.startswith("55") and digits[4] == "9" and digits[2:4] >= "31":
        return digits[:4] + digits[5:]
    return digits


@dataclasses.dataclass(slots=True)
class LedgerEntry:
    """A message the provider accepted, and whether the customer's phone received it."""

    id: str
    sender: str
    to: str
    type: str
    text: str
    reference: str
    scenario: str
    delivered: bool
    at: float = dataclasses.field(default_factory=time.time)


class MessageLedger:
    """The messages the provider accepted, and which of them the customers received."""

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []

    def add(self, entry: LedgerEntry) -> LedgerEntry:
        """Record an accepted message."""
        self.entries.append(entry)
        return entry

    def describe(self) -> JsonObject:
        """Return the accepted messages, and how often each reference and text was delivered."""
        delivered = [entry for entry in self.entries if entry.delivered]
        return {
            "messages": [dataclasses.asdict(entry) for entry in self.entries],
            "delivered": len(delivered),
            "delivered_by_reference": Counter(e.reference for e in delivered if e.reference),
            "delivered_by_text": Counter(e.text for e in delivered if e.text),
            "delivered_by_recipient": Counter(e.to for e in delivered),
        }


@dataclasses.dataclass(slots=True)
class WebhookRecord:
    """The delivery of one webhook: body, number of attempts, last status (0 = no response)."""

    url: str
    body: Any
    attempts: int = 0
    status: int = 0


class ControlError(Exception):
    """An invalid control request; the response contains its text."""


class Simulator:
    """State and control API of a simulator; a subclass adds the provider's routes."""

    name = "simulator"
    scenarios: Mapping[str, Scenario] = {}

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.requests: deque[JsonObject] = deque(maxlen=MAX_RECORDS)
        self.webhooks: deque[WebhookRecord] = deque(maxlen=MAX_RECORDS)
        self.book = MessageLedger()
        # Of each delivery attempt of a webhook: when it began, its duration, the status.
        self.timings: list[tuple[float, float, int]] = []
        self._posters: dict[tuple[str, int], KeepAliveClient] = {}
        self._scripts: dict[str, deque[str]] = {}
        self._permanent: dict[str, str] = {}
        self._by_digits = {scenario.digits: scenario for scenario in self.scenarios.values()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._endless: set[asyncio.Task[None]] = set()
        self._client: aiohttp.ClientSession | None = None

    # -- the application ---------------------------------------------------------------------

    def application(self) -> web.Application:
        """Build the aiohttp application: control API, provider routes, request recording."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._record])
        app.cleanup_ctx.append(self._background)
        self._add_control_routes(app.router)
        self.add_routes(app.router)
        return app

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the provider's routes."""
        raise NotImplementedError

    async def on_start(self) -> None:
        """Run in the event loop before the first request."""

    @property
    def client(self) -> aiohttp.ClientSession:
        """The HTTP client for webhooks and for media that the provider downloads."""
        if self._client is None:
            raise RuntimeError("the simulator is not running")
        return self._client

    async def _background(self, app: web.Application) -> Any:
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15))
        await self.on_start()
        yield
        tasks = self._tasks | self._endless
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()
        for poster in self._posters.values():
            poster.close()
        self._posters.clear()

    def spawn(
        self, work: Coroutine[Any, Any, None], *, endless: bool = False
    ) -> asyncio.Task[None]:
        """Run a coroutine in the background, beyond the response of the current request.

        ``/_control/settle`` does not wait for ``endless`` work.
        """
        task = asyncio.get_running_loop().create_task(work)
        tasks = self._endless if endless else self._tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    @web.middleware
    async def _record(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        if request.path.startswith("/_control/"):
            try:
                return await handler(request)
            except ControlError as error:
                return web.json_response({"error": str(error)}, status=400)
        entry: JsonObject = {
            "at": time.time(),
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": None,
        }
        self.requests.append(entry)
        # A multipart body can be read only once, and the handler has to read it.
        if not request.content_type.startswith("multipart/"):
            raw = await request.read()
            text = raw.decode("utf-8", errors="replace")
            try:
                entry["body"] = json.loads(text) if text else None
            except ValueError:
                entry["body"] = text
        return await handler(request)

    # -- scenarios ---------------------------------------------------------------------------

    def choose(self, recipient: str, digits: str, *, consume: bool = True) -> Scenario:
        """Return a recipient's next scenario: its own script, the global script, or its digits."""
        for key in (whatsapp_id(recipient), "*"):
            queue = self._scripts.get(key)
            if queue:
                return self.scenarios[queue.popleft() if consume else queue[0]]
            if key in self._permanent:
                return self.scenarios[self._permanent[key]]
        return self._by_digits.get(digits, self._by_digits["00"])

    def describe(self) -> list[JsonObject]:
        """Return the scenario table with one valid example number each."""
        return [
            {**_scenario_fields(scenario), "example": self.example(scenario)}
            for scenario in self.scenarios.values()
        ]

    @classmethod
    def example(cls, scenario: Scenario) -> str:
        """Return a valid number that triggers the scenario."""
        raise NotImplementedError

    # -- webhooks ----------------------------------------------------------------------------

    async def post_webhook(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        attempts: int = 1,
        retry_delay: float = 0.5,
    ) -> bool:
        """Post a webhook until the receiver answers 200, at most ``attempts`` times.

        The delay doubles after each failure. Returns whether a 200 arrived.
        """
        record = WebhookRecord(url, json.loads(body))
        self.webhooks.append(record)
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(retry_delay * 2 ** (attempt - 1))
            record.attempts += 1
            record.status = 0
            began, clock = time.time(), time.perf_counter()
            # An unreachable receiver is a normal case, not an error of the simulator.
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError):
                record.status = await self._post_once(url, body, headers)
            self.timings.append((began, time.perf_counter() - clock, record.status))
            if record.status == 200:
                return True
        return False

    async def _post_once(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            async with self.client.post(url, data=body, headers=dict(headers)) as answer:
                return answer.status
        address = parts.hostname, parts.port or 80
        poster = self._posters.get(address)
        if poster is None:
            poster = self._posters[address] = KeepAliveClient(*address)
        target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return (await poster.request("POST", target, body, lines.encode())).status

    # -- control API -------------------------------------------------------------------------

    def _add_control_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/_control/health", self._control_health)
        router.add_get("/_control/requests", self._control_requests)
        router.add_delete("/_control/requests", self._control_clear_requests)
        router.add_get("/_control/webhooks", self._control_webhooks)
        router.add_get("/_control/timings", self._control_timings)
        router.add_delete("/_control/timings", self._control_clear_timings)
        router.add_get("/_control/book", self._control_book)
        router.add_delete("/_control/book", self._control_clear_book)
        router.add_get("/_control/scenarios", self._control_scenarios)
        router.add_post("/_control/script", self._control_script)
        router.add_delete("/_control/script", self._control_clear_script)
        router.add_get("/_control/settings", self._control_settings)
        router.add_post("/_control/settings", self._control_change_settings)
        router.add_post("/_control/settle", self._control_settle)

    async def _control_health(self, request: web.Request) -> web.Response:
        return web.json_response({"simulator": self.name})

    async def _control_requests(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.requests))

    async def _control_clear_requests(self, request: web.Request) -> web.Response:
        self.requests.clear()
        return web.json_response({"cleared": True})

    async def _control_webhooks(self, request: web.Request) -> web.Response:
        return web.json_response([dataclasses.asdict(record) for record in self.webhooks])

    async def _control_timings(self, request: web.Request) -> web.Response:
        return web.json_response(self.timings)

    async def _control_clear_timings(self, request: web.Request) -> web.Response:
        self.timings.clear()
        return web.json_response({"cleared": True})

    async def _control_book(self, request: web.Request) -> web.Response:
        return web.json_response(self.book.describe())

    async def _control_clear_book(self, request: web.Request) -> web.Response:
        self.book.entries.clear()
        return web.json_response({"cleared": True})

    async def _control_scenarios(self, request: web.Request) -> web.Response:
        return web.json_response(self.describe())

    async def _control_script(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        names = command.get("scenarios")
        if not isinstance(names, list) or not names:
            raise ControlError("scenarios must be a list with at least one name")
        unknown = [name for name in names if name not in self.scenarios]
        if unknown:
            raise ControlError(f"unknown scenarios: {unknown}")
        key = whatsapp_id(str(command.get("recipient") or "")) or "*"
        if command.get("forever"):
            *names, self._permanent[key] = names
        self._scripts.setdefault(key, deque()).extend(names)
        return web.json_response({"recipient": key, "queued": list(self._scripts[key])})

    async def _control_clear_script(self, request: web.Request) -> web.Response:
        self._scripts.clear()
        self._permanent.clear()
        return web.json_response({"cleared": True})

    async def _control_settings(self, request: web.Request) -> web.Response:
        return web.json_response(dataclasses.asdict(self.settings))

    async def _control_change_settings(self, request: web.Request) -> web.Response:
        self.change_settings(await control_body(request))
        return web.json_response(dataclasses.asdict(self.settings))

    def change_settings(self, changes: JsonObject) -> None:
        """Change plain settings by name; raises ControlError without changes if one is invalid."""
        checked: JsonObject = {}
        for name, value in changes.items():
            if not hasattr(self.settings, name):
                raise ControlError(f"no such setting: {name}")
            checked[name] = _coerce(getattr(self.settings, name), value, name)
        for name, value in checked.items():
            setattr(self.settings, name, value)

    async def _control_settle(self, request: web.Request) -> web.Response:
        """Wait until every delayed status and webhook is sent, or the timeout expires."""
        deadline = time.monotonic() + float(request.query.get("timeout", "10"))
        while self._tasks and time.monotonic() < deadline:
            await asyncio.wait(tuple(self._tasks), timeout=deadline - time.monotonic())
            # Finished tasks leave the set in callbacks of the next loop iteration.
            await asyncio.sleep(0)
        return web.json_response({"settled": not self._tasks})


def _scenario_fields(scenario: Scenario) -> JsonObject:
    return {
        "name": scenario.name,
        "digits": scenario.digits,
        "english": scenario.english,
        "portuguese": scenario.portuguese,
    }


def _coerce(current: Any, value: Any, name: str) -> Any:
    """Return the value if its type matches the current one; raises ControlError otherwise."""
    if isinstance(current, bool) or isinstance(value, bool):
        fits = isinstance(current, bool) and isinstance(value, bool)
    elif isinstance(current, float):
        fits = isinstance(value, int | float) and value >= 0
    elif isinstance(current, tuple):
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        value = tuple(value) if fits else value
    else:
        fits = isinstance(current, int | str) and isinstance(value, type(current))
    if not fits:
        raise ControlError(f"{name} cannot be {value!r}")
    return value


async def control_body(request: web.Request) -> JsonObject:
    """Return the JSON object of a control request; an empty body is an empty object."""
    raw = await request.read()
    try:
        body = json.loads(raw or b"{}")
    except ValueError as error:
        raise ControlError(f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ControlError("the body must be a JSON object")
    return body


def reset_connection(request: web.Request) -> web.Response:
    """Reset the TCP connection; the returned response never reaches the client."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        # A linger time of zero makes the kernel send RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def hang(request: web.Request, seconds: float) -> web.Response:
    """Send no response until the client disconnects or ``seconds`` have passed."""
    await wait_for_client(request, seconds)
    if request.transport is not None:
        request.transport.close()
    return web.Response()


async def wait_for_client(request: web.Request, seconds: float) -> None:
    """Wait ``seconds``, or less if the client closes the connection earlier."""
    deadline = time.monotonic() + seconds
    # aiohttp signals a lost client only by canceling the handler, which is off by default.
    while request.transport is not None and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(min(0.05, max(0.0, deadline - time.monotonic())))


async def serve(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Listen on ``host:port`` (0 = any free port) until the runner is cleaned up.

    Raises OSError when the port is in use.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


@dataclasses.dataclass(frozen=True, slots=True)
class RunningApp:
    """An application that runs in a thread of this process."""

    url: str
    port: int


@contextlib.contextmanager
def run_in_thread(
    app: web.Application, host: str = "127.0.0.1", port: int = 0
) -> Iterator[RunningApp]:
    """Serve an application from a thread while the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=30)

    runner: web.AppRunner | None = None
    try:
        runner = run(serve(app, host, port))
        bound = int(runner.addresses[0][1])
        yield RunningApp(url=f"http://{host}:{bound}", port=bound)
    finally:
        if runner is not None:
            run(runner.cleanup())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
