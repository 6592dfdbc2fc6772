"""What messages cost: by day, channel, template and Meta's category, as Meta reported it.

Meta charges for delivered messages and never reports an amount of money. An amount is estimated
only from the prices that the operator entered (`Rate`).
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db.models import Case, CharField, Count, F, Q, Value, When
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, TruncDate
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_app.models import Connection, Provider
from channels_app.providers.events import Receipt
from messaging.models import DeliveryAttempt, Rate

MAX_DAYS = 366
# Delivered messages within the window that are free, for each number and calendar month.
FREE_SERVICE_MESSAGES = 1000
CHARGED = "regular"


@dataclass(frozen=True, slots=True)
class Row:
    """The messages of one day with the same channel, template, category and kind of price.

    `type` is Meta's: regular, free_customer_service or free_entry_point. `messages` are those whose
    price Meta reported, `delivered` those of them that arrived. `price` is the estimate for these.
    """

    day: dt.date
    channel: int
    channel_name: str
    template: str
    category: str
    type: str
    messages: int
    delivered: int
    price: Decimal | None = None
    currency: str = ""

    @property
    def pricing(self) -> str:
        """Category and type as `DeliveryAttempt.pricing` has them."""
        return f"{self.category}:{self.type}"


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of the rows of a category, type and currency. `price`: of those with a price."""

    category: str
    type: str
    messages: int
    delivered: int
    price: Decimal | None
    currency: str

    @property
    def pricing(self) -> str:
        """Category and type as `DeliveryAttempt.pricing` has them."""
        return f"{self.category}:{self.type}"


@dataclass(frozen=True, slots=True)
class Period:
    """Days, both included, in the installation's time zone."""

    since: dt.date
    until: dt.date

    @classmethod
    def of(cls, since: dt.date | None, until: dt.date | None) -> Period:
        """Return the period; by default the current month. Raises ValidationError."""
        until = until or timezone.localdate()
        since = since or until.replace(day=1)
        if since > until:
            raise ValidationError({"until": _("The period ends before it begins.")})
        if (until - since).days >= MAX_DAYS:
            raise ValidationError({"since": _("At most one year.")})
        return cls(since, until)

    def bounds(self) -> tuple[dt.datetime, dt.datetime]:
        """Return its first moment, and the first one after it."""
        zone = timezone.get_current_timezone()
        days = (self.since, self.until + dt.timedelta(days=1))
        first, after = (dt.datetime.combine(day, dt.time.min, zone) for day in days)
        return first, after


def free_service_left(connection: Connection, now: dt.datetime) -> bool:
    """Return whether messages within the window are still free this month, by our own count.

    It is that of `count_service_messages`; no query.
    """
    is_counted = connection.service_month == timezone.localdate(now).replace(day=1)
    return not is_counted or connection.service_messages < FREE_SERVICE_MESSAGES


def count_service_messages() -> None:
    """Count the free messages that each official number has used this month.

    Nothing is counted beyond them.
    """
    since = timezone.localtime().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    month = since.date()
    used_up = Q(service_month=month, service_messages__gte=FREE_SERVICE_MESSAGES)
    official = Connection.objects.filter(provider=Provider.OFFICIAL).exclude(used_up)
    for pk in official.values_list("pk", flat=True):
        delivered = DeliveryAttempt.objects.filter(
            connection=pk,
            started_at__gte=since,
            pricing__startswith="service:",
            receipt__in=(Receipt.DELIVERED, Receipt.READ),
        )
        count = delivered[:FREE_SERVICE_MESSAGES].count()
        Connection.objects.filter(pk=pk).update(service_month=month, service_messages=count)


def rows(period: Period, *, channel: int | None = None) -> list[Row]:
    """Return what Meta charged for in the period, latest day first."""
    rates = _RateCard(Rate.objects.all())
    first, after = period.bounds()
    connections = Connection.objects.filter(provider=Provider.OFFICIAL)
    if channel is not None:
        connections = connections.filter(channel=channel)
    priced = DeliveryAttempt.objects.filter(
        connection__in=list(connections.values_list("pk", flat=True)),
        started_at__gte=first,
        started_at__lt=after,
    ).exclude(pricing="")
    counted = (
        priced.annotate(
            day=TruncDate("started_at"),
            template=Case(
                When(
                    message__type="template",
                    then=Coalesce(KeyTextTransform("name", "message__content"), Value("")),
                ),
                default=Value(""),
                output_field=CharField(),
            ),
            prefix=rates.prefix(),
            of_channel=F("connection__channel"),
            channel_name=F("connection__channel__name"),
        )
        .order_by()
        .values("day", "of_channel", "channel_name", "template", "pricing", "prefix")
        .annotate(
            messages=Count("pk"), delivered=Count("pk", filter=Q(receipt__in=("delivered", "read")))
        )
    )
    merged: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for found in counted:
        category, _separator, type_ = found["pricing"].partition(":")
        rate = rates.find(category, found["prefix"], found["day"]) if type_ == CHARGED else None
        row = Row(
            found["day"],
            found["of_channel"],
            found["channel_name"],
            found["template"],
            category,
            type_,
            found["messages"],
            found["delivered"],
            rate.price * found["delivered"] if rate else None,
            rate.currency if rate else "",
        )
        key = (row.day, row.channel, row.template, row.category, row.type, row.currency)
        merged[key].append(row)
    summed = [_sum(same) for same in merged.values()]
    return sorted(
        summed, key=lambda r: (-r.day.toordinal(), r.channel_name, r.category, r.template, r.type)
    )


def totals(found: Iterable[Row]) -> list[Total]:
    """Return the sums by category, type and currency."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in found:
        groups[(row.category, row.type, row.currency)].append(row)
    return [
        Total(
            category,
            type_,
            sum(row.messages for row in group),
            sum(row.delivered for row in group),
            _sum_of_prices(group),
            currency,
        )
        for (category, type_, currency), group in sorted(groups.items())
    ]


def _sum(group: Sequence[Row]) -> Row:
    first = group[0]
    return Row(
        first.day,
        first.channel,
        first.channel_name,
        first.template,
        first.category,
        first.type,
        sum(row.messages for row in group),
        sum(row.delivered for row in group),
        _sum_of_prices(group),
        first.currency,
    )


def _sum_of_prices(group: Sequence[Row]) -> Decimal | None:
    prices = [row.price for row in group if row.price is not None]
    return sum(prices, Decimal(0)) if prices else None


class _RateCard:
    """The prices that the operator entered."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._rates: dict[tuple[str, str], list[Rate]] = defaultdict(list)
        for rate in rates:
            self._rates[(rate.category, rate.prefix)].append(rate)
        # The longest first: a number belongs to the most specific one.
        prefixes = {prefix for _category, prefix in self._rates} - {""}
        self._prefixes = sorted(prefixes, key=len, reverse=True)

    def prefix(self) -> Case:
        """Return the longest prefix of the recipient's number that has a price, as a query."""
        number = "message__conversation__contact__phone_number__startswith"
        cases = [When(**{number: prefix}, then=Value(prefix)) for prefix in self._prefixes]
        return Case(*cases, default=Value(""), output_field=CharField())

    def find(self, category: str, prefix: str, day: dt.date) -> Rate | None:
        """Return the price of a category on a day, None if there is none."""
        shorter = [one for one in self._prefixes if prefix.startswith(one)]
        for candidate in (*shorter, ""):
            valid = [r for r in self._rates[(category, candidate)] if r.valid_from <= day]
            if valid:
                return max(valid, key=lambda rate: rate.valid_from)
        return None
