"""Sends through an attached wwebjs-api session (docs/providers/wwebjs.md).

The central rule is §0 of that page: a JSON 404 proves that nothing was sent; a 500 or no response
proves nothing. A number is looked up before the first send to it, and the result is cached. The
look-up cannot send, so its failure is never an unknown outcome.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from channels_app.providers import addresses, files
from channels_app.providers.base import (
    Accepted,
    ConnectionReport,
    LookupFailed,
    NumberCache,
    OutboundFile,
    OutboundMessage,
    Quote,
    Rejected,
    SendError,
    SentMessage,
    Transient,
    Unknown,
)
from channels_app.providers.error_codes import failure
from channels_app.providers.recipients import digits_of
from channels_app.providers.sessions import State
from channels_app.providers.wwebjs import states
from channels_app.providers.wwebjs.ids import short_id
from core import http_client, phone_numbers, sizes
from core.text import safe_id

if TYPE_CHECKING:
    from channels_app.providers.wwebjs.settings import WwebjsSettings

LOOKUP_SECONDS = 10.0
DOWNLOAD_SECONDS = 60.0
CHECK_SECONDS = 5.0
# sendSeen would mark the customer's chat as read; linkPreview fetches the link before sending.
SEND_OPTIONS: Mapping[str, Any] = {"sendSeen": False, "linkPreview": False}

# WhatsApp Web's names of the types that we name differently.
_TYPES = {"chat": "text", "ptt": "audio"}
FILE_TYPES = ("image", "video", "audio", "document", "sticker")
_QUOTE_MISSING = "could not get the quoted message."
_TARGET_MISSING = "message not found"
# These errors invalidate the cached form of a number.
_WRONG_FORM = ("not_on_whatsapp", "invalid_recipient")
# Our codes for the results of a session check (§0, second row). Any other text proves as much.
_SESSION_ERRORS = {
    "session_not_found": "session_not_found",
    "session_not_connected": "session_not_connected",
    "browser tab closed": "session_closed",
    "session closed": "session_closed",
}


def _null_read(name: str) -> str:
    """Return the pattern for reading a property of null, in any Chromium's wording."""
    null = "(?:undefined|null)"
    return rf"cannot read propert(?:ies of {null} \(reading '{name}'\)|y '{name}' of {null})"


# The texts of a 500 that is raised before the send in the server's source (§0, fifth row), in lower
# case and without the prefixes. Those of a failed download cannot occur: we send files inline,
# never as a link.
_BEFORE_THE_SEND: tuple[tuple[re.Pattern[str], type[SendError], str], ...] = tuple(
    (re.compile(pattern), kind, code)
    for pattern, kind, code in (
        (r"no lid for user", Rejected, "not_on_whatsapp"),
        (r"wid error: invalid wid", Rejected, "invalid_recipient"),
        (_null_read("endswith"), Rejected, "refused_request"),
        (_null_read("getchat"), Transient, "session_not_ready"),
        # The page has no message with this ID (`ignoreQuoteErrors: false`; a reaction's target).
        (re.escape(_QUOTE_MISSING), Rejected, "target_unknown"),
        (re.escape(_TARGET_MISSING), Rejected, "target_unknown"),
        # A file that is not base64; each browser ends the sentence differently.
        (r"failed to execute 'atob' on 'window'.*", Rejected, "refused_request"),
    )
)
# The prefixes that puppeteer and JavaScript add to an error's own text, any number of times (§7.9).
# A minified name like `r` is no prefix: it does not identify what failed.
_PREFIX = re.compile(
    r"(?:evaluation failed|uncaught(?: \(in promise\))?|protocol error \([\w.]+\)|[a-z]*error):\s+"
    r"|uncaught(?: \(in promise\))? ",
    re.IGNORECASE,
)
# WhatsApp's error for too many queries. A look-up that gets it has sent nothing; a send may have.
_RATE_LIMITED = "rate-overlimit"
# The short ID of a message; with any other character the server could misread the whole ID.
_KEY_ID = re.compile(r"(?!wamid\.)[0-9A-Za-z.-]{4,128}")


