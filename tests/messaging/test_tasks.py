"""The jobs, run by a real worker on the real queue."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker
from procrastinate.exceptions import AlreadyEnqueued

from channels_app import queue as channel_queue
from channels_app.incidents import incidents
from channels_app.models import Incident
from messaging import queue, retention, tasks
from messaging.delivery import accept as sending
from messaging.delivery import policy, reconcile, runner, sweeper
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import handlers, reader
from messaging.media import files
from messaging.models import DeliveryAttempt, InboundEvent, Message, PendingEvent
from tests.messaging.support import (
    accept,
    attempt_of,
    customer,
    defer_task,
    envelope,
    jobs,
    post,
    read_events,
    run_jobs,
    running_worker,
    status,
    stored_attempts,
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


def make_due() -> None:
    """End the waiting time of every message and job."""
    DeliveryAttempt.objects.update(finished_at=timezone.now() - MINUTE_AGO)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = now() - interval '1 s'")


def in_own_connection(function: Callable[..., None], *arguments: str) -> None:
    """Run in this thread and close its database connection."""
    try:
        function(*arguments)
    finally:
        connection.close()


def age(queryset: Any, **fields: dt.timedelta) -> None:
    queryset.update(**{name: timezone.now() - delta for name, delta in fields.items()})


# -- delivery --------------------------------------------------------------------------------------


@with_worker
def test_accepting_a_message_queues_its_delivery(wired: Channel, graph: Provider) -> None:
    message = accept(wired)
    [job] = jobs()
    assert (job.task_name, job.queue_name) == ("messaging.deliver", "delivery")
    assert job.lock == f"conversation:{message.conversation_id}"

    run_jobs()

    message.refresh_from_db()
    assert message.status == "sent"
    assert jobs() == []


@with_worker
def test_maintenance_does_not_wait_behind_queued_messages(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(runner, "deliver", lambda *args: ran.append("send"))
    monkeypatch.setattr(sweeper, "sweep", lambda: ran.append("care"))
    for number in range(3):
        accept(channel, f"+551198888000{number}")
    defer_task(tasks.sweep, timestamp=0)

    run_jobs("delivery", "care")

    assert [name for name in ran if name != "care"] == ["send", "send", "send"]
    assert ran[0] == "care"


def test_a_rolled_back_message_leaves_no_job(channel: Channel) -> None:
    with transaction.atomic():
        accept(channel)
        transaction.set_rollback(True)
    assert jobs() == []
    assert not Message.objects.exists()


@with_worker
def test_a_rolled_back_worker_job_leaves_no_job(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(media_id: str) -> None:
        with transaction.atomic():
            queue.enqueue_delivery(Message.objects.get())
            raise ZeroDivisionError

    accept(channel)
    clear_jobs()
    queue.enqueue_fetch("1")
    monkeypatch.setattr(files, "fetch", fail)
    run_jobs("media")
    assert [(job.task_name, job.status) for job in jobs()] == [("messaging.fetch_media", "failed")]


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
    made = ProcrastinateJob.objects.filter(task_name__startswith="channels_app.")
    assert (
        not made.exclude(queueing_lock="probe_due_sessions")
        .exclude(queueing_lock="settle_incidents")
        .exclude(queueing_lock=f"channel-test:{channel.pk}")  # made with the channel
        .exists()
    )


@with_worker
def test_a_waiting_message_requeues_its_job_for_its_due_time(
    wired: Channel, graph: Provider
) -> None:
    graph.plays("refused_131016", forever=True)
    message = accept(wired)

    run_jobs()

    message.refresh_from_db()
    [job] = jobs()
    assert (job.status, job.scheduled_at) == ("todo", message.next_attempt_at)
    assert len(graph.sends()) == 1


@with_worker
def test_a_conversation_preserves_its_order_while_its_first_message_waits(
    wired: Channel, graph: Provider
) -> None:
    graph.plays("refused_131016", to="+5511988887777")
    first, second = accept(wired, text="1"), accept(wired, text="2")
    elsewhere = accept(wired, to="+5511977776666", text="3")

    run_jobs(concurrency=4)

    elsewhere.refresh_from_db()
    second.refresh_from_db()
    assert elsewhere.status == "sent"
    assert (second.status, second.decision) == ("queued", "waiting_turn")
    make_due()
    run_jobs()
    texts = [sent["text"]["body"] for sent in graph.sends()]
    assert (sorted(texts[:2]), texts[2:]) == (["1", "3"], ["1", "2"])
    for message in (first, second):
        message.refresh_from_db()
        assert message.status == "sent"


@with_worker
def test_a_worker_is_notified_when_a_conversation_s_next_message_is_due(
    wired: Channel, graph: Provider
) -> None:
    graph.plays("slow", forever=True)
    first, second = accept(wired), accept(wired)
    with running_worker(poll_seconds=NEVER):
        wait_until(lambda: Message.objects.filter(status="sent").count() == 2)
    done = stored_attempts(first)[0].finished_at
    assert done is not None
    assert stored_attempts(second)[0].started_at >= done


@with_worker
def test_confirmation_of_a_send_wakes_a_worker(wired: Channel, graph: Provider) -> None:
    graph.plays("reset_after", "ok")
    first = accept(wired)
    accept(wired)
    with running_worker(poll_seconds=NEVER):
        wait_until(lambda: Message.objects.filter(decision="waiting_confirmation").exists())
        wait_until(lambda: jobs(status="todo", attempts=1))
        post(status(first, "delivered", channel=wired))
        wait_until(lambda: Message.objects.filter(status="sent").exists())


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


@with_worker
def test_late_confirmation_wakes_a_message_waiting_for_the_fallback(
    wired: Channel, graph: Provider
) -> None:
    wired.fallback_per_minute = 1
    wired.save()
    accept(wired, customer(graph="47"))
    message = accept(wired)
    run_jobs()
    post(
        status(
            message, "failed", channel=wired, errors=[{"code": 131026, "title": "Undeliverable"}]
        )
    )
    read_events()
    run_jobs()
    message.refresh_from_db()
    assert message.decision == "waiting_pace"
    assert [job.scheduled_at is None for job in jobs()] == [False]

    post(status(message, "delivered", channel=wired))
    read_events()
    assert [job.scheduled_at is None for job in jobs(task_name=queue.DELIVER["name"])] == [True]


@with_worker
def test_confirmation_of_a_send_wakes_the_waiting_job(wired: Channel, graph: Provider) -> None:
    graph.plays("reset_after", "ok")
    first, second = accept(wired, text="1"), accept(wired, text="2")
    run_jobs()
    first.refresh_from_db()
    assert first.status == "unconfirmed"

    post(status(first, "delivered", channel=wired))
    read_events()
    run_jobs()

    for message in (first, second):
        message.refresh_from_db()
    assert (first.status, second.status) == ("delivered", "sent")
    assert jobs() == []
    assert len(graph.sends()) == 2


def test_waking_a_conversation_does_not_wake_others(channel: Channel) -> None:
    message, other = accept(channel), accept(channel, to="+5511977776666")
    later = timezone.now() + dt.timedelta(hours=1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = %s", [later])
    queue.wake_conversation(message.conversation_id)
    assert [job.scheduled_at for job in jobs()] == [None, later]
    queue.wake_conversation(other.conversation_id)
    queue.wake_conversation(other.conversation_id)
    assert [job.scheduled_at for job in jobs()] == [None, None]


@with_worker
def test_a_job_with_an_internal_error_is_retried(
    wired: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise ZeroDivisionError

    message = accept(wired)
    monkeypatch.setattr(runner, "deliver", broken)
    before = timezone.now()
    run_jobs()
    [job] = jobs()
    assert (job.status, job.attempts) == ("todo", 1)
    assert before < job.scheduled_at < before + dt.timedelta(seconds=10)
    monkeypatch.undo()
    make_due()
    run_jobs()
    message.refresh_from_db()
    assert message.status == "sent"


@with_worker
def test_a_message_that_always_fails_is_held_and_blocks_no_other(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = accept(wired, text="1"), accept(wired, text="2")
    real, tries = runner._outbound, []

    def broken(message: Message, attempt: DeliveryAttempt) -> Any:
        if message.pk == first.pk:
            tries.append(message.decision)
            raise ZeroDivisionError("a bug of ours")
        return real(message, attempt)

    monkeypatch.setattr(runner, "_outbound", broken)
    for _ in range(20):
        run_jobs()
        make_due()
    for message in (first, second):
        message.refresh_from_db()

    assert tries == ["", *["waiting_internal_error"] * (policy.MAX_FAULTS - 1)]
    assert (first.status, first.decision) == ("rejected", "internal_error")
    assert (first.next_attempt_at, stored_attempts(first)) == (None, [])
    assert second.status == "sent"
    assert jobs() == []
    incident = Incident.objects.get()
    assert (incident.channel, incident.reason) == (wired, "internal_error")
    assert incident.detail == "ZeroDivisionError"
    assert incidents.headline(incident)
    sweeper.sweep()
    assert jobs() == []

    monkeypatch.undo()
    sending.retry_message(first, route="official", user=None)
    run_jobs()
    first.refresh_from_db()
    assert (first.status, first.faults) == ("sent", 0)


@with_worker
def test_a_possibly_sent_message_is_held_after_an_internal_error(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the error is in the code that derives the message's status."""
    message = accept(wired)

    def broken(*args: Any, **kwargs: Any) -> None:
        if graph.sends():
            raise ZeroDivisionError("a bug of ours")
        real(*args, **kwargs)

    real = runner.attempts.refresh_message_status
    monkeypatch.setattr(runner.attempts, "refresh_message_status", broken)
    for _ in range(20):
        run_jobs()
        make_due()
    message.refresh_from_db()

    assert (message.status, message.decision) == ("unconfirmed", "internal_error")
    assert [attempt.outcome for attempt in stored_attempts(message)] == ["unknown"]
    assert len(graph.sends()) == 1
    assert jobs() == []


