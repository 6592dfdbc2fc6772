"""How much goes by the fallback and why: counted, and an alarm when it jumps.

A fallback that works well would otherwise hide an official API that does not.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from channels_app import breakers
from channels_app.models import Channel, Incident
from messaging.models import Message
from messaging.states import Route

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
# The last quarter of an hour is compared with the day before it.
RECENT = dt.timedelta(minutes=15)
LEAST, SHARE, TIMES = 10, 0.3, 3.0
STILL_LEAST, STILL_SHARE = 5, 0.15

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
    """Raise and end the alarms of all channels."""
    now = timezone.now()
    recent = Q(created_at__gte=now - RECENT)
    counted = (
        _sent(now - DAY)
        .values("conversation__channel")
        .annotate(
            recent=Count("id", filter=recent),
            recent_fallback=Count("id", filter=recent & _BY_FALLBACK),
            before=Count("id", filter=~recent),
            before_fallback=Count("id", filter=~recent & _BY_FALLBACK),
        )
    )
    found = {row["conversation__channel"]: row for row in counted}
    alarmed = set(
        Incident.objects.filter(
            route=Incident.Route.FALLBACKS, closed_at=None, recovered_at=None
        ).values_list("channel", flat=True)
    )
    channels = Channel.objects.filter(kind=Channel.Kind.OFFICIAL).exclude(fallback="none")
    for channel in channels | Channel.objects.filter(pk__in=alarmed):
        row: Mapping[str, Any] = found.get(channel.pk, {})
        latest = Share(row.get("recent_fallback", 0), row.get("recent", 0))
        earlier = Share(row.get("before_fallback", 0), row.get("before", 0))
        known = channel.pk in alarmed
        if jumped(latest, earlier, alarmed=known) != known:
            detail = f"{latest.fallback}/{latest.total}"
            breakers.note_share(channel, jumped=not known, detail=detail)


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
