"""Neutral events become contacts, messages and receipts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from django.db.models import F
from django.utils import timezone

from channels_app.models import Channel
from channels_app.providers.base import Rejected
from messaging import attempts, contacts, live
from messaging.inbound import cloud
from messaging.inbound.events import MessageEvent, NeutralEvent, ReceiptEvent
from messaging.models import Conversation, DeliveryAttempt, InboundEvent, Message
from messaging.states import Route, Status

log = structlog.get_logger(__name__)

READERS: dict[str, Callable[[Any], Iterable[NeutralEvent]]] = {
    InboundEvent.Source.CLOUD: cloud.read,
}


def apply(event: InboundEvent) -> dict[str, int]:
    """Apply all that a stored event says. Returns what it held, counted by kind.

    Applying it again changes nothing. The caller holds a transaction.
    """
    counts: Counter[str] = Counter()
    channels = _channels(event)
    for neutral in READERS[event.source](event.payload):
        channel = channels.get(neutral.channel_key)
        if channel is None:
            counts["unknown_channel"] += 1
        elif isinstance(neutral, ReceiptEvent):
            counts["receipts"] += 1
            _apply_receipt(channel, neutral)
        elif isinstance(neutral, MessageEvent):
            counts["messages"] += 1
            _apply_message(channel, neutral)
        else:
            counts["unreadable"] += 1
            log.info("unknown kind of event", kind=neutral.kind, event_id=event.pk)
    return dict(counts)


def _channels(event: InboundEvent) -> dict[str, Channel]:
    """Return the channels that this event may speak of, by the provider's key.

    A Cloud event was signed with the app secret of the channel in its source key: it says nothing
    about channels of another app.
    """
    signer = Channel.objects.filter(pk=event.source_key).first()
    if signer is None:
        return {}
    return {
        channel.phone_number_id: channel
        for channel in Channel.objects.filter(kind=Channel.Kind.OFFICIAL)
        if channel.app_secret == signer.app_secret
    }


def _apply_receipt(channel: Channel, event: ReceiptEvent) -> None:
    error = None
    if event.failure is not None:
        error = Rejected(event.failure.code, event.failure.title, event.failure.detail)
    attempt = attempts.find_by_reference(event.reference, channel_id=channel.pk)
    if attempt is None:
        attempt = (
            DeliveryAttempt.objects.filter(
                channel=channel, provider_message_id=event.provider_message_id
            )
            .order_by("-id")
            .first()
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


def _apply_message(channel: Channel, event: MessageEvent) -> None:
    if event.outgoing and channel.ignore_messages_sent_outside:
        return
    conversation = contacts.conversation_with(
        channel, phone_number=event.phone_number, user_id=event.user_id, name=event.name
    )
    conversation = Conversation.objects.select_for_update().get(pk=conversation.pk)
    if conversation.messages.filter(provider_message_id=event.provider_message_id).exists():
        return
    message = Message(
        conversation=conversation,
        direction=Message.Direction.OUT if event.outgoing else Message.Direction.IN,
        type=event.type,
        text=event.text,
        content=dict(event.content),
        provider_message_id=event.provider_message_id,
        sent_outside=event.outgoing,
        # A clock that runs ahead would keep the message at the end of the conversation.
        created_at=min(event.at, timezone.now()),
        reply_to=_quoted(conversation, event.reply_to),
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


def _outside_route(channel: Channel) -> Route | None:
    return Route.BAILEYS if channel.kind == Channel.Kind.BAILEYS else None


def _quoted(conversation: Conversation, provider_message_id: str) -> Message | None:
    if not provider_message_id:
        return None
    found = conversation.messages.filter(provider_message_id=provider_message_id).first()
    return (
        found
        or conversation.messages.filter(attempts__provider_message_id=provider_message_id).first()
    )
