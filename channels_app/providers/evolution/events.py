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
from dataclasses import dataclass, replace
from typing import Any

from channels_app.providers.addresses import Address, Kind, is_lid, named, unique
from channels_app.providers.contents import quote
from channels_app.providers.events import (
    US,
    AddressEvent,
    CallEvent,
    CallStatus,
    ConnectionEvent,
    ContactEvent,
    EditEvent,
    Event,
    Failure,
    GroupEvent,
    MessageEvent,
    QrEvent,
    ReactionEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
    UnsupportedEvent,
    VoteEvent,
)
from channels_app.providers.evolution import contents
from channels_app.providers.link_codes import read_code
from channels_app.providers.redaction import UNFINISHED, digest_of
from channels_app.providers.times import from_seconds, whole_seconds

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
# Baileys' numbers of its statuses.
_STATUS_NUMBERS = ("ERROR", "PENDING", "SERVER_ACK", "DELIVERY_ACK", "READ", "PLAYED")
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

GROUP = "group"
_NOT_PERSONS = {
    "g.us": GROUP,
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
    if isinstance(data, list) and name in _SYNCED:
        reader = _saved_contact
    is_empty = True
    for item in data if isinstance(data, list) else [data]:
        for event in reader(channel, item if isinstance(item, Mapping) else {}):
            is_empty = False
            yield event
    if is_empty:
        yield UnsupportedEvent(channel, f"{name}:empty")


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


def gather_file(payload: dict[str, Any]) -> dict[str, Any]:
    """Return an event with its file's base64 at `data.message.base64`, where 2.3.7 puts it.

    Other versions and forks put it beside the message, into the object of its type, or into the
    header of a text with buttons. The given payload is not changed.
    """
    data = payload.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("message"), dict):
        return payload
    message = data["message"]
    if message.get("base64"):
        return payload
    rest, encoded = _taken(data, 6)
    if not encoded:
        return payload
    return {**payload, "data": {**rest, "message": {**rest["message"], "base64": encoded}}}


