"""What the composer's page gives its scripts."""

from __future__ import annotations

from django import template
from django.utils.html import json_script
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

register = template.Library()


@register.filter
def split(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()


@register.simple_tag
def compose_texts() -> SafeString:
    """Render the texts of the composer's scripts as a JSON data block (never executed)."""
    return json_script(
        {
            "you": _("You"),
            "caption": _("Caption"),
            "refused": _("{name}: WhatsApp does not accept this type of file."),
            "noReplies": _("No quick reply fits."),
            "manage": _("Manage quick replies"),
            "missing": _("Has no value: {names}"),
            "searchEmoji": _("Search emoji"),
            "pause": _("Pause"),
            "resume": _("Continue"),
            "draft": _("Draft:"),
            "micDenied": _("The browser may not use the microphone. Allow it beside the address."),
            "micMissing": _("No microphone was found."),
            "micInsecure": _("Recording needs an https address."),
            "recordingFailed": _("The recording failed. Try again."),
        },
        "compose-texts",
    )
