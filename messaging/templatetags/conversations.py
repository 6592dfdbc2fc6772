"""Messages, calls and contacts in words. No tag makes a query."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from accounts.people import HUES, hue_of, initials_of, names_of
from channels_app.providers import error_codes, media_types
from channels_app.providers.contents import mapping
from channels_app.providers.events import US, CallStatus
from core import phone_numbers
from messaging import formatting, template_bubbles, words
from messaging.delivery.verdict import WINDOW
from messaging.display import address, contact_name, pretty_number, preview
from messaging.models import CallAttempt, Contact, Conversation, Media, Message
from messaging.templatetags.times import until

if TYPE_CHECKING:
    from django.contrib.auth.models import User

register = template.Library()
for shown in (preview, pretty_number, address, contact_name):
    register.filter(shown)


@register.filter
def body_lines(message: Message) -> list[words.Line]:
    """Return what a person reads in the bubble, below the label and the file."""
    if message.context.get(template_bubbles.KEY):
        return []  # drawn as the customer saw it
    return words.lines(message.type, message.text, message.content, votes=message.votes)


@register.filter
def formatted(text: str) -> SafeString:
    """Return a text with WhatsApp's formatting, as HTML."""
    return formatting.to_html(text)


@register.filter
def chosen(message: Message) -> str:
    """Return the option that a received answer names, or ""."""
    return str(mapping(message.context, "chosen").get("title") or "")


@register.filter
def type_label(message: Message) -> str:
    """Return a label for the kind of a message, "" for plain text."""
    return str(words.kind_of(message.type, message.content).label)


@register.filter
def file_name(message: Message) -> str:
    """Return the name that a person gave the message's file, or what kind of file it is."""
    given = str(_content(message).get("filename") or "")
    link = str(_content(message).get("link") or "").rsplit("/", 1)[-1].split("?", 1)[0]
    stored = "" if message.media is None else message.media.filename
    names = filter(None, map(words.own_name, (given, stored, link)))
    kind = _content(message).get("header_type") or message.type
    return next(names, "") or str(words.kind_of(str(kind), message.content).label)


@register.filter
def quoted(message: Message) -> Mapping[str, Any]:
    """Return what is known of a quoted message that is not stored here: `label` and `text`."""
    found = mapping(message.context, "quoted")
    if not found or message.reply_to_id is not None:
        return {}
    if found.get("status"):
        label = _("In reply to our status")
    else:
        label = str(words.kind_of(str(found.get("type") or "text"), {}).label)
    text = str(found.get("text") or "") or ("" if label else _("A message that is not stored here"))
    return {"label": label, "text": text}


@register.filter
def forwarded(message: Message) -> str:
    """Return the mark of a forwarded message, or ""."""
    marks = {"once": _("Forwarded"), "often": _("Forwarded many times")}
    return marks.get(str(message.context.get("forwarded")), "")


@register.filter
def referral(message: Message) -> Mapping[str, Any]:
    """Return the ad or post from which the customer came: `label`, `headline`, `body`, `url`..."""
    found = mapping(message.context, "referral")
    if not found:
        return {}
    label = _("From an ad") if found.get("source_type") != "post" else _("From a post")
    names = ("headline", "body", "source_id", "ctwa_clid")
    parts = {name: str(found.get(name) or "") for name in names}
    url = str(found.get("source_url") or "")
    return {**parts, "label": label, "url": url if url.startswith(("https://", "http://")) else ""}


@register.filter
def asked_product(message: Message) -> str:
    """Return the product that the customer asks about, or ""."""
    product = mapping(message.context, "product")
    return str(product.get("product_retailer_id") or product.get("catalog_id") or "")


@register.filter
def missing_because(message: Message) -> str:
    """Return the provider's reason why a received message has no content, or ""."""
    error = mapping(message.context, "error")
    if not error:
        return ""
    title = error_codes.stored_title(str(error.get("code")), str(error.get("title") or ""))
    detail = str(error.get("detail") or "")
    return " · ".join(dict.fromkeys(filter(None, [title, detail])))


@register.filter
def people(entries: Any, message: Message) -> list[dict[str, str]]:
    """Return the reactions to a message with the names of the people, without removed ones."""
    contact = message.conversation.contact
    return [
        {**entry, "who": _person(entry, contact)}
        for entry in entries
        if entry.get("emoji") or entry.get("chosen")
    ]


