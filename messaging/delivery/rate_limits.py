"""Compute when the rate limits next allow a send, with as few queries as possible.

The official API's limits are queried only if this process alone comes near them. With many workers
they may be exceeded slightly; Meta's rejection (130429, 131056) is then waited out. The fallback's
limits protect a number from a ban and are enforced exactly, under a lock.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection as database
from django.db.models import Exists, Max, OuterRef, Q, QuerySet, Subquery

from channels_app.connections.circuit_breaker import sharing_session
from channels_app.models import Channel, Connection, FallbackRoute, Provider
from messaging.delivery import policy
from messaging.delivery.statuses import Outcome, Route
from messaging.models import UNFINISHED, Conversation, DeliveryAttempt, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

# First half of an advisory lock's key; any number that no other lock uses.
_PACE_LOCK = 0x4641_4C4C
_SECOND, _MINUTE, _DAY = dt.timedelta(seconds=1), dt.timedelta(minutes=1), dt.timedelta(days=1)
# A process that used less than 1/_LOCAL_FRACTION of a limit does not query the database.
_LOCAL_FRACTION = 3


class _Starts:
    """When this process started its latest sends, by key."""

    MAX_KEYS = 20_000

    def __init__(self) -> None:
        self._times: dict[Hashable, deque[float]] = {}

    def add(self, key: Hashable, *, size: int) -> None:
        if len(self._times) > self.MAX_KEYS:
            self._times.clear()
        times = self._times.get(key)
        if times is None or times.maxlen != size:
            times = self._times[key] = deque(times or (), maxlen=size)
        times.append(time.monotonic())

    def is_full_within(self, key: Hashable, seconds: float) -> bool:
        """Return whether the last `size` sends all started within this many seconds."""
        times = self._times.get(key)
        return (
            times is not None
            and len(times) == times.maxlen
            and times[0] > time.monotonic() - seconds
        )


_connection_starts, _conversation_starts = _Starts(), _Starts()


def record_start(attempt: DeliveryAttempt) -> None:
    """Record that this process starts a send now."""
    if attempt.route != Route.OFFICIAL:
        return
    limit = attempt.connection.throughput
    _connection_starts.add(attempt.connection_id, size=max(1, limit // _LOCAL_FRACTION))
    _conversation_starts.add(
        attempt.message.conversation_id, size=max(1, policy.RECIPIENT_BURST // _LOCAL_FRACTION)
    )


def limits_for(
    message: Message,
    rules: policy.ChannelRules,
    *,
    now: dt.datetime,
    may_fall_back: bool,
    exact: bool = False,
) -> policy.Limits:
    """Return when each limit next has a slot for this message. In a transaction.

    `exact`: this process sends nothing itself, so the official limits are always queried. The lock
    taken for a fallback makes its count and the following attempt atomic.
    """
    channel = message.conversation.channel
    facts: dict[str, Any] = {}
    if rules.primary.route == Route.OFFICIAL:
        facts["throughput"] = _throughput_free_at(message, channel.primary, now, exact=exact)
        facts["recipient"] = _recipient_free_at(message, now, exact=exact)
    if may_fall_back:
        facts["fallbacks"] = _fallback_limits(message, rules, now)
    return policy.Limits(**facts)


def _fallback_limits(
    message: Message, rules: policy.ChannelRules, now: dt.datetime
) -> dict[int, policy.FallbackLimits]:
    """Return the limits of the fallbacks. Their locks are taken in one order, against deadlocks."""
    usable = {sender.key for sender in rules.fallbacks}
    channel = message.conversation.channel
    sessions = [_Session.of(one) for one in channel.fallback_connections if one.pk in usable]
    limits = {}
    for session in sorted(sessions, key=lambda session: session.connections[0]):
        slot = _fallback_free_at(message, session, channel.fallback_per_minute, now)
        new_chats = _new_chat_limits(message, session, now)
        limits[session.owner.pk] = policy.FallbackLimits(slot=slot, **new_chats)
    return limits


@dataclass(frozen=True, slots=True)
class _Session:
    """The WhatsApp session of a fallback, which several connections may share.

    `owner` is the connection whose number it is.
    """

    owner: Connection
    connections: tuple[int, ...]

    @classmethod
    def of(cls, connection: Connection) -> _Session:
        shared = sharing_session(connection).order_by("pk").values_list("pk", flat=True)
        return cls(connection, tuple(shared))

    def fallbacks(self, *, since: dt.datetime) -> QuerySet[DeliveryAttempt]:
        """Return the attempts that it sent instead of the official API."""
        return DeliveryAttempt.objects.filter(
            connection__in=self.connections,
            started_at__gt=since,
            message__conversation__channel__kind=Provider.OFFICIAL,
        )

    def waiting(self) -> QuerySet[Message]:
        """Return the messages of the channels that fall back to it.

        A message waits for a later fallback only if an earlier one has tried it, or none is usable.
        """
        routes = FallbackRoute.objects.filter(connection__in=self.connections)
        own = routes.filter(channel=OuterRef("channel")).order_by("position").values("position")
        usable_before = FallbackRoute.objects.filter(
            channel=OuterRef("conversation__channel"),
            position__lt=Subquery(own[:1]),
            connection__channel__active=True,
            connection__breaker_opened_at=None,
        )
        tried = DeliveryAttempt.objects.filter(
            message=OuterRef("pk"),
            round=OuterRef("round"),
            connection__fallback_for__channel=OuterRef("conversation__channel"),
        )
        return Message.objects.filter(
            Q(Exists(tried)) | ~Exists(usable_before),
            conversation__channel__in=routes.values("channel"),
        )


def _throughput_free_at(
    message: Message, connection: Connection, now: dt.datetime, *, exact: bool = False
) -> dt.datetime | None:
    if not exact and not _is_near_throughput(connection):
        return None
    starts, last = _recent_starts(connection, now), None
    if message.decision != policy.WAITING_THROUGHPUT:
        last = _last_reserved(_of_channel(connection), policy.WAITING_THROUGHPUT, now)
    return _throughput_slot(connection, starts, last, now)


def _of_channel(connection: Connection) -> Callable[[], QuerySet[Message]]:
    return lambda: Message.objects.filter(conversation__channel=connection.channel_id)


def _is_near_throughput(connection: Connection) -> bool:
    return _connection_starts.is_full_within(connection.pk, 1.0)


def _recent_starts(connection: Connection, now: dt.datetime) -> list[dt.datetime]:
    """Return when the connection's sends of the last second started, latest first."""
    recent = DeliveryAttempt.objects.filter(connection=connection, started_at__gt=now - _SECOND)
    latest = recent.order_by("-started_at").values_list("started_at", flat=True)
    return list(latest[: connection.throughput])


