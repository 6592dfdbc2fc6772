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

# Small pages: a record may contain a thumbnail as an object with one key for each byte.
PAGE_SIZE = 50
# Pages stored at a time, oldest first; then the rest is fetched.
PAGES_AT_A_TIME = 40
MAX_PAGES = 2000
# Read at least this far back: statuses in the gap can belong to older messages.
READ_BACK = dt.timedelta(minutes=30)
# But stop after this many consecutive known pages: with several messages a second, half an hour is
# a lot.
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
_FAILED_DELIVERY = (Reason.UNAUTHORIZED, Reason.TOO_LARGE, Reason.NOT_STORED, Reason.LOOK)
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
        row = WhatsAppSession.objects.select_for_update().filter(pk=session_id).first()
        if row is None or (row.mode is None and not row.switching_to):
            return
        due = now + delay
        if not trusted and row.gap_noted_at is not None:
            due = max(due, row.gap_noted_at + UNTRUSTED_EVERY)
        if row.gap_fetch_at is not None:
            due = min(due, row.gap_fetch_at)
        complete_until = row.proven_at or row.caught_up_at or row.switching_since or now
        WhatsAppSession.objects.filter(pk=session_id).update(
            gap_since=min(complete_until, row.gap_since or complete_until),
            gap_reason=row.gap_reason or reason,
            gap_noted_at=now,
            gap_fetch_at=due,
            gap_tries=0,
        )
        if due <= now:
            tasks.enqueue_backfill(session_id)
    log.info("gap recorded", instance_id=session_id, reason=reason.value)


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
    named = WhatsAppSession.objects.filter(channel__instance_name=instance)
    for session_id in named.values_list("pk", flat=True):
        request(session_id, reason=Reason.UNAUTHORIZED, trusted=False)


# --- jobs -----------------------------------------------------------------------------------------


def enqueue_due() -> None:
    """Enqueue the fetches of due gaps, including those whose job was lost."""
    due = WhatsAppSession.objects.filter(gap_fetch_at__lte=timezone.now())
    for session_id in due.values_list("pk", flat=True):
        tasks.enqueue_backfill(session_id)


