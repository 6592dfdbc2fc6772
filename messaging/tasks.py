"""The jobs: the only room of this floor that knows the queue. A job makes one call inward."""

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
    """The message waits; the job is to run again at `until`."""

    def __init__(self, until: dt.datetime) -> None:
        super().__init__(f"not before {until.isoformat()}")
        self.until = until


class _DeliveryRetryStrategy(procrastinate.BaseRetryStrategy):
    """Put a waiting job back at its time; while the database is away, try again with a pause.

    Either way the job keeps its place before the later messages of its conversation. How long an
    error of Alterna's own is worth another try, the policy says (`delivery.run`).
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
    """Have the message sent once the present transaction commits, after those before it."""
    defer(deliver, lock=_lock(message.conversation_id), message_id=str(message.pk))


def wake_conversation(conversation_id: int) -> None:
    """Let a job that waits in this conversation run now: what it waited for is known."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE procrastinate_jobs SET scheduled_at = NULL"
            " WHERE lock = %s AND status = 'todo' AND scheduled_at > now()",
            [_lock(conversation_id)],
        )
        if cursor.rowcount:
            # Workers sleep until the time they know of; this is the queue's own way to wake them.
            cursor.execute(
                'SELECT pg_notify(channel, \'{"type": "job_inserted"}\')'
                " FROM unnest(ARRAY['procrastinate_any_queue_v1',"
                " 'procrastinate_queue_v1#delivery']) AS channel"
            )


def enqueue_reading(source: str, source_key: str) -> None:
    """Have the pending events of one source read. Call it after their commit.

    While a job for the source waits, a second one would find nothing: it is left out.
    """
    name = f"inbound:{source}:{source_key}"
    if _waits(name):
        return
    # The savepoint keeps a transaction of the caller usable.
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(read_inbound, lock=name, queueing_lock=name, source=source, source_key=source_key)


def enqueue_rescheduling(channel_id: int) -> None:
    """Have the throttled messages of a channel ask again once the present transaction commits."""
    name = f"rescheduling:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(reschedule_throttled, lock=name, queueing_lock=name, channel_id=channel_id)


def enqueue_fetch(media_id: str, *, at: dt.datetime | None = None) -> None:
    """Have a received file fetched, now or at a time, once the present transaction commits."""
    name = f"media:{media_id}"
    if _waits(name):
        return
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(fetch_media, lock=name, queueing_lock=name, at=at, media_id=media_id)


def _waits(queueing_lock: str) -> bool:
    """Whether a job with this queueing lock waits: cheaper to ask than to be refused."""
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


# No retry: putting a job back collides with another that waits under the same queueing lock, and
# would leave it running for ever. The sweep asks again for events that were left.
@app.task(name="messaging.read_inbound", queue="inbound", priority=READ)
def read_inbound(source: str, source_key: str) -> None:
    from messaging.inbound import journal

    journal.read_pending(source, source_key)


# No retry: the next try is a job of its own, and the sweep finds what was left.
@app.task(name="messaging.fetch_media", queue="media", priority=SEND)
def fetch_media(media_id: str) -> None:
    from messaging.media import files

    files.fetch(media_id)


# No retry: a message that was left waits until the time that it was told.
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
    """Put back the deliveries of dead workers; end their other jobs, which a sweep makes anew."""
    manager = context.app.job_manager
    stalled = await manager.get_stalled_jobs(
        seconds_since_heartbeat=settings.WORKER_STALLED_SECONDS
    )
    for job in stalled:
        if job.task_name == DELIVER:
            log.warning("delivery of a dead worker is put back", job=job.id)
            await manager.retry_job(job)
        else:
            await manager.finish_job(job, jobs.Status.FAILED, delete_job=True)


@app.periodic(cron="* * * * * */10")
@app.task(name="messaging.sweep", queue="care", priority=CARE, queueing_lock="sweep")
def sweep(timestamp: int) -> None:
    """Find what rests without a job: messages on their way and events that nobody reads."""
    from messaging.delivery import sweeper

    sweeper.sweep()


@app.periodic(cron="* * * * * */15")
@app.task(
    name="messaging.look_up_unknown",
    queue="care",
    priority=CARE,
    # A server that hangs must not fill the worker with runs that wait for it.
    lock="look_up_unknown",
    queueing_lock="look_up_unknown",
)
def look_up_unknown(timestamp: int) -> None:
    """Ask providers that can tell for sends whose end nobody heard."""
    from messaging.delivery import reconcile

    reconcile.look_up_unknown()


@app.periodic(cron="* * * * *")
@app.task(name="messaging.watch_rates", queue="care", priority=CARE, queueing_lock="watch_rates")
def watch_rates(timestamp: int) -> None:
    """Raise the alarm when the share of fallbacks jumps, and end it."""
    from messaging.delivery import fallback_rate

    fallback_rate.check_fallback_rates()


@app.periodic(cron="17 4 * * *")
@app.task(name="messaging.forget_old", queue="care", priority=CARE, queueing_lock="forget_old")
def forget_old(timestamp: int) -> None:
    """Delete what is kept for a while only."""
    from messaging.delivery import sweeper

    sweeper.forget_old()


def is_ours(job: jobs.Job) -> bool:
    """Whether a job that this worker took is still its own.

    A worker that could not reach the database for `WORKER_STALLED_SECONDS` counts as dead, and its
    job is given to another one, while it may be alive and in the middle of a send.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM procrastinate_jobs WHERE id = %s AND status = 'doing' AND attempts = %s",
            [job.id, job.attempts],
        )
        return cursor.fetchone() is not None


def without_job(messages: QuerySet[Message]) -> QuerySet[Message]:
    """Leave out the messages for which a job waits or runs."""
    own = ProcrastinateJob.objects.annotate(message=KeyTextTransform("message_id", "args")).filter(
        task_name=DELIVER, status__in=("todo", "doing"), message=Cast(OuterRef("pk"), TextField())
    )
    return messages.exclude(Exists(own))
