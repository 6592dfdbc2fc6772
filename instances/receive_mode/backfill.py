"""Gaps in what was received: noted at each sign of one, and fetched from Evolution's own store.

1. `request` notes on the session that messages since its last complete moment may be missing.
   Whatever happens to this process, the row says that the gap is due; `enqueue_due` finds it.
2. `run`, the job, fetches and stores what the journal lacks, and closes the gap. While Evolution
   cannot be asked the gap stays due, with growing pauses.
3. `look` compares the newest messages of an instance with the journal every few minutes, which
   proves that nothing is missing, and notes a gap where something is.

Only messages and what became of them are stored by Evolution (contracts/evolution-api.md §5);
events of other kinds are lost with their delivery. See docs/receive-mode.md.
"""

from __future__ import annotations

import datetime as dt
import random
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, Sum
from django.utils import timezone

from channels_app.providers.evolution import events as evolution_events
from channels_app.providers.evolution.receive_mode import EvolutionFailed, EvolutionInstance
from instances import live, receiving, tasks
from instances.models import Backfill, WhatsAppSession
from messaging.inbound import journal
from messaging.models import InboundEvent

log = structlog.get_logger(__name__)

Reason = Backfill.Reason

# Small pages: a record may carry a thumbnail, written as an object with a key for each byte.
PAGE_SIZE = 50
# So many pages are stored at a time, the oldest first; then the rest is fetched.
PAGES_AT_A_TIME = 40
MOST_PAGES = 2000
# So far back all pages are read, known or not: a message that was read in the gap is older than it.
LOOK_BACK = dt.timedelta(minutes=30)
# But no more of them than this, one after the other, where all was known before: at some messages a
# second half an hour is long.
KNOWN_PAGES = 10
# Evolution's clock and ours may differ, and the cut of a connection may go unnoticed for its ping
# interval and timeout (25 + 20 s).
MARGIN = dt.timedelta(minutes=10)
# An instance that was cut from WhatsApp gets what waited there with its old time. What is older
# than this came with the history of a phone that was linked meanwhile.
OLDEST = dt.timedelta(days=3)
# A message younger than this may be on its way to us.
IN_FLIGHT = dt.timedelta(seconds=10)
# An instance that has connected gets what waited at WhatsApp in this time.
AFTER_RECONNECTING = dt.timedelta(seconds=5)
# Signs that prove that a delivery failed: what they bring was on its way in vain.
_FAILED_DELIVERY = (Reason.UNAUTHORIZED, Reason.TOO_LARGE, Reason.NOT_STORED, Reason.LOOK)
# A fetch that failed is tried again after so many seconds, then after twice as many, and so on.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
# Anybody may post with a wrong secret: such signs count once in this time.
UNTRUSTED_EVERY = dt.timedelta(seconds=60)
# A look reads small pages, as far back as the last one proved and a little farther.
LOOK_SIZE, LOOK_PAGES = 20, 5
LOOK_OVERLAP = dt.timedelta(minutes=2)
LOOKS_AT_A_TIME = 20
STORED_FOR = dt.timedelta(days=30)
_CLOSED: dict[str, Any] = {
    "gap_since": None,
    "gap_reason": "",
    "gap_fetch_at": None,
    "gap_tries": 0,
    "gap_error": "",
}


# --- signs ----------------------------------------------------------------------------------------


def request(
    session_id: int,
    *,
    reason: Reason,
    delay: dt.timedelta = dt.timedelta(0),
    trusted: bool = True,
) -> None:
    """Note that messages may be missing since all was stored last, and have them fetched.

    Signs that come before the fetch are one gap. `delay`: how long what is under way may take.
    `trusted`: False where anybody could have caused the sign.
    """
    now = timezone.now()
    with transaction.atomic():
        row = WhatsAppSession.objects.select_for_update().filter(pk=session_id).first()
        if row is None or (row.mode is None and not row.switching_to):
            return
        due = now + delay
        if not trusted and row.gap_noted_at is not None:
            due = max(due, row.gap_noted_at + UNTRUSTED_EVERY)
        if row.gap_fetch_at is not None:
            due = min(due, row.gap_fetch_at)
        whole = row.proven_at or row.caught_up_at or row.switching_since or now
        WhatsAppSession.objects.filter(pk=session_id).update(
            gap_since=min(whole, row.gap_since or whole),
            gap_reason=row.gap_reason or reason,
            gap_noted_at=now,
            gap_fetch_at=due,
            gap_tries=0,
        )
        if due <= now:
            tasks.enqueue_backfill(session_id)
    log.info("gap noted", instance_id=session_id, reason=reason.value)


