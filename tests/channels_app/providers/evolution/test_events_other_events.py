"""Receipts, edits, deletions, the session, its QR code, contacts and calls."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from channels_app.providers.events import (
    CallEvent,
    CallStatus,
    ConnectionEvent,
    ContactEvent,
    EditEvent,
    QrEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
    UnsupportedEvent,
)
from channels_app.providers.evolution import events as evolution_events
from channels_app.providers.redaction import digest_of
from tests.channels_app.providers.evolution.bodies import ANA, LID, body, key, read_one

GROUP = "120363025246125486@g.us"


def update(status: Any, **more: Any) -> dict[str, Any]:
    data = {"keyId": "3EB0", "messageId": "cmwr0", "remoteJid": ANA, "status": status, **more}
    return body("messages.update", data)


@pytest.mark.parametrize(
    ("status", "receipt"),
    [
        ("SERVER_ACK", Receipt.SENT),
        ("DELIVERY_ACK", Receipt.DELIVERED),
        ("READ", Receipt.READ),
        ("PLAYED", Receipt.READ),
        ("SENT", Receipt.SENT),
        ("DELIVERED", Receipt.DELIVERED),
    ],
)
@pytest.mark.parametrize("from_me", [True, False])
def test_a_status_is_a_receipt_for_any_reported_sender(
    status: str, receipt: Receipt, from_me: bool
) -> None:
    event = read_one(update(status, fromMe=from_me))
    assert event == ReceiptEvent("shop", "3EB0", receipt)


@pytest.mark.parametrize("status", ["ERROR", "FAILED"])
def test_a_failure_has_a_status_but_no_reason(status: str) -> None:
    event = read_one(update(status))
    assert isinstance(event, ReceiptEvent)
    assert event.receipt == Receipt.FAILED
    assert event.failure is not None
    assert (event.failure.code, event.failure.detail) == ("error", status)


@pytest.mark.parametrize("status", ["PENDING", "DELETED", "EDITED", "", None, 1, 9, -1, True])
def test_any_other_status_is_unsupported_and_deletes_nothing(status: Any) -> None:
    # 2.3.6 sends DELETED for every update without a status, including edits.
    assert isinstance(read_one(update(status)), UnsupportedEvent)


def test_a_receipt_of_a_group_is_one_of_its_message() -> None:
    event = read_one(update("READ", remoteJid=GROUP))
    assert isinstance(event, ReceiptEvent)
    assert (event.provider_message_id, event.receipt) == ("3EB0", Receipt.READ)


def test_an_update_with_a_new_text_is_an_edit_not_a_receipt() -> None:
    message = {"editedMessage": {"message": {"conversation": "novo"}}}
    assert read_one(update("SERVER_ACK", message=message)) == EditEvent("shop", "3EB0", "novo")


@pytest.mark.parametrize("event", ["messages.edited", "send.message.update"])
@pytest.mark.parametrize("type_", ["MESSAGE_EDIT", 14])
@pytest.mark.parametrize(
    "edited",
    [
        {"conversation": "novo"},
        {"extendedTextMessage": {"text": "novo"}},
        {"imageMessage": {"caption": "novo"}},
        {"documentWithCaptionMessage": {"message": {"documentMessage": {"caption": "novo"}}}},
    ],
)
def test_an_edit_contains_the_new_text(event: str, type_: Any, edited: dict[str, Any]) -> None:
    data = {"key": key(), "type": type_, "editedMessage": edited, "timestampMs": 1795300000000}
    at = dt.datetime(2026, 11, 21, 22, 26, 40, tzinfo=dt.UTC)
    assert read_one(body(event, data)) == EditEvent("shop", "3A01", "novo", at)


def test_removing_the_caption_is_an_edit() -> None:
    data = {"key": key(), "type": "MESSAGE_EDIT", "editedMessage": {"imageMessage": {"url": "x"}}}
    assert read_one(body("messages.edited", data)) == EditEvent("shop", "3A01", "")


@pytest.mark.parametrize("type_", ["REVOKE", 0])
def test_a_deletion_by_the_customer_is_sent_as_an_edit(type_: Any) -> None:
    payload = body("messages.edited", {"key": key(), "type": type_})
    assert read_one(payload) == RevokeEvent("shop", "3A01")


@pytest.mark.parametrize(
    "data",
    [
        {"key": key(), "type": "EPHEMERAL_SETTING"},
        {"key": key(), "type": False},
        {"key": key()},
        {"type": "REVOKE"},
        {"key": key(), "type": "MESSAGE_EDIT", "editedMessage": None},
        None,
    ],
)
def test_other_protocol_messages_change_nothing(data: Any) -> None:
    assert isinstance(read_one(body("messages.edited", data)), UnsupportedEvent)


@pytest.mark.parametrize(
    "data",
    [
        {"remoteJid": ANA, "id": "3A01", "fromMe": True, "status": "DELETED"},
        {"remoteJid": ANA, "id": "3A01", "fromMe": True},
        {"id": "3A01", "remoteJid": GROUP},
        {"id": "cmwr0", "key": key(deleted=True), "status": "DELETED"},
    ],
)
def test_a_deletion_has_the_whatsapp_id_in_both_formats(data: dict[str, Any]) -> None:
    assert read_one(body("messages.delete", data)) == RevokeEvent("shop", "3A01")


@pytest.mark.parametrize("data", [None, {}])
def test_a_deletion_without_a_message_is_unsupported(data: Any) -> None:
    assert isinstance(read_one(body("messages.delete", data)), UnsupportedEvent)


@pytest.mark.parametrize(
    ("event", "data", "expected"),
    [
        (
            "connection.update",
            {"state": "open", "statusReason": 200, "wuid": "5511900000777:3@s.whatsapp.net"},
            ConnectionEvent("shop", "open", "200", "+5511900000777"),
        ),
        (
            "connection.update",
            {"state": "refused", "statusReason": 500},
            ConnectionEvent("shop", "refused", "500"),
        ),
        ("connection.update", {"state": "connecting"}, ConnectionEvent("shop", "connecting")),
        ("connection.update", {"state": "asleep"}, UnsupportedEvent("shop", "connection:asleep")),
        (
            "status.instance",
            {"status": "closed", "disconnectionReasonCode": 401},
            ConnectionEvent("shop", "close", "401"),
        ),
        ("status.instance", {}, UnsupportedEvent("shop", "event:status.instance")),
        ("logout.instance", None, ConnectionEvent("shop", "close", "logout")),
        ("remove.instance", None, ConnectionEvent("shop", "close", "removed")),
    ],
)
def test_the_state_of_the_session(event: str, data: Any, expected: Any) -> None:
    assert read_one(body(event, data)) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"qrcode": {"code": "2@x", "pairingCode": None}}, QrEvent("shop", digest_of("2@x"))),
        (
            {"qrcode": {"code": "2@x", "pairingCode": "ABCD1234"}},
            QrEvent("shop", digest_of("2@x")),
        ),
        (
            {"qrcode": {"code": f"sha256:{digest_of('2@x')}", "pairingCode": "withheld"}},
            QrEvent("shop", digest_of("2@x")),
        ),
        (
            {"message": "QR code limit reached, please login again", "statusCode": 500},
            QrEvent("shop", ""),
        ),
        ({"qrcode": {"count": 0}}, UnsupportedEvent("shop", "event:qrcode.updated")),
        (None, UnsupportedEvent("shop", "event:qrcode.updated")),
    ],
)
def test_the_qr_code_and_its_expiry(data: Any, expected: Any) -> None:
    assert read_one(body("qrcode.updated", data)) == expected


@pytest.mark.parametrize("event", ["contacts.set", "contacts.upsert", "contacts.update"])
def test_contacts_are_sent_singly_or_as_a_list(event: str) -> None:
    ana = {"remoteJid": ANA, "pushName": "Ana"}
    nameless = [
        {"remoteJid": ANA},
        {"remoteJid": ANA, "pushName": "5511988887777"},
        {"remoteJid": GROUP, "pushName": "Ana"},
        {"pushName": "Ana"},
        None,
    ]
    of_profile = ContactEvent("shop", "+5511988887777", "Ana")
    saved = replace(of_profile, saved=True)
    hidden = ContactEvent("shop", "", "Bia", user_id=LID)
    assert list(evolution_events.read(body(event, ana))) == [of_profile]
    assert list(evolution_events.read(body(event, [*nameless, ana]))) == [saved]
    assert read_one(body(event, {"remoteJid": LID, "pushName": "Bia"})) == hidden
    for nothing in (None, [], nameless[0], nameless):
        assert read_one(body(event, nothing)) == UnsupportedEvent("shop", f"{event}:empty")


def call(**more: Any) -> dict[str, Any]:
    data = {
        "chatId": ANA,
        "from": ANA,
        "id": "C1",
        "date": "2026-11-21T22:00:00.000Z",
        "status": "timeout",
        "isVideo": True,
        **more,
    }
    return body("call", data)


def test_a_call_has_caller_time_and_status() -> None:
    at = dt.datetime(2026, 11, 21, 22, tzinfo=dt.UTC)
    expected = CallEvent("shop", "C1", "+5511988887777", CallStatus.MISSED, at, video=True)
    assert read_one(call()) == expected
    assert read_one(call(**{"from": LID})) == replace(expected, user_id=LID)
    only_lid = {"from": LID, "chatId": LID, "callerPn": "5511988887777@s.whatsapp.net"}
    assert read_one(call(**only_lid)) == replace(expected, user_id=LID)


@pytest.mark.parametrize(
    ("call_status", "status"),
    [
        ("offer", CallStatus.RINGING),
        ("ringing", CallStatus.RINGING),
        ("accept", CallStatus.ACCEPTED),
        ("reject", CallStatus.REJECTED),
        ("timeout", CallStatus.MISSED),
        ("terminate", CallStatus.ENDED),
        ("a-word-to-come", CallStatus.RINGING),
    ],
)
def test_each_call_status_is_known(call_status: str, status: CallStatus) -> None:
    event = read_one(call(status=call_status))
    assert isinstance(event, CallEvent)
    assert event.status == status


def test_a_caller_may_have_only_an_id() -> None:
    event = read_one(call(**{"from": LID, "chatId": LID}))
    assert isinstance(event, CallEvent)
    assert (event.phone_number, event.user_id) == ("", LID)


@pytest.mark.parametrize("date", [None, "", "yesterday", "2026-11-21T22:00:00", 5])
def test_a_call_without_a_true_time_is_still_a_call(date: Any) -> None:
    event = read_one(call(date=date))
    assert isinstance(event, CallEvent)
    assert event.at is None


def test_group_calls_and_raw_nodes_are_not_supported() -> None:
    assert read_one(call(isGroup=True)) == UnsupportedEvent("shop", "group")
    assert read_one(call(chatId=GROUP)) == UnsupportedEvent("shop", "group")
    raw = body("call", {"event": "CB:call", "packet": {"tag": "call"}})
    assert read_one(raw) == UnsupportedEvent("shop", "call:CB:call")


@pytest.mark.parametrize("event", ["chats.set", "presence.update", "labels.edit", "new.event", ""])
def test_an_unknown_event_is_counted(event: str) -> None:
    assert read_one(body(event, [{"x": 1}])) == UnsupportedEvent("shop", f"event:{event}")


@pytest.mark.parametrize("payload", [None, [], "x", 5, {}])
def test_a_payload_that_is_not_an_event_is_counted(payload: Any) -> None:
    assert read_one(payload) == UnsupportedEvent("", "event:")
