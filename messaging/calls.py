"""Record calls in the conversation: calls started from a page, and calls from customers."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app import wavoip
from channels_app.providers import error_codes
from channels_app.providers.events import CallStatus
from core import phone_numbers
from messaging import contacts, sequence
from messaging.delivery import statuses
from messaging.inbox import work
from messaging.live import publisher
from messaging.models import CallAttempt, Conversation

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from channels_app.models import Channel
    from channels_app.providers.events import CallEvent


class CallRefused(Exception):
    """The contact cannot be called. `str()` is the reason, in the active language."""


def is_possible(conversation: Conversation) -> bool:
    """Return whether there is a number to call and a Wavoip key to call with."""
    contact = conversation.contact
    has_number = bool(contact.phone_number) and not contact.address_given_up
    return has_number and wavoip.caller_of(conversation.channel) is not None


def begin(conversation: Conversation, *, user: User) -> str:
    """Record that `user` calls the contact now; return the URL of the call page.

    The URL contains the Wavoip key: send it only to this user's browser. Raises CallRefused.
    """
    number = conversation.contact.phone_number
    if not number:
        raise CallRefused(_("This contact has no phone number."))
    if conversation.contact.address_given_up:
        raise CallRefused(str(error_codes.title_for(contacts.GIVEN_UP)))
    caller = wavoip.caller_of(conversation.channel)
    if caller is None:
        raise CallRefused(_("No active channel of this conversation has a Wavoip key."))
    with transaction.atomic():
        call = CallAttempt.objects.create(
            conversation=contacts.lock_conversation(conversation),
            channel=caller,
            phone_number=number,
            created_by=user,
        )
    publisher.call_changed(call)
    return wavoip.link(caller, phone_number=number, name=conversation.contact.name)


def note_incoming(channel: Channel, event: CallEvent) -> None:
    """Record a provider's event about a customer's call: one row per call, in any event order.

    The first event creates the row, and a conversation if there is none. Calls without a number and
    user id, and calls from our own number, are ignored. The caller holds a transaction.
    """
    if _update_existing(channel, event):
        return
    from_us = channel.phone_number and event.phone_number in phone_numbers.spellings(
        channel.phone_number
    )
    if from_us or not (event.phone_number or event.user_id):
        return
    now = timezone.now()
    at = min(event.at or now, now)
    conversation = contacts.lock_conversation_with(
        channel,
        phone_number=event.phone_number,
        user_id=event.user_id,
        also=event.also,
        name=event.name,
        username=event.username,
        at=at,
    )
    if _update_existing(channel, event):
        return  # another worker was faster
    call = CallAttempt.objects.create(
        conversation=conversation,
        channel=channel,
        phone_number=event.phone_number,
        incoming=True,
        status=event.status,
        video=event.video,
        call_id=event.call_id[:255],
        created_at=sequence.place(conversation, at),
    )
    Conversation.objects.filter(pk=conversation.pk).update(
        last_message_at=max(filter(None, [conversation.last_message_at, call.created_at])),
        unread_count=F("unread_count") + 1,
        **work.reopening(conversation),
        **_window(conversation, call, event),
    )
    publisher.call_changed(call)


def _window(
    conversation: Conversation, call: CallAttempt, event: CallEvent
) -> dict[str, dt.datetime]:
    """Return what the call changes of the 24-hour window of its conversation."""
    if not event.opens_window:
        return {}
    return {"last_inbound_at": max(filter(None, [conversation.last_inbound_at, call.created_at]))}


def _earlier(started_at: dt.datetime, at: dt.datetime | None) -> dt.datetime:
    """Return the earlier start of a call; within a second, its place is that of its arrival."""
    if at is None or at >= started_at.replace(microsecond=0):
        return started_at
    return at


def _update_existing(channel: Channel, event: CallEvent) -> bool:
    """Apply an event to the row of its call; return False if there is no row yet."""
    calls = CallAttempt.objects.select_for_update().filter(channel=channel)
    call = calls.filter(call_id=event.call_id[:255]).first()
    if call is None:
        return False
    status = statuses.merge_call(CallStatus(call.status), event.status)
    started_at = _earlier(call.created_at, event.at)
    video = call.video or event.video
    if (status, started_at, video) != (call.status, call.created_at, call.video):
        call.status, call.created_at, call.video = status, started_at, video
        call.version += 1
        call.save(update_fields=["status", "created_at", "video", "version", "updated_at"])
        publisher.call_changed(call)
    return True
