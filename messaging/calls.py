"""Calls to a contact. Each click that starts one is noted in the conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from channels_app import wavoip
from messaging import live
from messaging.models import CallAttempt, Conversation

if TYPE_CHECKING:
    from django.contrib.auth.models import User


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
    live.call_noted(call)
    return wavoip.link(caller, phone_number=number, name=conversation.contact.name)
