"""The texts of Evolution's errors (docs/providers/evolution.md §0)."""

from __future__ import annotations

from collections.abc import Mapping

from core import http_client


def error_message(body: object, *, secrets: tuple[str, ...] = ()) -> str:
    """Return the text of an error in any of Evolution's formats as one line, or "". Pure.

    `response.message` is a text, a list of texts, a list of lists of texts or a list with the
    result of a number's look-up; some routes omit the enclosing `response` (§0).
    """
    if not isinstance(body, Mapping):
        return ""
    inner = body.get("response")
    message = inner.get("message") if isinstance(inner, Mapping) else body.get("message")
    texts = _texts(message)
    if not texts and isinstance(body.get("error"), str):
        texts = [body["error"]]
    return http_client.safe_text("; ".join(texts), secrets=secrets)


def _texts(message: object) -> list[str]:
    if isinstance(message, str):
        return [message]
    if isinstance(message, list):
        return [text for item in message[:20] for text in _texts(item)]
    if isinstance(message, Mapping) and message.get("exists") is False:
        return [f"{message.get('number') or message.get('jid')}: not on WhatsApp"]
    return []
