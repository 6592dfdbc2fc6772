from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection, connections
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.contrib.django.utils import connector_params
from procrastinate.manager import JobManager

from config import worker

MakeTask = Callable[[Callable[[], None]], Any]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def task() -> Iterator[MakeTask]:
    """Register functions as tasks during a test."""
    registered = []

    def make(function: Callable[[], None]) -> Any:
        registered.append(f"tests.{function.__name__}")
        return app.task(name=registered[-1])(function)

    periodic = dict(app.periodic_registry.periodic_tasks)
    app.periodic_registry.periodic_tasks.clear()  # the product's own tasks would also run
    yield make
    app.periodic_registry.periodic_tasks.update(periodic)
    for name in registered:
        del app.tasks[name]


@pytest.fixture(autouse=True)
async def _close_connections() -> AsyncIterator[None]:
    """Close the connection that deferring in a coroutine opens in asgiref's thread."""
    yield
    await sync_to_async(connections.close_all)()


@asynccontextmanager
async def working() -> AsyncIterator[None]:
    """Run a worker in this process and stop it as a signal would."""
    stopping = asyncio.Event()
    running = asyncio.create_task(worker.work_until(stopping))
    try:
        yield
    finally:
        stopping.set()
        async with asyncio.timeout(30):
            await running


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (other threads change it)
            await asyncio.sleep(0.02)


async def until_listening() -> None:
    """Wait until the worker listens for deferred jobs."""
    async with asyncio.timeout(30):
        while not await sync_to_async(_is_listening)():  # noqa: ASYNC110 (PostgreSQL knows)
            await asyncio.sleep(0.02)


def _is_listening() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        return cursor.fetchone() is not None


def statuses() -> list[str]:
    return [job.status for job in ProcrastinateJob.objects.all()]


async def test_the_configured_number_of_jobs_runs_in_parallel(task: MakeTask) -> None:
    """Each job has its own thread and database connection, which are released afterwards."""
    together = threading.Barrier(settings.WORKER_CONCURRENCY)
    done: list[int] = []

    @task
    def meet() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            together.wait(20)
            done.extend(cursor.fetchone())

    for _ in range(settings.WORKER_CONCURRENCY):
        await meet.defer_async()
    async with working():
        await until(lambda: len(done) == settings.WORKER_CONCURRENCY)
    assert len(set(done)) == settings.WORKER_CONCURRENCY
    assert await sync_to_async(statuses)() == []
    pool = connection.pool.get_stats()  # type: ignore[attr-defined]
    assert pool["pool_size"] - pool["pool_available"] <= 2  # this test's and asgiref's


async def test_a_job_is_run_as_soon_as_it_is_deferred(
    task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "POLL_SECONDS", 3600.0)
    done = threading.Event()

    @task
    def mark() -> None:
        done.set()

    async with working():
        await until_listening()
        await mark.defer_async()
        await until(done.is_set)


async def test_a_job_that_arrives_during_an_empty_fetch_is_run_immediately(
    task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "POLL_SECONDS", 3600.0)
    done, notified = threading.Event(), asyncio.Event()
    fetch, handle_notification = JobManager.fetch_job, worker._Worker._handle_notification

    @task
    def mark() -> None:
        done.set()

    async def fetch_slowly(manager: JobManager, *arguments: Any, **named: Any) -> Any:
        job = await fetch(manager, *arguments, **named)
        if job is None and not notified.is_set():
            await until_listening()
            await mark.defer_async()
            await notified.wait()
        return job

    async def handle_and_record(self: Any, **named: Any) -> None:
        await handle_notification(self, **named)
        notified.set()

    monkeypatch.setattr(JobManager, "fetch_job", fetch_slowly)
    monkeypatch.setattr(worker._Worker, "_handle_notification", handle_and_record)
    async with working():
        await until(done.is_set)


async def test_running_jobs_finish_when_the_worker_is_asked_to_stop(task: MakeTask) -> None:
    started, resume, ended = threading.Event(), threading.Event(), threading.Event()

    @task
    def slow() -> None:
        started.set()
        resume.wait(20)
        ended.set()

    await slow.defer_async()
    await slow.configure(lock="x", schedule_in={"seconds": 3600}).defer_async()
    async with working():
        await until(started.is_set)
        asyncio.get_running_loop().call_later(0.3, resume.set)
    assert ended.is_set()
    assert await sync_to_async(statuses)() == ["todo"]


async def test_it_waits_for_an_unreachable_database(
    task: MakeTask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def unreachable_at_first() -> dict[str, Any]:
        calls.append(1)
        return {"host": "/nowhere", "dbname": "x"} if len(calls) == 1 else connector_params()

    monkeypatch.setattr("config.worker.connector_params", unreachable_at_first)
    done = threading.Event()

    @task
    def mark() -> None:
        done.set()

    await mark.defer_async()
    async with working():
        await until(done.is_set)
    lines = [record.getMessage() for record in caplog.records if record.name == "config.worker"]
    assert len(lines) == 1
    assert "worker lost the database; tries again" in lines[0]


async def test_a_worker_that_ends_unexpectedly_is_restarted(
    task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """procrastinate's worker returns without an exception when it loses its LISTEN connection."""
    work = worker._work
    ended: list[int] = []

    async def ends_at_first() -> None:
        if not ended:
            ended.append(1)
            return
        await work()

    monkeypatch.setattr(worker, "_work", ends_at_first)
    done = threading.Event()

    @task
    def mark() -> None:
        done.set()

    await mark.defer_async()
    async with working():
        await until(done.is_set)
    assert ended
