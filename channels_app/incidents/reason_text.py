"""Renders reason codes as sentences, and maps them to the settings that cause them. Pure.

A job has no language and readers have several, so a reason is stored as a code
(`encode_reason`) and rendered as a sentence when it is read (`render_reason`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from channels_app.connections.states import SENTENCES
from channels_app.providers import engines
from channels_app.providers.base import ConnectionReport
from channels_app.providers.cloud import account
from channels_app.providers.error_codes import stored_detail, title_for
from channels_app.providers.sessions import State

if TYPE_CHECKING:
    from channels_app.providers.evolution.receive_mode import EvolutionFailed

_FIELDS = {
    "wrong_key": "wwebjs_api_key",
    "invalid_session": "wwebjs_session_id",
    **dict.fromkeys(
        (
            "dns_failed",
            "connection_refused",
            "connect_timeout",
            "unreachable",
            "certificate_refused",
            "not_tls",
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


def describe(code: str, detail: str = "") -> str:
    """Return the sentence for a reason in the active language, with the server's own text."""
    if not code:
        return ""
    text = str(SENTENCES.get(code) or account.SENTENCES.get(code) or title_for(code, detail))
    if "%(who)s" in text:
        return text % {"who": detail or "?"}
    detail = stored_detail(detail)
    return f"{text.removesuffix('.')}: {detail}" if detail else text


# A stored line: a code, and after a bar the server's own text.
_ENCODED = re.compile(r"(-?[a-z0-9_]{1,64})(?:\|(.*))?")
# The maximum length of the stored server text.
MAX_PROVIDER_TEXT = 200
# A reason that concerns the channel's fallback has this prefix and the name of its provider.
SIDE = "fallback_"


def encode_reason(code: str, text: str = "") -> str:
    """Return a reason in its stored form: its code, and the server's own text."""
    text = " ".join(text.split())[:MAX_PROVIDER_TEXT]
    return f"{code}|{text}" if text else code


def encode_failure(error: EvolutionFailed) -> str:
    """Return the reason of a failed request to Evolution in its stored form."""
    return encode_reason(error.reason, error.server_text)


def describe_failure(error: EvolutionFailed) -> str:
    """Return the reason of a failed request to Evolution as a sentence in the active language."""
    return describe(error.reason, error.server_text)


def render_reason(stored: str) -> str:
    """Render reasons from `encode_reason`, one per line, as text in the active language.

    The text includes the number of a Meta code. A line that is not a code is returned unchanged:
    earlier versions stored sentences.
    """
    return " · ".join(_render_line(line) for line in stored.splitlines())


def own_side(stored: str) -> str:
    """Return stored reasons without those that concern the channel's fallback.

    A connection test also stores the result for the fallback; a fallback state that is shown beside
    it is newer.
    """
    sides = tuple(f"{SIDE}{name}|" for name in engines.fallbacks())
    return "\n".join(line for line in stored.splitlines() if not line.startswith(sides))


def describe_side(side: str) -> str:
    """Return the heading of the reasons of a fallback, in the active language."""
    name = engines.by_name(side.removeprefix(SIDE)).title
    return str(_("Fallback: %(name)s")) % {"name": name}


def _render_line(line: str) -> str:
    match = _ENCODED.fullmatch(line)
    if match is None:
        return line
    code, server_text = match[1], match[2] or ""
    if code.removeprefix(SIDE) in engines.fallbacks() and code.startswith(SIDE):
        return f"{describe_side(code)}: {_render_line(server_text)}"
    text = describe(code) if code in SENTENCES else str(title_for(code, server_text))
    if not code.removeprefix("-").isdecimal() or code in text:
        return describe(code, server_text)
    text = f"{text.removesuffix('.')} ({code})"
    return f"{text}: {server_text}" if server_text else text


def field_for_code(code: str, *, evolution: bool = False) -> str:
    """Return the name of the setting to correct, or "" if no setting is the cause.

    `evolution`: for a Baileys channel instead of a wwebjs session.
    """
    return (_EVOLUTION_FIELDS if evolution else _FIELDS).get(code, "")


# The action that a reason requires of a person. Temporary states require none; a code that is not
# listed requires an action of its own.
_ACTIONS: dict[str, str] = {
    **dict.fromkeys(
        ("wrong_key", "invalid_session", "wrong_address", "invalid_address", "not_http",
         "not_configured", "key_cannot_create", "other_integration", "certificate_refused",
         "not_tls", "tls_failed"),
        "settings",
    ),
    **dict.fromkeys(
        ("connection_refused", "dns_failed", "connect_timeout", "unreachable", "timeout",
         "connection_broken", "session_closed", "session_check_failed", "start_failed",
         "start_no_answer", "dialling_long", "dead_socket"),
        "server",
    ),
    **dict.fromkeys(
        ("unlinked_scan_qr", "unlinked_on_phone", "qr_expired", "qr_limit", "not_linked"), "link"
    ),
    **dict.fromkeys(("no_instance", "instance_gone", "instance_vanished"), "create"),
    **dict.fromkeys(
        ("", "unchecked", "starting", "restarting", "opening", "pairing", "syncing", "dialling",
         "number_unknown", "reconnecting", "connection_lost", "not_started", "session_not_found",
         "session_not_connected", "session_not_ready", "instance_not_connected"),
        "",
    ),
}  # fmt: skip


def person_action(code: str) -> str:
    """Return the action that a reason requires of a person, or "" if it may resolve itself."""
    return _ACTIONS.get(code, code)


def summary(report: ConnectionReport) -> str:
    """Return the result of a connection test as a sentence in the active language."""
    return render_reason(encode_reason(report.code, report.detail))


_LABELS: dict[str, str | Promise] = {
    "state": _("State"),
    "number": _("Number"),
    "name": _("Name"),
    "display_phone_number": _("Number"),
    "filled_in": _("Filled in as the channel's phone number"),
    "verified_name": _("Verified name"),
    "quality_rating": _("Quality"),
    "platform_type": _("Platform"),
    "coexistence": _("Coexistence with the app"),
    "code": _("Code"),
    "error": _("Server response"),
}
_VALUES: dict[str, dict[str, str | Promise]] = {
    "state": {
        **{state.value: state.label for state in State},
        "open": _("connected"),
        "connecting": _("connecting"),
        "close": _("disconnected"),
    },
    "quality_rating": {
        "GREEN": _("high (green)"),
        "YELLOW": _("medium (yellow)"),
        "RED": _("low (red)"),
        "UNKNOWN": _("unknown"),
    },
    "coexistence": {"yes": _("yes"), "no": _("no"), "unknown": _("unknown")},
}


def rows(report: ConnectionReport) -> Iterator[tuple[str, str]]:
    """Yield the details of a report as labels and values in the active language."""
    for name, value in report.details.items():
        if value:
            text = _VALUES.get(name, {}).get(value) or stored_detail(value)
            yield str(_LABELS.get(name, name)), str(text)
