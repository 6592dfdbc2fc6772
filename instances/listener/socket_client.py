"""One Socket.IO connection to one Evolution instance (contracts/evolution-api.md §2).

It knows nothing of the database: it joins, hands every event to `on_event` in the order of
arrival, and tells `on_change` when it joins and leaves. It never gives up before `stop`.
"""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import engineio
import requests
import socketio
import structlog
from socketio import packet
from socketio.exceptions import ConnectionError as NotConnected
from socketio.exceptions import SocketIOError
from websocket import WebSocketBadStatusException

from channels_app.incidents.reason_text import encode_reason
from messaging.inbound import neutral

log = structlog.get_logger(__name__)

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 15.0
# A connection that lasted as long as this was a good one: the next try may come at once.
GOOD_SECONDS = 10.0
ANSWER_SECONDS = 8.0
# While the namespace is not open yet one connection asks for it again and again; Socket.IO's
# server closes those that joined nothing for 45 s.
KNOCK_SECONDS = 1.0
KNOCKING_SECONDS = 40.0

ROOT = "/"

# Why nobody is joined; `session_words` has sentences for them.
NOT_OPEN = "socket_not_open"
UNPROVEN = "socket_unproven"
LOST = "socket_lost"
NO_ANSWER = "socket_no_answer"


@dataclass(frozen=True, slots=True)
class Address:
    """Where and as whom to join. `shared`: somebody says that the server is in global mode, where
    the root namespace carries the events of every instance."""

    url: str
    key: str
    instance: str
    shared: bool = False

    @property
    def namespace(self) -> str:
        """Evolution opens it under the instance's very name: nothing is encoded in it."""
        return f"/{self.instance}"

    @property
    def namespaces(self) -> list[str]:
        """What is to be joined. In a packet a comma ends the name: no other side could read it."""
        if not self.shared:
            return [self.namespace]
        return [ROOT] if "," in self.instance else [ROOT, self.namespace]


class _Packet(packet.Packet):
    """A packet whose namespace may have a question mark, where the library would cut it."""

    def decode(self, encoded_packet: Any) -> Any:
        count = super().decode(encoded_packet)
        has_namespace = getattr(self, "namespace", None) is not None
        if isinstance(encoded_packet, str) and has_namespace:
            name, _, _ = encoded_packet[encoded_packet.index("/") :].partition(",")
            self.namespace = name
        return count


class _Engine(engineio.Client):
    """Handles a message in the thread that read it: a thread a message would lose their order."""

    def _trigger_event(self, event: str, *args: Any, **kwargs: Any) -> Any:
        return super()._trigger_event(event, *args, **{**kwargs, "run_async": False})


class _Client(socketio.Client):
    """One try: tells its words ("joined", "refused", "left") to a queue, from its own threads."""

    def __init__(
        self,
        address: Address,
        words: queue.SimpleQueue[str],
        on_unreadable: Callable[[bytes], None],
    ) -> None:
        options: dict[str, Any] = {"skip_utf8_validation": True}  # in Python, a letter at a time
        if address.url.startswith("https:"):
            options["sslopt"] = {"context": _certificates()}
        super().__init__(
            reconnection=False,
            serializer=_Packet,
            logger=_silent,
            engineio_logger=_silent,
            websocket_extra_options=options,
        )
        self._words = words
        self._on_unreadable = on_unreadable

    def _engineio_client_class(self) -> type[engineio.Client]:
        return _Engine

    def _handle_eio_message(self, data: Any) -> None:
        """Hand over what the library cannot read, where it would only log it."""
        begun = getattr(self, "_binary_packet", None)
        try:
            super()._handle_eio_message(data)
        except Exception as error:
            log.warning("socket packet not understood", error=type(error).__name__)
            # Else every packet to come would be taken for one attachment too many.
            self._binary_packet = None
            known = [] if begun is None else [begun.data, *begun.attachments]
            self._on_unreadable(neutral.encode([*known, data]))

    def _handle_disconnect(self, namespace: str) -> None:
        """The server put us out. The library would wait here for the thread that it is in."""
        self._words.put("left")

    def _handle_eio_disconnect(self, *args: Any) -> None:
        super()._handle_eio_disconnect(*args)
        self._words.put("left")

    def knock(self, namespace: str) -> None:
        """Ask again to be let into a namespace."""
        self._send_packet(self.packet_class(packet.CONNECT, data={}, namespace=namespace))

    def close(self) -> None:
        """Cut the connection. The library would wait seconds for a peer that is silent."""
        with contextlib.suppress(Exception):
            self.eio.ws.sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(Exception):
            self.eio.disconnect(abort=True)


@cache
def _certificates() -> ssl.SSLContext:
    """One for all connections: each would hold a megabyte of its own."""
    return ssl.create_default_context()


class _Silent:
    """Stands for a logger. What matters is told by us, without addresses; errors are kept."""

    level = 50

    def info(self, *args: Any, **kwargs: Any) -> None: ...

    debug = warning = info

    def error(self, text: str, *args: Any, **kwargs: Any) -> None:
        log.debug("socket library", text=text)

    def exception(self, text: str, *args: Any, **kwargs: Any) -> None:
        log.exception("socket handler failed", text=text)


_silent = _Silent()


