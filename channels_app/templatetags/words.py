"""Renders stored reason codes and reports as sentences in the language of the page."""

from __future__ import annotations

from collections.abc import Iterator

from django import template

from channels_app.incidents import reason_text
from channels_app.models import Channel
from channels_app.providers.base import ConnectionReport

register = template.Library()


@register.filter
def in_words(stored: str) -> str:
    """Render reasons that `reason_text.encode_reason` encoded."""
    return reason_text.render_reason(stored)


@register.filter
def own_side(channel: Channel) -> str:
    """Return a channel's health detail, without a fallback whose own state is shown beside it."""
    stored = channel.primary.health_detail
    unchecked = channel.uses_wwebjs and channel.wwebjs.state_code in ("", "unchecked")
    return stored if unchecked else reason_text.own_side(stored)


@register.filter
def summary(report: ConnectionReport) -> str:
    """Return the result of a connection test in one sentence."""
    return reason_text.summary(report)


@register.filter
def rows(report: ConnectionReport) -> Iterator[tuple[str, str]]:
    """Return labels and values of its details."""
    return reason_text.rows(report)
