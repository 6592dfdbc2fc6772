"""Queries for pages and the API: lists, pages of messages, the day's figures."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db.models import (
    Count,
    Exists,
    F,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    prefetch_related_objects,
)
from django.db.models.functions import Coalesce, Lower
from django.db.models.lookups import Contains
from django.utils import timezone

from channels_app import extensions
from channels_app.incidents import incidents
from channels_app.models import Channel, Incident
from channels_app.providers import addresses, engines
from channels_app.providers.addresses import Kind
from core import phone_numbers, search_text
from messaging.delivery import fallback_share, policy, statuses
from messaging.inbox import notes
from messaging.inbox import search as full_text
from messaging.live import publisher
from messaging.models import (
    HAS_ASSIGNEE,
    NEEDS_A_PERSON,
    STOPPED,
    CallAttempt,
    Contact,
    ContactAddress,
    Conversation,
    DeliveryAttempt,
    InboundEvent,
    Label,
    Media,
    Message,
    Note,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import User

REFUSED_FOR_GOOD = ("never_fall_back", "opted_out")
LATEST_FIRST = (F("last_message_at").desc(nulls_last=True), F("id").desc())


def messages() -> QuerySet[Message]:
    """Return messages with all that a bubble or a REST response shows, in a fixed number of
    queries.
    """
    return Message.objects.select_related(
        "conversation__channel",
        "conversation__contact",
        "created_by",
        "reply_to__media",
        "reply_to__created_by",
        "echo_of",
        "media",
    ).prefetch_related(
        "conversation__channel__fallback_routes",
        Prefetch(
            "attempts",
            DeliveryAttempt.objects.order_by("number").select_related(
                "connection__channel", "confirmed_by"
            ),
        ),
    )


def as_accepted(message: Message) -> Message:
    """Return a newly accepted message as `messages()` would, without another query.

    It had no attempts when it was stored; attempts that a worker has started since are ignored.
    """
    prefetch_related_objects([message], Prefetch("attempts", DeliveryAttempt.objects.none()))
    return message


def calls() -> QuerySet[CallAttempt]:
    """Return calls with everything that is shown of them, latest first."""
    return CallAttempt.objects.select_related("channel", "created_by", "conversation__contact")


def awaiting_confirmation() -> QuerySet[Message]:
    """Return messages that may have been sent and need a person's decision, oldest first."""
    unconfirmed = messages().filter(STOPPED, status=statuses.Status.UNCONFIRMED)
    return unconfirmed.order_by("created_at", "id")


def conversation_list(
    *,
    search: str = "",
    channel: int | None = None,
    attention: bool | None = None,
    unread: bool | None = None,
    assignee: int | None = None,
    unassigned: bool = False,
    team: int | None = None,
    status: str = "",
    label: str = "",
    mentioning: User | None = None,
    unassigned_first: bool = False,
    in_messages: bool = True,
) -> QuerySet[Conversation]:
    """Return the rows of conversations, latest first: call `with_latest` on the displayed page.

    The filters combine. `search`: the contact, or one of the newest messages with the words
    (`inbox.search`) in the conversations that the other filters leave, unless `in_messages` is
    False. `attention`: a message needs a person; it and `unread` may be False, too.
    `assignee` and `team` are ids; `unassigned`: nobody has it; `label`: a name in any case.
    `mentioning`: a note that this person has not seen mentions them. With `unassigned_first` those
    that nobody has come before all others.
    """
    conversations = everything = Conversation.objects.all()
    if channel is not None:
        conversations = conversations.filter(channel_id=channel)
    if attention is not None:
        needy = Q(pk__in=_needs_attention().values("conversation_id"))
        conversations = conversations.filter(needy if attention else ~needy)
    if unread is not None:
        some = Q(unread_count__gt=0)
        conversations = conversations.filter(some if unread else ~some)
    if assignee is not None:
        conversations = conversations.filter(assignee_id=assignee)
    if unassigned:
        conversations = conversations.filter(assignee=None)
    if team is not None:
        conversations = conversations.filter(team_id=team)
    if status:
        conversations = conversations.filter(status=status)
    if label:
        labels = Label.objects.annotate(lower_name=Lower("name"))
        named = labels.filter(lower_name=label.strip().lower())
        conversations = conversations.filter(labels__in=named.values("pk"))
    if mentioning is not None:
        mentions = set(notes.mentioning(mentioning).values())
        conversations = conversations.filter(pk__in=mentions)
    if search:
        among = None if conversations is everything else conversations
        by_contact = Conversation.objects.filter(contact__in=_contacts_matching(search))
        written = full_text.conversations_with(search, among) if in_messages else []
        by_message = Conversation.objects.filter(pk__in=written)
        # A union, because no index serves a condition with OR.
        found = by_contact.order_by().values("pk").union(by_message.order_by().values("pk"))
        conversations = conversations.filter(pk__in=found)
    order = (HAS_ASSIGNEE, *LATEST_FIRST) if unassigned_first else LATEST_FIRST
    return conversations.order_by(*order)


