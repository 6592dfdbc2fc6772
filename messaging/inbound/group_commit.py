"""Stores what arrives during a commit together, by the next one.

All receivers of webhooks use it. A single event is stored immediately. A burst needs only a few
commits a second, and is one statement per commit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from messaging.inbound.arrivals import STORAGE_ERRORS

P = ParamSpec("P")
T = TypeVar("T")

# A larger body is stored by a transaction of its own, so that the others do not wait for it.
SMALL_BYTES = 256 * 1024
MAX_EVENTS = 200
MAX_BYTES = 4 * 1024 * 1024


class Delivery(Protocol):
    """A request to a receiver, with what authenticates it."""

    @property
    def body(self) -> bytes: ...


D = TypeVar("D", bound=Delivery)
R = TypeVar("R")


def in_thread(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Run a function that uses the database in a thread, and release its connection afterwards.

    Webhooks do not queue behind the single thread that serves the pages.
    """

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return sync_to_async(run, thread_sensitive=False)


class GroupCommit(Generic[D, R]):
    """Stores deliveries in order of arrival, in groups of limited number and size.

    `store` authenticates and stores a group, and returns the answer to each. It runs in one thread,
    which keeps its connection while deliveries wait. Each event loop has its own queue.
    """

    def __init__(self, store: Callable[[Sequence[D]], Sequence[R]]) -> None:
        self._store = store
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue[D, R]]
        self._queues = WeakKeyDictionary()

    async def receive(self, delivery: D) -> R:
        """Return the answer to a delivery once it is committed.

        If the caller is canceled, the delivery is stored nevertheless. Raises one of
        STORAGE_ERRORS if its group could not be stored. After any other error each delivery of the
        group is tried alone, and raises its own.
        """
        if len(delivery.body) > SMALL_BYTES:
            [answer] = await in_thread(self._store)([delivery])
            return answer
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues.setdefault(loop, _Queue(self._store))
        return await queue.put(delivery)


class _Queue(Generic[D, R]):
    def __init__(self, store: Callable[[Sequence[D]], Sequence[R]]) -> None:
        self._store = store
        self._waiting: deque[tuple[D, asyncio.Future[R]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def put(self, delivery: D) -> asyncio.Future[R]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((delivery, future))
        if self._task is None:
            self._task = loop.create_task(self._store_waiting(loop))
        return future

    async def _store_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        store_groups = in_thread(self._store_groups)
        try:
            while self._waiting:
                try:
                    await store_groups(loop)
                except Exception as error:
                    # No thread could be had. Whoever waits gets the error; the next ones are tried.
                    group = self._next_group()
                    _resolve([future for _, future in group], [error] * len(group))
        finally:
            self._task = None

    def _store_groups(self, loop: asyncio.AbstractEventLoop) -> None:
        """Store group after group until nothing waits. In a thread."""
        while group := self._next_group():
            results = self._store_group([delivery for delivery, _ in group])
            loop.call_soon_threadsafe(_resolve, [future for _, future in group], results)

    def _next_group(self) -> list[tuple[D, asyncio.Future[R]]]:
        group: list[tuple[D, asyncio.Future[R]]] = []
        left = MAX_BYTES
        while self._waiting and len(group) < MAX_EVENTS:
            left -= len(self._waiting[0][0].body)
            if left < 0 and group:
                break
            group.append(self._waiting.popleft())
        return group

    def _store_group(self, group: Sequence[D]) -> Sequence[R | Exception]:
        try:
            return self._store(group)
        except STORAGE_ERRORS as error:
            close_old_connections()  # a broken one
            return [error] * len(group)
        except Exception as error:
            if len(group) == 1:
                return [error]
            return [result for one in group for result in self._store_group([one])]


def _resolve(futures: Sequence[asyncio.Future[R]], results: Sequence[R | Exception]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():
            continue  # the client disconnected
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
