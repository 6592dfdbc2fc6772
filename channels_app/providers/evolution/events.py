"""Parses Evolution API's events (docs/providers/evolution.md §3) into neutral events. Pure.

Webhook bodies and objects emitted by the socket are parsed alike. `as_event` and `statuses_of`
convert a record of /chat/findMessages to such events.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from channels_app.providers.addresses import Address, Kind, named, unique
from channels_app.providers.events import (
    AddressEvent,
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

# Baileys' statuses, then those of the WHATSAPP-BUSINESS channel. DELETED is omitted on purpose:
# 2.3.6 sends it for any update without a status, such as an edit; a deletion is messages.delete.
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
# Baileys' call statuses (§3). "terminate" says that the call ended, not how.
_CALLS = {
    "offer": CallStatus.RINGING,
    "ringing": CallStatus.RINGING,
    "accept": CallStatus.ACCEPTED,
    "reject": CallStatus.REJECTED,
    "timeout": CallStatus.MISSED,
    "terminate": CallStatus.ENDED,
}
_STATES = ("open", "connecting", "close", "refused")

# WhatsApp's name of the object with the content, and the Cloud API's name of the type.
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
# Envelopes around the actual message; Evolution unwraps only documentWithCaptionMessage (§3).
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
# Keys beside the content that are not content themselves.
_METADATA = ("messageContextInfo", "contextInfo", "base64", "mediaUrl", "speechToText")
# Technical messages that no person wrote.
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
    """Yield the neutral events of one event from a webhook or the socket.

    Anything unknown is yielded as UnsupportedEvent; raises nothing for any JSON.
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
    """Return a key that is equal for the webhook, its retry, the socket and the record.

    A message is identified by chat and ID, a status by the message's ID and the status. Any other
    event is identified by its content and the time at which Evolution sent it, because a connection
    state or an edit may be repeated. At most 100 ASCII characters; the caller must distinguish
    instances of the same name on two servers.
    """
    event = payload if isinstance(payload, Mapping) else {"data": payload}
    name, data = event.get("event"), event.get("data")
    parts = _identifying_parts(name, data) or [_without_file(data), event.get("date_time")]
    canonical = json.dumps(
        [name, event.get("instance"), *parts], sort_keys=True, separators=(",", ":")
    )
    label = name if isinstance(name, str) and name in _READERS else "other"
    return f"{label}:{hashlib.sha256(canonical.encode()).hexdigest()}"


def as_event(instance: str, record: Any) -> dict[str, Any]:
    """Convert a record of /chat/findMessages to the corresponding messages.upsert.

    A message sent through Evolution's own API was delivered as send.message: it has a different
    dedupe key but is parsed to the same message.
    """
    data = record
    if isinstance(record, Mapping):
        # `id` is the row's ID; the WhatsApp ID is in `key`.
        data = {name: record[name] for name in record if name not in ("id", "MessageUpdate")}
    return {"event": "messages.upsert", "instance": instance, "data": data}


def record_from_beginning(answer: bytes) -> dict[str, Any]:
    """Return what the beginning of a /chat/findMessages answer says of its first record.

    Of a record that is too large to be fetched, `id`, `key`, `pushName` and `messageType` come
    before the message (§5). Where that is a file, an empty object of its type stands for it: the
    file can be fetched by the key. Returns {} if the answer has another form.
    """
    text = answer.decode(errors="replace")
    start = _FIRST_RECORD.search(text)
    record: dict[str, Any] = {}
    position = start.end() if start else len(text)
    while (name := _MEMBER.match(text, position)) and name[1] != "message":
        try:
            record[name[1]], position = _DECODER.raw_decode(text, name.end())
        except ValueError:
            break
    if not _text(_dict(record, "key"), "id"):
        return {}
    type_ = _text(record, "messageType")
    return {**record, "message": {type_: {}}} if _TYPES.get(type_) in _MEDIA else record


