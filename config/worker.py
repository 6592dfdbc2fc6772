"""One worker process: delivers messages, reads events, runs procrastinate jobs, survives outages.

procrastinate's own worker ends when it loses the database, sometimes with an exception and
sometimes silently. This process restarts it after a delay until it is asked to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import structlog
from django.conf import settings
from procrastinate.app import WorkerOptions
from procrastinate.contrib.django import app
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Notification
from procrastinate.psycopg_connector import PsycopgConnector
from procrastinate.worker import Worker

from core.heartbeat_file import Heartbeat
from messaging.delivery import sender_loop
from messaging.delivery.sender_loop import SenderLoop
from messaging.inbound import reader_loop
from messaging.inbound.reader_loop import ReaderLoop

# For jobs without a notification: scheduled ones. The send time that a page shows for a waiting
# message is about this accurate.
POLL_SECONDS = 1.0
FIRST_PAUSE, MAX_PAUSE = 0.5, 5.0

log = structlog.get_logger(__name__)


async def run() -> None:
    """Deliver messages, read events and run jobs until SIGTERM or SIGINT.

    After the signal nothing new starts, and what is running has WORKER_SHUTDOWN_SECONDS to finish.
    What takes longer is killed, as by `kill -9`. A second signal kills them immediately.
    """
    _quiet_loggers()
    stopping = asyncio.Event()
    _stop_on_signals(stopping)
    loops = [
        asyncio.create_task(ReaderLoop().run(stopping)),
        asyncio.create_task(SenderLoop(concurrency=settings.WORKER_CONCURRENCY).run(stopping)),
    ]
    for task in loops:
        # One that ends by itself has failed: the process ends, and its supervisor starts another.
        task.add_done_callback(lambda _: stopping.set())
    try:
        await work_until(stopping)
        await asyncio.gather(*loops)
    finally:
        Heartbeat("worker").end()


async def work_until(stopping: asyncio.Event) -> None:
    """Run jobs until the event is set; wait for the database whenever it is unreachable."""
    # Before any of the loops connects.
    _size_pools(settings.WORKER_CONCURRENCY)
    stopped = asyncio.create_task(stopping.wait())
    pause = FIRST_PAUSE
    while not stopping.is_set():
        working = asyncio.create_task(_work())
        started = time.monotonic()
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.is_set():
            working.cancel()  # procrastinate shuts down gracefully when it is canceled
        reason = await _end_reason(working)
        if stopping.is_set():
            break
        if time.monotonic() - started > MAX_PAUSE:
            pause = FIRST_PAUSE
        log.warning("worker lost the database; tries again", reason=reason, seconds=pause)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause)
        pause = min(2 * pause, MAX_PAUSE)


async def _work() -> None:
    parameters = connector_params()
    # The pool would retry for half a minute and log warnings all the time.
    connection = await psycopg.AsyncConnection.connect(**parameters, connect_timeout=5)
    await connection.close()
    connector = PsycopgConnector(kwargs=parameters, min_size=1, max_size=4, timeout=10)
    with app.replace_connector(connector):
        async with app.open_async():
            app.perform_import_paths()  # type: ignore[no-untyped-call]
            options: WorkerOptions = {
                **app.worker_defaults,
                "concurrency": settings.WORKER_CONCURRENCY,
                "fetch_job_polling_interval": POLL_SECONDS,
                "update_heartbeat_interval": settings.WORKER_HEARTBEAT_SECONDS,
                "stalled_worker_timeout": settings.WORKER_STALLED_SECONDS,
                "shutdown_graceful_timeout": settings.WORKER_SHUTDOWN_SECONDS,
                "install_signal_handlers": False,
                "delete_jobs": "successful",
            }
            await _Worker(app, **options).run()  # type: ignore[no-untyped-call]


class _Worker(Worker):
    """Fixes procrastinate's worker, which loses notifications that arrive while it fetches jobs.

    The job would wait for the next notification or poll. This worker also touches its heartbeat
    file after each heartbeat that the database stored.
    """

    _notified = 0

    async def _handle_notification(self, *, channel: str, notification: Notification) -> None:
        self._notified += 1
        await super()._handle_notification(channel=channel, notification=notification)

    async def _fetch_and_process_jobs(self) -> None:
        handled = None
        while handled != self._notified:
            handled = self._notified
            await super()._fetch_and_process_jobs()  # type: ignore[no-untyped-call]

    async def _persist_job_status(self, job: Job, **ending: Any) -> None:  # type: ignore[override]
        """Do not update a job that was given to another worker while this one seemed dead."""
        row = await self.app.connector.execute_query_one_async(
            "SELECT count(*) AS ours FROM procrastinate_jobs"
            " WHERE id = %(id)s AND status = 'doing' AND attempts = %(attempts)s",
            id=job.id,
            attempts=job.attempts,
        )
        if row["ours"]:
            await super()._persist_job_status(job=job, **ending)
        else:
            log.warning("a job was taken over by another worker", job=job.id)

    async def _update_heartbeat(self) -> None:
        assert self.worker_id is not None
        heartbeat = Heartbeat("worker")
        while True:
            heartbeat.give()
            await asyncio.sleep(self.update_heartbeat_interval)
            await self.app.job_manager.update_heartbeat(self.worker_id)


async def _end_reason(working: asyncio.Task[None]) -> str:
    try:
        await working
    except asyncio.CancelledError:
        return "canceled"
    except (ConnectorException, psycopg.Error, OSError) as error:
        cause = error.__cause__ or error
        return " ".join(str(cause).split()) or type(cause).__name__
    except Exception:
        log.exception("worker failed")
        return "see above"
    return "the queue's connection was lost"


def _size_pools(concurrency: int) -> None:
    """Provide a thread and a database connection for each concurrent job."""
    # asyncio's default executor has only four threads more than there are CPUs.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(concurrency + 2))
    pool: dict[str, Any] = settings.DATABASES["default"]["OPTIONS"]["pool"]
    of_loops = reader_loop.THREADS + sender_loop.THREADS + concurrency
    pool["max_size"] = max(pool["max_size"], concurrency + 2 + of_loops)


def _stop_on_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        stopping.set()
        loop.call_later(settings.WORKER_SHUTDOWN_SECONDS + 1, _kill)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def _kill() -> None:
    log.warning("worker exits with unfinished jobs; they are treated as those of a dead worker")
    os._exit(1)


def _quiet_loggers() -> None:
    """Silence other loggers: our one line per attempt is enough while the database is down."""
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    logging.getLogger("procrastinate.utils").setLevel(logging.CRITICAL)
    for name in ("procrastinate.worker", "procrastinate.worker.worker"):
        logging.getLogger(name).addFilter(_is_not_redundant)


def _is_not_redundant(record: logging.LogRecord) -> bool:
    return getattr(record, "action", "") not in ("side_task_failed", "poll_jobs_to_abort_error")
