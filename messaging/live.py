"""Tell open pages that something changed. The only module that touches the channel layer.

A push is sent after the commit and carries ids only: each socket reads what it shows from the
database. Losing a push is never an error, since a page that reconnects catches up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import structlog
from channels.layers import get_channel_layer
from django.db import transaction

if TYPE_CHECKING:
    from channels_app.models import Channel
    from messaging.models import Message

log = structlog.get_logger(__name__)

INBOX = "inbox"
CHANNELS = "channels"
PUSH_TIMEOUT_SECONDS = 2.0


def conversation_group(conversation_id: int) -> str:
    return f"conversation.{conversation_id}"


def message_changed(message: Message) -> None:
    """Tell the message's conversation and the list of conversations, once this is committed."""
    change = {
        "type": "live.change",
        "message": str(message.pk),
        "conversation": message.conversation_id,
    }
    publish([conversation_group(message.conversation_id), INBOX], change)


def conversation_changed(conversation_id: int) -> None:
    """Tell the list of conversations."""
    publish([INBOX], {"type": "live.change", "conversation": conversation_id})


def channel_changed(channel: Channel) -> None:
    """Tell the pages that show channels."""
    publish([CHANNELS], {"type": "live.change", "channel": channel.pk})


def publish(groups: list[str], change: dict[str, Any]) -> None:
    """Send a change to the sockets of these groups, once the present transaction commits."""
    transaction.on_commit(lambda: _publish(groups, change))


def _publish(groups: list[str], change: dict[str, Any]) -> None:
    future = asyncio.run_coroutine_threadsafe(_send(groups, change), _loop())
    future.add_done_callback(_note_failure)


async def _send(groups: list[str], change: dict[str, Any]) -> None:
    layer = get_channel_layer()
    async with asyncio.timeout(PUSH_TIMEOUT_SECONDS):
        for group in groups:
            await layer.group_send(group, change)


def _note_failure(future: Future[None]) -> None:
    if error := future.exception():
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


def flush(timeout: float = PUSH_TIMEOUT_SECONDS) -> None:
    """Wait until the pushes made so far have gone out, or the time (seconds) is over.

    For a process that is about to end, and for tests.
    """
    asyncio.run_coroutine_threadsafe(_settled(), _loop()).result(timeout)


async def _settled() -> None:
    pending: list[Coroutine[Any, Any, Any] | asyncio.Task[Any]] = [
        task for task in asyncio.all_tasks() if task is not asyncio.current_task()
    ]
    await asyncio.gather(*pending, return_exceptions=True)
