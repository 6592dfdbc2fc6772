"""PostgreSQL's notifications, for the loops of a worker process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import psycopg
import structlog
from django.db import connection

FIRST_PAUSE, MAX_PAUSE = 0.5, 5.0

log = structlog.get_logger(__name__)


async def listen(channel: str, *, poll_seconds: float) -> AsyncGenerator[str | None, None]:
    """Yield the payload of each notification, forever.

    Yields None when it has connected, because earlier notifications were missed, and at least
    every `poll_seconds` while none arrives. A lost connection is opened again. It uses a connection
    of its own, in the caller's event loop. Close the generator (`contextlib.aclosing`).
    """
    pause = FIRST_PAUSE
    while True:
        try:
            async with await _connect() as listener:
                await listener.execute(f"LISTEN {channel}")
                while True:
                    pause = FIRST_PAUSE
                    yield None
                    async for notification in listener.notifies(timeout=poll_seconds):
                        yield notification.payload
        except (psycopg.Error, OSError) as error:
            log.warning(
                "notifications are interrupted; tries again",
                channel=channel,
                error=type(error).__name__,
            )
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE)


async def _connect() -> psycopg.AsyncConnection[Any]:
    parameters = connection.get_connection_params()
    for ours in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(ours, None)
    return await psycopg.AsyncConnection.connect(
        **{"connect_timeout": 5, **parameters}, autocommit=True
    )
