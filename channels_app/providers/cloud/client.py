"""Sends through Meta's official WhatsApp Cloud API (docs/providers/cloud.md §1, §2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from channels_app.providers import addresses, error_codes, files, header_media
from channels_app.providers.base import (
    Accepted,
    ConnectionReport,
    OutboundFile,
    OutboundMessage,
    Rejected,
    SendError,
    Transient,
    Unknown,
)
from channels_app.providers.error_codes import failure
from channels_app.providers.message_keys import WAMID
from channels_app.providers.recipients import digits_of
from core import http_client, sizes
from core.text import is_blank, safe_id

if TYPE_CHECKING:
    from channels_app.providers.cloud.settings import CloudSettings

DEFAULT_GRAPH_URL = "https://graph.facebook.com"
DEFAULT_GRAPH_VERSION = "v25.0"

OBJECT_TYPES: Final = frozenset(
    {
        "image",
        "video",
        "audio",
        "document",
        "sticker",
        "location",
        "contacts",
        "reaction",
        "template",
        "interactive",
    }
)
FILE_TYPES: Final = frozenset({"image", "video", "audio", "document", "sticker"})
# Error codes of a request with an upload ID that is unknown to Meta or has expired.
UPLOAD_GONE: Final = frozenset({"100", "131009", "131053"})
CHECK_SECONDS = 10.0
DOWNLOAD_SECONDS = 120.0
_NUMBER_FIELDS = "display_phone_number,verified_name,quality_rating,is_on_biz_app,platform_type"


def longest_send(timeout: float, file_size: int = 0) -> float:
    """Return the maximum duration of `CloudProvider.send` in seconds.

    A file is uploaded first, and both requests are repeated if Meta has lost the upload.
    """
    return 2 * (2 * timeout + file_size / files.BYTES_PER_SECOND) if file_size else timeout


class CloudProvider:
    """Sends from the number of an official channel."""

    def __init__(self, settings: CloudSettings, *, timeout: float) -> None:
        self._base = settings.graph_url or DEFAULT_GRAPH_URL
        self._version = settings.graph_version or DEFAULT_GRAPH_VERSION
        self._number_id = settings.phone_number_id
        self._token = settings.access_token
        self._timeout = timeout

    def send(self, message: OutboundMessage) -> Accepted:
        """Send the message. Raises Rejected, Transient or Unknown."""
        if not (self._number_id and self._token):
            raise failure(Rejected, "not_configured")
        body = request_body(message)
        file = message.file
        if file is None:
            return self._send(body)
        earlier_upload = file.uploaded_as
        set_upload_id(body, earlier_upload or self._upload(file))
        try:
            return self._send(body)
        except Rejected as error:
            if not earlier_upload:
                raise
            file.remember("")
            if error.code not in UPLOAD_GONE:
                raise
        # Nothing was sent. An ID is valid for 30 days and for the number that uploaded it (§1.5).
        set_upload_id(body, self._upload(file))
        return self._send(body)

    def _send(self, body: dict[str, Any]) -> Accepted:
        return read_answer(self._post_message(body), secrets=(self._token,))

    def _post_message(self, body: dict[str, Any]) -> http_client.Answer:
        try:
            return self._request(
                "POST", "/{version}/{phone_number_id}/messages", json=body, timeout=self._timeout
            )
        except http_client.RequestNotSent as error:
            if error.reason == "invalid_address":
                raise failure(Rejected, error.reason, error.detail) from None
            raise failure(Transient, error.reason, error.detail) from None
        except http_client.ResponseLost as error:
            raise failure(Unknown, error.reason, error.detail) from None

    def _upload(self, file: OutboundFile) -> str:
        """Upload a file and return its ID at Meta (§1.5). Raises Rejected or Transient."""
        data = files.read(file)
        try:
            answer = self._request(
                "POST",
                "/{version}/{phone_number_id}/media",
                data={"messaging_product": "whatsapp", "type": file.mime_type},
                files={"file": (file.filename, data, file.mime_type)},
                timeout=self._timeout + files.seconds_for(file),
            )
        except http_client.RequestFailed as error:
            kind = Rejected if error.reason == "invalid_address" else Transient
            raise failure(kind, error.reason, error.detail) from None
        media_id = read_upload(answer, secrets=(self._token,))
        file.remember(media_id)
        return media_id

    def download(self, media_id: str, *, most_bytes: int) -> bytes:
        """Return a file that a customer sent (§1.5: first its URL, then its bytes).

        Raises Rejected (not found or too large) or Transient.
        """
        try:
            lookup = self._request(
                "GET",
                "/{version}/{media_id}",
                media_id=media_id,
                query={"phone_number_id": self._number_id},
                timeout=self._timeout,
            )
            secure = self._base[:8] == "https://"
            url = read_media_url(lookup, secrets=(self._token,), secure=secure)
            size = _file_size(lookup)
            if size is not None and size > most_bytes:
                raise failure(Rejected, "too_large", sizes.detail(size, most_bytes))
            answer = http_client.request(
                "GET",
                url,
                headers={"Authorization": f"Bearer {self._token}"},
                timeout=DOWNLOAD_SECONDS,
                max_bytes=most_bytes,
            )
        except http_client.RequestFailed as error:
            raise failure(Transient, error.reason, error.detail) from None
        if answer.truncated:
            raise failure(Rejected, "too_large", sizes.detail(answer.length, most_bytes))
        if answer.status != 200:
            # A 404 means that the URL has expired: the next attempt requests a new one.
            raise failure(Transient, "download_failed", f"HTTP {answer.status}")
        return answer.body

    def mark_read(self, to: str, ids: Sequence[str], *, typing: bool) -> None:
        """Mark the latest message, and with it all before it, as read (§1.2).

        The customer sees that we are typing until we answer, for at most 25 seconds. Raises
        Rejected, Transient or Unknown.
        """
        body: dict[str, Any] = {
            "messaging_product": "whatsapp",
            "status": "read",
            "message_id": ids[-1],
        }
        if typing:
            body["typing_indicator"] = {"type": "text"}
        answer = self._post_message(body)
        if answer.status >= 300 or (answer.json_object() or {}).get("success") is not True:
            raise _refusal(answer, answer.json_object(), secrets=(self._token,))

    def check(self) -> ConnectionReport:
        """Look up the number, which verifies the token and the number's ID. Never raises."""
        if not (self._number_id and self._token):
            return ConnectionReport(False, "not_configured")
        try:
            answer = self._request(
                "GET",
                "/{version}/{phone_number_id}",
                query={"fields": _NUMBER_FIELDS},
                timeout=min(self._timeout, CHECK_SECONDS),
            )
        except http_client.RequestFailed as error:
            return ConnectionReport(False, error.reason, details={"error": error.detail})
        body = answer.json_object()
        if answer.status == 200 and body is not None and "error" not in body:
            return _number_report(body, secrets=(self._token,))
        refusal = _refusal(answer, body, secrets=(self._token,))
        text = refusal.detail
        if not error_codes.lookup(refusal.code).known and refusal.title not in text:
            # Only Meta's own title explains an unknown code.
            text = f"{refusal.title}: {text}" if text else refusal.title
        return ConnectionReport(False, refusal.code, text, {"code": refusal.code})

    def _request(
        self, method: str, path: str, *, media_id: str = "", **options: Any
    ) -> http_client.Answer:
        return http_client.request(
            method,
            self._base,
            path,
            params={
                "version": self._version,
                "phone_number_id": self._number_id,
                "media_id": media_id,
            },
            headers={"Authorization": f"Bearer {self._token}"},
            **options,
        )


