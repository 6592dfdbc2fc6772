"""The format changes of Evolution 2.4 (docs/providers/evolution.md §10)."""

from __future__ import annotations

from typing import Any

import pytest

from channels_app.providers.events import MessageEvent
from channels_app.providers.evolution.events import as_event, dedupe_key, read

QUOTE = {"contextInfo": {"stanzaId": "3A00"}}
LID, JID = "123456789012345@lid", "5511988887777@s.whatsapp.net"
# As 2.4 emits it, as 2.4 stores it in the row, with the LID first, and as 2.3.7 sends it.
KEYS = [
    {"remoteJid": JID, "remoteJidAlt": LID, "addressingMode": "pn"},
    {"remoteJid": LID, "remoteJidAlt": JID, "addressingMode": "lid"},
    {"remoteJid": LID, "remoteJidAlt": JID, "addressingMode": "pn"},
    {"remoteJid": JID, "remoteJidAlt": JID, "addressingMode": "lid"},
]


def data(key: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "key": {**key, "fromMe": False, "id": "3A01"},
        "pushName": "Ana",
        "message": {"conversation": "oi"},
        "messageType": "conversation",
        "messageTimestamp": 1795300000,
        **more,
    }


def message(payload: dict[str, Any]) -> MessageEvent:
    [event] = read(payload)
    assert isinstance(event, MessageEvent)
    return event


@pytest.mark.parametrize("key", KEYS)
def test_a_swapped_lid_is_the_same_person_and_the_same_event(key: dict[str, Any]) -> None:
    event = {"event": "messages.upsert", "instance": "loja", "data": data(key)}
    assert message(event).phone_number == "+5511988887777"
    assert dedupe_key(event) == dedupe_key(as_event("loja", data(KEYS[0])))
    assert dedupe_key(as_event("loja", data(key) | {"id": "cmhx"})) == dedupe_key(event)


@pytest.mark.parametrize(
    "changes",
    [
        # The content's own context, which 2.4 preserves for everything except texts.
        {"message": {"imageMessage": {"caption": "x", **QUOTE}}},
        {"message": {"conversation": "x", "extendedTextMessage": QUOTE}},
        {"message": {"conversation": "x", "messageContextInfo": QUOTE}},
        # The new content of the top-level field.
        {"contextInfo": {"messageSecret": {"0": 1}, **QUOTE}},
        QUOTE,
    ],
)
def test_a_quote_is_found_in_its_remaining_location(changes: dict[str, Any]) -> None:
    event = {"event": "messages.upsert", "instance": "loja", "data": data(KEYS[0], **changes)}
    assert message(event).reply_to == "3A00"


def test_a_text_that_lost_its_quote_is_still_a_text() -> None:
    body = data(KEYS[0], contextInfo={"messageSecret": {"0": 12}, "deviceListMetadata": {}})
    event = message({"event": "messages.upsert", "instance": "loja", "data": body})
    assert (event.text, event.reply_to) == ("oi", "")


def test_the_end_of_a_history_yields_no_message() -> None:
    counts = {"messageCount": 200, "chatCount": 3, "contactCount": 5, "progress": 100}
    event = {"event": "messaging-history.set", "instance": "loja", "data": counts}
    assert not any(isinstance(parsed, MessageEvent) for parsed in read(event))
    assert dedupe_key(event)