def _throughput_slot(
    connection: Connection,
    starts: Sequence[dt.datetime],
    last_reserved: dt.datetime | None,
    now: dt.datetime,
) -> dt.datetime | None:
    limit = connection.throughput
    free_at = starts[limit - 1] + _SECOND if len(starts) >= limit else None
    return _after_reserved(last_reserved, free_at, _SECOND / limit, now)


class BatchLimits:
    """The limits of an official connection for first sends that are decided together.

    It answers as `limits_for` would if each of them had been stored before the next.
    """

    def __init__(self, connection: Connection, now: dt.datetime) -> None:
        self._connection, self._now = connection, now
        self._loaded = False
        self._starts: list[dt.datetime] = []
        self._last_reserved: dt.datetime | None = None

    def limits_for(self, message: Message) -> policy.Limits:
        """Return when each limit next has a slot for this message. In a transaction."""
        return policy.Limits(
            throughput=self._throughput_free_at(message),
            recipient=_recipient_free_at(message, self._now),
        )

    def _throughput_free_at(self, message: Message) -> dt.datetime | None:
        if not (self._loaded or _is_near_throughput(self._connection)):
            return None
        if not self._loaded:
            self._load()
        reserved = message.decision == policy.WAITING_THROUGHPUT
        last = None if reserved else self._last_reserved
        return _throughput_slot(self._connection, self._starts, last, self._now)

    def add_start(self, attempt: DeliveryAttempt) -> None:
        """Add an attempt that starts now."""
        record_start(attempt)
        self._starts.insert(0, attempt.started_at)

    def add_wait(self, until: dt.datetime) -> None:
        """Add a message that waits for the slot at this time."""
        self._last_reserved = max(self._last_reserved or until, until)

    def _load(self) -> None:
        self._loaded = True
        # Those of this batch are not stored yet, and are those that started latest.
        self._starts += _recent_starts(self._connection, self._now)
        waiting = _of_channel(self._connection)
        if last := _last_reserved(waiting, policy.WAITING_THROUGHPUT, self._now):
            self.add_wait(last)


