"""Evolution API's events (contracts/evolution-api.md §3) as neutral events. Pure.

The body of a webhook and the object that the socket emits are read alike; a record of
/chat/findMessages is first wrapped by `as_event` and `statuses_of`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from channels_app.providers.events import (
    CallEvent,
    CallStatus,
    ConnectionEvent,
    ContactEvent,
    EditEvent,
    Event,
    Failure,
    MessageEvent,
    QrEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
    UnsupportedEvent,
)
from channels_app.providers.link_codes import read_code
from channels_app.providers.redaction import UNFINISHED, digest_of

# Baileys' words, then those of the WHATSAPP-BUSINESS channel. DELETED is left out on purpose:
# 2.3.6 says it of any update without a status, an edit among them; a deletion is messages.delete.
_RECEIPTS = {
    "SERVER_ACK": Receipt.SENT,
    "DELIVERY_ACK": Receipt.DELIVERED,
    "READ": Receipt.READ,
    "PLAYED": Receipt.READ,
    "ERROR": Receipt.FAILED,
    "SENT": Receipt.SENT,
    "DELIVERED": Receipt.DELIVERED,
    "FAILED": Receipt.FAILED,
}
# Baileys' words of a call's life (§3). "terminate" says that it ended, not how.
_CALLS = {
    "offer": CallStatus.RINGING,
    "ringing": CallStatus.RINGING,
    "accept": CallStatus.ACCEPTED,
    "reject": CallStatus.REJECTED,
    "timeout": CallStatus.MISSED,
    "terminate": CallStatus.ENDED,
}
_STATES = ("open", "connecting", "close", "refused")

# WhatsApp's name of the object that holds the content, and the Cloud API's word for it.
_TYPES = {
    "extendedTextMessage": "text",
    "imageMessage": "image",
    "videoMessage": "video",
    "ptvMessage": "video",
    "audioMessage": "audio",
    "documentMessage": "document",
    "stickerMessage": "sticker",
    "locationMessage": "location",
    "liveLocationMessage": "location",
    "contactMessage": "contacts",
    "contactsArrayMessage": "contacts",
    "contact": "contacts",
    "reactionMessage": "reaction",
    "buttonsResponseMessage": "interactive",
    "templateButtonReplyMessage": "interactive",
    "listResponseMessage": "interactive",
    "interactiveResponseMessage": "interactive",
    "buttonMessage": "interactive",
    "buttonsMessage": "interactive",
    "listMessage": "interactive",
    "interactiveMessage": "interactive",
    "templateMessage": "interactive",
    "pollCreationMessage": "poll",
    "pollCreationMessageV2": "poll",
    "pollCreationMessageV3": "poll",
    "pollUpdateMessage": "poll",
}
_MEDIA = ("image", "video", "audio", "document", "sticker")
# Envelopes around the message proper; Evolution opens only documentWithCaptionMessage (§3).
_WRAPPERS = (
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "ephemeralMessage",
    "documentWithCaptionMessage",
    "deviceSentMessage",
    "editedMessage",
    "associatedChildMessage",
    "groupMentionedMessage",
    "lottieStickerMessage",
)
# What goes along with a message, and is none.
_ACCOMPANIMENT = ("messageContextInfo", "contextInfo", "base64", "mediaUrl", "speechToText")
# Technical messages: nothing that somebody wrote.
_TECHNICAL = (
    "albumMessage",
    "encReactionMessage",
    "keepInChatMessage",
    "pinInChatMessage",
    "placeholderMessage",
    "protocolMessage",
    "secretEncryptedMessage",
    "senderKeyDistributionMessage",
)
_NOT_PERSONS = {
    "g.us": "group",
    "newsletter": "newsletter",
    "broadcast": "broadcast",
    "bot": "bot",
}
_EDIT, _REVOKE = ("MESSAGE_EDIT", 14), ("REVOKE", 0)


def read(payload: Any) -> Iterator[Event]:
    """Yield what one event says, as delivered by webhook or by socket.

    What cannot be read is yielded as UnsupportedEvent; nothing is raised for any JSON.
    """
    if not isinstance(payload, Mapping):
        yield UnsupportedEvent("", "event:")
        return
    channel, name = _text(payload, "instance"), _text(payload, "event")
    reader = _READERS.get(name)
    if reader is None:
        yield UnsupportedEvent(channel, f"event:{name[:60]}")
        return
    data = payload.get("data")
    for item in data if isinstance(data, list) else [data]:
        yield from reader(channel, item if isinstance(item, Mapping) else {})


def dedupe_key(payload: Any) -> str:
    """Return the key of an event: the same by webhook, by its retry, by socket and as a record.

    A message is known by its chat and id, a status by the message's id and its word. Of all else
    the content decides, with the time at which Evolution sent it: the same state of a connection
    may come again, and so may an edit. At most 100 ASCII characters; equal names of instances on
    two servers are for the caller to tell apart.
    """
    event = payload if isinstance(payload, Mapping) else {"data": payload}
    name, data = event.get("event"), event.get("data")
    told = _message_parts(name, data) or [_without_file(data), event.get("date_time")]
    canonical = json.dumps(
        [name, event.get("instance"), *told], sort_keys=True, separators=(",", ":")
    )
    label = name if isinstance(name, str) and name in _READERS else "other"
    return f"{label}:{hashlib.sha256(canonical.encode()).hexdigest()}"


def as_event(instance: str, record: Any) -> dict[str, Any]:
    """Return a record of /chat/findMessages as the messages.upsert that it was, or could have been.

    A message sent through Evolution's own API came as send.message: it has another key, and reads
    as the same message.
    """
    data = record
    if isinstance(record, Mapping):
        # `id` is the row's; the WhatsApp id is in `key`.
        data = {name: record[name] for name in record if name not in ("id", "MessageUpdate")}
    return {"event": "messages.upsert", "instance": instance, "data": data}


def statuses_of(record: Any, instance: str) -> list[dict[str, Any]]:
    """Return what a record of /chat/findMessages tells of the message's later life, as events.

    Receipts as messages.update, in the record's order; an edit, which leaves the new text in the
    record, as messages.edited; a deletion through the API as messages.delete. A customer's own
    "delete for everyone" looks there like an edit that changed nothing.
    """
    key = _dict(record, "key")
    if not _text(key, "id"):
        return []
    told: list[tuple[str, dict[str, Any]]] = []
    words = [_text(update, "status") for update in _dicts(record, "MessageUpdate")]
    for word in dict.fromkeys(filter(None, words)):
        if word == "EDITED":
            told.append(("messages.edited", _edit_of(record, key)))
        elif word in _RECEIPTS:
            whose = {name: key[name] for name in ("remoteJid", "fromMe") if name in key}
            told.append(("messages.update", {"keyId": key["id"], **whose, "status": word}))
    if key.get("deleted") is True:
        told.append(("messages.delete", {"key": dict(key), "status": "DELETED"}))
    return [{"event": name, "instance": instance, "data": data} for name, data in told]


def _edit_of(record: Mapping[str, Any], key: Mapping[str, Any]) -> dict[str, Any]:
    # Evolution writes the time of the edit over that of the message.
    at = _seconds(record.get("messageTimestamp"))
    return {
        "key": dict(key),
        "type": "MESSAGE_EDIT",
        "editedMessage": record.get("message"),
        "timestampMs": None if at is None else str(at * 1000),
    }


def _message_parts(name: Any, data: Any) -> list[Any] | None:
    """Return what tells this message or status from all others, or None where it is not there."""
    if not isinstance(data, Mapping):
        return None
    if name in ("messages.upsert", "send.message"):
        key = _dict(data, "key")
        who = _who(key)
        # A record keeps the @lid that Evolution replaced before it emitted the event.
        address = who.phone_number or who.user_id or _text(key, "remoteJid")
        id_ = _text(key, "id")
        return [id_, address, key.get("fromMe") is True] if id_ else None
    if name == "messages.update":
        id_, status = _text(data, "keyId"), _text(data, "status")
        if not id_ or not status:
            return None
        # Edits and votes come under one and the same word: SERVER_ACK, or DELETED in 2.3.6.
        return [id_, status, data.get("message") or None, data.get("pollUpdates") or None]
    return None


def _without_file(data: Any) -> Any:
    """Return the data without the file's content, which only some deliveries carry."""
    if isinstance(data, Mapping) and isinstance(data.get("message"), Mapping):
        message = {name: data["message"][name] for name in data["message"] if name != "base64"}
        return {**data, "message": message}
    return data


