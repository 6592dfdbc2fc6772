"""Message types, and the validation of each type's content object. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from core.text import is_blank, is_storable
from messaging import objects

# docs/providers/cloud.md §1.3
MAX_TEXT = 4096
MAX_CAPTION = objects.MAX_CAPTION
MEDIA_TYPES = ("image", "video", "audio", "document", "sticker")
OBJECT_TYPES = ("location", "contacts", "reaction", "template", "interactive")
TYPES = ("text", *MEDIA_TYPES, *OBJECT_TYPES)


def validate(type_: str, text: str, content: Any) -> None:
    """Validate a message before it is stored.

    `content` is the object named after the type, in the Cloud API's format; of a text, its options.
    Raises ValidationError keyed by the path of the invalid field of the request.
    """
    if type_ not in TYPES:
        raise ValidationError(
            {"type": _("Unknown type. Supported types: %(types)s.") % {"types": ", ".join(TYPES)}}
        )
    if not is_storable(text):
        raise ValidationError({"text": _("The text contains a character that cannot be sent.")})
    if type_ == "text":
        _validate_text(text)
        _validate_options(content)
    elif found := objects.errors(type_, content):
        raise ValidationError(dict(found))


def _validate_options(content: Any) -> None:
    """Check what a text may have beside it: whether its link is shown with a preview."""
    options = content if isinstance(content, Mapping) else {}
    if options.keys() - {"preview_url"} or not isinstance(options.get("preview_url", True), bool):
        raise ValidationError({"preview_url": _("Give true or false.")})


def _validate_text(text: str) -> None:
    if is_blank(text):
        raise ValidationError({"text": _("Enter a text.")})
    if len(text) > MAX_TEXT:
        raise ValidationError(
            {
                "text": _("The text has %(length)d characters; the limit is %(max)d.")
                % {"length": len(text), "max": MAX_TEXT}
            }
        )


def media_id(content: Any) -> uuid.UUID | None:
    """Return the id of the upload that a media object refers to, or None."""
    value = content.get("media") if isinstance(content, Mapping) else None
    try:
        return uuid.UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


# Fields of a received object that are Alterna's or the provider's own: use `content` for them.
_INTERNAL_FIELDS = ("message_type", "evolution", "media_url", "wwebjs")


def named_object(type_: str, content: Any, *, media: str = "") -> Any:
    """Return the object named after the type, as a program would send it, or None.

    `media` is the id of the message's file, if it has one; the link it was sent by is preserved.
    """
    if type_ == "text" or type_ not in TYPES:
        return None
    fields = dict(content) if isinstance(content, Mapping) else {}
    if type_ == "contacts":
        # Sent as a list; received ones are wrapped with provider details.
        return content if isinstance(content, list) else fields.get("contacts", [])
    if type_ not in MEDIA_TYPES:
        return {name: fields[name] for name in fields if name not in _INTERNAL_FIELDS}
    file = {"link": fields.get("link"), "media": fields.get("media") or media}
    result = {**file, "caption": fields.get("caption"), "filename": fields.get("filename")}
    return {name: result[name] for name in result if result[name]}
