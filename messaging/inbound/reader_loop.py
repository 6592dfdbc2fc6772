"""Reads the sources whose events are pending, as soon as they are committed.

It runs in each worker process beside the jobs. Whoever commits an event notifies all worker
processes (`queue.wake_readers`), and the first one to lock the source reads it. A notification
costs far less than a job for each event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import structlog

from core import notifications
from core.threads import run_in
from messaging import queue
from messaging.inbound import reader
from messaging.models import InboundEvent

Source = tuple[str, str]

# A burst of events is read together: the pause lets some of them arrive before the first is read.
GATHER_SECONDS = 0.025
# For events whose notification this process missed, because it was not connected, and for those
# that it could not read.
POLL_SECONDS = 5.0
# Sources that a process reads at the same time.
THREADS = 4

log = structlog.get_logger(__name__)


class ReaderLoop:
    """Reads each source for which a notification arrives, one reading per source at a time."""

    def __init__(self, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._poll_seconds = poll_seconds
        self._reading: dict[Source, asyncio.Task[None]] = {}
        # Sources notified again while they are being read.
        self._again: set[Source] = set()
        self._stopping = False
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="reader")

    async def run(self, stopping: asyncio.Event) -> None:
        """Read events until `stopping` is set, then finish the current transactions."""
        listening = asyncio.create_task(self._listen_forever())
        await stopping.wait()
        self._stopping = True
        listening.cancel()
        await asyncio.gather(listening, *self._reading.values(), return_exceptions=True)
        self._threads.shutdown()

    async def _listen_forever(self) -> None:
        listening = notifications.listen(queue.INBOUND_CHANNEL, poll_seconds=self._poll_seconds)
        async with contextlib.aclosing(listening):
            async for payload in listening:
                if payload is not None:
                    self._wake([queue.source_in(payload)])
                    continue
                try:
                    self._wake(await run_in(self._threads, _pending_sources))
                except Exception as error:
                    log.warning("pending events not found; tries again", error=repr(error)[:300])

    def _wake(self, sources: Iterable[Source]) -> None:
        for source in sources:
            if source in self._reading:
                self._again.add(source)
            else:
                self._reading[source] = asyncio.create_task(self._read(source))

    async def _read(self, source: Source) -> None:
        try:
            while not self._stopping:
                await asyncio.sleep(GATHER_SECONDS)
                self._again.discard(source)
                await run_in(self._threads, self._read_pending, *source)
                if source not in self._again:
                    break
        except Exception as error:
            # The events are still pending: the next poll finds them.
            log.warning("source not read; tries again", source=source, error=repr(error)[:300])
        finally:
            del self._reading[source]

    def _read_pending(self, source: str, source_key: str) -> None:
        reader.read_pending(source, source_key, is_stopping=lambda: self._stopping)


def _pending_sources() -> list[Source]:
    pending = InboundEvent.objects.filter(state=InboundEvent.State.PENDING).order_by()
    return list(pending.values_list("source", "source_key").distinct())