_FIRST_RECORD = re.compile(r'"records"\s*:\s*\[\s*\{')
_MEMBER = re.compile(r'\s*,?\s*"([A-Za-z]+)"\s*:\s*')
_DECODER = json.JSONDecoder()


def statuses_of(record: Any, instance: str) -> list[dict[str, Any]]:
    """Return the later changes of a message in a /chat/findMessages record, as events.

    Receipts become messages.update, in the record's order; an edit, whose new text is in the
    record, messages.edited; a deletion through the API messages.delete. A customer's own "delete
    for everyone" looks like an edit without a change in the record.
    """
    key = _dict(record, "key")
    if not _text(key, "id"):
        return []
    events: list[tuple[str, dict[str, Any]]] = []
    statuses = [_text(update, "status") for update in _dicts(record, "MessageUpdate")]
    for status in dict.fromkeys(filter(None, statuses)):
        if status == "EDITED":
            events.append(("messages.edited", _edit_of(record, key)))
        elif status in _RECEIPTS:
            chat = {name: key[name] for name in ("remoteJid", "fromMe") if name in key}
            events.append(("messages.update", {"keyId": key["id"], **chat, "status": status}))
    if key.get("deleted") is True:
        events.append(("messages.delete", {"key": dict(key), "status": "DELETED"}))
    return [{"event": name, "instance": instance, "data": data} for name, data in events]


def _edit_of(record: Mapping[str, Any], key: Mapping[str, Any]) -> dict[str, Any]:
    # Evolution overwrites the time of the message with that of the edit.
    at = _seconds(record.get("messageTimestamp"))
    return {
        "key": dict(key),
        "type": "MESSAGE_EDIT",
        "editedMessage": record.get("message"),
        "timestampMs": None if at is None else str(at * 1000),
    }


def _identifying_parts(name: Any, data: Any) -> list[Any] | None:
    """Return the identifying parts of a message or status, or None if they are missing."""
    if not isinstance(data, Mapping):
        return None
    if name in ("messages.upsert", "send.message"):
        key = _dict(data, "key")
        party = _party(key)
        # A record still has the @lid, which Evolution replaces before it emits the event.
        address = party.phone_number or party.user_id or _text(key, "remoteJid")
        id_ = _text(key, "id")
        return [id_, address, key.get("fromMe") is True] if id_ else None
    if name == "messages.update":
        id_, status = _text(data, "keyId"), _text(data, "status")
        if not id_ or not status:
            return None
        # Edits and votes share one status: SERVER_ACK, or DELETED in 2.3.6.
        return [id_, status, data.get("message") or None, data.get("pollUpdates") or None]
    return None


def _without_file(data: Any) -> Any:
    """Return the data without the file's content, which only some deliveries contain."""
    if isinstance(data, Mapping) and isinstance(data.get("message"), Mapping):
        message = {name: data["message"][name] for name in data["message"] if name != "base64"}
        return {**data, "message": message}
    return data


# -- Messages ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Party:
    """The other party of a chat; `other` says what it is if not a person.

    `also` are further addresses of the person: several keys of a message may name one.
    """

    phone_number: str = ""
    user_id: str = ""
    other: str = ""
    also: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class _Content:
    type: str
    text: str = ""
    content: dict[str, Any] = field(default_factory=dict)