class SocketClient:
    """Stays joined until it is stopped, with growing pauses between tries that fail.

    The root namespace takes clients in whether anything is ever emitted there or not (§2). So of a
    shared address both are joined, and it counts as joined once the instance's own namespace is, or
    once any event came at the root. What comes at both is handed over twice.

    What comes in the instance's own namespace and is no event of another instance is handed over
    whatever it is: no object, an object that names no instance. `on_unreadable(raw)` gets the bytes
    of a packet that could not be read at all.

    `on_event(payload)` and `on_change(True, "")` are called in the thread that reads the socket, in
    order: what comes after the join is handed over after it was told. They must not wait.
    `on_change(False, why)` is called from another one.
    """

    def __init__(
        self,
        address: Address,
        *,
        on_event: Callable[[Any], None],
        on_change: Callable[[bool, str], None],
        on_unreadable: Callable[[bytes], None] = lambda raw: None,
    ) -> None:
        self.address = address
        self._on_unreadable = on_unreadable
        self._on_event = on_event
        self._on_change = on_change
        self._stopped = False
        self._joined = False
        self._words: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name=f"socket-{address.instance}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Leave and end, without waiting for it."""
        self._stopped = True
        self._words.put("stop")

    def wait(self, timeout: float) -> None:
        """Wait for the end after `stop`, at most `timeout` seconds."""
        self._thread.join(timeout)

    @property
    def joined(self) -> bool:
        return self._joined

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopped:
            started = time.monotonic()
            note = self._try()
            if self._stopped:
                return
            self._on_change(False, note)
            if time.monotonic() - started > GOOD_SECONDS:
                pause = FIRST_PAUSE
            self._rest(pause * random.uniform(0.5, 1.0))  # noqa: S311 (spread, not secrecy)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopped and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                self._words.get(timeout=left)

    def _try(self) -> str:
        """Join, and stay until it ends. Returns why it ended."""
        words: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._words = words
        client = _Client(self.address, words, self._on_unreadable)
        namespace = self.address.namespace
        refusal: list[str] = []

        def on_proof() -> None:
            if not self._joined:
                self._joined = True
                self._on_change(True, "")
                words.put("joined")

        def on_root_event(event: str, *arguments: Any) -> None:
            on_proof()
            self._receive(event, *arguments)

        def on_refusal(data: Any = None, *_: Any) -> None:
            refusal[:] = [_told(data)]
            words.put("refused")

        client.on("*", self._receive, namespace=namespace)
        client.on("connect", on_proof, namespace=namespace)
        client.on("connect_error", on_refusal, namespace=namespace)
        if self.address.shared:
            client.on("*", on_root_event, namespace=ROOT)
            client.on("connect", lambda: words.put("at the root"), namespace=ROOT)
            client.on("connect_error", on_refusal, namespace=ROOT)
        try:
            client.connect(
                self.address.url,
                headers={"apikey": self.address.key},
                transports=["websocket"],
                namespaces=self.address.namespaces,
                wait=False,
            )
            return self._stay(client, words, refusal)
        except (SocketIOError, requests.RequestException, OSError, ValueError) as error:
            return _reason(error)
        finally:
            self._joined = False
            client.close()

    def _stay(self, client: _Client, words: queue.SimpleQueue[str], refusal: list[str]) -> str:
        started = asked = time.monotonic()
        joined = waiting = at_root = False
        can_ask = self.address.namespace in self.address.namespaces
        while not self._stopped:
            try:
                word = words.get(timeout=KNOCK_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311
            except queue.Empty:
                word = "" if client.eio.state == "connected" else "left"
            now = time.monotonic()
            if word == "left":
                return LOST
            if word == "joined":
                joined = True
            elif word == "at the root":
                at_root = True
                if not can_ask and not joined:
                    # Only an event of any instance can prove that the root carries them.
                    self._on_change(False, UNPROVEN)
                    waiting = True
            elif word == "refused" and not joined:
                if refusal[0] != NOT_OPEN:
                    return refusal[0]
                if not waiting:
                    self._on_change(False, UNPROVEN if at_root else NOT_OPEN)
                waiting = True
            elif not word and not joined:
                if waiting and (at_root or now - started < KNOCKING_SECONDS):
                    asked = now
                    if can_ask:
                        client.knock(self.address.namespace)
                elif waiting or now - asked > ANSWER_SECONDS:
                    return NOT_OPEN if waiting else NO_ANSWER
        return ""

    def _receive(self, event: str, *arguments: Any) -> None:
        payload = arguments[0] if len(arguments) == 1 else None
        named = payload.get("instance") if isinstance(payload, dict) else None
        if isinstance(named, str) and named:
            if named == self.address.instance:
                self._on_event(payload)
            return
        self._on_event([event, *arguments])


def _told(data: Any) -> str:
    """Return why the server refused the namespace, as it is stored."""
    text = data.get("message") if isinstance(data, dict) else data
    return (
        NOT_OPEN
        if "nvalid namespace" in str(text)
        else encode_reason("socket_refused", str(text)[:80])
    )


def _reason(error: BaseException | None) -> str:
    """Return why connecting failed, as it is stored: without addresses or keys."""
    found = error
    while found is not None:
        if isinstance(found, WebSocketBadStatusException):
            if found.status_code in (401, 403):
                return "wrong_key"
            return f"http_{found.status_code}"
        found = found.__cause__ or found.__context__
    if isinstance(error, NotConnected):
        return "unreachable"
    return encode_reason("socket_failed", type(error).__name__)
