"""What a route sends in place of a message that it cannot carry as it is. Pure.

`adapt` returns the message in a form that the engine takes, and what that changes, or why the
engine cannot carry it. The same function says so before a message is sent (the verdict) and is
used by every send (`runner.outbound`), so that both agree.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from channels_app.providers import header_media
from channels_app.providers.base import Capabilities
from messaging import choices
from messaging import content as contents

# The changes by their code: what staff read in the history and before sending.
CHANGES: Final[dict[str, str | Promise]] = {
    "template_as_text": _("The template is sent as its text, with header, footer and buttons."),
    "template_header_as_media": _("The template's text is the caption of its header's file."),
    "header_left_out": _("The template's header is left out: only the official API can send it."),
    "card_headers_left_out": _("The images, videos and products of the cards are left out."),
    "offer_end_left_out": _("The time at which the offer ends is left out."),
    "buttons_numbered": _("The buttons are sent as numbered lines; the customer answers by text."),
    "list_numbered": _("The list is sent as numbered lines; the customer answers by text."),
    "header_as_media": _("The text is the caption of the header's file."),
    "url_button_as_text": _("The button is sent as its text and web address."),
    "location_request_as_text": _("The request for a location is sent as text without its button."),
    "contact_request_as_text": _(
        "The request for the phone number is sent as text without its button."
    ),
    "contacts_as_text": _("The contacts are sent as text instead of cards."),
    "location_as_text": _("The location is sent as text with a link to a map."),
    "sticker_as_image": _("The sticker is sent as an image."),
    "quote_left_out": _("The reply is sent without quoting: this route does not have the message."),
}

# The change of a reply whose quoted message the route does not know.
QUOTE_LEFT_OUT: Final = "quote_left_out"

# Why a message cannot be carried: codes of `channels_app.providers.error_codes`.
UNSUPPORTED: Final = "unsupported_type"
NOT_BY_THIS_ROUTE: Final = "official_only"
TEXT_UNKNOWN: Final = "template_text_unknown"
FILE_UNAVAILABLE: Final = "header_file_unavailable"
CAPTION_TOO_LONG: Final = "caption_too_long"

_MAP: Final = "https://maps.google.com/?q={latitude},{longitude}"


class RenderedTemplate(Protocol):
    """A template that is filled in, as the customer sees it."""

    @property
    def button_kinds(self) -> Collection[str]:
        """The kinds of its buttons: Meta's words in lower case."""
        ...

    def as_text(self) -> str:
        """Return header, body, footer and buttons as one text."""
        ...


@dataclass(frozen=True, slots=True)
class Adapted:
    """The message to send. `changes` are keys of CHANGES; none if it goes as it is.

    Of a message whose header has an uploaded file, the file is that of the message in any form.
    """

    type: str
    text: str
    content: Any = field(default_factory=dict)
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The route cannot carry the message; `code` is one of our error codes."""

    code: str


def adapt(
    type_: str,
    text: str,
    content: Any,
    capabilities: Capabilities,
    *,
    template: RenderedTemplate | None = None,
) -> Adapted | Refusal:
    """Return the message as an engine with these capabilities can carry it, or why it cannot.

    `text` of a template is the one that was stored when it was accepted, "" if its definition was
    not known; then `template`, which has also the buttons that a send does not name, is None.
    """
    if capabilities.takes(type_, content):
        return Adapted(type_, text, content)
    if type_ == "template":
        return _template(text, content, template, capabilities)
    if type_ == "interactive":
        return _interactive(content, capabilities)
    if type_ == "sticker" and "image" in capabilities.types:
        return Adapted("image", text, content, ("sticker_as_image",))
    if "text" not in capabilities.types:
        return Refusal(UNSUPPORTED)
    if type_ == "contacts" and (cards := _cards_as_text(content)):
        return Adapted("text", cards, {}, ("contacts_as_text",))
    if type_ == "location" and (place := _location_as_text(content)):
        return Adapted("text", place, {}, ("location_as_text",))
    return Refusal(UNSUPPORTED)


def describe(changes: Sequence[str]) -> list[str]:
    """Return the sentences of changes, in the active language. An unknown one is left as it is."""
    return [str(CHANGES.get(change, change)) for change in changes]


def _template(
    text: str, content: Any, template: RenderedTemplate | None, capabilities: Capabilities
) -> Adapted | Refusal:
    text = text or (template.as_text() if template else "")
    if not text:
        return Refusal(TEXT_UNKNOWN)
    buttons = {_sub_type(one) for one in _components(content)} - {""}
    buttons |= set(template.button_kinds if template else ())
    if not buttons <= _BUTTONS_AS_TEXT:
        # As a line of text it does nothing; the same message without a template is refused, too.
        return Refusal(NOT_BY_THIS_ROUTE)
    changes = ("template_as_text", *_losses(content))
    if "request_contact_info" in buttons:
        changes += ("contact_request_as_text",)
    return _with_header("template", text, content, capabilities, changes)


# Buttons that say something as a line of text, too. What any other one opens, such as a form or a
# catalog, exists in the official API only.
_BUTTONS_AS_TEXT: Final = frozenset(
    {"quick_reply", "url", "phone_number", "copy_code", "otp", "request_contact_info"}
)
# Headers that the template's text has, and those whose file is sent with it.
_KEPT_HEADERS: Final = ("text", "currency", "date_time", "location", *header_media.KINDS)


def _losses(content: Any) -> tuple[str, ...]:
    """Return what the text of a template does not have, as keys of CHANGES."""
    lost: dict[str, None] = {}
    for component in _components(content):
        kind = _word(component.get("type"))
        if kind == "header" and any(
            _word(one.get("type")) not in _KEPT_HEADERS for one in _items(component, "parameters")
        ):
            lost["header_left_out"] = None
        elif kind == "limited_time_offer":
            lost["offer_end_left_out"] = None
        elif kind == "carousel":
            cards = (_components(card) for card in _items(component, "cards"))
            if any(_word(part.get("type")) == "header" for card in cards for part in card):
                lost["card_headers_left_out"] = None
    return tuple(lost)


def _components(content: Any) -> list[Mapping[str, Any]]:
    return _items(_mapping(content), "components")


def _sub_type(component: Mapping[str, Any]) -> str:
    return _word(component.get("sub_type"))


def _word(value: Any) -> str:
    return _text(value).lower()


def _with_header(
    type_: str, text: str, content: Any, capabilities: Capabilities, changes: tuple[str, ...]
) -> Adapted | Refusal:
    """Return a text; as the caption of the header's file if it has one."""
    found = header_media.find(type_, content)
    if found is None:
        if "text" not in capabilities.types:
            return Refusal(UNSUPPORTED)
        return Adapted("text", text, {}, changes)
    kind, file = found
    if kind not in capabilities.types:
        return Refusal(UNSUPPORTED)
    if not (file.get("link") or file.get("media")):
        # Only Meta has it.
        return Refusal(FILE_UNAVAILABLE)
    if len(text) > contents.MAX_CAPTION:
        return Refusal(CAPTION_TOO_LONG)
    given = {name: file[name] for name in ("link", "media", "filename") if file.get(name)}
    change = "template_header_as_media" if type_ == "template" else "header_as_media"
    return Adapted(kind, "", {**given, "caption": text}, (*changes, change))


