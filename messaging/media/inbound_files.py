"""Media that arrives inside an event is kept as a file, not in the event's row."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models import QuerySet

from messaging.inbound import pending_events
from messaging.models import InboundEvent, Media, PendingEvent

# Where the base64 of a file stands in an event.
EVOLUTION = ("data", "message", "base64")
WWEBJS = ("data", "messageMedia", "data")


def extract_evolution(payload: dict[str, Any]) -> dict[str, Any]:
    """Return an Evolution event with its base64 media replaced by `{"stored", "size"}`.

    The file's name is made from its content, so an event that comes twice makes one file. Text that
    is no base64 stays as it is; anything else is left out, so that nobody but this module names a
    stored file. The given payload is not changed. Raises OSError.
    """
    return _set_aside(payload, *EVOLUTION)


def extract_wwebjs(payload: dict[str, Any]) -> dict[str, Any]:
    """Do the same for a `media` callback of wwebjs-api (contracts/wwebjs-api.md §4)."""
    return _set_aside(payload, *WWEBJS)


def encoded(payload: Any, path: Iterable[str]) -> str:
    """Return the text at the path of an event, "" where none is there."""
    found = payload
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""


def delete_unused(before: Iterable[str]) -> int:
    """Delete those of the stored files that neither a message nor an event needs any more.

    Returns how many there were.
    """
    unused = set(before) - stored_in(InboundEvent.objects.all())
    unused -= pending_events.stored_files(PendingEvent.objects.filter(payload__stored__in=unused))
    unused -= set(Media.objects.filter(file__in=unused).values_list("file", flat=True))
    unused -= set(
        Media.objects.filter(source__stored__in=unused).values_list("source__stored", flat=True)
    )
    for name in unused:
        default_storage.delete(name)
    return len(unused)


def stored_in(events: QuerySet[InboundEvent]) -> set[str]:
    """Return the names of the files of these events: set aside from them, or their raw bytes."""
    names = set(events.exclude(raw_file="").values_list("raw_file", flat=True))
    for path in (EVOLUTION, WWEBJS):
        stored = f"payload__{'__'.join(path)}__stored"
        names |= set(events.filter(**{f"{stored}__isnull": False}).values_list(stored, flat=True))
    return names


def _set_aside(payload: dict[str, Any], *path: str) -> dict[str, Any]:
    name, *rest = path
    value = payload.get(name)
    if rest:
        return {**payload, name: _set_aside(value, *rest)} if isinstance(value, dict) else payload
    if name not in payload:
        return payload
    if not isinstance(value, str):
        return {**payload, name: None}
    stored = _store(value) if value else None
    return payload if stored is None else {**payload, name: stored}


def _store(encoded: str) -> dict[str, Any] | None:
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    name = f"inbound/{hashlib.sha256(content).hexdigest()}.bin"
    if not default_storage.exists(name):
        name = default_storage.save(name, ContentFile(content))
    return {"stored": name, "size": len(content)}
