"""Calls, noted in the conversation: each click that starts one, and each that a customer makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app import wavoip
from channels_app.providers.events import CallStatus
from core import phone_numbers
from messaging import contacts
from messaging.delivery import statuses
from messaging.live import publisher
from messaging.models import CallAttempt, Conversation

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from channels_app.models import Channel
    from channels_app.providers.events import CallEvent


class CallRefused(Exception):
    """The contact cannot be called. `str()` says why, in the active language."""


def is_possible(conversation: Conversation) -> bool:
    """Say whether there are a number to call and a key to call by."""
    return bool(conversation.contact.phone_number) and (
        wavoip.caller_of(conversation.channel) is not None
    )


def begin(conversation: Conversation, *, user: User) -> str:
    """Note that `user` calls the contact now; return the address of the page that does it.

    The address holds the key for calls: it is for this person's browser only. Raises CallRefused.
    """
    number = conversation.contact.phone_number
    if not number:
        raise CallRefused(_("This contact has no phone number."))
    caller = wavoip.caller_of(conversation.channel)
    if caller is None:
        raise CallRefused(_("No active channel of this conversation has a Wavoip key."))
    call = CallAttempt.objects.create(
        conversation=conversation, channel=caller, phone_number=number, created_by=user
    )
    publisher.call_changed(call)
    return wavoip.link(caller, phone_number=number, name=conversation.contact.name)


def note_incoming(channel: Channel, event: CallEvent) -> None:
    """Note what a provider tells of a customer's call: one note a call, whatever the order.

    The first word of a call makes its note, and a conversation where there is none; nobody is
    noted whose number and user id are not told, and our own number calls nobody. The caller holds
    a transaction.
    """
    if _tell(channel, event):
        return
    own = channel.phone_number and event.phone_number in phone_numbers.spellings(
        channel.phone_number
    )
    if own or not (event.phone_number or event.user_id):
        return
    conversation = contacts.lock_conversation_with(
        channel, phone_number=event.phone_number, user_id=event.user_id
    )
    if _tell(channel, event):
        return  # another reader was faster
    now = timezone.now()
    call = CallAttempt.objects.create(
        conversation=conversation,
        channel=channel,
        phone_number=event.phone_number,
        incoming=True,
        status=event.status,
        video=event.video,
        call_id=event.call_id[:255],
        created_at=min(event.at or now, now),
    )
    Conversation.objects.filter(pk=conversation.pk).update(
        last_message_at=max(filter(None, [conversation.last_message_at, call.created_at])),
        unread_count=F("unread_count") + 1,
    )
    publisher.call_changed(call)


def _tell(channel: Channel, event: CallEvent) -> bool:
    """Add what an event says to the note of its call; False where there is no note yet."""
    noted = CallAttempt.objects.select_for_update().filter(channel=channel)
    call = noted.filter(call_id=event.call_id[:255]).first()
    if call is None:
        return False
    status = statuses.merge_call(CallStatus(call.status), event.status)
    began = min(call.created_at, event.at or call.created_at)
    video = call.video or event.video
    if (status, began, video) != (call.status, call.created_at, call.video):
        call.status, call.created_at, call.video = status, began, video
        call.version += 1
        call.save(update_fields=["status", "created_at", "video", "version", "updated_at"])
        publisher.call_changed(call)
    return True
