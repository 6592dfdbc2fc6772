"""Names the jobs of this app, enqueues them and reads the job table. The jobs are in `tasks`."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import TYPE_CHECKING, Final

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast
from procrastinate import exceptions, jobs
from procrastinate.contrib.django.models import ProcrastinateJob

from core.queue import PRIORITY_DELIVERY, PRIORITY_MONITORING, Job, defer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from messaging.models import Message

# PostgreSQL's notification channel of committed events.
INBOUND_CHANNEL: Final = "alterna_inbound"
DELIVER: Final = Job(name="messaging.deliver", queue="delivery", priority=PRIORITY_DELIVERY)
FETCH_MEDIA: Final = Job(name="messaging.fetch_media", queue="media", priority=PRIORITY_DELIVERY)
RESCHEDULE_THROTTLED: Final = Job(
    name="messaging.reschedule_throttled", queue="care", priority=PRIORITY_MONITORING
)


def _conversation_lock(conversation_id: int) -> str:
    return f"conversation:{conversation_id}"


def enqueue_delivery(message: Message) -> None:
    """Queue delivery of the message after the transaction commits, behind earlier messages."""
    defer(DELIVER, lock=_conversation_lock(message.conversation_id), message_id=str(message.pk))


def wake_conversation(conversation_id: int) -> None:
    """Run this conversation's waiting job now, because what it waited for is known."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE procrastinate_jobs SET scheduled_at = NULL"
            " WHERE lock = %s AND status = 'todo' AND scheduled_at > now()",
            [_conversation_lock(conversation_id)],
        )
        if cursor.rowcount:
            # Workers sleep until their next due time; this is procrastinate's own wake-up call.
            cursor.execute(
                'SELECT pg_notify(channel, \'{"type": "job_inserted"}\')'
                " FROM unnest(ARRAY['procrastinate_any_queue_v1',"
                " 'procrastinate_queue_v1#delivery']) AS channel"
            )


def wake_readers(source: str, source_keys: Iterable[str]) -> None:
    """Have the pending events of these sources read once the current transaction commits.

    The notification reaches the `reader_loop` of every worker process; the first one to lock the
    source reads it. A lost notification is made up for by their polling.
    """
    payloads = [f"{source}:{source_key}" for source_key in source_keys]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload",
            [INBOUND_CHANNEL, payloads],
        )


def source_in(payload: str) -> tuple[str, str]:
    """Return the source and source key in a notification of `wake_readers`."""
    source, _, source_key = payload.partition(":")
    return source, source_key


def enqueue_rescheduling(channel_id: int) -> None:
    """Reschedule a channel's throttled messages in a job after the transaction commits."""
    name = f"rescheduling:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(RESCHEDULE_THROTTLED, lock=name, queueing_lock=name, channel_id=channel_id)


def enqueue_fetch(media_id: str, *, at: dt.datetime | None = None) -> None:
    """Queue the download of a received file, now or at a given time, after the commit."""
    name = f"media:{media_id}"
    if _is_queued(name):
        return
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(FETCH_MEDIA, lock=name, queueing_lock=name, at=at, media_id=media_id)


def _is_queued(queueing_lock: str) -> bool:
    """Return whether a job with this queueing lock is queued: cheaper than a failed insert."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = %s AND status = 'todo'",
            [queueing_lock],
        )
        return cursor.fetchone() is not None


def still_owns_job(job: jobs.Job) -> bool:
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
        task_name=DELIVER["name"],
        status__in=("todo", "doing"),
        message=Cast(OuterRef("pk"), TextField()),
    )
    return messages.exclude(Exists(active_jobs))
