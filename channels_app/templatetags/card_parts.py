"""Puts into a page what floors above draw about a channel."""

from __future__ import annotations

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from channels_app import card_parts
from channels_app.models import Channel

register = template.Library()


@register.simple_tag
def channel_parts(place: str, channel: Channel, may_change: bool = False) -> SafeString:
    """Draw the parts of "card" or "page"."""
    parts = card_parts.draw(place, channel, may_change)
    return format_html_join("\n", "{}", ((part,) for part in parts))
