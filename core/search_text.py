"""Fold texts for the search, in which accents and case make no difference, and mark words. Pure.

`fold` does the same as the database's `alterna_fold` (messaging migration 0022).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

ACCENTED = "ÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖÙÚÛÜÝàáâãäåçèéêëìíîïñòóôõöùúûüýÿ"
PLAIN = "aaaaaaceeeeiiiinooooouuuuyaaaaaaceeeeiiiinooooouuuuyy"
# Accents as characters of their own, as macOS writes the names of files.
MARKS = "\u0300\u0301\u0302\u0303\u0308\u030a\u0327"

_FOLDED = str.maketrans(ACCENTED, PLAIN, MARKS)
# Letters and digits, with the accents that follow them.
_WORD = re.compile(rf"(?:[^\W_][{MARKS}]*)+")

# Portuguese plurals of which the stemmer does not know the singular, without accents.
_PLURALS = (
    ("oes", "ao"), ("aes", "ao"), ("ais", "al"), ("eis", "el"), ("ois", "ol"), ("uis", "ul"),
    ("is", "il"), ("ns", "m"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a text that was found, and whether it is what was searched for."""

    text: str
    marked: bool = False


def fold(text: str) -> str:
    """Return the text in lower case and without accents."""
    return "".join(one.lower() if len(one.lower()) == 1 else one for one in text.translate(_FOLDED))


def words(text: str) -> list[str]:
    """Return the words of a text, folded."""
    return [fold(word) for word in _WORD.findall(text)]


def other_numbers(word: str) -> list[str]:
    """Return what may be the plurals or singulars of a folded Portuguese word."""
    return [
        word.removesuffix(ending) + other
        for plural, singular in _PLURALS
        for ending, other in ((plural, singular), (singular, plural))
        if word.endswith(ending) and len(word) > len(ending) + 1
    ]


def mark(text: str, matches: Callable[[str], bool], *, length: int = 160) -> tuple[Part, ...]:
    """Return a text in parts, cut to some `length` around the first folded word that matches."""
    found = [match for match in _WORD.finditer(text) if matches(fold(match[0]))]
    if not found:
        return (Part(text[:length] + ("…" if len(text) > length else "")),) if text else ()
    begin = max(0, min(found[0].start() - length // 3, len(text) - length))
    end = max(begin + length, found[0].end())
    parts = [Part("…")] if begin else []
    at = begin
    for match in found:
        if match.end() > end:
            break
        parts += [Part(text[at : match.start()]), Part(match[0], marked=True)]
        at = match.end()
    parts.append(Part(text[at:end] + ("…" if end < len(text) else "")))
    return tuple(part for part in parts if part.text)
