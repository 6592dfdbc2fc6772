"""Sends through a Baileys instance of Evolution API (docs/providers/evolution.md §0, §5).

The HTTP status alone proves little: 201 may contain an error, and 400 may follow a message that was
already sent, because the server turns every exception of its send routine into a 400, including
database errors after the send. Only errors raised before the send count as not sent.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from channels_app.providers import addresses, files
from channels_app.providers.base import (
    Accepted,
    ConnectionReport,
    LookupFailed,
    OutboundFile,
    OutboundMessage,
    Rejected,
    SendError,
    SentMessage,
    Transient,
    Unknown,
)
from channels_app.providers.error_codes import failure
from channels_app.providers.events import MessageEvent, Receipt, ReceiptEvent
from channels_app.providers.evolution import events
from channels_app.providers.evolution.errors import error_message
from channels_app.providers.evolution.receive_mode import (
    DOWNLOAD_SECONDS,
    EvolutionFailed,
    EvolutionInstance,
)
from channels_app.providers.recipients import digits_of
from core import http_client, phone_numbers, sizes
from core.text import safe_id

if TYPE_CHECKING:
    from channels_app.providers.evolution.settings import EvolutionSettings

CHECK_SECONDS = 5.0
# How long the customer sees that we are typing.
TYPING_MS = 5000
# Number of an instance's messages that one look-up reads.
PAGE_SIZE = 50
RESERVED_PREFIX = "3EB0"
# The server's schema rejects shorter numbers (such as service numbers) in a contact card.
MIN_CARD_NUMBER_LENGTH = 10
FILE_TYPES = ("image", "video", "audio", "document", "sticker")
OBJECT_TYPES = ("location", "contacts", "reaction")
# The routes sendText and sendMedia take an id of ours (§10.8).
_WITH_OWN_ID = ("text", "image", "video", "audio", "document")

# The instance was never connected: it has no socket to send with (§5).
_NO_SOCKET = re.compile(
    r"Cannot read properties of (undefined|null) \(reading '(onWhatsApp|sendMessage)'\)"
)
# Baileys raises this exact text when it refuses to write to a closed socket, and when it aborts the
# queries that precede the message. The message itself is written last, without waiting. The text
# therefore means "not sent", even during a send.
_CLOSED = re.compile(r"(Error: )?Connection Closed")
# `error.toString()`: an exception of the send routine, raised before or after the send.
_EXCEPTION = re.compile(r"\w*(Error|Exception)\b")


_ACCEPTED = {Receipt.SENT, Receipt.DELIVERED, Receipt.READ}


class EvolutionProvider:
    """Sends through the instance of a Baileys channel."""

    def __init__(self, settings: EvolutionSettings, *, timeout: float) -> None:
        self._base = settings.url
        self._key = settings.api_key
        self._instance = settings.instance_name
        self._timeout = timeout
        self._stored = EvolutionInstance(settings)

    def send(self, message: OutboundMessage) -> Accepted:
        """Send the message. Raises Rejected, Transient or Unknown."""
        if not (self._base and self._key and self._instance):
            raise failure(Rejected, "not_configured")
        path, timeout = "/message/sendText/{instance}", self._timeout
        size: int | None = None
        if message.type in FILE_TYPES:
            number = _number(message)
            file = files.file_of(message)
            path, body = file_request(message, number, file, files.read_base64(file))
            size = file.size
            timeout += files.seconds_for(file)
        elif message.type in OBJECT_TYPES:
            path, body = object_request(message)
        else:
            body = request_body(message)
        answer = self._ask(path, body, timeout)
        accepted = files.with_size(partial(read_answer, answer, secrets=(self._key,)), size)
        if not body.get("messageId"):
            return accepted
        # Older servers ignore it (§10): only the response proves that it was used.
        is_ours = accepted.provider_message_id == body["messageId"]
        return replace(accepted, took_our_id=is_ours)

    def mark_read(self, to: str, ids: Sequence[str], *, typing: bool) -> None:
        """Mark messages as read; show that we are typing for some seconds (§5).

        The server skips the messages of a LID and says nothing. Raises Rejected, Transient or
        Unknown.
        """
        chat = _chat(to)
        keys = [{"remoteJid": chat, "fromMe": False, "id": id_} for id_ in ids]
        self._post("/chat/markMessageAsRead/{instance}", {"readMessages": keys}, self._timeout)
        if typing:
            # The server answers only after the delay.
            presence = {"number": _number_of(to), "presence": "composing", "delay": TYPING_MS}
            timeout = self._timeout + TYPING_MS / 1000
            self._post("/chat/sendPresence/{instance}", presence, timeout)

    def _post(self, path: str, body: dict[str, Any], timeout: float) -> http_client.Answer:
        """Return a successful response. Raises Rejected, Transient or Unknown."""
        answer = self._ask(path, body, timeout)
        if not 200 <= answer.status < 300:
            raise _refusal(answer, answer.json_object(), secrets=(self._key,))
        return answer

    def _ask(self, path: str, body: dict[str, Any], timeout: float) -> http_client.Answer:
        try:
            return self._request("POST", path, json=body, timeout=timeout)
        except http_client.RequestNotSent as error:
            kind = Rejected if error.reason == "invalid_address" else Transient
            raise failure(kind, error.reason, error.detail) from None
        except http_client.ResponseLost as error:
            raise failure(Unknown, error.reason, error.detail) from None

    def check(self) -> ConnectionReport:
        """Request the instance's state, which verifies address, name and key. Never raises.

        `details["state"]` is Evolution's own: open, connecting or close. An open instance may still
        have a dead socket (§4).
        """
        if not (self._base and self._key and self._instance):
            return ConnectionReport(False, "not_configured")
        try:
            answer = self._request(
                "GET",
                "/instance/connectionState/{instance}",
                timeout=min(self._timeout, CHECK_SECONDS),
            )
        except http_client.RequestFailed as error:
            return ConnectionReport(False, error.reason, details={"error": error.detail})
        return _state_report(answer, secrets=(self._key,))

    def sent_messages(self, to: str, *, since: dt.datetime) -> list[SentMessage]:
        """Return the messages to this number that WhatsApp accepted since then, oldest first.

        Reads only the latest messages of the instance. Raises LookupFailed.
        """
        try:
            records = self._stored.messages(page=1, size=PAGE_SIZE)
        except EvolutionFailed as error:
            raise LookupFailed(error.reason, answered=error.answered) from None
        numbers = phone_numbers.spellings(to)
        sent = []
        for record in records:
            event = next(iter(events.read(events.as_event(self._instance, record))), None)
            if (
                isinstance(event, MessageEvent)
                and event.outgoing
                and (event.phone_number in numbers or event.user_id == to)
                and event.at is not None
                and event.at >= since
                and self._was_accepted(record)
            ):
                filename = str(event.content.get("filename") or "")
                id_ = event.provider_message_id
                sent.append(SentMessage(id_, event.type, event.text, filename))
        return sent[::-1]

    def find_sent(self, message_id: str) -> Receipt | None:
        """Return SENT if WhatsApp accepted the message, NONE if the instance only has it.

        None if it does not know the ID. Raises LookupFailed.
        """
        try:
            record = self._stored.message(message_id)
        except EvolutionFailed as error:
            raise LookupFailed(error.reason, answered=error.answered) from None
        if record is None:
            return None
        return Receipt.SENT if self._was_accepted(record) else Receipt.NONE

    def _was_accepted(self, record: dict[str, Any]) -> bool:
        receipts = {
            event.receipt
            for status in events.statuses_of(record, self._instance)
            for event in events.read(status)
            if isinstance(event, ReceiptEvent)
        }
        return bool(receipts & _ACCEPTED) and Receipt.FAILED not in receipts

    def download(self, reference: Mapping[str, Any], *, most_bytes: int) -> bytes:
        """Return the file of a message (§3). Raises Rejected (too large) or Transient."""
        reference = dict(reference)
        if (url := reference.pop("mediaUrl", "")) and (found := _stored_at(url, most_bytes)):
            return found
        try:
            return self._stored.media(reference, most_bytes=most_bytes)
        except EvolutionFailed as error:
            if error.code == "too_large":
                detail = sizes.detail(None, most_bytes)
                raise failure(Rejected, error.reason, detail) from None
            raise failure(Transient, error.reason, error.error_text) from None

    def _request(self, method: str, path: str, **options: Any) -> http_client.Answer:
        return http_client.request(
            method,
            self._base,
            path,
            params={"instance": self._instance},
            headers={"apikey": self._key},
            **options,
        )


def _stored_at(url: str, most_bytes: int) -> bytes:
    """Return the file that Evolution has stored itself; b"" if it is not there (any more)."""
    try:
        answer = http_client.request("GET", url, timeout=DOWNLOAD_SECONDS, max_bytes=most_bytes)
    except http_client.RequestFailed:
        return b""
    return b"" if answer.truncated or answer.status != 200 else answer.body


def request_body(message: OutboundMessage) -> dict[str, Any]:
    """Return the JSON of `sendText` (§5). Pure. Raises Rejected if it cannot be expressed."""
    number = _number(message)
    if message.type != "text":
        raise failure(Rejected, "unsupported_type", message.type)
    if not message.text:
        raise failure(Rejected, "invalid_content")
    return {
        "number": number,
        "text": message.text,
        "linkPreview": isinstance(message.content, Mapping)
        and message.content.get("preview_url") is True,
        **_own_id(message),
        **_quote(message),
    }


def object_request(message: OutboundMessage) -> tuple[str, dict[str, Any]]:
    """Return path and JSON that send a location, contacts or a reaction (§5). Pure.

    Raises Rejected for anything that these routes do not support.
    """
    if message.type == "reaction":
        return "/message/sendReaction/{instance}", _reaction(message)
    body: dict[str, Any] = {"number": _number(message), **_quote(message)}
    if message.type == "location":
        return "/message/sendLocation/{instance}", {**body, **_location(message.content)}
    return "/message/sendContact/{instance}", {**body, "contact": _cards(message.content)}


def _location(content: Any) -> dict[str, Any]:
    """Return a location in the format of sendLocation, which requires a name and an address.

    If they are missing, the coordinates are used, as a phone shows them.
    """
    location = content if isinstance(content, Mapping) else {}
    latitude, longitude = location.get("latitude"), location.get("longitude")
    if not _is_coordinate(latitude, 90) or not _is_coordinate(longitude, 180):
        raise failure(Rejected, "invalid_content")
    coordinates = f"{latitude:.6f}, {longitude:.6f}"
    name, address = _text(location.get("name")), _text(location.get("address"))
    return {
        "latitude": latitude,
        "longitude": longitude,
        "name": name or address or coordinates,
        "address": address or coordinates,
    }


def _reaction(message: OutboundMessage) -> dict[str, Any]:
    """Return a reaction in the format of sendReaction; an empty one removes it.

    Raises Rejected if the instance does not have the message.
    """
    emoji = message.content.get("emoji") if isinstance(message.content, Mapping) else None
    if not isinstance(emoji, str):
        raise failure(Rejected, "invalid_content")
    key = _key(message)
    if key is None:
        raise failure(Rejected, "target_unknown")
    if addresses.is_group(message.to) and not key["fromMe"]:
        # In a group a message is known by its author, too: the key is passed to WhatsApp as it is.
        author = message.quote.author if message.quote else ""
        if not author:
            raise failure(Rejected, "target_unknown")
        key["participant"] = _chat(author)
    return {"key": key, "reaction": emoji}


def _is_coordinate(value: Any, limit: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= limit


def _cards(content: Any) -> list[dict[str, Any]]:
    """Convert the Cloud API's contacts to the format of sendContact: one card per phone number.

    Evolution writes one number per card, requires a name and a number for each, and rejects
    duplicate cards. A contact without a number cannot be expressed: the whole message is rejected
    rather than sent in part.
    """
    contacts = content.get("contacts") if isinstance(content, Mapping) else content
    if not isinstance(contacts, list | tuple) or not contacts:
        raise failure(Rejected, "invalid_content")
    cards = [card for contact in contacts for card in _cards_of(contact)]
    if not all(cards):
        raise failure(Rejected, "unsupported_type", "contacts")
    return [card for index, card in enumerate(cards) if card not in cards[:index]]


def _cards_of(contact: Any) -> list[dict[str, Any]]:
    if not isinstance(contact, Mapping):
        return [{}]
    organization = contact.get("org")
    more = {
        "organization": _text(
            organization.get("company") if isinstance(organization, Mapping) else None
        ),
        "email": _first(contact.get("emails"), "email"),
        "url": _first(contact.get("urls"), "url"),
    }
    more = {name: value for name, value in more.items() if value}
    cards: list[dict[str, Any]] = []
    for phone in _objects(contact.get("phones")):
        written = _text(phone.get("phone")) or _text(phone.get("wa_id"))
        digits = re.sub(r"\D", "", _text(phone.get("wa_id")) or written)
        if len(written) >= MIN_CARD_NUMBER_LENGTH:
            name = _name(contact.get("name")) or written
            card = {"fullName": name, "phoneNumber": written, **more}
            has_wuid = len(digits) >= MIN_CARD_NUMBER_LENGTH
            cards.append({**card, "wuid": digits} if has_wuid else card)
    return cards or [{}]


def expresses(type_: str, content: Any) -> bool:
    """Return whether the server can send this object.

    Each contact needs a number, and may have only what sendContact writes on a card.
    """
    if type_ != "contacts":
        return True
    try:
        cards = _cards(content)
    except Rejected:
        return False
    contacts = content.get("contacts") if isinstance(content, Mapping) else content
    return bool(cards) and not any(map(_has_more, contacts or ()))


def _has_more(contact: Mapping[str, Any]) -> bool:
    """Return whether a contact has something that its cards lose."""
    organization = contact.get("org")
    org = organization if isinstance(organization, Mapping) else {}
    written = [
        _text(phone.get("phone")) or _text(phone.get("wa_id"))
        for phone in _objects(contact.get("phones"))
    ]
    return (
        any(contact.get(name) for name in ("addresses", "birthday", "ims"))
        or any(org.get(name) for name in ("department", "title"))
        or any(len(_objects(contact.get(name))) > 1 for name in ("emails", "urls"))
        or any(0 < len(number) < MIN_CARD_NUMBER_LENGTH for number in written)
    )


def _name(value: Any) -> str:
    if not isinstance(value, Mapping):
        return _text(value)
    parts = (_text(value.get(part)) for part in ("first_name", "middle_name", "last_name"))
    return _text(value.get("formatted_name")) or " ".join(filter(None, parts))


def _first(value: Any, name: str) -> str:
    return next(filter(None, (_text(item.get(name)) for item in _objects(value))), "")


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def file_request(
    message: OutboundMessage, number: str, file: OutboundFile, data: str
) -> tuple[str, dict[str, Any]]:
    """Return path and JSON that send a file; `data` is its bare base64 (§5). Pure."""
    content = message.content if isinstance(message.content, Mapping) else {}
    body: dict[str, Any] = {"number": number, **_quote(message)}
    if message.type == "sticker":
        return "/message/sendSticker/{instance}", {**body, **_own_id(message), "sticker": data}
    if message.type == "audio" and content.get("voice") is True:
        return "/message/sendWhatsAppAudio/{instance}", {**body, "audio": data}
    body |= {
        "mediatype": message.type,
        "mimetype": file.mime_type,
        "media": data,
        # Required for a document sent as base64.
        "fileName": file.filename,
        **_own_id(message),
    }
    if content.get("caption"):
        body["caption"] = content["caption"]
    return "/message/sendMedia/{instance}", body


def _number(message: OutboundMessage) -> str:
    return _number_of(message.to)


def _number_of(to: str) -> str:
    # A string: the schema rejects an integer. A LID and a group's address are taken as they are.
    return to if addresses.is_lid(to) or addresses.is_group(to) else digits_of(to)


def _chat(to: str) -> str:
    """Return the chat of an address."""
    number = _number_of(to)
    return number if "@" in number else f"{number}@s.whatsapp.net"


def reserve_id(type_: str, content: object) -> str:
    """Return a new ID for a message of this type, or "" if no version lets us choose one (§10).

    It has the format of Baileys' own IDs, from which other clients derive the sender's device.
    """
    is_voice = isinstance(content, Mapping) and content.get("voice") is True
    if type_ not in _WITH_OWN_ID or is_voice:
        return ""
    return RESERVED_PREFIX + secrets.token_hex(9).upper()


def _own_id(message: OutboundMessage) -> dict[str, str]:
    return {"messageId": message.message_id} if message.message_id else {}


def _quote(message: OutboundMessage) -> dict[str, Any]:
    if (key := _key(message)) is None:
        return {}
    # Without the content, a server that has not stored the message sends the reply without a quote
    # and says nothing (§5).
    text = message.quote.text if message.quote is not None else ""
    if addresses.is_group(message.to):
        # Only the server knows who wrote it.
        return {"quoted": {"key": {"id": key["id"]}}}
    return {"quoted": {"key": key, "message": {"conversation": text or "…"}}}


def _key(message: OutboundMessage) -> dict[str, Any] | None:
    """Return the key of the message that this one refers to; None if it has no key here.

    The instance knows WhatsApp's own IDs, never a wamid.
    """
    quote = message.quote
    if quote is None or quote.id.startswith("wamid."):
        return None
    return {"id": quote.id, "remoteJid": _chat(message.to), "fromMe": quote.from_us}


def read_answer(answer: http_client.Answer, *, secrets: tuple[str, ...] = ()) -> Accepted:
    """Interpret the response to a send. Pure. Raises Rejected, Transient or Unknown."""
    body = answer.json_object()
    status = answer.status
    if 200 <= status < 300:
        key = body.get("key") if body is not None else None
        if isinstance(key, Mapping) and (message_id := safe_id(key.get("id"))) is not None:
            alias = safe_id(key.get("remoteJidAlt")) or ""
            lid = alias if addresses.is_lid(alias) else ""
            return Accepted(message_id, safe_id(key.get("remoteJid")), lid=lid)
        code = body.get("code") if body is not None else None
        if isinstance(code, int) and not isinstance(code, bool):
            text = error_message(body, secrets=secrets)
            raise failure(Rejected, str(code)[:20], text, http_status=status)
        raise failure(Unknown, "unreadable_answer", http_status=status)
    raise _refusal(answer, body, secrets=secrets)


def _is_unknown_number(body: Mapping[str, Any] | None) -> bool:
    inner = body.get("response") if body is not None else None
    message = inner.get("message") if isinstance(inner, Mapping) else None
    first = message[0] if isinstance(message, list) and message else None
    return isinstance(first, Mapping) and first.get("exists") is False


def _refusal(
    answer: http_client.Answer, body: Mapping[str, Any] | None, *, secrets: tuple[str, ...]
) -> SendError:
    status = answer.status
    text = error_message(body, secrets=secrets)

    def error(kind: type[SendError], code: str) -> SendError:
        return failure(kind, code, text, http_status=status)

    if status in (400, 500):
        if _is_unknown_number(body):
            return error(Rejected, "not_on_whatsapp")
        if _NO_SOCKET.search(text) or _CLOSED.fullmatch(text):
            return error(Transient, "instance_not_connected")
    if status >= 500:
        if status == 503 and body is not None and body.get("code") == "LICENSE_REQUIRED":
            return error(Rejected, "license_required")
        return error(Unknown, "server_error")
    if status == 400:
        if body is None:
            return error(Rejected, "wrong_address")
        if not text or _EXCEPTION.match(text):
            return error(Unknown, "server_error")
        return error(Rejected, "refused_request")
    if status == 401:
        return error(Rejected, "wrong_key")
    if status == 404:
        return error(Rejected, "instance_missing" if _names_instance(text) else "wrong_address")
    if status == 413:
        return error(Rejected, "too_large")
    if status == 429:
        return error(Transient, "http_429")
    return error(Rejected, f"http_{status}" if status >= 400 else "wrong_address")


def _names_instance(text: str) -> bool:
    """Return False for an unknown route, a 404 of the same shape: `Cannot POST /message/…`."""
    return text.endswith("does not exist")


def _state_report(answer: http_client.Answer, *, secrets: tuple[str, ...]) -> ConnectionReport:
    body = answer.json_object()
    if answer.status >= 300:
        refusal = _refusal(answer, body, secrets=secrets)
        # Nothing was sent here: only the setting to correct matters.
        return ConnectionReport(False, refusal.code, details={"error": refusal.detail})
    instance = body.get("instance") if body is not None else None
    state = instance.get("state") if isinstance(instance, Mapping) else None
    if not isinstance(state, str):
        return ConnectionReport(False, "wrong_address")
    known = state in ("open", "connecting", "close")
    text = http_client.safe_text(state, secrets=secrets, limit=50)
    return ConnectionReport(
        state == "open",
        f"instance_{state}" if known else "instance_in_unknown_state",
        "" if known else text,
        {"state": text},
    )
