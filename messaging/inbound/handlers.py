"""Neutral events become contacts, messages and receipts."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from hmac import compare_digest
from typing import Any

from django.db.models import F
from django.utils import timezone

from channels_app.connections import wwebjs_session
from channels_app.models import Channel
from channels_app.providers.base import Rejected, SendError
from channels_app.providers.cloud import events as cloud_events
from channels_app.providers.cloud.client import UPLOAD_GONE
from channels_app.providers.events import (
    CallEvent,
    ContactEvent,
    EditEvent,
    Event,
    Failure,
    MediaEvent,
    MessageEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
    SessionEvent,
)
from channels_app.providers.evolution import events as evolution_events
from channels_app.providers.wwebjs import events as wwebjs_events
from core import phone_numbers
from messaging import calls, contacts
from messaging.delivery import attempts, quotes, statuses
from messaging.delivery.statuses import Route, Status
from messaging.inbound import amendments, echoes, pending_events
from messaging.inbound.amendments import Amendment
from messaging.live import publisher
from messaging.media import files
from messaging.models import (
    Contact,
    Conversation,
    DeliveryAttempt,
    InboundEvent,
    Message,
)

# A message that is younger is no history, whatever link brought it.
HISTORY_AGE = dt.timedelta(minutes=2)
# Floors above that know when the phone of a channel was linked enter here what tells the end of
# its history, None where that is not known; see instances.apps.
HISTORY_ENDS: list[Callable[[Channel], dt.datetime | None]] = []

READERS: dict[str, Callable[[Any], Iterable[Event]]] = {
    InboundEvent.Source.CLOUD: cloud_events.read,
    InboundEvent.Source.EVOLUTION: evolution_events.read,
    InboundEvent.Source.WWEBJS: wwebjs_events.read,
}


def apply(event: InboundEvent, channels: Mapping[str, Channel]) -> dict[str, int]:
    """Apply all that a stored event says. Returns what it held, counted by kind.

    `channels` are those of `channels_of`. Applying it again changes nothing. The caller holds a
    transaction.
    """
    return apply_events(READERS[event.source](event.payload), channels)


def apply_events(events: Iterable[Event], channels: Mapping[str, Channel]) -> dict[str, int]:
    """As `apply`, of some of the neutral events of a stored event."""
    counts: Counter[str] = Counter()
    for neutral in events:
        kind = type(neutral).__name__
        channel = channels.get(neutral.channel_key)
        if channel is None:
            counts["unknown_channel"] += 1
        elif handler := HANDLERS.get(type(neutral)):
            counts[kind] += 1
            handler(channel, neutral)
        else:
            counts[getattr(neutral, "kind", kind)] += 1
    return dict(counts)


def size(event: InboundEvent) -> int:
    """Return how many neutral events a stored event holds; 1 where that cannot be read."""
    try:
        return sum(1 for _ in READERS[event.source](event.payload))
    except Exception:
        return 1


def skipped(counts: Mapping[str, int]) -> str:
    """Name the kinds of which `apply` read nothing: unknown ones, and those of other channels."""
    return ", ".join(sorted(kind for kind in counts if not kind.endswith("Event")))[:200]


def channels_of(source: str, source_key: str) -> Mapping[str, Channel]:
    """Return the channels that a source's events may speak of, by the provider's key.

    The source key is the channel whose secret came with the event. A Cloud event speaks of every
    channel of the same app, for it was signed with the app's secret, and a wwebjs event of every
    channel of the same server; others of themselves only.
    """
    signer = Channel.objects.filter(pk=source_key).first()
    if signer is None:
        return {}
    if source == InboundEvent.Source.CLOUD:
        return _ChannelsOfApp(signer)
    if source == InboundEvent.Source.WWEBJS:
        return wwebjs_channels(signer)
    return {signer.instance_name: signer}


def wwebjs_channels(channel: Channel) -> dict[str, Channel]:
    """Return the channels of a wwebjs-api, which is this channel's, by the names of their sessions.

    Only those that know the server's key. This channel comes first; of several others with the
    same session the oldest counts.
    """
    others = Channel.objects.filter(
        fallback=Channel.Fallback.WWEBJS, wwebjs_url=channel.wwebjs_url
    ).order_by("-pk")
    key = channel.wwebjs_api_key.encode()
    own = [other for other in others if compare_digest(other.wwebjs_api_key.encode(), key)]
    return {one.wwebjs_session_id: one for one in (*own, channel)}


class _ChannelsOfApp(Mapping[str, Channel]):
    """The channels with one app secret, each read when an event first names it."""

    def __init__(self, signer: Channel) -> None:
        self._secret = signer.app_secret
        self._known: dict[str, Channel | None] = {}

    def __getitem__(self, phone_number_id: str) -> Channel:
        if phone_number_id not in self._known:
            named = Channel.objects.filter(
                kind=Channel.Kind.OFFICIAL, phone_number_id=phone_number_id
            ).first()
            ours = phone_number_id and named is not None and named.app_secret == self._secret
            self._known[phone_number_id] = named if ours else None
        if (channel := self._known[phone_number_id]) is None:
            raise KeyError(phone_number_id)
        return channel

    def __iter__(self) -> Iterator[str]:
        return (key for key, channel in self._known.items() if channel is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _apply_receipt(channel: Channel, event: ReceiptEvent) -> None:
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
    # What the official API sent is told under an id of its own, which no echo has.
    outside = (attempt is None or attempt.route != Route.OFFICIAL) and _tell_sent_outside(
        channel, event
    )
    if attempt is None and not outside:
        pending_events.store_receipt(
            channel_id=channel.pk,
            provider_message_id=event.provider_message_id,
            receipt=event.receipt,
            error=error,
        )
    if attempt is None:
        return
    attempts.record_receipt(
        attempt,
        event.receipt,
        provider_message_id=event.provider_message_id,
        error=error,
    )


def _tell_sent_outside(channel: Channel, event: ReceiptEvent) -> bool:
    """Move the ticks of messages that were typed on the phone or sent by another system.

    Returns whether there is one with this id. A message of ours that a provider told again (an
    echo) has them as well.
    """
    outside = Message.objects.select_for_update().filter(
        conversation__channel=channel,
        sent_outside=True,
        provider_message_id=event.provider_message_id,
    )
    found = list(outside)
    for message in found:
        status = statuses.merge_status(Status(message.status), event.receipt)
        if status != message.status:
            amendments.change(message, status=status.value, **_error_of(event.failure, status))
    return bool(found)


def _error_of(failure: Failure | SendError | None, status: Status) -> dict[str, str]:
    told = failure if status == Status.REJECTED else None
    return {
        "error_code": told.code[:64] if told else "",
        "error_title": str(told.title)[:300] if told else "",
        "error_detail": told.detail if told else "",
    }


def _may_be_of_another_request(attempt: DeliveryAttempt, event: ReceiptEvent) -> bool:
    """Whether the attempt's reference alone does not say which of its requests was refused.

    An attempt to send a file asks twice where Meta does not know its upload any more, and Meta
    tells a refusal at once, by webhook, or both (contracts/cloud-api.md §2.1). So such a refusal
    is about the message only if it names the id that was taken; where none is known yet, it waits.
    """
    if not event.reference or event.failure is None or event.failure.code not in UPLOAD_GONE:
        return False
    other = event.provider_message_id != attempt.provider_message_id
    return other and attempt.message.media_id is not None


def _apply_message(channel: Channel, event: MessageEvent) -> None:
    pending_events.lock_id(channel.pk, event.provider_message_id)
    original = None
    if event.outgoing:
        echo = echoes.settle(channel, event)
        if channel.ignore_messages_sent_outside or echo.own_event:
            return
        original = echo.attempt.message if echo.attempt is not None else None
    conversation = contacts.lock_conversation_with(
        channel, phone_number=event.phone_number, user_id=event.user_id, name=event.name
    )
    if conversation.messages.filter(provider_message_id=event.provider_message_id).exists():
        return
    if event.outgoing and echoes.is_shown(conversation, event, original):
        return
    message = Message(
        conversation=conversation,
        direction=Message.Direction.OUT if event.outgoing else Message.Direction.IN,
        type=event.type,
        text=event.text,
        content=dict(event.content),
        provider_message_id=event.provider_message_id,
        provider_chat=event.chat[:64],
        sent_outside=event.outgoing,
        echo_of=original,
        # A clock that runs ahead would keep the message at the end of the conversation.
        created_at=min(event.at, timezone.now()),
        reply_to=_quoted(conversation, event.reply_to),
        media=files.create_pending(channel, event.type, event.content, stored=event.stored),
    )
    if event.outgoing:
        # It reached WhatsApp from our own phone: there is nothing to deliver.
        message.status, message.route = Status.SENT, _outside_route(channel)
        _take_parked(channel, message)
    message.save(force_insert=True)
    for change in pending_events.take_amendments(
        channel.pk, event.provider_message_id, keep=event.outgoing and original is None
    ):
        amendments.apply(message, change, channel=channel)
    is_history = _is_history(channel, event)
    Conversation.objects.filter(pk=conversation.pk).update(
        last_message_at=max(filter(None, [conversation.last_message_at, message.created_at])),
        **(
            {}
            if event.outgoing
            else {
                "unread_count": F("unread_count") + (0 if is_history else 1),
                "last_inbound_at": max(
                    filter(None, [conversation.last_inbound_at, message.created_at])
                ),
            }
        ),
    )
    if not is_history:
        publisher.message_changed(message)


def _is_history(channel: Channel, event: MessageEvent) -> bool:
    """Whether the message is from before the phone was linked, however it came.

    Only an old message can be, even among what Evolution calls history: the others cost no query.
    """
    if timezone.now() - event.at < HISTORY_AGE:
        return False
    if event.history:
        return True
    ends = [end for ask in HISTORY_ENDS if (end := ask(channel)) is not None]
    return any(event.at < end for end in ends)


def _take_parked(channel: Channel, message: Message) -> None:
    """Give a message that was sent outside the ticks that were faster than it.

    They stay where they are: an attempt may turn out to have sent it. Telling them twice changes
    nothing, and they are deleted after some days.
    """
    told: list[tuple[Receipt, Failure | SendError | None]] = [
        *pending_events.take_receipts(channel.pk, message.provider_message_id, keep=True),
        *((Receipt(receipt), None) for receipt in _receipts_of_echo(message)),
    ]
    for receipt, failure in told:
        status = statuses.merge_status(Status(message.status), receipt)
        if status != message.status:
            message.status = status.value
            for name, value in _error_of(failure, status).items():
                setattr(message, name, value)


def _receipts_of_echo(message: Message) -> list[str]:
    """What is known of the attempt that an echo shows."""
    if message.echo_of is None:
        return []
    named = message.echo_of.attempts.filter(provider_message_id=message.provider_message_id)
    return list(named.exclude(receipt="").values_list("receipt", flat=True))


def _apply_amendment(channel: Channel, event: Amendment) -> None:
    """Change the messages that an event names, or keep it for one that is not known yet."""
    pending_events.lock_id(channel.pk, event.provider_message_id)
    named = _named(channel, event.provider_message_id)
    for message in named:
        amendments.apply(message, event, channel=channel)
    # An echo may turn out to be one of our own messages, which has yet to learn its id.
    if all(message.sent_outside and message.echo_of_id is None for message in named):
        pending_events.store_amendment(channel.pk, event)


def _apply_contact(channel: Channel, event: ContactEvent) -> None:
    """Fill the name of a known customer; an address book is not a list of conversations."""
    known = Contact.objects.filter(
        phone_number__in=phone_numbers.spellings(event.phone_number), name=""
    )
    known.update(name=event.name[:200])


def _apply_session(channel: Channel, event: SessionEvent) -> None:
    wwebjs_session.handle_callback(channel, reason=event.reason)


def _named(channel: Channel, provider_message_id: str) -> list[Message]:
    """The messages of this channel that a provider's id names, locked."""
    by_id = Message.objects.filter(
        conversation__channel=channel, provider_message_id=provider_message_id
    )
    by_attempt = DeliveryAttempt.objects.filter(
        channel=channel, provider_message_id=provider_message_id
    )
    # Found first and locked then: each by its index, and no other channel's row is waited for.
    found = {*by_id.values_list("pk", flat=True), *by_attempt.values_list("message", flat=True)}
    if not found:
        return []
    return list(Message.objects.select_for_update().filter(pk__in=found).order_by("pk"))


def _outside_route(channel: Channel) -> Route | None:
    return Route.BAILEYS if channel.kind == Channel.Kind.BAILEYS else None


def _quoted(conversation: Conversation, provider_message_id: str) -> Message | None:
    if not provider_message_id:
        return None
    # What the fallback sent from the same number is known by the key id inside of Meta's id.
    names = {provider_message_id, quotes.key_id(provider_message_id) or provider_message_id}
    found = conversation.messages.filter(provider_message_id__in=names).first()
    return found or conversation.messages.filter(attempts__provider_message_id__in=names).first()


# What each kind of event does; floors above add their own. What has no handler is only counted.
HANDLERS: dict[type, Callable[[Channel, Any], None]] = {
    ReceiptEvent: _apply_receipt,
    MessageEvent: _apply_message,
    MediaEvent: _apply_amendment,
    EditEvent: _apply_amendment,
    RevokeEvent: _apply_amendment,
    ContactEvent: _apply_contact,
    SessionEvent: _apply_session,
    CallEvent: calls.note_incoming,
}
