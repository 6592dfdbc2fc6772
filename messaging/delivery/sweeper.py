"""Periodic maintenance: requeue abandoned work and delete expired rows."""

from __future__ import annotations

import datetime as dt

import structlog
from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from channels_app.connections import circuit_breaker
from messaging import queue
from messaging.inbound import pending_events
from messaging.media import files as media
from messaging.media import inbound_files as inbound_media
from messaging.models import UNFINISHED, InboundEvent, Message, PendingEvent

log = structlog.get_logger(__name__)

# A job normally exists within milliseconds of its row. After this long, it was lost.
ABANDONED_AFTER = dt.timedelta(seconds=20)
# The next sweep handles the rest.
MAX_PER_SWEEP = 1000
PENDING_EVENT_DAYS = 7


def sweep() -> None:
    """Queue a job for each unfinished message, event source and awaited file that has none."""
    before = timezone.now() - ABANDONED_AFTER
    for message in abandoned_messages(before)[:MAX_PER_SWEEP]:
        log.warning("requeued message without a job", message=str(message.pk))
        queue.enqueue_delivery(message)
    waiting = (
        InboundEvent.objects.filter(state=InboundEvent.State.PENDING, received_at__lt=before)
        .order_by()
        .values_list("source", "source_key")
        .distinct()
    )
    for source, source_key in waiting:
        queue.enqueue_reading(source, source_key)
    media.enqueue_overdue()
    circuit_breaker.end_expired_blocks()


def abandoned_messages(before: dt.datetime) -> QuerySet[Message]:
    """Return unfinished messages without a job, unchanged since `before`, oldest first."""
    # A message sent outside is already gone, whatever WhatsApp reported about it.
    unfinished = Message.objects.filter(UNFINISHED, sent_outside=False, updated_at__lt=before)
    return queue.without_job(unfinished).order_by("created_at").only("conversation")


def delete_expired() -> None:
    """Delete processed events, pending events and unused files after their retention periods."""
    now = timezone.now()
    old_events = InboundEvent.objects.filter(
        state=InboundEvent.State.DONE,
        received_at__lt=now - dt.timedelta(days=settings.INBOUND_RETENTION_DAYS),
    )
    old_pending = PendingEvent.objects.filter(
        received_at__lt=now - dt.timedelta(days=PENDING_EVENT_DAYS)
    )
    stored = inbound_media.stored_in(old_events) | pending_events.stored_files(old_pending)
    events = old_events._raw_delete(old_events.db)
    pending, _ = old_pending.delete()
    files = media.delete_orphans() + inbound_media.delete_unused(stored)
    log.info("expired rows deleted", events=events, pending=pending, files=files)