@with_worker
def test_a_database_outage_is_not_an_internal_error(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any) -> None:
        raise OperationalError("gone")

    message = accept(wired)
    monkeypatch.setattr(runner, "deliver", away)
    for _ in range(3 * policy.MAX_FAULTS):
        run_jobs()
        make_due()
    monkeypatch.undo()
    run_jobs()
    message.refresh_from_db()
    assert (message.status, message.faults) == ("sent", 0)


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 1), (3, 8), (6, 60), (100, 60)])
def test_the_retry_delay_after_an_internal_error_has_a_maximum(attempts: int, seconds: int) -> None:
    from procrastinate import jobs as procrastinate_jobs

    job = procrastinate_jobs.Job(
        id=1, queue="delivery", lock=None, queueing_lock=None, task_name="x", attempts=attempts
    )
    strategy = tasks._DeliveryRetryStrategy()
    before = timezone.now()
    decision = strategy.get_retry_decision(exception=ZeroDivisionError(), job=job)
    assert decision is not None
    assert decision.retry_at is not None
    assert abs((decision.retry_at - before).total_seconds() - seconds) < 5


# -- inbound events --------------------------------------------------------------------------------


@with_worker
def test_committed_events_are_read_without_a_poll(channel: Channel) -> None:
    message = accept(channel)
    clear_jobs()
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
def test_a_dead_worker_s_delivery_resumes_with_an_unknown_outcome(
    wired: Channel, graph: Provider
) -> None:
    message = accept(wired)
    runner._decide(str(message.pk))
    assign_to_worker(queue.DELIVER["name"], heartbeat=dt.timedelta(seconds=16))

    rescue()

    [job] = jobs(task_name=queue.DELIVER["name"])
    assert job.status == "todo"
    run_jobs("delivery")
    message.refresh_from_db()
    assert (message.status, message.decision) == ("unconfirmed", "waiting_confirmation")
    assert [attempt.error_code for attempt in stored_attempts(message)] == ["worker_lost"]
    assert graph.sends() == []