def _upsert(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    yield _message(channel, data, outgoing=_dict(data, "key").get("fromMe") is True)


def _history(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    """Parse a message of the synced history, with the receipts of our own messages (§10.4).

    WhatsApp sends the history when a phone is linked and on request; messages received while the
    instance was offline are messages.upsert.
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
    id_, party, at = _text(key, "id"), _party(key), _time(data.get("messageTimestamp"))
    if party.other:
        return UnsupportedEvent(channel, party.other)
    message = _unwrap(_dict(data, "message"))
    if "protocolMessage" in message:
        return _protocol(channel, _dict(message, "protocolMessage"))
    name = _name_of(message, _text(data, "messageType"))
    parsed = _content(message, name, key)
    # `date_time` cannot replace a missing time: it is local time with a wrong Z suffix (§1).
    if not id_ or at is None or parsed is None or not (party.phone_number or party.user_id):
        return UnsupportedEvent(channel, f"message:{name[:60]}")
    return MessageEvent(
        channel_key=channel,
        provider_message_id=id_,
        phone_number=party.phone_number,
        user_id=party.user_id,
        # For our own messages, pushName is our own name.
        name="" if outgoing else _person_name(data.get("pushName"), party),
        also=party.also,
        at=at,
        type=parsed.type,
        text=parsed.text,
        content=parsed.content,
        reply_to=_quoted(data, message, _dict(message, name)),
        outgoing=outgoing,
        # The receiver has already stored the file (`embedded_files`); it is outside any envelope.
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
    """Return WhatsApp's name of the content type.

    The object itself takes precedence over `messageType`: WHATSAPP-BUSINESS declares a reaction
    that it sends, and the title of a selected button, as "conversation".
    """
    for name in message:
        if name in _TYPES and message[name]:
            return name
    if message and declared in _TYPES:
        return declared
    if isinstance(message.get("conversation"), str):
        return "conversation"
    return next((name for name in message if name not in _METADATA), "")


def _content(message: Mapping[str, Any], name: str, key: Mapping[str, Any]) -> _Content | None:
    """Return the neutral content; None for a technical message."""
    if not name or name in _TECHNICAL:
        return None
    body, conversation = _dict(message, name), _text(message, "conversation")
    type_ = "text" if name == "conversation" else _TYPES.get(name, "unknown")
    if type_ == "text":
        return _Content("text", conversation or _text(body, "text"))
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
    return _Content(type_, conversation or text, {**content, "message_type": name})


def _media(body: Mapping[str, Any], key: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data needed to fetch the file later, and to show it until then."""
    seconds = body.get("seconds")
    found = {
        "mime_type": _first(body, "mimetype", "mime_type"),
        "filename": _first(body, "fileName", "filename"),
        "caption": _text(body, "caption"),
        "seconds": seconds if type(seconds) is int else None,
        "voice": body.get("ptt") is True or body.get("voice") is True,
        # Only WHATSAPP-BUSINESS has Meta's ID; Evolution cannot fetch the file without it (§3).
        "id": _text(body, "id"),
    }
    names = ("id", "remoteJid", "fromMe", "participant")
    ids = {name: key[name] for name in names if isinstance(key.get(name), (str, bool))}
    return {name: found[name] for name in found if found[name]} | {"evolution": {"key": ids}}


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
    """Parse one or more cards. The vCard itself is omitted: it may contain a picture."""
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
    """Parse a selected option, or the options offered."""
    if name in ("buttonsResponseMessage", "templateButtonReplyMessage"):
        title = _text(body, "selectedDisplayText")
        id_ = _first(body, "selectedButtonId", "selectedId")
        return title, {"type": "button_reply", "button_reply": {"id": id_, "title": title}}
    if name == "listResponseMessage":
        title = _text(body, "title")
        id_ = _text(_dict(body, "singleSelectReply"), "selectedRowId")
        row = {"id": id_, "title": title, "description": _text(body, "description")}
        reply = {part: row[part] for part in row if row[part]}
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


def _vote(body: Mapping[str, Any]) -> _Content | None:
    """Parse a vote in a poll; None if Evolution could not decrypt it."""
    chosen = _dict(body, "vote").get("selectedOptions")
    if not isinstance(chosen, list) or not all(_is_option(name) for name in chosen):
        return None
    poll = _text(_dict(body, "pollCreationMessageKey"), "id")
    content = {"message_id": poll, "chosen": chosen, "message_type": "pollUpdateMessage"}
    return _Content("poll", ", ".join(chosen), content)


def _is_option(name: Any) -> bool:
    """Whether this is an option's name and not its SHA-256 (as base64 or bytes)."""
    return isinstance(name, str) and not re.fullmatch(r"[A-Za-z0-9+/]{43}=", name)


def _quoted(data: Mapping[str, Any], message: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """Return the ID of the quoted message from any of its possible locations (§3).

    2.4 writes `messageContextInfo` at the top and removes a text's own context (§10): the ID is
    then beside the content, or inside an object that is not parsed as content.
    """
    others = (value for value in message.values() if isinstance(value, Mapping))
    for holder in (data, message, body, _dict(data, "contextInfo"), *others):
        if found := _text(_dict(holder, "contextInfo"), "stanzaId"):
            return found
    quoted = _dict(message, "quoted")
    return _text(quoted, "id") or _text(_dict(quoted, "key"), "id")


# -- Statuses, edits and deletions ---------------------------------------------------------------


def _update(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    party, status = _party(data), _text(data, "status")
    id_ = _text(data, "keyId") or _text(_dict(data, "key"), "id")
    receipt = _RECEIPTS.get(status)
    edited = _dict(data, "message").get("editedMessage")
    if party.other:
        yield UnsupportedEvent(channel, party.other)
    elif id_ and edited:
        # The status is not real: 2.3.7 sends SERVER_ACK for an update that has none.
        yield _edit(channel, id_, _dict(data, "message"), at=None)
    elif id_ and receipt is not None:
        failed = receipt == Receipt.FAILED
        both = bool(party.phone_number and party.user_id)
        yield ReceiptEvent(
            channel_key=channel,
            provider_message_id=id_,
            receipt=receipt,
            phone_number=party.phone_number if both else "",
            user_id=party.user_id if both else "",
            # Neither channel reports the reason (§3).
            failure=Failure("error", "WhatsApp rejected the message", status) if failed else None,
        )
    else:
        yield UnsupportedEvent(channel, f"status:{status[:60]}")


def _edited(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    yield _protocol(channel, data)


def _protocol(channel: str, data: Mapping[str, Any]) -> Event:
    """Parse a protocol message: an edit, a deletion for everyone, or an internal one."""
    key = _dict(data, "key")
    party, id_, type_ = _party(key), _text(key, "id"), data.get("type")
    at = _time(data.get("timestampMs"), per_second=1000)
    if party.other:
        return UnsupportedEvent(channel, party.other)
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
    parsed = _content(message, name, {})
    if parsed is None or parsed.type == "unknown":
        return UnsupportedEvent(channel, f"edit:{name[:60]}")
    return EditEvent(channel, id_, parsed.text, at)


def _deleted(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    """Parse a key (from WhatsApp) or a whole row (from the API), whose `id` is the row's ID."""
    key = _dict(data, "key") or data
    party, id_ = _party(key), _text(key, "id")
    if party.other:
        yield UnsupportedEvent(channel, party.other)
    elif id_:
        yield RevokeEvent(channel, id_)
    else:
        yield UnsupportedEvent(channel, "event:messages.delete")


# -- Connection, contacts and calls --------------------------------------------------------------


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
    # A contacts sync has `remoteJid`; what Baileys itself reports, `id` and the other address.
    names = ("remoteJid", "id", "jid", "phoneNumber", "remoteJidAlt", "lid")
    # The `id` of a stored contact is that of its row.
    jids = [jid for name in names if "@" in (jid := _text(data, name))]
    party = _joined(map(_address, jids)) if jids and not _address(jids[0]).other else _Party()
    name = _person_name(data.get("pushName"), party) or _person_name(data.get("name"), party)
    if party.phone_number and party.user_id:
        addresses = named(phone_number=party.phone_number, user_id=party.user_id, also=party.also)
        yield AddressEvent(channel, addresses)
    if party.phone_number and name:
        yield ContactEvent(channel, party.phone_number, name)


def _call(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    call_id, status = _text(data, "id"), _text(data, "status")
    chat = _address(_text(data, "chatId"))
    caller = _joined(_address(_text(data, name)) for name in ("from", "chatId", "callerPn"))
    if data.get("isGroup") is True or chat.other == "group":
        yield UnsupportedEvent(channel, "group")
    elif not call_id or not status:
        # The socket also emits raw call nodes (§2).
        yield UnsupportedEvent(channel, f"call:{_text(data, 'event')[:60]}")
    else:
        yield CallEvent(
            channel_key=channel,
            call_id=call_id,
            phone_number=caller.phone_number,
            # Unknown statuses count as ringing: all statuses that end a call are known.
            status=_CALLS.get(status, CallStatus.RINGING),
            at=_utc_time(_text(data, "date")),
            video=data.get("isVideo") is True,
            user_id=caller.user_id,
        )


_READERS: dict[str, Callable[[str, Mapping[str, Any]], Iterator[Event]]] = {
    "messages.upsert": _upsert,
    "send.message": _sent,
    "messages.set": _history,
    # Sent in addition to messages.set since 2.4 (§8).
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


# Where a message's key names its chat by another address (§3), and its sender. For our own
# messages, the sender is our number.
_CHAT_KEYS = ("remoteJid", "remoteJidAlt", "previousRemoteJid")
_SENDER_KEYS = ("senderPn", "senderLid")


def _party(key: Mapping[str, Any]) -> _Party:
    """Return the other party of the chat that this key belongs to, with all its addresses."""
    party = _address(_text(key, "remoteJid"))
    if party.other:
        return party
    names = _CHAT_KEYS if key.get("fromMe") is True else _CHAT_KEYS + _SENDER_KEYS
    return _joined(_address(_text(key, name)) for name in names)


def _joined(parties: Iterable[_Party]) -> _Party:
    """Return one person with the addresses of all these."""
    addresses = unique(
        address
        for party in parties
        for address in named(phone_number=party.phone_number, user_id=party.user_id)
    )
    numbers = [one.value for one in addresses if one.kind == Kind.PHONE]
    lids = [one.value for one in addresses if one.kind == Kind.LID]
    return _Party(
        phone_number=numbers[0] if numbers else "",
        user_id=lids[0] if lids else "",
        also=tuple(one for one in addresses if one.value not in (*numbers[:1], *lids[:1])),
    )


def _address(jid: str) -> _Party:
    """Parse `5511988887777:12@s.whatsapp.net`, plain digits, a LID, or another kind of address.

    An empty string gives an empty `_Party`; for an invalid address, `other` is "address".
    """
    user, _, server = jid.partition("@")
    user = user.partition(":")[0]
    if jid == "status@broadcast":
        return _Party(other="status")
    if server in _NOT_PERSONS:
        return _Party(other=_NOT_PERSONS[server])
    if server in ("lid", "hosted.lid") and re.fullmatch(r"[0-9]{1,32}", user):
        return _Party(user_id=f"{user}@lid")
    digits = user if server else re.sub(r"[\s()+.-]", "", user)
    if server in ("s.whatsapp.net", "c.us", "hosted", "") and re.fullmatch(
        r"[1-9][0-9]{4,14}", digits
    ):
        return _Party(phone_number=f"+{digits}")
    return _Party(other="address") if jid else _Party()


def _person_name(value: Any, party: _Party) -> str:
    """Return a name, or "" for the number that Evolution writes if it knows no name."""
    name = value.strip() if isinstance(value, str) else ""
    numbers = (party.phone_number.removeprefix("+"), party.user_id.partition("@")[0])
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
    """Parse a number, a numeric string, or a 64-bit number in two halves (§3)."""
    if isinstance(value, Mapping):
        low, high = value.get("low"), value.get("high")
        value = (high << 32) + (low & 0xFFFFFFFF) if type(low) is type(high) is int else None
    elif isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        value = int(value)
    return int(value) if type(value) in (int, float) and 0 < value < 10**15 else None


def _utc_time(value: str) -> dt.datetime | None:
    """Parse a true UTC time, written by JavaScript."""
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
