"""Apply events: create contacts and messages, and record receipts."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hmac import compare_digest
from typing import Any

from django.db.models import F, Q, QuerySet
from django.utils import timezone

from channels_app.connections import records
from channels_app.models import Channel, Provider
from channels_app.providers import addresses, engines
from channels_app.providers.base import Rejected, SendError
from channels_app.providers.cloud.client import UPLOAD_GONE
from channels_app.providers.contents import UNKNOWN, UNSUPPORTED, WAITING
from channels_app.providers.events import (
    AccountEvent,
    AddressBookEvent,
    AddressEvent,
    CallEvent,
    ContactEvent,
    EditEvent,
    Event,
    Failure,
    GroupEvent,
    MediaEvent,
    MessageEvent,
    PreferenceEvent,
    ReactionEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
    SessionEvent,
    TemplateEvent,
    VoteEvent,
)
from channels_app.providers.message_keys import WAMID, keys_of, message_key
from messaging import calls, contacts, control, names, pictures, sequence, words
from messaging.delivery import attempts, statuses
from messaging.delivery.statuses import Route, Status
from messaging.inbound import account, amendments, answers, echoes, pending_events, skips
from messaging.inbound.amendments import Amendment
from messaging.inbox import work
from messaging.live import publisher
from messaging.media import files
from messaging.models import (
    Contact,
    Conversation,
    DeliveryAttempt,
    InboundEvent,
    Message,
)

# A younger message is never history, unless the provider says so for certain.
HISTORY_AGE = dt.timedelta(minutes=2)
# Registered by higher layers that know when a channel's phone was linked (see instances.apps):
# functions that return the end of a channel's history, or None if it is unknown.
HISTORY_ENDS: list[Callable[[Channel], dt.datetime | None]] = []


# Without a readable time they have the time at which the event was received.
_DATED = (MessageEvent, AccountEvent, AddressBookEvent, ContactEvent)


def parse(event: InboundEvent) -> Iterable[Event]:
    """Return the neutral events of a stored event."""
    for item in engines.event_source(event.source).parse(event.payload):
        if isinstance(item, _DATED) and item.at is None:
            yield replace(item, at=event.received_at)
        elif isinstance(item, EditEvent | RevokeEvent):
            yield replace(item, reported_in=event.pk)
        else:
            yield item


def apply(event: InboundEvent, channels: Mapping[str, Channel]) -> dict[str, int]:
    """Apply everything that a stored event contains. Returns the number of items by kind.

    `channels` comes from `channels_of`. Applying an event twice has no further effect. The caller
    holds a transaction.
    """
    return apply_events(parse(event), channels)


def apply_events(events: Iterable[Event], channels: Mapping[str, Channel]) -> dict[str, int]:
    """Apply some of the neutral events of a stored event; see `apply`."""
    counts: Counter[str] = Counter()
    for item in events:
        kind = type(item).__name__
        concerned = _concerned(item, channels)
        if handler := HANDLERS.get(type(item)):
            skipped_as = "" if concerned else "unknown_channel"
            for channel in concerned:
                skipped_as = handler(channel, item) or ""
            counts[skipped_as or kind] += 1
        elif concerned or not item.channel_key:
            # A kind without a handler has a name, whether it names a number or not.
            counts[getattr(item, "kind", kind)] += 1
        else:
            counts["unknown_channel"] += 1
    return dict(counts)


def _concerned(item: Event, channels: Mapping[str, Channel]) -> Sequence[Channel]:
    """Return the channels that an event concerns: one, or all of an account."""
    if isinstance(item, AccountEvent | TemplateEvent) and not item.channel_key:
        return channels.of_account(item) if isinstance(channels, _ChannelsOfApp) else ()
    channel = channels.get(item.channel_key)
    return () if channel is None else (channel,)


def skipped(counts: Mapping[str, int]) -> str:
    """Return the kinds that `apply` skipped: unknown kinds, and items of unknown channels."""
    return skips.listed(kind for kind in counts if not kind.endswith("Event"))


def channels_of(source: str, source_key: str) -> Mapping[str, Channel]:
    """Return the channels that a source's events may concern, by the provider's key.

    The source key is the channel whose secret authenticated the event. A Cloud event may concern
    every channel of the same app, because the app's secret signed it; a wwebjs event every channel
    of the same server; any other event only its own channel.
    """
    authenticated = Channel.objects.select_related("cloud").filter(pk=source_key).first()
    if authenticated is None:
        return {}
    if source == InboundEvent.Source.CLOUD:
        return _ChannelsOfApp(authenticated)
    if source == InboundEvent.Source.WWEBJS:
        return wwebjs_channels(authenticated)
    return {engines.event_source(source).channel_key(authenticated): authenticated}


def wwebjs_channels(channel: Channel) -> dict[str, Channel]:
    """Return the channels on this channel's wwebjs-api server, by session name.

    Only channels with the same API key are included. If several have the same session, this
    channel takes precedence, then the oldest.
    """
    others = (
        Channel.objects.filter(
            fallback_routes__connection__provider=Provider.WWEBJS,
            wwebjs_api__url=channel.wwebjs_url,
        )
        .select_related("wwebjs_api")
        .order_by("-pk")
    )
    key = channel.wwebjs_api_key.encode()
    same_key = [other for other in others if compare_digest(other.wwebjs_api_key.encode(), key)]
    return {one.wwebjs_session_id: one for one in (*same_key, channel)}


class _ChannelsOfApp(Mapping[str, Channel]):
    """The channels that share an app secret, each loaded when an event first names it."""

    def __init__(self, channel: Channel) -> None:
        self._secret = channel.app_secret
        # An event that names no number belongs to no channel, not to one without a number.
        self._loaded: dict[str, Channel | None] = {channel.phone_number_id: channel, "": None}

    def __getitem__(self, phone_number_id: str) -> Channel:
        if phone_number_id not in self._loaded:
            official = Channel.objects.select_related("cloud").filter(kind=Provider.OFFICIAL)
            named = official.filter(cloud__phone_number_id=phone_number_id).first()
            same_app = phone_number_id and named is not None and named.app_secret == self._secret
            self._loaded[phone_number_id] = named if same_app else None
        if (channel := self._loaded[phone_number_id]) is None:
            raise KeyError(phone_number_id)
        return channel

    def of_account(self, event: AccountEvent | TemplateEvent) -> list[Channel]:
        """Return the channels with the number that the event names, or else those of its account.

        A channel that does not know its account may be one of any account of the app.
        """
        official = Channel.objects.select_related("cloud").filter(kind=Provider.OFFICIAL)
        same_app = [one for one in official.order_by("pk") if one.app_secret == self._secret]
        number = event.phone_number if isinstance(event, AccountEvent) else ""
        named = [one for one in same_app if number and _digits(one.phone_number) == number]
        if named or not event.account_id:
            return named
        known = [one for one in same_app if one.business_account_id == event.account_id]
        return known or [one for one in same_app if not one.business_account_id]

    def __iter__(self) -> Iterator[str]:
        return (key for key, channel in self._loaded.items() if channel is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _digits(number: str) -> str:
    return re.sub(r"\D", "", number)


def _apply_receipt(channel: Channel, event: ReceiptEvent) -> str | None:
    named = addresses.named(phone_number=event.phone_number, user_id=event.user_id, also=event.also)
    contacts.learn_pair(channel, named)
    if event.history and event.receipt == Receipt.FAILED:
        # It is long over: nothing is to be sent again.
        return None if _update_sent_outside(channel, event) else "status:history:failed"
    error = None
    if event.failure is not None:
        error = Rejected(event.failure.code, event.failure.title, event.failure.detail)
    attempt = attempts.find(
        channel_id=channel.pk,
        reference=event.reference,
        provider_message_id=event.provider_message_id,
    )
    if attempt is not None and _may_be_of_another_request(attempt, event):
        attempt = attempts.find(
            channel_id=channel.pk, reference="", provider_message_id=event.provider_message_id
        )
    if attempt is None and event.text and event.at is not None:
        attempt = attempts.find_unnamed(
            channel_id=channel.pk, phone_number=event.phone_number, text=event.text, at=event.at
        )
    # The official API's own messages have ids that no echo has.
    sent_outside = (attempt is None or attempt.route != Route.OFFICIAL) and _update_sent_outside(
        channel, event
    )
    if attempt is None and not sent_outside:
        pending_events.store_receipt(
            channel_id=channel.pk,
            provider_message_id=event.provider_message_id,
            receipt=event.receipt,
            error=error,
        )
    if attempt is None:
        return None
    attempts.record_receipt(
        attempt,
        event.receipt,
        provider_message_id=event.provider_message_id,
        error=error,
        pricing=event.pricing,
    )
    return None


def _update_sent_outside(channel: Channel, event: ReceiptEvent) -> bool:
    """Update the status of messages that were typed on the phone or sent by another system.

    Returns whether there is one with this id. An echo, which repeats a message of ours, has a
    status, too.
    """
    messages = list(
        _with_key(channel, event.provider_message_id)
        .filter(sent_outside=True)
        .select_for_update(of=("self",))
    )
    for message in messages:
        status = statuses.merge_status(Status(message.status), event.receipt)
        if status != message.status:
            error = _error_of(event.failure, status)
            announced = not event.history
            amendments.change(message, announced=announced, status=status.value, **error)
    return bool(messages)


def _error_of(failure: Failure | SendError | None, status: Status) -> dict[str, str]:
    error = failure if status == Status.REJECTED else None
    return {
        "error_code": error.code[:64] if error else "",
        "error_title": str(error.title)[:300] if error else "",
        "error_detail": error.detail if error else "",
    }


def _may_be_of_another_request(attempt: DeliveryAttempt, event: ReceiptEvent) -> bool:
    """Return whether the rejection may concern an earlier request of the same attempt.

    An attempt to send a file makes a second request if Meta's copy of the upload has expired, and
    Meta reports a rejection at once, by webhook, or both (docs/providers/cloud.md §2.1). Such a
    rejection concerns the message only if it names the accepted id; until that is known, it waits.
    """
    if not event.reference or event.failure is None or event.failure.code not in UPLOAD_GONE:
        return False
    other = event.provider_message_id != attempt.provider_message_id
    return other and attempt.message.media_id is not None


def _apply_message(channel: Channel, event: MessageEvent) -> str | None:
    if channel.ignore_groups and addresses.is_group(event.user_id):
        return "group"
    return _store_message(channel, event)


def _store_message(channel: Channel, event: MessageEvent) -> str | None:
    at = event.at or timezone.now()
    pending_events.lock_id(channel.pk, event.provider_message_id)
    original = None
    if event.outgoing:
        echo = echoes.match_attempt(channel, event)
        if echo.own_event:
            return None
        if channel.ignore_messages_sent_outside:
            # What only repeats a message of ours is not missing anywhere.
            return "sent_outside" if echo.attempt is None else None
        original = echo.attempt.message if echo.attempt is not None else None
    known = _with_key(channel, event.provider_message_id)
    if stored := known.values_list("pk", "type", "context", "provider_message_id").first():
        named = addresses.named(
            phone_number=event.phone_number, user_id=event.user_id, also=event.also
        )
        contacts.learn_pair(channel, named)
        pk, type_, context, stored_id = stored
        _fill(channel, event, pk, type_, context)
        if context.get("imported") and not event.history and not event.outgoing:
            _note_arrival(channel, event, pk)
        elif event.provider_message_id.startswith(WAMID) and not (
            stored_id.startswith(WAMID) or event.outgoing or event.history
        ):
            _note_official(channel, event, pk)
        return None
    if (
        original is not None
        and original.conversation.channel_id == channel.pk
        and echoes.is_to_unknown_lid(event)
    ):
        # The content has identified the send, but a content proves no pair of addresses.
        conversation = contacts.lock_conversation(original.conversation)
    else:
        conversation = contacts.lock_conversation_with(
            channel,
            phone_number=event.phone_number,
            user_id=event.user_id,
            also=event.also,
            name=event.name,
            username=event.username,
            is_current=not event.history,
            at=min(at, timezone.now()),
            former=event.former,
        )
    if event.outgoing and echoes.is_duplicate(conversation, event, original):
        return None
    message = Message(
        conversation=conversation,
        direction=Message.Direction.OUT if event.outgoing else Message.Direction.IN,
        type=event.type,
        text=event.text,
        content=dict(event.content),
        provider_message_id=event.provider_message_id,
        provider_chat=event.chat[:64],
        context=dict(event.context),
        sent_outside=event.outgoing,
        echo_of=original,
        # A fast clock would keep the message at the end of the conversation.
        created_at=sequence.place(conversation, min(at, timezone.now())),
        reply_to=_quoted(conversation, event.reply_to),
        media=files.create_pending(channel, _file_type(event), event.content, stored=event.stored),
    )
    is_history = _is_history(channel, event, at)
    if not is_history:
        answers.note_choice(channel, message)
    if event.outgoing:
        # The number's own phone has already sent it: there is nothing to deliver.
        message.status, message.route = Status.SENT, _outside_route(channel)
        _apply_pending_receipts(channel, message)
    message.save(force_insert=True)
    waiting = pending_events.take_amendments(
        channel.pk, event.provider_message_id, keep=event.outgoing and original is None
    )
    amendments.apply_waiting(message, waiting, channel=channel)
    Conversation.objects.filter(pk=conversation.pk).update(
        last_message_at=max(filter(None, [conversation.last_message_at, message.created_at])),
        **({} if is_history else _caused_by(channel, event, message, conversation, at)),
    )
    if not is_history:
        publisher.message_changed(message)
    return None


def _caused_by(
    channel: Channel,
    event: MessageEvent,
    message: Message,
    conversation: Conversation,
    at: dt.datetime,
) -> dict[str, Any]:
    """Return what a message that is not history changes of its conversation, which is locked."""
    changes = control.changes(conversation, event, min(at, timezone.now()))
    kind = words.kind_of(message.type, message.content)
    opens_window = kind.opens_window and _counts_for_window(channel, event.provider_message_id)
    if opens_window and not event.outgoing:
        latest = [conversation.last_inbound_at, message.created_at]
        changes["last_inbound_at"] = max(filter(None, latest))
    if kind.unread and not event.outgoing:
        changes["unread_count"] = F("unread_count") + 1
        changes |= work.reopening(conversation)
    return changes


def _counts_for_window(channel: Channel, provider_message_id: str) -> bool:
    """Return whether an event that names this message may open the channel's 24-hour window.

    Of an official channel, only Meta's own: a session may be that of another number
    (docs/providers/cloud.md §4.6).
    """
    return channel.kind != Provider.OFFICIAL or provider_message_id.startswith(WAMID)


def _note_official(channel: Channel, event: MessageEvent, pk: Any) -> None:
    """Note that Meta, too, has reported a customer's message that a session reported first."""
    found = Message.objects.select_related("conversation").get(pk=pk)
    conversation = contacts.lock_conversation(found.conversation)
    message = Message.objects.select_for_update().get(pk=pk)
    at = event.at or timezone.now()
    changes = _caused_by(channel, event, message, conversation, at)
    # It has been counted.
    changes.pop("unread_count", None)
    Conversation.objects.filter(pk=conversation.pk).update(
        last_message_at=conversation.last_message_at, **changes
    )
    # Meta's id contains that of the session, which can quote by either.
    amendments.change(message, provider_message_id=event.provider_message_id)


