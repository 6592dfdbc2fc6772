"""Reads the pending events of the journal, one source at a time, in order."""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import structlog
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from channels_app.models import Channel
from channels_app.providers.events import Event, ReceiptEvent
from core import advisory_locks
from messaging.delivery import receipts
from messaging.delivery.receipts import Reported
from messaging.inbound import handlers, skips
from messaging.models import InboundEvent

log = structlog.get_logger(__name__)

# The most events that are applied one by one in a transaction.
BATCH = 100
# Each neutral event may lock a message or its id, and PostgreSQL's lock table is shared by all
# connections. One event with a phone's history may contain thousands of messages. It also limits
# how long the rows stay locked.
MAX_EVENTS_PER_TRANSACTION = 250
# A window is loaded in parts, because the size of its events is not known before.
WINDOW_PART = 100
READ_FIELDS = ["state", "error", "skipped", "processed_at"]
# Covers deadlocks. After a longer database outage the source is read again (`reader_loop`).
MAX_READ_ATTEMPTS = 3


class Progress(enum.Enum):
    """How far a source was read: events may remain, none did, or another process is reading."""

    MORE = enum.auto()
    EMPTY = enum.auto()
    TAKEN = enum.auto()


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A pending event and the neutral events in it; None if it cannot be parsed."""

    event: InboundEvent
    items: list[Event] | None

    @property
    def size(self) -> int:
        return 1 if self.items is None else len(self.items)


def read_pending(
    source: str, source_key: str, *, is_stopping: Callable[[], bool] = lambda: False
) -> None:
    """Read the pending events of one source in order, unless another process is doing so.

    If reading an event fails, the event is marked as failed with its error, and the next one is
    read. An event that is committed before the call is read, by this process or by the other one,
    unless that process ends or `is_stopping` returns True: it ends a long reading early.
    """
    while not is_stopping():
        progress = _read_next_with_retries(source, source_key)
        if progress is Progress.TAKEN:
            return
        # Whoever found the source taken meanwhile has left its events to this process: look again
        # after the lock was released.
        if progress is Progress.EMPTY and not _pending(source, source_key).exists():
            return


def _pending(source: str, source_key: str) -> QuerySet[InboundEvent]:
    return InboundEvent.objects.filter(
        source=source, source_key=source_key, state=InboundEvent.State.PENDING
    )


def _read_next_with_retries(source: str, source_key: str) -> Progress:
    for _ in range(MAX_READ_ATTEMPTS - 1):
        try:
            return _read_next(source, source_key)
        except OperationalError as error:
            log.warning("retrying to read events", source=source, error=type(error).__name__)
            connection.close()
    return _read_next(source, source_key)


def _read_next(source: str, source_key: str) -> Progress:
    """Read the oldest pending events of a source.

    Events that contain only simple receipts are recorded together in a transaction of their own.
    The others are applied one by one, in order, in the next transaction, so that no row is locked
    while an event waits for an id's lock.
    """
    with transaction.atomic():
        if not _lock_source(source, source_key):
            return Progress.TAKEN
        window = _window(source, source_key)
        if not window:
            return Progress.EMPTY
        channels = handlers.channels_of(source, source_key)
        others = _record_simple(window, channels)
        if len(others) == len(window):
            too_large = _apply_in_order(others, channels)
    if len(others) < len(window):
        if not others:
            return Progress.EMPTY
        with transaction.atomic():
            if not _lock_source(source, source_key):
                return Progress.TAKEN
            too_large = _apply_in_order(_still_pending(others), channels)
    if too_large is not None:
        _read_in_parts(too_large, channels)
    return Progress.MORE


def _lock_source(source: str, source_key: str) -> bool:
    """Lock the source for this transaction. Returns False if another process reads it."""
    return bool(advisory_locks.try_lock([f"inbound:{source}:{source_key}"]))


def _window(source: str, source_key: str) -> list[_Parsed]:
    """Return the oldest pending events, as many as one transaction may apply; at least one."""
    pending = _pending(source, source_key).order_by("id")
    window: list[_Parsed] = []
    total = 0
    while True:
        after = window[-1].event.pk if window else 0
        part = list(pending.filter(pk__gt=after)[:WINDOW_PART])
        for event in part:
            parsed = _parse(event)
            total += parsed.size
            if window and total > MAX_EVENTS_PER_TRANSACTION:
                return window
            window.append(parsed)
        if len(part) < WINDOW_PART:
            return window


def _parse(event: InboundEvent) -> _Parsed:
    try:
        return _Parsed(event, list(handlers.parse(event)))
    except Exception:
        return _Parsed(event, None)  # applying it reports the error


def _still_pending(window: Sequence[_Parsed]) -> list[_Parsed]:
    """Return those events that no other process has read meanwhile."""
    ids = [parsed.event.pk for parsed in window]
    pending = InboundEvent.objects.filter(pk__in=ids, state=InboundEvent.State.PENDING)
    left = set(pending.values_list("pk", flat=True))
    return [parsed for parsed in window if parsed.event.pk in left]


def _record_simple(window: Sequence[_Parsed], channels: Mapping[str, Channel]) -> Sequence[_Parsed]:
    """Record the events that contain simple receipts only. Returns the others."""
    groups = [_group(parsed, channels) for parsed in window]
    if not any(group.is_complete for group in groups):
        return window
    try:
        with transaction.atomic():
            recorded = receipts.record_simple(groups)
    except OperationalError:
        raise
    except Exception:
        # Applied one by one, the event that causes it is found and marked.
        log.exception("receipts not recorded together", source=window[0].event.source)
        return window
    done = [parsed for parsed, is_done in zip(window, recorded, strict=True) if is_done]
    _mark_done(done, skipped="")
    return [parsed for parsed, is_done in zip(window, recorded, strict=True) if not is_done]


def _group(parsed: _Parsed, channels: Mapping[str, Channel]) -> receipts.Group:
    """Return the receipts in an event, as far as their channels are known."""
    reported = [
        Reported(channel.pk, item)
        for item in parsed.items or ()
        if isinstance(item, ReceiptEvent) and (channel := channels.get(item.channel_key))
    ]
    is_small = parsed.size <= MAX_EVENTS_PER_TRANSACTION
    return receipts.Group(reported, is_complete=is_small and len(reported) == parsed.size)


def _mark_done(batch: Sequence[_Parsed], *, skipped: str) -> None:
    """Mark events as done, with what was skipped besides what was noted of them meanwhile."""
    events = InboundEvent.objects.filter(pk__in=[parsed.event.pk for parsed in batch])
    if skipped:
        for event in events.exclude(skipped="").only("skipped"):
            events.filter(pk=event.pk).update(skipped=skips.joined(event.skipped, skipped))
        events.filter(skipped="").update(skipped=skipped)
    events.update(state=InboundEvent.State.DONE, error="", processed_at=timezone.now())


def _apply_in_order(events: Sequence[_Parsed], channels: Mapping[str, Channel]) -> _Parsed | None:
    """Apply events one by one. Returns the first one if it is too large for a transaction."""
    if events and events[0].size > MAX_EVENTS_PER_TRANSACTION:
        return events[0]
    batch = events[:BATCH]
    if batch and not _apply_together(batch, channels):
        for parsed in batch:
            read_one(parsed.event, channels)
            parsed.event.save(update_fields=READ_FIELDS)
    return None


def _apply_together(batch: Sequence[_Parsed], channels: Mapping[str, Channel]) -> bool:
    """Apply a batch in one transaction. Returns False, with no effect, if one event fails."""
    counts: Counter[str] = Counter()
    by_skipped: defaultdict[str, list[_Parsed]] = defaultdict(list)
    if any(parsed.items is None for parsed in batch):
        return False
    try:
        with transaction.atomic():
            for parsed in batch:
                applied = handlers.apply_events(parsed.items or (), channels)
                counts.update(applied)
                by_skipped[handlers.skipped(applied)].append(parsed)
            for skipped, done in by_skipped.items():
                _mark_done(done, skipped=skipped)
    except OperationalError:
        raise
    except Exception:
        return False
    _log_unknown_kinds(batch[0].event.source, counts)
    return True


def _read_in_parts(parsed: _Parsed, channels: Mapping[str, Channel]) -> None:
    """Read an event that contains too much for one transaction.

    If it is interrupted, the event is read again from the beginning, which has no further effect.
    """
    event = parsed.event

    def apply_in_parts() -> dict[str, int]:
        counts: Counter[str] = Counter()
        items = iter(parsed.items or ())
        while part := list(islice(items, MAX_EVENTS_PER_TRANSACTION)):
            with transaction.atomic():
                counts.update(handlers.apply_events(part, channels))
        return counts

    _note_result(event, apply_in_parts)
    InboundEvent.objects.filter(pk=event.pk, state=InboundEvent.State.PENDING).update(
        **{name: getattr(event, name) for name in READ_FIELDS}
    )


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
    if event.skipped:
        # Whatever still has no effect is noted again.
        InboundEvent.objects.filter(pk=event.pk).update(skipped="")
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
        noted = InboundEvent.objects.filter(pk=event.pk).values_list("skipped", flat=True).first()
        event.skipped = skips.joined(handlers.skipped(counts), noted or "")
        log.debug("event read", event_id=event.pk, source=event.source, **counts)
        _log_unknown_kinds(event.source, counts)
    event.processed_at = timezone.now()
