"""Neutral events become contacts, messages and receipts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db.models import F, Q
from django.utils import timezone

from channels_app import wwebjs_session
from channels_app.models import Channel
from channels_app.providers.base import Rejected
from channels_app.providers.cloud import UPLOAD_GONE
from messaging import attempts, calls, contacts, live, media, phones, quotes
from messaging.inbound import cloud, echoes, evolution, wwebjs
from messaging.inbound.events import (
    CallEvent,
    ContactEvent,
    EditEvent,
    MediaEvent,
    MessageEvent,
    NeutralEvent,
    ReceiptEvent,
    RevokeEvent,
    SessionEvent,
)
from messaging.models import Contact, Conversation, DeliveryAttempt, InboundEvent, Message
from messaging.states import Route, Status

READERS: dict[str, Callable[[Any], Iterable[NeutralEvent]]] = {
    InboundEvent.Source.CLOUD: cloud.read,
    InboundEvent.Source.EVOLUTION: evolution.read,
    InboundEvent.Source.WWEBJS: wwebjs.read,
}


def apply(event: InboundEvent, channels: Mapping[str, Channel]) -> dict[str, int]:
    """Apply all that a stored event says. Returns what it held, counted by kind.

    `channels` are those of `channels_of`. Applying it again changes nothing. The caller holds a
    transaction.
    """
    counts: Counter[str] = Counter()
    for neutral in READERS[event.source](event.payload):
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


def skipped(counts: Mapping[str, int]) -> str:
    """Name the kinds of which `apply` read nothing: unknown ones, and those of other channels."""
    return ", ".join(sorted(kind for kind in counts if not kind.endswith("Event")))[:200]


def channels_of(source: str, source_key: str) -> dict[str, Channel]:
    """Return the channels that a source's events may speak of, by the provider's key.

    The source key is the channel whose secret came with the event. A Cloud event speaks of every
    channel of the same app, for it was signed with the app's secret; others of themselves only.
    """
    signer = Channel.objects.filter(pk=source_key).first()
    if signer is None:
        return {}
    if source == InboundEvent.Source.CLOUD:
        return {
            channel.phone_number_id: channel
            for channel in Channel.objects.filter(kind=Channel.Kind.OFFICIAL)
            if channel.app_secret == signer.app_secret
        }
    if source == InboundEvent.Source.WWEBJS:
        return {signer.wwebjs_session_id: signer}
    return {signer.instance_name: signer}


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
    if attempt is None:
        attempts.park_receipt(
            channel_id=channel.pk,
            provider_message_id=event.provider_message_id,
            receipt=event.receipt,
            error=error,
        )
        return
    attempts.tell_receipt(
        attempt,
        event.receipt,
        provider_message_id=event.provider_message_id,
        error=error,
    )


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
        media=media.expect(channel, event.type, event.content, stored=event.stored),
    )
    if event.outgoing:
        # It reached WhatsApp from our own phone: there is nothing to deliver.
        message.status, message.route = Status.SENT, _outside_route(channel)
    message.save(force_insert=True)
    Conversation.objects.filter(pk=conversation.pk).update(
        last_message_at=max(filter(None, [conversation.last_message_at, message.created_at])),
        **(
            {}
            if event.outgoing
            else {
                "unread_count": F("unread_count") + 1,
                "last_inbound_at": max(
                    filter(None, [conversation.last_inbound_at, message.created_at])
                ),
            }
        ),
    )
    live.message_changed(message)


def _apply_media(channel: Channel, event: MediaEvent) -> None:
    for message in _named(channel, event.provider_message_id):
        if message.media is None:
            content = {"filename": event.filename}
            found = media.expect(channel, message.type, content, stored=event.stored)
            if found is not None:
                _change(message, media=found)


def _apply_edit(channel: Channel, event: EditEvent) -> None:
    for message in _named(channel, event.provider_message_id):
        if message.text != event.text:
            _change(message, text=event.text, edited_at=event.at or timezone.now())


def _apply_revoke(channel: Channel, event: RevokeEvent) -> None:
    for message in _named(channel, event.provider_message_id):
        if message.revoked_at is None:
            _change(message, revoked_at=event.at or timezone.now())


def _apply_contact(channel: Channel, event: ContactEvent) -> None:
    """Fill the name of a known customer; an address book is not a list of conversations."""
    known = Contact.objects.filter(phone_number__in=phones.spellings(event.phone_number), name="")
    known.update(name=event.name[:200])


def _apply_session(channel: Channel, event: SessionEvent) -> None:
    wwebjs_session.announce(channel, reason=event.reason)


def _named(channel: Channel, provider_message_id: str) -> list[Message]:
    """The messages of this channel that a provider's id names, locked."""
    named = Q(provider_message_id=provider_message_id) | Q(
        pk__in=DeliveryAttempt.objects.filter(
            channel=channel, provider_message_id=provider_message_id
        ).values("message_id")
    )
    found = Message.objects.select_for_update().filter(named)
    return [message for message in found if _belongs(message, channel)]


def _belongs(message: Message, channel: Channel) -> bool:
    return (
        message.conversation.channel_id == channel.pk
        or message.attempts.filter(channel=channel).exists()
    )


def _change(message: Message, **values: Any) -> None:
    for name, value in values.items():
        setattr(message, name, value)
    message.version += 1
    message.save(update_fields=[*values, "version", "updated_at"])
    live.message_changed(message)


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
    MediaEvent: _apply_media,
    EditEvent: _apply_edit,
    RevokeEvent: _apply_revoke,
    ContactEvent: _apply_contact,
    SessionEvent: _apply_session,
    CallEvent: calls.note_incoming,
}