def _note_arrival(channel: Channel, event: MessageEvent, pk: Any) -> None:
    """Count a message that the history brought first, and that arrives by itself only now."""
    found = Message.objects.select_related("conversation").get(pk=pk)
    at = min(event.at or timezone.now(), timezone.now())
    _name_sender(channel, event, at)
    conversation = contacts.lock_conversation(found.conversation)
    message = Message.objects.select_for_update().get(pk=pk)
    if not message.context.pop("imported", False):
        return
    Conversation.objects.filter(pk=conversation.pk).update(
        **_caused_by(channel, event, message, conversation, at)
    )
    amendments.change(message, context=message.context)


def _name_sender(channel: Channel, event: MessageEvent, at: dt.datetime) -> None:
    """Store what an event says about the customer: an earlier one of the message did not."""
    contacts.conversation_with(
        channel,
        phone_number=event.phone_number,
        user_id=event.user_id,
        also=event.also,
        name=event.name,
        username=event.username,
        is_current=not event.history,
        at=at,
        former=event.former,
    )


def _file_type(event: MessageEvent) -> str:
    """Return the type of a message's file, which may be in the header of a text with buttons."""
    return str(event.content.get("header_type") or event.type)


def _fill(
    channel: Channel, event: MessageEvent, pk: Any, type_: str, context: Mapping[str, Any]
) -> None:
    """Fill a message that came without its content, if this event has it.

    It ends as if it had come with it.
    """
    without_content = (UNKNOWN, WAITING, UNSUPPORTED)
    if type_ not in without_content or event.type in without_content:
        return
    found = Message.objects.select_related("conversation").get(pk=pk)
    at = min(event.at or timezone.now(), timezone.now())
    _name_sender(channel, event, at)
    conversation = contacts.lock_conversation(found.conversation)
    message = Message.objects.select_for_update().get(pk=pk)
    was_unread = words.kind_of(message.type, message.content).unread
    message.conversation = conversation
    message.type, message.text, message.content = event.type, event.text, dict(event.content)
    message.context = {name: event.context[name] for name in event.context if name not in _MARKS}
    message.context |= {name: context[name] for name in _MARKS if name in context}
    if not _is_history(channel, event, at):
        answers.note_choice(channel, message)
        changes = _caused_by(channel, event, message, conversation, at)
        if was_unread and "unread_count" in changes:
            # It has been counted.
            for name in ("unread_count", *work.reopening(conversation)):
                del changes[name]
        if changes:
            Conversation.objects.filter(pk=conversation.pk).update(**changes)
    amendments.change(
        message,
        announced=not event.context.get("imported"),
        type=message.type,
        text=message.text,
        content=message.content,
        context=message.context,
        reply_to=message.reply_to or _quoted(conversation, event.reply_to),
        media=files.create_pending(channel, _file_type(event), event.content, stored=event.stored),
    )


