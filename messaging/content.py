"""Message types, and the validation of each type's content object. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.utils.translation import gettext_lazy as _

from core.text import is_storable

# docs/providers/cloud.md §1.3
CAPTIONED = ("image", "video", "document")
MAX_TEXT = 4096
MAX_CAPTION = 1024
MAX_FILENAME = 150
MEDIA_TYPES = ("image", "video", "audio", "document", "sticker")
OBJECT_TYPES = ("location", "contacts", "reaction", "template", "interactive")
TYPES = ("text", *MEDIA_TYPES, *OBJECT_TYPES)

_check_url = URLValidator(schemes=["http", "https"])


def validate(type_: str, text: str, content: Any) -> None:
    """Validate a message before it is stored.

    `content` is the object named after the type, in the Cloud API's format. Raises ValidationError
    keyed by the invalid request field.
    """
    if type_ not in TYPES:
        raise ValidationError(
            {"type": _("Unknown type. Supported types: %(types)s.") % {"types": ", ".join(TYPES)}}
        )
    if not is_storable(text):
        raise ValidationError({"text": _("The text contains a character that cannot be sent.")})
    if type_ == "text":
        _validate_text(text)
    elif type_ in MEDIA_TYPES:
        _validate_media(type_, content)
    else:
        _validate_object(type_, content)
    if not is_storable(content):
        raise ValidationError({type_: _("The object contains a value that cannot be sent.")})


def _validate_text(text: str) -> None:
    if not text.strip():
        raise ValidationError({"text": _("Enter a text.")})
    if len(text) > MAX_TEXT:
        raise ValidationError(
            {
                "text": _("The text has %(length)d characters; the limit is %(max)d.")
                % {"length": len(text), "max": MAX_TEXT}
            }
        )


def _validate_media(type_: str, content: Any) -> None:
    content = content if isinstance(content, Mapping) else {}
    link, media = content.get("link"), content.get("media")
    if (link is None) == (media is None):
        raise ValidationError(
            {
                type_: _(
                    'Provide an object with a public "link", or with "media": the ID of an upload.'
                )
            }
        )
    if media is not None and media_id(content) is None:
        raise ValidationError({type_: _('"media" is not the ID of an upload.')})
    if link is not None:
        try:
            _check_url(link)
        except ValidationError:
            raise ValidationError({type_: _('"link" is not a web address.')}) from None
    caption = content.get("caption", "")
    if not isinstance(caption, str) or len(caption) > MAX_CAPTION:
        raise ValidationError(
            {
                type_: _('"caption" must be a text of at most %(max)d characters.')
                % {"max": MAX_CAPTION}
            }
        )
    if caption and type_ not in CAPTIONED:
        raise ValidationError({type_: _("A message of this type cannot have a caption.")})
    filename = content.get("filename", "")
    if not isinstance(filename, str) or len(filename) > MAX_FILENAME:
        raise ValidationError(
            {
                type_: _('"filename" must be a text of at most %(max)d characters.')
                % {"max": MAX_FILENAME}
            }
        )


def media_id(content: Any) -> uuid.UUID | None:
    """Return the id of the upload that a media object refers to, or None."""
    value = content.get("media") if isinstance(content, Mapping) else None
    try:
        return uuid.UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _is_location(content: Any) -> bool:
    return isinstance(content, Mapping) and all(
        isinstance(content.get(key), (int, float)) and abs(content[key]) <= limit
        for key, limit in (("latitude", 90), ("longitude", 180))
    )


def _is_template(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and isinstance(content.get("name"), str)
        and isinstance(content.get("language"), Mapping)
    )


def _is_contacts(content: Any) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(item, Mapping) and "name" in item for item in content)
    )


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "location": _is_location,
    "template": _is_template,
    "contacts": _is_contacts,
    "reaction": lambda c: isinstance(c, Mapping) and isinstance(c.get("emoji"), str),
    "interactive": lambda c: isinstance(c, Mapping) and isinstance(c.get("type"), str),
}


def _validate_object(type_: str, content: Any) -> None:
    if not _CHECKS[type_](content):
        raise ValidationError(
            {type_: _("The object does not have the structure that the Cloud API expects.")}
        )
    if type_ == "reaction":
        targets = [content[name] for name in ("message", "message_id") if name in content]
        if len(targets) != 1 or not isinstance(targets[0], str) or not targets[0]:
            raise ValidationError(
                {
                    type_: _(
                        'Name the message that this refers to: "message" with the ID of a message '
                        'here, or "message_id" with the provider\'s ID.'
                    )
                }
            )


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