class WwebjsProvider:
    """Sends by the wwebjs-api session of an official channel."""

    def __init__(self, settings: WwebjsSettings, *, timeout: float, numbers: NumberCache) -> None:
        self._numbers = numbers
        self._base = settings.url
        self._key = settings.api_key
        self._session = settings.session_id
        self._timeout = timeout

    def send(self, message: OutboundMessage) -> Accepted:
        """Look up the number if it is not cached, then send.

        Raises Rejected, Transient or Unknown.
        The look-up and the send have `request_timeout_seconds` each: a slow look-up must not
        shorten the send, whose timeout would leave the outcome unknown.
        """
        if not (self._base and self._session):
            raise failure(Rejected, "not_configured")
        # A LID is a chat id already; the look-up of numbers fails for it (§3).
        chat_id = message.to if addresses.is_lid(message.to) else ""
        digits = "" if chat_id else digits_of(message.to)
        timeout = self._timeout
        size: int | None = None
        if message.type in FILE_TYPES:
            file = files.file_of(message)
            payload = file_body(message, file, files.read_base64(file))
            timeout += files.seconds_for(file)
            size = file.size
        elif message.type == "reaction":
            payload = reaction_body(message)
        else:
            payload = request_body(message)
        send = self._react if message.type == "reaction" else self._send_quoting
        deliver = partial(send, payload, message.quote, timeout=timeout, size=size)
        return deliver(chat_id) if chat_id else self._send(digits, deliver, message.quote)

    def _send(self, digits: str, deliver: Callable[..., Accepted], quote: Quote | None) -> Accepted:
        """Send to the cached form of the number, else to the form returned by a look-up."""

        def send_to(chat_id: str) -> Accepted:
            return deliver(chat_id, lid=self._numbers.lid_of(digits) if quote is not None else "")

        cached = self._numbers.lookup(digits)
        if cached is not None:
            try:
                accepted = send_to(cached)
                self._numbers.note_lid(digits, accepted.lid)
                return accepted
            except Rejected as error:
                if error.code == "target_unknown":
                    raise
                self._numbers.forget(digits)
                # Certainly not sent: the number may have a different form now.
                if error.code not in _WRONG_FORM:
                    raise
            except Unknown:
                self._numbers.forget(digits)
                raise
        chat_id = self._chat_id(digits)
        accepted = send_to(chat_id)
        self._numbers.remember(digits, chat_id)
        self._numbers.note_lid(digits, accepted.lid)
        return accepted

    def _send_quoting(
        self,
        payload: Mapping[str, Any],
        quote: Quote | None,
        chat_id: str,
        *,
        timeout: float,
        size: int | None,
        lid: str = "",
    ) -> Accepted:
        """Send to a chat, quoting the message in the first chat in which the page has it.

        A reply whose message the page does not have is sent without a quote. `size` is the size of
        the file in the payload.
        """

        def send(body: Mapping[str, Any]) -> Accepted:
            request = {"chatId": chat_id, **body}
            return files.with_size(partial(self._send_to, chat_id, request, timeout), size)

        for quoted in quoted_ids(quote, chat_id=chat_id, lid=lid):
            # By default the server ignores an ID that it does not know, and says nothing.
            options = {"quotedMessageId": quoted, "ignoreQuoteErrors": False}
            try:
                return send({**payload, "options": {**payload["options"], **options}})
            except Rejected as error:
                if error.code != "target_unknown":
                    raise
        accepted = send(payload)
        return replace(accepted, unquoted=True) if quote is not None else accepted

    def _react(
        self,
        payload: Mapping[str, Any],
        quote: Quote | None,
        chat_id: str,
        *,
        timeout: float,
        size: int | None,
        lid: str = "",
    ) -> Accepted:
        """React to a message in the first chat in which the page has it (§3)."""
        for chat in _chats(quote, chat_id=chat_id, lid=lid):
            try:
                return self._send_to(
                    chat_id, {"chatId": chat, **payload}, timeout, "/message/react/{session}"
                )
            except Rejected as error:
                if error.code != "target_unknown":
                    raise
        raise failure(Rejected, "target_unknown")

    def _send_to(
        self,
        chat_id: str,
        body: Mapping[str, Any],
        timeout: float,
        path: str = "/client/sendMessage/{session}",
    ) -> Accepted:
        try:
            answer = self._request("POST", path, json=body, timeout=timeout)
        except http_client.RequestNotSent as error:
            raise _not_sent(error) from None
        except http_client.ResponseLost as error:
            raise failure(Unknown, error.reason, error.detail) from None
        return read_answer(answer, chat_id, secrets=(self._key,))

    def _chat_id(self, digits: str) -> str:
        """Return WhatsApp's chat ID of the number. Raises Rejected or Transient."""
        try:
            return self._look_up(digits)
        except http_client.RequestNotSent as error:
            raise _not_sent(error) from None
        except http_client.ResponseLost as error:
            raise failure(Transient, "lookup_failed", error.detail or error.reason) from None

    def _look_up(self, digits: str) -> str:
        """Return WhatsApp's chat ID of the number, trying the spellings of its country (§3).

        Raises Rejected, Transient or http_client.RequestFailed.
        """
        deadline = time.monotonic() + min(self._timeout, LOOKUP_SECONDS)
        for spelling in phone_numbers.spellings(f"+{digits}"):
            number = spelling.removeprefix("+")
            # A second look-up with almost no time left would only look like a broken server.
            seconds = max(deadline - time.monotonic(), 1.0)
            answer = self._request(
                "POST", "/client/getNumberId/{session}", json={"number": number}, timeout=seconds
            )
            chat_id = read_number_id(answer, secrets=(self._key,))
            if chat_id is not None:
                return chat_id
        raise failure(Rejected, "not_on_whatsapp")

    def sent_messages(self, to: str, *, since: dt.datetime) -> list[SentMessage]:
        """Return the messages to this number that WhatsApp accepted since then, oldest first.

        Raises LookupFailed on builds that cannot list a chat and on any other error. An error
        response may concern only this chat (docs/providers/wwebjs.md §3).
        """
        try:
            return self._sent_messages(to, since)
        except SendError as error:
            raise LookupFailed(error.code, answered=True) from None
        except http_client.RequestFailed as error:
            raise LookupFailed(error.reason, answered=False) from None

    def _sent_messages(self, to: str, since: dt.datetime) -> list[SentMessage]:
        chat_id = to if addresses.is_lid(to) else self._look_up(re.sub(r"\D", "", to))
        options = {"fromMe": True, "since": int(since.timestamp()), "limit": 50}
        answer = self._request(
            "POST",
            "/chat/fetchMessages/{session}",
            json={"chatId": chat_id, "searchOptions": options},
            timeout=self._timeout,
        )
        body = answer.json_object()
        messages = body.get("messages") if body is not None else None
        if answer.status != 200 or not isinstance(messages, list):
            raise _read_refusal(answer, body, secrets=(self._key,))
        return [
            _sent(message, id_)
            for message in messages
            if isinstance(message, Mapping)
            and message.get("fromMe") is True
            and isinstance(message.get("timestamp"), int | float)
            and message["timestamp"] >= int(since.timestamp())
            and isinstance(message.get("ack"), int)
            and message["ack"] >= 1
            and (id_ := short_id(message.get("id"))) is not None
        ]

    def mark_read(self, to: str, ids: Sequence[str], *, typing: bool) -> None:
        """Mark the chat as read; show that we are typing for 25 seconds (§3).

        Raises Rejected, Transient or Unknown.
        """
        digits = digits_of(to) if not addresses.is_lid(to) else ""
        chat_id = (self._numbers.lookup(digits) or self._chat_id(digits)) if digits else to
        self._send_to(chat_id, {"chatId": chat_id}, self._timeout, "/client/sendSeen/{session}")
        if typing:
            path = "/chat/sendStateTyping/{session}"
            self._send_to(chat_id, {"chatId": chat_id}, self._timeout, path)

    def check(self) -> ConnectionReport:
        """Check key, session and readiness, in that order. Never raises.

        `details["state"]` is one of the states of a session in the REST contract.
        """
        if not (self._base and self._session):
            return _report("not_configured", "not_configured")
        try:
            return self._check()
        except http_client.RequestFailed as error:
            return _report("error", error.reason, error=error.detail)
        except SendError as error:
            return _report("error", error.code, error=error.detail)

    def _check(self) -> ConnectionReport:
        sessions = self._read("/session/getSessions").get("result")
        if not isinstance(sessions, list):
            raise failure(Rejected, "wrong_address")
        if self._session not in sessions:
            # The list does not contain a session that is still starting, either.
            return _report("disconnected", "not_started")
        status = self._read("/session/status/{session}")
        if status.get("success") is not True:
            return _waiting_report(status, secrets=(self._key,))
        info = self._read("/client/getClassInfo/{session}").get("sessionInfo")
        # Connected is not ready: sends fail until this key is present (§2).
        if not isinstance(info, Mapping):
            return _report("connected", "syncing")
        wid = info.get("wid")
        number = http_client.safe_text(
            wid.get("user") if isinstance(wid, Mapping) else "", limit=30
        )
        name = http_client.safe_text(info.get("pushname"), limit=100)
        who = " · ".join(part for part in (number and f"+{number}", name) if part)
        return _report("ready", "ready_as", who, ok=True, number=number, name=name)

    def _read(self, path: str) -> dict[str, Any]:
        """Return the JSON of a read-only call. Raises SendError or http_client.RequestFailed."""
        answer = self._request("GET", path, timeout=min(self._timeout, CHECK_SECONDS))
        body = answer.json_object()
        if body is None or answer.status >= 300:
            error = _read_refusal(answer, body, secrets=(self._key,))
            if isinstance(error, Unknown) and body is None and answer.status < 300:
                raise failure(Rejected, "wrong_address", http_status=answer.status)
            raise error
        return body

    def download(self, reference: Mapping[str, str], *, most_bytes: int) -> bytes:
        """Return the file of a message (§4). Raises Rejected (too large) or Transient."""
        try:
            answer = self._request(
                "POST",
                "/message/downloadMedia/{session}",
                json={name: reference[name] for name in ("chatId", "messageId")},
                timeout=DOWNLOAD_SECONDS,
                # Base64 encodes three bytes as four; the rest is for the surrounding JSON.
                max_bytes=most_bytes * 4 // 3 + 64 * 1024,
            )
        except http_client.RequestFailed as error:
            raise failure(Transient, error.reason, error.detail) from None
        if answer.truncated:
            raise failure(Rejected, "too_large", sizes.detail(answer.length, most_bytes))
        body = answer.json_object() or {}
        media = body.get("messageMedia")
        encoded = media.get("data") if isinstance(media, Mapping) else None
        if answer.status != 200 or body.get("success") is not True or not isinstance(encoded, str):
            # The browser may load the chat, or WhatsApp the file, later.
            raise failure(Transient, "download_failed", str(body.get("error") or "")[:200])
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise failure(Transient, "unreadable_answer") from None

    def _request(self, method: str, path: str, **options: Any) -> http_client.Answer:
        return http_client.request(
            method,
            self._base,
            path,
            params={"session": self._session},
            headers={"x-api-key": self._key} if self._key else None,
            **options,
        )