# How a message came. That stays, whatever fills it.
_MARKS = ("imported", "standby")


def _is_history(channel: Channel, event: MessageEvent, at: dt.datetime) -> bool:
    """Return whether the message was written before the phone was linked.

    A recent message is none, even in what Evolution calls history, and needs no query.
    """
    if event.context.get("imported"):
        return True
    if timezone.now() - at < HISTORY_AGE:
        return False
    if event.history:
        return True
    ends = [end for end_of in HISTORY_ENDS if (end := end_of(channel)) is not None]
    return any(at < end for end in ends)


def _apply_pending_receipts(channel: Channel, message: Message) -> None:
    """Apply the receipts that arrived before a message that was sent outside.

    The receipts stay stored, because an attempt may turn out to have sent the message. Applying
    them twice has no effect, and they are deleted after some days.
    """
    receipts: list[tuple[Receipt, Failure | SendError | None]] = [
        *pending_events.receipts(channel.pk, message.provider_message_id),
        *((Receipt(receipt), None) for receipt in _receipts_of_echo(message)),
    ]
    for receipt, failure in receipts:
        status = statuses.merge_status(Status(message.status), receipt)
        if status != message.status:
            message.status = status.value
            for name, value in _error_of(failure, status).items():
                setattr(message, name, value)