def request_body(message: OutboundMessage) -> dict[str, Any]:
    """Return the JSON of a send (docs/providers/cloud.md §1.2, §1.3). Pure.

    Raises Rejected for content that it cannot express.
    """
    body: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        **_recipient(message.to),
        "type": message.type,
        # Every status returns it: the only way to match a send whose response was lost.
        "biz_opaque_callback_data": message.reference,
    }
    if message.type == "text":
        if not message.text:
            raise failure(Rejected, "invalid_content")
        preview = isinstance(message.content, Mapping) and bool(message.content.get("preview_url"))
        body["text"] = {"body": message.text, "preview_url": preview}
    elif message.type in OBJECT_TYPES:
        body[message.type] = _object(message)
    else:
        raise failure(Rejected, "unsupported_type", message.type)
    if message.quote is not None and message.type != "reaction":
        body["context"] = {"message_id": message.quote.id}
    return body


def set_upload_id(body: dict[str, Any], media_id: str) -> None:
    """Put the ID of the uploaded file where the body of a send names it. Pure."""
    type_ = body["type"]
    if type_ in FILE_TYPES:
        body[type_]["id"] = media_id
        return
    _kind, file = header_media.find(type_, body[type_]) or ("", {})
    given = {name: file[name] for name in file if name not in ("media", "link", "id")}
    body[type_] = header_media.replace(type_, body[type_], {**given, "id": media_id})


