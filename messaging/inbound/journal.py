"""The journal of raw events: stored once before the provider gets its 200, then read in order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import structlog
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from channels_app.models import Channel
from channels_app.providers import engines
from messaging import queue
from messaging.inbound import arrivals, handlers, neutral, raw_files
from messaging.inbound.arrivals import Arrival, Entry, Raw, Stub
from messaging.models import InboundEvent

__all__ = ["Arrival", "Raw", "read_one", "read_pending", "receive", "store", "store_all"]

log = structlog.get_logger(__name__)

BATCH = 100
# Each neutral event may lock a message's id, and PostgreSQL's lock table is shared by all
# connections. One event with a phone's history may contain thousands of messages.
MAX_EVENTS_PER_TRANSACTION = 500
READ_FIELDS = ["state", "error", "skipped", "processed_at"]
# Covers deadlocks. After a longer database outage the sweep schedules the reading again.
MAX_READ_ATTEMPTS = 3


def receive(source: str, arrived: Sequence[Arrival]) -> None:
    """Store arrivals in the given order and schedule their reading.

    An arrival that cannot be stored as it is becomes a stub: nothing is dropped. Raises one of
    `arrivals.STORAGE_ERRORS` if the database or the storage is unreachable: nothing is stored then.
    """
    _receive(source, [part for arrival in arrived for part in arrivals.split(source, arrival)])


def _receive(source: str, arrived: Sequence[Arrival]) -> None:
    entries = [arrivals.prepare(source, arrival) for arrival in arrived]
    try:
        store_all(source, entries)
    except arrivals.STORAGE_ERRORS:
        raise
    except Exception as error:
        if len(arrived) > 1:
            # The database rejects one of them: the others must not fail with it.
            for arrival in arrived:
                _receive(source, [arrival])
        elif isinstance(entries[0], Stub):
            raise
        else:
            log.exception("event rejected by the database", source=source)
            store_all(source, [arrivals.stub(source, arrived[0], type(error).__name__)])


def store(*, source: str, source_key: str, dedupe_key: str, payload: Any) -> None:
    """Store one event under a given key; see `store_all`. Raises Unstorable."""
    store_all(source, [Raw(source_key, dedupe_key, neutral.normalize(payload))])


def store_all(source: str, events: Sequence[Entry]) -> None:
    """Store prepared events in the given order and schedule their reading; skip known events.

    Tokens and codes that link a phone are redacted (`providers.redaction`). A stub is stored as
    failed, with its error; its raw bytes are encrypted in the file storage (`inbound.raw_files`).
    The events are committed before the reader is enqueued, so a waiting reader finds them; if the
    process ends in between, the sweep enqueues it. Raises a database error or OSError if nothing
    is stored.
    """
    InboundEvent.objects.bulk_create(
        [
            _stub_row(source, event) if isinstance(event, Stub) else _row(source, event)
            for event in events
        ],
        ignore_conflicts=True,
    )
    readable = (event.source_key for event in events if isinstance(event, Raw))
    for source_key in dict.fromkeys(readable):
        queue.enqueue_reading(source, source_key)


def without_secrets(source: str, payload: Any) -> Any:
    """Return a payload of this source without the secrets that must not be stored.

    Applied to every event, regardless of its transport and of who stores it.
    """
    return engines.event_source(source).redact(payload)


def _row(source: str, event: Raw) -> InboundEvent:
    return InboundEvent(
        source=source,
        source_key=event.source_key,
        dedupe_key=event.dedupe_key[:200],
        payload=without_secrets(source, event.payload),
    )


def _stub_row(source: str, event: Stub) -> InboundEvent:
    log.error("event stored as a stub", source=source, error=event.error, size=len(event.body))
    return InboundEvent(
        source=source,
        source_key=event.source_key,
        dedupe_key=event.dedupe_key[:200],
        payload={"size": len(event.body)},
        raw_file=raw_files.write(event.body, key=event.dedupe_key),
        state=InboundEvent.State.SET_ASIDE,
        error=event.error[:2000],
        processed_at=timezone.now(),
    )


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
