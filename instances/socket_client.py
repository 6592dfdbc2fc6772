"""One Socket.IO connection to one Evolution instance (contracts/evolution-api.md §2).

It knows nothing of the database: it joins, hands every event to `on_event` in the order of
arrival, and tells `on_change` when it joins and leaves. It never gives up before `stop`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import engineio
import requests
import socketio
import structlog
from socketio.exceptions import ConnectionError as JoinFailed
from socketio.exceptions import SocketIOError

log = structlog.get_logger(__name__)

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 15.0
JOIN_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where and as whom to join. `shared`: the server's global mode, where the root namespace
    carries the events of every instance."""

    url: str
    key: str
    instance: str
    shared: bool = False

    @property
    def namespace(self) -> str:
        return "/" if self.shared else f"/{self.instance}"


class _OrderedEngine(engineio.Client):
    """Handles a message in the thread that read it: a thread a message would lose their order."""

    def _trigger_event(self, event: str, *args: Any, **kwargs: Any) -> Any:
        return super()._trigger_event(event, *args, **{**kwargs, "run_async": False})


class _OrderedClient(socketio.Client):
    def _engineio_client_class(self) -> type[engineio.Client]:
        return _OrderedEngine


class SocketClient:
    """Stays joined until it is stopped, with growing pauses between tries that fail.

    `on_event(payload)`, `on_change(joined, note)` and `on_join()` are called from threads of this
    object. `on_join` runs before the join is told: it fetches what was missed.
    """

    def __init__(
        self,
        address: Address,
        *,
        on_event: Callable[[dict[str, Any]], None],
        on_change: Callable[[bool, str], None],
    ) -> None:
        self.address = address
        self._on_event = on_event
        self._on_change = on_change
        self._stopped = threading.Event()
        self._left = threading.Event()
        self._client: socketio.Client | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"socket-{address.instance}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Leave and end. Waits at most `timeout` seconds."""
        self._stopped.set()
        self._left.set()
        self._thread.join(timeout)

    @property
    def joined(self) -> bool:
        client = self._client
        return client is not None and self.address.namespace in client.namespaces

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopped.is_set():
            note = self._join_once()
            if note is None:
                pause = FIRST_PAUSE
                continue
            self._on_change(False, note)
            self._stopped.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 (spread, not secrecy)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _join_once(self) -> str | None:
        """Join and stay until it ends. Returns why joining failed, None when it had succeeded."""
        self._left.clear()
        client = _OrderedClient(reconnection=False, logger=False, engineio_logger=False)
        namespace = self.address.namespace
        client.on("*", self._receive, namespace=namespace)
        client.on("disconnect", lambda *_: self._left.set(), namespace=namespace)
        self._client = client
        try:
            client.connect(
                self.address.url,
                headers={"apikey": self.address.key},
                transports=["websocket"],
                namespaces=[namespace],
                wait_timeout=JOIN_SECONDS,
            )
        except (SocketIOError, requests.RequestException, OSError, ValueError) as error:
            self._close(client)
            return _reason(error)
        if self._stopped.is_set():
            self._close(client)
            return None
        self._on_change(True, "")
        self._left.wait()
        self._close(client)
        if not self._stopped.is_set():
            self._on_change(False, "connection lost")
        return None

    def _receive(self, event: str, payload: Any = None, *_: Any) -> None:
        if not isinstance(payload, dict):
            log.warning("socket event without an object", event_name=str(event)[:80])
            return
        if payload.get("instance") == self.address.instance:
            self._on_event(payload)

    @staticmethod
    def _close(client: socketio.Client) -> None:
        try:
            client.disconnect()
        except Exception as error:
            log.debug("closing a dead socket", error=type(error).__name__)


def _reason(error: Exception) -> str:
    """Return why joining failed, in a few words without addresses or keys."""
    text = str(error)
    if "nvalid namespace" in text or (
        isinstance(error, JoinFailed) and "namespaces failed" in text
    ):
        return "namespace not open yet"
    if "403" in text or "orbidden" in text:
        return "refused: wrong key"
    if isinstance(error, JoinFailed):
        return "not reachable"
    return type(error).__name__
