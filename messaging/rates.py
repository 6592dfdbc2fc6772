"""How much goes by the fallback and why: counted, and an alarm when it jumps.

A fallback that works well would otherwise hide an official API that does not.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from channels_app import breakers, incidents
from channels_app.models import Channel, Incident
from messaging.models import Message
from messaging.states import Route

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
# The last quarter of an hour is compared with the day before it.
RECENT = dt.timedelta(minutes=15)
LEAST, SHARE, TIMES = 10, 0.3, 3.0
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


def jumped(recent: Share, before: Share, *, alarmed: bool) -> bool:
    """Whether the alarm is to be on. Pure.

    It begins with at least LEAST fallbacks that are at least SHARE of the recent messages and
    TIMES the share of the day before, and ends below STILL_LEAST or STILL_SHARE.
    """
    if alarmed:
        return recent.fallback >= STILL_LEAST and recent.share >= STILL_SHARE
    return (
        recent.fallback >= LEAST and recent.share >= SHARE and recent.share >= TIMES * before.share
    )


def watch() -> None:
    """Raise and end the alarms of all channels: of all fallbacks together, and of each code.

    Codes are looked at one by one because a channel that is used to many fallbacks for one reason
    would hide those for a new one. While the alarm of all is on, it speaks for the codes too.
    """
    now = timezone.now()
    alarmed: dict[int, set[str]] = defaultdict(set)
    for incident in incidents.current().filter(route=Incident.Route.FALLBACKS):
        alarmed[incident.channel_id].add(incident.code)
    recent, before = _shares(now - RECENT, now), _shares(now - DAY, now - RECENT)
    channels = Channel.objects.filter(kind=Channel.Kind.OFFICIAL).exclude(fallback="none")
    for channel in channels | Channel.objects.filter(pk__in=alarmed):
        latest, earlier = recent[channel.pk], before[channel.pk]
        known = alarmed[channel.pk]
        # The alarm of all ("") is judged first.
        for code in sorted({_ALL, *latest, *known}):
            was, share = code in known, latest.get(code, Share(0, 0))
            if not was and _ALL in known:
                continue
            is_now = jumped(share, earlier.get(code, Share(0, 0)), alarmed=was)
            if is_now == was:
                continue
            (known.add if is_now else known.discard)(code)
            detail = f"{share.fallback}/{share.total}"
            if code != _ALL:
                detail = f"{code}, {detail}"
            breakers.note_share(channel, jumped=is_now, detail=detail, code=code)


def _shares(since: dt.datetime, until: dt.datetime) -> Mapping[int, dict[str, Share]]:
    """Return what went by the fallback in that time, by channel and code; "" is all of it."""
    counted = (
        _sent(since)
        .filter(created_at__lt=until)
        .values_list("conversation__channel", "error_code")
        .annotate(total=Count("id"), fallback=Count("id", filter=_BY_FALLBACK))
    )
    totals: dict[int, int] = defaultdict(int)
    fallbacks: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for channel, code, total, fallback in counted:
        totals[channel] += total
        for of in {_ALL, code}:
            fallbacks[channel][of] += fallback
    return defaultdict(
        dict,
        {
            channel: {code: Share(count, totals[channel]) for code, count in codes.items()}
            for channel, codes in fallbacks.items()
        },
    )


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
