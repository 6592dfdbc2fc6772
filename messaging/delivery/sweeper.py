"""Periodic maintenance: requeue work that lost its job."""

from __future__ import annotations

import datetime as dt

import structlog
from django.db.models import QuerySet
from django.utils import timezone

from channels_app.connections import circuit_breaker
from messaging import queue
from messaging.media import files as media
from messaging.models import UNFINISHED, Message

log = structlog.get_logger(__name__)

# A job normally exists within milliseconds of its row. After this long, it was lost.
ABANDONED_AFTER = dt.timedelta(seconds=20)
# The next sweep handles the rest.
MAX_PER_SWEEP = 1000


def sweep() -> None:
    """Queue a job for each unfinished message and awaited file that has none.

    It also ends new-chat blocks whose time is over.
    """
    before = timezone.now() - ABANDONED_AFTER
    for message in messages_without_job(before)[:MAX_PER_SWEEP]:
        log.warning("requeued message without a job", message=str(message.pk))
        queue.enqueue_delivery(message)
    media.enqueue_overdue()
    circuit_breaker.end_expired_blocks()


def messages_without_job(before: dt.datetime) -> QuerySet[Message]:
    """Return unfinished messages without a job, unchanged since `before`, oldest first."""
    # A message sent outside is already gone, whatever WhatsApp reported about it.
    unfinished = Message.objects.filter(UNFINISHED, sent_outside=False, updated_at__lt=before)
    return queue.without_job(unfinished).order_by("created_at").only("conversation")
