"""WhatsApp's formatting of a text, as HTML. Pure.

`*bold*`, `_italic_`, `~strike~`, `` `code` ``, code blocks between three backticks, lines that
begin with `- ` or `* ` (a list) or with `> ` (a quote). All else is escaped, and addresses become
links. Of a very long text only the beginning is formatted.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

from django.utils.html import escape, urlize
from django.utils.safestring import SafeString, mark_safe

_TAGS: Final = {"*": "strong", "_": "em", "~": "s", "`": "code"}
_BLOCK: Final = re.compile(r"```\n?(.+?)\n?```", re.DOTALL)
_LINK: Final = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_ITEM: Final = re.compile(r"[-*] (?=\S)")
_QUOTE: Final = re.compile(r"> ?(?=\S)")
# A customer's text may have 65,536 characters; what follows these is escaped only.
_MAX_FORMATTED: Final = 10_000


def to_html(text: str) -> SafeString:
    """Return a text as a phone shows it. Everything that is not formatting is escaped."""
    head, rest = _cut(text)
    parts = []
    for index, part in enumerate(_BLOCK.split(head)):
        if index % 2:
            parts.append(f"<pre><code>{escape(part)}</code></pre>")
        elif part:
            parts.append(_lines(part))
    parts.append(escape(rest).replace("\n", "<br>"))
    # Every piece is escaped, or a tag of ours.
    return mark_safe("".join(parts))  # noqa: S308


def _cut(text: str) -> tuple[str, str]:
    """Return what is formatted, and the rest. No word is cut, unless it is longer than that."""
    if len(text) <= _MAX_FORMATTED:
        return text, ""
    end = max(text.rfind(space, 0, _MAX_FORMATTED) for space in " \n")
    return (text[:end], text[end:]) if end > 0 else ("", text)


def _lines(text: str) -> str:
    lines = text.split("\n")
    blocks = ["".join(_block(kind, list(group))) for kind, group in groupby(lines, _kind)]
    return "".join(blocks)


def _kind(line: str) -> str:
    if _ITEM.match(line):
        return "item"
    return "quote" if _QUOTE.match(line) else ""


def _block(kind: str, lines: Sequence[str]) -> Iterator[str]:
    if kind == "item":
        yield "<ul>"
        yield from (f"<li>{_inline(_ITEM.sub('', line, count=1))}</li>" for line in lines)
        yield "</ul>"
    elif kind == "quote":
        yield f"<blockquote>{_joined(_QUOTE.sub('', line, count=1) for line in lines)}</blockquote>"
    else:
        yield _joined(lines)


def _joined(lines: Iterable[str]) -> str:
    return "<br>".join(map(_inline, lines))


def _inline(line: str, marks: str = "*_~`") -> str:
    """Return one line, formatted by these marks.

    A mark opens before a character that is no space and not within a word, and closes likewise.
    """
    marks = "".join(mark for mark in marks if mark in line)
    if not marks:
        return str(urlize(line, nofollow=True, autoescape=True))
    inside_links = [_span(found) for found in _LINK.finditer(line)]
    closers = {mark: list(_closers(line, mark, inside_links)) for mark in marks}
    parts, start, at = [], 0, 0
    while at < len(line):
        mark = line[at]
        end = -1
        if mark in closers and _opens(line, at) and not _is_inside(at, inside_links):
            later = closers[mark][bisect_right(closers[mark], at + 1) :][:1]
            end = later[0] if later else -1
        if end < 0:
            at += 1
            continue
        parts.append(_inline(line[start:at], ""))
        inner = line[at + 1 : end]
        shown = escape(inner) if mark == "`" else _inline(inner, marks.replace(mark, ""))
        parts.append(f"<{_TAGS[mark]}>{shown}</{_TAGS[mark]}>")
        start = at = end + 1
    parts.append(_inline(line[start:], ""))
    return "".join(parts)


def _opens(line: str, at: int) -> bool:
    before, after = line[at - 1 : at] if at else "", line[at + 1 : at + 2]
    return not before.isalnum() and bool(after) and not after.isspace() and after != line[at]


def _closers(line: str, mark: str, inside: Sequence[tuple[int, int]]) -> Iterator[int]:
    for at, sign in enumerate(line):
        if sign == mark and at and not _is_inside(at, inside):
            before, after = line[at - 1], line[at + 1 : at + 2]
            if not before.isspace() and before != mark and not after.isalnum():
                yield at


def _span(link: re.Match[str]) -> tuple[int, int]:
    """Return where an address begins and ends; a mark at its end does not belong to it."""
    return link.start(), link.start() + len(link[0].rstrip("*_~`.,;:!?)]>\"'"))


def _is_inside(at: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Return whether one of the spans, which are in order, has this place."""
    before = bisect_right(spans, at, key=_start)
    return before > 0 and at < spans[before - 1][1]


_start: Final = itemgetter(0)