def _next_slot(
    message: Message,
    waiting: Callable[[], QuerySet[Message]],
    reason: str,
    free_at: dt.datetime | None,
    each: dt.timedelta,
    now: dt.datetime,
) -> dt.datetime | None:
    """Return the first slot after those reserved for other messages, `each` after the last.

    A message whose reserved time has come takes the next free slot.
    """
    if message.decision == reason:
        return free_at
    return _after_reserved(_last_reserved(waiting, reason, now), free_at, each, now)


def _last_reserved(
    waiting: Callable[[], QuerySet[Message]], reason: str, now: dt.datetime
) -> dt.datetime | None:
    """Return the last slot that is reserved for one of these messages."""
    reserved = Message.objects.filter(decision=reason, next_attempt_at__gt=now)
    # Nearly always nobody waits, which is cheaper to ask than who waits here.
    if not reserved.exists():
        return None
    here = waiting().filter(decision=reason, next_attempt_at__gt=now)
    return here.order_by("-next_attempt_at").values_list("next_attempt_at", flat=True).first()


def _after_reserved(
    last: dt.datetime | None, free_at: dt.datetime | None, each: dt.timedelta, now: dt.datetime
) -> dt.datetime | None:
    return free_at if last is None else max(last + each, free_at or now)


def _recipient_free_at(
    message: Message, now: dt.datetime, *, exact: bool = False
) -> dt.datetime | None:
    window = policy.RECIPIENT_WINDOW
    starts = _conversation_starts
    if not exact and not starts.is_full_within(message.conversation_id, window.total_seconds()):
        return None
    sent = DeliveryAttempt.objects.filter(
        message__conversation=message.conversation_id,
        connection__provider=Route.OFFICIAL,
        started_at__gt=now - window,
    )
    return policy.recipient_free_at(list(sent.values_list("started_at", flat=True)), now=now)


def _fallback_free_at(
    message: Message, session: _Session, limit: int, now: dt.datetime
) -> dt.datetime | None:
    """Return when the session may next send a fallback, None if it may now.

    Each wait has a random part, so that a number that always sends at its limit has no rhythm.
    """
    each = _MINUTE / limit
    jitter = random.random() * each  # noqa: S311
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_PACE_LOCK, session.connections[0]])
    recent = session.fallbacks(since=now - _MINUTE).order_by("-started_at")
    starts = list(recent.values_list("started_at", flat=True)[:limit])
    free_at = starts[-1] + _MINUTE + jitter if len(starts) >= limit else None
    # The average equals one slot, so waiting messages are not sent below the allowed rate.
    behind = each / 2 + jitter
    return _next_slot(message, session.waiting, "waiting_pace", free_at, behind, now)