def request_body(message: OutboundMessage) -> dict[str, Any]:
    """Return the JSON of a send without its `chatId` (docs/providers/wwebjs.md §3). Pure.

    It supports text, a location and a single contact card; raises Rejected for anything else.
    """
    options = dict(SEND_OPTIONS)
    content: Any = message.content
    if message.type == "text":
        if not message.text:
            raise failure(Rejected, "invalid_content")
        # By default the page sends a text that begins like a contact card as one (§3).
        options["parseVCards"] = False
        if isinstance(content, Mapping) and content.get("preview_url") is True:
            # The page fetches the link before it sends.
            options["linkPreview"] = True
        return {"contentType": "string", "content": message.text, "options": options}
    if message.type == "location" and isinstance(content, Mapping):
        place = {key: content[key] for key in ("latitude", "longitude") if key in content}
        if len(place) == 2:
            # A string, as the server's documentation specifies, is silently dropped.
            described = {key: content[key] for key in ("name", "address") if content.get(key)}
            body = {**place, "description": described} if described else place
            return {"contentType": "Location", "content": body, "options": options}
    if message.type == "contacts" and (card := _vcard(content)):
        # A contact by its number would have the name that our phone has for it, or none.
        return {"contentType": "string", "content": card, "options": options}
    raise failure(Rejected, "unsupported_type", message.type)