def _contacts_matching(search: str) -> QuerySet[Contact]:
    """Return the contacts whose name, username or id contains the text, or a number its digits.

    A complete number is found in any spelling. Accents and case make no difference.
    """
    digits = "".join(filter(str.isdigit, search))
    wanted = search.strip()
    numbers = Q(kind=Kind.PHONE) & full_text.containing(
        Q(value__contains=digits), F("value"), digits
    )
    by_address = numbers if digits else Q(pk__in=[])
    by_address |= Q(key__in=_as_keys(wanted))
    return Contact.objects.filter(
        Q(pk__in=_named_like("name", wanted))
        | Q(pk__in=_named_like("username", wanted.removeprefix("@")))
        | Q(pk__in=ContactAddress.objects.filter(by_address).values("contact"))
    )


def _named_like(field: str, text: str) -> QuerySet[Contact, Any]:
    folded, column = search_text.fold(text), full_text.Fold(F(field))
    if not folded:
        return Contact.objects.none().values("pk")
    match = full_text.containing(Q(Contains(column, folded)), column, folded)
    return Contact.objects.filter(match).values("pk")


def _as_keys(text: str) -> list[str]:
    """Return the keys of the address that this text is, if it is one."""
    try:
        return [phone_numbers.key(phone_numbers.normalize(text))]
    except ValueError:
        address = addresses.parse(text)
        return [address.key] if address else []


def conversations_for_programs() -> QuerySet[Conversation]:
    """Return conversations with `sort_at`, which is never null, for cursor pagination."""
    conversations = Conversation.objects.select_related("channel", "contact")
    return conversations.prefetch_related(
        "contact__addresses", "channel__fallback_routes", "labels"
    ).annotate(sort_at=Coalesce("last_message_at", "created_at"))


def conversations_of(contact: Contact) -> QuerySet[Conversation]:
    """Return the conversations with a contact, latest first."""
    found = Conversation.objects.select_related("channel").filter(contact=contact)
    return found.order_by(*LATEST_FIRST)


def latest_pictures(conversation: Conversation, *, limit: int) -> list[Message]:
    """Return the latest messages of a conversation with a stored picture, latest first."""
    found = conversation.messages.filter(
        media__state=Media.State.STORED, type__in=("image", "sticker"), revoked_at=None
    )
    return list(found.select_related("media").order_by("-created_at", "-id")[:limit])


def latest_refusal(conversation: Conversation) -> Message | None:
    """Return the latest answer if it was refused for good: the customer blocked us or opted out."""
    sent = conversation.messages.filter(direction=Message.Direction.OUT)
    sent = sent.exclude(decision=policy.WAITING_SCHEDULE)
    latest = sent.order_by("-created_at", "-id").first()
    return latest if latest is not None and latest.decision in REFUSED_FOR_GOOD else None


def scheduled(conversation: Conversation) -> QuerySet[Message]:
    """Return the messages that are sent at a chosen time, the next one first."""
    waiting = conversation.messages.filter(decision=policy.WAITING_SCHEDULE)
    return waiting.select_related("created_by", "media").order_by("send_at", "id")


def with_latest(
    conversations: QuerySet[Conversation] | Sequence[Conversation],
) -> list[Conversation]:
    """Return the conversations of a page, in their order, with all that a list shows of them.

    `latest` is the last message, `latest_call` a later call from the customer; None without one.
    `needs_person`: one of its messages does. `has_sibling`: its contact has another conversation.
    """
    if isinstance(conversations, QuerySet):
        return with_latest_of(list(conversations.values_list("pk", flat=True)))
    return with_latest_of([row.pk for row in conversations])


