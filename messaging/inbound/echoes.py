"""Match echoes, the events about messages sent from our number, to our own delivery attempts.

A message sent through a companion device of the number (an attached session) is echoed on the
official webhook under another id, which contains the companion's id (docs/providers/cloud.md §4.4).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q, QuerySet
from django.utils import timezone

from channels_app.models import Channel
from channels_app.providers import addresses
from channels_app.providers.addresses import Address
from channels_app.providers.cloud.events import web_message_id
from channels_app.providers.events import MessageEvent, Receipt
from channels_app.providers.message_keys import WAMID
from messaging import contacts
from messaging.content import MEDIA_TYPES
from messaging.delivery import attempts
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import pending_events
from messaging.models import Conversation, DeliveryAttempt, Message

# The maximum time between an echo and the send that caused it: clocks differ, phones sleep.
_BEFORE, _AFTER = dt.timedelta(minutes=10), dt.timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Echo:
    """The attempt that caused an echo, if one is known.

    `own_event`: the channel reports its own send, by its primary route, in the conversation that
    has the original message, so there is nothing to show. What a fallback sent is shown as sent
    outside, whether the fallback is an attached session or another channel.
    """

    attempt: DeliveryAttempt | None
    own_event: bool = False


def match_attempt(channel: Channel, event: MessageEvent) -> Echo:
    """Find the attempt that caused an echo and record what the echo proves. In a transaction.

    The official webhook reports what WhatsApp's server has: that proves the send. A session's
    report of its own send only identifies the message; its acks prove the send later. An echo
    without an attempt is stored until an attempt matches.
    """
    official = event.provider_message_id.startswith(WAMID)
    own = attempts.find(
        channel_id=channel.pk, reference="", provider_message_id=event.provider_message_id
    )
    if own is not None:
        if not own.provider_message_id:
            # Matched by the id that we chose, which is the message's id.
            attempts.record_receipt(
                own, Receipt.NONE, provider_message_id=event.provider_message_id
            )
        return Echo(own, own_event=_is_own(channel, own))
    web_id = web_message_id(event.provider_message_id) if official else event.provider_message_id
    found = _by_web_id(channel, event, web_id, official=official) if web_id else None
    found = found or _by_content(channel, event, official=official)
    if not official:
        if found is not None and found.route != Route.OFFICIAL:
            attempts.record_receipt(found, Receipt.NONE, provider_message_id=web_id or "")
            return Echo(found, own_event=_is_own(channel, found))
        return Echo(found)
    if found is not None:
        attempts.record_receipt(found, Receipt.SENT, provider_message_id=web_id or "")
    elif web_id and _unfinished(channel, event).exists():
        pending_events.store_receipt(
            channel_id=channel.pk, provider_message_id=web_id, receipt=Receipt.SENT, error=None
        )
    return Echo(found)


def is_to_unknown_lid(event: MessageEvent) -> bool:
    """Return whether an echo names its recipient only by a LID that no contact has."""
    hidden = not event.phone_number and addresses.is_lid(event.user_id)
    return hidden and not contacts.ids_with(_recipient(event))


def is_duplicate(conversation: Conversation, event: MessageEvent, original: Message | None) -> bool:
    """Return whether the other source has already reported this echo.

    If the session uses its channel's number, both Meta and the session report each message: under
    two ids, of which Meta's contains the other.
    """
    official = event.provider_message_id.startswith(WAMID)
    at = event.at or timezone.now()
    near = (at - _BEFORE, at + _BEFORE)
    for message in conversation.messages.filter(sent_outside=True, created_at__range=near):
        stored_id = message.provider_message_id
        if stored_id.startswith(WAMID) == official:
            continue
        if original is not None and message.echo_of_id == original.pk:
            return True
        meta_id, session_id = sorted((stored_id, event.provider_message_id), key=_is_session_id)
        if web_message_id(meta_id) == session_id:
            return True
    return False


def _is_session_id(provider_message_id: str) -> bool:
    return not provider_message_id.startswith(WAMID)


def _is_own(channel: Channel, attempt: DeliveryAttempt) -> bool:
    has_original = attempt.message.conversation.channel_id == channel.pk
    return has_original and attempt.connection.is_primary


def _by_web_id(
    channel: Channel, event: MessageEvent, web_id: str, *, official: bool
) -> DeliveryAttempt | None:
    if official:
        return attempts.find(channel_id=channel.pk, reference="", provider_message_id=web_id)
    sent = (
        _near(channel, event)
        .filter(connection__provider=Route.OFFICIAL)
        .exclude(provider_message_id="")
    )
    return _first(a for a in sent if web_message_id(a.provider_message_id) == web_id)


def _by_content(channel: Channel, event: MessageEvent, *, official: bool) -> DeliveryAttempt | None:
    """Return the oldest attempt to this customer with this text, or file and caption, and no id.

    Attempts with an unknown outcome come last. A file without a caption may be any file, so its
    echo matches only an accepted attempt. Only the session echoes what the official API sends: an
    official attempt in flight with the same content to the same customer matches.
    """
    unnamed = _near(channel, event).filter(provider_message_id="")
    name = event.content.get("filename")
    same = attempts.matching_content(event.type, event.text, name if isinstance(name, str) else "")
    if same is not None:
        unnamed = unnamed.filter(same)
    elif event.type in MEDIA_TYPES:
        unnamed = unnamed.filter(
            attempts.WITHOUT_CAPTION, message__type=event.type, outcome=Outcome.ACCEPTED
        )
    else:
        return None
    by_session = unnamed.filter(
        connection__channel=channel,
        outcome__in=(Outcome.STARTED, Outcome.ACCEPTED, Outcome.UNKNOWN),
    ).exclude(connection__provider=Route.OFFICIAL)
    if is_to_unknown_lid(event):
        # As for an ack whose recipient is hidden: the only send with this content.
        only = list(by_session[:2]) if same is not None else []
        return only[0] if len(only) == 1 else None
    found = by_session.order_by(*attempts.TAKEN_FIRST).first()
    if found is None and not official:
        found = unnamed.filter(connection__provider=Route.OFFICIAL, outcome=Outcome.STARTED).first()
    return found


def _unfinished(channel: Channel, event: MessageEvent) -> QuerySet[DeliveryAttempt]:
    return _near(channel, event).filter(outcome__in=(Outcome.STARTED, Outcome.UNKNOWN))


def _near(channel: Channel, event: MessageEvent) -> QuerySet[DeliveryAttempt]:
    recipient = Q(message__conversation__contact__in=contacts.ids_with(_recipient(event)))
    if is_to_unknown_lid(event):
        recipient = Q()
    at = event.at or timezone.now()
    return (
        DeliveryAttempt.objects.filter(
            recipient,
            # A Baileys channel that serves as a fallback sends for another channel's conversations.
            Q(message__conversation__channel=channel) | Q(connection__channel=channel),
            started_at__range=(at - _BEFORE, at + _AFTER),
        )
        .select_related("connection__channel")
        .order_by("started_at")
    )


def _recipient(event: MessageEvent) -> tuple[Address, ...]:
    return addresses.named(phone_number=event.phone_number, user_id=event.user_id, also=event.also)


def _first(found: Iterable[DeliveryAttempt]) -> DeliveryAttempt | None:
    return next(iter(found), None)
