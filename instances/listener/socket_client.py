"""One Socket.IO connection to one Evolution instance (docs/providers/evolution.md §2).

It does not use the database. It joins, passes every event to `on_event` in order of arrival, and
calls `on_change` when it joins and leaves. It retries until `stop` is called.
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
from channels_app.providers.evolution.receive_mode import has_own_namespace
from messaging.inbound import neutral

log = structlog.get_logger(__name__)

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 15.0
# After a connection that lasted this long, the retry delay starts from the beginning.
GOOD_SECONDS = 10.0
ANSWER_SECONDS = 8.0
# While the namespace is not open, one connection requests it repeatedly. The Socket.IO server
# closes connections that join nothing for 45 s.
REQUEST_SECONDS = 1.0
REQUESTING_SECONDS = 40.0

ROOT = "/"

# Reasons why the socket is not joined; `reason_text` has their sentences.
NOT_OPEN = "socket_not_open"
UNPROVEN = "socket_unproven"
LOST = "socket_lost"
NO_ANSWER = "socket_no_answer"
UNJOINABLE = "socket_unjoinable"


@dataclass(frozen=True, slots=True)
class Address:
    """The server, key and instance to join. `shared`: staff set that the server is in global mode,
    where the root namespace carries the events of every instance."""

    url: str
    key: str
    instance: str
    shared: bool = False

    @property
    def namespace(self) -> str:
        """The instance's namespace. Evolution does not encode the name in it."""
        return f"/{self.instance}"

    @property
    def namespaces(self) -> list[str]:
        """The namespaces to join; none if the instance can only be received at a shared root."""
        own = [self.namespace] if has_own_namespace(self.instance) else []
        return [ROOT, *own] if self.shared else own


class _Packet(packet.Packet):
    """A packet whose namespace may contain a question mark, where the library truncates it."""

    def decode(self, encoded_packet: Any) -> Any:
        count = super().decode(encoded_packet)
        has_namespace = getattr(self, "namespace", None) is not None
        if isinstance(encoded_packet, str) and has_namespace:
            name, _, _ = encoded_packet[encoded_packet.index("/") :].partition(",")
            self.namespace = name
        return count


class _Engine(engineio.Client):
    """Handles messages in the reading thread: one thread for each would lose their order."""

    def _trigger_event(self, event: str, *args: Any, **kwargs: Any) -> Any:
        return super()._trigger_event(event, *args, **{**kwargs, "run_async": False})


class _Client(socketio.Client):
    """One connection: its threads queue the signals "joined", "refused" and "left"."""

    def __init__(
        self,
        address: Address,
        signals: queue.SimpleQueue[str],
        on_unreadable: Callable[[bytes], None],
    ) -> None:
        options: dict[str, Any] = {"skip_utf8_validation": True}  # slow in pure Python
        if address.url.startswith("https:"):
            options["sslopt"] = {"context": _certificates()}
        super().__init__(
            reconnection=False,
            serializer=_Packet,
            logger=_quiet_logger,
            engineio_logger=_quiet_logger,
            websocket_extra_options=options,
        )
        self._signals = signals
        self._on_unreadable = on_unreadable

    def _engineio_client_class(self) -> type[engineio.Client]:
        return _Engine

    def _handle_eio_message(self, data: Any) -> None:
        """Pass on packets that the library cannot read and would only log."""
        begun = getattr(self, "_binary_packet", None)
        try:
            super()._handle_eio_message(data)
        except Exception as error:
            log.warning("socket packet not understood", error=type(error).__name__)
            # Otherwise the library would treat each later packet as an extra attachment.
            self._binary_packet = None
            known = [] if begun is None else [begun.data, *begun.attachments]
            self._on_unreadable(neutral.encode([*known, data]))

    def _handle_disconnect(self, namespace: str) -> None:
        """The server disconnected us. The library would wait here for its own thread."""
        self._signals.put("left")

    def _handle_eio_disconnect(self, *args: Any) -> None:
        super()._handle_eio_disconnect(*args)
        self._signals.put("left")

    def request_connect(self, namespace: str) -> None:
        """Request to join a namespace again."""
        self._send_packet(self.packet_class(packet.CONNECT, data={}, namespace=namespace))

    def close(self) -> None:
        """Close the connection. The library would wait seconds for a silent peer."""
        with contextlib.suppress(Exception):
            self.eio.ws.sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(Exception):
            self.eio.disconnect(abort=True)


@cache
def _certificates() -> ssl.SSLContext:
    """Share one context: each takes a megabyte."""
    return ssl.create_default_context()


class _QuietLogger:
    """A logger that drops all but errors. We log the rest ourselves, without addresses."""

    level = 50

    def info(self, *args: Any, **kwargs: Any) -> None: ...

    debug = warning = info

    def error(self, text: str, *args: Any, **kwargs: Any) -> None:
        log.debug("socket library", text=text)

    def exception(self, text: str, *args: Any, **kwargs: Any) -> None:
        log.exception("socket handler failed", text=text)


