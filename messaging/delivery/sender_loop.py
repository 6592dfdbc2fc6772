"""Claims due messages in each worker process and delivers them.

Simple sends (`first_sends`) are claimed together, made by threads that only wait for the provider,
and their results are stored together. Every other message is delivered by `runner.run` in a thread
of its own. Whoever makes a message due notifies all worker processes (`queue.wake_senders`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import UUID

import structlog
from django.conf import settings
from django.db import close_old_connections

from channels_app.providers.base import Accepted
from core import notifications
from core.threads import run_in
from messaging import queue
from messaging.delivery import first_sends, outbox, runner
from messaging.delivery.first_sends import Taken
from messaging.delivery.runner import MadeSend, PendingSend

# Messages that a process delivers at the same time, each of its own conversation.
MAX_CLAIMED = 64
# Messages that become due within this time after a claim are claimed together, and results that
# arrive within it are stored together.
GATHER_SECONDS = 0.02
# For messages whose waiting time ends, and for lost notifications. The send time that a page shows
# for a waiting message is about this accurate.
POLL_SECONDS = 1.0
# Threads that store results one by one: none waits for a provider.
STORING = 2
# Threads with a database connection, besides those that deliver messages.
THREADS = 2 + STORING
FIRST_PAUSE, MAX_PAUSE = 0.5, 5.0

log = structlog.get_logger(__name__)


class SenderLoop:
    """Delivers due messages until it is stopped.

    `concurrency` is the number of messages that `runner.run` delivers at the same time.
    """

    def __init__(self, *, concurrency: int, poll_seconds: float = POLL_SECONDS) -> None:
        self._poll_seconds = poll_seconds
        self._concurrency = concurrency
        self._senders = ThreadPoolExecutor(MAX_CLAIMED, thread_name_prefix="sender")
        self._runners = ThreadPoolExecutor(concurrency, thread_name_prefix="runner")
        # One thread for all claims, so that a claim and its entry in `_claimed` are one step.
        self._claimer = ThreadPoolExecutor(1, thread_name_prefix="claimer")
        self._recorder = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        # A rejection is shown at once, however long the fallbacks of others take.
        self._storers = ThreadPoolExecutor(STORING, thread_name_prefix="storer")
        self._worker_id: int | None = None
        # With the lease under which each is claimed: another one may follow.
        self._claimed: set[tuple[int | None, UUID]] = set()
        self._made: list[MadeSend] = []
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False
        # Whether more messages may be due than were claimed.
        self._is_full = False
        self._due, self._has_results, self._idle = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Deliver messages until `stopping` is set, then finish those that are claimed."""
        self._loop = asyncio.get_running_loop()
        endless = [
            asyncio.create_task(work())
            for work in (self._listen, self._keep_lease, self._record_results)
        ]
        claiming = asyncio.create_task(self._claim_due())
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait({stopped, claiming, *endless}, return_when=asyncio.FIRST_COMPLETED)
        for task in (claiming, *endless):
            if task.done():
                # It never ends by itself. The process ends, so that another one delivers.
                stopped.cancel()
                await task
        # A claim is not canceled: its attempts are started.
        self._stopping = True
        self._due.set()
        await claiming
        while self._claimed:
            self._idle.clear()
            await self._idle.wait()
        for task in endless:
            task.cancel()
        await asyncio.gather(*endless, return_exceptions=True)
        if self._worker_id is not None:
            with contextlib.suppress(Exception):
                await run_in(self._claimer, outbox.unregister, self._worker_id)
        pools = (self._senders, self._runners, self._claimer, self._recorder, self._storers)
        for pool in pools:
            pool.shutdown()

    # -- claims ------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        listening = notifications.listen(queue.OUTBOX_CHANNEL, poll_seconds=self._poll_seconds)
        async with contextlib.aclosing(listening):
            async for _ in listening:
                self._due.set()

    async def _claim_due(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await self._due.wait()
            if self._stopping:
                return
            self._due.clear()
            try:
                taken = await run_in(self._claimer, self._take)
            except Exception as error:
                log.warning("messages not claimed; tries again", error=repr(error)[:300])
                self._due.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE)
                continue
            pause = FIRST_PAUSE
            self._deliver(taken)
            await asyncio.sleep(GATHER_SECONDS)

    def _take(self) -> Taken:
        new = max(0, MAX_CLAIMED - len(self._claimed))
        waiting = max(0, self._concurrency - len(self._running))
        if self._worker_id is None:
            self._worker_id = outbox.register()
        try:
            taken = first_sends.take(self._worker_id, new=new, waiting=waiting)
        except outbox.LeaseExpired:
            log.warning("this worker seemed dead; its messages were given to others")
            self._worker_id = outbox.register()
            taken = first_sends.take(self._worker_id, new=new, waiting=waiting)
        self._claimed.update((taken.worker_id, message_id) for message_id in taken.ids())
        return taken

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(settings.WORKER_HEARTBEAT_SECONDS)
            try:
                await run_in(self._claimer, self._renew)
            except Exception as error:
                log.warning("lease not renewed; tries again", error=repr(error)[:300])

    def _renew(self) -> None:
        if self._worker_id is not None:
            try:
                outbox.renew(self._worker_id)
            except outbox.LeaseExpired:
                self._worker_id = None
            else:
                known = {id_ for worker, id_ in set(self._claimed) if worker == self._worker_id}
                outbox.end_forgotten_claims(self._worker_id, known=known)
        outbox.end_dead_claims()

    # -- deliveries --------------------------------------------------------------------------------

    def _deliver(self, taken: Taken) -> None:
        for send in taken.sends:
            self._senders.submit(self._send, send)
        for message_id in taken.others:
            self._start_runner(message_id, taken.worker_id)
        if taken.waits:
            task = asyncio.create_task(self._mark_queued_behind(taken))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        self._is_full = taken.more_new or taken.more_waiting
        if (taken.more_new and len(self._claimed) < MAX_CLAIMED) or (
            taken.more_waiting and len(self._running) < self._concurrency
        ):
            self._due.set()

    async def _mark_queued_behind(self, taken: Taken) -> None:
        try:
            await run_in(self._runners, first_sends.mark_queued_behind, taken.waits)
        except Exception as error:
            # Only what pages say about the messages behind.
            log.warning("messages behind not marked", error=repr(error)[:300])

    def _send(self, send: PendingSend) -> None:
        made = runner.make(send)
        # A send that was delayed has asked the database.
        with contextlib.suppress(Exception):
            close_old_connections()
        self._loop.call_soon_threadsafe(self._add_result, made)

    def _add_result(self, made: MadeSend) -> None:
        if isinstance(made.result, Accepted):
            self._made.append(made)
            self._has_results.set()
        else:
            # Something follows, so it does not wait for others.
            self._start_runner(made.attempt.message_id, made.worker_id, made)

    async def _record_results(self) -> None:
        while True:
            await self._has_results.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._has_results.clear()
            made, self._made = self._made, []
            record = partial(runner.retry_while_db_down, partial(first_sends.record, made))
            try:
                left, more_due = await run_in(self._recorder, record)
            except Exception:
                # The runner stores them one by one, and counts the error against the message.
                log.exception("results not stored together")
                left, more_due = made, True
            of_runner = {one.attempt.message_id for one in left}
            self._forget(
                (one.worker_id, one.attempt.message_id)
                for one in made
                if one.attempt.message_id not in of_runner
            )
            for one in left:
                self._start_runner(one.attempt.message_id, one.worker_id, one)
            if more_due:
                self._due.set()

    def _start_runner(
        self, message_id: UUID, worker_id: int | None, made: MadeSend | None = None
    ) -> None:
        task = asyncio.create_task(self._finish(message_id, worker_id, made))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _finish(self, message_id: UUID, worker_id: int | None, made: MadeSend | None) -> None:
        try:
            if made is None or await run_in(self._storers, self._store, made):
                await run_in(self._runners, self._run, message_id, worker_id)
        except Exception as error:
            # The database is down: the claim ends with the next renewal of the lease.
            log.warning("delivery interrupted", message=str(message_id), error=repr(error)[:300])
        finally:
            self._forget([(worker_id, message_id)])

    def _store(self, made: MadeSend) -> bool:
        follows = False
        try:
            follows = runner.store(made)
        finally:
            if not follows:
                outbox.release(str(made.attempt.message_id), made.worker_id)
        return follows

    def _run(self, message_id: UUID, worker_id: int | None) -> None:
        try:
            # What waited for a thread when the process was asked to end is left to the next one.
            if not self._stopping:
                runner.run(str(message_id), worker_id)
        finally:
            outbox.release(str(message_id), worker_id)

    def _forget(self, delivered: Iterable[tuple[int | None, UUID]]) -> None:
        self._claimed.difference_update(delivered)
        if not self._claimed:
            self._idle.set()
        if self._is_full:
            self._due.set()
