"""Show a text as WhatsApp does: *bold*, _italic_, ~struck~, `code`, and links. Pure."""

from __future__ import annotations

import re
from typing import Final

from django.utils.html import escape, urlize
from django.utils.safestring import SafeString, mark_safe

_TAGS: Final = {"*": "strong", "_": "em", "~": "s"}


def _marked(mark: str) -> str:
    # No span contains its own mark or a line break, so that matching takes linear time.
    sign = re.escape(mark)
    return rf"(?<![\w{sign}]){sign}(?!\s)[^{sign}\n]*[^\s{sign}]{sign}(?![\w{sign}])"


_SPAN: Final = re.compile(
    r"(?P<block>```(?:(?!```)[\s\S])+```)"
    r"|(?P<code>`[^`\n]+`)"
    r"|(?P<link>https?://[^\s<>]+)"
    rf"|(?P<mark>{'|'.join(map(_marked, _TAGS))})"
)


def to_html(text: str) -> SafeString:
    """Return the text as HTML with its formatting, links and line breaks; everything is escaped."""
    return mark_safe("".join(_pieces(text)))  # noqa: S308 (each piece is escaped)


def _pieces(text: str) -> list[str]:
    pieces, end = [], 0
    for match in _SPAN.finditer(text):
        pieces.append(_plain(text[end : match.start()]))
        pieces.append(_span(match))
        end = match.end()
    pieces.append(_plain(text[end:]))
    return pieces


def _span(match: re.Match[str]) -> str:
    found = match[0]
    if match["block"]:
        return f"<code>{_breaks(escape(found[3:-3].strip(chr(10))))}</code>"
    if match["code"]:
        return f"<code>{escape(found[1:-1])}</code>"
    if match["link"]:
        return _plain(found)
    tag = _TAGS[found[0]]
    return f"<{tag}>{''.join(_pieces(found[1:-1]))}</{tag}>"


def _plain(text: str) -> str:
    return _breaks(urlize(text, nofollow=True, autoescape=True))


def _breaks(html: str) -> str:
    return html.replace("\n", "<br>")