@with_worker
def test_the_jobs_of_a_live_worker_are_not_requeued(wired: Channel) -> None:
    accept(wired)
    assign_to_worker(queue.DELIVER["name"], heartbeat=dt.timedelta(seconds=5))
    rescue()
    [job] = jobs(task_name=queue.DELIVER["name"])
    assert job.status == "doing"


@with_worker
def test_the_other_jobs_of_a_dead_worker_are_deleted(channel: Channel) -> None:
    queue.enqueue_fetch("1")
    assign_to_worker("messaging.fetch_media", heartbeat=dt.timedelta(seconds=60))
    rescue()
    assert jobs() == []


@with_worker
def test_a_worker_considered_dead_starts_no_send(
    wired: Channel, graph: Provider, wwebjs: Provider
) -> None:
    """It lost the database before it called the provider; another worker took over."""
    wired.confirm_seconds = 0
    wired.save()
    message = accept(wired)
    first, second = [True], [True]
    _, send = runner._decide(str(message.pk), lambda: first[0])
    assert send is not None
    first[0] = False
    runner.deliver(str(message.pk), lambda: second[0])
    message.refresh_from_db()
    # The first worker's send may last this long; the fallback must not overtake it.
    assert message.next_attempt_at is not None
    wait = (message.next_attempt_at - timezone.now()).total_seconds()
    assert wired.request_timeout_seconds < wait < wired.request_timeout_seconds + 11

    send.attempt.started_at -= runner.OWNERSHIP_GRACE * 2
    result = runner._send(send, lambda: first[0])
    assert getattr(result, "code", "") == "taken_over"
    assert (graph.sends(), wwebjs.sends()) == ([], [])
    assert runner.deliver(str(message.pk), lambda: first[0]) is None
    assert len(stored_attempts(message)) == 1


