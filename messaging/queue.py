"""Names the jobs of this app, enqueues them, and wakes the loops of the worker processes.

The jobs are in `tasks`. Neither sending a message nor reading an event is a job.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import TYPE_CHECKING, Final

from django.db import connection, transaction
from procrastinate import exceptions

from core.queue import PRIORITY_DELIVERY, PRIORITY_MONITORING, Job, defer

if TYPE_CHECKING:
    from collections.abc import Iterable

# PostgreSQL's notification channels of committed events, and of messages that are due.
INBOUND_CHANNEL: Final = "alterna_inbound"
OUTBOX_CHANNEL: Final = "alterna_outbox"
FETCH_MEDIA: Final = Job(name="messaging.fetch_media", queue="media", priority=PRIORITY_DELIVERY)
FETCH_PICTURE: Final = Job(
    name="messaging.fetch_picture", queue="media", priority=PRIORITY_MONITORING
)
MARK_READ: Final = Job(name="messaging.mark_read", queue="care", priority=PRIORITY_DELIVERY)
RESCHEDULE_THROTTLED: Final = Job(
    name="messaging.reschedule_throttled", queue="care", priority=PRIORITY_MONITORING
)
SEND_PUSH: Final = Job(name="messaging.send_push", queue="care", priority=PRIORITY_DELIVERY)


def enqueue_picture(contact: int, url: str) -> None:
    """Enqueue the download of a contact's picture when the transaction commits."""
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(
            FETCH_PICTURE, queueing_lock=f"picture:{contact}:{url}"[:200], contact=contact, url=url
        )


def wake_senders() -> None:
    """Have the due messages delivered once the current transaction commits.

    The notification reaches the `sender_loop` of every worker process; the first one to lock a
    message claims it. A lost notification is made up for by their polling.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [OUTBOX_CHANNEL])


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


def enqueue_reading(conversation_id: int, *, count: int, typing: bool) -> None:
    """Mark received messages as read at their provider in a job after the commit."""
    name = f"reading:{conversation_id}:{typing}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(
            MARK_READ,
            lock=name,
            queueing_lock=name,
            conversation_id=conversation_id,
            count=count,
            typing=typing,
        )


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


def enqueue_push(
    subscription_id: int, message_id: str, *, tries: int = 1, at: dt.datetime | None = None
) -> None:
    """Enqueue a push: a slow service delays no other. The job has ids and no words."""
    defer(SEND_PUSH, at=at, subscription_id=subscription_id, message_id=message_id, tries=tries)