def file_body(message: OutboundMessage, file: OutboundFile, data: str) -> dict[str, Any]:
    """Return the JSON that sends a file; `data` is its base64 (§3, capture 341). Pure."""
    options = dict(SEND_OPTIONS)
    content = message.content if isinstance(message.content, Mapping) else {}
    if content.get("caption"):
        options["caption"] = content["caption"]
    if message.type == "document":
        options["sendMediaAsDocument"] = True
    elif message.type == "sticker":
        options["sendMediaAsSticker"] = True
    elif message.type == "audio" and content.get("voice") is True:
        options["sendAudioAsVoice"] = True
    media = {
        "mimetype": file.mime_type,
        "data": data,
        "filename": file.filename,
        "filesize": file.size,
    }
    return {"contentType": "MessageMedia", "content": media, "options": options}


def reaction_body(message: OutboundMessage) -> dict[str, Any]:
    """Return the JSON of a reaction without its `chatId`; "" removes it (§3). Pure.

    Raises Rejected if the session does not have the message.
    """
    emoji = message.content.get("emoji") if isinstance(message.content, Mapping) else None
    if not isinstance(emoji, str):
        raise failure(Rejected, "invalid_content")
    if message.quote is None or not _KEY_ID.fullmatch(message.quote.id):
        raise failure(Rejected, "target_unknown")
    return {"messageId": message.quote.id, "reaction": emoji}