def _new_chat_limits(message: Message, session: _Session, now: dt.datetime) -> dict[str, Any]:
    """Return the new-chat limits if this would be a first message."""
    channel = message.conversation.channel
    if not is_first_contact(message, session.owner):
        return {}
    sharing = Connection.objects.filter(pk__in=session.connections)
    if sharing.filter(new_chats_stopped_until__gt=now).exists():
        return {"new_chats_blocked": True}
    limit = channel.fallback_new_chats_per_day
    if limit == 0:
        return {"new_chat": dt.datetime.max.replace(tzinfo=dt.UTC)}
    new_chats = list(
        _first_contacts(session, since=now - _DAY)
        .exclude(message__conversation__contact=message.conversation.contact_id)
        .values("message__conversation__contact")
        .annotate(latest=Max("started_at"))
        .order_by("-latest")
        .values_list("latest", flat=True)[:limit]
    )
    return {"new_chat": new_chats[-1] + _DAY} if len(new_chats) >= limit else {}


def _first_contacts(session: _Session, *, since: dt.datetime) -> QuerySet[DeliveryAttempt]:
    """Return the period's fallbacks that may have been the first message to a customer.

    Messages that certainly were not sent do not count.
    """
    sent = to_new_contacts(session.fallbacks(since=since), session.owner).filter(
        outcome__in=(Outcome.STARTED, Outcome.ACCEPTED, Outcome.UNKNOWN)
    )
    known_before = DeliveryAttempt.objects.filter(
        message__conversation__contact=OuterRef("message__conversation__contact"),
        connection__in=session.connections,
        outcome=Outcome.ACCEPTED,
        started_at__lte=since,
    )
    return sent.exclude(Exists(known_before))


def is_first_contact(message: Message, connection: Connection) -> bool:
    """Return whether the connection's number and this customer have exchanged no messages yet.

    A Baileys channel has its own conversations; what a customer wrote to the official number was
    not written to it.
    """
    conversation, contact = message.conversation, message.conversation.contact_id
    wrote = conversation.last_inbound_at is not None
    if connection.is_primary and connection.channel_id != conversation.channel_id:
        of_number = Conversation.objects.filter(channel=connection.channel_id, contact=contact)
        wrote = of_number.filter(last_inbound_at__isnull=False).exists()
    if wrote:
        return False
    earlier = DeliveryAttempt.objects.filter(
        message__conversation__contact=contact, connection=connection, outcome=Outcome.ACCEPTED
    )
    return not earlier.exclude(message=message).exists()


def to_new_contacts(
    attempts: QuerySet[DeliveryAttempt], connection: Connection
) -> QuerySet[DeliveryAttempt]:
    """Return the attempts to customers who never wrote to the connection's number."""
    if not connection.is_primary:
        return attempts.filter(message__conversation__last_inbound_at__isnull=True)
    wrote = Conversation.objects.filter(
        channel=connection.channel_id,
        contact=OuterRef("message__conversation__contact"),
        last_inbound_at__isnull=False,
    )
    return attempts.exclude(Exists(wrote))


@dataclass(frozen=True, slots=True)
class Quota:
    """How many messages an unofficial route takes now, and how many of these as first messages."""

    messages: int
    new_chats: int


def quota_of(channel: Channel, connection: Connection, *, now: dt.datetime) -> Quota:
    """Return what is left of the quota of an unofficial route of the channel, without a lock."""
    session = _Session.of(connection)
    made = DeliveryAttempt.objects.filter(connection__in=session.connections)
    waiting = Message.objects.filter(UNFINISHED, conversation__channel=channel).exclude(
        decision=policy.WAITING_SCHEDULE
    )
    used = made.filter(started_at__gt=now - _MINUTE).count() + waiting.count()
    left = max(0, channel.fallback_per_minute - used)
    blocked = Connection.objects.filter(
        pk__in=session.connections, new_chats_stopped_until__gt=now
    ).exists()
    if blocked:
        return Quota(left, 0)
    customers = _first_contacts(session, since=now - _DAY).values("message__conversation__contact")
    new_chats = customers.distinct().count()
    return Quota(left, max(0, channel.fallback_new_chats_per_day - new_chats))
