from __future__ import annotations

import itertools
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from core.text import DEEPEST, is_storable, storable
from messaging import content
from simulators.graph import interactive

LINK = {"link": "https://example.com/a.png"}
FILE = "0f8fad5b-d9cb-469f-a165-70867728950e"
CARD = {"name": {"formatted_name": "John"}}
CARDS = [CARD]
TEMPLATE = {"name": "hello", "language": {"code": "pt_BR"}}


def buttons(*titles: str) -> dict[str, Any]:
    replies = [{"id": str(number), "title": title} for number, title in enumerate(titles)]
    action = {"buttons": [{"type": "reply", "reply": reply} for reply in replies]}
    return {"type": "button", "body": {"text": "?"}, "action": action}


def rows(*sections: list[str]) -> dict[str, Any]:
    count = itertools.count()
    listed = [
        {"title": "S", "rows": [{"id": str(next(count)), "title": title} for title in titles]}
        for titles in sections
    ]
    action = {"button": "Menu", "sections": listed}
    return {"type": "list", "body": {"text": "?"}, "action": action}


BUTTONS = buttons("Sim", "Não")
URL_ACTION = {"name": "cta_url", "parameters": {"display_text": "A", "url": LINK["link"]}}


def quick(title: str, id_: str = "1") -> dict[str, Any]:
    return {"buttons": [{"type": "quick_reply", "quick_reply": {"id": id_, "title": title}}]}


def carousel(*actions: dict[str, Any]) -> dict[str, Any]:
    cards = [{"card_index": number, "action": action} for number, action in enumerate(actions)]
    return {"type": "carousel", "body": {"text": "?"}, "action": {"cards": cards}}


def products(*counts: int) -> dict[str, Any]:
    sections = [{"title": "S", "product_items": [{"product_retailer_id": "1"}] * count}
                for count in counts]  # fmt: skip
    return {"type": "product_list", "header": {"type": "text", "text": "A"},
            "body": {"text": "B"}, "action": {"catalog_id": "1", "sections": sections}}  # fmt: skip


def suffix(count: int, type_: str = "button") -> dict[str, Any]:
    parameters = [{"type": "text", "text": "x" * count}]
    return {**TEMPLATE, "components": [
        {"type": type_, "sub_type": "url", "index": "0", "parameters": parameters}]}  # fmt: skip


