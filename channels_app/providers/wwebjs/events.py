"""Parses wwebjs-api's callbacks (docs/providers/wwebjs.md §4) into neutral events. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from channels_app.providers.contents import quote
from channels_app.providers.events import (
    US,
    CallEvent,
    CallStatus,
    EditEvent,
    Event,
    Failure,
    MediaEvent,
    MessageEvent,
    ReactionEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
    SessionEvent,
    UnsupportedEvent,
    VoteEvent,
)
from channels_app.providers.times import from_seconds
from channels_app.providers.wwebjs import contents
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
    elif kind in ("message", "message_ciphertext") and message.get("fromMe") is not True:
        yield _message(key, message, kind, address="from")
    elif kind == "message_create" and message.get("fromMe") is True:
        yield _message(key, message, kind, address="to", outgoing=True)
    elif kind in _CHANGES:
        yield _CHANGES[kind](key, kind, data)
    elif kind == "call":
        yield _call(key, _mapping(data.get("call")))
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
    if kind in ("message", "message_ciphertext", "message_create", "media") and message_id:
        # What arrives before it is decrypted may arrive again with its content.
        empty = ":empty" if _mapping(data.get("message")).get("type") == "ciphertext" else ""
        return f"{kind}:{message_id}{empty}"
    if kind in _CHANGES or kind == "call":
        # The same person may do the same to a message again: the times in it differ.
        text = json.dumps(data, sort_keys=True, default=str)
        return f"{kind}:{hashlib.sha256(text.encode(errors='replace')).hexdigest()}"
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
        at=from_seconds(message.get("timestamp")),
    )


def _message(
    key: str, message: Mapping[str, Any], kind: str, *, address: str, outgoing: bool = False
) -> Event:
    type_ = contents.type_of(message)
    message_id = short_id(message.get("id"))
    number, user_id = _sides(message, address)
    found = contents.read(message)
    if not (number or user_id):
        chat = _not_a_person(_address(message.get(address)))
        return UnsupportedEvent(key, chat or f"callback:{kind}:{type_[:20]}")
    if message_id is None or found is None:
        return UnsupportedEvent(key, f"callback:{kind}:{type_[:20]}")
    inner = _mapping(message.get("_data"))
    name = inner.get("notifyName")
    quoted = inner.get("quotedStanzaID")
    return MessageEvent(
        channel_key=key,
        provider_message_id=message_id,
        phone_number=number,
        user_id=user_id,
        name=name if isinstance(name, str) and not outgoing else "",
        at=from_seconds(message.get("timestamp")),
        type=found.type,
        text=found.text,
        content=_with_file(found.content, message, message_id, address),
        reply_to=quoted[:255] if isinstance(quoted, str) else "",
        outgoing=outgoing,
        chat=_chat(message, address),
        context=_context(message, inner),
    )


def _with_file(
    content: Mapping[str, Any], message: Mapping[str, Any], message_id: str, address: str
) -> Mapping[str, Any]:
    """Return the content with what identifies the message's file, if it has one."""
    chat = _chat(message, address)
    if message.get("hasMedia") is not True or not chat:
        return content
    return {**content, "wwebjs": {"chatId": chat, "messageId": message_id}}


