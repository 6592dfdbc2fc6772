"""How much goes by the fallback and why: counted, and an alarm when it jumps.

A fallback that works well would otherwise hide an official API that does not.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from channels_app.connections import circuit_breaker
from channels_app.incidents import incidents
from channels_app.models import Channel, Incident
from messaging.delivery.statuses import Outcome, Route
from messaging.models import DeliveryAttempt, Message

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
# The last quarter of an hour is compared with the day before it. Where it has fewer messages than
# LEAST, the latest so many of a day are, or a quiet shop would never hear of anything.
RECENT = dt.timedelta(minutes=15)
LEAST, SHARE, TIMES, MORE = 10, 0.3, 3.0, 0.2
STILL_LEAST, STILL_SHARE = 5, 0.15

# Stands for all codes together. Messages that never asked the API have no code, and the alarm of
# the open breaker speaks for them.
_ALL = ""

_BY_FALLBACK = Q(route__in=(Route.WWEBJS, Route.BAILEYS), conversation__channel__kind="official")


@dataclass(frozen=True, slots=True)
class Share:
    """Messages of some time: how many went by the fallback, of how many."""

    fallback: int
    total: int

    @property
    def share(self) -> float:
        return self.fallback / self.total if self.total else 0.0


_NOTHING = Share(0, 0)


def is_anomalous(recent: Share, before: Share, *, alarmed: bool) -> bool:
    """Whether the alarm is to be on. Pure.

    It begins with at least LEAST fallbacks that are at least SHARE of the recent messages, MORE
    than the share of the day before, and TIMES that share or nearer to all than to it. It ends
    below STILL_LEAST or STILL_SHARE.
    """
    if alarmed:
        return recent.fallback >= STILL_LEAST and recent.share >= STILL_SHARE
    usual = before.share
    return (
        recent.fallback >= LEAST
        and recent.share >= max(SHARE, usual + MORE)
        and recent.share >= min(TIMES * usual, (1 + usual) / 2)
    )


def check_fallback_rates() -> None:
    """Raise and end the alarms of all channels: of all fallbacks together, and of each code.

    Codes are looked at one by one because a channel that is used to many fallbacks for one reason
    would hide those for a new one. While the alarm of all is on, it speaks for the codes too.
    """
    now = timezone.now()
    alarmed: dict[int, set[str]] = defaultdict(set)
    for incident in incidents.current().filter(route=Incident.Route.FALLBACKS):
        alarmed[incident.channel_id].add(incident.code)
    channels = Channel.objects.filter(kind=Channel.Kind.OFFICIAL).exclude(fallback="none")
    for channel in channels | Channel.objects.filter(pk__in=alarmed):
        latest, earlier = _recent_and_before(channel, now)
        known = alarmed[channel.pk]
        # The alarm of all ("") is judged first.
        for code in sorted({_ALL, *latest, *known}):
            was, share = code in known, latest.get(code, _NOTHING)
            if not was and _ALL in known:
                continue
            is_now = is_anomalous(share, earlier.get(code, _NOTHING), alarmed=was)
            if is_now == was:
                continue
            (known.add if is_now else known.discard)(code)
            detail = f"{share.fallback}/{share.total}"
            if code != _ALL:
                detail = f"{code}, {detail}"
            circuit_breaker.note_share(channel, jumped=is_now, detail=detail, code=code)


def _recent_and_before(
    channel: Channel, now: dt.datetime
) -> tuple[dict[str, Share], dict[str, Share]]:
    since = now - RECENT
    recent = _shares(_taken(channel, since, now))
    if recent[_ALL].total < LEAST:
        of_a_day = _taken(channel, now - DAY, now).order_by("-started_at")
        since = [since, *of_a_day.values_list("started_at", flat=True)[:LEAST]][-1]
        recent = _shares(_taken(channel, since, now))
    return recent, _shares(_taken(channel, since - DAY, since))


def _taken(channel: Channel, since: dt.datetime, until: dt.datetime) -> QuerySet[DeliveryAttempt]:
    """What some provider took for this channel in that time.

    It counts when it was sent, not when its message was written: what Meta says it failed to
    deliver goes by the fallback much later.
    """
    sessions = Channel.objects.filter(kind=Channel.Kind.BAILEYS).values_list("pk", flat=True)
    return DeliveryAttempt.objects.filter(
        channel__in=[channel.pk, *sessions],
        route__in=list(Route),
        outcome=Outcome.ACCEPTED,
        started_at__gte=since,
        started_at__lt=until,
        message__conversation__channel=channel,
    ).order_by()


def _shares(taken: QuerySet[DeliveryAttempt]) -> dict[str, Share]:
    """Return what of it went by the fallback, by the code that was the reason; "" is all of it."""
    total = 0
    fallbacks = {_ALL: 0}
    by_fallback = ~Q(route=Route.OFFICIAL)
    counted = taken.values_list("message__error_code").annotate(
        total=Count("id"), fallback=Count("id", filter=by_fallback)
    )
    for code, of_code, fallback in counted:
        total += of_code
        for key in {_ALL, code}:
            fallbacks[key] = fallbacks.get(key, 0) + fallback
    return {code: Share(count, total) for code, count in fallbacks.items()}


@dataclass(frozen=True, slots=True)
class Row:
    """Fallbacks of one channel for one reason. An empty code: the API was not asked."""

    channel: str
    code: str
    hour: int
    day: int


def by_code() -> list[Row]:
    """Return how often the fallback was used in the last hour and day, by channel and code."""
    now = timezone.now()
    counted = (
        _sent(now - DAY)
        .filter(_BY_FALLBACK)
        .values("conversation__channel__name", "error_code")
        .annotate(day=Count("id"), hour=Count("id", filter=Q(created_at__gte=now - HOUR)))
        .order_by("-day", "conversation__channel__name", "error_code")
    )
    return [
        Row(row["conversation__channel__name"], row["error_code"], row["hour"], row["day"])
        for row in counted
    ]


def _sent(since: dt.datetime) -> QuerySet[Message]:
    return Message.objects.filter(
        direction=Message.Direction.OUT, sent_outside=False, created_at__gte=since
    ).order_by()