def _receipts_of_echo(message: Message) -> list[str]:
    """Return the receipts of the attempt that caused an echo."""
    if message.echo_of is None:
        return []
    matching = message.echo_of.attempts.filter(message_key=message_key(message.provider_message_id))
    return list(matching.exclude(receipt="").values_list("receipt", flat=True))


def _apply_amendment(channel: Channel, event: Amendment) -> str | None:
    """Change the messages that an event names, or store it until its message is known."""
    pending_events.lock_id(channel.pk, event.provider_message_id)
    if isinstance(event, ReactionEvent):
        # One that does not count is only shown, like an old one.
        counts = _counts_for_window(channel, event.provider_message_id)
        event = replace(event, history=event.history or not counts)
    messages = _messages_by_provider_id(channel, event.provider_message_id)
    refused = [message for message in messages if not amendments.is_allowed(message, event)]
    for message in messages:
        if message not in refused:
            amendments.apply(message, event, channel=channel)
    # An echo may turn out to be one of our own messages that has no provider id yet.
    if all(message.sent_outside and message.echo_of_id is None for message in messages):
        pending_events.store_amendment(channel.pk, event)
    return amendments.NOT_THE_AUTHOR if refused else None


def _apply_contact(channel: Channel, event: ContactEvent) -> None:
    """Store the present name and picture of an existing contact.

    An address book does not create contacts.
    """
    named = addresses.named(phone_number=event.phone_number, user_id=event.user_id)
    if event.picture and (known := contacts.ids_with(named)):
        pictures.note(known, event.picture)
    if not event.name:
        return
    if event.saved:
        now = timezone.now()
        at = min(event.at or now, now)
        contacts.note_saved_name(channel, named, name=event.name, at=at, creates=False)
        return
    ids = contacts.ids_with(named)
    for field, condition in (
        ("name", Q(named_by_staff=False, saved_name="")),
        ("profile_name", Q(named_by_staff=True) | ~Q(saved_name="")),
    ):
        value = {field: event.name[: names.MAX_LENGTH]}
        Contact.objects.filter(condition, pk__in=ids).exclude(**value).update(**value)