def _context(message: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands beside the content: the quoted text, and forwarded marks."""
    found: dict[str, Any] = {}
    if isinstance(id_ := inner.get("quotedStanzaID"), str):
        quoted = contents.read(stored) if (stored := _mapping(inner.get("quotedMsg"))) else None
        is_status = _address(inner.get("quotedRemoteJid")) == "status@broadcast"
        found["quoted"] = quote(id_[:255], quoted, is_status=is_status)
    score = message.get("forwardingScore")
    if message.get("isForwarded") is True or (type(score) is int and score > 0):
        found["forwarded"] = "often" if type(score) is int and score > 4 else "once"
    return found


def _edit(key: str, kind: str, data: Mapping[str, Any]) -> Event:
    message = _mapping(data.get("message"))
    message_id, text = short_id(message.get("id")), data.get("newBody")
    if message_id is None:
        return UnsupportedEvent(key, f"callback:{kind}")
    at = from_seconds(
        _mapping(message.get("_data")).get("latestEditSenderTimestampMs"), per_second=1000
    )
    text = text if isinstance(text, str) else contents.body(message)
    return EditEvent(key, message_id, text, at)


def _revoke(key: str, kind: str, data: Mapping[str, Any]) -> Event:
    message = _mapping(data.get("message"))
    # Some builds give the deletion an ID of its own.
    target = _mapping(_mapping(message.get("_data")).get("protocolMessageKey"))
    message_id = short_id(target) or short_id(message.get("id"))
    if message_id is None:
        return UnsupportedEvent(key, f"callback:{kind}")
    return RevokeEvent(key, message_id)


def _reaction(key: str, kind: str, data: Mapping[str, Any]) -> Event:
    reaction = _mapping(data.get("reaction"))
    message_id = short_id(reaction.get("msgId"))
    by = _actor(reaction.get("senderId"), _mapping(reaction.get("id")))
    if message_id is None or not by:
        return UnsupportedEvent(key, f"callback:{kind}")
    emoji = reaction.get("reaction")
    at = from_seconds(reaction.get("timestamp"))
    return ReactionEvent(key, message_id, by, emoji[:32] if isinstance(emoji, str) else "", at)


def _vote(key: str, kind: str, data: Mapping[str, Any]) -> Event:
    vote = _mapping(data.get("vote"))
    poll = _mapping(vote.get("parentMessage"))
    message_id = short_id(vote.get("parentMsgKey")) or short_id(poll.get("id"))
    by = _actor(vote.get("voter"), {})
    listed = vote.get("selectedOptions")
    chosen = [
        one["name"]
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, Mapping) and isinstance(one.get("name"), str)
    ]
    if message_id is None or not by:
        return UnsupportedEvent(key, f"callback:{kind}")
    at = from_seconds(vote.get("interractedAtTs"), per_second=1000)
    return VoteEvent(key, message_id, by, tuple(chosen), at)


# What a person did to another message.
_CHANGES: Mapping[str, Callable[[str, str, Mapping[str, Any]], Event]] = {
    "message_edit": _edit,
    "message_revoke_everyone": _revoke,
    "message_reaction": _reaction,
    "vote_update": _vote,
}


def _call(key: str, call: Mapping[str, Any]) -> Event:
    """Parse a customer's call. The library reports only that it rings."""
    address = _address(call.get("from"))
    number, user_id = _person(address)
    call_id = call.get("id")
    if call.get("isGroup") is True or _not_a_person(address):
        return UnsupportedEvent(key, "group")
    if call.get("fromMe") is True:
        return UnsupportedEvent(key, "callback:call:outgoing")
    if not isinstance(call_id, str) or not call_id or not (number or user_id):
        return UnsupportedEvent(key, "callback:call")
    return CallEvent(
        channel_key=key,
        call_id=call_id,
        phone_number=number,
        user_id=user_id,
        status=CallStatus.RINGING,
        at=from_seconds(call.get("timestamp")),
        video=call.get("isVideo") is True,
    )


def _actor(value: Any, id_: Mapping[str, Any]) -> str:
    """Return who acted: US, or the person's number or user ID; "" if it is not a person."""
    if id_.get("fromMe") is True:
        return US
    number, user_id = _person(_address(value))
    return number or user_id


def _not_a_person(address: str) -> str:
    """Return what a chat is if it is none with a person: "group", "status" and so on."""
    if address == "status@broadcast":
        return "status"
    server = address.rpartition("@")[2]
    names = {"g.us": "group", "newsletter": "newsletter", "broadcast": "broadcast"}
    return names.get(server, "")


def _media(key: str, message: Mapping[str, Any], file: Mapping[str, Any]) -> Event:
    message_id = short_id(message.get("id"))
    # The receiver has already stored the file (`embedded_files`).
    stored, name = _mapping(file.get("data")).get("stored"), file.get("filename")
    if message_id is None or not isinstance(stored, str):
        return UnsupportedEvent(key, "callback:media")
    return MediaEvent(key, message_id, stored, name if isinstance(name, str) else "")


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
