"""Gaps in the received messages: recorded at each sign, fetched from Evolution's own store.

1. `request` records on the session that messages may be missing since it was last complete. The
   row keeps the gap due even if this process dies; `enqueue_due` finds it.
2. `run`, the job, fetches and stores what is missing in the journal, and closes the gap. While
   Evolution is unreachable, the gap stays due with growing delays.
3. `check_newest` compares an instance's newest messages with the journal every few minutes. This
   proves that nothing is missing, or records a gap.

Evolution stores only messages and their statuses (docs/providers/evolution.md §5); other events
are lost if they are not delivered. See docs/receive-mode.md.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import random
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Max, Q, Sum
from django.utils import timezone

from channels_app.incidents.reason_text import encode_failure
from channels_app.models import Connection, Provider
from channels_app.providers.evolution import events as evolution_events
from channels_app.providers.evolution.receive_mode import EvolutionFailed, EvolutionInstance
from instances import live, queue, receiving
from instances.models import Backfill, WhatsAppSession
from messaging.inbound import arrivals, journal
from messaging.inbound.arrivals import Arrival
from messaging.inbound.neutral import Unstorable
from messaging.models import DeliveryAttempt, InboundEvent, Message

log = structlog.get_logger(__name__)

Reason = Backfill.Reason

# Small pages: a record may contain a thumbnail as an object with one key for each byte.
PAGE_SIZE = 50
# Pages stored at a time, oldest first; then the rest is fetched.
PAGES_AT_A_TIME = 40
MAX_PAGES = 2000
# Read at least this far back: statuses in the gap can belong to older messages.
READ_BACK = dt.timedelta(minutes=30)
# But stop after this many consecutive known pages: at several messages a second, half an hour is
# too many.
KNOWN_PAGES = 10
# Evolution's clock may differ from ours, and a broken connection is noticed only after its ping
# interval and timeout (25 + 20 s).
MARGIN = dt.timedelta(minutes=10)
# After an outage, an instance receives the waiting messages with their old times. Older ones than
# this came with the history of a phone linked in the meantime.
OLDEST = dt.timedelta(days=3)
# A newer message may still be in delivery.
IN_FLIGHT = dt.timedelta(seconds=10)
# After connecting, an instance receives its waiting messages within this time.
AFTER_RECONNECTING = dt.timedelta(seconds=5)
# Signs that prove a failed delivery: their messages were not merely delayed.
_FAILED_DELIVERY = (Reason.UNAUTHORIZED, Reason.TOO_LARGE, Reason.NOT_STORED)
# The events of a record that show a gap. The key of a delivered edit or deletion differs from the
# one derived from the record.
_SHOWS_A_GAP = ("messages.upsert", "messages.update")
# Delays in seconds before a failed fetch is retried; they double each time.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
# Anybody can post a wrong secret: such signs count once in this time.
UNTRUSTED_EVERY = dt.timedelta(seconds=60)
# A check reads small pages back to the last proven time, with an overlap.
CHECK_PAGE_SIZE, CHECK_PAGES = 20, 5
CHECK_OVERLAP = dt.timedelta(minutes=2)
CHECKS_AT_A_TIME = 20
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
    """Record that messages may be missing, and schedule a fetch.

    Signs before the fetch form one gap. `delay`: the time to wait for messages still in delivery.
    `trusted`: False if anybody could have caused the sign.
    """
    now = timezone.now()
    with transaction.atomic():
        row = WhatsAppSession.objects.lock(pk=session_id)
        if row is None or (row.mode is None and not row.switching_to):
            return
        due = now + delay
        if not trusted and row.gap_noted_at is not None:
            due = max(due, row.gap_noted_at + UNTRUSTED_EVERY)
        if row.gap_fetch_at is not None:
            due = _due_with(row, due, now, delay=delay, trusted=trusted)
        complete_until = row.proven_at or row.caught_up_at or row.switching_since or now
        complete_until = row.arriving_since(complete_until)
        WhatsAppSession.objects.filter(pk=session_id).update(
            gap_since=min(complete_until, row.gap_since or complete_until),
            gap_reason=row.gap_reason or reason,
            gap_noted_at=now,
            gap_fetch_at=due,
            gap_tries=0,
        )
        if due <= now:
            queue.enqueue_backfill(session_id)
    log.info("gap recorded", instance_id=session_id, reason=reason.value)


def _due_with(
    row: WhatsAppSession, due: dt.datetime, now: dt.datetime, *, delay: dt.timedelta, trusted: bool
) -> dt.datetime:
    """Return when to fetch the gap, given a new sign and the earlier ones.

    The fetch closes the gap for all signs, so it waits for the delay of each. It does not wait for
    the pause after a failed fetch, and untrusted signs do not postpone it.
    """
    before = row.gap_fetch_at or due
    if delay and trusted:
        return due if row.gap_tries else max(due, before)
    waits = trusted and not row.gap_tries and before - now <= IN_FLIGHT
    return max(due, before) if waits else min(due, before)


def request_all(*, reason: Reason) -> None:
    """Record a gap for every session after our own downtime. The fetches are staggered."""
    with_mode = WhatsAppSession.objects.filter(Q(webhook_enabled=True) | Q(websocket_enabled=True))
    for number, session_id in enumerate(with_mode.values_list("pk", flat=True)):
        request(session_id, reason=reason, delay=dt.timedelta(seconds=min(number * 0.2, 60)))


def request_for_secret(authorization: str, *, reason: Reason) -> None:
    """Record a gap for the session whose secret came with a delivery."""
    digest = receiving.digest(authorization)
    found = WhatsAppSession.objects.filter(webhook_secret_digest=digest) if digest else None
    if found is not None and (session_id := found.values_list("pk", flat=True).first()):
        request(session_id, reason=reason)


def request_by_name(instance: str) -> None:
    """Record a gap for the instance named in a delivery without a valid secret.

    Nothing else in the delivery is trusted: we query the configured server, at most once a minute.
    """
    named = WhatsAppSession.objects.filter(channel__evolution__instance_name=instance)
    for session_id in named.values_list("pk", flat=True):
        request(session_id, reason=Reason.UNAUTHORIZED, trusted=False)


# --- jobs -----------------------------------------------------------------------------------------


def enqueue_due() -> None:
    """Enqueue the fetches of due gaps, including those whose job was lost."""
    due = WhatsAppSession.objects.filter(gap_fetch_at__lte=timezone.now())
    for session_id in due.values_list("pk", flat=True):
        queue.enqueue_backfill(session_id)


def run(session_id: int) -> None:
    """Fetch a due gap, and close it unless a newer sign arrived."""
    session = WhatsAppSession.objects.loaded(pk=session_id)
    began = timezone.now()
    if session is None or session.gap_since is None or session.gap_fetch_at is None:
        return
    if session.gap_fetch_at > began:
        return
    try:
        stored = fetch_and_store(session, since=session.gap_since)
    except EvolutionFailed as error:
        _postpone(session, encode_failure(error))
        return
    except receiving.STORAGE_ERRORS:
        _postpone(session, "backfill_not_stored")
        raise
    except Exception:
        _postpone(session, "backfill_failed")
        raise
    record_recovered(session, stored, reason=session.gap_reason, since=session.gap_since)
    unchanged = WhatsAppSession.objects.filter(pk=session_id, gap_noted_at=session.gap_noted_at)
    unchanged.update(**_CLOSED)
    advance(session_id, until=began - IN_FLIGHT)
    live.session_changed(session)


def _postpone(session: WhatsAppSession, error: str) -> None:
    delay = min(FIRST_PAUSE * 2 ** min(session.gap_tries, 10), LONGEST_PAUSE)
    delay *= random.uniform(0.8, 1.0)  # noqa: S311 (spread, not secrecy)
    log.warning("gap not fetched", instance=session.name, error=error, seconds=round(delay))
    unchanged = WhatsAppSession.objects.filter(pk=session.pk, gap_noted_at=session.gap_noted_at)
    unchanged.update(
        gap_tries=session.gap_tries + 1,
        gap_fetch_at=timezone.now() + dt.timedelta(seconds=delay),
        gap_error=error[:300],
    )
    if session.gap_error != error:
        live.session_changed(session)


def advance(session_id: int, *, until: dt.datetime) -> None:
    """Record that everything up to this time is proven to be stored."""
    for name in ("proven_at", "caught_up_at"):
        earlier = Q(**{name: None}) | Q(**{f"{name}__lt": until})
        WhatsAppSession.objects.filter(earlier, pk=session_id).update(**{name: until})


def record_recovered(
    session: WhatsAppSession, messages: int, *, reason: str, since: dt.datetime
) -> None:
    """Record how many undelivered messages were fetched."""
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


# --- the regular check ----------------------------------------------------------------------------


def claim_due_checks() -> list[int]:
    """Claim and return the sessions whose newest messages are due for a check.

    Closed, switching or unreachable sessions are excluded: the end of that state is itself a sign.
    """
    seconds = settings.EVOLUTION_BACKFILL_SECONDS
    if seconds <= 0:
        return []
    now = timezone.now()
    states = Connection.ServerState
    closed = Connection.objects.filter(
        provider=Provider.BAILEYS, server_state__in=(states.CLOSE, states.CONNECTING)
    )
    with transaction.atomic():
        rows = (
            WhatsAppSession.objects.select_for_update(skip_locked=True)
            .filter(Q(look_at=None) | Q(look_at__lte=now), found_error="")
            # A switch may wait for hours until the socket can be joined.
            .filter(Q(switching_to="") | Q(switching_phase=WhatsAppSession.Phase.JOINING))
            .filter(Q(webhook_enabled=True) | Q(websocket_enabled=True))
            .exclude(channel__in=closed.values("channel"))
            .order_by(F("look_at").asc(nulls_first=True))
            .only("look_at")[:CHECKS_AT_A_TIME]
        )
        due = []
        for row in rows:
            # Spread the first checks so that many instances are not queried at once.
            spread = (0.0, 1.0) if row.look_at is None else (0.9, 1.1)
            delay = seconds * random.uniform(*spread)  # noqa: S311
            if row.look_at is not None:
                due.append(row.pk)
            WhatsAppSession.objects.filter(pk=row.pk).update(
                look_at=now + dt.timedelta(seconds=delay)
            )
    return due


def check_newest(session_id: int) -> None:
    """Compare the newest messages of an instance with the journal.

    If none is missing, advance the proven time; else record a gap. Messages that may still be in
    delivery are left to the next check. Raises EvolutionFailed or a database error.
    """
    session = WhatsAppSession.objects.loaded(pk=session_id)
    began = timezone.now()
    if session is None or session.mode is None or session.gap_since is not None:
        return
    since = session.proven_at
    if since is None:
        # Nothing is proven yet: start here.
        advance(session_id, until=began)
        return
    since = session.arriving_since(since)
    delivered = (began - IN_FLIGHT).timestamp()
    instance = EvolutionInstance(session.credentials)
    seen_keys: set[str] = set()
    for page in _pages(instance, size=CHECK_PAGE_SIZE, most=CHECK_PAGES * CHECK_PAGE_SIZE):
        if page.start == 0:
            _record_whether_stored(session, page.records)
        old = replace(page, records=[r for r in page.records if _written_at(r) < delivered])
        if any(item.shows_a_gap for item in _unknown(session, old, since, seen_keys)):
            break
        if page.is_last or _oldest_on(page) < (since - CHECK_OVERLAP).timestamp():
            advance(session_id, until=began - IN_FLIGHT)
            return
    request(session_id, reason=Reason.LOOK, delay=IN_FLIGHT)


def _record_whether_stored(session: WhatsAppSession, newest: Sequence[dict[str, Any]]) -> None:
    """Record whether Evolution stores messages: otherwise a gap cannot be closed."""
    stores: bool | None = True
    if not newest:
        now = timezone.now()
        since = now - dt.timedelta(days=1)
        # An instance that was created again has not stored what came before.
        configured_at = session.mode_changes.aggregate(at=Max("started_at"))["at"]
        received = InboundEvent.objects.filter(
            source=receiving.SOURCE,
            source_key=str(session.channel_id),
            dedupe_key__startswith=f"{session.channel_id}:messages.upsert:",
            received_at__range=(max(since, configured_at or since), now - dt.timedelta(minutes=1)),
        )
        stores = False if received.exists() else session.stores_messages
    if stores != session.stores_messages:
        WhatsAppSession.objects.filter(pk=session.pk).update(stores_messages=stores)
        live.session_changed(session)
        if stores is False:
            log.error("Evolution stores no messages", instance=session.name)


# --- fetching -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What is missing in the journal, oldest first.

    `messages`: the number of undelivered messages. `complete`: whether no events are left;
    otherwise newer ones are among the newest `oldest_left` records.
    """

    arrivals: list[Arrival]
    messages: int
    complete: bool
    oldest_left: int = 0


