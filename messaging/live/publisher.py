"""Notify open pages of changes. The only module that sends to the channel layer.

A push is sent after the commit and carries ids only: each web process reads the data from the
database. A lost push is not an error, because each web process also polls the database.

A push names the changed rows by group: what a page watches. All groups of a commit travel in one
message to every web process (`CHANNEL_GROUP`), which knows what its sockets watch.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import structlog
from channels.layers import get_channel_layer
from django.db import transaction

if TYPE_CHECKING:
    from channels_app.models import Channel
    from messaging.models import CallAttempt, Message

log = structlog.get_logger(__name__)

# The changed row ids of each group, by kind.
Changes = dict[str, dict[str, set[str | int]]]

# The channel-layer group of all web processes.
CHANNEL_GROUP = "live"
INBOX = "inbox"
CHANNELS = "channels"
ALERTS = "alarms"
SIGNED_OUT = "signed_out"
PUSH_TIMEOUT_SECONDS = 2.0
# The first change is sent immediately; those that follow within this time, together.
GATHER_SECONDS = 0.01


def conversation_group(conversation_id: int) -> str:
    return f"conversation.{conversation_id}"


def session_group(session_key: str) -> str:
    """Return the group of one browser session. The session key is a secret: it is hashed."""
    return f"session.{hashlib.sha256(session_key.encode()).hexdigest()[:32]}"


def signed_out(session_key: str) -> None:
    """Close the sockets of a browser session that has signed out."""
    publish(session_group(session_key), **{SIGNED_OUT: 1})


def message_changed(message: Message) -> None:
    """Notify the message's conversation and the conversation list after the commit."""
    publish(conversation_group(message.conversation_id), messages=str(message.pk))
    publish(INBOX, conversations=message.conversation_id)


def call_changed(call: CallAttempt) -> None:
    """Notify the conversation of a call; for an incoming call also the conversation list."""
    publish(conversation_group(call.conversation_id), calls=call.pk)
    if call.incoming:
        publish(INBOX, conversations=call.conversation_id)


def conversation_changed(conversation_id: int) -> None:
    """Notify a conversation and the list of a change of who works on it, its status or labels."""
    publish(conversation_group(conversation_id), conversations=conversation_id)
    publish(INBOX, conversations=conversation_id)


def note_added(conversation_id: int, note_id: int) -> None:
    """Notify a conversation of a new private note."""
    publish(conversation_group(conversation_id), notes=note_id)


def channel_changed(channel: Channel) -> None:
    """Notify the pages that show channels and those that summarize their health."""
    publish(CHANNELS, channels=channel.pk)
    publish(INBOX, channels=channel.pk)


def alerts_changed(channel: Channel) -> None:
    """Notify staff, on every page, that an incident of a channel began or ended."""
    publish(ALERTS, alarms=channel.pk)


async def share_presence(process: str, people: Mapping[int, list[dict[str, Any]]]) -> None:
    """Tell the other web processes who is in which conversation, as far as this one knows.

    Lost as any push: it is repeated. `people` may be empty: then the process asks the others.
    """
    named = {str(conversation): its_people for conversation, its_people in people.items()}
    await _send_to_all({"type": "live.presence", "process": process, "people": named})


async def end_presence(process: str) -> None:
    """Tell the other web processes that this one has no pages any more."""
    await _send_to_all({"type": "live.presence", "process": process, "people": None})


async def _send_to_all(message: dict[str, Any]) -> None:
    try:
        async with asyncio.timeout(PUSH_TIMEOUT_SECONDS):
            await get_channel_layer().group_send(CHANNEL_GROUP, message)
    except Exception as error:
        log.warning("presence not shared; it is repeated", error=type(error).__name__)


def publish(group: str, **changed: str | int) -> None:
    """Notify the sockets of a group which row changed, after the current transaction commits."""
    connection = transaction.get_connection()
    savepoints = set(connection.savepoint_ids)
    for hook_savepoints, hook, _ in reversed(connection.run_on_commit):
        if hook_savepoints == savepoints and isinstance(hook, _Commit) and not hook.is_done:
            hook.add(group, changed)
            return
    hook = _Commit()
    hook.add(group, changed)
    transaction.on_commit(hook)


class _Commit:
    """What a transaction changed: one hook for all of it.

    Django drops the hook if the transaction, or a savepoint within which it was made, is rolled
    back. Therefore each savepoint has a hook of its own; `_Pushes` joins what they push.
    """

    def __init__(self) -> None:
        self.is_done = False
        self._changes: Changes = {}

    def add(self, group: str, changed: dict[str, str | int]) -> None:
        kinds = self._changes.setdefault(group, {})
        for kind, id_ in changed.items():
            kinds.setdefault(kind, set()).add(id_)

    def __call__(self) -> None:
        self.is_done = True
        _pushes.add(self._changes)


def merge(into: Changes, changes: Mapping[str, Mapping[str, Iterable[str | int]]]) -> None:
    """Add changes to others."""
    for group, kinds in changes.items():
        merged = into.setdefault(group, {})
        for kind, ids in kinds.items():
            merged.setdefault(kind, set()).update(ids)


class _Pushes:
    """A queue of changes for the channel layer.

    Changes that arrive while others are being sent, or shortly after, form the next message: a
    burst needs few messages, and a single change is sent immediately.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Changes = {}
        self._sending: Future[None] | None = None
        self._sent_at = float("-inf")

    def add(self, changes: Changes) -> None:
        with self._lock:
            merge(self._waiting, changes)
            if self._sending is None:
                self._sending = asyncio.run_coroutine_threadsafe(self._send_all(), _loop())

    async def _send_all(self) -> None:
        while True:
            await asyncio.sleep(self._sent_at + GATHER_SECONDS - time.monotonic())
            with self._lock:
                if not self._waiting:
                    self._sending = None
                    return
                batch, self._waiting = self._waiting, {}
            self._sent_at = time.monotonic()
            await _send(batch)

    def flush(self, timeout: float) -> None:
        with self._lock:
            sending = self._sending
        if sending is not None:
            sending.result(timeout)


async def _send(changes: Changes) -> None:
    layer = get_channel_layer()
    changed = {
        group: {kind: list(ids) for kind, ids in kinds.items()} for group, kinds in changes.items()
    }
    try:
        async with asyncio.timeout(PUSH_TIMEOUT_SECONDS):
            await layer.group_send(CHANNEL_GROUP, {"type": "live.change", "changed": changed})
    except Exception as error:
        log.warning("live push lost; pages will catch up", error=type(error).__name__)


class _LoopThread:
    """One event loop for all pushes of a process.

    The channel layer has one connection per loop, so one loop per push would open a connection
    for each push.
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
    """Wait until all pushes so far have been sent, at most `timeout` seconds.

    For a process that is about to exit, and for tests.
    """
    _pushes.flush(timeout)
