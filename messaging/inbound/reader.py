"""Reads the pending events of the journal, one source at a time, in order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import structlog
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from channels_app.models import Channel
from messaging.inbound import handlers
from messaging.models import InboundEvent

log = structlog.get_logger(__name__)

BATCH = 100
# Each neutral event may lock a message's id, and PostgreSQL's lock table is shared by all
# connections. One event with a phone's history may contain thousands of messages.
MAX_EVENTS_PER_TRANSACTION = 500
READ_FIELDS = ["state", "error", "skipped", "processed_at"]
# Covers deadlocks. After a longer database outage the sweep schedules the reading again.
MAX_READ_ATTEMPTS = 3


def read_pending(source: str, source_key: str) -> None:
    """Read the pending events of one source in order.

    If reading an event fails, the event is marked as failed with its error, and the next one is
    read. An event committed meanwhile may be left: its own job is enqueued after its commit.
    """
    while _read_batch_with_retries(source, source_key):
        pass


def _read_batch_with_retries(source: str, source_key: str) -> bool:
    for _ in range(MAX_READ_ATTEMPTS - 1):
        try:
            return _read_batch(source, source_key)
        except OperationalError as error:
            log.warning("retrying to read events", source=source, error=type(error).__name__)
            connection.close()
    return _read_batch(source, source_key)


def _read_batch(source: str, source_key: str) -> bool:
    """Read the oldest pending events. Returns whether more may be pending."""
    with transaction.atomic():
        pending = list(
            InboundEvent.objects.select_for_update()
            .filter(source=source, source_key=source_key, state=InboundEvent.State.PENDING)
            .order_by("id")[:BATCH]
        )
        channels = handlers.channels_of(source, source_key) if pending else {}
        batch = _at_once(pending)
        if batch and not _read_together(batch, channels):
            for event in batch:
                read_one(event, channels)
                event.save(update_fields=READ_FIELDS)
    if pending and not batch:
        _read_in_parts(pending[0], channels)
    return len(pending) == BATCH or len(batch) < len(pending)


def _at_once(pending: Sequence[InboundEvent]) -> Sequence[InboundEvent]:
    """Return the first events, as many as one transaction may apply."""
    total = 0
    for number, event in enumerate(pending):
        total += handlers.size(event)
        if total > MAX_EVENTS_PER_TRANSACTION:
            return pending[:number]
    return pending


def _read_in_parts(event: InboundEvent, channels: Mapping[str, Channel]) -> None:
    """Read an event that contains too much for one transaction.

    If it is interrupted, the event is read again from the beginning, which has no further effect.
    """

    def apply_in_parts() -> dict[str, int]:
        counts: Counter[str] = Counter()
        events = iter(handlers.parse(event))
        while part := list(islice(events, MAX_EVENTS_PER_TRANSACTION)):
            with transaction.atomic():
                counts.update(handlers.apply_events(part, channels))
        return counts

    _note_result(event, apply_in_parts)
    InboundEvent.objects.filter(pk=event.pk, state=InboundEvent.State.PENDING).update(
        **{name: getattr(event, name) for name in READ_FIELDS}
    )


def _read_together(batch: Sequence[InboundEvent], channels: Mapping[str, Channel]) -> bool:
    """Read a batch in one transaction. Returns False, with no effect, if one event fails."""
    counts: Counter[str] = Counter()
    ids_by_skipped: defaultdict[str, list[int]] = defaultdict(list)
    try:
        with transaction.atomic():
            for event in batch:
                applied = handlers.apply(event, channels)
                counts.update(applied)
                ids_by_skipped[handlers.skipped(applied)].append(event.pk)
            for skipped, ids in ids_by_skipped.items():
                InboundEvent.objects.filter(pk__in=ids).update(
                    state=InboundEvent.State.DONE,
                    error="",
                    skipped=skipped,
                    processed_at=timezone.now(),
                )
    except OperationalError:
        raise
    except Exception:
        return False
    _log_unknown_kinds(batch[0].source, counts)
    return True


def _log_unknown_kinds(source: str, counts: Mapping[str, int]) -> None:
    """Log the number of events of each unknown kind: they are stored but have no effect."""
    if unknown := {kind: n for kind, n in counts.items() if kind.startswith("event:")}:
        log.info("events of unknown kinds", source=source, counts=unknown)


def read_one(event: InboundEvent, channels: Mapping[str, Channel]) -> None:
    """Apply one stored event and set its state: done, or failed with the error.

    The caller holds a transaction and saves the event.
    """

    def apply_at_once() -> dict[str, int]:
        with transaction.atomic():
            return handlers.apply(event, channels)

    _note_result(event, apply_at_once)


def _note_result(event: InboundEvent, apply: Callable[[], dict[str, int]]) -> None:
    try:
        counts = apply()
    except OperationalError:
        # A deadlock or a lost connection is not the event's fault: the batch is read again.
        raise
    except Exception as error:
        log.exception("event failed", event_id=event.pk, source=event.source)
        event.state = InboundEvent.State.SET_ASIDE
        event.error = f"{type(error).__name__}: {error}"[:2000]
    else:
        event.state = InboundEvent.State.DONE
        event.error = ""
        event.skipped = handlers.skipped(counts)
        log.debug("event read", event_id=event.pk, source=event.source, **counts)
        _log_unknown_kinds(event.source, counts)
    event.processed_at = timezone.now()
