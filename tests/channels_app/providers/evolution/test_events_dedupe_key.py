"""One key per event on every receive path; never one key for two events."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from channels_app.providers.evolution import events as evolution_events
from tests.channels_app.providers.evolution import recordings
from tests.channels_app.providers.evolution.bodies import ANA, LID, body, key, upsert

SAMPLES = recordings.samples()
HELLO = {"conversation": "oi"}


def same(*payloads: Any) -> bool:
    return len({evolution_events.dedupe_key(payload) for payload in payloads}) == 1


@pytest.mark.parametrize("name", SAMPLES)
def test_webhook_retry_and_socket_give_the_same_key(name: str) -> None:
    webhook = copy.deepcopy(SAMPLES[name])
    # JSON does not define the order of names, and each receive path uses its own.
    by_socket = dict(reversed([item for item in webhook.items() if item[0] != "destination"]))
    hidden = {**webhook, "apikey": None, "sender": None, "server_url": "http://other"}
    assert same(webhook, json.loads(json.dumps(webhook)), by_socket, hidden)


@pytest.mark.parametrize(
    "name",
    [
        "baileys/connection.update:open",
        "baileys/contacts.upsert",
        "baileys/messages.upsert:conversation",
        "baileys/call",
    ],
)
def test_an_event_recorded_by_webhook_and_socket_has_one_key(name: str) -> None:
    webhook, by_socket = SAMPLES[f"{name}/webhook"], SAMPLES[f"{name}/socket.io"]
    assert "destination" in webhook
    assert "destination" not in by_socket
    assert same(webhook, by_socket)


@pytest.mark.parametrize("older", [True, False])
def test_recorded_events_have_distinct_keys(older: bool) -> None:
    keys: dict[str, set[str]] = {}
    for name, payload in SAMPLES.items():
        # Both versions received the same messages, so their IDs are equal.
        if name.startswith("2.3.6") == older:
            keys.setdefault(evolution_events.dedupe_key(payload), set()).add(
                json.dumps(_said(payload))
            )
    assert [said for said in keys.values() if len(said) > 1] == []


def _said(payload: dict[str, Any]) -> list[dict[str, Any]]:
    return [recordings.as_json(event) for event in evolution_events.read(payload)]


def test_the_key_is_short_and_ascii() -> None:
    for payload in (
        *SAMPLES.values(),
        upsert(HELLO, key=key(id="x" * 5000)),
        body("x\x00y" * 100, None),
        None,
    ):
        event_key = evolution_events.dedupe_key(payload)
        assert len(event_key) <= 100
        assert event_key.isascii()
        assert event_key.isprintable()


def test_the_file_content_does_not_affect_the_key() -> None:
    for whose in (key(), {}):
        plain = upsert({"imageMessage": {}}, key=whose)
        assert same(plain, upsert({"imageMessage": {}, "base64": "AAAA"}, key=whose))


def test_a_message_delivered_twice_by_whatsapp_has_one_key() -> None:
    assert same(upsert(HELLO), upsert(HELLO) | {"date_time": "2026-11-21T20:00:09.000Z"})


def test_a_lid_and_its_number_are_the_same_chat() -> None:
    # Evolution stores the record before it replaces the LID, and emits the event after that.
    assert same(
        upsert(HELLO),
        upsert(HELLO, key=key(remoteJid=LID, remoteJidAlt=ANA)),
        upsert(HELLO, key=key(remoteJid=ANA, remoteJidAlt=LID)),
    )
    assert not same(upsert(HELLO), upsert(HELLO, key=key(remoteJid=LID)))


@pytest.mark.parametrize(
    "other",
    [
        {"id": "3A02"},
        {"fromMe": True},
        {"remoteJid": "5511977776666@s.whatsapp.net"},
        {"remoteJid": "120363025246125486@g.us"},
    ],
)
def test_messages_with_different_chat_id_or_direction_have_different_keys(
    other: dict[str, Any],
) -> None:
    assert not same(upsert(HELLO), upsert(HELLO, key=key(**other)))


def test_messages_of_two_instances_have_different_keys() -> None:
    assert not same(upsert(HELLO), upsert(HELLO) | {"instance": "other"})


def test_messages_without_an_id_are_distinguished_by_content_and_time() -> None:
    first, second = (upsert({"conversation": text}, key={}) for text in ("a", "b"))
    assert not same(first, second)
    assert not same(first, first | {"date_time": "2026-11-21T20:00:09.000Z"})


def test_send_and_upsert_are_two_events_of_one_message() -> None:
    upserted = upsert(HELLO, key=key(fromMe=True))
    sent = upserted | {"event": "send.message"}
    assert not same(upserted, sent)
    assert list(evolution_events.read(upserted)) == list(evolution_events.read(sent))


def update(**data: Any) -> dict[str, Any]:
    return body("messages.update", {"keyId": "3EB0", "status": "SERVER_ACK", **data})


def test_a_status_is_identified_by_message_and_status() -> None:
    later = {"date_time": "2026-11-21T20:00:09.000Z"}
    assert same(update(), update(messageId="cmwr0", remoteJid=ANA, fromMe=True), update() | later)
    assert not same(update(), update(status="READ"))
    assert not same(update(), update(keyId="3EB1"))
    assert not same(update(), update() | {"instance": "other"})


def test_updates_with_a_false_status_are_distinguished_by_content() -> None:
    edits = [{"editedMessage": {"message": {"conversation": text}}} for text in ("a", "b")]
    votes = [[{"name": "a", "voters": voters}] for voters in ([], [ANA])]
    variants = [
        update(),
        *(update(message=edit) for edit in edits),
        *(update(pollUpdates=vote) for vote in votes),
    ]
    assert len({evolution_events.dedupe_key(payload) for payload in variants}) == len(variants)
    assert same(update(), update(message=None, pollUpdates=None))


@pytest.mark.parametrize("event", ["messages.edited", "send.message.update"])
def test_two_edits_of_one_message_are_two_events(event: str) -> None:
    def edit(text: str, at: str) -> dict[str, Any]:
        edited = {"conversation": text}
        data = {"key": key(), "type": 14, "editedMessage": edited, "timestampMs": at}
        return body(event, data)

    first = edit("a", "1795300000000")
    assert same(first, edit("a", "1795300000000"))
    assert not same(first, edit("b", "1795300000000"))
    assert not same(first, edit("a", "1795300005000"))


def test_an_edit_and_a_deletion_of_one_message_are_two_events() -> None:
    edit = {"key": key(), "type": "MESSAGE_EDIT", "editedMessage": HELLO}
    revoke = {"key": key(), "type": "REVOKE"}
    assert not same(body("messages.edited", edit), body("messages.edited", revoke))


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("connection.update", {"instance": "shop", "state": "open", "statusReason": 200}),
        ("logout.instance", None),
        ("contacts.update", {"remoteJid": ANA, "pushName": "Ana"}),
        ("call", {"id": "C1", "status": "offer"}),
    ],
)
def test_a_later_repetition_is_another_event(event: str, data: Any) -> None:
    first = body(event, data)
    assert same(first, dict(first))
    assert not same(first, first | {"date_time": "2026-11-21T20:00:00.001Z"})