# -- Messages ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Who:
    """The other side of a chat; `other` says what it is instead of one person."""

    phone_number: str = ""
    user_id: str = ""
    other: str = ""


@dataclass(frozen=True, slots=True)
class _Said:
    type: str
    text: str = ""
    content: dict[str, Any] = field(default_factory=dict)


def _upsert(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    yield _message(channel, data, outgoing=_dict(data, "key").get("fromMe") is True)


def _history(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    """Read a message of the history that a link brings, with its ticks where it is our own (§10.4).

    WhatsApp sends the history when a phone is linked, and when it is asked for; messages that came
    while the instance was offline are messages.upsert.
    """
    outgoing = _dict(data, "key").get("fromMe") is True
    event = _message(channel, data, outgoing=outgoing)
    yield replace(event, history=True) if isinstance(event, MessageEvent) else event
    receipt = _RECEIPTS.get(_text(data, "status"))
    if outgoing and isinstance(event, MessageEvent) and receipt not in (None, Receipt.FAILED):
        yield ReceiptEvent(channel, event.provider_message_id, receipt)


def _sent(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    yield _message(channel, data, outgoing=True)


def _message(channel: str, data: Mapping[str, Any], *, outgoing: bool) -> Event:
    key = _dict(data, "key")
    id_, who, at = _text(key, "id"), _who(key), _time(data.get("messageTimestamp"))
    if who.other:
        return UnsupportedEvent(channel, who.other)
    message = _unwrap(_dict(data, "message"))
    if "protocolMessage" in message:
        return _protocol(channel, _dict(message, "protocolMessage"))
    name = _name_of(message, _text(data, "messageType"))
    said = _said(message, name, key)
    # `date_time` cannot stand in for a missing time: it is local with a false Z (§1).
    if not id_ or at is None or said is None or not (who.phone_number or who.user_id):
        return UnsupportedEvent(channel, f"message:{name[:60]}")
    return MessageEvent(
        channel_key=channel,
        provider_message_id=id_,
        phone_number=who.phone_number,
        user_id=who.user_id,
        # Of an own message it is our own name.
        name="" if outgoing else _person_name(data.get("pushName"), who),
        at=at,
        type=said.type,
        text=said.text,
        content=said.content,
        reply_to=_quoted(data, message, _dict(message, name)),
        outgoing=outgoing,
        # The receiver has put the file aside (`inbound.media`); it stands outside of any envelope.
        stored=_text(_dict(_dict(data, "message"), "base64"), "stored"),
    )


def _unwrap(message: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(len(_WRAPPERS)):
        inner = next((_dict(message, name) for name in _WRAPPERS if name in message), {})
        if not isinstance(inner.get("message"), Mapping):
            break
        message = inner["message"]
    return message


def _name_of(message: Mapping[str, Any], declared: str) -> str:
    """Return which of WhatsApp's kinds of content this is.

    The object itself goes before `messageType`: WHATSAPP-BUSINESS declares a reaction that it
    sends as "conversation", and writes the title of a chosen button as one.
    """
    for name in message:
        if name in _TYPES and message[name]:
            return name
    if message and declared in _TYPES:
        return declared
    if isinstance(message.get("conversation"), str):
        return "conversation"
    return next((name for name in message if name not in _ACCOMPANIMENT), "")


def _said(message: Mapping[str, Any], name: str, key: Mapping[str, Any]) -> _Said | None:
    """Return the content in neutral words; None for what nobody wrote."""
    if not name or name in _TECHNICAL:
        return None
    body, spoken = _dict(message, name), _text(message, "conversation")
    type_ = "text" if name == "conversation" else _TYPES.get(name, "unknown")
    if type_ == "text":
        return _Said("text", spoken or _text(body, "text"))
    if name == "pollUpdateMessage":
        return _vote(body)
    if type_ in _MEDIA:
        text, content = _text(body, "caption"), _media(body, key)
    elif type_ == "location":
        text, content = _location(body)
    elif type_ == "contacts":
        text, content = _contacts(message.get(name))
    elif type_ == "reaction":
        text = _text(body, "text")
        content = {"message_id": _text(_dict(body, "key"), "id"), "emoji": text}
    elif type_ == "poll":
        text = _text(body, "name")
        options = [_text(option, "optionName") for option in _dicts(body, "options")]
        content = {"name": text, "options": options}
    elif type_ == "interactive":
        text, content = _interactive(body or message, name)
    else:
        text = _first(body, "caption", "text", "title", "name")
        content = {}
    return _Said(type_, spoken or text, {**content, "message_type": name})


def _media(body: Mapping[str, Any], key: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is needed to fetch the file later, and to show it until then."""
    seconds = body.get("seconds")
    found = {
        "mime_type": _first(body, "mimetype", "mime_type"),
        "filename": _first(body, "fileName", "filename"),
        "caption": _text(body, "caption"),
        "seconds": seconds if type(seconds) is int else None,
        "voice": body.get("ptt") is True or body.get("voice") is True,
        # Only WHATSAPP-BUSINESS has one: Meta's, without which Evolution cannot fetch (§3).
        "id": _text(body, "id"),
    }
    names = ("id", "remoteJid", "fromMe", "participant")
    own = {name: key[name] for name in names if isinstance(key.get(name), (str, bool))}
    return {name: found[name] for name in found if found[name]} | {"evolution": {"key": own}}


def _location(body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    name, address = _text(body, "name"), _text(body, "address")
    found = {
        "latitude": _number(body.get("degreesLatitude")),
        "longitude": _number(body.get("degreesLongitude")),
        "name": name or None,
        "address": address or None,
    }
    content = {name: found[name] for name in found if found[name] is not None}
    return _text(body, "caption") or "\n".join(filter(None, [name, address])), content


def _contacts(body: Any) -> tuple[str, dict[str, Any]]:
    """Read one card or many. The card itself is left out: it may hold a picture."""
    cards = _dicts(body, "contacts") or ([body] if isinstance(body, Mapping) else [])
    if isinstance(body, list):
        cards = [card for card in body if isinstance(card, Mapping)]
    contacts = [
        {
            "name": {"formatted_name": _text(card, "displayName")},
            "phones": [
                {"phone": phone.strip(), "wa_id": wa_id}
                for wa_id, phone in re.findall(
                    r"waid=([0-9]{5,15}):([^\r\n]{1,40})", _text(card, "vcard")
                )
            ],
        }
        for card in cards
    ]
    names = filter(None, (_text(card, "displayName") for card in cards))
    return ", ".join(names), {"contacts": contacts}


def _interactive(body: Mapping[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    """Read what was chosen, or what was offered to choose from."""
    if name in ("buttonsResponseMessage", "templateButtonReplyMessage"):
        title = _text(body, "selectedDisplayText")
        id_ = _first(body, "selectedButtonId", "selectedId")
        return title, {"type": "button_reply", "button_reply": {"id": id_, "title": title}}
    if name == "listResponseMessage":
        title = _text(body, "title")
        id_ = _text(_dict(body, "singleSelectReply"), "selectedRowId")
        told = {"id": id_, "title": title, "description": _text(body, "description")}
        reply = {part: told[part] for part in told if told[part]}
        return title, {"type": "list_reply", "list_reply": reply}
    if name == "interactiveResponseMessage":
        flow = _dict(body, "nativeFlowResponseMessage")
        reply = {"name": _text(flow, "name"), "response_json": _text(flow, "paramsJson")}
        return _text(_dict(body, "body"), "text"), {"type": "nfm_reply", "nfm_reply": reply}
    if name == "templateMessage":
        filled = _dict(body, "hydratedTemplate") or _dict(body, "hydratedFourRowTemplate")
        text = _first(filled, "hydratedContentText", "hydratedTitleText")
        body = body if text else _dict(body, "interactiveMessageTemplate")
        return text or _text(_dict(body, "body"), "text"), {}
    lines = [_text(body, "title"), _first(body, "contentText", "description")]
    return _text(_dict(body, "body"), "text").strip() or "\n".join(filter(None, lines)), {}


def _vote(body: Mapping[str, Any]) -> _Said | None:
    """Read a vote in a poll; None where Evolution could not decrypt it."""
    chosen = _dict(body, "vote").get("selectedOptions")
    if not isinstance(chosen, list) or not all(_is_option(name) for name in chosen):
        return None
    poll = _text(_dict(body, "pollCreationMessageKey"), "id")
    content = {"message_id": poll, "chosen": chosen, "message_type": "pollUpdateMessage"}
    return _Said("poll", ", ".join(chosen), content)


def _is_option(name: Any) -> bool:
    """Whether this is the name of an option, not the SHA-256 of one (as base64, or its bytes)."""
    return isinstance(name, str) and not re.fullmatch(r"[A-Za-z0-9+/]{43}=", name)


def _quoted(data: Mapping[str, Any], message: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """Return the id of the quoted message, from wherever this channel writes it (§3).

    2.4 writes `messageContextInfo` at the top and takes a text's own context away (§10): what is
    left stands beside the content, or inside of one that is not read as such.
    """
    others = (value for value in message.values() if isinstance(value, Mapping))
    for holder in (data, message, body, _dict(data, "contextInfo"), *others):
        if found := _text(_dict(holder, "contextInfo"), "stanzaId"):
            return found
    quoted = _dict(message, "quoted")
    return _text(quoted, "id") or _text(_dict(quoted, "key"), "id")


# -- What became of messages ---------------------------------------------------------------------


def _update(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    who, status = _who(data), _text(data, "status")
    id_ = _text(data, "keyId") or _text(_dict(data, "key"), "id")
    receipt = _RECEIPTS.get(status)
    edited = _dict(data, "message").get("editedMessage")
    if who.other:
        yield UnsupportedEvent(channel, who.other)
    elif id_ and edited:
        # Its status is made up: 2.3.7 says SERVER_ACK of an update that has none.
        yield _edit(channel, id_, _dict(data, "message"), at=None)
    elif id_ and receipt is not None:
        failed = receipt == Receipt.FAILED
        yield ReceiptEvent(
            channel_key=channel,
            provider_message_id=id_,
            receipt=receipt,
            # Neither channel tells why (§3).
            failure=Failure("error", "WhatsApp refused the message", status) if failed else None,
        )
    else:
        yield UnsupportedEvent(channel, f"status:{status[:60]}")


def _edited(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    yield _protocol(channel, data)


def _protocol(channel: str, data: Mapping[str, Any]) -> Event:
    """Read a protocol message: an edit, a deletion for everyone, or one of WhatsApp's own."""
    key = _dict(data, "key")
    who, id_, type_ = _who(key), _text(key, "id"), data.get("type")
    at = _time(data.get("timestampMs"), per_second=1000)
    if who.other:
        return UnsupportedEvent(channel, who.other)
    if id_ and type_ in _EDIT:
        return _edit(channel, id_, _dict(data, "editedMessage"), at=at)
    if id_ and type_ in _REVOKE and type_ is not False:
        return RevokeEvent(channel, id_, at)
    return UnsupportedEvent(channel, f"protocol:{str(type_)[:60]}")


def _edit(channel: str, id_: str, message: Mapping[str, Any], *, at: dt.datetime | None) -> Event:
    message = _unwrap(message)
    inner = _dict(message, "protocolMessage")
    if inner:
        message = _unwrap(_dict(inner, "editedMessage"))
        at = _time(inner.get("timestampMs"), per_second=1000) or at
    name = _name_of(message, "")
    said = _said(message, name, {})
    if said is None or said.type == "unknown":
        return UnsupportedEvent(channel, f"edit:{name[:60]}")
    return EditEvent(channel, id_, said.text, at)


def _deleted(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    """Read a key, told by WhatsApp, or a whole row, told by the API: there `id` is the row's."""
    key = _dict(data, "key") or data
    who, id_ = _who(key), _text(key, "id")
    if who.other:
        yield UnsupportedEvent(channel, who.other)
    elif id_:
        yield RevokeEvent(channel, id_)
    else:
        yield UnsupportedEvent(channel, "event:messages.delete")


# -- The session and its people ------------------------------------------------------------------


def _connection(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    state = _text(data, "state")
    if state not in _STATES:
        yield UnsupportedEvent(channel, f"connection:{state[:60]}")
        return
    yield ConnectionEvent(
        channel_key=channel,
        state=state,
        reason=_code(data.get("statusReason")),
        own_number=_address(_text(data, "wuid")).phone_number,
        profile_name=_text(data, "profileName"),
    )


def _status(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    if _text(data, "status") == "closed":
        yield ConnectionEvent(channel, "close", _code(data.get("disconnectionReasonCode")))
    else:
        yield UnsupportedEvent(channel, "event:status.instance")


def _logged_out(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    yield ConnectionEvent(channel, "close", "logout")


def _removed(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    yield ConnectionEvent(channel, "close", "removed")


def _qr(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    qr = _dict(data, "qrcode")
    code = _text(qr, "code")
    if code == UNFINISHED or (code and not read_code(code)):
        return
    if code:
        yield QrEvent(channel, digest_of(code))
    elif "qrcode" not in data and "statusCode" in data:
        # The limit is reached (§3).
        yield QrEvent(channel, "")
    else:
        yield UnsupportedEvent(channel, "event:qrcode.updated")


def _contact(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    who = _who(data)
    name = _person_name(data.get("pushName"), who) or _person_name(data.get("name"), who)
    if who.phone_number and name:
        yield ContactEvent(channel, who.phone_number, name)


def _call(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    call_id, status = _text(data, "id"), _text(data, "status")
    caller, chat = _address(_text(data, "from")), _address(_text(data, "chatId"))
    number = caller.phone_number or chat.phone_number
    if data.get("isGroup") is True or chat.other == "group":
        yield UnsupportedEvent(channel, "group")
    elif not call_id or not status:
        # The raw node of the socket (§2) is one of these.
        yield UnsupportedEvent(channel, f"call:{_text(data, 'event')[:60]}")
    else:
        yield CallEvent(
            channel_key=channel,
            call_id=call_id,
            phone_number=number,
            # Words to come are stages on the way: what ends a call is known.
            status=_CALLS.get(status, CallStatus.RINGING),
            at=_instant(_text(data, "date")),
            video=data.get("isVideo") is True,
            user_id="" if number else caller.user_id or chat.user_id,
        )


_READERS: dict[str, Callable[[str, Mapping[str, Any]], Iterator[Event]]] = {
    "messages.upsert": _upsert,
    "send.message": _sent,
    "messages.set": _history,
    # Beside messages.set from 2.4 on (§8).
    "messaging-history.set": _history,
    "messages.update": _update,
    "messages.edited": _edited,
    "send.message.update": _edited,
    "messages.delete": _deleted,
    "connection.update": _connection,
    "status.instance": _status,
    "logout.instance": _logged_out,
    "remove.instance": _removed,
    "qrcode.updated": _qr,
    "contacts.set": _contact,
    "contacts.upsert": _contact,
    "contacts.update": _contact,
    "call": _call,
}


# -- Addresses, names and times ------------------------------------------------------------------


def _who(key: Mapping[str, Any]) -> _Who:
    """Return the other side of the chat that this key speaks of.

    A chat known by its LID has the number in `remoteJidAlt` (`senderPn` before 2.3.5: there the
    sender's, so of an own message it is ours).
    """
    who = _address(_text(key, "remoteJid"))
    if who.user_id:
        names = ["remoteJidAlt"] if key.get("fromMe") is True else ["remoteJidAlt", "senderPn"]
        for name in names:
            if number := _address(_text(key, name)).phone_number:
                return _Who(phone_number=number)
    return who


def _address(jid: str) -> _Who:
    """Read `5511988887777:12@s.whatsapp.net`, plain digits, a LID, or the name of something else.

    Nothing at all is nobody: an empty `_Who`, except that a wrong address is "address".
    """
    user, _, server = jid.partition("@")
    user = user.partition(":")[0]
    if jid == "status@broadcast":
        return _Who(other="status")
    if server in _NOT_PERSONS:
        return _Who(other=_NOT_PERSONS[server])
    if server in ("lid", "hosted.lid") and re.fullmatch(r"[0-9]{1,32}", user):
        return _Who(user_id=f"{user}@lid")
    digits = user if server else re.sub(r"[\s()+.-]", "", user)
    if server in ("s.whatsapp.net", "c.us", "hosted", "") and re.fullmatch(
        r"[1-9][0-9]{4,14}", digits
    ):
        return _Who(phone_number=f"+{digits}")
    return _Who(other="address") if jid else _Who()


def _person_name(value: Any, who: _Who) -> str:
    """Return a name, which is not the number that Evolution writes where it knows none."""
    name = value.strip() if isinstance(value, str) else ""
    numbers = (who.phone_number.removeprefix("+"), who.user_id.partition("@")[0])
    return "" if name.removeprefix("+") in numbers else name


def _time(value: Any, *, per_second: int = 1) -> dt.datetime | None:
    seconds = _seconds(value)
    try:
        return (
            None if seconds is None else dt.datetime.fromtimestamp(seconds / per_second, tz=dt.UTC)
        )
    except (ValueError, OverflowError, OSError):
        return None


def _seconds(value: Any) -> int | None:
    """Read a number, a numeric string, or a 64-bit number in two halves (§3)."""
    if isinstance(value, Mapping):
        low, high = value.get("low"), value.get("high")
        value = (high << 32) + (low & 0xFFFFFFFF) if type(low) is type(high) is int else None
    elif isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        value = int(value)
    return int(value) if type(value) in (int, float) and 0 < value < 10**15 else None


def _instant(value: str) -> dt.datetime | None:
    """Read a real UTC time, written by JavaScript."""
    try:
        at = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo else None


def _code(value: Any) -> str:
    return str(value) if type(value) is int or isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    return value if type(value) in (int, float) and abs(value) <= 180 else None


def _first(parent: Mapping[str, Any], *names: str) -> str:
    return next(filter(None, (_text(parent, name) for name in names)), "")


def _text(parent: Mapping[str, Any], name: str) -> str:
    found = parent.get(name)
    return found if isinstance(found, str) else ""


def _dict(parent: Any, name: str) -> Mapping[str, Any]:
    found = parent.get(name) if isinstance(parent, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _dicts(parent: Any, name: str) -> list[Mapping[str, Any]]:
    found = parent.get(name) if isinstance(parent, Mapping) else None
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
