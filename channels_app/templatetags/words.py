"""Codes that were stored or found, as sentences in the language of the page."""

from __future__ import annotations

from collections.abc import Iterator

from django import template

from channels_app import session_words
from channels_app.providers.base import ConnectionReport

register = template.Library()


@register.filter
def in_words(stored: str) -> str:
    """Return the sentences for what `session_words.kept` made."""
    return session_words.in_words(stored)


@register.filter
def own_side(stored: str) -> str:
    """Leave out what concerns the fallback: its own state stands beside it."""
    return session_words.own_side(stored)


@register.filter
def summary(report: ConnectionReport) -> str:
    """Return what a test of the connection found, in one sentence."""
    return session_words.summary(report)


@register.filter
def rows(report: ConnectionReport) -> Iterator[tuple[str, str]]:
    """Return labels and values of what it found besides."""
    return session_words.rows(report)
