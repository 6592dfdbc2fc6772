"""Messages, calls and contacts in words. No tag makes a query."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from channels_app.providers import media_types
from channels_app.providers.events import CallStatus
from core import phone_numbers
from messaging.models import CallAttempt, Contact, Conversation, Media, Message

register = template.Library()

SERVICE_WINDOW = dt.timedelta(hours=24)


@register.filter
def preview(message: Message) -> str:
    """Return a one-line preview of the message for lists and announcements."""
    text = " ".join(body(message).split())
    label = type_label(message)
    if not text and message.media is not None:
        text = message.media.filename
    return f"[{label}] {text}".strip() if label else text


@register.filter
def body(message: Message) -> str:
    """Return the message's text, or the caption of its file."""
    return message.text or str(_content(message).get("caption") or "")


@register.filter
def type_label(message: Message) -> str:
    """Return a label for the type of a message, "" for plain text."""
    return {
        "text": "",
        "image": _("Image"),
        "video": _("Video"),
        "audio": _("Audio"),
        "document": _("Document"),
        "sticker": _("Sticker"),
        "location": _("Location"),
        "contacts": _("Contact"),
        "reaction": _("Reaction"),
        "template": _("Template"),
        "interactive": _("Buttons"),
    }.get(message.type, message.type)


@register.filter
def file_name(message: Message) -> str:
    """Return the name of the message's file, or another text that identifies it."""
    content = _content(message)
    for key in ("filename", "name", "address", "emoji"):
        if content.get(key):
            return str(content[key])
    if message.media is not None and message.media.filename:
        return message.media.filename
    link = str(content.get("link") or "")
    return link.rsplit("/", 1)[-1].split("?", 1)[0]


@register.filter
def shown_as(message: Message) -> str:
    """Return how a bubble shows a stored file: "picture", "film", "sound", or "" for a row."""
    media = message.media
    if media is None or media.state != Media.State.STORED or message.type == "document":
        return ""
    family = media.mime_type.partition("/")[0] if media.mime_type in media_types.SHOWN else ""
    return {"image": "picture", "video": "film", "audio": "sound"}.get(family, "")


def _content(message: Message) -> Mapping[str, Any]:
    """Return the object of the message's type, or {} for a list of contacts."""
    return message.content if isinstance(message.content, Mapping) else {}


@register.filter
def author(message: Message) -> str:
    """Return the sender of an outgoing message."""
    if message.created_by is not None:
        return message.created_by.get_full_name() or message.created_by.get_username()
    return _("Sent outside Alterna") if message.sent_outside else _("API client")


@register.filter
def call_words(call: CallAttempt) -> str:
    """Describe a call. The outcome of an outgoing call is not known."""
    if call.incoming:
        return _incoming_call(call) % {"name": contact_name(call.conversation.contact)}
    user = call.created_by
    names = {
        "name": (user.get_full_name() or user.get_username()) if user else _("Someone"),
        "channel": call.channel.name,
    }
    return _("%(name)s started a call through Wavoip on “%(channel)s”") % names


@register.filter
def call_preview(call: CallAttempt) -> str:
    """Return a one-line preview of an incoming call for lists that show the name beside it."""
    kind = _("Video call") if call.video else _("Call")
    ringing = call.status == CallStatus.RINGING
    return kind if ringing else f"{kind} · {call.get_status_display()}"


def _incoming_call(call: CallAttempt) -> str:
    if call.video:
        return {
            CallStatus.ENDED: _("Video call from %(name)s, ended"),
            CallStatus.MISSED: _("Missed video call from %(name)s"),
            CallStatus.REJECTED: _("Video call from %(name)s, declined"),
            CallStatus.ACCEPTED: _("Video call from %(name)s, answered"),
        }.get(CallStatus(call.status), _("Video call from %(name)s"))
    return {
        CallStatus.ENDED: _("Call from %(name)s, ended"),
        CallStatus.MISSED: _("Missed call from %(name)s"),
        CallStatus.REJECTED: _("Call from %(name)s, declined"),
        CallStatus.ACCEPTED: _("Call from %(name)s, answered"),
    }.get(CallStatus(call.status), _("Call from %(name)s"))


@register.filter
def window_until(conversation: Conversation) -> dt.datetime | None:
    """Return the end of the 24-hour service window for free text, or None if it has passed."""
    if conversation.last_inbound_at is None:
        return None
    until = conversation.last_inbound_at + SERVICE_WINDOW
    return until if until > timezone.now() else None


@register.filter
def phone(number: str) -> SafeString:
    """Render a phone number in the usual format, on one line; any other text unchanged."""
    digits = number.lstrip("+")
    formatted = phone_numbers.pretty(f"+{digits}") if digits.isdigit() else number
    return format_html('<span class="nowrap">{}</span>', formatted)


@register.filter
def pretty_number(contact: Contact) -> str:
    """Return the contact's phone number in the usual format."""
    return phone_numbers.pretty(contact.phone_number) if contact.phone_number else ""


@register.filter
def address(contact: Contact) -> str:
    """Return what is shown beside a contact's name: number, username, or else their id."""
    username = f"@{contact.username}" if contact.username else ""
    return pretty_number(contact) or username or contact.user_id or ""


@register.filter
def contact_name(contact: Contact) -> str:
    """Return the contact's name, or what is known instead of it."""
    return contact.name or address(contact)