_quiet_logger = _QuietLogger()


class SocketClient:
    """Stays joined until it is stopped, with growing delays between failed attempts.

    The root namespace accepts clients even if nothing is ever emitted there (§2). So a shared
    address joins both, and counts as joined once the instance's own namespace is joined or any
    event arrives at the root. Events that arrive at both are passed on twice.

    Everything in the instance's own namespace is passed on, except events of another instance:
    also payloads that are not objects or name no instance. `on_unreadable(raw)` receives the bytes
    of an unreadable packet.

    `on_event(payload)` and `on_change(True, "")` are called in the thread that reads the socket, in
    order: the join precedes its events. They must not block. `on_change(False, reason)` is called
    from another thread.
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
        self._signals: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name=f"socket-{address.instance}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Leave and stop, without waiting."""
        self._stopped = True
        self._signals.put("stop")

    def wait(self, timeout: float) -> None:
        """Wait for the thread after `stop`, at most `timeout` seconds."""
        self._thread.join(timeout)

    @property
    def joined(self) -> bool:
        return self._joined

    def _run(self) -> None:
        delay = FIRST_PAUSE
        while not self._stopped:
            started = time.monotonic()
            note = self._connect_once()
            if self._stopped:
                return
            self._on_change(False, note)
            if time.monotonic() - started > GOOD_SECONDS:
                delay = FIRST_PAUSE
            self._sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 (spread, not secrecy)
            delay = min(delay * 2, LONGEST_PAUSE)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopped and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                self._signals.get(timeout=left)

    def _connect_once(self) -> str:
        """Join and stay until the connection ends. Returns the reason."""
        if not self.address.namespaces:
            return UNJOINABLE
        signals: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._signals = signals
        client = _Client(self.address, signals, self._on_unreadable)
        namespace = self.address.namespace
        rejection: list[str] = []

        def on_proof() -> None:
            if not self._joined:
                self._joined = True
                self._on_change(True, "")
                signals.put("joined")

        def on_root_event(event: str, *arguments: Any) -> None:
            on_proof()
            self._receive(event, *arguments)

        def on_rejection(data: Any = None, *_: Any) -> None:
            rejection[:] = [_rejection_reason(data)]
            signals.put("refused")

        client.on("*", self._receive, namespace=namespace)
        client.on("connect", on_proof, namespace=namespace)
        client.on("connect_error", on_rejection, namespace=namespace)
        if self.address.shared:
            client.on("*", on_root_event, namespace=ROOT)
            client.on("connect", lambda: signals.put("root_joined"), namespace=ROOT)
            client.on("connect_error", on_rejection, namespace=ROOT)
        try:
            client.connect(
                self.address.url,
                headers={"apikey": self.address.key},
                transports=["websocket"],
                namespaces=self.address.namespaces,
                wait=False,
            )
            return self._stay_joined(client, signals, rejection)
        except (SocketIOError, requests.RequestException, OSError, ValueError) as error:
            return _failure_reason(error)
        finally:
            self._joined = False
            client.close()

    def _stay_joined(
        self, client: _Client, signals: queue.SimpleQueue[str], rejection: list[str]
    ) -> str:
        started = requested_at = time.monotonic()
        joined = waiting = at_root = False
        can_request = self.address.namespace in self.address.namespaces
        while not self._stopped:
            try:
                signal = signals.get(timeout=REQUEST_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311
            except queue.Empty:
                signal = "" if client.eio.state == "connected" else "left"
            now = time.monotonic()
            if signal == "left":
                return LOST
            if signal == "joined":
                joined = True
            elif signal == "root_joined":
                at_root = True
                if not can_request and not joined:
                    # Only an event of any instance proves that the root carries them.
                    self._on_change(False, UNPROVEN)
                    waiting = True
            elif signal == "refused" and not joined:
                if rejection[0] != NOT_OPEN:
                    return rejection[0]
                if not waiting:
                    self._on_change(False, UNPROVEN if at_root else NOT_OPEN)
                waiting = True
            elif not signal and not joined:
                if waiting and (at_root or now - started < REQUESTING_SECONDS):
                    requested_at = now
                    if can_request:
                        client.request_connect(self.address.namespace)
                elif waiting or now - requested_at > ANSWER_SECONDS:
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


def _rejection_reason(data: Any) -> str:
    """Return the reason code for a rejected namespace."""
    text = data.get("message") if isinstance(data, dict) else data
    return (
        NOT_OPEN
        if "nvalid namespace" in str(text)
        else encode_reason("socket_refused", str(text)[:80])
    )


def _failure_reason(error: BaseException | None) -> str:
    """Return the reason code for a failed connection, without addresses or keys."""
    cause = error
    while cause is not None:
        if isinstance(cause, WebSocketBadStatusException):
            if cause.status_code in (401, 403):
                return "wrong_key"
            return f"http_{cause.status_code}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, NotConnected):
        return "unreachable"
    return encode_reason("socket_failed", type(error).__name__)
