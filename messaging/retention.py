"""Deletes what is past its retention period."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TypeVar

import structlog
from django.conf import settings
from django.db.models import Model, QuerySet
from django.utils import timezone

from messaging.inbound import pending_events
from messaging.media import embedded_files
from messaging.media import files as media
from messaging.models import InboundEvent, PendingEvent

M = TypeVar("M", bound=Model)

log = structlog.get_logger(__name__)

PENDING_EVENT_DAYS = 7
# Rows that one statement deletes, so that none holds locks or the disk for long.
BATCH = 500


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
    events, event_files = _delete_in_batches(old_events, embedded_files.stored_in)
    pending, pending_files = _delete_in_batches(old_pending, pending_events.stored_files)
    files = event_files + pending_files + media.delete_orphans()
    log.info("expired rows deleted", events=events, pending=pending, files=files)


def _delete_in_batches(
    old: QuerySet[M], stored_files: Callable[[QuerySet[M]], set[str]]
) -> tuple[int, int]:
    """Delete rows and the files that only they had, oldest first. Returns how many of each."""
    deleted = files = 0
    after = dt.datetime.min.replace(tzinfo=dt.UTC)
    while True:
        # From where the last batch ended: what is not deleted is not read again either.
        rest = old.filter(received_at__gte=after).order_by("received_at")
        batch = list(rest.values_list("pk", "received_at")[:BATCH])
        if not batch:
            return deleted, files
        rows = old.filter(pk__in=[pk for pk, _ in batch])
        stored = stored_files(rows)
        deleted += rows._raw_delete(rows.db)
        files += embedded_files.delete_unused(stored)
        after = batch[-1][1]
