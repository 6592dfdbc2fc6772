"""Parsing of Meta's webhook payloads, as recorded in its own samples, to neutral events."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels_app.providers.cloud import events as cloud_events
from channels_app.providers.events import (
    AccountEvent,
    AddressBookEvent,
    AddressEvent,
    CallEvent,
    EditEvent,
    Event,
    Failure,
    MessageEvent,
    PreferenceEvent,
    ReactionEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
    TemplateEvent,
    UnsupportedEvent,
)
from simulators.graph.app import make_wamid
from tests import FIXTURES_DIR

FIXTURES = FIXTURES_DIR / "cloud"
NUMBER = "106540352242922"
REFERENCE = "6f1c6f8e-0000-4000-8000-000000000001.1"
WAMID = "wamid.HBgLMTY1MDU1NTEyMzQVAgARGBI4MkE2QkU4REUyN0VGNUM0QkIA"


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def read(name: str) -> list[Any]:
    return list(cloud_events.read(recorded(name)))


def test_a_text() -> None:
    assert read("text") == [
        MessageEvent(
            channel_key=NUMBER,
            provider_message_id="wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQUFERjg0NDEzNDdFODU3MUMxMAA=",
            phone_number="+16505551234",
            at=dt.datetime(2025, 6, 8, 20, 59, 43, tzinfo=dt.UTC),
            type="text",
            text="Does it come in another color?",
            name="Sheena Nelson",
        )
    ]


def test_statuses() -> None:
    assert read("statuses") == [
        ReceiptEvent(
            NUMBER,
            WAMID,
            Receipt.SENT,
            REFERENCE,
            phone_number="+16505551234",
            user_id="US.13491208655302741918",
            pricing="utility:regular",
        ),
        ReceiptEvent(NUMBER, WAMID, Receipt.DELIVERED, REFERENCE, pricing="utility:regular"),
        ReceiptEvent(NUMBER, WAMID, Receipt.READ, REFERENCE),
    ]


@pytest.mark.parametrize(
    ("codes", "reported"),
    [
        ([131047, 131050], "131050"),
        ([131050, 131047], "131050"),
        ([131026, 131049, 100], "131049"),
        ([131026, 190], "190"),
        ([130429, 131056], "131056"),
        ([131026, 424242], "424242"),
        # The first of two with equal severity; one without a code has the lowest.
        ([131047, 131026], "131047"),
        ([None, 130429], "130429"),
        ([None], ""),
    ],
)
def test_the_most_severe_of_several_reasons_is_reported(
    codes: list[int | None], reported: str
) -> None:
    payload = recorded("failed")
    [status] = payload["entry"][0]["changes"][0]["value"]["statuses"]
    status["errors"] = [{} if code is None else {"code": code} for code in codes]
    [event] = cloud_events.read(payload)
    assert isinstance(event, ReceiptEvent)
    assert event.failure is not None
    assert event.failure.code == reported


def test_a_failure_has_metas_code_and_text() -> None:
    title = "This message was not delivered to maintain healthy ecosystem engagement."
    details = (
        "In order to maintain a healthy ecosystem engagement, the message failed to be delivered."
    )
    [event] = read("failed")
    assert event == ReceiptEvent(
        NUMBER, WAMID, Receipt.FAILED, REFERENCE, Failure("131049", title, details)
    )


def test_all_entries_changes_statuses_and_messages_of_a_batch_are_parsed() -> None:
    events = read("batch")
    assert [event.provider_message_id[-1] for event in events] == list("ABCDEF")
    assert [event.channel_key for event in events] == [NUMBER] * 5 + ["200000000000000"]
    # A played voice message counts as read.
    assert events[2].receipt == Receipt.READ


def test_an_echo_is_an_outgoing_message() -> None:
    [echo] = read("echoes")
    assert isinstance(echo, MessageEvent)
    assert (echo.outgoing, echo.phone_number) == (True, "+16505551234")
    assert echo.text.startswith("Here's the info")


def test_every_message_type_has_its_text() -> None:
    events = read("kinds")
    messages = [event for event in events if isinstance(event, MessageEvent)]
    assert [(event.type, event.text) for event in messages] == [
        ("image", "Praia"),
        ("interactive", "Sim"),
        ("button", "Quero"),
        ("location", "MASP\n-23.5, -46.6"),
        ("text", "sem telefone"),
        ("unsupported", ""),
    ]
    assert events[4].content["name"] == "MASP"
    assert events[1].reply_to == WAMID
    assert isinstance(events[3], ReactionEvent)
    assert (events[3].provider_message_id, events[3].emoji) == (WAMID, "😀")
    assert events[6].context["error"]["code"] == "131051"
    assert {event.name for event in events} == {"Ana"}


def described(event: Event) -> str:
    """Return an event in the words of `contract_2026.json`."""
    match event:
        case MessageEvent():
            marks = [name for name in ("imported", "standby") if event.context.get(name)]
            assert event.history == ("imported" in marks)
            who = event.phone_number or event.user_id
            side = "to" if event.outgoing else "from"
            return " ".join([*marks, "message", event.type, side, who])
        case ReceiptEvent():
            return f"receipt {event.receipt}"
        case ReactionEvent():
            return f"reaction {event.emoji}"
        case EditEvent():
            return f"edit {event.text!r}"
        case RevokeEvent():
            return "revoke"
        case AccountEvent():
            return f"account {event.topic} {event.reason}".strip()
        case TemplateEvent():
            return "templates"
        case AddressEvent():
            return "addresses"
        case AddressBookEvent():
            return f"address book {event.name!r}"
        case CallEvent():
            return f"call {event.status}"
        case PreferenceEvent():
            return f"preference {'stop' if event.stopped else 'resume'}"
        case UnsupportedEvent():
            return event.kind
    raise AssertionError(event)


CONTRACT = json.loads((FIXTURES / "contract_2026.json").read_text())


@pytest.mark.parametrize("name", CONTRACT)
def test_each_payload_of_2026_is_read(name: str) -> None:
    """The names are those of the sections of docs/providers/cloud.md §10, without the 10."""
    events = cloud_events.read(CONTRACT[name]["payload"])
    assert [described(event) for event in events] == CONTRACT[name]["reads"]


def test_contact_cards_are_preserved() -> None:
    """docs/providers/cloud.md: `contacts` is the only object of a message that is a list."""
    card = {"name": {"formatted_name": "João"}, "phones": [{"phone": "+55 11 98888-7777"}]}
    message = {
        "from": "16505551234",
        "id": "wamid.X",
        "timestamp": "1739321024",
        "type": "contacts",
    }
    [event] = cloud_events.read(change(messages=[{**message, "contacts": [card, {"name": "?"}]}]))
    assert isinstance(event, MessageEvent)
    assert event.content == {"contacts": [card, {"name": "?"}]}
    assert event.text == "João: +55 11 98888-7777\n?"


def test_what_contacts_adds_to_a_message_is_the_senders() -> None:
    event = read("kinds")[5]
    assert (event.phone_number, event.user_id) == ("+5531987654321", "BR.1234")


def test_unknown_content_is_counted_without_an_error() -> None:
    about_accounts = (AccountEvent, TemplateEvent)
    events = [event for event in read("other_fields") if not isinstance(event, about_accounts)]
    assert [event.kind for event in events] == [
        "status:warped",
        "status:deleted",
        "contact:add",
    ]
    assert all(isinstance(event, UnsupportedEvent) for event in events)


def test_a_customers_call_is_an_event_and_one_of_ours_is_named() -> None:
    call = {"id": "wacid.1", "from": "5511988887777", "to": "1", "timestamp": "1749416383"}
    theirs, ours = "USER_INITIATED", "BUSINESS_INITIATED"
    value = {
        "metadata": {"phone_number_id": NUMBER},
        "calls": [
            {**call, "event": "connect", "direction": theirs, "session": {"sdp_type": "offer"}},
            {**call, "event": "terminate", "status": "COMPLETED", "direction": theirs},
            {**call, "event": "terminate", "status": "FAILED", "direction": theirs},
            {"id": "wacid.2", "from_user_id": "BR.1", "event": "connect"},
            {**call, "event": "connect", "direction": ours},
        ],
        "statuses": [{"id": "wacid.1", "type": "call", "status": "RINGING"}],
    }
    payload = {"entry": [{"changes": [{"field": "calls", "value": value}]}]}
    value["contacts"] = [{"user_id": "BR.2", "wa_id": "5511988887777", "profile": {"name": "Ana"}}]
    *calls, of_ours, progress = cloud_events.read(payload)
    assert [(c.phone_number, c.user_id, str(c.status)) for c in calls] == [
        ("+5511988887777", "BR.2", "ringing"),
        ("+5511988887777", "BR.2", "ended"),
        ("+5511988887777", "BR.2", "missed"),
        ("", "BR.1", "ringing"),
    ]
    assert [c.name for c in calls] == ["Ana", "Ana", "Ana", ""]
    assert of_ours == UnsupportedEvent(NUMBER, "call:connect")
    assert progress == UnsupportedEvent(NUMBER, "call:RINGING")


def change(**value: Any) -> Any:
    return {"entry": [{"changes": [{"field": "messages", "value": value}]}]}


GOOD_MESSAGE = {"id": "wamid.1", "from": "5511999990000", "timestamp": "1749416383"}


@pytest.mark.parametrize(
    "message",
    [
        {"id": ""},
        {"id": 7},
        {"id": "x" * 256},
        {"id": None},
        {"from": None},
        {"from": ""},
        {"from": "abc"},
        {"from": "1" * 40},
    ],
)
def test_a_message_without_required_fields_is_unsupported(message: dict[str, Any]) -> None:
    [event] = cloud_events.read(change(messages=[{**GOOD_MESSAGE, **message}]))
    assert isinstance(event, UnsupportedEvent)


@pytest.mark.parametrize(
    "timestamp",
    [
        "soon", None, "", "0", -1, True, "17494163830000", "99999999999999999999", "-99999999999",
        float("inf"), "253402300799", "2026-11-29T23:00:00Z", "86400",
    ],
)  # fmt: skip
def test_a_message_without_a_readable_time_is_a_message(timestamp: Any) -> None:
    [event] = cloud_events.read(change(messages=[{**GOOD_MESSAGE, "timestamp": timestamp}]))
    assert isinstance(event, MessageEvent)
    assert event.at is None


@pytest.mark.parametrize("id_", ["", None, 7, "x" * 256])
def test_a_status_without_an_id_is_unsupported(id_: Any) -> None:
    [event] = cloud_events.read(change(statuses=[{"id": id_, "status": "sent"}]))
    assert isinstance(event, UnsupportedEvent)


@pytest.mark.parametrize(
    ("errors", "failure"),
    [
        (None, None),
        ([], None),
        (["x"], None),
        ([{"code": 1, "message": "m"}], Failure("1", "m", "m")),
        ([{"code": "131047", "title": "t", "error_data": []}], Failure("131047", "t", "")),
        ([{}], Failure("", "", "")),
    ],
)
def test_an_incomplete_failure_is_parsed(errors: Any, failure: Failure | None) -> None:
    [event] = cloud_events.read(
        change(statuses=[{"id": "x", "status": "failed", "errors": errors}])
    )
    assert isinstance(event, ReceiptEvent)
    assert event.failure == failure


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=40)
@given(JSON)
def test_nothing_is_raised_for_any_json(payload: Any) -> None:
    assert list(cloud_events.read(payload)) == [UnsupportedEvent("", "entry:empty")]


KEYS = st.sampled_from(
    ["id", "from", "to", "timestamp", "type", "text", "body", "status", "errors", "code", "context",
     "error_data", "interactive", "profile", "wa_id", "user_id", "from_user_id", "caption"]
)  # fmt: skip
WORDS = st.sampled_from(["text", "interactive", "failed", "sent", "1749416383", "wamid.1", "5511"])
ALMOST = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=3) | WORDS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(KEYS, children, max_size=8),
    max_leaves=25,
)


@settings(max_examples=40)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "metadata": ALMOST,
            "contacts": ALMOST | st.lists(ALMOST),
            "statuses": ALMOST | st.lists(ALMOST),
            "messages": ALMOST | st.lists(ALMOST),
            "message_echoes": ALMOST | st.lists(ALMOST),
        },
    ),
    st.sampled_from(["messages", "smb_message_echoes"]),
)
def test_nothing_is_raised_for_any_json_in_parsed_fields(value: dict[str, Any], field: str) -> None:
    payload = {"entry": [{"changes": [{"field": field, "value": value}]}]}
    for event in cloud_events.read(payload):
        assert isinstance(event, ReceiptEvent | MessageEvent | UnsupportedEvent)


# -- the ID inside a wamid -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wamid", "key"),
    [
        ("wamid.HBgLMTY0NjcwNDM1OTUVAgARGBIyNDlBOEI5QUQ4NDc0N0FCNjMA", "249A8B9AD84747AB63"),
        (
            "wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQUFERjg0NDEzNDdFODU3MUMxMAA=",
            "3AADF8441347E8571C10",
        ),
        ("wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBI0QUQ2MjA4NEYyRkExNjMyREUA", "4AD62084F2FA1632DE"),
        ("HBgLMTY1MDM4Nzk0MzkVAgARGBI0QUQ2MjA4NEYyRkExNjMyREUA", "4AD62084F2FA1632DE"),
        ("wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBI0QUQ2", None),
        ("wamid.HBgLMTY", None),
        ("wamid.", None),
        ("wamid.!!!", None),
        ("wamid.é", None),
        ("", None),
    ],
)
def test_the_web_id_inside_a_wamid(wamid: str, key: str | None) -> None:
    assert cloud_events.web_message_id(wamid) == key


@settings(max_examples=40)
@given(st.from_regex(r"[0-9A-Z]{1,40}", fullmatch=True), st.from_regex(r"\d{5,15}", fullmatch=True))
def test_every_encoded_web_id_is_decoded(key: str, remote: str) -> None:
    assert cloud_events.web_message_id(make_wamid(remote, key)) == key


@settings(max_examples=40)
@given(st.text() | st.binary().map(lambda raw: "wamid." + raw.hex()))
def test_an_undecodable_id_is_not_an_error(wamid: str) -> None:
    web_id = cloud_events.web_message_id(wamid)
    assert web_id is None or web_id.isascii()
