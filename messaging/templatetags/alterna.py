"""Template tags and filters for icons, times and messages. None of them makes a query."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django import forms, template
from django.conf import settings
from django.templatetags.static import static
from django.utils import formats, timezone
from django.utils.html import format_html, json_script
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import to_locale

from channels_app.incidents import incidents
from channels_app.incidents import reason_text as session_words
from channels_app.providers import error_codes, media_types
from channels_app.providers.events import CallStatus, Receipt
from core import phone_numbers
from messaging.delivery.policy import reason_text
from messaging.models import CallAttempt, Contact, Conversation, DeliveryAttempt, Media, Message

register = template.Library()
register.filter("headline", incidents.headline)

SERVICE_WINDOW = dt.timedelta(hours=24)
GLOBE_ROUTES = (Message.Route.WWEBJS, Message.Route.BAILEYS)


# --- icons --------------------------------------------------------------------------------------


@register.simple_tag
def glyph(name: str) -> SafeString:
    """Render a decorative icon of the sprite; adjacent text must give its meaning."""
    return format_html(
        '<svg class="glyph" aria-hidden="true" focusable="false"><use href="{}#{}"/></svg>',
        static("icons.svg"),
        name,
    )


@register.inclusion_tag("icon.html")
def status_icon(message: Message, brief: bool = False) -> dict[str, Any]:
    """Render the status icon of an outgoing message.

    The tooltip lists every attempt's error, so `attempts` must be prefetched; a `brief` icon shows
    the status only.
    """
    label = status_label(message)
    lines = [label] if brief else [label, *_reasons(message)]
    receipts = (Message.Status.DELIVERED, Message.Status.READ)
    return {
        "icon": message.icon,
        "label": label,
        "title": "\n".join(lines),
        "ticks": message.status if message.icon == "globe" and message.status in receipts else "",
    }


@register.filter
def status_label(message: Message) -> str:
    """Return a short description of an outgoing message's status."""
    if message.status in (Message.Status.QUEUED, Message.Status.SENDING):
        return _("Sending") if message.status == Message.Status.SENDING else _("Waiting to be sent")
    if message.status == Message.Status.REJECTED:
        return _("Rejected")
    if message.status == Message.Status.UNCONFIRMED:
        return _("Not confirmed: it may have been sent")
    if message.route in GLOBE_ROUTES:
        names = {"route": message.get_route_display()}
        if message.status == Message.Status.DELIVERED:
            return _("Sent through %(route)s, delivered") % names
        if message.status == Message.Status.READ:
            return _("Sent through %(route)s, read") % names
        return _("Sent through %(route)s") % names
    return str(message.get_status_display())


def _reasons(message: Message) -> list[str]:
    lines = [
        f"{attempt.get_route_display()}: {problem(attempt)}"
        for attempt in message.attempts.all()
        if problem(attempt)
    ]
    if not lines and problem(message):
        lines = [problem(message)]
    if message.decision and message.status not in (
        Message.Status.SENT,
        Message.Status.DELIVERED,
        Message.Status.READ,
    ):
        lines.append(str(reason_text(message.decision)))
        if message.next_attempt_at is not None:
            lines.append(
                _("Next attempt at {time}").replace("{time}", due(message.next_attempt_at))
            )
    return lines


@register.filter
def problem(of: Message | DeliveryAttempt) -> str:
    """Return the error of a message or an attempt on one line, or "" if there is none."""
    if not of.error_code:
        return of.error_title
    title = error_codes.stored_title(of.error_code, of.error_title)
    return f"{title} ({of.error_code})" if title else of.error_code


@register.filter
def refusals(message: Message) -> list[tuple[str, str]]:
    """Return the name and latest failure reason of each route in the current round.

    A fallback's rejection must not hide that of the official API, or vice versa.
    """
    latest: dict[str, DeliveryAttempt] = {}
    for attempt in message.attempts.all():
        if attempt.round == message.round and problem(attempt):
            latest[attempt.route] = attempt
    names = {Message.Route.OFFICIAL: capfirst(Message.Route.OFFICIAL.label)}
    return [
        (str(names.get(Message.Route(a.route)) or a.get_route_display()), _with_detail(a))
        for a in latest.values()
    ]


def _with_detail(attempt: DeliveryAttempt) -> str:
    """Return the reason; a fallback's code is usually ours, so the server's detail is added."""
    reason, stored = problem(attempt), attempt.error_detail[:200]
    if attempt.route not in GLOBE_ROUTES or not stored or stored in reason:
        return reason
    text = error_codes.stored_detail(stored)
    return f"{reason}: {text if error_codes.is_ours(stored) else f'“{text}”'}"


@register.filter
def detail(of: DeliveryAttempt) -> str:
    """Return the detail of an error: translated if it is ours, quoted if it is a provider's."""
    stored = of.error_detail
    return error_codes.stored_detail(stored) if error_codes.is_ours(stored) else f"“{stored}”"


@register.filter
def file_problem(media: Media) -> str:
    """Return why a file could not be fetched, with the detail if there is one."""
    title = code_title(media.error_code)
    stored = media.error_detail
    if not stored:
        return title
    text = error_codes.stored_detail(stored)
    return f"{title}: {text if error_codes.is_ours(stored) else f'“{text}”'}"


