"""Media that arrives inside an event is kept as a file, not in the event's row."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

# Shorter ones are not worth a file.
SMALL = 2048


def set_aside(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the event with its base64 media replaced by `{"stored", "size"}`.

    The file's name is made from its content, so an event that comes twice makes one file. What is
    no base64 stays as it is. The given payload is not changed.
    """
    data = payload.get("data")
    message = data.get("message") if isinstance(data, dict) else None
    encoded = message.get("base64") if isinstance(message, dict) else None
    if not isinstance(encoded, str) or len(encoded) < SMALL:
        return payload
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return payload
    assert isinstance(data, dict)
    assert isinstance(message, dict)
    name = f"inbound/{hashlib.sha256(content).hexdigest()}.bin"
    if not default_storage.exists(name):
        name = default_storage.save(name, ContentFile(content))
    kept = {"stored": name, "size": len(content)}
    return {**payload, "data": {**data, "message": {**message, "base64": kept}}}