def quoted_ids(quote: Quote | None, *, chat_id: str, lid: str = "") -> list[str]:
    """Return the serialized ids under which the page may have a quoted message (§7.6). Pure.

    WhatsApp Web identifies a message by its chat, which is not always known.
    """
    if quote is None or not _KEY_ID.fullmatch(quote.id):
        return []
    side = "true" if quote.from_us else "false"
    return [f"{side}_{chat}_{quote.id}" for chat in _chats(quote, chat_id=chat_id, lid=lid)]


def _chats(quote: Quote | None, *, chat_id: str, lid: str) -> list[str]:
    """Return the chats that may contain a message: the most certain one first.

    The chat that was reported with it, if there is one; else the person's `@lid`, which newer
    accounts use for their chats, and the chat that we send to.
    """
    reported = quote.chat if quote is not None else ""
    return list(dict.fromkeys(filter(None, (reported, lid, chat_id))))


def expresses(type_: str, content: Any) -> bool:
    """Return whether the server can send this object: a single contact with a name and numbers."""
    return type_ != "contacts" or _vcard(content) is not None


def _vcard(content: Any) -> str | None:
    """Return the card of one contact with one or more numbers; None for anything else (§3)."""
    contacts = content.get("contacts") if isinstance(content, Mapping) else content
    if not isinstance(contacts, list | tuple) or len(contacts) != 1:
        return None
    [contact] = contacts
    if not isinstance(contact, Mapping):
        return None
    phones = contact.get("phones")
    if not isinstance(phones, list) or not phones:
        return None
    if any(contact[name] for name in contact if name not in ("name", "phones")):
        return None
    numbers = []
    for phone in phones:
        given = phone if isinstance(phone, Mapping) else {}
        wa_id = re.sub(r"\D", "", str(given.get("wa_id") or given.get("phone") or ""))
        if not wa_id:
            return None
        numbers.append((wa_id, _line(given.get("phone")) or f"+{wa_id}"))
    named = contact.get("name")
    name = _line(named.get("formatted_name") if isinstance(named, Mapping) else named)
    name = re.sub(r"([\\,;])", r"\\\1", name or numbers[0][1])
    lines = ["BEGIN:VCARD", "VERSION:3.0", f"N:;{name};;;", f"FN:{name}"]
    lines += [f"TEL;type=CELL;waid={wa_id}:{shown}" for wa_id, shown in numbers]
    return "\n".join([*lines, "END:VCARD"])


