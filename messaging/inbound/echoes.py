"""Echoes: a message that left our number, told as an event. Was it one of ours?

What goes out through a companion of the number (an attached session) comes back on the official
webhook under another id, which carries the companion's own (contracts/cloud-api.md §4.4).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q, QuerySet

from channels_app.models import Channel
from channels_app.providers.cloud.events import web_message_id
from channels_app.providers.events import MessageEvent, Receipt
from core import phone_numbers
from messaging.content import MEDIA_TYPES
from messaging.delivery import attempts as outcomes
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import pending_events
from messaging.models import Conversation, DeliveryAttempt, Message

# How far an echo's time may lie from the send that caused it: clocks differ, phones sleep.
_BEFORE, _AFTER = dt.timedelta(minutes=10), dt.timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Echo:
    """The attempt that caused an echo, if one is known.

    `own_event` says that the channel tells of what it sent itself, by its own way, in the very
    conversation that has the original: nothing new for anybody. What a fallback sent is told as
    sent outside, be the fallback an attached session or another channel.
    """

    attempt: DeliveryAttempt | None
    own_event: bool = False


def settle(channel: Channel, event: MessageEvent) -> Echo:
    """Find the attempt that an echo shows, and let it prove what it proves. In a transaction.

    The official webhook tells what WhatsApp's server has: that proves the send. What a session
    tells of its own send names it, and its acks prove it later. An echo that no attempt claims yet
    waits for one.
    """
    official = event.provider_message_id.startswith("wamid.")
    own = outcomes.find(
        channel_id=channel.pk, reference="", provider_message_id=event.provider_message_id
    )
    if own is not None:
        if not own.provider_message_id:
            # Known by the id that we chose: it is the message's own.
            outcomes.record_receipt(
                own, Receipt.NONE, provider_message_id=event.provider_message_id
            )
        return Echo(own, own_event=_is_own(channel, own))
    web_id = web_message_id(event.provider_message_id) if official else event.provider_message_id
    found = _by_web_id(channel, event, web_id, official=official) if web_id else None
    found = found or _by_text(channel, event, official=official)
    if not official:
        if found is not None and found.route != Route.OFFICIAL:
            outcomes.record_receipt(found, Receipt.NONE, provider_message_id=web_id or "")
            return Echo(found, own_event=_is_own(channel, found))
        return Echo(found)
    if found is not None:
        outcomes.record_receipt(found, Receipt.SENT, provider_message_id=web_id or "")
    elif web_id and _unfinished(channel, event).exists():
        pending_events.store_receipt(
            channel_id=channel.pk, provider_message_id=web_id, receipt=Receipt.SENT, error=None
        )
    return Echo(found)


def is_shown(conversation: Conversation, event: MessageEvent, original: Message | None) -> bool:
    """Whether the other side has shown this echo already.

    Where the session has the number of its channel, both Meta and the session tell of what left
    it: under two ids, of which Meta's carries the other.
    """
    official = event.provider_message_id.startswith("wamid.")
    near = (event.at - _BEFORE, event.at + _BEFORE)
    for shown in conversation.messages.filter(sent_outside=True, created_at__range=near):
        told = shown.provider_message_id
        if told.startswith("wamid.") == official:
            continue
        if original is not None and shown.echo_of_id == original.pk:
            return True
        by_meta, by_session = sorted((told, event.provider_message_id), key=_is_by_session)
        if web_message_id(by_meta) == by_session:
            return True
    return False


def _is_by_session(provider_message_id: str) -> bool:
    return not provider_message_id.startswith("wamid.")


def _is_own(channel: Channel, attempt: DeliveryAttempt) -> bool:
    has_original = attempt.message.conversation.channel_id == channel.pk
    return has_original and attempt.route != Route.WWEBJS


def _by_web_id(
    channel: Channel, event: MessageEvent, web_id: str, *, official: bool
) -> DeliveryAttempt | None:
    if official:
        return outcomes.find(channel_id=channel.pk, reference="", provider_message_id=web_id)
    sent = _around(channel, event).filter(route=Route.OFFICIAL).exclude(provider_message_id="")
    return _first(a for a in sent if web_message_id(a.provider_message_id) == web_id)


def _by_text(channel: Channel, event: MessageEvent, *, official: bool) -> DeliveryAttempt | None:
    """The oldest attempt with this text, or file and caption, to this customer without an id yet.

    Unknown ones come last. A file without words may be any file: such an echo names only what was
    certainly taken, and proves nothing of what was not. Only the session itself shows what the
    official API sends: in flight with the same words to the same customer, it is that.
    """
    unnamed = _around(channel, event).filter(provider_message_id="", message__type=event.type)
    name = event.content.get("filename")
    words = outcomes.matching_content(event.type, event.text, name if isinstance(name, str) else "")
    if words is not None:
        unnamed = unnamed.filter(words)
    elif event.type in MEDIA_TYPES:
        unnamed = unnamed.filter(outcomes.WITHOUT_CAPTION, outcome=Outcome.ACCEPTED)
    else:
        return None
    by_session = unnamed.filter(
        channel=channel, outcome__in=(Outcome.STARTED, Outcome.ACCEPTED, Outcome.UNKNOWN)
    ).exclude(route=Route.OFFICIAL)
    found = by_session.order_by(*outcomes.TAKEN_FIRST).first()
    if found is None and not official:
        found = unnamed.filter(route=Route.OFFICIAL, outcome=Outcome.STARTED).first()
    return found


def _unfinished(channel: Channel, event: MessageEvent) -> QuerySet[DeliveryAttempt]:
    return _around(channel, event).filter(outcome__in=(Outcome.STARTED, Outcome.UNKNOWN))


def _around(channel: Channel, event: MessageEvent) -> QuerySet[DeliveryAttempt]:
    who = Q(
        message__conversation__contact__phone_number__in=phone_numbers.spellings(event.phone_number)
    )
    if not event.phone_number:
        who = Q(message__conversation__contact__user_id=event.user_id)
    return DeliveryAttempt.objects.filter(
        who,
        # A Baileys channel that serves as the fallback sends for conversations of another one.
        Q(message__conversation__channel=channel) | Q(channel=channel),
        started_at__range=(event.at - _BEFORE, event.at + _AFTER),
    ).order_by("started_at")


def _first(found: Iterable[DeliveryAttempt]) -> DeliveryAttempt | None:
    return next(iter(found), None)
