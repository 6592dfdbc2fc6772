"""The door for Evolution's events."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from psycopg_pool import PoolTimeout

from instances import receiving
from instances.receiving import Delivery, Received
from messaging.webhooks import Receiver, answer, too_large

log = structlog.get_logger(__name__)

# What is larger is read and stored by itself, so that the others need not wait for it.
SMALL_BYTES = 256 * 1024
BATCH = 100


class Gatherer:
    """Stores together what arrived while others were being stored: one commit for all of them.

    At rest an event waits for nothing; in a burst a few commits a second are enough, and events
    are stored in the order of their arrival.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Delivery, asyncio.Future[Received]]] = deque()
        self._storing: asyncio.Task[None] | None = None

    async def receive(self, delivery: Delivery) -> Received:
        """As `receiving.receive`."""
        future: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, future))
        if self._storing is None:
            self._storing = asyncio.create_task(self._store())
        return await future

    async def _store(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                results = await _receive_all([delivery for delivery, _ in batch])
                for (_, future), result in zip(batch, results, strict=True):
                    if future.done():
                        continue  # its caller has gone
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._storing = None


_gatherers: WeakKeyDictionary[asyncio.AbstractEventLoop, Gatherer] = WeakKeyDictionary()
# In a thread of its own, not behind the pages' one thread.
_receive_all = sync_to_async(receiving.receive_all, thread_sensitive=False)


class EvolutionWebhook(Receiver):
    """Answers 200 once the event is committed, 503 when it cannot be.

    Evolution never repeats what it got a 400, 401, 403, 404 or 422 for, but repeats after 503
    (contracts/evolution-api.md §1): so 4xx only for what no repeating would mend.
    """

    async def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        try:
            # Not `request.body`: that has the limit of the other pages.
            body = request.read(SMALL_BYTES + 1)
            is_small = len(body) <= SMALL_BYTES
            if not is_small:
                body += await sync_to_async(request.read, thread_sensitive=False)(
                    receiving.MOST_BYTES + 1 - len(body)
                )
        except UnreadablePostError:
            return answer(503, "unreadable")
        if len(body) > receiving.MOST_BYTES:
            return too_large(request, receiving.MOST_BYTES)
        delivery = Delivery(body, request.headers.get("Authorization", ""))
        gatherer = _gatherers.setdefault(asyncio.get_running_loop(), Gatherer())
        try:
            if is_small:
                result = await gatherer.receive(delivery)
            else:
                result = await sync_to_async(receiving.receive, thread_sensitive=False)(delivery)
        except (DatabaseError, PoolTimeout, OSError) as error:
            log.error("event not stored; Evolution is asked to repeat", error=type(error).__name__)
            return answer(503, "unavailable")
        return answer(*result.value)
