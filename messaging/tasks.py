"""The queue jobs: the only module of this app that calls the queue. Each job calls one function."""

from __future__ import annotations

import contextlib
import datetime as dt
from functools import partial
from typing import TYPE_CHECKING

import procrastinate
import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast
from procrastinate import exceptions, jobs
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from core.queue import CARE, READ, SEND, defer

if TYPE_CHECKING:
    from messaging.models import Message

log = structlog.get_logger(__name__)

DELIVER = "messaging.deliver"


class NotDueYet(Exception):
    """The message is waiting; the job must run again at `until`."""

    def __init__(self, until: dt.datetime) -> None:
        super().__init__(f"not before {until.isoformat()}")
        self.until = until


class _DeliveryRetryStrategy(procrastinate.BaseRetryStrategy):
    """Requeue a waiting job at its time; after an error, retry with backoff.

    In both cases the job stays ahead of the later messages of its conversation. `delivery.run` and
    the policy decide how often an internal error is retried.
    """

    def get_retry_decision(
        self, *, exception: BaseException, job: jobs.Job
    ) -> procrastinate.RetryDecision | None:
        if isinstance(exception, NotDueYet):
            return procrastinate.RetryDecision(retry_at=exception.until)
        pause = min(60, 2 ** min(job.attempts, 6))
        log.error("delivery job failed; will run again", job=job.id, pause=pause)
        return procrastinate.RetryDecision(retry_in={"seconds": pause})


def _lock(conversation_id: int) -> str:
    return f"conversation:{conversation_id}"


def enqueue_delivery(message: Message) -> None:
    """Queue delivery of the message after the transaction commits, behind earlier messages."""
    defer(deliver, lock=_lock(message.conversation_id), message_id=str(message.pk))


def wake_conversation(conversation_id: int) -> None:
    """Run this conversation's waiting job now, because what it waited for is known."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE procrastinate_jobs SET scheduled_at = NULL"
            " WHERE lock = %s AND status = 'todo' AND scheduled_at > now()",
            [_lock(conversation_id)],
        )
        if cursor.rowcount:
            # Workers sleep until their next due time; this is procrastinate's own wake-up call.
            cursor.execute(
                'SELECT pg_notify(channel, \'{"type": "job_inserted"}\')'
                " FROM unnest(ARRAY['procrastinate_any_queue_v1',"
                " 'procrastinate_queue_v1#delivery']) AS channel"
            )


def enqueue_reading(source: str, source_key: str) -> None:
    """Queue processing of one source's pending events. Call it after their commit.

    While a job for the source is queued, a second one would find nothing and is not added.
    """
    name = f"inbound:{source}:{source_key}"
    if _is_queued(name):
        return
    # The savepoint keeps the caller's transaction usable.
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(read_inbound, lock=name, queueing_lock=name, source=source, source_key=source_key)


def enqueue_rescheduling(channel_id: int) -> None:
    """Reschedule a channel's throttled messages in a job after the transaction commits."""
    name = f"rescheduling:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(reschedule_throttled, lock=name, queueing_lock=name, channel_id=channel_id)


def enqueue_fetch(media_id: str, *, at: dt.datetime | None = None) -> None:
    """Queue the download of a received file, now or at a given time, after the commit."""
    name = f"media:{media_id}"
    if _is_queued(name):
        return
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(fetch_media, lock=name, queueing_lock=name, at=at, media_id=media_id)


