"""What came while nobody listened: fetched from Evolution's own store, oldest first.

Only messages and what became of them are kept there (contracts/evolution-api.md §5); events of
other kinds that nobody heard are gone.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog

from channels_app.providers.evolution_instance import EvolutionFailed, EvolutionInstance
from instances import receiving
from instances.models import WhatsAppSession
from messaging.inbound import evolution, journal
from messaging.models import InboundEvent

log = structlog.get_logger(__name__)

# Small pages: a record may carry a thumbnail, written as an object with a key for each byte.
PAGE_SIZE = 50
MOST_PAGES = 40
# So far back all pages are read, known or not: a message that was read in the gap is older than it.
LOOK_BACK = dt.timedelta(minutes=30)
# Evolution's clock and ours may differ, and the cut of a connection may go unnoticed for its ping
# interval and timeout (25 + 20 s).
MARGIN = dt.timedelta(minutes=10)
# An instance that was cut from WhatsApp gets what waited there with its old time. What is older
# than this came with the history of a phone that was linked meanwhile.
OLDEST = dt.timedelta(days=3)


def fetch(
    session: WhatsAppSession, *, since: dt.datetime, abandoned: Callable[[], bool] = lambda: False
) -> list[dict[str, Any]]:
    """Return the events since a time that the journal does not have, oldest first.

    That is: messages that Evolution wrote down since then, whatever their own time, and what
    became of these and of known ones. At most some thousands. `abandoned` is asked between two
    pages. Raises EvolutionFailed or a database error.
    """
    instance = EvolutionInstance(session.channel)
    found: list[list[dict[str, Any]]] = []
    for page in range(1, MOST_PAGES + 1):
        if abandoned():
            raise EvolutionFailed("abandoned")
        records = instance.messages(page=page, size=PAGE_SIZE)
        unknown = _unknown(session, records, since)
        found += unknown
        if len(records) < PAGE_SIZE:
            break
        if not unknown and _timestamp(records[-1]) < (since - LOOK_BACK).timestamp():
            break
    else:
        if unknown:
            log.warning("more was missed than is fetched", limit=MOST_PAGES * PAGE_SIZE)
    return [event for events in reversed(found) for event in events]


def fetch_and_store(session_id: int, *, since: dt.datetime) -> None:
    """Store what came since a time. Raises EvolutionFailed or a database error."""
    session = WhatsAppSession.objects.select_related("channel").get(pk=session_id)
    events = fetch(session, since=since)
    for first in range(0, len(events), 200):
        raws = [receiving.raw_event(session.channel_id, e) for e in events[first : first + 200]]
        journal.store_all(receiving.SOURCE, raws)
    if events:
        log.info("missed messages fetched", instance=session.name, n=len(events))


def _unknown(
    session: WhatsAppSession, records: Sequence[dict[str, Any]], since: dt.datetime
) -> list[list[dict[str, Any]]]:
    """Return what is not in the journal of each record that has such, in the records' order."""
    oldest = (since - OLDEST).timestamp()
    recent = [record for record in records if _timestamp(record) >= oldest]
    told = [list(_events(session.name, record)) for record in recent]
    keys = {
        receiving.dedupe_key(session.channel_id, event)
        for message, *statuses in told
        for event in (message, _sent(message), *statuses)
    }
    known = set(
        InboundEvent.objects.filter(dedupe_key__in=keys).values_list("dedupe_key", flat=True)
    )

    def is_known(event: dict[str, Any]) -> bool:
        return receiving.dedupe_key(session.channel_id, event) in known

    found = []
    for record, (message, *statuses) in zip(recent, told, strict=True):
        new = [event for event in statuses if not is_known(event)]
        if not (is_known(message) or is_known(_sent(message))):
            if _written_at(record) < (since - MARGIN).timestamp():
                # From before we listened: the past of an instance that was taken over.
                continue
            new.insert(0, message)
        found += [new] if new else []
    return found


def _events(instance: str, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield evolution.as_event(instance, record)
    yield from evolution.statuses_of(record, instance)


def _sent(message: dict[str, Any]) -> dict[str, Any]:
    """The event as which a message came that was sent by Evolution's own API."""
    return {**message, "event": "send.message"}


def _written_at(record: dict[str, Any]) -> float:
    """When Evolution wrote the record down: its row's id, a cuid, begins with the milliseconds.

    The message's own time where the id is another one.
    """
    found = _CUID.fullmatch(str(record.get("id")))
    return int(found[1], 36) / 1000 if found else _timestamp(record)


_CUID = re.compile(r"c([0-9a-z]{8})[0-9a-z]{16}")


def _timestamp(record: dict[str, Any]) -> float:
    try:
        return float(record.get("messageTimestamp") or 0)
    except (TypeError, ValueError):
        return 0.0
