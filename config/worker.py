"""One worker process: runs the jobs of procrastinate, and outlives PostgreSQL.

procrastinate's own worker ends when it loses the database, sometimes with an exception and
sometimes without a word. Here it is started again, after a pause, until somebody asks for the end.
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

# For jobs of which no notification told: those whose time comes. What a page says of when a message
# is expected to go out is true to about this.
POLL_SECONDS = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0

log = structlog.get_logger(__name__)


async def run() -> None:
    """Run jobs until SIGTERM or SIGINT.

    Then no more are taken, and those that run have WORKER_SHUTDOWN_SECONDS to finish. One that
    takes longer is cut off, like by `kill -9`; a second signal does so at once.
    """
    _quiet_loggers()
    stopping = asyncio.Event()
    _stop_on_signals(stopping)
    try:
        await work_until(stopping)
    finally:
        Heartbeat("worker").end()


async def work_until(stopping: asyncio.Event) -> None:
    """Run jobs until the event; wait for the database whenever it is away."""
    _make_room(settings.WORKER_CONCURRENCY)
    stopped = asyncio.create_task(stopping.wait())
    pause = FIRST_PAUSE
    while not stopping.is_set():
        working = asyncio.create_task(_work())
        started = time.monotonic()
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.is_set():
            working.cancel()  # which procrastinate takes as the wish for a graceful end
        reason = await _how_it_ended(working)
        if stopping.is_set():
            break
        if time.monotonic() - started > LONGEST_PAUSE:
            pause = FIRST_PAUSE
        log.warning("worker lost the database; tries again", reason=reason, seconds=pause)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def _work() -> None:
    parameters = connector_params()
    # The pool would try for half a minute, and complain all the while.
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
    """procrastinate's own forgets a notification that comes while it looks for jobs.

    The job that it told of would then wait for the next one, or for the next poll. This one also
    leaves a sign on this machine of each heartbeat that the database took.
    """

    _told = 0

    async def _handle_notification(self, *, channel: str, notification: Notification) -> None:
        self._told += 1
        await super()._handle_notification(channel=channel, notification=notification)

    async def _fetch_and_process_jobs(self) -> None:
        known = None
        while known != self._told:
            known = self._told
            await super()._fetch_and_process_jobs()  # type: ignore[no-untyped-call]

    async def _persist_job_status(self, job: Job, **ending: Any) -> None:  # type: ignore[override]
        """Leave a job alone that was given to another worker while this one seemed to be dead."""
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
        sign = Heartbeat("worker")
        while True:
            sign.give()
            await asyncio.sleep(self.update_heartbeat_interval)
            await self.app.job_manager.update_heartbeat(self.worker_id)


async def _how_it_ended(working: asyncio.Task[None]) -> str:
    try:
        await working
    except asyncio.CancelledError:
        return "cancelled"
    except (ConnectorException, psycopg.Error, OSError) as error:
        cause = error.__cause__ or error
        return " ".join(str(cause).split()) or type(cause).__name__
    except Exception:
        log.exception("worker failed")
        return "see above"
    return "the queue's connection was lost"


def _make_room(concurrency: int) -> None:
    """Give each job that runs at the same time a thread and a database connection."""
    # Otherwise asyncio makes only four threads more than there are processors.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(concurrency + 2))
    pool: dict[str, Any] = settings.DATABASES["default"]["OPTIONS"]["pool"]
    pool["max_size"] = max(pool["max_size"], concurrency + 2)


def _stop_on_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        stopping.set()
        loop.call_later(settings.WORKER_SHUTDOWN_SECONDS + 1, _cut_off)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def _cut_off() -> None:
    log.warning("worker ends with jobs unfinished; they count as those of a dead worker")
    os._exit(1)


def _quiet_loggers() -> None:
    """While the database is away one line a try is enough: ours."""
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    logging.getLogger("procrastinate.utils").setLevel(logging.CRITICAL)
    for name in ("procrastinate.worker", "procrastinate.worker.worker"):
        logging.getLogger(name).addFilter(_says_more_than_we_do)


def _says_more_than_we_do(record: logging.LogRecord) -> bool:
    return getattr(record, "action", "") not in ("side_task_failed", "poll_jobs_to_abort_error")
