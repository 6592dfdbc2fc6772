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
    """Make a task of a function for the time of a test."""
    made = []

    def make(function: Callable[[], None]) -> Any:
        made.append(f"tests.{function.__name__}")
        return app.task(name=made[-1])(function)

    periodic = dict(app.periodic_registry.periodic_tasks)
    app.periodic_registry.periodic_tasks.clear()  # the product's own would run, too
    yield make
    app.periodic_registry.periodic_tasks.update(periodic)
    for name in made:
        del app.tasks[name]


@pytest.fixture(autouse=True)
async def _no_connection_left() -> AsyncIterator[None]:
    """Deferring in a coroutine opens one in asgiref's own thread."""
    yield
    await sync_to_async(connections.close_all)()


@asynccontextmanager
async def working() -> AsyncIterator[None]:
    """A worker in this process, stopped as by a signal."""
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


async def until_somebody_listens() -> None:
    """Until the worker hears what is deferred."""
    async with asyncio.timeout(30):
        while not await sync_to_async(_somebody_listens)():  # noqa: ASYNC110 (PostgreSQL knows)
            await asyncio.sleep(0.02)


def _somebody_listens() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        return cursor.fetchone() is not None


def statuses() -> list[str]:
    return [job.status for job in ProcrastinateJob.objects.all()]


async def test_as_many_jobs_run_in_parallel_as_settings_say(task: MakeTask) -> None:
    """Each with a thread and a database connection of its own; none is kept afterwards."""
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
        await until_somebody_listens()
        await mark.defer_async()
        await until(done.is_set)


async def test_a_job_that_comes_while_the_worker_finds_none_is_run_at_once(
    task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "POLL_SECONDS", 3600.0)
    done, told = threading.Event(), asyncio.Event()
    fetch, hear = JobManager.fetch_job, worker._Worker._handle_notification

    @task
    def mark() -> None:
        done.set()

    async def fetch_slowly(manager: JobManager, *arguments: Any, **named: Any) -> Any:
        found = await fetch(manager, *arguments, **named)
        if found is None and not told.is_set():
            await until_somebody_listens()
            await mark.defer_async()
            await told.wait()
        return found

    async def hear_and_tell(self: Any, **named: Any) -> None:
        await hear(self, **named)
        told.set()

    monkeypatch.setattr(JobManager, "fetch_job", fetch_slowly)
    monkeypatch.setattr(worker._Worker, "_handle_notification", hear_and_tell)
    async with working():
        await until(done.is_set)


async def test_what_runs_is_finished_when_the_worker_is_asked_to_stop(task: MakeTask) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    @task
    def slow() -> None:
        begun.set()
        go_on.wait(20)
        ended.set()

    await slow.defer_async()
    await slow.configure(lock="x", schedule_in={"seconds": 3600}).defer_async()
    async with working():
        await until(begun.is_set)
        asyncio.get_running_loop().call_later(0.3, go_on.set)
    assert ended.is_set()
    assert await sync_to_async(statuses)() == ["todo"]


async def test_it_waits_for_a_database_that_is_away(
    task: MakeTask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []

    def away_at_first() -> dict[str, Any]:
        asked.append(1)
        return {"host": "/nowhere", "dbname": "x"} if len(asked) == 1 else connector_params()

    monkeypatch.setattr("config.worker.connector_params", away_at_first)
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


async def test_a_worker_that_ends_by_itself_is_started_again(
    task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """procrastinate's returns, without an exception, when its LISTEN connection is lost."""
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