# -- the sweep -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "requeued"),
    [
        ({"status": "queued"}, True),
        ({"status": "sending"}, True),
        ({"status": "unconfirmed", "decision": "waiting_confirmation"}, True),
        ({"status": "rejected", "decision": ""}, True),
        ({"status": "rejected", "decision": "no_fallback"}, False),
        ({"status": "unconfirmed", "decision": "held"}, False),
        ({"status": "sent"}, False),
        ({"status": "delivered"}, False),
        ({"direction": "in", "status": ""}, False),
    ],
)
def test_an_unfinished_message_without_a_job_is_requeued(
    channel: Channel, fields: dict[str, str], requeued: bool
) -> None:
    message = accept(channel)
    clear_jobs()
    Message.objects.filter(pk=message.pk).update(**fields)
    sweeper.sweep()
    assert jobs() == []
    age(Message.objects.all(), updated_at=MINUTE_AGO)
    sweeper.sweep()
    sweeper.sweep()
    assert len(jobs()) == requeued


def clear_jobs() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


def test_a_message_with_a_queued_or_running_job_is_not_requeued(channel: Channel) -> None:
    accept(channel)
    accept(channel, to="+5511977776666")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE procrastinate_jobs SET status = 'doing' WHERE id ="
            " (SELECT min(id) FROM procrastinate_jobs)"
        )
    age(Message.objects.all(), updated_at=MINUTE_AGO)
    sweeper.sweep()
    assert len(jobs()) == 2


def test_the_sweep_finds_one_abandoned_message_among_many_queued(channel: Channel) -> None:
    """A long outage must not hide an abandoned message."""
    first = accept(channel)
    Message.objects.bulk_create(
        Message(
            conversation=first.conversation,
            direction="out",
            status="queued",
            created_at=first.created_at - dt.timedelta(minutes=1),
        )
        for _ in range(600)
    )
    waiting = Message.objects.exclude(pk=first.pk).values_list("pk", flat=True)
    clear_jobs()
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, args)"
            " VALUES ('delivery', %s, 'x', %s)",
            [[queue.DELIVER["name"], json.dumps({"message_id": str(pk)})] for pk in waiting],
        )
    age(Message.objects.all(), updated_at=MINUTE_AGO)
    sweeper.sweep()
    assert len(jobs()) == 601


def test_the_sweep_query_skips_finished_messages_and_those_with_a_job(channel: Channel) -> None:
    """However many rejected and queued messages there are."""
    abandoned = accept(channel)
    clear_jobs()
    accept(channel, to="+5511977776666")
    Message.objects.bulk_create(
        Message(
            conversation=abandoned.conversation,
            direction="out",
            status="rejected",
            decision="no_fallback",
            created_at=abandoned.created_at,
        )
        for _ in range(2000)
    )
    age(Message.objects.all(), updated_at=MINUTE_AGO)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE messaging_message")
    queryset = sweeper.messages_without_job(timezone.now())
    plan = queryset.explain(analyze=True)
    assert "message_unfinished" in plan
    assert "Anti Join" in plan
    with CaptureQueriesContext(connection) as queries:
        assert list(queryset) == [abandoned]
    assert len(queries) == 1


@with_worker
def test_the_sweep_and_the_cleanup_run_as_jobs(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    accept(channel)
    clear_jobs()
    age(Message.objects.all(), updated_at=MINUTE_AGO)
    defer_task(tasks.sweep, timestamp=0)
    defer_task(tasks.delete_expired, timestamp=0)
    run_jobs("care")
    assert [job.task_name for job in jobs()] == [queue.DELIVER["name"]]


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


@with_worker
def test_a_manual_retry_queues_a_job(wired: Channel) -> None:
    message = accept(wired, customer(graph="49"))
    run_jobs()
    message.refresh_from_db()
    assert (message.status, jobs()) == ("rejected", [])
    sending.retry_message(message, route="fallback", user=None)
    run_jobs()
    message.refresh_from_db()
    assert message.icon == "globe"
    assert ProcrastinateWorker.objects.count() == 0