def request_all(*, reason: Reason) -> None:
    """Note a gap of every session: we were away. They are fetched one after the other."""
    with_mode = WhatsAppSession.objects.filter(Q(webhook_enabled=True) | Q(websocket_enabled=True))
    for number, session_id in enumerate(with_mode.values_list("pk", flat=True)):
        request(session_id, reason=reason, delay=dt.timedelta(seconds=min(number * 0.2, 60)))


def request_for_secret(authorization: str, *, reason: Reason) -> None:
    """Note a gap of the session whose secret came with a delivery."""
    digest = receiving.digest(authorization)
    found = WhatsAppSession.objects.filter(webhook_secret_digest=digest) if digest else None
    if found is not None and (session_id := found.values_list("pk", flat=True).first()):
        request(session_id, reason=reason)


def request_by_name(instance: str) -> None:
    """Note a gap of the instance that a delivery without a right secret named.

    Nothing else of the delivery is believed: the configured server is asked, once a minute at most.
    """
    named = WhatsAppSession.objects.filter(channel__instance_name=instance)
    for session_id in named.values_list("pk", flat=True):
        request(session_id, reason=Reason.UNAUTHORIZED, trusted=False)


# --- jobs -----------------------------------------------------------------------------------------


def enqueue_due() -> None:
    """Have the gaps fetched that are due, also those whose job was lost."""
    due = WhatsAppSession.objects.filter(gap_fetch_at__lte=timezone.now())
    for session_id in due.values_list("pk", flat=True):
        tasks.enqueue_backfill(session_id)


def run(session_id: int) -> None:
    """Fetch a gap that is due, and close it where no newer sign came meanwhile."""
    session = WhatsAppSession.objects.select_related("channel").filter(pk=session_id).first()
    began = timezone.now()
    if session is None or session.gap_since is None or session.gap_fetch_at is None:
        return
    if session.gap_fetch_at > began:
        return
    try:
        stored = fetch_and_store(session, since=session.gap_since)
    except EvolutionFailed as error:
        _postpone(session, error.kept)
        return
    except receiving.AWAY:
        _postpone(session, "backfill_not_stored")
        raise
    except Exception:
        _postpone(session, "backfill_failed")
        raise
    note_recovered(session, stored, reason=session.gap_reason, since=session.gap_since)
    mine = WhatsAppSession.objects.filter(pk=session_id, gap_noted_at=session.gap_noted_at)
    mine.update(**_CLOSED)
    advance(session_id, until=began - IN_FLIGHT)
    live.session_changed(session)


def _postpone(session: WhatsAppSession, error: str) -> None:
    pause = min(FIRST_PAUSE * 2 ** min(session.gap_tries, 10), LONGEST_PAUSE)
    pause *= random.uniform(0.8, 1.0)  # noqa: S311 (spread, not secrecy)
    log.warning("gap not fetched", instance=session.name, error=error, seconds=round(pause))
    mine = WhatsAppSession.objects.filter(pk=session.pk, gap_noted_at=session.gap_noted_at)
    mine.update(
        gap_tries=session.gap_tries + 1,
        gap_fetch_at=timezone.now() + dt.timedelta(seconds=pause),
        gap_error=error[:300],
    )
    if session.gap_error != error:
        live.session_changed(session)


def advance(session_id: int, *, until: dt.datetime) -> None:
    """Note that everything up to this moment is proven to be stored."""
    for name in ("proven_at", "caught_up_at"):
        earlier = Q(**{name: None}) | Q(**{f"{name}__lt": until})
        WhatsAppSession.objects.filter(earlier, pk=session_id).update(**{name: until})


def note_recovered(
    session: WhatsAppSession, messages: int, *, reason: str, since: dt.datetime
) -> None:
    """Record how many messages came by neither mode and were fetched."""
    if not messages:
        return
    log.warning(
        "messages recovered", instance=session.name, n=messages, reason=reason, since=str(since)
    )
    Backfill.objects.create(
        session=session, reason=reason, since=since, messages=messages, at=timezone.now()
    )
    live.session_changed(session)


