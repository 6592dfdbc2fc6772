"""What pages and programs read: lists, pages of messages, the day's figures."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import (
    Count,
    F,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    prefetch_related_objects,
)
from django.db.models.functions import Coalesce
from django.utils import timezone

from channels_app import extensions
from channels_app.incidents import incidents
from channels_app.models import Channel, Incident
from messaging.delivery import fallback_rate, statuses
from messaging.live import publisher
from messaging.models import CallAttempt, Conversation, DeliveryAttempt, InboundEvent, Message

NEEDS_A_PERSON = (statuses.Status.REJECTED, statuses.Status.UNCONFIRMED)


def messages() -> QuerySet[Message]:
    """Messages with all that a bubble or a REST answer shows, in a fixed number of queries."""
    return Message.objects.select_related(
        "conversation__channel",
        "conversation__contact",
        "created_by",
        "reply_to",
        "echo_of",
        "media",
    ).prefetch_related(
        Prefetch(
            "attempts",
            DeliveryAttempt.objects.order_by("number").select_related("channel", "confirmed_by"),
        )
    )


def as_accepted(message: Message) -> Message:
    """Return a message that was accepted just now as `messages()` would, without asking again.

    It had no attempts when it was stored; what a worker has begun since is for the next reader.
    """
    prefetch_related_objects([message], Prefetch("attempts", DeliveryAttempt.objects.none()))
    return message


def calls() -> QuerySet[CallAttempt]:
    """Calls with all that is shown of them, latest first."""
    return CallAttempt.objects.select_related("channel", "created_by", "conversation__contact")


def awaiting_confirmation() -> QuerySet[Message]:
    """Messages that may have been sent and of which only a person can say more, oldest first."""
    return (
        messages()
        .filter(status=statuses.Status.UNCONFIRMED, next_attempt_at__isnull=True)
        .exclude(decision="")
        .order_by("created_at", "id")
    )


def conversation_list(
    *, search: str = "", channel: int | None = None, attention: bool = False
) -> QuerySet[Conversation]:
    """Conversations, latest first; each has the ids of what came last: `latest_id` and `call_id`.

    `attention` keeps those with a message that only a person can help. Call `with_latest` on the
    page that is shown.
    """
    newest = Message.objects.filter(conversation=OuterRef("pk")).order_by("-created_at", "-id")
    called = CallAttempt.objects.filter(conversation=OuterRef("pk"), incoming=True)
    found = Conversation.objects.select_related("channel", "contact").annotate(
        latest_id=Subquery(newest.values("id")[:1]),
        call_id=Subquery(called.order_by("-created_at", "-id").values("id")[:1]),
    )
    if search:
        digits = "".join(filter(str.isdigit, search))
        match = Q(contact__name__icontains=search)
        if digits:
            match |= Q(contact__phone_number__contains=digits)
        found = found.filter(match)
    if channel is not None:
        found = found.filter(channel_id=channel)
    if attention:
        found = found.filter(pk__in=_attention().values("conversation_id"))
    return found.order_by(F("last_message_at").desc(nulls_last=True), "-id")


def conversations_for_programs() -> QuerySet[Conversation]:
    """Conversations with `sort_at`, which is never empty, for cursor pages."""
    return Conversation.objects.select_related("channel", "contact").annotate(
        sort_at=Coalesce("last_message_at", "created_at")
    )


def with_latest(conversations: Sequence[Conversation]) -> list[Conversation]:
    """Give each conversation its last message as `latest`, and the customer's call after it.

    `latest` and `latest_call` are None where there is none.
    """
    rows: Sequence[Any] = conversations
    latest = messages().in_bulk([row.latest_id for row in rows if row.latest_id])
    called = calls().in_bulk([row.call_id for row in rows if row.call_id])
    for row in rows:
        row.latest, call = latest.get(row.latest_id), called.get(row.call_id)
        later = call and (row.latest is None or call.created_at > row.latest.created_at)
        row.latest_call = call if later else None
    return list(conversations)


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Some messages, oldest first, whether there are older ones, and the calls among them."""

    messages: list[Message]
    has_older: bool
    calls: list[CallAttempt] = field(default_factory=list)

    @property
    def entries(self) -> list[Message | CallAttempt]:
        """Messages and calls, oldest first."""
        entries: list[Message | CallAttempt] = [*self.messages, *self.calls]
        return sorted(entries, key=lambda entry: entry.created_at)


