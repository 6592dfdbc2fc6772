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


_EVOLUTION_FIELDS = {
    **dict.fromkeys((name for name in _FIELDS if _FIELDS[name] == "wwebjs_url"), "evolution_url"),
    "wrong_key": "evolution_api_key",
    "key_cannot_create": "evolution_api_key",
    "other_integration": "instance_name",
}


def sentence(code: str, detail: str = "") -> str:
    """Return the sentence for a reason in the active language, with the server's own words."""
    if not code:
        return ""
    text = str(SENTENCES.get(code) or title_for(code))
    return f"{text.removesuffix('.')}: {detail}" if detail else text


def field_of(code: str, *, evolution: bool = False) -> str:
    """Return the name of the setting that is to be mended, "" where it is none of them.

    `evolution`: of a Baileys channel, not of a wwebjs session.
    """
    return (_EVOLUTION_FIELDS if evolution else _FIELDS).get(code, "")
