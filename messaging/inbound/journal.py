"""Stores raw events once, before the provider gets its 200. `reader` processes them in order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from django.db import connection, transaction
from django.utils import timezone

from channels_app.providers import engines
from messaging import queue
from messaging.inbound import arrivals, neutral, raw_files
from messaging.inbound.arrivals import Arrival, Entry, Raw, Stub
from messaging.models import InboundEvent

__all__ = ["Arrival", "Raw", "receive", "store", "store_all"]

log = structlog.get_logger(__name__)


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
    The readers are notified by the same commit. Raises a database error or OSError if nothing is
    stored.
    """
    rows = [
        _stub_row(source, event) if isinstance(event, Stub) else _row(source, event)
        for event in events
    ]
    readable = dict.fromkeys(event.source_key for event in events if isinstance(event, Raw))
    with transaction.atomic():
        _insert(rows)
        if readable:
            queue.wake_readers(source, readable)


def without_secrets(source: str, payload: Any) -> Any:
    """Return a payload of this source without the secrets that must not be stored.

    Applied to every event, regardless of its transport and of who stores it.
    """
    return engines.event_source(source).redact(payload)


def _insert(rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows in one statement, in this order; skip known ones.

    One JSON value carries all of them. `bulk_create` needs five times as long per row.
    """
    now = timezone.now().isoformat()
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [json.dumps([{"received_at": now, **row} for row in rows])])


# Columns that a row leaves out are empty.
_INSERT = """
INSERT INTO messaging_inboundevent (
    source, source_key, dedupe_key, payload, raw_file, state, error, skipped,
    received_at, processed_at
)
SELECT source, source_key, dedupe_key, payload, coalesce(raw_file, ''), state,
    coalesce(error, ''), '', received_at, processed_at
FROM json_to_recordset(%s::json) AS event(
    source text, source_key text, dedupe_key text, payload jsonb, raw_file text, state text,
    error text, received_at timestamptz, processed_at timestamptz
)
ON CONFLICT DO NOTHING
"""


def _row(source: str, event: Raw) -> dict[str, Any]:
    return {
        "source": source,
        "source_key": event.source_key,
        "dedupe_key": event.dedupe_key[:200],
        "payload": without_secrets(source, event.payload),
        "state": InboundEvent.State.PENDING,
    }


def _stub_row(source: str, event: Stub) -> dict[str, Any]:
    log.error("event stored as a stub", source=source, error=event.error, size=len(event.body))
    return {
        "source": source,
        "source_key": event.source_key,
        "dedupe_key": event.dedupe_key[:200],
        "payload": {"size": len(event.body)},
        "raw_file": raw_files.write(event.body, key=event.dedupe_key),
        "state": InboundEvent.State.SET_ASIDE,
        "error": event.error[:2000],
        "processed_at": timezone.now().isoformat(),
    }