def fetch_and_store(session: WhatsAppSession, *, since: dt.datetime) -> int:
    """Store the missing events since a time; return the number of undelivered messages.

    Raises EvolutionFailed or a database error.
    """
    stored = 0
    first, until = 0, 0
    for _ in range(2 * MAX_PAGES // PAGES_AT_A_TIME):
        found = fetch(session, since=since, first=first, until=until)
        store(session, found)
        stored += found.messages
        if found.complete:
            return stored
        # All older events are stored now.
        until = found.oldest_left
        first = max(0, until - PAGES_AT_A_TIME * PAGE_SIZE)
    raise RuntimeError("stored events are still reported as missing")


def store(session: WhatsAppSession, found: FetchResult) -> None:
    """Store what was found, as stubs if necessary. Raises one of `receiving.STORAGE_ERRORS`."""
    for first in range(0, len(found.arrivals), 200):
        journal.receive(receiving.SOURCE, found.arrivals[first : first + 200])


def fetch(
    session: WhatsAppSession,
    *,
    since: dt.datetime,
    abandoned: Callable[[], bool] = lambda: False,
    first: int = 0,
    until: int = 0,
) -> FetchResult:
    """Return what is missing in the journal since a time.

    These are messages that Evolution stored since then, regardless of their own time, and the
    statuses of these and of known messages. A message that is too large to be fetched is a stub.
    `abandoned` is called between pages. The newest `first` records are skipped. `until` limits the
    search to this many of the newest records: all older ones are known. Raises EvolutionFailed or a
    database error.
    """
    instance = EvolutionInstance(session.credentials)
    since = max(session.arriving_since(since), _kept_since())
    # Evolution returns the newest first; of a long gap, only the oldest pages stay here.
    pages: deque[tuple[int, list[_New]]] = deque(maxlen=PAGES_AT_A_TIME)
    found = known = 0
    seen_keys: set[str] = set()
    for page in islice(_pages(instance, first=first, abandoned=abandoned), MAX_PAGES):
        new = _unknown(session, page, since, seen_keys)
        if new:
            pages.append((page.start, new))
            found += 1
        if page.is_last:
            break
        known = 0 if new else known + 1
        if known and until and page.start >= until:
            break
        read_back = READ_BACK if known < KNOWN_PAGES else CHECK_OVERLAP
        if known and _oldest_on(page) < (since - read_back).timestamp():
            break
    else:
        log.error("gap exceeds the page limit", instance=session.name, pages=MAX_PAGES)
    oldest_first = [item for _, some in reversed(pages) for item in reversed(some)]
    is_cut = found > PAGES_AT_A_TIME
    delivered_before = (timezone.now() - IN_FLIGHT).timestamp()
    if session.gap_reason in _FAILED_DELIVERY:
        delivered_before = float("inf")
    earliest = (since - MARGIN).timestamp()
    return FetchResult(
        arrivals=[arrival for item in oldest_first for arrival in item.arrivals(session)],
        # The history of a newly linked phone does not count as undelivered.
        messages=sum(
            item.is_message and item.written_at < delivered_before and item.at >= earliest
            for item in oldest_first
        ),
        complete=not is_cut and not first,
        oldest_left=pages[0][0] if is_cut else first,
    )


def _kept_since() -> dt.datetime:
    """Return the time before which the journal's events have been deleted."""
    return timezone.now() - dt.timedelta(days=settings.INBOUND_RETENTION_DAYS)


@dataclass(frozen=True, slots=True)
class _Page:
    """Records of the store, newest first. `start` is the number of newer records.

    `is_cut`: the only record is too large to be fetched, and only its beginning was read.
    """

    start: int
    records: list[dict[str, Any]]
    is_last: bool
    is_cut: bool = False


def _pages(
    instance: EvolutionInstance,
    *,
    first: int = 0,
    size: int = PAGE_SIZE,
    most: float = math.inf,
    abandoned: Callable[[], bool] = lambda: False,
) -> Iterator[_Page]:
    """Yield the records of the store page by page; an oversized page is read in smaller ones.

    `first` is a multiple of the size or was the start of a page; no page starts at `most` or
    later. Of a single record that is too large the beginning is read. Raises EvolutionFailed.
    """
    start, part = first, _largest_part(size, first)
    while start < most:
        if abandoned():
            raise EvolutionFailed("abandoned")
        try:
            records = instance.messages(page=start // part + 1, size=part)
        except EvolutionFailed as error:
            if error.code != "too_large":
                raise
            if part > 1:
                part = next(n for n in range(part // 2, 0, -1) if part % n == 0)
                continue
            record = _from_beginning(error.beginning)
            log.info("a message is too large to be fetched", message_id=_message_id(record))
            yield _Page(start, [record], is_last=False, is_cut=True)
            start += 1
        else:
            yield _Page(start, records, is_last=len(records) < part)
            start += part
        part = _largest_part(size, start)


def _from_beginning(answer: bytes) -> dict[str, Any]:
    """Return what is known of a record that is too large; its time is that of its storing."""
    record = evolution_events.record_from_beginning(answer)
    written_at = _written_at(record)
    return {**record, "messageTimestamp": int(written_at)} if written_at else record


def _oldest_on(page: _Page) -> float:
    """Return the time of the oldest message on a page; infinity if the page does not say it."""
    time = _timestamp(page.records[-1]) if page.records else 0.0
    return time if time or not page.is_cut else math.inf


def _largest_part(size: int, start: int) -> int:
    """Return the largest page size, at most `size`, with a page that begins at this record."""
    return next(n for n in range(size, 0, -1) if size % n == 0 and start % n == 0)


@dataclass(frozen=True, slots=True)
class _New:
    """The missing events of one record. `is_message`: they include the message itself.

    `is_cut`: that message is stored as a stub.
    """

    events: list[dict[str, Any]]
    is_message: bool
    at: float
    written_at: float
    is_cut: bool = False

    @property
    def shows_a_gap(self) -> bool:
        return any(event["event"] in _SHOWS_A_GAP for event in self.events)

    def arrivals(self, session: WhatsAppSession) -> Iterator[Arrival]:
        for event in self.events:
            yield _stub(session, event) if self.is_cut else Arrival(str(session.channel_id), event)


def _stub(session: WhatsAppSession, event: dict[str, Any]) -> Arrival:
    """Return an arrival that the journal stores as a stub, named after the event's message.

    A message with a file is complete enough to be replayed; of any other the content is missing,
    and the bytes end where it would begin.
    """
    reason = Unstorable("too_large", _message_id(event["data"]))
    body = json.dumps(event).encode()
    if "message" not in event["data"]:
        body = body.removesuffix(b"}}")
    return Arrival(str(session.channel_id), reason, body)


def _unknown(
    session: WhatsAppSession, page: _Page, since: dt.datetime, seen_keys: set[str]
) -> list[_New]:
    """Return the missing events of each record that has any, in the records' order.

    `seen_keys` holds the keys of earlier pages: a new message shifts all others to later pages.
    """
    if page.is_cut:
        return [
            item
            for record in page.records
            if (item := _unknown_stub(session, record, since)) is not None
        ]
    oldest = (since - OLDEST).timestamp()
    recent = [record for record in page.records if _timestamp(record) >= oldest]
    record_events = [list(_events(session.name, record)) for record in recent]
    keys = _keys(
        session, (event for events in record_events for event in (*events, _sent(events[0])))
    )
    known = seen_keys | set(
        InboundEvent.objects.filter(dedupe_key__in=keys).values_list("dedupe_key", flat=True)
    )

    have = _have_messages(session, recent)

    def is_known(event: dict[str, Any]) -> bool:
        return receiving.dedupe_key(session.channel_id, event) in known

    found = []
    for record, (message, *statuses) in zip(recent, record_events, strict=True):
        new = [event for event in statuses if not is_known(event)]
        is_message = not (
            _message_id(record) in have or is_known(message) or is_known(_sent(message))
        )
        if is_message:
            if _written_at(record) < (since - MARGIN).timestamp():
                # Stored before we received events: the history of an instance taken over.
                continue
            new.insert(0, message)
        if new:
            found.append(_New(new, is_message, _timestamp(record), _written_at(record)))
    seen_keys |= keys
    return found


def _unknown_stub(
    session: WhatsAppSession, record: dict[str, Any], since: dt.datetime
) -> _New | None:
    """Return the stub of a record of which only the beginning was read; None if it is known."""
    message = evolution_events.as_event(session.name, record)
    written_at = _written_at(record)
    if written_at and written_at < (since - MARGIN).timestamp():
        return None
    keys = _keys(session, (message, _sent(message)))
    keys.add(arrivals.stub_key(receiving.SOURCE, _stub(session, message)))
    known = InboundEvent.objects.filter(dedupe_key__in=keys).exists()
    if known or _have_messages(session, [record]):
        return None
    return _New([message], True, _timestamp(record), written_at, is_cut=True)


def _have_messages(session: WhatsAppSession, records: Iterable[dict[str, Any]]) -> set[str]:
    """Return the ids of those records that are messages here, received or sent by this channel.

    The journal forgets its events after some time (INBOUND_RETENTION_DAYS).
    """
    ids = set(filter(None, map(_message_id, records)))
    of_channel = (
        Message.objects.filter(conversation__channel=session.channel_id),
        DeliveryAttempt.objects.filter(connection__channel=session.channel_id),
    )
    found: set[str] = set()
    for rows in of_channel:
        named = rows.filter(provider_message_id__in=ids)
        found.update(named.values_list("provider_message_id", flat=True))
    return found


def _message_id(record: dict[str, Any]) -> str:
    key = record.get("key")
    found = key.get("id") if isinstance(key, dict) else None
    return found if isinstance(found, str) else ""


def _keys(session: WhatsAppSession, events: Iterable[dict[str, Any]]) -> set[str]:
    return {receiving.dedupe_key(session.channel_id, event) for event in events}


def _events(instance: str, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield evolution_events.as_event(instance, record)
    yield from evolution_events.statuses_of(record, instance)


def _sent(message: dict[str, Any]) -> dict[str, Any]:
    """Return the event that Evolution emits for a message sent by its own API."""
    return {**message, "event": "send.message"}


def _written_at(record: dict[str, Any]) -> float:
    """Return when Evolution stored the record: its id, a cuid, begins with the milliseconds.

    If the id has another format, return the message's own time.
    """
    found = _CUID.fullmatch(str(record.get("id")))
    return int(found[1], 36) / 1000 if found else _timestamp(record)


_CUID = re.compile(r"c([0-9a-z]{8})[0-9a-z]{16}")


def _timestamp(record: dict[str, Any]) -> float:
    try:
        return float(record.get("messageTimestamp") or 0)
    except (TypeError, ValueError):
        return 0.0
