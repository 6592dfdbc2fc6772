"""What the limits leave room for: counted for the policy, by as few queries as can be.

The limits of the official API are looked up only where this process alone comes near them; with
many workers they may be passed by a little, and then Meta's refusal (130429, 131056) is waited out.
Those of the fallback protect a number from being banned and are kept exactly, under a lock.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection
from django.db.models import Exists, Max, OuterRef, Q, QuerySet

from channels_app.models import Channel
from messaging.delivery import policy
from messaging.delivery.statuses import Outcome, Route
from messaging.models import Conversation, DeliveryAttempt, Message

if TYPE_CHECKING:
    from collections.abc import Hashable

# First half of an advisory lock's key; any number that no other lock of ours uses.
_PACE_LOCK = 0x4641_4C4C
_SECOND, _MINUTE, _DAY = dt.timedelta(seconds=1), dt.timedelta(minutes=1), dt.timedelta(days=1)
# A process that has used less than this part of a limit does not ask the database about it.
_SHARE = 3


class _Starts:
    """When this process began its latest sends, by key."""

    MOST_KEYS = 20_000

    def __init__(self) -> None:
        self._times: dict[Hashable, deque[float]] = {}

    def add(self, key: Hashable, *, kept: int) -> None:
        if len(self._times) > self.MOST_KEYS:
            self._times.clear()
        times = self._times.get(key)
        if times is None or times.maxlen != kept:
            times = self._times[key] = deque(times or (), maxlen=kept)
        times.append(time.monotonic())

    def full_within(self, key: Hashable, seconds: float) -> bool:
        """Whether the last `kept` sends all began within so many seconds."""
        times = self._times.get(key)
        return (
            times is not None
            and len(times) == times.maxlen
            and times[0] > time.monotonic() - seconds
        )


_by_channel, _by_conversation = _Starts(), _Starts()


def note_start(attempt: DeliveryAttempt) -> None:
    """Remember that this process begins a send now."""
    if attempt.route != Route.OFFICIAL:
        return
    limit = attempt.channel.throughput
    _by_channel.add(attempt.channel_id, kept=max(1, limit // _SHARE))
    _by_conversation.add(
        attempt.message.conversation_id, kept=max(1, policy.RECIPIENT_BURST // _SHARE)
    )


def limits_of(
    message: Message, rules: policy.ChannelRules, *, now: dt.datetime, may_fall_back: bool
) -> policy.Limits:
    """Return when each limit next has a place for this message. In a transaction.

    The lock that is taken for a fallback keeps its count and the attempt that follows together.
    """
    channel = message.conversation.channel
    facts: dict[str, Any] = {}
    if rules.main_route == Route.OFFICIAL:
        facts["throughput"] = _throughput_free_at(message, channel, now)
        facts["recipient"] = _recipient_free_at(message, now)
    if may_fall_back and rules.fallback is not None:
        session = _Session.of(channel, rules.fallback)
        facts["fallback"] = _fallback_free_at(message, session, channel.fallback_per_minute, now)
        facts |= _new_chat(message, session, now)
    return policy.Limits(**facts)


@dataclass(frozen=True, slots=True)
class _Session:
    """The WhatsApp session that a fallback sends by, however many channels share it.

    `channels` are those whose attempts it carries, `owner` the one whose number it is.
    """

    route: Route
    owner: Channel
    channels: tuple[int, ...]

    @classmethod
    def of(cls, channel: Channel, route: Route) -> _Session:
        if route == Route.BAILEYS:
            assert channel.fallback_channel is not None
            return cls(route, channel.fallback_channel, (channel.fallback_channel.pk,))
        same = Channel.objects.filter(
            wwebjs_url=channel.wwebjs_url, wwebjs_session_id=channel.wwebjs_session_id
        )
        return cls(route, channel, tuple(sorted({channel.pk, *same.values_list("pk", flat=True)})))

    def fallbacks(self, *, since: dt.datetime) -> QuerySet[DeliveryAttempt]:
        """What went out by it instead of by the official API."""
        return DeliveryAttempt.objects.filter(
            channel__in=self.channels,
            route=self.route,
            started_at__gt=since,
            message__conversation__channel__kind=Channel.Kind.OFFICIAL,
        )

    def waiting(self) -> QuerySet[Message]:
        """Messages of the channels that fall back to it."""
        if self.route == Route.BAILEYS:
            return Message.objects.filter(conversation__channel__fallback_channel=self.owner)
        return Message.objects.filter(conversation__channel__in=self.channels)


def _throughput_free_at(message: Message, channel: Channel, now: dt.datetime) -> dt.datetime | None:
    if not _by_channel.full_within(channel.pk, 1.0):
        return None
    limit = channel.throughput
    recent = DeliveryAttempt.objects.filter(
        channel=channel, route=Route.OFFICIAL, started_at__gt=now - _SECOND
    )
    taken = list(recent.order_by("-started_at").values_list("started_at", flat=True)[:limit])
    free_at = taken[-1] + _SECOND if len(taken) >= limit else None
    waiting = Message.objects.filter(conversation__channel=channel)
    return _behind_others(message, waiting, "waiting_throughput", free_at, _SECOND / limit, now)


def _behind_others(
    message: Message,
    waiting: QuerySet[Message],
    reason: str,
    free_at: dt.datetime | None,
    each: dt.timedelta,
    now: dt.datetime,
) -> dt.datetime | None:
    """Return the first place that no other message was given; this one is so far behind the last.

    One whose own time has come takes the next that is free.
    """
    if message.decision == reason:
        return free_at
    given = waiting.filter(decision=reason, next_attempt_at__gt=now).exclude(pk=message.pk)
    last = given.order_by("-next_attempt_at").values_list("next_attempt_at", flat=True).first()
    if last is None:
        return free_at
    return max(last + each, free_at or now)


def _recipient_free_at(message: Message, now: dt.datetime) -> dt.datetime | None:
    window = policy.RECIPIENT_WINDOW
    if not _by_conversation.full_within(message.conversation_id, window.total_seconds()):
        return None
    sent = DeliveryAttempt.objects.filter(
        message__conversation=message.conversation_id,
        route=Route.OFFICIAL,
        started_at__gt=now - window,
    )
    return policy.recipient_free_at(list(sent.values_list("started_at", flat=True)), now=now)


def _fallback_free_at(
    message: Message, session: _Session, limit: int, now: dt.datetime
) -> dt.datetime | None:
    """Return when the session may next be used for a fallback, None when it may be now.

    Each wait has a random part, so that a number which always sends at its limit has no rhythm.
    """
    each = _MINUTE / limit
    jitter = random.random() * each  # noqa: S311
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_PACE_LOCK, session.channels[0]])
    recent = session.fallbacks(since=now - _MINUTE).order_by("-started_at")
    taken = list(recent.values_list("started_at", flat=True)[:limit])
    free_at = taken[-1] + _MINUTE + jitter if len(taken) >= limit else None
    # On average as long as a place takes: what waits is not sent more slowly than the limit allows.
    behind = each / 2 + jitter
    return _behind_others(message, session.waiting(), "waiting_pace", free_at, behind, now)


def _new_chat(message: Message, session: _Session, now: dt.datetime) -> dict[str, Any]:
    """What the limits of first messages say, where this one would be one."""
    channel = message.conversation.channel
    if not is_first_contact(message, session.owner, session.route):
        return {}
    sharing = Channel.objects.filter(pk__in=session.channels)
    if sharing.filter(new_chats_stopped_until__gt=now).exists():
        return {"new_chats_stopped": True}
    limit = channel.fallback_new_chats_per_day
    if limit == 0:
        return {"new_chat": dt.datetime.max.replace(tzinfo=dt.UTC)}
    begun = list(
        _first_contacts(session, since=now - _DAY)
        .exclude(message__conversation__contact=message.conversation.contact_id)
        .values("message__conversation__contact")
        .annotate(latest=Max("started_at"))
        .order_by("-latest")
        .values_list("latest", flat=True)[:limit]
    )
    return {"new_chat": begun[-1] + _DAY} if len(begun) >= limit else {}


def _first_contacts(session: _Session, *, since: dt.datetime) -> QuerySet[DeliveryAttempt]:
    """The fallbacks of that time that may have reached a customer whom it wrote to for the first.

    What was certainly not sent has used up nothing.
    """
    begun = to_new_contacts(session.fallbacks(since=since), session.owner, session.route).filter(
        outcome__in=(Outcome.STARTED, Outcome.ACCEPTED, Outcome.UNKNOWN)
    )
    known_before = DeliveryAttempt.objects.filter(
        message__conversation__contact=OuterRef("message__conversation__contact"),
        channel__in=session.channels,
        route=session.route,
        outcome=Outcome.ACCEPTED,
        started_at__lte=since,
    )
    return begun.exclude(Exists(known_before))


def is_first_contact(message: Message, owner: Channel, route: str) -> bool:
    """Whether the session's number and this customer have not written to each other yet.

    `owner` is the channel whose number the session of this route has. A Baileys channel has its
    own conversations; what a customer wrote to the official number was not written to it.
    """
    of_number = Q(pk=message.conversation_id)
    if route == Route.BAILEYS:
        of_number = Q(channel=owner, contact=message.conversation.contact_id)
    if Conversation.objects.filter(of_number, last_inbound_at__isnull=False).exists():
        return False
    contact = message.conversation.contact_id
    earlier = DeliveryAttempt.objects.filter(
        message__conversation__contact=contact, channel=owner, outcome=Outcome.ACCEPTED, route=route
    )
    return not earlier.exclude(message=message).exists()


def to_new_contacts(
    attempts: QuerySet[DeliveryAttempt], owner: Channel, route: str
) -> QuerySet[DeliveryAttempt]:
    """Those of the attempts whose customer never wrote to the session's number."""
    if route != Route.BAILEYS:
        return attempts.filter(message__conversation__last_inbound_at__isnull=True)
    wrote = Conversation.objects.filter(
        channel=owner,
        contact=OuterRef("message__conversation__contact"),
        last_inbound_at__isnull=False,
    )
    return attempts.exclude(Exists(wrote))
