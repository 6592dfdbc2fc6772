"""wwebjs-api's callbacks (contracts/wwebjs-api.md §4) as neutral events. Pure."""

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
from channels_app.providers.wwebjs.client import short_id

# -1 ERROR, 0 PENDING (says nothing), 1 SERVER, 2 DEVICE, 3 READ, 4 PLAYED.
_RECEIPTS = {
    -1: Receipt.FAILED,
    1: Receipt.SENT,
    2: Receipt.DELIVERED,
    3: Receipt.READ,
    4: Receipt.READ,
}
_REFUSED = Failure(code="ack_error", title="WhatsApp refused the message")
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
# The library's name, and where it says why; `status` is how auth_failure is sent.
_SESSION_EVENTS = {
    "ready": "",
    "disconnected": "reason",
    "change_state": "state",
    "status": "",
    "qr": "",
}
_DIGITS = re.compile(r"[0-9]{4,19}")


def read(payload: Any) -> Iterator[Event]:
    """Yield what a callback says. What cannot be read is yielded as UnreadableEvent.

    Nothing is raised for any JSON.
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
    """Return the name of the session that a callback speaks of."""
    name = payload.get("sessionId") if isinstance(payload, Mapping) else None
    return name if isinstance(name, str) else ""


def dedupe_key(payload: Any, *, arrival: str) -> str:
    """Return what is the same for the same fact, however often it is told.

    Messages and acks have ids. A session may become ready any number of times: what it says of
    itself is told apart by `arrival`, which the caller makes anew for each.
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
    address = _address(message.get("to"))
    number, _user_id = _person(address)
    return ReceiptEvent(
        channel_key=key,
        provider_message_id=message_id,
        receipt=receipt,
        failure=_REFUSED if receipt == Receipt.FAILED else None,
        phone_number=number,
        text=_text(message) if message.get("type") == "chat" else "",
        at=_time(message.get("timestamp")),
    )


def _message(
    key: str, message: Mapping[str, Any], kind: str, *, address: str, outgoing: bool = False
) -> Event:
    type_ = str(message.get("type") or "unknown")[:20]
    message_id, at = short_id(message.get("id")), _time(message.get("timestamp"))
    number, user_id = _person(_address(message.get(address)))
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
        content=_place(message) if known == "location" else {},
        reply_to=quoted[:255] if isinstance(quoted, str) else "",
        outgoing=outgoing,
        chat=_chat(message, address),
    )


def _media(key: str, message: Mapping[str, Any], file: Mapping[str, Any]) -> Event:
    message_id = short_id(message.get("id"))
    # The receiver has put the file aside (`inbound.media`).
    stored, name = _mapping(file.get("data")).get("stored"), file.get("filename")
    if message_id is None or not isinstance(stored, str):
        return UnsupportedEvent(key, "callback:media")
    return MediaEvent(key, message_id, stored, name if isinstance(name, str) else "")


def _place(message: Mapping[str, Any]) -> Mapping[str, Any]:
    place = _mapping(message.get("location"))
    found = {name: place.get(name) for name in ("latitude", "longitude", "name", "address")}
    return {name: value for name, value in found.items() if isinstance(value, str | int | float)}


def _text(message: Mapping[str, Any]) -> str:
    body = message.get("body")
    return body if isinstance(body, str) else ""


def _address(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("_serialized") or value.get("$1")
    return value if isinstance(value, str) else ""


def _person(address: str) -> tuple[str, str]:
    """E.164 number and user id of a person's address; groups, status and newsletters are none.

    A `@lid` hides the number: it is a user id of WhatsApp's own.
    """
    user, _, server = address.partition("@")
    if server in ("c.us", "s.whatsapp.net") and _DIGITS.fullmatch(user):
        return f"+{user}", ""
    return ("", address) if server == "lid" and _DIGITS.fullmatch(user) else ("", "")


def _chat(message: Mapping[str, Any], address: str) -> str:
    """The chat that a message's own id names, else the customer's address; "" for no person's."""
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
    # A year that no local time can be made of would break every page that shows it.
    return time if 1970 <= time.year < 9999 else None
