"""What all pages and forms use."""

from __future__ import annotations

from django import forms, template
from django.conf import settings
from django.utils.html import json_script
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import to_locale

register = template.Library()


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
            "buttonNumber": _("Button {n}"),
            "removeFile": _("Remove {name}"),
            "play": _("Play"),
            "pause": _("Pause"),
            "speed": _("Speed"),
            "position": _("Position"),
            "download": _("Download"),
            "close": _("Close"),
            "previous": _("Previous"),
            "next": _("Next"),
            "offline": _("The server is unavailable. Your text was not lost; try again."),
        },
        "interface-texts",
    )
