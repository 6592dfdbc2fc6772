"""What a code means to a person, and the setting that its trouble belongs to. Pure.

A job has no language and readers have several, so a reason is stored as a code
(`encode_reason`) and becomes a sentence where it is read (`render_reason`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from channels_app.connections.states import SENTENCES, State
from channels_app.providers.base import ConnectionReport
from channels_app.providers.error_codes import stored_detail, title_for

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
    """Return the sentence for a reason in the active language, with the server's own words."""
    if not code:
        return ""
    text = str(SENTENCES.get(code) or title_for(code))
    if "%(who)s" in text:
        return text % {"who": detail or "?"}
    detail = stored_detail(detail)
    return f"{text.removesuffix('.')}: {detail}" if detail else text


# A line of what is stored: a code, and behind a bar the server's own words.
_ENCODED = re.compile(r"([a-z0-9_]{1,64})(?:\|(.*))?")
# Of the server's own words so much is stored.
MAX_PROVIDER_TEXT = 200
# In front of a reason that concerns the other side of a channel.
SIDES: dict[str, str | Promise] = {
    "fallback_wwebjs": _("Fallback: wwebjs-api"),
    "fallback_baileys": _("Fallback: Baileys channel"),
}


def encode_reason(code: str, told: str = "") -> str:
    """Return a reason as it is stored: its code, and what the server said in its own words."""
    told = " ".join(told.split())[:MAX_PROVIDER_TEXT]
    return f"{code}|{told}" if told else code


def render_reason(stored: str) -> str:
    """Return what `encode_reason` made, one reason a line, as text in the active language.

    A number of Meta's is told with its sentence. What is no code stays as it is: sentences that
    earlier versions stored.
    """
    return " · ".join(_line_in_words(line) for line in stored.splitlines())


def own_side(stored: str) -> str:
    """Return what `encode_reason` made without what concerns the other side of the channel.

    A test of the connection also stores what it found of the fallback; where the fallback's state
    is shown beside it, that one is newer.
    """
    sides = tuple(f"{side}|" for side in SIDES)
    return "\n".join(line for line in stored.splitlines() if not line.startswith(sides))


def _line_in_words(line: str) -> str:
    found = _ENCODED.fullmatch(line)
    if found is None:
        return line
    code, told = found[1], found[2] or ""
    if code in SIDES:
        return f"{SIDES[code]}: {_line_in_words(told)}"
    text = describe(code)
    if not code.isdecimal() or code in text:
        return describe(code, told)
    text = f"{text.removesuffix('.')} ({code})"
    return f"{text}: {told}" if told else text


def field_for_code(code: str, *, evolution: bool = False) -> str:
    """Return the name of the setting that is to be mended, "" where it is none of them.

    `evolution`: of a Baileys channel, not of a wwebjs session.
    """
    return (_EVOLUTION_FIELDS if evolution else _FIELDS).get(code, "")


# What a person has to do about a reason; codes with the same word ask for the same thing. Passing
# states ask for nothing; a code that stands nowhere asks for something of its own.
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
    """Return a word for what a person has to do about a reason, "" where it may pass by itself."""
    return _ACTIONS.get(code, code)


def summary(report: ConnectionReport) -> str:
    """Return what a test of the connection found, as a sentence in the active language."""
    return render_reason(encode_reason(report.code, report.told))


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
    "error": _("In its own words"),
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
            words = _VALUES.get(name, {}).get(value) or stored_detail(value)
            yield str(_LABELS.get(name, name)), str(words)
