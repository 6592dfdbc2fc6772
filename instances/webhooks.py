"""The webhook for Evolution's events."""

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
from instances.models import Backfill
from instances.receive_mode.gap_signs import GapSigns
from instances.receiving import Delivery, Received
from messaging.webhooks import Receiver, answer, too_large

log = structlog.get_logger(__name__)

# Larger bodies are read and stored separately, so that the others do not wait.
SMALL_BYTES = 256 * 1024
BATCH = 100


class BatchWriter:
    """Stores events that arrive during a write together, in one commit.

    A single event is stored immediately. A burst needs only a few commits a second. Events are
    stored in order of arrival.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Delivery, asyncio.Future[Received]]] = deque()
        self._storing: asyncio.Task[None] | None = None

    async def receive(self, delivery: Delivery) -> Received:
        """Store a delivery like `receiving.receive`."""
        future: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, future))
        if self._storing is None:
            self._storing = asyncio.create_task(self._store())
        return await future

    async def _store(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                results: list[Received | Exception]
                try:
                    results = await _receive_all([delivery for delivery, _ in batch])
                except Exception as error:
                    # No thread could be had. Whoever waits gets the error; the next batch is tried.
                    results = [error] * len(batch)
                for (_, future), result in zip(batch, results, strict=True):
                    if future.done():
                        continue  # the client disconnected
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._storing = None


_batch_writers: WeakKeyDictionary[asyncio.AbstractEventLoop, BatchWriter] = WeakKeyDictionary()
_signs: WeakKeyDictionary[asyncio.AbstractEventLoop, GapSigns] = WeakKeyDictionary()
# Use separate threads, not the single one that serves pages.
_receive_all = sync_to_async(receiving.receive_all, thread_sensitive=False)
_is_known = sync_to_async(receiving.is_known, thread_sensitive=False)


def gap_signs() -> GapSigns:
    """Return the gap signs of this process. Call it in the event loop."""
    return _signs.setdefault(asyncio.get_running_loop(), GapSigns())


async def may_deliver(authorization: str) -> bool:
    """Return whether to read the rest of a large body; the receiver reports the reason.

    If the database is down, return True: the receiver cannot store the event and reports that.
    """
    try:
        return await _is_known(authorization)
    except (DatabaseError, PoolTimeout):
        return True


class EvolutionWebhook(Receiver):
    """Answers 200 once the event is committed, 503 if it cannot be stored.

    Evolution never retries after 400, 401, 403, 404 or 422, but retries after 503
    (docs/providers/evolution.md §1). So 4xx is used only if a retry would not help. A rejected
    delivery is a sign of a gap: the message and its file are fetched from Evolution.
    """

    async def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        authorization = request.headers.get("Authorization", "")
        try:
            # Not `request.body`: it applies the size limit of the other pages.
            body = request.read(SMALL_BYTES + 1)
            is_small = len(body) <= SMALL_BYTES
            if not is_small:
                body += await sync_to_async(request.read, thread_sensitive=False)(
                    receiving.MAX_BYTES + 1 - len(body)
                )
        except UnreadablePostError:
            gap_signs().note(Backfill.Reason.NOT_STORED, authorization=authorization)
            return answer(503, "unreadable")
        if max(len(body), _declared_length(request)) > receiving.MAX_BYTES:
            return await self._reject_large(request, body, authorization)
        delivery = Delivery(body, authorization)
        writer = _batch_writers.setdefault(asyncio.get_running_loop(), BatchWriter())
        try:
            if is_small:
                result = await writer.receive(delivery)
            else:
                result = await sync_to_async(receiving.receive, thread_sensitive=False)(delivery)
        except Exception as error:
            if isinstance(error, (DatabaseError, PoolTimeout, OSError)):
                log.error("event not stored; Evolution retries", error=type(error).__name__)
            else:
                log.exception("event not stored; Evolution retries")
            # It retries from memory only: a restart loses the event.
            gap_signs().note(Backfill.Reason.NOT_STORED, authorization=authorization)
            return answer(503, "unavailable")
        self._record_rejection(result, body, authorization)
        return answer(*result.value)

    async def _reject_large(
        self, request: HttpRequest, body: bytes, authorization: str
    ) -> HttpResponse:
        try:
            known = await _is_known(authorization)
        except (DatabaseError, PoolTimeout):
            gap_signs().note(Backfill.Reason.TOO_LARGE, authorization=authorization)
            return too_large(request, receiving.MAX_BYTES)
        if not known:
            self._record_rejection(Received.BAD_SECRET, body, authorization)
            return answer(*Received.BAD_SECRET.value)
        gap_signs().note(Backfill.Reason.TOO_LARGE, authorization=authorization)
        return too_large(request, receiving.MAX_BYTES)

    def _record_rejection(self, result: Received, body: bytes, authorization: str) -> None:
        if result in (Received.BAD_SECRET, Received.WRONG_INSTANCE):
            gap_signs().note_unauthorized(body)


def _declared_length(request: HttpRequest) -> int:
    """Return the Content-Length of the body; 0 if the header is missing or invalid."""
    length = request.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else 0
