"""Care that runs by itself: what was left lying is taken up, what is old is forgotten."""

from __future__ import annotations

import datetime as dt

import structlog
from django.conf import settings
from django.utils import timezone

from channels_app import breakers
from messaging import media, policy, states, tasks
from messaging.inbound import media as inbound_media
from messaging.models import InboundEvent, Message, ParkedReceipt

log = structlog.get_logger(__name__)

# A job normally follows its row within milliseconds; what is older than this was left behind.
LEFT_BEHIND = dt.timedelta(seconds=20)
PARKED_RECEIPT_DAYS = 7


def sweep() -> None:
    """Give a job to each message on its way, source with events and awaited file that has none."""
    before = timezone.now() - LEFT_BEHIND
    with_job = tasks.messages_with_job()
    on_the_way = Message.objects.filter(
        direction=Message.Direction.OUT,
        sent_outside=False,
        status__in=(
            states.Status.QUEUED,
            states.Status.SENDING,
            states.Status.UNCONFIRMED,
            states.Status.REJECTED,
        ),
        updated_at__lt=before,
    ).exclude(decision__in=policy.FINAL_REASONS)
    for message in on_the_way.order_by("created_at").iterator():
        if str(message.pk) not in with_job:
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
    breakers.end_stops()


def forget_old() -> None:
    """Delete events that were read long ago, receipts and files that nobody asked for."""
    now = timezone.now()
    old_events = InboundEvent.objects.filter(
        state=InboundEvent.State.DONE,
        received_at__lt=now - dt.timedelta(days=settings.INBOUND_RETENTION_DAYS),
    )
    stored = inbound_media.stored_in(old_events)
    events = old_events._raw_delete(old_events.db)
    receipts, _ = ParkedReceipt.objects.filter(
        received_at__lt=now - dt.timedelta(days=PARKED_RECEIPT_DAYS)
    ).delete()
    files = media.forget_abandoned() + inbound_media.forget_unused(stored)
    log.info("old rows forgotten", events=events, receipts=receipts, files=files)
