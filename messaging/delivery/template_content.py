"""The template of a message before it is stored: its form, its definition, its text.

A program may send Meta's own object, or the short form (docs/providers/cloud.md §11.6), which needs
the stored definition. What is stored is always Meta's object. Where the definition is unknown,
Meta's object is passed on as it is, and Meta checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from channels_app import message_templates
from channels_app.models import Channel, MessageTemplate
from channels_app.providers import header_media
from channels_app.providers.cloud import templates
from core.text import is_storable
from messaging.delivery import sent_templates
from messaging.media import files
from messaging.models import Media

_SHORT_ONLY: Final = frozenset({"parameters", "header", "buttons", "cards", "offer"})
_SHORT: Final = frozenset({"name", "language"}) | _SHORT_ONLY


@dataclass(frozen=True, slots=True)
class Prepared:
    """A template that may be stored: Meta's object, its file, and its text ("" if unknown)."""

    content: Any
    file: Media | None = None
    text: str = ""
    template: MessageTemplate | None = None
    rendered: templates.Rendered | None = None


def is_short(content: Any) -> bool:
    """Whether the object of a template is in the short form."""
    if not isinstance(content, Mapping) or "components" in content:
        return False
    return isinstance(content.get("language"), str) or not _SHORT_ONLY.isdisjoint(content)


def validate_short(content: Mapping[str, Any]) -> None:
    """Check the short form as far as no definition is needed. Raises ValidationError by path."""
    errors: dict[str, str] = {}
    for name in content.keys() - _SHORT:
        errors[f"template.{name}"[:100]] = _("This field does not exist.")
    if not isinstance(content.get("name"), str) or not content["name"]:
        errors["template.name"] = _("Enter a text.")
    if not sent_templates.language_of(content):
        errors["template.language"] = _("Enter a language like pt_BR or en.")
    if not is_storable(content):
        errors = {"template": _("The object contains a value that cannot be sent.")}
    if errors:
        raise ValidationError(dict(errors))


def prepare(channel: Channel, content: Any) -> Prepared:
    """Return a validated template as it is stored. One query where the definition is known.

    Raises ValidationError, keyed by the path of the field, for what certainly cannot be sent.
    """
    name, language = str(content["name"]), sent_templates.language_of(content)
    template = message_templates.find(channel, name, language)
    if template is None:
        message_templates.enqueue_if_outdated(channel)
        if is_short(content):
            raise ValidationError({"template.name": _unknown(channel, name, language)})
        return _with_file(content)
    definition = template.definition
    if problem := definition.unusable:
        # A pause ends by itself.
        message_templates.enqueue_if_outdated(channel)
        raise ValidationError({"template": problem})
    if is_short(content):
        content = _filled(definition, content)
    elif problems := templates.errors(definition, content.get("components")):
        message_templates.enqueue_if_outdated(channel)
        raise ValidationError(_by_path(problems))
    else:
        # Webhooks write "pt-BR", which Meta does not take in a send.
        named = {**content["language"], "code": definition.language}
        content = {**content, "language": named}
    prepared = _with_file(content)
    rendered = templates.render(definition, prepared.content.get("components"))
    return Prepared(prepared.content, prepared.file, rendered.as_text(), template, rendered)


def category(channel: Channel, content: Any) -> str:
    """Return the category of a stored template, "" if it is unknown. One query."""
    template = sent_templates.find(channel, content)
    return template.category if template is not None else ""


def _filled(definition: templates.Definition, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the short form as Meta's object."""
    parts = {name: content.get(name) for name in _SHORT_ONLY}
    try:
        components = templates.fill(definition, **parts)
    except templates.InvalidParameters as error:
        raise ValidationError(_by_path(error.errors)) from None
    filled = {"name": definition.name, "language": {"code": definition.language}}
    return {**filled, "components": components} if components else filled


def _with_file(content: Any) -> Prepared:
    """Return the template with the stored file of its header. A document keeps its file's name."""
    file = files.of_content("template", content)
    found = header_media.find("template", content)
    if file is None and found is not None and "media" in found[1]:
        field = files.field_of("template", content)
        raise ValidationError({field: _('"media" is not the ID of an upload.')})
    if file is not None and found is not None:
        kind, named = found
        if kind == "document" and not named.get("filename"):
            content = header_media.replace(
                "template", content, {**named, "filename": file.filename}
            )
    return Prepared(content, file)


def _by_path(errors: Mapping[str, str]) -> dict[str, Any]:
    return {f"template.{key}"[:200]: text for key, text in errors.items()}


def _unknown(channel: Channel, name: str, language: str) -> str:
    if not channel.business_account_id:
        return _("The channel has no WhatsApp Business account ID, which the short form needs.")
    return _("The account has no template “%(name)s” in “%(language)s”.") % {
        "name": name,
        "language": language,
    }