def recovered_lately(session: WhatsAppSession) -> int:
    """Return how many messages were recovered in the last 24 hours."""
    since = timezone.now() - dt.timedelta(hours=24)
    found = session.backfills.filter(at__gte=since).aggregate(n=Sum("messages"))
    return int(found["n"] or 0)


def delete_old() -> None:
    Backfill.objects.filter(at__lt=timezone.now() - STORED_FOR).delete()


# --- the regular look -----------------------------------------------------------------------------


def look_due() -> list[int]:
    """Return the sessions whose newest messages are to be compared now; each counts as begun.

    Not those that are closed, being switched or cannot be asked: the end of that is a sign itself.
    """
    seconds = settings.EVOLUTION_BACKFILL_SECONDS
    if seconds <= 0:
        return []
    now = timezone.now()
    closed = (WhatsAppSession.Connection.CLOSE, WhatsAppSession.Connection.CONNECTING)
    with transaction.atomic():
        rows = (
            WhatsAppSession.objects.select_for_update(skip_locked=True)
            .filter(Q(look_at=None) | Q(look_at__lte=now), switching_to="", found_error="")
            .filter(Q(webhook_enabled=True) | Q(websocket_enabled=True))
            .exclude(connection__in=closed)
            .order_by(F("look_at").asc(nulls_first=True))
            .only("look_at")[:LOOKS_AT_A_TIME]
        )
        due = []
        for row in rows:
            # The first one at any time, so that many instances are not asked at once.
            spread = (0.0, 1.0) if row.look_at is None else (0.9, 1.1)
            pause = seconds * random.uniform(*spread)  # noqa: S311
            if row.look_at is not None:
                due.append(row.pk)
            WhatsAppSession.objects.filter(pk=row.pk).update(
                look_at=now + dt.timedelta(seconds=pause)
            )
    return due


def look(session_id: int) -> None:
    """Compare the newest messages of an instance with the journal.

    Where none is missing that is noted; else a gap is, after the time that a message may be on
    its way. Raises EvolutionFailed or a database error.
    """
    session = WhatsAppSession.objects.select_related("channel").filter(pk=session_id).first()
    began = timezone.now()
    if session is None or session.mode is None or session.gap_since is not None:
        return
    since = session.proven_at
    if since is None:
        # Nothing was proven yet: from here on it is.
        advance(session_id, until=began)
        return
    instance = EvolutionInstance(session.channel)
    seen: set[str] = set()
    for page in range(1, LOOK_PAGES + 1):
        records = instance.messages(page=page, size=LOOK_SIZE)
        if page == 1:
            _note_whether_stored(session, records)
        if _unknown(session, records, since, seen):
            break
        oldest_shown = _timestamp(records[-1]) if records else 0.0
        if len(records) < LOOK_SIZE or oldest_shown < (since - LOOK_OVERLAP).timestamp():
            advance(session_id, until=began - IN_FLIGHT)
            return
    request(session_id, reason=Reason.LOOK, delay=IN_FLIGHT)


def _note_whether_stored(session: WhatsAppSession, newest: Sequence[dict[str, Any]]) -> None:
    """Note whether Evolution stores messages at all: without them a gap cannot be closed."""
    stores: bool | None = True
    if not newest:
        now = timezone.now()
        received = InboundEvent.objects.filter(
            source=receiving.SOURCE,
            source_key=str(session.channel_id),
            dedupe_key__startswith=f"{session.channel_id}:messages.upsert:",
            received_at__range=(now - dt.timedelta(days=1), now - dt.timedelta(minutes=1)),
        )
        stores = False if received.exists() else session.stores_messages
    if stores != session.stores_messages:
        WhatsAppSession.objects.filter(pk=session.pk).update(stores_messages=stores)
        live.session_changed(session)
        if stores is False:
            log.error("Evolution stores no messages", instance=session.name)


