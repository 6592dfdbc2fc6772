"""Minimal bodies of events for tests."""

from __future__ import annotations

from typing import Any

from channels_app.providers.events import Event
from channels_app.providers.evolution import events as evolution_events

ANA = "5511988887777@s.whatsapp.net"
LID = "123456789012345@lid"


def body(event: str, data: Any, **more: Any) -> dict[str, Any]:
    return {
        "event": event,
        "instance": "shop",
        "data": data,
        "date_time": "2026-11-21T20:00:00.000Z",
        **more,
    }


def key(**more: Any) -> dict[str, Any]:
    return {"remoteJid": ANA, "fromMe": False, "id": "3A01", **more}


def upsert(message: Any, message_type: str = "", **more: Any) -> dict[str, Any]:
    data = {
        "key": key(),
        "pushName": "Ana",
        "message": message,
        "messageType": message_type,
        "messageTimestamp": 1795300000,
        **more,
    }
    return body("messages.upsert", data)


def read_one(payload: Any) -> Event:
    (event,) = evolution_events.read(payload)
    return event


def read_message(payload: Any) -> Any:
    event = read_one(payload)
    assert type(event).__name__ == "MessageEvent", event
    return event
