"""Deletes what is past its retention period."""

from __future__ import annotations

import datetime as dt

import structlog
from django.conf import settings
from django.utils import timezone

from messaging.inbound import pending_events
from messaging.media import embedded_files
from messaging.media import files as media
from messaging.models import InboundEvent, PendingEvent

log = structlog.get_logger(__name__)

PENDING_EVENT_DAYS = 7


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
    stored = embedded_files.stored_in(old_events) | pending_events.stored_files(old_pending)
    events = old_events._raw_delete(old_events.db)
    pending, _ = old_pending.delete()
    files = media.delete_orphans() + embedded_files.delete_unused(stored)
    log.info("expired rows deleted", events=events, pending=pending, files=files)
