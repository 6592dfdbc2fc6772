"""Count messages sent by the fallback, by reason, and alert when their share rises sharply.

Otherwise a fallback that works well would hide an official API that does not.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, replace

from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone

from channels_app.connections import circuit_breaker
from channels_app.incidents import incidents
from channels_app.models import Channel, Connection, FallbackRoute, Incident, Provider
from channels_app.providers import engines
from messaging.delivery.statuses import Outcome, Route
from messaging.models import DeliveryAttempt, Message

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
# The last 15 minutes are compared with the day before. If they have fewer than MIN_MESSAGES, the
# latest MIN_MESSAGES of a day are used, so that a quiet channel is monitored too.
RECENT = dt.timedelta(minutes=15)
MIN_MESSAGES, MIN_SHARE, MIN_RATIO, MIN_INCREASE = 10, 0.3, 3.0, 0.2
END_FALLBACKS, END_SHARE = 5, 0.15

# All codes together. Messages that skipped the API have no code; the open breaker's alert covers
# them.
_ALL_CODES = ""


def _by_fallback() -> Q:
    return Q(route__in=engines.fallbacks(), conversation__channel__kind="official")


@dataclass(frozen=True, slots=True)
class Share:
    """How many messages of a period went by the fallback, and how many there were."""

    fallback: int
    total: int

    @property
    def share(self) -> float:
        return self.fallback / self.total if self.total else 0.0


_EMPTY = Share(0, 0)


def is_anomalous(recent: Share, before: Share, *, was_anomalous: bool) -> bool:
    """Return whether the alert should be active. Pure.

    It starts at MIN_MESSAGES fallbacks or more that are at least MIN_SHARE of the recent messages,
    MIN_INCREASE above the previous day's share, and MIN_RATIO times that share or closer to 1 than
    to it. It ends below END_FALLBACKS or END_SHARE.
    """
    if was_anomalous:
        return recent.fallback >= END_FALLBACKS and recent.share >= END_SHARE
    usual = before.share
    return (
        recent.fallback >= MIN_MESSAGES
        and recent.share >= max(MIN_SHARE, usual + MIN_INCREASE)
        and recent.share >= min(MIN_RATIO * usual, (1 + usual) / 2)
    )


def check_fallback_shares() -> None:
    """Open and close the incidents about shares of fallbacks, overall and for each code.

    Codes are checked one by one because frequent fallbacks for one reason would hide those for a
    new one. While the overall incident is open, it also covers the codes.
    """
    now = timezone.now()
    open_codes: dict[int, set[str]] = defaultdict(set)
    for incident in incidents.current().filter(kind=Incident.Kind.FALLBACKS):
        open_codes[incident.connection.channel_id].add(incident.code)
    falling_back = Q(kind=Provider.OFFICIAL, pk__in=FallbackRoute.objects.values("channel"))
    for channel in Channel.objects.filter(falling_back | Q(pk__in=open_codes)):
        latest, earlier = _recent_and_previous(channel, now)
        known = open_codes[channel.pk]
        # The overall incident ("") is checked first.
        for code in sorted({_ALL_CODES, *latest, *known}):
            was, share = code in known, latest.get(code, replace(latest[_ALL_CODES], fallback=0))
            if not was and _ALL_CODES in known:
                continue
            is_now = is_anomalous(share, earlier.get(code, _EMPTY), was_anomalous=was)
            if is_now == was:
                continue
            (known.add if is_now else known.discard)(code)
            detail = f"{share.fallback}/{share.total}"
            if code != _ALL_CODES:
                detail = f"{code}, {detail}"
            circuit_breaker.record_fallback_share(
                Connection.objects.stored(channel, channel.kind),
                is_anomalous=is_now,
                detail=detail,
                code=code,
            )


def _recent_and_previous(
    channel: Channel, now: dt.datetime
) -> tuple[dict[str, Share], dict[str, Share]]:
    since = now - RECENT
    recent = _shares(channel, since, now)
    if recent[_ALL_CODES].total < MIN_MESSAGES:
        latest_of_day = _accepted_attempts(channel, now - DAY, now).order_by("-started_at")
        since = [since, *latest_of_day.values_list("started_at", flat=True)[:MIN_MESSAGES]][-1]
        recent = _shares(channel, since, now)
    return recent, _shares(channel, since - DAY, since)


def _accepted_attempts(
    channel: Channel, since: dt.datetime, until: dt.datetime
) -> QuerySet[DeliveryAttempt]:
    """Return the attempts for this channel that a provider accepted in that period.

    The time of sending counts, not of acceptance by Alterna: a message that Meta reports late as
    failed goes by the fallback much later.
    """
    return DeliveryAttempt.objects.filter(
        connection__in=_senders(channel),
        outcome=Outcome.ACCEPTED,
        started_at__gte=since,
        started_at__lt=until,
        message__conversation__channel=channel,
    ).order_by()


def _senders(channel: Channel) -> list[int]:
    """Return the connections that may have sent for this channel: the index begins with them."""
    # The own connection of another channel may be its fallback.
    of_others = Q(provider=F("channel__kind")) & ~Q(provider=Provider.OFFICIAL)
    senders = Connection.objects.filter(Q(channel=channel) | of_others)
    return list(senders.values_list("pk", flat=True))


def _shares(channel: Channel, since: dt.datetime, until: dt.datetime) -> dict[str, Share]:
    """Return the share of fallbacks by the code that caused them; "" is the total."""
    accepted = _accepted_attempts(channel, since, until)
    fallbacks = {_ALL_CODES: 0}
    counted = (
        accepted.exclude(connection__provider=Route.OFFICIAL)
        .values_list("message__error_code")
        .annotate(count=Count("id"))
    )
    for code, count in counted:
        for key in {_ALL_CODES, code}:
            fallbacks[key] = fallbacks.get(key, 0) + count
    # Most attempts are official ones. They are counted without their messages: an official
    # connection sends for no other channel.
    official = DeliveryAttempt.objects.filter(
        connection__channel=channel,
        connection__provider=Route.OFFICIAL,
        outcome=Outcome.ACCEPTED,
        started_at__gte=since,
        started_at__lt=until,
    )
    total = fallbacks[_ALL_CODES] + official.count()
    return {code: Share(count, total) for code, count in fallbacks.items()}


@dataclass(frozen=True, slots=True)
class Row:
    """Fallbacks of one channel for one reason. An empty code: the official API was skipped."""

    channel: str
    code: str
    hour: int
    day: int


def counts_by_code() -> list[Row]:
    """Return the number of fallbacks in the last hour and day, by channel and code."""
    now = timezone.now()
    counted = (
        _sent_messages(now - DAY)
        .filter(_by_fallback())
        .values("conversation__channel__name", "error_code")
        .annotate(day=Count("id"), hour=Count("id", filter=Q(created_at__gte=now - HOUR)))
        .order_by("-day", "conversation__channel__name", "error_code")
    )
    return [
        Row(row["conversation__channel__name"], row["error_code"], row["hour"], row["day"])
        for row in counted
    ]


def _sent_messages(since: dt.datetime) -> QuerySet[Message]:
    return Message.objects.filter(
        direction=Message.Direction.OUT, sent_outside=False, created_at__gte=since
    ).order_by()
