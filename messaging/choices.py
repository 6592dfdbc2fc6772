"""The options of a message with buttons or a list, and which of them an answer names. Pure.

A route without buttons sends them as numbered lines (`delivery.downgrade`). The customer answers
with the number or with the words of an option.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

# Longer texts are no answer to a list of options, whose titles have at most 24 characters.
MAX_ANSWER: Final = 100
_NUMBER: Final = re.compile(r"\s*[(\[]?\s*(?:[nN]?[º°#]\s*)?(\d{1,2})\s*[ºª°)\]\.\-:!]*\s*")
# The digits that a phone's keyboard offers as pictures: a digit, its variant and its frame.
_FRAMED: Final = re.compile(r"[\ufe0f\u20e3]")


@dataclass(frozen=True, slots=True)
class Option:
    """One button or row: its id, its words, and the section of the list in which it stands."""

    id: str
    title: str
    description: str = ""
    section: str = ""


def options(content: Any) -> tuple[Option, ...]:
    """Return the options of an interactive message, in the order in which they are numbered."""
    action = content.get("action") if isinstance(content, Mapping) else None
    if not isinstance(action, Mapping):
        return ()
    if content.get("type") == "button":
        replies = [button.get("reply") for button in _objects(action.get("buttons"))]
        return tuple(_option(reply) for reply in replies if isinstance(reply, Mapping))
    if content.get("type") == "list":
        return tuple(
            _option(row, section=_text(section.get("title")))
            for section in _objects(action.get("sections"))
            for row in _objects(section.get("rows"))
        )
    return ()


def quick_replies(template: Any, content: Any) -> tuple[Option, ...]:
    """Return the quick replies of a template as it was shown (`template_bubbles`), with ids.

    An id is the payload that the send has for the button, else the button's text, as Meta reports
    it. They are not numbered in the template's text: they are named by their words.
    """
    shown = template.get("buttons") if isinstance(template, Mapping) else None
    components = content.get("components") if isinstance(content, Mapping) else None
    payloads = {}
    for one in _objects(components):
        if _text(one.get("sub_type")).lower() == "quick_reply":
            for parameter in _objects(one.get("parameters"))[:1]:
                payloads[str(one.get("index"))] = _text(parameter.get("payload"))
    return tuple(
        Option(payloads.get(str(index)) or button[1], button[1])
        for index, button in enumerate(shown if isinstance(shown, list) else [])
        if button[0] == "quick_reply"
    )


def chosen(answer: str, offered: Sequence[Option]) -> Option | None:
    """Return the option that an answer names by its number or by its words; None if none or two.

    Case, accents, punctuation and spaces make no difference. A title that is itself a number goes
    before the number of a line.
    """
    if len(answer) > MAX_ANSWER:
        return None
    words = _plain(answer)
    named = [option for option in offered if words and words == _plain(option.title)]
    if len(named) == 1:
        return named[0]
    if len(named) > 1:
        return None
    full = [one for one in offered if words and words == _plain(f"{one.title} {one.description}")]
    if len(full) == 1:
        return full[0]
    if match := _NUMBER.fullmatch(_FRAMED.sub("", answer)):
        number = int(match[1])
        return offered[number - 1] if 1 <= number <= len(offered) else None
    # The whole line of the list, as somebody copies it: "2. Yes".
    for number, option in enumerate(offered, start=1):
        if words and words in (
            _plain(f"{number} {option.title}"),
            _plain(f"{number} {option.title} {option.description}"),
        ):
            return option
    return None


def is_number(answer: str) -> bool:
    """Return whether an answer is only a number, which may as well answer another question."""
    return _NUMBER.fullmatch(_FRAMED.sub("", answer)) is not None


def _option(row: Mapping[str, Any], *, section: str = "") -> Option:
    return Option(
        id=_text(row.get("id")),
        title=_text(row.get("title")),
        description=_text(row.get("description")),
        section=section,
    )


def _plain(text: str) -> str:
    """Return the words of a text: lower case, without accents and punctuation."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    letters = (
        " " if unicodedata.category(letter)[0] in "PZC" else letter
        for letter in decomposed
        if not unicodedata.combining(letter)
    )
    return " ".join("".join(letters).split())


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