def _line(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def read_number_id(answer: http_client.Answer, *, secrets: tuple[str, ...] = ()) -> str | None:
    """Return the chat ID from a look-up, or None for a number that is not on WhatsApp. Pure.

    Raises Rejected or Transient: in every case nothing was sent yet.
    """
    body = answer.json_object()
    if answer.status == 200 and body is not None and body.get("success") is True:
        result = body.get("result")
        if result is None and "result" in body:
            return None
        chat_id = _chat_id_of(result)
        if chat_id is not None:
            return chat_id
        raise failure(Transient, "lookup_failed", http_status=200)
    if answer.status < 300 and body is None:
        raise failure(Rejected, "wrong_address", http_status=answer.status)
    error = _read_refusal(answer, body, secrets=secrets)
    if isinstance(error, Unknown):
        limited = _error_text(error.detail).startswith(_RATE_LIMITED)
        code = "rate_overlimit" if limited else "lookup_failed"
        raise failure(Transient, code, error.detail, http_status=answer.status)
    raise error


def read_answer(
    answer: http_client.Answer, chat_id: str, *, secrets: tuple[str, ...] = ()
) -> Accepted:
    """Interpret the response to a send. Pure. Raises Rejected, Transient or Unknown.

    The ID is the short one (`3EB0…`): acks contain it, the server's look-ups need it, and a
    coexistence echo has it inside its wamid (docs/providers/cloud.md §4.4). It is None if the
    server returns none. That is its normal response on current WhatsApp Web and counts as accepted
    because the number was looked up, now or recently (`number_cache.GOOD_FOR`).
    """
    body = answer.json_object()
    if answer.status == 200 and body is not None and body.get("success") is True:
        message = body.get("message")
        if not isinstance(message, Mapping):
            return Accepted(None, chat_id)
        ack, message_id = message.get("ack"), short_id(message.get("id"))
        if ack == -1:
            raise failure(Rejected, "ack_error", http_status=200)
        if ack == 0 and not isinstance(ack, bool):
            # It is queued in the browser: WhatsApp's server may still accept it (§0).
            queued = failure(Unknown, "only_queued", http_status=200)
            queued.provider_message_id = message_id
            raise queued
        return Accepted(message_id, chat_id, lid=_other_lid(message, chat_id))
    raise _read_refusal(answer, body, secrets=secrets)


def _sent(message: Mapping[str, Any], id_: str) -> SentMessage:
    data = message.get("_data")
    name = data.get("filename") if isinstance(data, Mapping) else None
    type_, body = message.get("type"), message.get("body")
    return SentMessage(
        id=id_,
        type=_TYPES.get(type_, type_) if isinstance(type_, str) else "",
        text=body if isinstance(body, str) else "",
        filename=name if isinstance(name, str) else "",
    )


def _other_lid(message: Mapping[str, Any], chat_id: str) -> str:
    """Return the `@lid` in the response for the chat that we sent to, or "" (§7.5)."""
    id_ = message.get("id")
    chat = id_.get("remote") if isinstance(id_, Mapping) else None
    chat = chat if isinstance(chat, str) else message.get("to")
    return chat if isinstance(chat, str) and chat != chat_id and addresses.is_lid(chat) else ""


def _chat_id_of(result: object) -> str | None:
    if not isinstance(result, Mapping):
        return None
    serialized = safe_id(result.get("_serialized")) or safe_id(result.get("$1"))
    if serialized is not None:
        return serialized
    user, server = (
        safe_id(result.get("user")),
        safe_id(result.get("server")),
    )
    return f"{user}@{server}" if user and server else None


def _error_text(text: str) -> str:
    """Return an error's own text in lower case, without the prefixes of other layers."""
    while match := _PREFIX.match(text):
        text = text[match.end() :]
    return text.strip().lower()


def _before_the_send(first_line: str) -> tuple[type[SendError], str] | None:
    """Return the outcome of a 500 that was raised before the send in the server's source (§0)."""
    text = _error_text(first_line)
    for pattern, kind, code in _BEFORE_THE_SEND:
        if pattern.fullmatch(text):
            return kind, code
    return None


def _read_refusal(
    answer: http_client.Answer, body: Mapping[str, Any] | None, *, secrets: tuple[str, ...]
) -> SendError:
    """Interpret an unsuccessful response to a send (§0)."""
    status = answer.status
    # Stack lines of the page may follow the first line.
    text = body.get("error") if body is not None else None
    first_line = text.split("\n", 1)[0].strip() if isinstance(text, str) else ""
    detail = http_client.safe_text(first_line, secrets=secrets)

    def error(kind: type[SendError], code: str) -> SendError:
        return failure(kind, code, detail, http_status=status)

    if status >= 500:
        if body is None:
            return failure(Unknown, "server_error", f"HTTP {status}", http_status=status)
        before = _before_the_send(first_line) if status == 500 else None
        if before is not None:
            return error(*before)
        return error(Unknown, "server_error")
    if status == 404:
        if body is None or body.get("success") is not False:
            return error(Rejected, "wrong_address")
        text = _error_text(first_line)
        if text.startswith(_RATE_LIMITED):
            return error(Transient, "rate_overlimit")
        return error(Transient, _SESSION_ERRORS.get(text, "session_check_failed"))
    if status == 403:
        return error(Rejected, "wrong_key" if body is not None else "http_403")
    if status == 422:
        return error(Rejected, "invalid_session")
    if status == 413:
        return error(Rejected, "too_large")
    if status == 400:
        return error(Rejected, "refused_request")
    if status == 429:
        return error(Transient, "http_429")
    if status >= 300:
        return error(Rejected, f"http_{status}" if status >= 400 else "wrong_address")
    return error(Unknown, "unreadable_answer")


def _not_sent(error: http_client.RequestNotSent) -> SendError:
    kind = Rejected if error.reason == "invalid_address" else Transient
    return failure(kind, error.reason, error.detail)


def _waiting_report(status: Mapping[str, Any], *, secrets: tuple[str, ...]) -> ConnectionReport:
    message = http_client.safe_text(status.get("message"), secrets=secrets)
    socket = http_client.safe_text(status.get("state"), limit=40)
    derived = states.derive(states.Observation(socket=socket, message=message))
    if derived.state == State.ERROR:
        return _report(derived.state.value, derived.code, error=message)
    return _report(derived.state.value, derived.code)


def _report(
    state: str, code: str, text: str = "", *, ok: bool = False, **details: str
) -> ConnectionReport:
    return ConnectionReport(ok, code, text, {"state": state, **details})
