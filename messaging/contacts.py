"""Contacts and conversations: look up or create."""

from __future__ import annotations

from channels_app.models import Channel
from core import phone_numbers
from messaging.models import Contact, Conversation


def conversation_with(
    channel: Channel, *, phone_number: str = "", user_id: str = "", name: str = ""
) -> Conversation:
    """Return the channel's conversation with the customer; create it if there is none.

    See `contact_with`. Safe for concurrent callers.
    """
    contact = contact_with(phone_number=phone_number, user_id=user_id, name=name)
    conversation, _ = Conversation.objects.get_or_create(channel=channel, contact=contact)
    return conversation


def contact_with(*, phone_number: str = "", user_id: str = "", name: str = "") -> Contact:
    """Return the customer with these addresses; create it if there is none.

    `phone_number` is E.164; a Brazilian number with and without the ninth digit is one customer.
    The provider's values fill empty fields; an address that belongs to another customer is not
    moved. Safe for concurrent callers.
    """
    name = name[:200]
    contact = _find(phone_number, user_id)
    if contact is None:
        key = {"phone_number": phone_number} if phone_number else {"user_id": user_id}
        contact, _ = Contact.objects.get_or_create(
            **key, defaults={"name": name, "user_id": user_id or None}
        )
    changes = {
        field: value
        for field, value in (("name", name), ("user_id", user_id), ("phone_number", phone_number))
        if value and not getattr(contact, field) and not _is_taken(field, value)
    }
    if changes:
        Contact.objects.filter(pk=contact.pk).update(**changes)
    return contact


def lock_conversation_with(
    channel: Channel, *, phone_number: str = "", user_id: str = "", name: str = ""
) -> Conversation:
    """Like `conversation_with`, but locked until the end of the transaction.

    Most messages come from customers whose details are already stored: one query.
    """
    locked = Conversation.objects.select_related("contact").select_for_update(of=("self",))
    if phone_number:
        known = locked.filter(contact__phone_number__in=phone_numbers.spellings(phone_number))
    else:
        known = locked.filter(contact__user_id=user_id)
    match = known.filter(channel=channel).order_by("contact_id").first()
    if match is not None and not (
        (name and not match.contact.name) or (user_id and not match.contact.user_id)
    ):
        return match
    conversation = conversation_with(channel, phone_number=phone_number, user_id=user_id, name=name)
    return locked.get(pk=conversation.pk)


def lock_conversation_of(message_id: str) -> Conversation:
    """Return a message's conversation, locked until the end of the transaction."""
    return Conversation.objects.select_for_update().get(messages__pk=message_id)


def _is_taken(field: str, value: str) -> bool:
    return field != "name" and Contact.objects.filter(**{field: value}).exists()


def _find(phone_number: str, user_id: str) -> Contact | None:
    if phone_number:
        matches = Contact.objects.filter(phone_number__in=phone_numbers.spellings(phone_number))
        if contact := matches.order_by("pk").first():
            return contact
    return Contact.objects.filter(user_id=user_id).first() if user_id else None
