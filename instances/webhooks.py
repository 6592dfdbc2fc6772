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
from instances.models import Backfill
from instances.receive_mode.gap_signs import GapSigns
from instances.receiving import Delivery, Received
from messaging.webhooks import Receiver, answer, too_large

log = structlog.get_logger(__name__)

# What is larger is read and stored by itself, so that the others need not wait for it.
SMALL_BYTES = 256 * 1024
BATCH = 100


class BatchWriter:
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


_gatherers: WeakKeyDictionary[asyncio.AbstractEventLoop, BatchWriter] = WeakKeyDictionary()
_signs: WeakKeyDictionary[asyncio.AbstractEventLoop, GapSigns] = WeakKeyDictionary()
# In a thread of its own, not behind the pages' one thread.
_receive_all = sync_to_async(receiving.receive_all, thread_sensitive=False)
_is_known = sync_to_async(receiving.is_known, thread_sensitive=False)


def gap_signs() -> GapSigns:
    """The signs that this process has seen. In the event loop."""
    return _signs.setdefault(asyncio.get_running_loop(), GapSigns())


async def may_deliver(authorization: str) -> bool:
    """Whether more of a large body is to be read; the receiver says why not.

    Where that cannot be found out the receiver will not be able to store it either, and says so.
    """
    try:
        return await _is_known(authorization)
    except (DatabaseError, PoolTimeout):
        return True


class EvolutionWebhook(Receiver):
    """Answers 200 once the event is committed, 503 when it cannot be.

    Evolution never repeats what it got a 400, 401, 403, 404 or 422 for, but repeats after 503
    (contracts/evolution-api.md §1): so 4xx only for what no repeating would mend. Whatever is not
    taken is a sign of a gap: the message is fetched from Evolution, the file by itself.
    """

    async def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        authorization = request.headers.get("Authorization", "")
        try:
            # Not `request.body`: that has the limit of the other pages.
            body = request.read(SMALL_BYTES + 1)
            is_small = len(body) <= SMALL_BYTES
            if not is_small:
                body += await sync_to_async(request.read, thread_sensitive=False)(
                    receiving.MOST_BYTES + 1 - len(body)
                )
        except UnreadablePostError:
            gap_signs().note(Backfill.Reason.NOT_STORED, authorization=authorization)
            return answer(503, "unreadable")
        if max(len(body), _declared(request)) > receiving.MOST_BYTES:
            return await self._refuse_large(request, body, authorization)
        delivery = Delivery(body, authorization)
        gatherer = _gatherers.setdefault(asyncio.get_running_loop(), BatchWriter())
        try:
            if is_small:
                result = await gatherer.receive(delivery)
            else:
                result = await sync_to_async(receiving.receive, thread_sensitive=False)(delivery)
        except Exception as error:
            if isinstance(error, (DatabaseError, PoolTimeout, OSError)):
                log.error(
                    "event not stored; Evolution is asked to repeat", error=type(error).__name__
                )
            else:
                log.exception("event not stored; Evolution is asked to repeat")
            # It repeats from memory only: a restart forgets the event.
            gap_signs().note(Backfill.Reason.NOT_STORED, authorization=authorization)
            return answer(503, "unavailable")
        self._note_refusal(result, body, authorization)
        return answer(*result.value)

    async def _refuse_large(
        self, request: HttpRequest, body: bytes, authorization: str
    ) -> HttpResponse:
        try:
            known = await _is_known(authorization)
        except (DatabaseError, PoolTimeout):
            gap_signs().note(Backfill.Reason.TOO_LARGE, authorization=authorization)
            return too_large(request, receiving.MOST_BYTES)
        if not known:
            self._note_refusal(Received.BAD_SECRET, body, authorization)
            return answer(*Received.BAD_SECRET.value)
        gap_signs().note(Backfill.Reason.TOO_LARGE, authorization=authorization)
        return too_large(request, receiving.MOST_BYTES)

    def _note_refusal(self, result: Received, body: bytes, authorization: str) -> None:
        if result in (Received.BAD_SECRET, Received.WRONG_INSTANCE):
            gap_signs().note_unauthorized(body)


def _declared(request: HttpRequest) -> int:
    """The length of the body as its header says it; 0 where it does not."""
    length = request.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else 0
