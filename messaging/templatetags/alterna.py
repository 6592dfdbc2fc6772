"""What the templates need to draw icons, times and messages. No query is made here."""

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
    """Draw a decorative icon of the sprite; its meaning must stand beside it in words."""
    return format_html(
        '<svg class="glyph" aria-hidden="true" focusable="false"><use href="{}#{}"/></svg>',
        static("icons.svg"),
        name,
    )


@register.inclusion_tag("icon.html")
def status_icon(message: Message, brief: bool = False) -> dict[str, Any]:
    """Draw the status of an outgoing message.

    The tooltip tells every attempt's error, so `attempts` must be prefetched; a `brief` icon
    tells the status only.
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
    """Say the status of an outgoing message in a few words."""
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
            lines.append(_("Expected at {time}").replace("{time}", due(message.next_attempt_at)))
    return lines


@register.filter
def problem(of: Message | DeliveryAttempt) -> str:
    """Return the error of a message or an attempt on one line; empty where there is none."""
    if not of.error_code:
        return of.error_title
    title = error_codes.stored_title(of.error_code, of.error_title)
    return f"{title} ({of.error_code})" if title else of.error_code


@register.filter
def refusals(message: Message) -> list[tuple[str, str]]:
    """Return why each route of the present round failed: its name and the latest reason.

    A fallback's own refusal must not hide behind that of the official API, nor the other way round.
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
    """The reason of a fallback is mostly a word of ours: what the server said explains it."""
    reason, said = problem(attempt), attempt.error_detail[:200]
    if attempt.route not in GLOBE_ROUTES or not said or said in reason:
        return reason
    words = error_codes.stored_detail(said)
    return f"{reason}: {words if error_codes.is_ours(said) else f'“{words}”'}"


@register.filter
def detail(of: DeliveryAttempt) -> str:
    """Return what was said besides the error: ours translated, a provider's own words in quotes."""
    said = of.error_detail
    return error_codes.stored_detail(said) if error_codes.is_ours(said) else f"“{said}”"


@register.filter
def file_problem(media: Media) -> str:
    """Say why a file could not be fetched, with what was said besides."""
    title = code_title(media.error_code)
    said = media.error_detail
    if not said:
        return title
    words = error_codes.stored_detail(said)
    return f"{title}: {words if error_codes.is_ours(said) else f'“{words}”'}"


@register.filter
def what_to_do(code: str) -> str:
    """Say what the rules make of an error code: whether the fallback may go around it, and why."""
    rule = error_codes.lookup(code)
    return f"{rule.fallback.label}: {rule.why}"


@register.filter
def receipt_label(receipt: str) -> str:
    """Say in words what the provider told later about an attempt."""
    if receipt == Receipt.FAILED:
        return _("failed")
    return str(Message.Status(receipt).label).lower()


@register.filter
def code_title(code: str) -> str:
    """Return the title of a provider's error code, with its number, or of a word of ours."""
    return session_words.render_reason(code).removesuffix(".")


@register.filter
def reason(key: str) -> str:
    """Return the policy's sentence for its reason."""
    return str(reason_text(key))


# --- messages -----------------------------------------------------------------------------------


@register.filter
def preview(message: Message) -> str:
    """Return one line that stands for the message in lists and announcements."""
    text = " ".join(body(message).split())
    label = type_label(message)
    if not text and message.media is not None:
        text = message.media.filename
    return f"[{label}] {text}".strip() if label else text


@register.filter
def body(message: Message) -> str:
    """Return the words of a message: its text, or the caption of its file."""
    return message.text or str(_content(message).get("caption") or "")


@register.filter
def type_label(message: Message) -> str:
    """Name the kind of a message that is not plain text."""
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
    """Return the name of the message's file, or what else tells it apart."""
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
    """Return how a bubble shows a kept file: "picture", "film", "sound", or "" as a row only."""
    media = message.media
    if media is None or media.state != Media.State.STORED or message.type == "document":
        return ""
    family = media.mime_type.partition("/")[0] if media.mime_type in media_types.SHOWN else ""
    return {"image": "picture", "video": "film", "audio": "sound"}.get(family, "")


def _content(message: Message) -> Mapping[str, Any]:
    """The object of the message's type; a list of contacts counts as none."""
    return message.content if isinstance(message.content, Mapping) else {}


@register.filter
def author(message: Message) -> str:
    """Say who sent an outgoing message."""
    if message.created_by is not None:
        return message.created_by.get_full_name() or message.created_by.get_username()
    return _("Sent outside Alterna") if message.sent_outside else _("Program")


