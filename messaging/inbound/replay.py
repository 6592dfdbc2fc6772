"""Reprocess events that failed, or that an earlier version did not recognize."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import IntegrityError, transaction
from django.utils import timezone

from core.fields import UndecryptableError
from messaging.inbound import arrivals, handlers, journal, raw_files, reader
from messaging.inbound.arrivals import Arrival, Stub
from messaging.models import InboundEvent

ANY = "any"


def replay(*, source: str = "", ids: Sequence[int] = (), skipped: str = "") -> tuple[int, int]:
    """Reprocess failed events, oldest first; all of them, or those selected by source or ids.

    The raw bytes of a stub are prepared again with the current code (`inbound.arrivals`).

    With `skipped`, reprocess instead the events of which this kind (or `ANY` kind) was skipped.
    Returns how many succeeded and how many did not; an event that is skipped again did not.
    """
    chosen = InboundEvent.objects.filter(state=InboundEvent.State.SET_ASIDE)
    if skipped:
        chosen = InboundEvent.objects.filter(state=InboundEvent.State.DONE).exclude(skipped="")
        if skipped != ANY:
            chosen = chosen.filter(skipped__contains=skipped)
    if source:
        chosen = chosen.filter(source=source)
    if ids:
        chosen = chosen.filter(pk__in=ids)
    succeeded = failed = 0
    for event_id in list(chosen.order_by("pk").values_list("pk", flat=True)):
        try:
            with transaction.atomic():
                event = chosen.select_for_update().filter(pk=event_id).first()
                if event is None:
                    continue  # a concurrent replay has processed it
                _reprocess(event)
        except IntegrityError:
            # The same event arrived in a complete form meanwhile.
            failed += 1
            continue
        if event.state == InboundEvent.State.DONE and not (skipped and event.skipped):
            succeeded += 1
        else:
            failed += 1
    return succeeded, failed


def _reprocess(event: InboundEvent) -> None:
    """Process one event and save it. The caller holds a lock on its row."""
    fields = [*reader.READ_FIELDS]
    if event.raw_file:
        fields += ["payload", "dedupe_key"]
        if not _prepare_again(event):
            event.save(update_fields=fields)
            return
    reader.read_one(event, handlers.channels_of(event.source, event.source_key))
    event.save(update_fields=fields)


def _prepare_again(event: InboundEvent) -> bool:
    """Turn a stub into a complete event. Returns whether it should be processed now."""
    try:
        arrival = Arrival.from_body(event.source_key, raw_files.read(event.raw_file))
    except (FileNotFoundError, UndecryptableError) as error:
        event.error = f"raw_file: {type(error).__name__}"
        return False
    parts = arrivals.split(event.source, arrival)
    if len(parts) > 1:
        # It is too large for one row: store its parts as new events.
        entries = [arrivals.prepare(event.source, part) for part in parts]
        journal.store_all(event.source, entries)
        event.state, event.error, event.processed_at = event.State.DONE, "", timezone.now()
        return False
    entry = arrivals.prepare(event.source, arrival)
    if isinstance(entry, Stub):
        event.error = entry.error
        return False
    same = InboundEvent.objects.filter(dedupe_key=entry.dedupe_key[:200]).exclude(pk=event.pk)
    if same.exists():
        # It was received again in a form that could be stored.
        event.state, event.error, event.processed_at = event.State.DONE, "", timezone.now()
        return False
    event.payload = journal.without_secrets(event.source, entry.payload)
    event.dedupe_key = entry.dedupe_key[:200]
    return True