def with_latest_of(ids: Sequence[int]) -> list[Conversation]:
    """Return what `with_latest` does for these conversations."""
    newest = Message.objects.filter(conversation=OuterRef("pk")).order_by("-created_at", "-id")
    # A scheduled message has a time in the future.
    newest = newest.exclude(decision=policy.WAITING_SCHEDULE)
    called = CallAttempt.objects.filter(conversation=OuterRef("pk"), incoming=True)
    siblings = Conversation.objects.filter(contact=OuterRef("contact")).exclude(pk=OuterRef("pk"))
    shown = Conversation.objects.select_related("channel", "contact", "assignee", "team")
    complete = shown.prefetch_related("labels").annotate(
        latest_id=Subquery(newest.values("id")[:1]),
        call_id=Subquery(called.order_by("-created_at", "-id").values("id")[:1]),
        needs_person=Exists(_needs_attention().filter(conversation=OuterRef("pk"))),
        has_sibling=Exists(siblings),
    )
    by_id: dict[int, Any] = complete.in_bulk(ids)
    rows = [by_id[pk] for pk in ids if pk in by_id]
    latest = messages().in_bulk([row.latest_id for row in rows if row.latest_id])
    incoming = calls().in_bulk([row.call_id for row in rows if row.call_id])
    for row in rows:
        row.latest, call = latest.get(row.latest_id), incoming.get(row.call_id)
        later = call and (row.latest is None or call.created_at > row.latest.created_at)
        row.latest_call = call if later else None
    return rows


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Messages, oldest first, the calls and notes among them, and what is before and after them."""

    messages: list[Message]
    has_older: bool
    calls: list[CallAttempt] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    has_newer: bool = False

    @property
    def entries(self) -> list[Message | CallAttempt | Note]:
        """Messages, calls and notes, oldest first."""
        entries: list[Message | CallAttempt | Note] = [*self.messages, *self.calls, *self.notes]
        return sorted(entries, key=lambda entry: entry.created_at)


def message_page(
    conversation: Conversation,
    *,
    before: uuid.UUID | None = None,
    since: uuid.UUID | None = None,
    limit: int = 40,
    with_notes: bool = False,
) -> MessagePage:
    """Return the messages just before the one with the id `before`, or the newest ones.

    With `since` they are that message and those that follow it. An unknown id returns an empty
    page. Notes only if `with_notes`: they need a permission of their own.
    """
    page = messages().filter(conversation=conversation)
    called = calls().filter(conversation=conversation)
    noted = notes.of(conversation.pk) if with_notes else Note.objects.none()
    beside: list[QuerySet[Any]] = [called, noted]
    if since is not None:
        return _page_from(page, beside, since, limit)
    if before is not None:
        anchor = conversation.messages.filter(pk=before).first()
        if anchor is None:
            return MessagePage([], has_older=False)
        page = page.filter(
            Q(created_at__lt=anchor.created_at) | Q(created_at=anchor.created_at, id__lt=before)
        )
        beside = [rows.filter(created_at__lt=anchor.created_at) for rows in beside]
    newest_first = list(page.order_by("-created_at", "-id")[: limit + 1])
    has_older = len(newest_first) > limit
    shown = newest_first[:limit][::-1]
    if has_older:
        beside = [rows.filter(created_at__gte=shown[0].created_at) for rows in beside]
    shown_calls, shown_notes = map(list, beside)
    is_newest = before is None
    return MessagePage(shown, has_older, shown_calls, shown_notes, has_newer=not is_newest)


def _page_from(
    page: QuerySet[Message], beside: list[QuerySet[Any]], since: uuid.UUID, limit: int
) -> MessagePage:
    first = page.filter(pk=since).first()
    if first is None:
        return MessagePage([], has_older=False)
    later = Q(created_at__gt=first.created_at) | Q(created_at=first.created_at, id__gte=since)
    oldest_first = list(page.filter(later).order_by("created_at", "id")[: limit + 1])
    has_newer = len(oldest_first) > limit
    beside = [rows.filter(created_at__gte=first.created_at) for rows in beside]
    if has_newer:
        beside = [rows.filter(created_at__lt=oldest_first[limit].created_at) for rows in beside]
    has_older = page.exclude(later).exists()
    shown_calls, shown_notes = map(list, beside)
    shown = oldest_first[:limit]
    return MessagePage(shown, has_older, shown_calls, shown_notes, has_newer=has_newer)


def first_message_of(conversation: Conversation, day: dt.date) -> Message | None:
    """Return the first message of a day of the current time zone or after it, for a jump to it."""
    midnight = timezone.make_aware(dt.datetime.combine(day, dt.time.min))
    found = conversation.messages.filter(created_at__gte=midnight)
    return found.order_by("created_at", "id").first()


def mark_read(conversation: Conversation) -> None:
    """Reset the conversation's unread count."""
    unread = Conversation.objects.filter(pk=conversation.pk, unread_count__gt=0)
    if unread.update(unread_count=0):
        publisher.publish(publisher.INBOX, conversations=conversation.pk)