def _taken(parent: dict[str, Any], depth: int) -> tuple[dict[str, Any], str]:
    """Return an object without the first `base64` in it, and that text."""
    own = parent.get("base64")
    if isinstance(own, str) and own:
        return {name: parent[name] for name in parent if name != "base64"}, own
    for name, value in parent.items() if depth else ():
        # A quoted message has a file of its own.
        if isinstance(value, dict) and name != "contextInfo":
            rest, encoded = _taken(value, depth - 1)
            if encoded:
                return {**parent, name: rest}, encoded
    return parent, ""


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
    return {**record, "message": {type_: {}}} if type_ in contents.MEDIA else record


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
    at = whole_seconds(record.get("messageTimestamp"))
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
        # What arrives without its content may arrive again with it.
        empty = ["empty"] if contents.is_empty(data) else []
        return [id_, address, key.get("fromMe") is True, *empty] if id_ else None
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

    The `user_id` of a group is its address. `also` are further addresses of a person: several keys
    of a message may name one.
    """

    phone_number: str = ""
    user_id: str = ""
    other: str = ""
    also: tuple[Address, ...] = ()

    @property
    def ignored(self) -> str:
        """What the party is if its messages are not read: a newsletter, a broadcast and so on."""
        return "" if self.other == GROUP else self.other

    @property
    def address(self) -> str:
        return self.phone_number or self.user_id


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
    id_, party = _text(key, "id"), _party(key)
    if party.ignored:
        return UnsupportedEvent(channel, party.ignored)
    outer = _dict(data, "message")
    message = contents.unwrap(outer)
    if "protocolMessage" in message:
        by = US if outgoing else _actor(key).address
        return _protocol(channel, _dict(message, "protocolMessage"), by=by)
    name = contents.name_of(message, _text(data, "messageType"))
    if not id_ or not (party.phone_number or party.user_id):
        return UnsupportedEvent(channel, f"message:{name[:60]}")
    if name in ("reactionMessage", "pollUpdateMessage"):
        return _response(channel, data, name, _dict(message, name), outgoing=outgoing)
    found = contents.read(message, name, key) if name else contents.without_content(data)
    if found is None:
        return UnsupportedEvent(channel, f"message:{name[:60] or _stub(data)}")
    content = dict(found.content)
    if url := _text(outer, "mediaUrl"):
        # Where Evolution has stored the file, if it has a storage of its own (S3).
        content["media_url"] = url[:2000]
    if contents.is_view_once(outer) and found.type in contents.MEDIA.values():
        content["view_once"] = True
    return MessageEvent(
        channel_key=channel,
        provider_message_id=id_,
        phone_number=party.phone_number,
        user_id=party.user_id,
        # For our own messages, pushName is our own name.
        name="" if outgoing or party.other else _person_name(data.get("pushName"), party),
        also=party.also,
        # `date_time` cannot replace a missing time: it is local time with a wrong Z suffix (§1).
        at=from_seconds(data.get("messageTimestamp")),
        type=found.type,
        text=found.text,
        content=content,
        reply_to=_quoted(data, message, _dict(message, name)),
        outgoing=outgoing,
        # The receiver has already stored the file (`embedded_files`); it is outside any envelope.
        stored=_text(_dict(outer, "base64"), "stored"),
        context=_context(data, message, _dict(message, name)) | _author(data, party, outgoing),
    )


def _author(data: Mapping[str, Any], party: _Party, outgoing: bool) -> dict[str, Any]:
    """Return who wrote a message of a group; {} in a conversation with one person."""
    if party.other != GROUP or outgoing:
        return {}
    person = _participant(_dict(data, "key"))
    name = _person_name(data.get("pushName"), person)
    if not (person.address or name):
        return {}
    author = {"id": person.address, "name": name}
    # The group knows its message by this one, which is the hidden one in newer groups.
    reported = _text(_dict(data, "key"), "participant")
    if is_lid(reported) and reported != person.address:
        author["lid"] = reported
    return {"author": author}


def _participant(key: Mapping[str, Any]) -> _Party:
    """Return who acted in a group, by number if the event names it."""
    names = ("participant", "participantAlt", "participantPn", "senderPn")
    found = [_address(_text(key, name)) for name in names]
    with_number = (one for one in found if one.phone_number)
    return next(with_number, next((one for one in found if one.user_id), _Party()))


def _actor(key: Mapping[str, Any]) -> _Party:
    """Return who wrote what has this key: in a group, the participant."""
    party = _party(key)
    return _participant(key) if party.other == GROUP else party


def _stub(data: Mapping[str, Any]) -> str:
    """Return the name of a notice of WhatsApp's own that is no message."""
    return f"stub:{data.get('messageStubType')}"[:60]


def _response(
    channel: str, data: Mapping[str, Any], name: str, body: Mapping[str, Any], *, outgoing: bool
) -> Event:
    """Parse a reaction to a message, or a vote in a poll."""
    party = _actor(_dict(data, "key"))
    by = US if outgoing else party.address
    if not by:
        return UnsupportedEvent(channel, f"message:{name}")
    person = "" if outgoing else _person_name(data.get("pushName"), party)
    at = from_seconds(data.get("messageTimestamp"))
    target = _text(
        _dict(body, "key" if name == "reactionMessage" else "pollCreationMessageKey"), "id"
    )
    if name == "reactionMessage" and target:
        return ReactionEvent(channel, target, by, _text(body, "text"), at, person)
    chosen = _dict(body, "vote").get("selectedOptions")
    if not target or not isinstance(chosen, list) or not all(_is_option(one) for one in chosen):
        # Evolution could not decrypt the vote.
        return UnsupportedEvent(channel, f"message:{name}")
    return VoteEvent(channel, target, by, tuple(chosen), at, person)


def _is_option(name: Any) -> bool:
    """Whether this is an option's name and not its SHA-256 (as base64 or bytes)."""
    return isinstance(name, str) and not re.fullmatch(r"[A-Za-z0-9+/]{43}=", name)


