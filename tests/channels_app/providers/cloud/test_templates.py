"""The rules of templates (docs/providers/cloud.md §11), compared with the simulator's own."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation
from hypothesis import given, settings
from hypothesis import strategies as st

from channels_app.providers.cloud import template_drafts, templates
from channels_app.providers.cloud.templates import Button, Definition, InvalidParameters
from simulators.graph import templates as simulated

LISTED = json.loads((Path(__file__).parents[3] / "fixtures/cloud/templates.json").read_text())
ORDER, CODE, SUMMER = (one for row in LISTED["data"] if (one := templates.read(row)) is not None)
DOCUMENT = {"id": "1234", "filename": "bill.pdf"}
CARDS = [{"header": {"id": str(n)}, "parameters": {"1": f"R$ {n}"}} for n in (5, 9)]


def text(value: str, **named: str) -> dict[str, str]:
    return {"type": "text", "text": value, **named}


def button(index: int, sub_type: str, **parameter: Any) -> dict[str, Any]:
    return {"type": "button", "sub_type": sub_type, "index": str(index), "parameters": [parameter]}


def test_a_row_of_the_list_is_read_with_all_that_a_sender_needs() -> None:
    assert (ORDER.template_id, ORDER.quality, ORDER.rejected_reason) == (
        "546151681022936", "GREEN", ""
    )  # fmt: skip
    assert [(one.key, one.kind, one.example) for one in templates.fields(ORDER)] == [
        ("header", "document", ""),
        ("body.first_name", "text", "Ana"),
        ("body.order_no", "text", "A-17"),
        ("button.0", "url_suffix", "a17"),
    ]
    # The button takes the same code as the text.
    assert [(one.key, one.kind) for one in templates.fields(CODE)] == [("body.1", "code")]
    assert [(one.key, one.card) for one in templates.fields(SUMMER)] == [
        ("body.1", None), ("card.0.header", 0), ("card.0.body.1", 0),
        ("card.1.header", 1), ("card.1.body.1", 1),
    ]  # fmt: skip
    with translation.override("en"):
        assert "paused" in SUMMER.unusable
    assert not ORDER.unusable
    assert templates.read({"name": "no_id"}) is None


def test_the_short_form_becomes_metas_and_is_shown_as_the_customer_sees_it() -> None:
    components = templates.fill(
        ORDER, {"first_name": "Bia", "order_no": 17}, {"media": "u1"}, {"0": "a17", "2": "stop"}
    )
    assert components == [
        {"type": "header", "parameters": [{"type": "document", "document": {"media": "u1"}}]},
        {"type": "body", "parameters": [
            text("Bia", parameter_name="first_name"), text("17", parameter_name="order_no"),
        ]},
        button(0, "url", **text("a17")),
        button(2, "quick_reply", type="payload", payload="stop"),
    ]  # fmt: skip
    shown = templates.render(ORDER, components)
    assert (shown.header_kind, shown.header_media) == ("document", {"media": "u1"})
    assert shown.buttons == (
        Button("url", "Track", "https://example.com/t/a17"),
        Button("phone_number", "Call", "+15550783881"),
        Button("quick_reply", "Stop", ""),
    )
    assert shown.as_text() == (
        "Hello Bia, your order 17 is on the way.\n\n_Test shop_\n\n"
        "Track: https://example.com/t/a17\nCall: +15550783881\n• Stop"
    )
    code = templates.fill(CODE, {"1": "123456"})
    assert code[1] == button(0, "url", **text("123456"))
    assert templates.render(CODE, code).as_text().startswith("*123456* is your")
    cards = templates.fill(SUMMER, {"1": "Bia"}, cards=CARDS)[1]["cards"]
    assert [card["components"][0]["parameters"][0]["image"]["id"] for card in cards] == ["5", "9"]
    assert "Only R$ 9 today" in templates.render(SUMMER, templates.fill(
        SUMMER, {"1": "Bia"}, cards=CARDS
    )).as_text()  # fmt: skip
    assert templates.render(ORDER, None).body.startswith("Hello {{first_name}}")


GIVEN: dict[str, Any] = {
    "parameters": {"first_name": "Bia", "order_no": "17"},
    "header": DOCUMENT,
    "buttons": {"0": "a17"},
}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"parameters": {"first_name": "Bia"}}, "body.order_no"),
        ({"parameters": {"first_name": "\u200b", "order_no": "1"}}, "body.first_name"),
        ({"parameters": {"first_name": "a\nb", "order_no": "1"}}, "body.first_name"),
        ({"parameters": {"first_name": "a     b", "order_no": "1"}}, "body.first_name"),
        ({"parameters": {**GIVEN["parameters"], "other": "x"}}, "body.other"),
        ({"parameters": ["Bia", "17"]}, "parameters"),
        ({"header": None}, "header"),
        ({"header": {"link": "ftp://x/y"}}, "header"),
        ({"header": {"id": "1", "link": "https://x/y"}}, "header"),
        ({"buttons": {}}, "button.0"),
        ({"buttons": {"0": "a b"}}, "button.0"),
        ({"buttons": {"0": "a", "1": "+55"}}, "button.1"),
        ({"buttons": {"0": "a", "9": "x"}}, "button.9"),
        ({"cards": []}, ""),
        ({"cards": [{}]}, "cards"),
    ],
)
def test_the_short_form_names_the_field_that_is_wrong(changes: Any, key: str) -> None:
    if not key:
        assert templates.fill(ORDER, **GIVEN | changes)
        return
    with pytest.raises(InvalidParameters) as raised:
        templates.fill(ORDER, **GIVEN | changes)
    assert key in raised.value.errors


@pytest.mark.parametrize(
    ("components", "key"),
    [
        (None, "body.first_name"),
        ("x", "components"),
        ([{"type": "body", "parameters": [text("a"), text("b")]}], "body"),
        ([{"type": "body", "parameters": [text("a", parameter_name="first_name")]}], "body"),
        ([{"type": "header", "parameters": [{"type": "image", "image": {"id": "1"}}]}], "header"),
        ([{"type": "footer", "parameters": []}], "footer"),
        ([{"type": "carousel", "cards": []}], "carousel"),
        ([button(1, "quick_reply", type="payload", payload="x")], "button.1"),
        ([button(7, "url", **text("x"))], "button.7"),
    ],
)
def test_metas_form_names_the_field_that_is_wrong(components: Any, key: str) -> None:
    assert key in templates.errors(ORDER, components)


def test_a_value_of_an_unknown_kind_of_button_is_left_to_meta() -> None:
    row = {"id": "1", "name": "a", "language": "pt_BR", "components": [
        {"type": "BODY", "text": "Olá"},
        {"type": "BUTTONS", "buttons": [{"type": "ORDER_DETAILS", "text": "Pagar"}]},
    ]}  # fmt: skip
    definition = templates.read(row)
    assert definition is not None
    given = [button(0, "order_details", type="action", action={"order_details": {}})]
    assert templates.errors(definition, given) == {}


def test_the_fields_of_a_card_are_named_by_its_number() -> None:
    bad = [CARDS[0], {**CARDS[1], "header": {"media": "u1"}}]
    with pytest.raises(InvalidParameters) as raised:
        templates.fill(SUMMER, {"1": "Bia"}, cards=bad)
    assert set(raised.value.errors) == {"card.1.header"}


# -- against the simulator -------------------------------------------------------------------------

WORDS = st.text(st.sampled_from("ab1 \n\t\u200bé{}*"), min_size=0, max_size=8)
BUTTONS = st.sampled_from(
    [
        {"type": "URL", "text": "a", "url": "https://example.com/"},
        {"type": "URL", "text": "b", "url": "https://example.com/{{1}}"},
        {"type": "QUICK_REPLY", "text": "c"},
        {"type": "PHONE_NUMBER", "text": "d", "phone_number": "+5511"},
        {"type": "COPY_CODE", "example": "X"},
        {"type": "FLOW", "text": "e", "flow_id": "1"},
    ]
)
HEADERS: Any = st.sampled_from(["", "text", "variable", "IMAGE", "DOCUMENT", "LOCATION"])


@st.composite
def rows(draw: Any) -> dict[str, Any]:
    """Make a template as it is created."""
    if draw(st.integers(0, 9)) == 0:
        otp = {"type": "OTP", "otp_type": "COPY_CODE"}
        parts: list[Any] = [{"type": "BODY"}, {"type": "BUTTONS", "buttons": [otp]}]
        return {"name": "t", "category": "AUTHENTICATION", "components": parts}
    named = draw(st.booleans())
    names = [f"n{i}" if named else str(i) for i in range(1, 4)]
    used = names[: draw(st.integers(0, 3))]
    body = {"type": "BODY", "text": "x " + " y ".join(f"{{{{{n}}}}}" for n in used) + " z"}
    parts, kind = [body], draw(HEADERS)
    if kind in ("text", "variable"):
        shown = f"H {{{{{names[0]}}}}}" if kind == "variable" else "H"
        parts.append({"type": "HEADER", "format": "TEXT", "text": shown})
    elif kind:
        parts.append({"type": "HEADER", "format": kind})
    if buttons := draw(st.lists(BUTTONS, max_size=3)):
        parts.append({"type": "BUTTONS", "buttons": buttons})
    format_ = templates.NAMED if named else templates.POSITIONAL
    return {"name": "t", "parameter_format": format_, "components": parts}


HEADER_VALUES = {
    "image": {"id": "1"},
    "document": {"link": "https://example.com/a.pdf", "filename": "a.pdf"},
    "location": {"latitude": 1, "longitude": "2.5", "name": "x"},
}


def made(row: dict[str, Any]) -> tuple[simulated.Template, Definition]:
    """Return the template at the simulator, and what its list shows of it."""
    template = simulated.TemplateBook().add("1", copy.deepcopy(row))
    definition = templates.read(template.row(simulated.FIELDS))
    assert definition is not None
    return template, definition


def refusal_of(template: simulated.Template, components: Any) -> simulated.Problem | None:
    try:
        simulated.check_send(template, {"name": "t", "components": components})
    except simulated.Problem as problem:
        return problem
    return None


@settings(max_examples=100)
@given(row=rows(), data=st.data())
def test_what_is_filled_in_is_accepted(row: Any, data: st.DataObject) -> None:
    template, definition = made(row)
    values = {
        one.key: HEADER_VALUES.get(one.kind) or data.draw(WORDS)
        for one in templates.fields(definition)
    }
    try:
        components = templates.fill_values(definition, values)
    except InvalidParameters:
        return
    assert templates.errors(definition, components) == {}
    assert refusal_of(template, components) is None
    shown = templates.render(definition, components)
    assert all(value in shown.as_text() for value in values.values() if isinstance(value, str))


def mutated(components: Any, data: st.DataObject) -> Any:
    """Change one thing in the components of a send."""
    changed = copy.deepcopy(components)
    if not changed:
        return data.draw(st.sampled_from([[], None, [{"type": "body", "parameters": []}]]))
    one = data.draw(st.sampled_from(changed))
    what = data.draw(st.sampled_from(["drop", "twice", "text", "type", "index", "more", "less"]))
    parameter = one["parameters"][0] if one["parameters"] else {}
    if what == "drop":
        changed.remove(one)
    elif what == "twice":
        changed.append(copy.deepcopy(one))
    elif what == "text" and "text" in parameter:
        parameter["text"] = data.draw(WORDS)
    elif what == "type":
        parameter["type"] = data.draw(st.sampled_from(["text", "image", "payload", "action"]))
    elif what == "index":
        one["index"] = data.draw(st.sampled_from([0, "1", 2, "7"]))
    elif what == "more":
        one["parameters"] = [*one["parameters"], {"type": "text", "text": "z"}]
    elif what == "less":
        one["parameters"] = one["parameters"][1:]
    return changed


@settings(max_examples=100)
@given(row=rows(), data=st.data())
def test_what_has_no_errors_is_accepted(row: Any, data: st.DataObject) -> None:
    template, definition = made(row)
    values = {one.key: HEADER_VALUES.get(one.kind, "v") for one in templates.fields(definition)}
    components = mutated(templates.fill_values(definition, values), data)
    if templates.errors(definition, components) == {}:
        assert refusal_of(template, components or []) is None


# -- drafts ----------------------------------------------------------------------------------------

BODY = {"type": "BODY", "text": "Hello {{1}}, come.", "example": {"body_text": [["Ana"]]}}
DRAFT: dict[str, Any] = {
    "name": "order_update",
    "language": "pt_BR",
    "category": "UTILITY",
    "components": [BODY],
}


def with_parts(*parts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**DRAFT, "components": [BODY, *parts], **changes}


def body(shown: str, *examples: str) -> dict[str, Any]:
    example = {"body_text": [list(examples)]}
    return {**DRAFT, "components": [{"type": "BODY", "text": shown, "example": example}]}


def buttons(*items: dict[str, Any]) -> dict[str, Any]:
    return with_parts({"type": "BUTTONS", "buttons": list(items)})


REPLY = {"type": "QUICK_REPLY", "text": "Yes"}
URL = {"type": "URL", "text": "Go", "url": "https://example.com/{{1}}", "example": ["x"]}


@pytest.mark.parametrize(
    ("draft", "keys"),
    [
        (DRAFT, set()),
        ({**DRAFT, "name": "Order Update"}, {"name"}),
        ({**DRAFT, "language": "pt-BR"}, {"language"}),
        ({**DRAFT, "category": "SERVICE"}, {"category"}),
        ({**DRAFT, "message_send_ttl_seconds": 5}, {"message_send_ttl_seconds"}),
        ({**DRAFT, "components": []}, {"body"}),
        (body("{{1}} hello", "a"), {"body"}),
        (body("hello {{1}}", "a"), {"body"}),
        (body("hello {{1}} {{2}} x", "a", "b"), {"body"}),
        (body("hello {{2}} x", "a", "b"), {"body"}),
        (body("hello {{1}} x"), {"body"}),
        (body("hello {{name}} x", "a"), {"body"}),
        (body("x" * 1025), {"body"}),
        (with_parts({"type": "HEADER", "format": "TEXT", "text": "x" * 61}), {"header"}),
        (with_parts({"type": "HEADER", "format": "IMAGE"}), {"header"}),
        (with_parts({"type": "FOOTER", "text": "by {{1}}"}), {"footer"}),
        (with_parts({"type": "SIDE"}), {"side"}),
        (buttons(REPLY, URL), set()),
        (buttons(REPLY, URL, REPLY), {"buttons"}),
        (buttons(URL, URL, URL), {"buttons"}),
        (buttons(*[REPLY] * 11), {"buttons"}),
        (buttons({**URL, "url": "https://example.com/{{1}}/x"}), {"button.0"}),
        (buttons({**REPLY, "text": "x" * 26}), {"button.0"}),
        (buttons({"type": "PHONE_NUMBER", "text": "x", "phone_number": "call"}), {"button.0"}),
        ({**DRAFT, "category": "AUTHENTICATION"}, {"body", "buttons"}),
        (
            {
                **DRAFT,
                "category": "AUTHENTICATION",
                "components": [
                    {"type": "BODY", "add_security_recommendation": True},
                    {"type": "footer", "code_expiration_minutes": 91},
                    {"type": "buttons", "buttons": [{"type": "otp", "otp_type": "copy_code"}]},
                ],
            },
            {"footer"},
        ),
        (with_parts({"type": "CAROUSEL", "cards": []}), {"cards"}),
    ],
)
def test_a_draft_is_checked_before_meta_is_asked(draft: dict[str, Any], keys: set[str]) -> None:
    assert set(template_drafts.creation_errors(draft)) == keys
    if not keys:
        simulated.check_draft(draft)


def test_only_some_templates_can_be_edited() -> None:
    draft = {"components": ORDER.components, "category": "MARKETING"}
    found = template_drafts.edit_errors(ORDER, {**draft, "components": DRAFT["components"]})
    assert set(found) == {"category"}
    pending = templates.read({**LISTED["data"][2], "status": "PENDING"})
    assert pending is not None
    assert "status" in template_drafts.edit_errors(pending, {**DRAFT, "name": "summer"})


@settings(max_examples=150)
@given(
    shown=st.text(st.sampled_from("ab{}1 2\n_"), max_size=20),
    footer=st.text(st.sampled_from("a{}1\n"), max_size=5),
    header=st.text(st.sampled_from("a{}1 \n"), max_size=8),
    named=st.booleans(),
)
def test_a_draft_without_errors_is_accepted(
    shown: str, footer: str, header: str, named: bool
) -> None:
    parts: list[dict[str, Any]] = [
        {"type": "BODY", "text": shown, "example": {"body_text": [["x", "y"]]}},
        {"type": "FOOTER", "text": footer},
        {"type": "HEADER", "format": "TEXT", "text": header, "example": {"header_text": ["x"]}},
    ]
    format_ = templates.NAMED if named else templates.POSITIONAL
    draft = {**DRAFT, "parameter_format": format_, "components": parts}
    if not template_drafts.creation_errors(draft):
        simulated.check_draft(draft)