# By the kind of an interactive message: what becomes of it.
_INTERACTIVE: Final = {
    "button": "buttons_numbered",
    "list": "list_numbered",
    "cta_url": "url_button_as_text",
    "location_request_message": "location_request_as_text",
    "request_contact_info": "contact_request_as_text",
}


def _interactive(content: Any, capabilities: Capabilities) -> Adapted | Refusal:
    kind = content.get("type") if isinstance(content, Mapping) else None
    change = _INTERACTIVE.get(kind) if isinstance(kind, str) else None
    if change is None:
        # Flows, products, calls: what they do exists in the official API only.
        return Refusal(NOT_BY_THIS_ROUTE)
    return _with_header("interactive", as_text(content), content, capabilities, (change,))


def as_text(content: Mapping[str, Any]) -> str:
    """Return an interactive message written out as one WhatsApp text.

    Its options are numbered in the order of `choices.options`, by which an answer is understood.
    """
    header = _mapping(content.get("header"))
    title = _text(header.get("text")) if header.get("type") == "text" else ""
    footer = _text(_mapping(content.get("footer")).get("text"))
    parts = (
        f"*{title}*" if title else "",
        _text(_mapping(content.get("body")).get("text")),
        *_action(content),
        f"_{footer}_" if footer else "",
    )
    return "\n\n".join(part for part in parts if part)


def _action(content: Mapping[str, Any]) -> list[str]:
    action = _mapping(content.get("action"))
    parameters = _mapping(action.get("parameters"))
    if content.get("type") == "cta_url":
        label, url = _text(parameters.get("display_text")), _text(parameters.get("url"))
        return [f"{label}: {url}" if label else url]
    blocks: list[str] = []
    lines: list[str] = []
    section = ""
    for number, option in enumerate(choices.options(content), start=1):
        if option.section != section:
            if lines:
                blocks.append("\n".join(lines))
            section, lines = option.section, [f"*{option.section}*"] if option.section else []
        lines.append(f"{number}. {option.title}")
        if option.description:
            lines[-1] += f" – {option.description}"
    return [*blocks, "\n".join(lines)] if lines else blocks


def _cards_as_text(content: Any) -> str:
    """Return contact cards as text: each name with all that its card has."""
    cards = content.get("contacts") if isinstance(content, Mapping) else content
    blocks = []
    for card in cards if isinstance(cards, list | tuple) else []:
        card = _mapping(card)
        name = card.get("name")
        named = _text(name if isinstance(name, str) else _mapping(name).get("formatted_name"))
        org = _mapping(card.get("org"))
        lines = [
            f"*{named}*" if named else "",
            ", ".join(
                filter(None, (_text(org.get(name)) for name in ("title", "department", "company")))
            ),
            *(_text(one.get("phone")) or _text(one.get("wa_id")) for one in _items(card, "phones")),
            *(_text(one.get("email")) for one in _items(card, "emails")),
            *(_text(one.get("url")) for one in _items(card, "urls")),
            *(_address(one) for one in _items(card, "addresses")),
            *(
                ": ".join(filter(None, (_text(one.get("service")), _text(one.get("user_id")))))
                for one in _items(card, "ims")
            ),
            _text(card.get("birthday")),
        ]
        blocks.append("\n".join(line for line in lines if line))
    return "\n\n".join(block for block in blocks if block)


def _address(address: Mapping[str, Any]) -> str:
    country = _text(address.get("country")) or _text(address.get("country_code"))
    parts = (_text(address.get(name)) for name in ("street", "city", "state", "zip"))
    return ", ".join(filter(None, (*parts, country)))


def _location_as_text(content: Any) -> str:
    place = _mapping(content)
    latitude, longitude = place.get("latitude"), place.get("longitude")
    if latitude is None or longitude is None:
        return ""
    link = _MAP.format(latitude=latitude, longitude=longitude)
    return "\n".join(filter(None, (_text(place.get("name")), _text(place.get("address")), link)))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _items(card: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = card.get(name)
    return [_mapping(item) for item in items] if isinstance(items, list) else []


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
