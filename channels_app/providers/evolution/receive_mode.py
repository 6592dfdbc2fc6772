"""Reads and sets the receive mode of an Evolution instance (docs/providers/evolution.md §1, §2).

The API uses different names for writing and reading: `byEvents`/`base64` on input,
`webhookByEvents`/`webhookBase64` on output. Each request that enables a mode must list the events,
because disabling empties the stored list and an empty list then means all 31 of them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from channels_app.providers.evolution.errors import error_message
from core import http_client

if TYPE_CHECKING:
    from channels_app.providers.evolution.settings import EvolutionSettings

CALL_SECONDS = 8.0
DOWNLOAD_SECONDS = 120.0
# A page of messages may contain thumbnails, serialized as an object with a key per byte (§3).
MAX_PAGE_BYTES = 64 * 1024 * 1024
# The beginning of an answer that is too large, up to the content of its first message.
BEGINNING_BYTES = 16 * 1024


class EvolutionFailed(Exception):
    """Evolution did not carry out a request. `reason_text` renders it for people.

    `code` is "unreachable", "no_answer", "wrong_key", "wrong_address", "instance_missing",
    "websocket_off", "refused", "too_large" or "unreadable_answer". `reason` is the more specific
    reason, for which `reason_text` has a sentence; `error_text` is what the server said, `status`
    its HTTP status (0 without a response), `beginning` the first bytes of an answer that is too
    large.
    """

    def __init__(
        self,
        code: str,
        *,
        reason: str = "",
        error_text: str = "",
        status: int = 0,
        beginning: bytes = b"",
    ) -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason or ("refused_request" if code == "refused" else code)
        self.error_text = error_text
        self.status = status
        self.beginning = beginning

    @property
    def server_text(self) -> str:
        """The server's error text, with the HTTP status if our reason is generic; no secret.

        Empty where our own sentence says the same in the reader's language.
        """
        if self.reason in ("instance_missing", "wrong_key"):
            return ""
        if self.reason != "refused_request" or not self.status:
            return self.error_text
        return (
            f"HTTP {self.status}: {self.error_text}" if self.error_text else f"HTTP {self.status}"
        )

    @property
    def answered(self) -> bool:
        """Whether the server responded."""
        return self.code not in ("unreachable", "no_answer")

    @property
    def changed_nothing(self) -> bool:
        """Whether the request certainly had no effect."""
        return self.code in ("unreachable", "wrong_key", "wrong_address", "instance_missing")


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """The webhook as Evolution stores it; `headers` contain our secret and are not in the repr."""

    enabled: bool = False
    url: str = ""
    base64: bool = False
    by_events: bool = False
    events: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def sends(self, secret_header: str) -> bool:
        """Whether the webhook has this Authorization header."""
        stored = str(self.headers.get("Authorization", ""))
        return hmac.compare_digest(stored.encode(), secret_header.encode())


@dataclass(frozen=True, slots=True)
class WebsocketConfig:
    enabled: bool = False
    events: frozenset[str] = frozenset()


class EvolutionInstance:
    """The receive mode of one instance, as Evolution stores it. Every call is one request."""

    def __init__(self, settings: EvolutionSettings, *, timeout: float = CALL_SECONDS) -> None:
        self._base = settings.url
        self._key = settings.api_key
        self._name = settings.instance_name
        self._timeout = timeout

    def webhook(self) -> WebhookConfig:
        """Return the stored webhook; disabled if it was never set. Raises EvolutionFailed."""
        return _webhook(self._call("GET", "/webhook/find/{instance}", may_be_null=True))

    def set_webhook(
        self, *, url: str, secret_header: str, base64: bool, events: Sequence[str]
    ) -> WebhookConfig:
        """Enable the webhook with all its settings. Raises EvolutionFailed."""
        body = {
            "enabled": True,
            "url": url,
            "headers": {"Authorization": secret_header},
            "byEvents": False,
            "base64": base64,
            "events": list(events),
        }
        return _webhook(self._call("POST", "/webhook/set/{instance}", {"webhook": body}))

    def disable_webhook(self) -> WebhookConfig:
        """Disable the webhook and delete its address. Raises EvolutionFailed."""
        body = {"enabled": False, "url": "", "events": []}
        return _webhook(self._call("POST", "/webhook/set/{instance}", {"webhook": body}))

    def websocket(self) -> WebsocketConfig:
        """Return the stored WebSocket; disabled if it was never set. Raises EvolutionFailed.

        A server without WebSocket responds with an empty body: that is disabled, too.
        """
        answer = self._call(
            "GET", "/websocket/find/{instance}", may_be_null=True, may_be_empty=True
        )
        return _websocket(answer)

    def set_websocket(self, *, enabled: bool, events: Sequence[str] = ()) -> WebsocketConfig:
        """Enable or disable the socket. Raises EvolutionFailed ("websocket_off" if the server has
        none: it then responds with 201 and an empty body)."""
        body = {"enabled": enabled, "events": list(events) if enabled else []}
        answer = self._call(
            "POST", "/websocket/set/{instance}", {"websocket": body}, may_be_empty=True
        )
        if answer is None and enabled:
            raise EvolutionFailed("websocket_off")
        return _websocket(answer)

    def messages(self, *, page: int, size: int) -> list[dict[str, Any]]:
        """Return one page of the stored messages, newest first (§5). Raises EvolutionFailed."""
        answer = self._call(
            "POST",
            "/chat/findMessages/{instance}",
            {"where": {}, "page": page, "offset": size},
            most_bytes=MAX_PAGE_BYTES,
        )
        found = answer.get("messages") if isinstance(answer, dict) else None
        records = found.get("records") if isinstance(found, dict) else None
        if not isinstance(records, list):
            raise EvolutionFailed("unreadable_answer")
        return [record for record in records if isinstance(record, dict)]

    def message(self, message_id: str) -> dict[str, Any] | None:
        """Return the stored message with this ID, or None (§5). Raises EvolutionFailed."""
        answer = self._call(
            "POST",
            "/chat/findMessages/{instance}",
            {"where": {"key": {"id": message_id}}, "page": 1, "offset": 1},
            most_bytes=MAX_PAGE_BYTES,
        )
        found = answer.get("messages") if isinstance(answer, dict) else None
        records = found.get("records") if isinstance(found, dict) else None
        if not isinstance(records, list):
            raise EvolutionFailed("unreadable_answer")
        matching = [r for r in records if isinstance(r, dict) and _id_of(r) == message_id]
        return matching[0] if matching else None

    def media(self, message: Mapping[str, Any], *, most_bytes: int) -> bytes:
        """Return the file of a message by getBase64FromMediaMessage (§3). Raises EvolutionFailed.

        `message` has at least its `key`; WHATSAPP-BUSINESS also needs `messageType` and `message`.
        The code is "too_large" if it has more bytes than allowed.
        """
        # Base64 encodes three bytes as four; the rest is for the surrounding JSON.
        max_body = most_bytes * 4 // 3 + 64 * 1024
        answer = self._call(
            "POST",
            "/chat/getBase64FromMediaMessage/{instance}",
            {"message": message},
            timeout=DOWNLOAD_SECONDS,
            most_bytes=max_body,
        )
        encoded = answer.get("base64") if isinstance(answer, dict) else None
        try:
            return base64.b64decode(encoded if isinstance(encoded, str) else "!", validate=True)
        except (binascii.Error, ValueError):
            raise EvolutionFailed("unreadable_answer") from None

    def state(self) -> str:
        """Return the instance's state: open, connecting or close. Raises EvolutionFailed."""
        answer = self._call("GET", "/instance/connectionState/{instance}")
        instance = answer.get("instance") if isinstance(answer, dict) else None
        state = instance.get("state") if isinstance(instance, dict) else None
        return state if state in ("open", "connecting", "close") else "unknown"

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout: float | None = None,
        may_be_null: bool = False,
        may_be_empty: bool = False,
        may_be_list: bool = False,
        most_bytes: int = http_client.MAX_ANSWER_BYTES,
    ) -> Any:
        try:
            answer = http_client.request(
                method,
                self._base,
                path,
                params={"instance": self._name},
                query=query,
                headers={"apikey": self._key},
                json=body,
                timeout=timeout or self._timeout,
                max_bytes=most_bytes,
            )
        except http_client.RequestNotSent as error:
            raise EvolutionFailed("unreachable", reason=error.reason) from None
        except http_client.ResponseLost as error:
            raise EvolutionFailed("no_answer", reason=error.reason) from None
        if answer.truncated:
            raise EvolutionFailed("too_large", beginning=answer.body[:BEGINNING_BYTES])
        parsed = answer.json()
        if answer.status in (200, 201):
            if not answer.body.strip() and may_be_empty:
                return None
            if isinstance(parsed, dict) or (parsed is None and may_be_null):
                return parsed
            if isinstance(parsed, list) and may_be_list:
                return parsed
            raise EvolutionFailed("unreadable_answer")
        text = error_message(parsed, secrets=(self._key,))
        code = {401: "wrong_key", 404: "wrong_address"}.get(answer.status, "refused")
        if answer.status == 404 and text.endswith(("does not exist", "not found")):
            # An unknown route is a 404 of the same shape (§0).
            code = "instance_missing"
        is_unlicensed = isinstance(parsed, dict) and parsed.get("code") == "LICENSE_REQUIRED"
        raise EvolutionFailed(
            code,
            reason="license_required" if is_unlicensed else "",
            error_text=text,
            status=answer.status,
        )


def has_own_namespace(instance: str) -> bool:
    """Whether clients can join the instance's own socket (§2): a comma ends the name in a packet.

    In global mode its events can be had at the root namespace all the same.
    """
    return "," not in instance


def _id_of(record: Mapping[str, Any]) -> object:
    key = record.get("key")
    return key.get("id") if isinstance(key, Mapping) else None


def _webhook(row: Any) -> WebhookConfig:
    if not isinstance(row, dict):
        return WebhookConfig()
    headers = row.get("headers")
    return WebhookConfig(
        enabled=row.get("enabled") is True,
        url=str(row.get("url") or ""),
        base64=row.get("webhookBase64") is True,
        by_events=row.get("webhookByEvents") is True,
        events=_events(row),
        headers=headers if isinstance(headers, dict) else {},
    )


def _websocket(row: Any) -> WebsocketConfig:
    if not isinstance(row, dict):
        return WebsocketConfig()
    return WebsocketConfig(enabled=row.get("enabled") is True, events=_events(row))


def _events(row: Mapping[str, Any]) -> frozenset[str]:
    events = row.get("events")
    return frozenset(map(str, events)) if isinstance(events, list) else frozenset()
