"""What of an event is never stored: credentials, and codes that link a phone. Pure.

Who holds one of them can write in the name of the business, and events are kept for weeks and shown
to staff. Meta's events hold none (contracts/cloud-api.md §3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from channels_app.providers.link_codes import read_code

WITHHELD = "withheld"
# In the place of a code that cannot be scanned yet (contracts/wwebjs-api.md §7.2).
UNFINISHED = "unfinished"
_DIGEST = "sha256:"


def from_evolution(payload: Any) -> Any:
    """Return an Evolution event without the instance's token and without codes.

    The token comes with each event (contracts/evolution-api.md §1); that of a WHATSAPP-BUSINESS
    instance is Meta's access token. A code that is scanned becomes its digest, which tells two
    codes apart; one that is typed is too short for that. The given payload is not changed, and
    doing it again changes nothing.
    """
    if not isinstance(payload, Mapping):
        return payload
    kept = _withhold(payload, "apikey")
    data = kept.get("data")
    if isinstance(data, list):
        return {**kept, "data": [_without_code(item) for item in data]}
    return {**kept, "data": _without_code(data)} if "data" in kept else kept


def from_wwebjs(payload: Any) -> Any:
    """Do the same for a callback of wwebjs-api (contracts/wwebjs-api.md §4: `qr` and `code`)."""
    data = payload.get("data") if isinstance(payload, Mapping) else None
    if not isinstance(data, Mapping) or payload.get("dataType") not in ("qr", "code"):
        return payload
    return {**payload, "data": _withhold(_digested(data, "qr"), "code")}


def digest_of(code: str) -> str:
    """Return the hexadecimal SHA-256 of a code that is scanned, stored or not."""
    if code.startswith(_DIGEST):
        return code.removeprefix(_DIGEST)
    return hashlib.sha256(code.encode(errors="replace")).hexdigest()


def _without_code(data: Any) -> Any:
    qr = data.get("qrcode") if isinstance(data, Mapping) else None
    if not isinstance(qr, Mapping):
        return data
    return {**data, "qrcode": _withhold(_digested(qr, "code"), "pairingCode", "base64")}


def _digested(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    if name not in holder:
        return dict(holder)
    code = holder[name]
    told = f"{_DIGEST}{digest_of(code)}" if isinstance(code, str) and code else None
    if told and (code == UNFINISHED or not read_code(code)):
        told = UNFINISHED
    return {**holder, name: told}


def _withhold(holder: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {**holder, **{name: WITHHELD for name in names if holder.get(name)}}