QUICK = quick("Sim")
EMPTY = rows(["a"])
EMPTY["footer"] = {"text": ""}
EMPTY["action"]["sections"][0]["title"] = ""
EMPTY["action"]["sections"][0]["rows"][0]["description"] = ""
CTA = {"type": "cta_url", "body": {"text": "?"}}
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
        ("interactive", "", BUTTONS),
        # Fields that Meta has, empty optional texts, and kinds that only Meta knows.
        ("image", "", {**LINK, "provider": "minha-cdn"}),
        ("contacts", "", [{**CARD, "ims": [{"service": "AIM", "user_id": "a"}]}]),
        ("interactive", "", EMPTY),
        ("interactive", "", {"type": "order_details", "body": {"text": "?"}, "action": {
            "name": "review_and_pay", "parameters": {"reference_id": "1"}}}),
        ("template", "", suffix(2000)),
        ("interactive", "", products(15, 15)),
    ],
)  # fmt: skip
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
        ("text", "\u200b\u200d\ufeff\u2060\u3164\ufe0f", None, "text"),
        ("text", "Olá", {"preview_url": 1}, "preview_url"),
        ("text", "x" * 4097, None, "text"),
        ("text", "a\x00b", None, "text"),
        ("text", "\ud800", None, "text"),
        ("image", "a\x00b", LINK, "text"),
        ("image", "", "https://example.com/a.png", "image"),
        ("image", "", {"link": 7}, "image.link"),
        ("image", "", {"link": "ftp://example.com/a.png"}, "image.link"),
        ("image", "", {"link": "javascript:alert(1)"}, "image.link"),
        ("image", "", {"link": "not a public internet address"}, "image.link"),
        ("image", "", {**LINK, "caption": "x" * 1025}, "image.caption"),
        ("image", "", {**LINK, "caption": 7}, "image.caption"),
        ("image", "", {**LINK, "caption": "a\x00b"}, "image.caption"),
        ("image", "", {**LINK, "captoin": "x"}, "image.captoin"),
        ("image", "", {"media": "x"}, "image.media"),
        ("image", "", {**LINK, "media": FILE}, "image"),
        ("image", "", {**LINK, "voice": True}, "image.voice"),
        ("audio", "", {**LINK, "voice": "yes"}, "audio.voice"),
        ("audio", "", {**LINK, "caption": "x"}, "audio.caption"),
        ("sticker", "", {**LINK, "caption": "x"}, "sticker.caption"),
        ("document", "", {**LINK, "filename": "x" * 151}, "document.filename"),
        ("location", "", {"latitude": 91, "longitude": 0}, "location.latitude"),
        ("location", "", {"latitude": True, "longitude": 0}, "location.latitude"),
        ("location", "", {"latitude": 0, "longitude": -181}, "location.longitude"),
        ("location", "", {"latitude": "0", "longitude": 0}, "location.latitude"),
        ("location", "", {"latitude": float("nan"), "longitude": 0}, "location.latitude"),
        ("location", "", {"latitude": 1, "longitude": 1, "a": float("inf")}, "location.a"),
        ("location", "", {"latitude": 1}, "location.longitude"),
        ("location", "", [1, 2], "location"),
        ("contacts", "", [], "contacts"),
        ("contacts", "", [{}], "contacts[0].name"),
        ("contacts", "", {"name": "x"}, "contacts"),
        ("contacts", "", [{"name": {"first_name": "A"}}], "contacts[0].name.formatted_name"),
        ("contacts", "", [CARD, {**CARD, "phone": "1"}], "contacts[1].phone"),
        ("contacts", "", [{**CARD, "phones": ["1"]}], "contacts[0].phones[0]"),
        ("contacts", "", [{**CARD, "phones": [{"phone": 1}]}], "contacts[0].phones[0].phone"),
        ("reaction", "", {"emoji": 1, "message": "x"}, "reaction.emoji"),
        ("reaction", "", {"emoji": "ok", "message": "x"}, "reaction.emoji"),
        ("reaction", "", {"emoji": "\u200b", "message": "x"}, "reaction.emoji"),
        ("reaction", "", {"emoji": "👍"}, "reaction"),
        ("template", "", {"name": "x"}, "template.language"),
        ("template", "", {"name": 1, "language": {"code": "a"}}, "template.name"),
        ("template", "", {"name": "x", "language": {}}, "template.language.code"),
        ("template", "", {**TEMPLATE, "components": [{"type": "body", "parameters": [
            {"type": "text", "text": "A"}, {"type": "text", "text": ""}]}]},
         "template.components[0].parameters[1].text"),
        ("template", "", {**TEMPLATE, "components": [{"type": "body", "parameters": [
            {"type": "text", "text": "\u200b\u2060"}]}]},
         "template.components[0].parameters[0].text"),
        ("interactive", "", {"type": 1}, "interactive.type"),
        ("interactive", "", {"type": "contact_request"}, "interactive.type"),
        ("interactive", "", {"type": "button", "body": {"text": "?"}}, "interactive.action"),
        ("interactive", "", {**BUTTONS, "footre": {}}, "interactive.footre"),
        ("interactive", "", {**BUTTONS, "body": {"text": ""}}, "interactive.body.text"),
        ("interactive", "", {**BUTTONS, "footer": {"text": "x" * 61}}, "interactive.footer.text"),
        ("interactive", "", {**BUTTONS, "header": {"type": "sticker"}}, "interactive.header.type"),
        ("interactive", "", {**BUTTONS, "header": {"type": "image", "image": {"link": "x"}}},
         "interactive.header.image.link"),
        ("interactive", "", buttons("Sim", "x" * 21), "interactive.action.buttons[1].reply.title"),
        ("interactive", "", buttons("Sim", "Sim"), "interactive.action.buttons[1].reply.title"),
        ("interactive", "", buttons("1", "2", "3", "4"), "interactive.action.buttons"),
        ("interactive", "", rows(["a"] * 6, ["b"] * 5), "interactive.action.sections"),
        ("interactive", "", rows(["x" * 25]), "interactive.action.sections[0].rows[0].title"),
        ("interactive", "", {**CTA, "action": {"name": "cta_url", "parameters": {
            "display_text": "Abrir", "url": "javascript:alert(1)"}}},
         "interactive.action.parameters.url"),
        ("interactive", "", {"type": "location_request_message", "body": {"text": "Onde?"},
                             "action": {"name": "where"}}, "interactive.action.name"),
        ("template", "", suffix(2001), "template.components[0].parameters[0].text"),
        ("template", "", suffix(1025, "body"), "template.components[0].parameters[0].text"),
        ("interactive", "", {**BUTTONS, "header": {
            "type": "image", "image": {**LINK, "filename": "a"}}},
         "interactive.header.image.filename"),
        ("interactive", "", carousel(QUICK, URL_ACTION), "interactive.action.cards"),
        ("interactive", "", carousel(QUICK, quick("x" * 21)),
         "interactive.action.cards[1].action.buttons[0].quick_reply.title"),
        ("interactive", "", carousel(QUICK, quick("x", "1" * 21)),
         "interactive.action.cards[1].action.buttons[0].quick_reply.id"),
        ("interactive", "", carousel(URL_ACTION, {**URL_ACTION, "parameters": {
            "display_text": "x" * 21, "url": LINK["link"]}}),
         "interactive.action.cards[1].action.parameters.display_text"),
        ("interactive", "", carousel(URL_ACTION, {"name": "cta_url"}),
         "interactive.action.cards[1].action.parameters"),
        ("interactive", "", products(16, 15), "interactive.action.sections"),
        ("interactive", "", products(*[1] * 11), "interactive.action.sections"),
        ("interactive", "", {"type": "flow", "body": {"text": "?"}, "action": {
            "name": "flow", "parameters": {"flow_cta": "Ir"}}}, "interactive.action.parameters"),
    ],
)  # fmt: skip
def test_an_error_names_the_invalid_field(type_: str, text: str, value: Any, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        content.validate(type_, text, value)
    assert list(caught.value.message_dict) == [field]


@pytest.mark.parametrize(
    "value",
    [
        BUTTONS,
        {**BUTTONS, "header": {"type": "text", "text": "Oi"}, "footer": {"text": "."}},
        {**BUTTONS, "header": {"type": "document", "document": {"media": FILE, "filename": "a"}}},
        rows(["a"] * 5, ["b"] * 5),
        rows(["a"]),
        {"type": "cta_url", "body": {"text": "?"}, "action": {"name": "cta_url", "parameters": {
            "display_text": "Abrir", "url": "https://example.com"}}},
        {"type": "location_request_message", "body": {"text": "?"},
         "action": {"name": "send_location"}},
        {"type": "request_contact_info", "body": {"text": "?"},
         "action": {"name": "request_contact_info"}},
        {"type": "flow", "body": {"text": "?"}, "action": {"name": "flow", "parameters": {
            "flow_message_version": "3", "flow_id": "1", "flow_cta": "Ir", "mode": "draft",
            "flow_action": "navigate", "flow_action_payload": {"screen": "A"}}}},
        {"type": "product", "action": {"catalog_id": "1", "product_retailer_id": "2"}},
        {"type": "product_list", "header": {"type": "text", "text": "A"}, "body": {"text": "B"},
         "action": {"catalog_id": "1", "sections": []}},
        {"type": "catalog_message", "body": {"text": "?"}, "action": {
            "name": "catalog_message", "parameters": {"thumbnail_product_retailer_id": "1"}}},
        {"type": "call_permission_request", "action": {"name": "call_permission_request"}},
        {"type": "voice_call", "body": {"text": "?"}, "action": {
            "name": "voice_call", "parameters": {"display_text": "Ligar"}}},
        {"type": "carousel", "body": {"text": "?"}, "action": {"cards": [
            {"card_index": n, "type": "cta_url", "header": {
                "type": "image", "image": LINK}, "action": URL_ACTION} for n in (0, 1)]}},
        carousel(QUICK, QUICK),
        {**rows(["a"]), "body": {"type": "text", "text": "?"}},
    ],
)  # fmt: skip
def test_every_interactive_kind_is_accepted_here_and_by_graph(value: Any) -> None:
    content.validate("interactive", "", value)
    assert interactive.problem(value) is None


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
