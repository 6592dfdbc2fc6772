"""Parses Acme's events into neutral events. Pure."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from typing import Any

from channels_app.providers.events import (
    EditEvent,
    Event,
    Failure,
    MessageEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
    UnsupportedEvent,
)

_RECEIPTS = {
    "sent": Receipt.SENT,
    "delivered": Receipt.DELIVERED,
    "read": Receipt.READ,
    "failed": Receipt.FAILED,
}


def parse(payload: Any) -> Iterator[Event]:
    """Yield the neutral events of a payload; raises nothing for any JSON."""
    body = payload if isinstance(payload, Mapping) else {}
    line, kind, id_ = _text(body, "line"), _text(body, "event")[:50], _text(body, "id")
    at, number = _time(body.get("at")), _number(body.get("customer"))
    if not id_ or len(id_) > 255:
        yield UnsupportedEvent(line, f"event:{kind}")
    elif kind == "status" and (receipt := _RECEIPTS.get(_text(body, "status"))):
        reason = Failure(_text(body, "reason") or "failed", "Acme could not deliver the message")
        failed = receipt == Receipt.FAILED
        reference = _text(body, "ref")
        yield ReceiptEvent(line, id_, receipt, reference, reason if failed else None, number)
    elif kind == "message" and at is not None and number:
        yield MessageEvent(
            channel_key=line,
            provider_message_id=id_,
            phone_number=number,
            at=at,
            type="text",
            text=_text(body, "text"),
            outgoing=body.get("outgoing") is True,
        )
    elif kind == "edited":
        yield EditEvent(line, id_, _text(body, "text"), at)
    elif kind == "deleted":
        yield RevokeEvent(line, id_, at)
    else:
        yield UnsupportedEvent(line, f"event:{kind}")


def dedupe_key(payload: Any) -> str:
    """Return Acme's own number of an event, which is the same in each delivery."""
    body = payload if isinstance(payload, Mapping) else {}
    return f"{_text(body, 'event')[:20]}:{str(body.get('seq'))[:60]}"


def redact(payload: Any) -> Any:
    """Return the event without the key, which every event of Acme repeats."""
    return {**payload, "key": "withheld"} if isinstance(payload, Mapping) else payload


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def _number(value: Any) -> str:
    return f"+{value}" if isinstance(value, str) and re.fullmatch(r"[0-9]{7,15}", value) else ""


def _time(value: Any) -> dt.datetime | None:
    if type(value) is not int or not 0 <= value < 2**33:
        return None
    return dt.datetime.fromtimestamp(value, tz=dt.UTC)
