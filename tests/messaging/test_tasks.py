"""The jobs, run by a real worker on the real queue."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import AlreadyEnqueued

from channels_app import queue as channel_queue
from messaging import queue, retention, tasks
from messaging.delivery import reconcile
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import handlers, reader
from messaging.media import files
from messaging.models import InboundEvent, Message, PendingEvent
from tests.messaging.support import (
    accept,
    attempt_of,
    defer_task,
    envelope,
    jobs,
    post,
    run_jobs,
    running_worker,
    status,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from channels_app.models import Channel
    from tests.conftest import Provider

pytestmark = pytest.mark.django_db
# A worker uses its own database connections.
with_worker = pytest.mark.django_db(transaction=True)

# Polling interval for tests in which only notifications may wake the worker.
NEVER = 24 * 3600.0
MINUTE_AGO = dt.timedelta(seconds=60)


def in_own_connection(function: Callable[..., None], *arguments: str) -> None:
    """Run in this thread and close its database connection."""
    try:
        function(*arguments)
    finally:
        connection.close()


def age(queryset: Any, **fields: dt.timedelta) -> None:
    queryset.update(**{name: timezone.now() - delta for name, delta in fields.items()})


# -- jobs ------------------------------------------------------------------------------------------


@with_worker
def test_jobs_of_channels_app_are_rolled_back_with_a_worker_s_transaction(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(media_id: str) -> None:
        with transaction.atomic():
            channel_queue.enqueue_alert(1, what="dropped", by="email")
            channel_queue.enqueue_probe(channel.pk)
            channel_queue.enqueue_begin(channel.pk, restart=False)
            raise ZeroDivisionError

    queue.enqueue_fetch("1")
    monkeypatch.setattr(files, "fetch", fail)
    run_jobs("media")
    jobs = (channel_queue.SEND_ALERT, channel_queue.PROBE_SESSION, channel_queue.BEGIN_SESSION)
    assert not ProcrastinateJob.objects.filter(task_name__in=[job.name for job in jobs]).exists()


@with_worker
def test_lookups_at_an_unresponsive_server_use_one_worker_slot(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, finish = threading.Semaphore(0), threading.Event()

    def hangs() -> None:
        started.release()
        finish.wait(60)

    monkeypatch.setattr(reconcile, "look_up_unknown", hangs)
    with running_worker(poll_seconds=0.1, care=True):
        try:
            defer_task(tasks.look_up_unknown, timestamp=0)
            assert started.acquire(timeout=60)
            with contextlib.suppress(AlreadyEnqueued):  # the worker queues one automatically
                defer_task(tasks.look_up_unknown, timestamp=0)
            for _ in range(6):  # more than the worker has slots
                message = accept(wired)
                wait_until(lambda m=message: Message.objects.get(pk=m.pk).status == "sent")
            assert not started.acquire(blocking=False)
        finally:
            finish.set()


# -- inbound events --------------------------------------------------------------------------------


@with_worker
def test_committed_events_are_read_without_a_poll(channel: Channel) -> None:
    message = accept(channel)
    attempt_of(message, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL)
    post(status(message, "sent", channel=channel))
    with running_worker(poll_seconds=NEVER):
        # Its notification came before the worker.
        wait_until(lambda: Message.objects.filter(status="sent").exists())
        post(status(message, "delivered", channel=channel))
        wait_until(lambda: Message.objects.filter(status="delivered").exists())
        post(status(message, "read", channel=channel))
        wait_until(lambda: Message.objects.filter(status="read").exists())
    assert not InboundEvent.objects.filter(state="pending").exists()
    assert jobs() == []


@with_worker
def test_events_that_a_reader_could_not_read_are_read_by_the_next_poll(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def away(source: str, source_key: str) -> None:
        monkeypatch.undo()
        failed.set()
        raise OperationalError("gone")

    monkeypatch.setattr(reader, "_read_next_with_retries", away)
    post(envelope({}, channel))
    with running_worker(poll_seconds=0.05):
        wait_until(lambda: InboundEvent.objects.get().state == "done")
    assert failed.is_set()


@with_worker
def test_a_source_is_read_by_one_process_at_a_time_and_no_event_is_left(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    applied: list[str] = []

    def slow(items: Any, channels: Any) -> dict[str, int]:
        reading.set()
        assert go_on.wait(30)
        applied.extend(item.kind for item in items)
        return {}

    monkeypatch.setattr(handlers, "apply_events", slow)
    post(envelope({}, channel, field="first"))
    source = ("cloud", str(channel.pk))
    with ThreadPoolExecutor(1) as other_process:
        first = other_process.submit(in_own_connection, reader.read_pending, *source)
        assert reading.wait(30)
        post(envelope({}, channel, field="second"))
        reader.read_pending(*source)
        assert applied == [], "it did not wait for the other one"
        go_on.set()
        first.result(30)
    assert applied == ["field:first", "field:second"]
    assert not InboundEvent.objects.filter(state="pending").exists()


# -- dead workers ----------------------------------------------------------------------------------


def assign_to_worker(*task_names: str, heartbeat: dt.timedelta) -> None:
    """Mark the jobs of these tasks as running in a worker with this heartbeat age."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (%s) RETURNING id",
            [timezone.now() - heartbeat],
        )
        [worker] = cursor.fetchone()
        cursor.execute(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s"
            " WHERE task_name = ANY(%s)",
            [worker, list(task_names)],
        )


def rescue() -> None:
    defer_task(tasks.rescue_stalled_jobs, timestamp=0)
    run_jobs("care")


@with_worker
def test_the_other_jobs_of_a_dead_worker_are_deleted(channel: Channel) -> None:
    queue.enqueue_fetch("1")
    assign_to_worker("messaging.fetch_media", heartbeat=dt.timedelta(seconds=60))
    rescue()
    assert jobs() == []


# -- the cleanup -----------------------------------------------------------------------------------


def test_expired_rows_are_deleted(channel: Channel) -> None:
    for number in range(4):
        post({"number": number})
    _done, young, pending, set_aside = InboundEvent.objects.order_by("id")
    InboundEvent.objects.exclude(pk=pending.pk).update(state="done")
    InboundEvent.objects.filter(pk=set_aside.pk).update(state="set_aside")
    age(InboundEvent.objects.exclude(pk=young.pk), received_at=dt.timedelta(days=31))
    for name in ("old", "new"):
        PendingEvent.objects.create(channel=channel, provider_message_id=name, kind="sent")
    age(PendingEvent.objects.filter(provider_message_id="old"), received_at=dt.timedelta(days=8))

    retention.delete_expired()

    assert set(InboundEvent.objects.all()) == {young, pending, set_aside}
    assert PendingEvent.objects.get().provider_message_id == "new"


def test_periodic_tasks_are_registered() -> None:
    periodic = {task.task.name: task.cron for task in app.periodic_registry.periodic_tasks.values()}
    assert periodic["messaging.rescue_stalled_jobs"] == "* * * * * */5"
    assert periodic["messaging.sweep"] == "* * * * * */10"
    assert "messaging.forget_old" in periodic