def message_page(
    conversation: Conversation, *, before: uuid.UUID | None = None, limit: int = 40
) -> MessagePage:
    """Return the messages just before the one with the id `before`, or the newest ones.

    An unknown `before` gives an empty page.
    """
    found = messages().filter(conversation=conversation)
    called = calls().filter(conversation=conversation)
    if before is not None:
        anchor = conversation.messages.filter(pk=before).first()
        if anchor is None:
            return MessagePage([], has_older=False)
        found = found.filter(
            Q(created_at__lt=anchor.created_at) | Q(created_at=anchor.created_at, id__lt=before)
        )
        called = called.filter(created_at__lt=anchor.created_at)
    newest_first = list(found.order_by("-created_at", "-id")[: limit + 1])
    has_older = len(newest_first) > limit
    shown = newest_first[:limit][::-1]
    if has_older:
        called = called.filter(created_at__gte=shown[0].created_at)
    return MessagePage(shown, has_older, list(called))


def mark_read(conversation: Conversation) -> None:
    """Forget how many received messages nobody had seen."""
    unread = Conversation.objects.filter(pk=conversation.pk, unread_count__gt=0)
    if unread.update(unread_count=0):
        publisher.publish(publisher.INBOX, conversations=conversation.pk)


def skipped_events() -> dict[str, int]:
    """Count the received events that were not read whole, by what was left, most first."""
    left = InboundEvent.objects.exclude(skipped="").order_by()
    counted = left.values_list("skipped").annotate(n=Count("id"))
    return dict(counted.order_by("-n", "skipped"))


@dataclass(frozen=True, slots=True)
class Dashboard:
    counts: dict[str, int]
    by_fallback_today: int
    attention: list[Message]
    conversations: list[Conversation]
    channels: list[Channel]
    held: int
    alarms: list[Incident]
    fallbacks: list[fallback_rate.Row]
    set_aside: int
    unknown: int
    # Events of sessions and numbers that no channel has.
    of_no_channel: int


def dashboard() -> Dashboard:
    """Return the figures of the local day and what needs a person, newest first."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    today = Message.objects.filter(direction=Message.Direction.OUT, created_at__gte=midnight)
    counted = {row["status"]: row["n"] for row in today.values("status").annotate(n=Count("id"))}
    sent = (statuses.Status.SENT, statuses.Status.DELIVERED, statuses.Status.READ)
    return Dashboard(
        counts={status.value: counted.get(status.value, 0) for status in statuses.Status},
        by_fallback_today=today.filter(
            status__in=sent, route__in=(statuses.Route.WWEBJS, statuses.Route.BAILEYS)
        ).count(),
        attention=list(
            messages().filter(pk__in=_attention().values("pk")).order_by("-created_at")[:10]
        ),
        conversations=with_latest(list(conversation_list()[:8])),
        channels=list(extensions.channels()),
        held=awaiting_confirmation().count(),
        alarms=list(incidents.alertable()),
        fallbacks=fallback_rate.counts_by_code()[:10],
        set_aside=InboundEvent.objects.filter(state=InboundEvent.State.SET_ASIDE).count(),
        # Groups, channels and their like are left on purpose: these are not known at all.
        unknown=InboundEvent.objects.filter(
            Q(skipped__startswith="event:") | Q(skipped__startswith="field:")
        ).count(),
        of_no_channel=InboundEvent.objects.filter(skipped__contains="unknown_channel").count(),
    )


def _attention(days: int = 14) -> QuerySet[Message]:
    """Recent messages that were not sent for certain and that nothing will be done about."""
    since = timezone.now() - dt.timedelta(days=days)
    return Message.objects.filter(
        status__in=NEEDS_A_PERSON, next_attempt_at__isnull=True, created_at__gte=since
    ).exclude(decision="")