@register.filter
def call_words(call: CallAttempt) -> str:
    """Say who called whom and what is known of it: whether we reached somebody is not."""
    if call.incoming:
        return _incoming_call(call) % {"name": contact_name(call.conversation.contact)}
    who = call.created_by
    names = {
        "name": (who.get_full_name() or who.get_username()) if who else _("Somebody"),
        "channel": call.channel.name,
    }
    return _("%(name)s opened a call through Wavoip, by “%(channel)s”") % names


@register.filter
def call_preview(call: CallAttempt) -> str:
    """Return one line that stands for a contact's call in lists, where the name is beside it."""
    kind = _("Video call") if call.video else _("Call")
    ringing = call.status == CallStatus.RINGING
    return kind if ringing else f"{kind} · {call.get_status_display()}"


def _incoming_call(call: CallAttempt) -> str:
    if call.video:
        return {
            CallStatus.ENDED: _("Video call from %(name)s, over"),
            CallStatus.MISSED: _("Missed video call from %(name)s"),
            CallStatus.REJECTED: _("Video call from %(name)s, declined"),
            CallStatus.ACCEPTED: _("Video call from %(name)s, answered"),
        }.get(CallStatus(call.status), _("Video call from %(name)s"))
    return {
        CallStatus.ENDED: _("Call from %(name)s, over"),
        CallStatus.MISSED: _("Missed call from %(name)s"),
        CallStatus.REJECTED: _("Call from %(name)s, declined"),
        CallStatus.ACCEPTED: _("Call from %(name)s, answered"),
    }.get(CallStatus(call.status), _("Call from %(name)s"))


@register.filter
def window_until(conversation: Conversation) -> dt.datetime | None:
    """Return the end of the 24 hours in which free text is allowed, where it is still to come."""
    if conversation.last_inbound_at is None:
        return None
    until = conversation.last_inbound_at + SERVICE_WINDOW
    return until if until > timezone.now() else None


@register.filter
def phone(number: str) -> SafeString:
    """Draw a number as people write it, on one line; as it is where it is none."""
    digits = number.lstrip("+")
    written = phone_numbers.pretty(f"+{digits}") if digits.isdigit() else number
    return format_html('<span class="nowrap">{}</span>', written)


@register.filter
def pretty_number(contact: Contact) -> str:
    """Return the contact's phone number as people write it."""
    return phone_numbers.pretty(contact.phone_number) if contact.phone_number else ""


@register.filter
def contact_name(contact: Contact) -> str:
    """Return the contact's name, else the number as people write it."""
    return contact.name or pretty_number(contact) or str(contact)


@register.filter
def language_tag(code: str) -> str:
    """Write a language code as HTML wants it: pt-br becomes pt-BR."""
    return to_locale(code).replace("_", "-")


@register.filter
def as_pattern(text: str) -> str:
    """Return the HTML pattern that only this text matches."""
    return "".join(
        letter if letter.isalnum() or letter in " _" else f"\\u{{{ord(letter):x}}}"
        for letter in text
    )


@register.filter
def is_checkbox(field: forms.BoundField) -> bool:
    """Say whether the field is a single box, whose label stands behind it."""
    return isinstance(field.field.widget, forms.CheckboxInput)


# --- times --------------------------------------------------------------------------------------


@register.simple_tag
def ago(moment: dt.datetime | None) -> str | SafeString:
    """Draw a relative time with the exact one in the tooltip; app.js keeps it up to date."""
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
    """Draw the time of day, with the date in the tooltip."""
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
    """Return when something is to come: the time alone where that is today."""
    local = timezone.localtime(moment)
    return f"{local:%H:%M:%S}" if local.date() == timezone.localdate() else exact(moment)


HALF_A_DAY = 12 * 3600  # what was late last evening is not "yesterday" in the night


def relative(moment: dt.datetime, now: dt.datetime) -> str:
    """Say how long ago it was; the same words as in app.js."""
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
    """Name a day as the separators between messages do."""
    today = timezone.localdate()
    if date == today:
        return _("Today")
    if date == today - dt.timedelta(days=1):
        return _("Yesterday")
    return formats.date_format(date, "DATE_FORMAT")


# --- scripts ------------------------------------------------------------------------------------


@register.simple_tag
def interface_texts() -> SafeString:
    """Give the scripts their words, as a block of data (never executed)."""
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
            "copyFailed": _("Could not copy. Select the text and copy it by hand."),
            "newMessage": _("New message: {text}"),
            "requestFailed": _("That did not work. Try again."),
            "tooLong": _("At most {max} characters."),
            "uploading": _("Uploading {name}: {percent}%"),
            "uploadFailed": _("{name} could not be uploaded. Try again."),
            "tooLarge": _("{name} has {size}: WhatsApp takes at most {most}."),
            "removeFile": _("Remove {name}"),
            "offline": _("The server cannot be reached. Your text is kept; try again."),
        },
        "interface-texts",
    )
