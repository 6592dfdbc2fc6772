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
    language = content.get("language")
    code = language.get("code") if isinstance(language, Mapping) else language
    name = content.get("name")
    if not isinstance(name, str) or not isinstance(code, str):
        return None
    return message_templates.find(channel, name, language_code(code))
