"""What a route sends in place of a message, and how an answer to numbered options is understood."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels_app.providers import engines, error_codes
from channels_app.providers.base import Capabilities
from channels_app.providers.cloud.templates import Button, Rendered
from messaging import choices, content
from messaging.delivery import downgrade
from messaging.delivery.downgrade import Adapted, Refusal, adapt
from tests.channels_app.providers.conformance.adapter import CONTENTS

ROOT = Path(__file__).resolve().parents[3]
OFFICIAL = engines.by_name("official").capabilities
WWEBJS = engines.by_name("wwebjs").capabilities
BAILEYS = engines.by_name("baileys").capabilities
TEXT_ONLY = Capabilities(types=frozenset({"text"}))
NOTHING = Capabilities(types=frozenset())
PHOTO = {"media": "0f8fad5b-d9cb-469f-a165-70867728950e"}

BUTTONS: dict[str, Any] = {
    "type": "button",
    "header": {"type": "text", "text": "Consulta"},
    "body": {"text": "Confirma?"},
    "footer": {"text": "Clínica"},
    "action": {
        "buttons": [
            {"type": "reply", "reply": {"id": "y", "title": "Sim"}},
            {"type": "reply", "reply": {"id": "n", "title": "Não"}},
        ]
    },
}
LIST: dict[str, Any] = {
    "type": "list",
    "body": {"text": "Qual?"},
    "action": {
        "button": "Ver",
        "sections": [
            {"title": "Manhã", "rows": [{"id": "9", "title": "9h", "description": "Dra. Ana"}]},
            {
                "title": "Tarde",
                "rows": [{"id": "14", "title": "14h"}, {"id": "15", "title": "15h"}],
            },
        ],
    },
}
CTA = {
    "type": "cta_url",
    "body": {"text": "Pague aqui"},
    "action": {
        "name": "cta_url",
        "parameters": {"display_text": "Pagar", "url": "https://example.com/p"},
    },
}
POINT = {"latitude": -23.5, "longitude": -46.6}
CARDS = [
    {
        "name": {"formatted_name": "Ana"},
        "phones": [{"phone": "+55 11 98888-7777"}, {"phone": "+55 11 3333-4444"}],
    },
    {"name": "Bob", "org": {"company": "Oficina"}, "emails": [{"email": "bob@example.com"}]},
]


FULL: dict[str, Any] = {
    "name": {"formatted_name": "Eva"},
    "phones": [{"phone": "+55 11 98888-7777"}],
    "emails": [{"email": "eva@example.com"}],
    "urls": [{"url": "https://example.com"}],
    "addresses": [{"street": "Rua A, 1", "city": "São Paulo", "country": "Brasil"}],
    "ims": [{"service": "ICQ", "user_id": "7"}],
    "org": {"company": "Loja", "department": "Vendas", "title": "Dona"},
    "birthday": "1990-01-02",
}


def parts(*components: dict[str, Any]) -> dict[str, Any]:
    return {**template(), "components": list(components)}


def template(parameter: Any = None) -> dict[str, Any]:
    components = [{"type": "header", "parameters": [parameter]}] if parameter else []
    return {"name": "aviso", "language": {"code": "pt_BR"}, "components": components}


IMAGE = {"type": "image", "image": PHOTO}


@pytest.mark.parametrize(
    ("type_", "text", "value", "by", "expected"),
    [
        # What the route takes goes as it is.
        ("text", "Olá", {}, WWEBJS, Adapted("text", "Olá", {})),
        ("interactive", "", BUTTONS, OFFICIAL, Adapted("interactive", "", BUTTONS)),
        ("template", "Olá", template(), OFFICIAL, Adapted("template", "Olá", template())),
        # Buttons and lists are numbered.
        ("interactive", "", BUTTONS, WWEBJS, Adapted(
            "text", "*Consulta*\n\nConfirma?\n\n1. Sim\n2. Não\n\n_Clínica_", {},
            ("buttons_numbered",))),
        ("interactive", "", LIST, BAILEYS, Adapted(
            "text", "Qual?\n\n*Manhã*\n1. 9h – Dra. Ana\n\n*Tarde*\n2. 14h\n3. 15h", {},
            ("list_numbered",))),
        ("interactive", "", CTA, WWEBJS, Adapted(
            "text", "Pague aqui\n\nPagar: https://example.com/p", {}, ("url_button_as_text",))),
        ("interactive", "", {"type": "location_request_message", "body": {"text": "Onde?"},
                             "action": {"name": "send_location"}}, WWEBJS,
         Adapted("text", "Onde?", {}, ("location_request_as_text",))),
        ("interactive", "", {"type": "request_contact_info", "body": {"text": "Número?"},
                             "action": {"name": "request_contact_info"}}, WWEBJS,
         Adapted("text", "Número?", {}, ("contact_request_as_text",))),
        # The file of a header takes the text as its caption.
        ("interactive", "", {**BUTTONS, "header": IMAGE, "footer": {"text": "."}}, WWEBJS, Adapted(
            "image", "", {**PHOTO, "caption": "Confirma?\n\n1. Sim\n2. Não\n\n_._"},
            ("buttons_numbered", "header_as_media"))),
        ("template", "Oi Ana", template(), WWEBJS,
         Adapted("text", "Oi Ana", {}, ("template_as_text",))),
        ("template", "Oi Ana", template(IMAGE), BAILEYS, Adapted(
            "image", "", {**PHOTO, "caption": "Oi Ana"},
            ("template_as_text", "template_header_as_media"))),
        ("template", "Oi", template({"type": "document", "document": {
            "link": "https://example.com/a.pdf", "filename": "a.pdf"}}), WWEBJS, Adapted(
            "document", "",
            {"link": "https://example.com/a.pdf", "filename": "a.pdf", "caption": "Oi"},
            ("template_as_text", "template_header_as_media"))),
        # Contacts that do not fit a card, and what a poorer engine gets.
        ("contacts", "", CARDS, WWEBJS, Adapted(
            "text",
            "*Ana*\n+55 11 98888-7777\n+55 11 3333-4444\n\n*Bob*\nOficina\nbob@example.com",
            {}, ("contacts_as_text",))),
        *(("contacts", "", [FULL], by, Adapted(
            "text", "*Eva*\nDona, Vendas, Loja\n+55 11 98888-7777\neva@example.com\n"
            "https://example.com\nRua A, 1, São Paulo, Brasil\nICQ: 7\n1990-01-02",
            {}, ("contacts_as_text",))) for by in (WWEBJS, BAILEYS, TEXT_ONLY)),
        *(("contacts", "", [{**CARDS[1], "phones": FULL["phones"], **more}], BAILEYS, Adapted(
            "text", f"*Bob*\n{text}", {}, ("contacts_as_text",))) for more, text in (
                ({"emails": [{"email": "a@b.cd"}, {"email": "c@d.ef"}]},
                 "Oficina\n+55 11 98888-7777\na@b.cd\nc@d.ef"),
                ({"emails": [], "phones": [*FULL["phones"], {"phone": "190"}]},
                 "Oficina\n+55 11 98888-7777\n190"))),
        # What the text of a template does not have is named, or refused.
        ("template", "Oi", template({"type": "gif", "gif": PHOTO}), WWEBJS, Adapted(
            "text", "Oi", {}, ("template_as_text", "header_left_out"))),
        ("template", "Oi", parts({"type": "carousel", "cards": [{"components": [
            {"type": "header", "parameters": [IMAGE]}]}]}), BAILEYS, Adapted(
            "text", "Oi", {}, ("template_as_text", "card_headers_left_out"))),
        ("template", "Oi", parts({"type": "limited_time_offer", "parameters": []}), WWEBJS,
         Adapted("text", "Oi", {}, ("template_as_text", "offer_end_left_out"))),
        ("template", "Oi", parts({"type": "button", "sub_type": "FLOW", "index": "0"}), WWEBJS,
         Refusal("official_only")),
        ("template", "Oi", parts({"type": "button", "sub_type": "mpm", "index": "0"}), BAILEYS,
         Refusal("official_only")),
        ("interactive", "", {"type": "order_details"}, BAILEYS, Refusal("official_only")),
        ("contacts", "", CARDS[:1], BAILEYS, Adapted("contacts", "", CARDS[:1])),
        ("location", "", {**POINT, "name": "Loja"}, TEXT_ONLY, Adapted(
            "text", "Loja\nhttps://maps.google.com/?q=-23.5,-46.6", {}, ("location_as_text",))),
        # What cannot be carried is refused with its reason.
        ("template", "", template(), WWEBJS, Refusal("template_text_unknown")),
        ("template", "Oi", template({"type": "image", "image": {"id": "1"}}), WWEBJS,
         Refusal("header_file_unavailable")),
        ("template", "x" * 1025, template(IMAGE), WWEBJS, Refusal("caption_too_long")),
        ("template", "Oi", template(IMAGE), TEXT_ONLY, Refusal("unsupported_type")),
        ("interactive", "", {"type": "flow", "body": {"text": "?"}}, WWEBJS,
         Refusal("official_only")),
        ("interactive", "", {"type": "product"}, BAILEYS, Refusal("official_only")),
        ("reaction", "", {"emoji": "👍"}, TEXT_ONLY, Refusal("unsupported_type")),
        ("image", "", PHOTO, TEXT_ONLY, Refusal("unsupported_type")),
        ("sticker", "", PHOTO, TEXT_ONLY, Refusal("unsupported_type")),
        ("contacts", "", CARDS, NOTHING, Refusal("unsupported_type")),
    ],
)  # fmt: skip
def test_a_message_takes_the_best_form_that_the_route_carries(
    type_: str, text: str, value: Any, by: Capabilities, expected: Adapted | Refusal
) -> None:
    assert adapt(type_, text, value, by) == expected


@pytest.mark.parametrize("where", ["buttons", "cards"])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *((kind, ("template_as_text",)) for kind in (
            "quick_reply", "url", "phone_number", "copy_code", "otp")),
        ("request_contact_info", ("template_as_text", "contact_request_as_text")),
        *((kind, None) for kind in (
            "flow", "catalog", "mpm", "spm", "voice_call", "order_details", "to_come")),
    ],
)  # fmt: skip
def test_the_buttons_of_a_template_count_whether_or_not_a_send_names_them(
    kind: str, expected: tuple[str, ...] | None, where: str
) -> None:
    own = Rendered(body="Oi", buttons=(Button(kind, "Ver", ""),))
    rendered = own if where == "buttons" else Rendered(body="Oi", cards=(own,))
    adapted = adapt("template", "Oi", template(), WWEBJS, template=rendered)
    if expected is None:
        assert adapted == Refusal("official_only")
    else:
        assert adapted == Adapted("text", "Oi", {}, expected)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from([PHOTO, BUTTONS, LIST, CTA]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=200)
@given(
    st.sampled_from([*content.TYPES, "poll"]),
    st.text(max_size=5),
    st.sampled_from([BUTTONS, LIST, CTA, template(IMAGE), CARDS]) | JSON,
    st.sampled_from([OFFICIAL, WWEBJS, BAILEYS, TEXT_ONLY, NOTHING]),
)
def test_whatever_it_is_it_has_a_form_that_the_route_takes_or_a_reason(
    type_: str, text: str, value: Any, by: Capabilities
) -> None:
    adapted = adapt(type_, text, value, by)
    if isinstance(adapted, Refusal):
        assert error_codes.lookup(adapted.code).known
        return
    assert by.takes(adapted.type, adapted.content)
    assert all(change in downgrade.CHANGES for change in adapted.changes)
    assert bool(adapted.changes) is ((adapted.type, adapted.text, adapted.content) != (
        type_, text, value))  # fmt: skip
    if adapted.changes:
        content.validate(adapted.type, adapted.text, adapted.content or None)


def test_the_official_api_takes_every_type_as_it_is() -> None:
    for type_ in content.TYPES:
        value = CONTENTS.get(type_, {})
        assert adapt(type_, "Olá", value, OFFICIAL) == Adapted(type_, "Olá", value)


def test_the_page_of_the_types_is_up_to_date_and_names_tests_that_exist() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "type_table.py"))
    assert script["PAGE"].read_text() == script["page"](), "run scripts/type_table.py"
    for path, name in script["TESTS"]:
        assert f"def {name}(" in (ROOT / path).read_text(), name
    shown = {type_ for _, type_, *_ in script["ROWS"]}
    assert shown == set(content.TYPES)


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("offered", [choices.options(BUTTONS), choices.options(LIST)])
def test_every_option_is_chosen_by_its_number_and_by_its_words(
    offered: tuple[choices.Option, ...],
) -> None:
    for number, option in enumerate(offered, start=1):
        for answer in (
            f"{number}", f" {number}. ", f"({number})", f"{number}️⃣", f"nº {number}",
            option.title, option.title.upper() + "!", f"{number}. {option.title}",
        ):  # fmt: skip
            assert choices.chosen(answer, offered) == option, answer
    for answer in ("", "0", str(len(offered) + 1), "talvez", "não sei", "1 e 2", "x" * 101):
        assert choices.chosen(answer, offered) is None, answer


def test_words_are_compared_without_accents_and_go_before_numbers() -> None:
    yes, no = choices.options(BUTTONS)
    assert choices.chosen("nao", (yes, no)) == no
    hours = tuple(choices.Option(str(hour), str(hour)) for hour in (2, 1))
    assert choices.chosen("1", hours) == hours[1]
    twice = (choices.Option("a", "Sim"), choices.Option("b", "sim"))
    assert choices.chosen("sim", twice) is None
    assert choices.chosen("2", twice) == twice[1]