def _is_queued(queueing_lock: str) -> bool:
    """Return whether a job with this queueing lock is queued: cheaper than a failed insert."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = %s AND status = 'todo'",
            [queueing_lock],
        )
        return cursor.fetchone() is not None


@app.task(
    name=DELIVER, queue="delivery", priority=SEND, retry=_DeliveryRetryStrategy(), pass_context=True
)
def deliver(context: procrastinate.JobContext, message_id: str) -> None:
    from messaging.delivery import runner

    until = runner.run(message_id, is_ours=partial(is_ours, context.job))
    if until is not None:
        raise NotDueYet(until)


# No retry: requeueing fails if another job with the same queueing lock is queued, and would leave
# this one in "doing" forever. The sweep queues unprocessed events again.
@app.task(name="messaging.read_inbound", queue="inbound", priority=READ)
def read_inbound(source: str, source_key: str) -> None:
    from messaging.inbound import journal

    journal.read_pending(source, source_key)


# No retry: the next try is a job of its own, and the sweep requeues lost files.
@app.task(name="messaging.fetch_media", queue="media", priority=SEND)
def fetch_media(media_id: str) -> None:
    from messaging.media import files

    files.fetch(media_id)


# No retry: a message that was not rescheduled still runs at its previous time.
@app.task(name="messaging.reschedule_throttled", queue="care", priority=CARE)
def reschedule_throttled(channel_id: int) -> None:
    from messaging.delivery import runner

    runner.reschedule_throttled(channel_id)


@app.periodic(cron="* * * * * */5")
@app.task(
    name="messaging.rescue_stalled_jobs",
    queue="care",
    priority=CARE,
    queueing_lock="rescue_stalled_jobs",
    pass_context=True,
)
async def rescue_stalled_jobs(context: procrastinate.JobContext, timestamp: int) -> None:
    """Requeue deliveries of dead workers; delete their other jobs, which a sweep recreates."""
    manager = context.app.job_manager
    stalled = await manager.get_stalled_jobs(
        seconds_since_heartbeat=settings.WORKER_STALLED_SECONDS
    )
    for job in stalled:
        if job.task_name == DELIVER:
            log.warning("requeued job of stalled worker", job=job.id)
            await manager.retry_job(job)
        else:
            await manager.finish_job(job, jobs.Status.FAILED, delete_job=True)


@app.periodic(cron="* * * * * */10")
@app.task(name="messaging.sweep", queue="care", priority=CARE, queueing_lock="sweep")
def sweep(timestamp: int) -> None:
    """Requeue unfinished messages and pending events that have no job."""
    from messaging.delivery import sweeper

    sweeper.sweep()


@app.periodic(cron="* * * * * */15")
@app.task(
    name="messaging.look_up_unknown",
    queue="care",
    priority=CARE,
    # An unresponsive server must not occupy several worker slots.
    lock="look_up_unknown",
    queueing_lock="look_up_unknown",
)
def look_up_unknown(timestamp: int) -> None:
    """Look up sends with an unknown outcome at the providers that support it."""
    from messaging.delivery import reconcile

    reconcile.look_up_unknown()


@app.periodic(cron="* * * * *")
@app.task(name="messaging.watch_rates", queue="care", priority=CARE, queueing_lock="watch_rates")
def check_fallback_rates(timestamp: int) -> None:
    """Open and close incidents for unusual shares of fallbacks."""
    from messaging.delivery import fallback_rate

    fallback_rate.check_fallback_rates()


@app.periodic(cron="17 4 * * *")
@app.task(name="messaging.forget_old", queue="care", priority=CARE, queueing_lock="forget_old")
def forget_old(timestamp: int) -> None:
    """Delete rows and files whose retention period has ended."""
    from messaging.delivery import sweeper

    sweeper.forget_old()


def is_ours(job: jobs.Job) -> bool:
    """Return whether this worker still owns a job that it took.

    A worker that cannot reach the database for `WORKER_STALLED_SECONDS` counts as dead. Its job
    goes to another worker, although it may be alive and in the middle of a send.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM procrastinate_jobs WHERE id = %s AND status = 'doing' AND attempts = %s",
            [job.id, job.attempts],
        )
        return cursor.fetchone() is not None


def without_job(messages: QuerySet[Message]) -> QuerySet[Message]:
    """Exclude the messages that have a queued or running job."""
    active_jobs = ProcrastinateJob.objects.annotate(
        message=KeyTextTransform("message_id", "args")
    ).filter(
        task_name=DELIVER, status__in=("todo", "doing"), message=Cast(OuterRef("pk"), TextField())
    )
    return messages.exclude(Exists(active_jobs))
