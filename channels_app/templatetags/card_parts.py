"""Renders the channel parts of higher layers, in the order of registration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from channels_app import extensions
from channels_app.models import Channel

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

register = template.Library()


@register.simple_tag
def card_parts_of(channel: Channel, may_change: bool = False) -> SafeString:
    """Render the parts of the channel's card."""
    return _join(part(channel, may_change) for part in extensions.CARD)


@register.simple_tag
def page_parts_of(channel: Channel, user: User | AnonymousUser) -> SafeString:
    """Render the parts of the channel's page that the person may see."""
    return _join(part(channel, user) for part in extensions.PAGE)


@register.simple_tag
def line_parts_of(channel: Channel) -> SafeString:
    """Render the parts of the channel's line on the dashboard."""
    return _join(part(channel) for part in extensions.LINE)


def _join(parts: Iterable[SafeString]) -> SafeString:
    return format_html_join("\n", "{}", ((part,) for part in parts if part))