def _apply_address_book(channel: Channel, event: AddressBookEvent) -> None:
    now = timezone.now()
    contacts.note_saved_name(
        channel,
        event.addresses,
        name=event.name,
        username=event.username,
        at=min(event.at or now, now),
        creates=True,
    )


def _apply_addresses(channel: Channel, event: AddressEvent) -> None:
    contacts.learn_pair(
        channel,
        event.addresses,
        is_current=True,
        at=min(event.at, timezone.now()) if event.at else None,
        former=event.former,
    )


def _apply_group(channel: Channel, event: GroupEvent) -> None:
    """Set the name of a group that has written. Groups that never wrote are not contacts."""
    known = Contact.objects.filter(user_id=event.group_id, named_by_staff=False)
    known.update(name=event.name[:200])


def _apply_session(channel: Channel, event: SessionEvent) -> None:
    records.request_poll(Provider.WWEBJS, channel, callback_reason=event.reason)


def _with_key(channel: Channel, provider_message_id: str) -> QuerySet[Message]:
    """Return the channel's message with this id, in whatever form and conversation it was reported.

    A message of a joined conversation that was reported twice counts once.
    """
    return Message.objects.filter(
        conversation__channel=channel,
        conversation__merged_into=None,
        message_key__in=keys_of(provider_message_id),
    )