def run(session_id: int) -> None:
    """Fetch a due gap, and close it unless a newer sign arrived."""
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
    closed = (WhatsAppSession.Connection.CLOSE, WhatsAppSession.Connection.CONNECTING)
    with transaction.atomic():
        rows = (
            WhatsAppSession.objects.select_for_update(skip_locked=True)
            .filter(Q(look_at=None) | Q(look_at__lte=now), switching_to="", found_error="")
            .filter(Q(webhook_enabled=True) | Q(websocket_enabled=True))
            .exclude(connection__in=closed)
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

    If none is missing, advance the proven time; else record a gap, due when messages in delivery
    have arrived. Raises EvolutionFailed or a database error.
    """
    session = WhatsAppSession.objects.select_related("channel").filter(pk=session_id).first()
    began = timezone.now()
    if session is None or session.mode is None or session.gap_since is not None:
        return
    since = session.proven_at
    if since is None:
        # Nothing is proven yet: start here.
        advance(session_id, until=began)
        return
    instance = EvolutionInstance(session.channel)
    seen_keys: set[str] = set()
    for page in range(1, CHECK_PAGES + 1):
        records = instance.messages(page=page, size=CHECK_PAGE_SIZE)
        if page == 1:
            _record_whether_stored(session, records)
        if _unknown(session, records, since, seen_keys):
            break
        oldest_on_page = _timestamp(records[-1]) if records else 0.0
        if len(records) < CHECK_PAGE_SIZE or oldest_on_page < (since - CHECK_OVERLAP).timestamp():
            advance(session_id, until=began - IN_FLIGHT)
            return
    request(session_id, reason=Reason.LOOK, delay=IN_FLIGHT)


def _record_whether_stored(session: WhatsAppSession, newest: Sequence[dict[str, Any]]) -> None:
    """Record whether Evolution stores messages: otherwise a gap cannot be closed."""
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
class FetchResult:
    """Events missing in the journal, oldest first.

    `messages`: the number of undelivered messages. `complete`: whether these are all; otherwise
    fetch the newer ones after storing these.
    """

    events: list[dict[str, Any]]
    messages: int
    complete: bool


def fetch_and_store(session: WhatsAppSession, *, since: dt.datetime) -> int:
    """Store the missing events since a time; return the number of undelivered messages.

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
) -> FetchResult:
    """Return the events since a time that are missing in the journal.

    These are messages that Evolution stored since then, whatever their own time, and the statuses
    of these and of known ones. `abandoned` is called between two pages. Raises EvolutionFailed or
    a database error.
    """
    instance = EvolutionInstance(session.channel)
    # Evolution returns the newest first; of a long gap, only the oldest pages stay here.
    pages: deque[list[_New]] = deque(maxlen=PAGES_AT_A_TIME)
    found = known = 0
    seen_keys: set[str] = set()
    for page in range(1, MAX_PAGES + 1):
        if abandoned():
            raise EvolutionFailed("abandoned")
        records = instance.messages(page=page, size=PAGE_SIZE)
        new = _unknown(session, records, since, seen_keys)
        if new:
            pages.append(new)
            found += 1
        if len(records) < PAGE_SIZE:
            break
        known = 0 if new else known + 1
        read_back = READ_BACK if known < KNOWN_PAGES else CHECK_OVERLAP
        if known and _timestamp(records[-1]) < (since - read_back).timestamp():
            break
    else:
        log.error("gap exceeds the page limit", instance=session.name, pages=MAX_PAGES)
    oldest_first = [item for some in reversed(pages) for item in reversed(some)]
    delivered_before = (timezone.now() - IN_FLIGHT).timestamp()
    if session.gap_reason in _FAILED_DELIVERY:
        delivered_before = float("inf")
    earliest = (since - MARGIN).timestamp()
    return FetchResult(
        events=[event for item in oldest_first for event in item.events],
        # The history of a newly linked phone does not count as undelivered.
        messages=sum(
            item.is_message and item.written_at < delivered_before and item.at >= earliest
            for item in oldest_first
        ),
        complete=found <= PAGES_AT_A_TIME,
    )


@dataclass(frozen=True, slots=True)
class _New:
    """The missing events of one record. `is_message`: they include the message itself."""

    events: list[dict[str, Any]]
    is_message: bool
    at: float
    written_at: float


def _unknown(
    session: WhatsAppSession,
    records: Sequence[dict[str, Any]],
    since: dt.datetime,
    seen_keys: set[str],
) -> list[_New]:
    """Return the missing events of each record that has any, in the records' order.

    `seen_keys` holds the keys of earlier pages: a new message shifts all others to later pages.
    """
    oldest = (since - OLDEST).timestamp()
    recent = [record for record in records if _timestamp(record) >= oldest]
    record_events = [list(_events(session.name, record)) for record in recent]
    keys = _keys(
        session, (event for events in record_events for event in (*events, _sent(events[0])))
    )
    known = seen_keys | set(
        InboundEvent.objects.filter(dedupe_key__in=keys).values_list("dedupe_key", flat=True)
    )

    def is_known(event: dict[str, Any]) -> bool:
        return receiving.dedupe_key(session.channel_id, event) in known

    found = []
    for record, (message, *statuses) in zip(recent, record_events, strict=True):
        new = [event for event in statuses if not is_known(event)]
        is_message = not (is_known(message) or is_known(_sent(message)))
        if is_message:
            if _written_at(record) < (since - MARGIN).timestamp():
                # Stored before we received events: the history of an instance taken over.
                continue
            new.insert(0, message)
        if new:
            found.append(_New(new, is_message, _timestamp(record), _written_at(record)))
    seen_keys |= keys
    return found


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
