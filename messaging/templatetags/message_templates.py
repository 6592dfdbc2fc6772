"""Message templates as people read and see them. No tag makes a query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import template
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from channels_app.models import MessageTemplate
from channels_app.providers.cloud import templates
from messaging import content as contents
from messaging import formatting, template_bubbles, template_words
from messaging.models import Message

register = template.Library()

_GLYPHS = {
    "quick_reply": "reply",
    "url": "link",
    "phone_number": "call",
    "voice_call": "call",
    "copy_code": "copy",
    "otp": "copy",
    "request_contact_info": "person",
}
_MEDIA_GLYPHS = {"image": "image", "video": "video", "gif": "video", "location": "pin"}


@dataclass(frozen=True, slots=True)
class Media:
    """The header of a template that is no text. `upload` is the id of the stored file, or ""."""

    kind: str
    label: str
    detail: str = ""
    upload: str = ""

    @property
    def glyph(self) -> str:
        return _MEDIA_GLYPHS.get(self.kind, "file")


@dataclass(frozen=True, slots=True)
class Button:
    """A button. `url` is an address that a browser may follow, `detail` what stands beside it."""

    glyph: str
    text: str
    url: str = ""
    detail: str = ""


@register.filter
def formatted(text: str) -> SafeString:
    """Render a text with WhatsApp's formatting, links and line breaks."""
    return formatting.to_html(text)


@register.filter
def header_media(rendered: templates.Rendered) -> Media | None:
    """Return the header of a rendered template if it is a file or a place."""
    kind = rendered.header_kind
    if kind in ("", "text"):
        return None
    labels = {
        "image": _("Image"),
        "video": _("Video"),
        "gif": _("GIF"),
        "document": _("Document"),
        "location": _("Location"),
        "product": _("Product"),
    }
    media: Mapping[str, Any] = rendered.header_media or {}
    upload = contents.media_id(media)
    names = ("filename", "name", "address", "link", "product_retailer_id")
    detail = next((str(media[name]) for name in names if media.get(name)), "")
    return Media(kind, labels.get(kind, kind), detail, str(upload) if upload else "")


@register.filter
def buttons_of(rendered: templates.Rendered) -> list[Button]:
    """Return the buttons of a rendered template."""
    return [_button(one) for one in rendered.buttons]


def _button(button: templates.Button) -> Button:
    followed = button.kind == "url" and button.value.startswith(("https://", "http://"))
    # An address with an open variable leads nowhere.
    url = button.value if followed and "{{" not in button.value else ""
    return Button(_GLYPHS.get(button.kind, "list"), button.text or button.kind, url, button.value)


@register.filter
def is_empty(rendered: templates.Rendered) -> bool:
    """Return whether there is nothing to show of a rendered template yet."""
    return not (rendered.body or rendered.header_kind or rendered.buttons or rendered.footer)


@register.filter
def sent_template(message: Message) -> templates.Rendered | None:
    """Return the template as the customer saw it, or None for another message."""
    return template_bubbles.read(message.context)


@register.filter
def example_of(row: MessageTemplate) -> templates.Rendered:
    """Return a template as the customer sees it, filled with its examples."""
    definition = row.definition
    return templates.render_values(definition, examples(definition))


def examples(definition: templates.Definition) -> dict[str, str]:
    """Return the examples of the variables, by the key of the field."""
    return {one.key: one.example for one in templates.fields(definition) if one.example}


@register.filter
def first_line(row: MessageTemplate) -> str:
    """Return the text of a template in one line, with its variables."""
    rendered = templates.render_values(row.definition, {})
    return " ".join(rendered.body.split())


@register.filter
def status_word(row: MessageTemplate) -> template_words.Word:
    """Return the status in words."""
    return template_words.status(row.definition.status)


@register.filter
def quality_word(row: MessageTemplate) -> template_words.Word:
    """Return the quality in words."""
    return template_words.quality(row.quality)


@register.filter
def category_word(code: str) -> template_words.Word:
    """Return a category in words."""
    return template_words.category(code)


@register.filter
def rejection_word(row: MessageTemplate) -> template_words.Word | None:
    """Return why Meta rejected a template and what to do, or None."""
    return template_words.rejection(row.rejected_reason) if row.status == "REJECTED" else None


@register.filter
def language_word(code: str) -> str:
    """Return the name of a language."""
    return str(template_words.language(code))
