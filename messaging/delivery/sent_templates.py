"""The stored definition of the template that a message names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from channels_app import message_templates
from channels_app.models import Channel, MessageTemplate
from channels_app.providers.cloud.templates import language_code


def find(channel: Channel, content: Any) -> MessageTemplate | None:
    """Return the template of the channel's account that the content of a message names, or None."""
    if not isinstance(content, Mapping):
        return None
    name, language = content.get("name"), language_of(content)
    if not isinstance(name, str) or not language:
        return None
    return message_templates.find(channel, name, language)


def language_of(content: Mapping[str, Any]) -> str:
    """Return the language that the content of a template names, in either form, or ""."""
    language = content.get("language")
    return language_code(language.get("code") if isinstance(language, Mapping) else language)
