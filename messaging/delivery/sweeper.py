"""Care that runs by itself: what was left lying is taken up, what is old is forgotten."""

from __future__ import annotations

import datetime as dt

import structlog
from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from channels_app.connections import circuit_breaker
from messaging import tasks
from messaging.inbound import pending_events
from messaging.media import files as media
from messaging.media import inbound_files as inbound_media
from messaging.models import UNFINISHED, InboundEvent, Message, PendingEvent

log = structlog.get_logger(__name__)

# A job normally follows its row within milliseconds; what is older than this was left behind.
LEFT_BEHIND = dt.timedelta(seconds=20)
# The next sweep finds the rest.
MOST_A_SWEEP = 1000
PENDING_EVENT_DAYS = 7


def sweep() -> None:
    """Give a job to each message on its way, source with events and awaited file that has none."""
    before = timezone.now() - LEFT_BEHIND
    for message in abandoned_messages(before)[:MOST_A_SWEEP]:
        log.warning("message without a job found", message=str(message.pk))
        tasks.enqueue_delivery(message)
    waiting = (
        InboundEvent.objects.filter(state=InboundEvent.State.PENDING, received_at__lt=before)
        .order_by()
        .values_list("source", "source_key")
        .distinct()
    )
    for source, source_key in waiting:
        tasks.enqueue_reading(source, source_key)
    media.enqueue_overdue()
    circuit_breaker.end_stops()


def abandoned_messages(before: dt.datetime) -> QuerySet[Message]:
    """Messages on their way that nobody delivers, unchanged since then, oldest first."""
    # What was sent outside has gone already, whatever WhatsApp said of it.
    unfinished = Message.objects.filter(UNFINISHED, sent_outside=False, updated_at__lt=before)
    return tasks.without_job(unfinished).order_by("created_at").only("conversation")


def forget_old() -> None:
    """Delete events that were read, or wait, for long, and files that nobody asked for."""
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
    waited, _ = old_pending.delete()
    files = media.delete_orphans() + inbound_media.delete_unused(stored)
    log.info("old rows forgotten", events=events, pending=waited, files=files)
