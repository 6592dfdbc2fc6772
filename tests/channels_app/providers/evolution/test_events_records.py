"""Conversion of missed messages, fetched from /chat/findMessages, to events."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from channels_app.providers.events import (
    EditEvent,
    MessageEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
)
from channels_app.providers.evolution import events as evolution_events
from tests import FIXTURES_DIR
from tests.channels_app.providers.evolution import recordings
from tests.channels_app.providers.evolution.bodies import ANA, LID, body, key, upsert

FIXTURES = FIXTURES_DIR / "evolution"
SAMPLES = recordings.samples()


def record(*statuses: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "cmwr0eic70004507d07z6vuu9",
        "key": key(),
        "pushName": "Ana",
        "messageType": "conversation",
        "message": {"conversation": "oi"},
        "messageTimestamp": 1795300000,
        "instanceId": "uuid",
        "source": "android",
        "contextInfo": None,
        "MessageUpdate": [{"status": status} for status in statuses],
        **more,
    }


def recorded() -> list[dict[str, Any]]:
    """Return the records of the recorded responses of /chat/findMessages."""
    calls = json.loads((FIXTURES / "04_send_chat_settings_call.json").read_text())
    return [
        row
        for call in calls
        if "findMessages" in call.get("request", {}).get("path", "")
        and isinstance(call["response"]["body"], dict)
        for row in call["response"]["body"].get("messages", {}).get("records", [])
    ]


def test_every_recorded_record_is_parsed_to_its_message() -> None:
    rows = recorded()
    assert rows
    for row in rows:
        (event,) = evolution_events.read(evolution_events.as_event("evoS", row))
        assert isinstance(event, MessageEvent)
        assert event.provider_message_id == row["key"]["id"]
        assert event.outgoing
        assert event.phone_number == "+5511988887777"
        assert evolution_events.statuses_of(row, "evoS") == []


def test_a_record_has_the_key_of_its_event() -> None:
    live = upsert({"conversation": "oi"}, "conversation")
    for row in (record(), record(key=key(remoteJid=LID, remoteJidAlt=ANA))):
        wrapped = evolution_events.as_event("shop", row)
        assert evolution_events.dedupe_key(wrapped) == evolution_events.dedupe_key(live)
        [event] = evolution_events.read(wrapped)
        # The record still has the lid.
        assert isinstance(event, MessageEvent)
        assert [replace(event, user_id="")] == list(evolution_events.read(live))


def test_a_recorded_event_read_back_as_a_record_has_the_same_key() -> None:
    for payload in SAMPLES.values():
        if payload["event"] == "messages.upsert":
            row = {"id": "cmwr0", **payload["data"], "MessageUpdate": []}
            wrapped = evolution_events.as_event(payload["instance"], row)
            assert evolution_events.dedupe_key(wrapped) == evolution_events.dedupe_key(payload)
            assert list(evolution_events.read(wrapped)) == list(evolution_events.read(payload))


def test_the_rows_own_id_is_omitted() -> None:
    wrapped = evolution_events.as_event("shop", record("READ"))
    assert wrapped["event"] == "messages.upsert"
    assert wrapped["instance"] == "shop"
    assert not {"id", "MessageUpdate"} & set(wrapped["data"])


def test_each_status_is_returned_once_in_order_with_the_live_key() -> None:
    row = record("PENDING", "SERVER_ACK", "DELIVERY_ACK", "SERVER_ACK", "READ")
    payloads = evolution_events.statuses_of(row, "shop")
    events = [event for payload in payloads for event in evolution_events.read(payload)]
    receipts = (Receipt.SENT, Receipt.DELIVERED, Receipt.READ)
    assert events == [ReceiptEvent("shop", "3A01", receipt) for receipt in receipts]
    live = body(
        "messages.update",
        {"keyId": "3A01", "remoteJid": ANA, "fromMe": True, "status": "READ", "messageId": "c"},
    )
    assert evolution_events.dedupe_key(payloads[-1]) == evolution_events.dedupe_key(live)


def test_an_edit_in_the_gap_is_found_in_the_record() -> None:
    # Its own key would equal that of the message, which is stored already.
    row = record("DELIVERY_ACK", "EDITED", message={"conversation": "novo"})
    *_, payload = evolution_events.statuses_of(row, "shop")
    (event,) = evolution_events.read(payload)
    assert isinstance(event, EditEvent)
    assert (event.provider_message_id, event.text) == ("3A01", "novo")
    assert event.at is not None
    assert event.at.timestamp() == 1795300000
    again = evolution_events.statuses_of(row, "shop")[-1]
    assert evolution_events.dedupe_key(again) == evolution_events.dedupe_key(payload)
    later = record("EDITED", message={"conversation": "outro"}, messageTimestamp=1795300009)
    assert evolution_events.dedupe_key(evolution_events.statuses_of(later, "shop")[-1]) != (
        evolution_events.dedupe_key(payload)
    )


def test_a_deletion_through_the_api_is_found_in_the_record() -> None:
    (payload,) = evolution_events.statuses_of(record(key=key(deleted=True)), "shop")
    assert list(evolution_events.read(payload)) == [RevokeEvent("shop", "3A01")]


@pytest.mark.parametrize("status", ["DELETED", "PENDING", "", "NEW"])
def test_an_unknown_status_yields_no_event(status: str) -> None:
    assert evolution_events.statuses_of(record(status), "shop") == []


@pytest.mark.parametrize(
    "row", [None, [], 5, "x", {}, {"key": None}, {"key": {"id": 1}, "MessageUpdate": "READ"}]
)
def test_an_invalid_record_yields_no_event(row: Any) -> None:
    assert evolution_events.statuses_of(row, "shop") == []
    for event in evolution_events.read(evolution_events.as_event("shop", row)):
        assert type(event).__name__ == "UnsupportedEvent"
