"""The journal of raw events: stored once, before the provider gets its 200, then read in order."""

from __future__ import annotations

from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from messaging import tasks
from messaging.inbound import apply
from messaging.models import InboundEvent

log = structlog.get_logger(__name__)

BATCH = 100


def store(*, source: str, source_key: str, dedupe_key: str, payload: Any) -> None:
    """Store a raw event and have it read; one that is known already changes nothing.

    The event is committed before the reader is asked for, so a waiting reader finds it; where the
    process ends in between, the sweep asks again. Raises a database error when it is not stored.
    """
    InboundEvent.objects.bulk_create(
        [
            InboundEvent(
                source=source,
                source_key=source_key,
                dedupe_key=dedupe_key[:200],
                payload=without_nul(payload),
            )
        ],
        ignore_conflicts=True,
    )
    tasks.enqueue_reading(source, source_key)


def without_nul(value: Any) -> Any:
    """Return JSON data without the NUL characters that PostgreSQL cannot keep."""
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    if isinstance(value, dict):
        return {without_nul(key): without_nul(item) for key, item in value.items()}
    return value


def read_pending(source: str, source_key: str) -> None:
    """Read the pending events of one source, in their order, until there are none.

    An event whose reader fails is set aside with its error, and the next one is read.
    """
    while _read_batch(source, source_key):
        pass


def _read_batch(source: str, source_key: str) -> bool:
    with transaction.atomic():
        batch = list(
            InboundEvent.objects.select_for_update()
            .filter(source=source, source_key=source_key, state=InboundEvent.State.PENDING)
            .order_by("id")[:BATCH]
        )
        for event in batch:
            read_one(event)
    return bool(batch)


def read_one(event: InboundEvent) -> None:
    """Apply one stored event and write down that it was read, or why it could not be."""
    try:
        with transaction.atomic():
            counts = apply.apply(event)
    except Exception as error:
        log.exception("event set aside", event_id=event.pk, source=event.source)
        event.state = InboundEvent.State.SET_ASIDE
        event.error = f"{type(error).__name__}: {error}"[:2000]
    else:
        event.state = InboundEvent.State.DONE
        event.error = ""
        log.info("event read", event_id=event.pk, source=event.source, **counts)
    event.processed_at = timezone.now()
    event.save(update_fields=["state", "error", "processed_at"])
