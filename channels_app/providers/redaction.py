"""Removes credentials and phone-linking codes from events before they are stored. Pure.

Anyone who has one of them can send messages as the business, and events are stored for weeks and
shown to staff. Meta's events contain none (docs/providers/cloud.md §3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from channels_app.providers.link_codes import read_code

REDACTED = "withheld"
# Replaces a code that cannot be scanned yet (docs/providers/wwebjs.md §7.2).
UNFINISHED = "unfinished"
_DIGEST = "sha256:"


def from_evolution(payload: Any) -> Any:
    """Return an Evolution event without the instance's token and without codes.

    Every event contains the token (docs/providers/evolution.md §1); that of a WHATSAPP-BUSINESS
    instance is Meta's access token. A QR code is replaced by its digest, which distinguishes two
    codes; a pairing code is too short for that. Idempotent; the given payload is not modified.
    """
    if not isinstance(payload, Mapping):
        return payload
    redacted = _redact(payload, "apikey")
    data = redacted.get("data")
    if isinstance(data, list):
        return {**redacted, "data": [_without_code(item) for item in data]}
    return {**redacted, "data": _without_code(data)} if "data" in redacted else redacted


def from_wwebjs(payload: Any) -> Any:
    """Do the same for a callback of wwebjs-api (docs/providers/wwebjs.md §4: `qr` and `code`)."""
    data = payload.get("data") if isinstance(payload, Mapping) else None
    if not isinstance(data, Mapping) or payload.get("dataType") not in ("qr", "code"):
        return payload
    return {**payload, "data": _redact(_replace_by_digest(data, "qr"), "code")}


def digest_of(code: str) -> str:
    """Return the hexadecimal SHA-256 of a QR code, or of its stored digest form."""
    if code.startswith(_DIGEST):
        return code.removeprefix(_DIGEST)
    return hashlib.sha256(code.encode(errors="replace")).hexdigest()


def _without_code(data: Any) -> Any:
    qr = data.get("qrcode") if isinstance(data, Mapping) else None
    if not isinstance(qr, Mapping):
        return data
    return {**data, "qrcode": _redact(_replace_by_digest(qr, "code"), "pairingCode", "base64")}


def _replace_by_digest(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    if name not in holder:
        return dict(holder)
    code = holder[name]
    stored = f"{_DIGEST}{digest_of(code)}" if isinstance(code, str) and code else None
    if stored and (code == UNFINISHED or not read_code(code)):
        stored = UNFINISHED
    return {**holder, name: stored}


def _redact(holder: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {**holder, **{name: REDACTED for name in names if holder.get(name)}}
