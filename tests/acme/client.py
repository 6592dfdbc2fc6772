"""Sends through Acme. The wire is described in `tests/acme/simulator.py`.

Acme checks a message before it accepts it, so every 4xx and a 503 with a code prove that nothing
was sent. Any other answer, or none, proves nothing.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

from channels_app.providers import files
from channels_app.providers.base import (
    Accepted,
    ConnectionReport,
    LookupFailed,
    OutboundMessage,
    Rejected,
    SendError,
    SentMessage,
    Transient,
    Unknown,
)
from channels_app.providers.error_codes import failure
from channels_app.providers.events import Receipt
from channels_app.providers.recipients import digits_of
from core import http_client
from core.text import safe_id
from tests.acme.credentials import AcmeCredentials

TYPES = frozenset({"text", "image", "location"})
CHECK_SECONDS = 5.0
# Acme's own codes of a 4xx or 503, each with the outcome and our code.
_CODES: Mapping[str, tuple[type[SendError], str]] = {
    "bad_key": (Rejected, "wrong_key"),
    "bad_content": (Rejected, "refused_request"),
    "no_account": (Rejected, "not_on_whatsapp"),
    "slow_down": (Transient, "http_429"),
    "not_linked": (Transient, "session_not_connected"),
}


class AcmeProvider:
    """Sends from one line."""

    def __init__(self, credentials: AcmeCredentials) -> None:
        self._credentials = credentials

    def send(self, message: OutboundMessage) -> Accepted:
        """Send the message. Raises Rejected, Transient or Unknown."""
        if not (self._credentials.url and self._credentials.key):
            raise failure(Rejected, "not_configured")
        body, timeout = request_body(message), self._credentials.timeout
        if message.type == "image":
            file = files.file_of(message)
            body["file"] = {"mime_type": file.mime_type, "data": files.read_base64(file)}
            timeout += files.seconds_for(file)
        try:
            answer = self._request("POST", "/messages", json=body, timeout=timeout)
        except http_client.RequestNotSent as error:
            kind = Rejected if error.reason == "invalid_address" else Transient
            raise failure(kind, error.reason, error.detail) from None
        except http_client.ResponseLost as error:
            raise failure(Unknown, error.reason, error.detail) from None
        return read_answer(answer, secrets=(self._credentials.key,))

    def check(self) -> ConnectionReport:
        """Ask for the state of the line. Never raises."""
        if not (self._credentials.url and self._credentials.key):
            return ConnectionReport(False, "not_configured")
        try:
            answer = self._request("GET", "/session", timeout=CHECK_SECONDS)
        except http_client.RequestFailed as error:
            return ConnectionReport(False, error.reason, details={"error": error.detail})
        body = answer.json_object() or {}
        if answer.status != 200:
            error = _refusal(answer, secrets=(self._credentials.key,))
            return ConnectionReport(False, error.code, error.detail)
        if body.get("state") not in ("off", "waiting", "linked"):
            return ConnectionReport(False, "wrong_address")
        if body["state"] != "linked":
            return ConnectionReport(False, "not_started")
        return ConnectionReport(True, "ready_as", f"+{safe_id(body.get('number')) or '?'}")

    def sent_messages(self, to: str, *, since: dt.datetime) -> list[SentMessage]:
        """Return the messages to this number that were accepted since then, oldest first.

        Raises LookupFailed.
        """
        query = {"to": _digits(to), "since": str(int(since.timestamp()))}
        listed = self._look_up("/messages", query=query).get("messages")
        if not isinstance(listed, list):
            raise LookupFailed("unreadable_answer", answered=True)
        return [
            SentMessage(id_, str(one.get("type")), str(one.get("text") or ""), "")
            for one in listed
            if isinstance(one, Mapping) and (id_ := safe_id(one.get("id"))) is not None
        ]

    def find_sent(self, message_id: str) -> Receipt | None:
        """Return SENT for a message that Acme has accepted, else None. Raises LookupFailed."""
        found = self._look_up("/messages", query={"id": message_id}).get("messages")
        return Receipt.SENT if found else None

    def _look_up(self, path: str, **options: Any) -> dict[str, Any]:
        try:
            answer = self._request("GET", path, timeout=CHECK_SECONDS, **options)
        except http_client.RequestFailed as error:
            raise LookupFailed(error.reason, answered=False) from None
        body = answer.json_object()
        if answer.status != 200 or body is None:
            raise LookupFailed(f"http_{answer.status}", answered=True)
        return body

    def _request(self, method: str, path: str, **options: Any) -> http_client.Answer:
        return http_client.request(
            method,
            self._credentials.url,
            "/{line}" + path,
            params={"line": self._credentials.line},
            headers={"X-Acme-Key": self._credentials.key},
            **options,
        )


def request_body(message: OutboundMessage) -> dict[str, Any]:
    """Return the JSON of a send, without a file. Pure. Raises Rejected."""
    digits = digits_of(message.to)
    if message.type not in TYPES:
        raise failure(Rejected, "unsupported_type", message.type)
    content = message.content if isinstance(message.content, Mapping) else {}
    body: dict[str, Any] = {"to": digits, "ref": message.reference, "type": message.type}
    if message.type == "text":
        if not message.text:
            raise failure(Rejected, "invalid_content")
        body["text"] = message.text
    elif message.type == "location":
        if not {"latitude", "longitude"} <= content.keys():
            raise failure(Rejected, "invalid_content")
        body["location"] = {name: content[name] for name in ("latitude", "longitude")}
    if message.quote is not None:
        body["quote"] = message.quote.id
    if message.message_id:
        body["id"] = message.message_id
    return body


def read_answer(answer: http_client.Answer, *, secrets: tuple[str, ...] = ()) -> Accepted:
    """Interpret the response to a send. Pure. Raises Rejected, Transient or Unknown."""
    body = answer.json_object()
    message_id = safe_id(body.get("id")) if body is not None else None
    if answer.status == 202 and body is not None and message_id is not None:
        own = body.get("own_id")
        return Accepted(message_id, took_our_id=own if isinstance(own, bool) else None)
    raise _refusal(answer, secrets=secrets)


def _refusal(answer: http_client.Answer, *, secrets: tuple[str, ...]) -> SendError:
    body, status = answer.json_object() or {}, answer.status
    code = body.get("error")
    detail = http_client.safe_text(body.get("detail"), secrets=secrets)
    if (400 <= status < 500 or status == 503) and isinstance(code, str) and code in _CODES:
        kind, ours = _CODES[code]
        return failure(kind, ours, detail, http_status=status)
    if status == 429:
        return failure(Transient, "http_429", detail, http_status=status)
    if status >= 500:
        return failure(Unknown, "server_error", detail, http_status=status)
    if status >= 300:
        code = f"http_{status}" if status >= 400 else "wrong_address"
        return failure(Rejected, code, detail, http_status=status)
    return failure(Unknown, "unreadable_answer", http_status=status)


def _digits(number: str) -> str:
    return re.sub(r"\D", "", number)
