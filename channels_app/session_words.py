"""The state of a session in words, and the setting that its trouble belongs to. Pure."""

from __future__ import annotations

from channels_app.providers.cloud_errors import title_for
from channels_app.session_states import SENTENCES

_FIELDS = {
    "wrong_key": "wwebjs_api_key",
    "invalid_session": "wwebjs_session_id",
    **dict.fromkeys(
        (
            "dns_failed",
            "connection_refused",
            "connect_timeout",
            "unreachable",
            "tls_failed",
            "invalid_address",
            "timeout",
            "connection_broken",
            "not_http",
            "wrong_address",
        ),
        "wwebjs_url",
    ),
}


def sentence(code: str, detail: str = "") -> str:
    """Return the sentence for a reason in the active language, with the server's own words."""
    if not code:
        return ""
    text = str(SENTENCES.get(code) or title_for(code))
    return f"{text.removesuffix('.')}: {detail}" if detail else text


def field_of(code: str) -> str:
    """Return the name of the setting that is to be mended, "" where it is none of them."""
    return _FIELDS.get(code, "")
