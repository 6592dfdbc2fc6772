from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from core.text import DEEPEST, is_storable, storable
from messaging import content

LINK = {"link": "https://example.com/a.png"}
DEEP: Any = {}
for _ in range(DEEPEST + 10):
    DEEP = {"name": "x", "language": DEEP}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        ("text", "Olá", None),
        ("text", "x" * 4096, None),
        ("image", "", LINK),
        ("video", "", {**LINK, "caption": "x" * 1024}),
        ("audio", "", LINK),
        ("document", "", {**LINK, "filename": "a.pdf"}),
        ("sticker", "", LINK),
        ("location", "", {"latitude": -23.5, "longitude": 180, "name": "META"}),
        ("contacts", "", [{"name": {"formatted_name": "John"}}]),
        ("reaction", "", {"message_id": "wamid.1", "emoji": ""}),
        ("template", "", {"name": "hello", "language": {"code": "pt_BR"}}),
        ("interactive", "", {"type": "button"}),
    ],
)
def test_every_type_is_accepted(type_: str, text: str, value: Any) -> None:
    content.validate(type_, text, value)


def test_every_type_is_validated() -> None:
    for type_ in content.TYPES:
        with pytest.raises(ValidationError):
            content.validate(type_, "", None)


@pytest.mark.parametrize(
    ("type_", "text", "value", "field"),
    [
        ("poll", "", {}, "type"),
        ("", "", {}, "type"),
        ("text", "", None, "text"),
        ("text", " \n\t", None, "text"),
        ("text", "x" * 4097, None, "text"),
        ("text", "a\x00b", None, "text"),
        ("text", "\ud800", None, "text"),
        ("image", "a\x00b", LINK, "text"),
        ("image", "", "https://example.com/a.png", "image"),
        ("image", "", {"link": 7}, "image"),
        ("image", "", {"link": "ftp://example.com/a.png"}, "image"),
        ("image", "", {"link": "javascript:alert(1)"}, "image"),
        ("image", "", {"link": "not a public internet address"}, "image"),
        ("image", "", {**LINK, "caption": "x" * 1025}, "image"),
        ("image", "", {**LINK, "caption": 7}, "image"),
        ("image", "", {**LINK, "caption": "a\x00b"}, "image"),
        ("location", "", {"latitude": 91, "longitude": 0}, "location"),
        ("location", "", {"latitude": 0, "longitude": -181}, "location"),
        ("location", "", {"latitude": "0", "longitude": 0}, "location"),
        ("location", "", {"latitude": float("nan"), "longitude": 0}, "location"),
        ("location", "", {"latitude": 1, "longitude": 1, "a": float("inf")}, "location"),
        ("location", "", {"latitude": 1}, "location"),
        ("location", "", [1, 2], "location"),
        ("contacts", "", [], "contacts"),
        ("contacts", "", [{}], "contacts"),
        ("contacts", "", {"name": "x"}, "contacts"),
        ("reaction", "", {"emoji": 1}, "reaction"),
        ("template", "", {"name": "x"}, "template"),
        ("template", "", {"name": 1, "language": {}}, "template"),
        ("template", "", DEEP, "template"),
        ("interactive", "", {"type": 1}, "interactive"),
    ],
)
def test_an_error_names_the_invalid_field(type_: str, text: str, value: Any, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        content.validate(type_, text, value)
    assert list(caught.value.message_dict) == [field]


@settings(max_examples=40)
@given(st.sampled_from(content.TYPES) | st.text(), st.text(), JSON)
def test_any_input_is_valid_or_raises_a_validation_error(type_: str, text: str, value: Any) -> None:
    try:
        content.validate(type_, text, value)
    except ValidationError:
        return
    assert is_storable(text)
    assert is_storable(value)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"a\x00": ["b\x00", "\ud83d"]}, {"a": ["b", "?"]}),
        ({"a": float("inf")}, {"a": "inf"}),
        ({"a": [1, 1.5, None, True, "😀"]}, {"a": [1, 1.5, None, True, "😀"]}),
    ],
)
def test_values_that_postgresql_cannot_store_are_replaced(value: Any, stored: Any) -> None:
    assert storable(value) == stored
    assert is_storable(value) == (value == stored)


@settings(max_examples=40)
@given(JSON)
def test_sanitized_values_are_storable(value: Any) -> None:
    assert is_storable(storable(value))


FILE = "0f8fad5b-d9cb-469f-a165-70867728950e"
CARDS = [{"name": {"formatted_name": "John"}}]


@pytest.mark.parametrize(
    ("type_", "value", "named"),
    [
        ("text", {}, None),
        ("poll", {"name": "?", "options": ["a"]}, None),
        ("unsupported", {}, None),
        ("image", LINK, LINK),
        ("document", {"media": FILE, "filename": "a.pdf"}, {"media": FILE, "filename": "a.pdf"}),
        # Received by the Cloud API, by Evolution, by wwebjs.
        ("image", {"id": "1", "sha256": "x", "mime_type": "image/png", "caption": "Praia"},
         {"media": FILE, "caption": "Praia"}),
        ("audio", {"voice": True, "evolution": {"key": {"id": "3A"}}}, {"media": FILE}),
        ("sticker", {}, {"media": FILE}),
        ("contacts", CARDS, CARDS),
        ("contacts", {"contacts": CARDS, "message_type": "contactMessage"}, CARDS),
        ("contacts", {}, []),
        ("location", {"latitude": 1, "longitude": 2, "message_type": "locationMessage"},
         {"latitude": 1, "longitude": 2}),
        ("reaction", {"message_id": "3A", "emoji": "👍"}, {"message_id": "3A", "emoji": "👍"}),
        ("interactive", {"type": "button_reply", "button_reply": {"id": "1", "title": "Sim"}},
         {"type": "button_reply", "button_reply": {"id": "1", "title": "Sim"}}),
    ],
)  # fmt: skip
def test_each_type_has_its_object_both_sent_and_received(
    type_: str, value: Any, named: Any
) -> None:
    media = FILE if type_ in content.MEDIA_TYPES and "link" not in value else ""
    assert content.named_object(type_, value, media=media) == named
