"""Tell open pages that something changed. The only module that touches the channel layer.

A push is sent after the commit and carries ids only: each socket reads what it shows from the
database. Losing a push is never an error: each socket looks by itself now and then, too.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

import structlog
from channels.layers import get_channel_layer
from django.db import transaction

if TYPE_CHECKING:
    from channels_app.models import Channel
    from messaging.models import CallAttempt, Message

log = structlog.get_logger(__name__)

INBOX = "inbox"
CHANNELS = "channels"
ALARMS = "alarms"
SIGNED_OUT = "signed_out"
PUSH_TIMEOUT_SECONDS = 2.0


def conversation_group(conversation_id: int) -> str:
    return f"conversation.{conversation_id}"


def session_group(session_key: str) -> str:
    """The sockets of one signed-in browser. The key itself is a secret and stays out of Valkey."""
    return f"session.{hashlib.sha256(session_key.encode()).hexdigest()[:32]}"


def signed_out(session_key: str) -> None:
    """Let the sockets of a browser be closed that is signed out."""
    publish(session_group(session_key), **{SIGNED_OUT: 1})


def message_changed(message: Message) -> None:
    """Tell the message's conversation and the list of conversations, once this is committed."""
    publish(conversation_group(message.conversation_id), messages=str(message.pk))
    publish(INBOX, conversations=message.conversation_id)


def call_changed(call: CallAttempt) -> None:
    """Tell the conversation of a call; of one from a customer the list of conversations, too."""
    publish(conversation_group(call.conversation_id), calls=call.pk)
    if call.incoming:
        publish(INBOX, conversations=call.conversation_id)


def channel_changed(channel: Channel) -> None:
    """Tell the pages that show channels, and those that show how many are well."""
    publish(CHANNELS, channels=channel.pk)
    publish(INBOX, channels=channel.pk)


def alarms_changed(channel: Channel) -> None:
    """Tell staff, on whatever page they are, that something of a channel dropped or is back."""
    publish(ALARMS, alarms=channel.pk)


def publish(group: str, **changed: str | int) -> None:
    """Tell the sockets of a group which row changed, once the present transaction commits."""
    transaction.on_commit(lambda: _pushes.add(group, changed))


class _Pushes:
    """Changes on their way to the channel layer.

    While some are being sent, later ones gather and go together: a burst costs a few messages, and
    a single change waits for nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[str, set[str | int]]] = {}
        self._sending: Future[None] | None = None

    def add(self, group: str, changed: dict[str, str | int]) -> None:
        with self._lock:
            waiting = self._waiting.setdefault(group, {})
            for kind, id_ in changed.items():
                waiting.setdefault(kind, set()).add(id_)
            if self._sending is None:
                self._sending = asyncio.run_coroutine_threadsafe(self._send_all(), _loop())

    async def _send_all(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._sending = None
                    return
                batch, self._waiting = self._waiting, {}
            await _send(batch)

    def flush(self, timeout: float) -> None:
        with self._lock:
            sending = self._sending
        if sending is not None:
            sending.result(timeout)


async def _send(batch: dict[str, dict[str, set[str | int]]]) -> None:
    layer = get_channel_layer()
    try:
        async with asyncio.timeout(PUSH_TIMEOUT_SECONDS):
            for group, changed in batch.items():
                ids = {kind: list(found) for kind, found in changed.items()}
                await layer.group_send(group, {"type": "live.change", "changed": ids})
    except Exception as error:
        log.warning("live push lost; pages catch up later", error=type(error).__name__)


class _LoopThread:
    """One event loop for all pushes of a process.

    The channel layer keeps its connections per loop, so a loop a push would be a connection a push.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="live-pushes", daemon=True
                ).start()
            return self._loop


_loop = _LoopThread()


_pushes = _Pushes()


def flush(timeout: float = PUSH_TIMEOUT_SECONDS) -> None:
    """Wait until the pushes made so far have gone out, or the time (seconds) is over.

    For a process that is about to end, and for tests.
    """
    _pushes.flush(timeout)