def skipped_events() -> dict[str, int]:
    """Count the events that were not fully processed, by skipped kind, most frequent first."""
    skipped = InboundEvent.objects.exclude(skipped="").order_by()
    counted = skipped.values_list("skipped").annotate(n=Count("id"))
    return dict(counted.order_by("-n", "skipped"))


@dataclass(frozen=True, slots=True)
class Skipped:
    """How many events were skipped because this version does not know them, and their kinds.

    Groups, newsletters etc. are skipped on purpose (`by_rule`): their kinds have no colon.
    `of_no_channel` counts those of sessions and numbers that belong to no channel.
    """

    unknown: int
    kinds: list[tuple[str, int]]
    by_rule: list[tuple[str, int]]
    of_no_channel: int


def skipped() -> Skipped:
    """Return what was skipped, the most frequent kinds first."""
    unknown = of_no_channel = 0
    kinds: Counter[str] = Counter()
    by_rule: Counter[str] = Counter()
    for combined, n in skipped_events().items():
        named = combined.split(", ")
        unknown += n if ":" in combined else 0
        of_no_channel += n if "unknown_channel" in named else 0
        for kind in named:
            (kinds if ":" in kind else by_rule)[kind] += n
    del by_rule["unknown_channel"]
    return Skipped(unknown, kinds.most_common(12), by_rule.most_common(12), of_no_channel)


@dataclass(frozen=True, slots=True)
class Dashboard:
    counts: dict[str, int]
    by_fallback_today: int
    attention: list[Message]
    conversations: list[Conversation]
    channels: list[Channel]
    held: int
    alarms: list[Incident]
    fallbacks: list[fallback_share.Row]
    set_aside: int
    skipped: Skipped


def dashboard() -> Dashboard:
    """Return the figures of the local day and the items that need a person, newest first."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    today = Message.objects.filter(direction=Message.Direction.OUT, created_at__gte=midnight)
    counts = {status.value: 0 for status in statuses.Status}
    by_fallback = 0
    sent = (statuses.Status.SENT, statuses.Status.DELIVERED, statuses.Status.READ)
    for status, route, n in today.values_list("status", "route").annotate(n=Count("id")).order_by():
        counts[status] += n
        if status in sent and route in engines.fallbacks():
            by_fallback += n
    return Dashboard(
        counts=counts,
        by_fallback_today=by_fallback,
        attention=_latest_needing_attention(10),
        conversations=with_latest(conversation_list()[:8]),
        channels=list(extensions.channels()),
        held=awaiting_confirmation().count(),
        alarms=incidents.alert_lines(),
        fallbacks=fallback_share.counts_by_code()[:10],
        set_aside=InboundEvent.objects.filter(state=InboundEvent.State.SET_ASIDE).count(),
        skipped=skipped(),
    )


def _needs_attention(days: int = 14) -> QuerySet[Message]:
    """Return recent messages that were not sent, or may not have been, and are not retried."""
    since = timezone.now() - dt.timedelta(days=days)
    return Message.objects.filter(NEEDS_A_PERSON, created_at__gte=since)


def _latest_needing_attention(limit: int) -> list[Message]:
    # Two queries: PostgreSQL reorders at most eight tables (join_collapse_limit). In one query it
    # would join all messages to the others before it selects these.
    newest = _needs_attention().order_by("-created_at", "-id").values_list("pk", flat=True)[:limit]
    return list(messages().filter(pk__in=list(newest)).order_by("-created_at", "-id"))