def _person(entry: Mapping[str, Any], contact: Contact) -> str:
    by = str(entry.get("by") or "")
    if by == US:
        return _("Our number")
    if by in (contact.phone_number, contact.user_id):
        return contact_name(contact)
    return str(entry.get("name") or "") or phone_numbers.pretty(by)


@register.filter
def group_author(message: Message) -> str:
    """Return who wrote a message of a group, or ""."""
    author = mapping(message.context, "author")
    id_ = str(author.get("id") or "")
    return str(author.get("name") or "") or (phone_numbers.pretty(id_) if id_ else "")


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
def author_key(message: Message) -> str:
    """Return what is equal for messages that follow each other under one author's name."""
    if message.direction == Message.Direction.IN:
        return f"in {mapping(message.context, 'author').get('id') or ''}"
    person = message.created_by_id or ("phone" if message.sent_outside else "program")
    return f"out {person}"


@register.filter
def quoted_author(message: Message) -> str:
    """Return who wrote the stored message that this one quotes."""
    quoted = message.reply_to
    if quoted is None:
        return ""
    if quoted.direction == Message.Direction.OUT:
        return author(quoted)
    return group_author(quoted) or contact_name(message.conversation.contact)


# The icon before the words of a list's row; the words then need no label in brackets.
GLYPHS = {
    "image": "image", "video": "video", "round_video": "video", "gif": "video", "audio": "mic",
    "voice": "mic", "document": "file", "sticker": "smile", "location": "pin",
    "live_location": "pin", "contacts": "person", "template": "template", "poll": "list",
    "interactive": "list",
}  # fmt: skip


@register.filter
def row_glyph(message: Message) -> str:
    """Return the icon of the message's kind, or "" for words and for what needs a sentence."""
    if message.revoked_at is not None or message.status == Message.Status.REJECTED:
        return ""
    return GLYPHS.get(words.kind_of(message.type, message.content).name, "")


@register.filter
def row_words(message: Message) -> str:
    """Return a list row's line: what is the matter with a message, or else what it says."""
    if message.revoked_at is not None:
        return _("Deleted message")
    if message.status == Message.Status.REJECTED:
        title = error_codes.stored_title(message.error_code, message.error_title)
        return _("Refused: %(reason)s") % {"reason": title or preview(message)}
    if message.icon == "clock" and message.next_attempt_at is not None:
        leaves = _("Leaves at %(time)s") % {"time": until(message.next_attempt_at)}
        return f"{leaves} · {_said(message)}"
    return _said(message)


def _said(message: Message) -> str:
    kind = words.kind_of(message.type, message.content)
    if kind.name not in GLYPHS:
        return preview(message)
    label = str(kind.label)
    said = preview(message).replace(f"[{label}]", "", 1).strip() or label
    seconds = _content(message).get("seconds")
    if said == label and type(seconds) is int:
        said = f"{label} · {seconds // 60}:{seconds % 60:02}"
    return said


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


@register.inclusion_tag("_avatar.html")
def avatar(contact: Contact, size: str = "") -> dict[str, Any]:
    """Render a customer's initial on their hue; "@" for a username, else a person's glyph."""
    initial = contact.name[:1].upper() or ("@" if contact.username else "")
    return {"hue": contact.pk % HUES if initial else "none", "initial": initial, "size": size}


@register.inclusion_tag("_avatar.html")
def face(user: User, size: str = "") -> dict[str, Any]:
    """Render the initials of somebody of the team, with the whole name for a pointer."""
    title = names_of(user)[0]
    return {"hue": hue_of(user), "initial": initials_of(user), "size": size, "title": title}


@register.filter
def closes_soon(moment: dt.datetime | None) -> bool:
    """Return whether a window ends within the hour."""
    return moment is not None and moment - timezone.now() < dt.timedelta(hours=1)


@register.filter
def window_until(conversation: Conversation) -> dt.datetime | None:
    """Return the end of the 24-hour service window for free text, or None if it has passed."""
    if conversation.last_inbound_at is None:
        return None
    until = conversation.last_inbound_at + WINDOW
    return until if until > timezone.now() else None


@register.filter
def phone(number: str) -> SafeString:
    """Render a phone number in the usual format, on one line; any other text unchanged."""
    digits = number.lstrip("+")
    formatted = phone_numbers.pretty(f"+{digits}") if digits.isdigit() else number
    return format_html('<span class="nowrap">{}</span>', formatted)