def _recipient(to: str) -> dict[str, str]:
    """Return the field that names the recipient.

    Meta accepts a user id in `to`, reads its digits as a number and never delivers (§10.1.4).
    """
    if addresses.is_user_id(to):
        return {"recipient": to}
    # Without the plus sign Meta may prepend the business's own country code.
    return {"to": f"+{digits_of(to)}"}


def _object(message: OutboundMessage) -> Any:
    content: Any = message.content
    if message.type in FILE_TYPES:
        return _file_object(message)
    if message.type == "contacts":
        # The only type whose object is a list in Meta's format.
        if isinstance(content, Mapping):
            content = content.get("contacts")
        content = list(map(_card, content)) if isinstance(content, list | tuple) else None
    elif message.type == "reaction":
        content = _reaction(message)
    elif isinstance(content, Mapping):
        content = _interactive(content) if message.type == "interactive" else dict(content)
    else:
        content = None
    if not content:
        raise failure(Rejected, "invalid_content")
    return content


def _interactive(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object without empty optional texts, and without what Meta does not know."""
    found = dict(content)
    for name in ("body", "footer"):
        part = found.get(name)
        if isinstance(part, Mapping):
            found[name] = {key: part[key] for key in part if key != "type"}
    footer = found.get("footer")
    if isinstance(footer, Mapping) and is_blank(str(footer.get("text") or "")):
        del found["footer"]
    action = found.get("action")
    if found.get("type") == "list" and isinstance(action, Mapping):
        sections = action.get("sections")
        if isinstance(sections, list):
            found["action"] = {**action, "sections": list(map(_section, sections))}
    return found


def _section(section: Any) -> Any:
    if not isinstance(section, Mapping):
        return section
    found = _filled(section, "title")
    if isinstance(rows := section.get("rows"), list):
        found["rows"] = [
            _filled(row, "description") if isinstance(row, Mapping) else row for row in rows
        ]
    return found


def _filled(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: given[key] for key in given if key != name or not is_blank(str(given[key] or ""))}


def _card(card: Any) -> Any:
    """Return a contact; Meta takes no mere text as its name."""
    name = card.get("name") if isinstance(card, Mapping) else None
    return {**card, "name": {"formatted_name": name}} if isinstance(name, str) else card


def _reaction(message: OutboundMessage) -> dict[str, Any]:
    """Return the object of a reaction; an empty emoji removes it (§1.3). Raises Rejected."""
    content = message.content if isinstance(message.content, Mapping) else {}
    # A program may give Meta's own ID: the message may be older than our copy of the chat.
    target = content.get("message_id")
    if not isinstance(target, str) or not target.startswith(WAMID):
        target = message.quote.id if message.quote is not None else ""
    if not target:
        raise failure(Rejected, "target_unknown")
    return {"message_id": target, "emoji": content.get("emoji", "")}


def _file_object(message: OutboundMessage) -> dict[str, Any]:
    """Return the object of a file: with a link, or complete except for the upload ID (§1.3)."""
    content = message.content if isinstance(message.content, Mapping) else {}
    if message.file is None and not (content.get("link") or content.get("id")):
        raise failure(Rejected, "invalid_content")
    fields = {name: content[name] for name in content if name != "media"}
    if message.file is not None:
        for name in ("link", "id"):
            fields.pop(name, None)
        if message.type == "document":
            fields["filename"] = message.file.filename
    if message.type != "document":
        fields.pop("filename", None)
    return fields


def read_upload(answer: http_client.Answer, *, secrets: tuple[str, ...] = ()) -> str:
    """Return the ID from the response to an upload. Pure. Raises Rejected or Transient."""
    body = answer.json_object()
    media_id = safe_id(body.get("id")) if body is not None else None
    if 200 <= answer.status < 300 and media_id is not None:
        return media_id
    raise _transfer_error(answer, body, "upload_failed", secrets=secrets)


def read_media_url(
    answer: http_client.Answer, *, secure: bool, secrets: tuple[str, ...] = ()
) -> str:
    """Return a file's URL, valid for five minutes. Pure. Raises Rejected or Transient.

    `secure`: require HTTPS, because the token is sent to that URL.
    """
    body = answer.json_object()
    url = body.get("url") if body is not None else None
    if answer.status == 200 and isinstance(url, str):
        if url.startswith("https://") or (not secure and url.startswith("http://")):
            return url
        raise failure(Rejected, "wrong_address")
    raise _transfer_error(answer, body, "download_failed", secrets=secrets)


def _file_size(answer: http_client.Answer) -> int | None:
    """Return the size of a file in bytes from the response with its URL, or None."""
    size = (answer.json_object() or {}).get("file_size")
    if isinstance(size, str) and size.isdecimal():
        size = int(size)
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def _transfer_error(
    answer: http_client.Answer,
    body: Mapping[str, Any] | None,
    code: str,
    *,
    secrets: tuple[str, ...],
) -> SendError:
    """Interpret a failed upload or download, which cannot have sent a message."""
    error = _refusal(answer, body, secrets=secrets)
    if isinstance(error, Unknown):
        return failure(Transient, code, error.detail or error.title, http_status=answer.status)
    return error


def read_answer(answer: http_client.Answer, *, secrets: tuple[str, ...] = ()) -> Accepted:
    """Interpret the response to a send. Pure. Raises Rejected, Transient or Unknown."""
    body = answer.json_object()
    if 200 <= answer.status < 300 and body is not None:
        accepted = _accepted(body)
        if accepted is not None:
            return accepted
    raise _refusal(answer, body, secrets=secrets)


def _accepted(body: Mapping[str, Any]) -> Accepted | None:
    message = _first(body.get("messages"))
    message_id = safe_id(message.get("id"))
    if message_id is None:
        return None
    contact = _first(body.get("contacts"))
    # To a user id, Meta answers with that id and no number (§10.1.4).
    recipient = safe_id(contact.get("wa_id")) or safe_id(contact.get("user_id"))
    # Of templates whose quality Meta watches, it holds all but a few at first (§10.3).
    held = message.get("message_status") in ("held_for_quality_assessment", "paused")
    return Accepted(message_id, recipient, held=held)


def error_of(answer: http_client.Answer, *, secrets: tuple[str, ...]) -> SendError:
    """Return the error of a response that is no success: Rejected, Transient or Unknown. Pure."""
    return _refusal(answer, answer.json_object(), secrets=secrets)


def _refusal(
    answer: http_client.Answer, body: Mapping[str, Any] | None, *, secrets: tuple[str, ...]
) -> SendError:
    status = answer.status
    error = body.get("error") if body is not None else None
    if isinstance(error, Mapping) and (code := _code(error.get("code"))) is not None:
        return _graph_error(error, code, status, secrets)
    if status < 300:
        return failure(Unknown, "unreadable_answer", http_status=status)
    if status >= 500:
        return failure(Unknown, "server_error", f"HTTP {status}", http_status=status)
    if status == 429:
        return failure(Transient, "http_429", http_status=status)
    return failure(Rejected, f"http_{status}", http_status=status)


def _graph_error(
    error: Mapping[str, Any], code: str, status: int, secrets: tuple[str, ...]
) -> SendError:
    is_transient = error.get("is_transient")
    rule = error_codes.lookup(
        code, is_transient if isinstance(is_transient, bool) else None, status
    )
    message = http_client.safe_text(error.get("message"), secrets=secrets)
    data = error.get("error_data")
    # Only the account API writes a text for its users (§11.3).
    details = data.get("details") if isinstance(data, Mapping) else error.get("error_user_msg")
    title = error_codes.source_text(error_codes.title_for(code, message))
    if not rule.known:
        title = re.sub(r"^\(#\d+\)\s*", "", message) or title
    return (Transient if rule.transient else Rejected)(
        code,
        title[:300],
        http_client.safe_text(details, secrets=secrets) or message,
        http_status=status,
    )


def _code(value: object) -> str | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)[:20]
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,12}", value):
        return value
    return None


def _first(value: object) -> Mapping[str, Any]:
    """Return the first object of a list, or an empty one."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return value[0]
    return {}


def _number_report(body: Mapping[str, Any], *, secrets: tuple[str, ...]) -> ConnectionReport:
    def text(name: str) -> str:
        return http_client.safe_text(body.get(name), secrets=secrets, limit=100)

    number = text("display_phone_number")
    if not number:
        return ConnectionReport(False, "wrong_address")
    # Meta omits the field for some accounts: the use of the app is then unknown.
    on_app = body.get("is_on_biz_app")
    code, coexistence = "number_answers", "unknown"
    if isinstance(on_app, bool):
        code, coexistence = (
            ("number_in_coexistence", "yes") if on_app else ("number_on_cloud_only", "no")
        )
    name = text("verified_name")
    return ConnectionReport(
        True,
        code,
        f"{number} · {name}" if name else number,
        {
            "display_phone_number": number,
            "verified_name": name,
            "quality_rating": text("quality_rating"),
            "platform_type": text("platform_type"),
            "coexistence": coexistence,
        },
    )
