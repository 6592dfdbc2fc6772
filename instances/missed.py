"""What came while nobody listened: fetched from Evolution's own store, oldest first.

Only messages and what became of them are kept there (contracts/evolution-api.md §5); events of
other kinds that nobody heard are gone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from channels_app.providers.evolution_instance import EvolutionFailed, EvolutionInstance
from instances import receiving
from instances.models import WhatsAppSession
from messaging.inbound import evolution, journal

log = structlog.get_logger(__name__)

# The cut of a connection may go unnoticed for Evolution's ping interval and timeout (25 + 20 s).
OVERLAP = dt.timedelta(seconds=60)
# Small pages: a record may carry a thumbnail, written as an object with a key for each byte.
PAGE_SIZE = 50
MOST_PAGES = 40


def fetch(
    session: WhatsAppSession, *, since: dt.datetime, abandoned: Callable[[], bool] = lambda: False
) -> list[dict[str, Any]]:
    """Return the events of the messages since a time, oldest first, at most some thousands.

    Each message comes with what became of it. `abandoned` is asked between two pages. Raises
    EvolutionFailed.
    """
    records = _records(EvolutionInstance(session.channel), since - OVERLAP, abandoned)
    return [event for record in records for event in _events(session.name, record)]


def fetch_and_store(session_id: int, *, since: dt.datetime) -> None:
    """Store what came since a time. Raises EvolutionFailed or a database error."""
    session = WhatsAppSession.objects.select_related("channel").get(pk=session_id)
    events = fetch(session, since=since)
    for first in range(0, len(events), 200):
        raws = [receiving.raw_event(session.channel_id, e) for e in events[first : first + 200]]
        journal.store_all(receiving.SOURCE, raws)
    log.info("missed messages fetched", instance=session.name, n=len(events))


def _records(
    instance: EvolutionInstance, since: dt.datetime, abandoned: Callable[[], bool]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for page in range(1, MOST_PAGES + 1):
        if abandoned():
            raise EvolutionFailed("abandoned")
        records = instance.messages(page=page, size=PAGE_SIZE)
        recent = [record for record in records if _timestamp(record) >= since.timestamp()]
        found += recent
        if len(recent) < len(records) or len(records) < PAGE_SIZE:
            break
    else:
        log.warning("more was missed than is fetched", limit=MOST_PAGES * PAGE_SIZE)
    return found[::-1]


def _events(instance: str, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield evolution.as_event(instance, record)
    yield from evolution.statuses_of(record, instance)


def _timestamp(record: dict[str, Any]) -> float:
    try:
        return float(record.get("messageTimestamp") or 0)
    except (TypeError, ValueError):
        return 0.0
