"""Contacts and messages in words, for whatever shows them. No function makes a query."""

from __future__ import annotations

from django.utils.translation import gettext as _

from channels_app.providers import addresses, contents
from core import phone_numbers
from messaging import words
from messaging.models import Contact, Message


def preview(message: Message) -> str:
    """Return a one-line preview of the message for lists and announcements."""
    if message.revoked_at is not None:
        return _("Deleted message")
    name = "" if message.media is None else message.media.filename
    summary = words.summary(
        message.type, message.text, message.content, filename=words.own_name(name)
    )
    author = contents.mapping(message.context, "author").get("name")
    return f"{author}: {summary}" if author else summary


def pretty_number(contact: Contact) -> str:
    """Return the contact's phone number in the usual format."""
    return phone_numbers.pretty(contact.phone_number) if contact.phone_number else ""


def address(contact: Contact) -> str:
    """Return what is shown beside a contact's name: number, username, or else their id."""
    username = f"@{contact.username}" if contact.username else ""
    return pretty_number(contact) or username or contact.user_id or ""


def contact_name(contact: Contact) -> str:
    """Return the contact's name, or what is known instead of it."""
    if addresses.is_group(contact.user_id or ""):
        return contact.name or _("Group %(id)s") % {"id": str(contact.user_id)[-11:-5]}
    return contact.name or address(contact)