@register.filter
def what_to_do(code: str) -> str:
    """Return the rule for an error code: whether the fallback may be used, and why."""
    rule = error_codes.lookup(code)
    return f"{rule.fallback.label}: {rule.why}"


@register.filter
def receipt_label(receipt: str) -> str:
    """Return a label for the receipt that the provider sent for an attempt."""
    if receipt == Receipt.FAILED:
        return _("failed")
    return str(Message.Status(receipt).label).lower()


@register.filter
def code_title(code: str) -> str:
    """Return the title of a provider's error code, with the code, or of one of our own codes."""
    return session_words.render_reason(code).removesuffix(".")


@register.filter
def reason(key: str) -> str:
    """Return the text of a delivery policy reason."""
    return str(reason_text(key))


# --- messages -----------------------------------------------------------------------------------


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
def contact_name(contact: Contact) -> str:
    """Return the contact's name, or the formatted phone number."""
    return contact.name or pretty_number(contact) or str(contact)


@register.filter
def language_tag(code: str) -> str:
    """Return a language code as an HTML language tag: pt-br becomes pt-BR."""
    return to_locale(code).replace("_", "-")


@register.filter
def as_pattern(text: str) -> str:
    """Return an HTML `pattern` that matches only this text."""
    return "".join(
        char if char.isalnum() or char in " _" else f"\\u{{{ord(char):x}}}" for char in text
    )


@register.filter
def is_checkbox(field: forms.BoundField) -> bool:
    """Return whether the field is a single checkbox, whose label follows it."""
    return isinstance(field.field.widget, forms.CheckboxInput)


# --- times --------------------------------------------------------------------------------------


@register.simple_tag
def ago(moment: dt.datetime | None) -> str | SafeString:
    """Render a relative time with the exact time in the tooltip; app.js updates it."""
    if moment is None:
        return ""
    return format_html(
        '<time datetime="{}" title="{}" data-relative>{}</time>',
        moment.isoformat(),
        exact(moment),
        relative(moment, timezone.now()),
    )


@register.simple_tag
def clock_time(moment: dt.datetime) -> SafeString:
    """Render the time of day, with the date in the tooltip."""
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(),
        exact(moment),
        local.strftime("%H:%M"),
    )


@register.filter
def exact(moment: dt.datetime) -> str:
    """Return date and time in the installation's time zone, to the second."""
    local = timezone.localtime(moment)
    return f"{formats.date_format(local, 'SHORT_DATE_FORMAT')} {local:%H:%M:%S}"


@register.filter
def due(moment: dt.datetime) -> str:
    """Return a future date and time; only the time if it is today."""
    local = timezone.localtime(moment)
    return f"{local:%H:%M:%S}" if local.date() == timezone.localdate() else exact(moment)


HALF_A_DAY = 12 * 3600  # after midnight, last evening is not yet "yesterday"


def relative(moment: dt.datetime, now: dt.datetime) -> str:
    """Return how long ago it was. app.js uses the same texts."""
    seconds = (now - moment).total_seconds()
    local, today = timezone.localtime(moment), timezone.localtime(now).date()
    if seconds < 60:
        return _("now")
    if seconds < 3600:
        return _("{n} min ago").replace("{n}", str(int(seconds // 60)))
    if seconds < HALF_A_DAY or local.date() == today:
        return _("{n} h ago").replace("{n}", str(int(seconds // 3600)))
    if local.date() == today - dt.timedelta(days=1):
        return _("yesterday")
    return formats.date_format(local, "SHORT_DATE_FORMAT")


@register.filter
def day(moment: dt.datetime) -> dt.date:
    """Return the calendar day in the installation's time zone."""
    return timezone.localtime(moment).date()


@register.filter
def day_label(date: dt.date) -> str:
    """Return the label of a day for the separators between messages."""
    today = timezone.localdate()
    if date == today:
        return _("Today")
    if date == today - dt.timedelta(days=1):
        return _("Yesterday")
    return formats.date_format(date, "DATE_FORMAT")


# --- scripts ------------------------------------------------------------------------------------


@register.simple_tag
def interface_texts() -> SafeString:
    """Render the texts of the scripts as a JSON data block (never executed)."""
    return json_script(
        {
            "timeZone": settings.TIME_ZONE,
            "now": _("now"),
            "minutes": _("{n} min ago"),
            "hours": _("{n} h ago"),
            "yesterday": _("yesterday"),
            "dayToday": _("Today"),
            "dayYesterday": _("Yesterday"),
            "copied": _("Copied"),
            "copyFailed": _("Could not copy. Select the text and copy it manually."),
            "newMessage": _("New message: {text}"),
            "requestFailed": _("Something went wrong. Try again."),
            "tooLong": _("At most {max} characters."),
            "uploading": _("Uploading {name}: {percent}%"),
            "uploadFailed": _("{name} could not be uploaded. Try again."),
            "tooLarge": _("{name} has {size}: WhatsApp accepts at most {most}."),
            "removeFile": _("Remove {name}"),
            "offline": _("The server is unavailable. Your text was not lost; try again."),
        },
        "interface-texts",
    )