def _quoted(data: Mapping[str, Any], message: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """Return the ID of the quoted message from any of its possible locations (§3)."""
    for info in _context_infos(data, message, body):
        if found := _text(info, "stanzaId"):
            return found
    quoted = _dict(message, "quoted")
    return _text(quoted, "id") or _text(_dict(quoted, "key"), "id")


def _context_infos(
    data: Mapping[str, Any], message: Mapping[str, Any], body: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Yield the `contextInfo` objects of a message.

    2.4 writes `messageContextInfo` at the top and removes a text's own context (§10): it is then
    beside the content, or inside an object that is not parsed as content.
    """
    others = (value for value in message.values() if isinstance(value, Mapping))
    for holder in (data, message, body, _dict(data, "contextInfo"), *others):
        if info := _dict(holder, "contextInfo"):
            yield info


def _context(
    data: Mapping[str, Any], message: Mapping[str, Any], body: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what stands beside the content: the quoted text, forwarded marks, the ad."""
    found: dict[str, Any] = {}
    for info in _context_infos(data, message, body):
        quoted = contents.unwrap(_dict(info, "quotedMessage"))
        if _text(info, "stanzaId") and "quoted" not in found:
            name = contents.name_of(quoted, "")
            content = contents.read(quoted, name, {}) if name else None
            found["quoted"] = quote(
                _text(info, "stanzaId"),
                content,
                is_status=_text(info, "remoteJid") == "status@broadcast",
            )
        if info.get("isForwarded") is True and "forwarded" not in found:
            score = info.get("forwardingScore")
            found["forwarded"] = "often" if type(score) is int and score > 4 else "once"
        ad = _dict(info, "externalAdReply")
        if ad.get("sourceUrl") or ad.get("ctwaClid") or ad.get("sourceId"):
            names = {
                "source_type": "sourceType", "source_id": "sourceId", "source_url": "sourceUrl",
                "headline": "title", "body": "body", "image_url": "mediaUrl",
                "thumbnail_url": "thumbnailUrl", "ctwa_clid": "ctwaClid",
            }  # fmt: skip
            referral = {name: _text(ad, theirs)[:2000] for name, theirs in names.items()}
            found.setdefault("referral", {n: text for n, text in referral.items() if text})
    return found


# -- Statuses, edits and deletions ---------------------------------------------------------------


def _update(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    # Baileys' own form has the change in `update`, beside the key.
    update = _dict(data, "update")
    party = _party(_dict(data, "key") or data)
    id_ = _text(data, "keyId") or _text(_dict(data, "key"), "id")
    status = _status_word(data.get("status", update.get("status")))
    receipt = _RECEIPTS.get(status)
    message = _dict(data, "message") or _dict(update, "message")
    votes = list(_votes(channel, id_, data.get("pollUpdates") or update.get("pollUpdates")))
    if party.ignored:
        yield UnsupportedEvent(channel, party.ignored)
    elif id_ and votes:
        yield from votes
    elif id_ and message.get("editedMessage"):
        # The status is not real: 2.3.7 sends SERVER_ACK for an update that has none.
        yield _edit(channel, id_, message, at=None)
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


def _status_word(status: Any) -> str:
    """Return a status' name; some versions send Baileys' number of it."""
    if type(status) is int and 0 <= status < len(_STATUS_NUMBERS):
        return _STATUS_NUMBERS[status]
    return status if isinstance(status, str) else ""


def _votes(channel: str, id_: str, results: Any) -> Iterator[Event]:
    """Yield the votes in the results of a poll: for each option, who has chosen it."""
    chosen: dict[str, list[str]] = {}
    for result in _dicts({"results": results}, "results"):
        voters = result.get("voters")
        for voter in voters if isinstance(voters, list) else []:
            party = _address(voter) if isinstance(voter, str) else _Party()
            by = party.phone_number or party.user_id
            if (by or voter == "me") and _is_option(result.get("name")):
                chosen.setdefault(by or US, []).append(str(result["name"]))
    for by, options in chosen.items():
        yield VoteEvent(channel, id_, by, tuple(options))


def _edited(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    yield _protocol(channel, data)


def _protocol(channel: str, data: Mapping[str, Any], *, by: str = "") -> Event:
    """Parse a protocol message: an edit, a deletion for everyone, or an internal one.

    `by` is its sender, if that is known.
    """
    key = _dict(data, "key")
    party, id_, type_ = _party(key), _text(key, "id"), data.get("type")
    at = from_seconds(data.get("timestampMs"), per_second=1000)
    if party.ignored:
        return UnsupportedEvent(channel, party.ignored)
    if id_ and type_ in _EDIT:
        return _edit(channel, id_, _dict(data, "editedMessage"), at=at, by=by)
    if id_ and type_ in _REVOKE and type_ is not False:
        return RevokeEvent(channel, id_, at, by)
    return UnsupportedEvent(channel, f"protocol:{str(type_)[:60]}")


def _edit(
    channel: str, id_: str, message: Mapping[str, Any], *, at: dt.datetime | None, by: str = ""
) -> Event:
    message = contents.unwrap(message)
    inner = _dict(message, "protocolMessage")
    if inner:
        message = contents.unwrap(_dict(inner, "editedMessage"))
        at = from_seconds(inner.get("timestampMs"), per_second=1000) or at
    name = contents.name_of(message, "")
    parsed = contents.read(message, name, {})
    if parsed is None or (parsed.type == "unknown" and not parsed.text):
        return UnsupportedEvent(channel, f"edit:{name[:60]}")
    return EditEvent(channel, id_, parsed.text, at, by)


def _deleted(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    """Parse a key (from WhatsApp) or a whole row (from the API), whose `id` is the row's ID."""
    key = _dict(data, "key") or data
    party, id_ = _party(key), _text(key, "id")
    if party.ignored:
        yield UnsupportedEvent(channel, party.ignored)
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


def _saved_contact(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    """Parse an element of a sync: its name is that in the phone's address book (§3)."""
    for event in _contact(channel, data):
        yield replace(event, saved=True) if isinstance(event, ContactEvent) else event


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
    picture = _text(data, "profilePicUrl")[:2000]
    if (party.phone_number or party.user_id) and (name or picture):
        yield ContactEvent(
            channel, party.phone_number, name, user_id=party.user_id, picture=picture
        )


def _group(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    party, name = _address(_text(data, "id")), _text(data, "subject").strip()
    if party.other == GROUP and party.user_id and name:
        yield GroupEvent(channel, party.user_id, name)
    else:
        yield UnsupportedEvent(channel, "event:groups")


def _call(channel: str, data: Mapping[str, Any]) -> Iterator[Event]:
    call_id, status = _text(data, "id"), _text(data, "status")
    chat = _address(_text(data, "chatId"))
    caller = _joined(_address(_text(data, name)) for name in ("from", "chatId", "callerPn"))
    if data.get("isGroup") is True or chat.other == GROUP:
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
    "groups.upsert": _group,
    "groups.update": _group,
    "group.update": _group,
    "call": _call,
}


# Lists of contacts come from a sync; a single one comes with a message and has the profile's name.
_SYNCED = ("contacts.set", "contacts.upsert", "contacts.update")


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
        is_group = server == "g.us" and re.fullmatch(r"[0-9-]{1,60}", user)
        return _Party(user_id=jid if is_group else "", other=_NOT_PERSONS[server])
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


def _utc_time(value: str) -> dt.datetime | None:
    """Parse a true UTC time, written by JavaScript."""
    try:
        at = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo else None


def _code(value: Any) -> str:
    return str(value) if type(value) is int or isinstance(value, str) else ""


def _text(parent: Mapping[str, Any], name: str) -> str:
    found = parent.get(name)
    return found if isinstance(found, str) else ""


def _dict(parent: Any, name: str) -> Mapping[str, Any]:
    found = parent.get(name) if isinstance(parent, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _dicts(parent: Any, name: str) -> list[Mapping[str, Any]]:
    found = parent.get(name) if isinstance(parent, Mapping) else None
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