def _messages_by_provider_id(channel: Channel, provider_message_id: str) -> list[Message]:
    """Return this channel's messages with the given provider id, locked."""
    by_id = _with_key(channel, provider_message_id)
    by_attempt = DeliveryAttempt.objects.filter(
        connection__channel=channel, message_key__in=keys_of(provider_message_id)
    )
    # Select first, then lock: each query uses its index, and no other channel's row is locked.
    ids = {*by_id.values_list("pk", flat=True), *by_attempt.values_list("message", flat=True)}
    if not ids:
        return []
    return list(Message.objects.select_for_update().filter(pk__in=ids).order_by("pk"))


def _outside_route(channel: Channel) -> str | None:
    return None if channel.kind == Provider.OFFICIAL else channel.kind


def _quoted(conversation: Conversation, provider_message_id: str) -> Message | None:
    if not provider_message_id:
        return None
    # A fallback on the same number identifies its messages by the key id inside Meta's id.
    keys = keys_of(provider_message_id)
    quoted = conversation.messages.filter(message_key__in=keys).first()
    return quoted or conversation.messages.filter(attempts__message_key__in=keys).first()


# The handler of each event type; higher layers add theirs. Events without one are only counted.
# A handler returns None, or the name under which an event that it ignores is counted.
HANDLERS: dict[type, Callable[[Channel, Any], str | None]] = {
    ReceiptEvent: _apply_receipt,
    MessageEvent: _apply_message,
    MediaEvent: _apply_amendment,
    EditEvent: _apply_amendment,
    RevokeEvent: _apply_amendment,
    ReactionEvent: _apply_amendment,
    VoteEvent: _apply_amendment,
    ContactEvent: _apply_contact,
    AddressBookEvent: _apply_address_book,
    AddressEvent: _apply_addresses,
    GroupEvent: _apply_group,
    SessionEvent: _apply_session,
    CallEvent: calls.note_incoming,
    AccountEvent: account.apply_account,
    TemplateEvent: account.apply_template,
    PreferenceEvent: account.apply_preference,
}