# --- fetching -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """Events that the journal lacks, oldest first.

    `messages`: how many of them are messages that were not delivered. `complete`: whether these
    are all; else the newer ones are found once these are stored.
    """

    events: list[dict[str, Any]]
    messages: int
    complete: bool


def fetch_and_store(session: WhatsAppSession, *, since: dt.datetime) -> int:
    """Store what came since a time; returns how many messages had not been delivered.

    Raises EvolutionFailed or a database error.
    """
    stored = 0
    while True:
        found = fetch(session, since=since)
        for first in range(0, len(found.events), 200):
            some = found.events[first : first + 200]
            raws = [receiving.raw_event(session.channel_id, event) for event in some]
            journal.store_all(receiving.SOURCE, raws)
        stored += found.messages
        if found.complete or not found.events:
            return stored


def fetch(
    session: WhatsAppSession, *, since: dt.datetime, abandoned: Callable[[], bool] = lambda: False
) -> Found:
    """Return the events since a time that the journal does not have.

    That is: messages that Evolution wrote down since then, whatever their own time, and what
    became of these and of known ones. `abandoned` is asked between two pages. Raises
    EvolutionFailed or a database error.
    """
    instance = EvolutionInstance(session.channel)
    # Newest first, as Evolution tells them; of a long gap the oldest pages are kept.
    pages: deque[list[_New]] = deque(maxlen=PAGES_AT_A_TIME)
    found = known = 0
    seen: set[str] = set()
    for page in range(1, MOST_PAGES + 1):
        if abandoned():
            raise EvolutionFailed("abandoned")
        records = instance.messages(page=page, size=PAGE_SIZE)
        new = _unknown(session, records, since, seen)
        if new:
            pages.append(new)
            found += 1
        if len(records) < PAGE_SIZE:
            break
        known = 0 if new else known + 1
        look_back = LOOK_BACK if known < KNOWN_PAGES else LOOK_OVERLAP
        if known and _timestamp(records[-1]) < (since - look_back).timestamp():
            break
    else:
        log.error("more is missing than is fetched", instance=session.name, pages=MOST_PAGES)
    oldest_first = [item for some in reversed(pages) for item in reversed(some)]
    on_its_way = (timezone.now() - IN_FLIGHT).timestamp()
    if session.gap_reason in _FAILED_DELIVERY:
        on_its_way = float("inf")
    earliest = (since - MARGIN).timestamp()
    return Found(
        events=[event for item in oldest_first for event in item.events],
        # What a newly linked phone brings as its history was never to be delivered.
        messages=sum(
            item.is_message and item.written_at < on_its_way and item.at >= earliest
            for item in oldest_first
        ),
        complete=found <= PAGES_AT_A_TIME,
    )


@dataclass(frozen=True, slots=True)
class _New:
    """What the journal lacks of one record. `is_message`: the message itself, too."""

    events: list[dict[str, Any]]
    is_message: bool
    at: float
    written_at: float


def _unknown(
    session: WhatsAppSession,
    records: Sequence[dict[str, Any]],
    since: dt.datetime,
    seen: set[str],
) -> list[_New]:
    """Return what is not in the journal of each record that has such, in the records' order.

    `seen` has the keys of pages before: a message that comes meanwhile moves all others down.
    """
    oldest = (since - OLDEST).timestamp()
    recent = [record for record in records if _timestamp(record) >= oldest]
    told = [list(_events(session.name, record)) for record in recent]
    keys = _keys(session, (event for events in told for event in (*events, _sent(events[0]))))
    known = seen | set(
        InboundEvent.objects.filter(dedupe_key__in=keys).values_list("dedupe_key", flat=True)
    )

    def is_known(event: dict[str, Any]) -> bool:
        return receiving.dedupe_key(session.channel_id, event) in known

    found = []
    for record, (message, *statuses) in zip(recent, told, strict=True):
        new = [event for event in statuses if not is_known(event)]
        is_message = not (is_known(message) or is_known(_sent(message)))
        if is_message:
            if _written_at(record) < (since - MARGIN).timestamp():
                # From before we received: the past of an instance that was taken over.
                continue
            new.insert(0, message)
        if new:
            found.append(_New(new, is_message, _timestamp(record), _written_at(record)))
    seen |= keys
    return found


def _keys(session: WhatsAppSession, events: Iterable[dict[str, Any]]) -> set[str]:
    return {receiving.dedupe_key(session.channel_id, event) for event in events}


def _events(instance: str, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield evolution_events.as_event(instance, record)
    yield from evolution_events.statuses_of(record, instance)


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
