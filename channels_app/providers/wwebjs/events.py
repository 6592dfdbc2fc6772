"""Parses wwebjs-api's callbacks (docs/providers/wwebjs.md §4) into neutral events. Pure."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from channels_app.providers.events import (
    Event,
    Failure,
    MediaEvent,
    MessageEvent,
    Receipt,
    ReceiptEvent,
    SessionEvent,
    UnsupportedEvent,
)
from channels_app.providers.wwebjs.ids import short_id

# -1 ERROR, 0 PENDING (says nothing), 1 SERVER, 2 DEVICE, 3 READ, 4 PLAYED.
_RECEIPTS = {
    -1: Receipt.FAILED,
    1: Receipt.SENT,
    2: Receipt.DELIVERED,
    3: Receipt.READ,
    4: Receipt.READ,
}
_REFUSED = Failure(code="ack_error", title="WhatsApp rejected the message")
_TYPES = {
    "chat": "text",
    "image": "image",
    "video": "video",
    "audio": "audio",
    "ptt": "audio",
    "document": "document",
    "sticker": "sticker",
    "location": "location",
    "vcard": "contacts",
    "multi_vcard": "contacts",
}
# The library's event name, and the field with its reason; auth_failure is sent as `status`.
_SESSION_EVENTS = {
    "ready": "",
    "disconnected": "reason",
    "change_state": "state",
    "status": "",
    "qr": "",
}
_DIGITS = re.compile(r"[0-9]{4,19}")


def read(payload: Any) -> Iterator[Event]:
    """Yield the events of a callback; anything unknown is yielded as UnsupportedEvent.

    Raises nothing for any JSON.
    """
    body = payload if isinstance(payload, Mapping) else {}
    key, kind = session_of(payload), str(body.get("dataType") or "")[:50]
    data = _mapping(body.get("data"))
    message = _mapping(data.get("message"))
    if kind in _SESSION_EVENTS:
        reason = data.get(_SESSION_EVENTS[kind])
        yield SessionEvent(key, kind, reason[:40] if isinstance(reason, str) else "")
    elif kind == "message_ack":
        yield _receipt(key, message, data.get("ack"))
    elif kind == "media" and message.get("fromMe") is not True:
        yield _media(key, message, _mapping(data.get("messageMedia")))
    elif kind == "message" and message.get("fromMe") is not True:
        yield _message(key, message, kind, address="from")
    elif kind == "message_create" and message.get("fromMe") is True:
        yield _message(key, message, kind, address="to", outgoing=True)
    else:
        yield UnsupportedEvent(key, f"callback:{kind}")


def session_of(payload: Any) -> str:
    """Return the name of the session that a callback belongs to."""
    name = payload.get("sessionId") if isinstance(payload, Mapping) else None
    return name if isinstance(name, str) else ""


def dedupe_key(payload: Any, *, arrival: str) -> str:
    """Return a key that is equal for repeated deliveries of the same fact.

    Messages and acks have IDs. A session may become ready any number of times: its events are
    distinguished by `arrival`, which the caller generates for each callback.
    """
    body = payload if isinstance(payload, Mapping) else {}
    kind, data = str(body.get("dataType") or "")[:50], _mapping(body.get("data"))
    message_id = short_id(_mapping(data.get("message")).get("id"))
    if kind == "message_ack" and message_id:
        return f"{kind}:{message_id}:{str(data.get('ack'))[:10]}"
    if kind in ("message", "message_create", "media") and message_id:
        return f"{kind}:{message_id}"
    if kind == "qr":
        return f"qr:{hashlib.sha256(str(data.get('qr')).encode(errors='replace')).hexdigest()}"
    return f"{kind}:{arrival}"


def _receipt(key: str, message: Mapping[str, Any], ack: Any) -> Event:
    message_id = short_id(message.get("id"))
    known = isinstance(ack, int) and not isinstance(ack, bool)
    receipt = _RECEIPTS.get(ack) if known else None
    if receipt is None or message_id is None or message.get("fromMe") is False:
        return UnsupportedEvent(key, f"callback:message_ack:{str(ack)[:10]}")
    number, user_id = _sides(message, "to")
    return ReceiptEvent(
        channel_key=key,
        provider_message_id=message_id,
        receipt=receipt,
        failure=_REFUSED if receipt == Receipt.FAILED else None,
        phone_number=number,
        user_id=user_id,
        text=_text(message) if message.get("type") == "chat" else "",
        at=_time(message.get("timestamp")),
    )


def _message(
    key: str, message: Mapping[str, Any], kind: str, *, address: str, outgoing: bool = False
) -> Event:
    type_ = str(message.get("type") or "unknown")[:20]
    message_id, at = short_id(message.get("id")), _time(message.get("timestamp"))
    number, user_id = _sides(message, address)
    known = _TYPES.get(type_)
    if message_id is None or at is None or known is None or not (number or user_id):
        return UnsupportedEvent(key, f"callback:{kind}:{type_}")
    inner = _mapping(message.get("_data"))
    name = inner.get("notifyName")
    quoted = inner.get("quotedStanzaID")
    return MessageEvent(
        channel_key=key,
        provider_message_id=message_id,
        phone_number=number,
        user_id=user_id,
        name=name if isinstance(name, str) and not outgoing else "",
        at=at,
        type=known,
        text="" if known in ("location", "contacts") else _text(message),
        content=_location(message) if known == "location" else {},
        reply_to=quoted[:255] if isinstance(quoted, str) else "",
        outgoing=outgoing,
        chat=_chat(message, address),
    )


def _media(key: str, message: Mapping[str, Any], file: Mapping[str, Any]) -> Event:
    message_id = short_id(message.get("id"))
    # The receiver has already stored the file (`embedded_files`).
    stored, name = _mapping(file.get("data")).get("stored"), file.get("filename")
    if message_id is None or not isinstance(stored, str):
        return UnsupportedEvent(key, "callback:media")
    return MediaEvent(key, message_id, stored, name if isinstance(name, str) else "")


def _location(message: Mapping[str, Any]) -> Mapping[str, Any]:
    location = _mapping(message.get("location"))
    fields = {name: location.get(name) for name in ("latitude", "longitude", "name", "address")}
    return {name: value for name, value in fields.items() if isinstance(value, str | int | float)}


def _text(message: Mapping[str, Any]) -> str:
    body = message.get("body")
    return body if isinstance(body, str) else ""


def _address(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("_serialized") or value.get("$1")
    return value if isinstance(value, str) else ""


def _person(address: str) -> tuple[str, str]:
    """Return the E.164 number and user ID of a person's address; both "" for groups and the like.

    A `@lid` hides the number: it is WhatsApp's own user ID.
    """
    user, _, server = address.partition("@")
    if server in ("c.us", "s.whatsapp.net") and _DIGITS.fullmatch(user):
        return f"+{user}", ""
    return ("", address) if server == "lid" and _DIGITS.fullmatch(user) else ("", "")


def _sides(message: Mapping[str, Any], address: str) -> tuple[str, str]:
    """Return the customer's number and `@lid`: the chat in a message's ID may name the other one.

    Both are "" if the message itself is not from or to a person.
    """
    own = _person(_address(message.get(address)))
    chat = _person(_address(_mapping(message.get("id")).get("remote")))
    return (own[0] or chat[0], own[1] or chat[1]) if any(own) else own


def _chat(message: Mapping[str, Any], address: str) -> str:
    """Return the chat in a message's own ID, else the customer's address; "" if not a person's."""
    chat = _mapping(message.get("id")).get("remote")
    chat = _address(chat) or _address(message.get(address))
    return chat if any(_person(chat)) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _time(seconds: Any) -> dt.datetime | None:
    if isinstance(seconds, bool):
        return None
    try:
        time = dt.datetime.fromtimestamp(int(seconds), tz=dt.UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    # A year that cannot be converted to local time would break every page that shows it.
    return time if 1970 <= time.year < 9999 else None
