"""Store media that arrives inside an event as a file instead of in the event's row."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models import QuerySet
from django.db.models.fields.json import KeyTextTransform

from channels_app.providers import engines
from messaging.models import InboundEvent, Media, PendingEvent, has_stored_file, stored_file


def extract(payload: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return an event with the base64 at the path replaced by `{"stored", "size"}`.

    An empty path means that events contain no file. The file name is derived from the content, so a
    repeated event creates one file. Text that is not base64 stays unchanged; any other value is
    removed, so that only this module can name a stored file. The given payload is not changed.
    Raises OSError.
    """
    return _extract(payload, *path) if path else payload


def encoded(payload: Any, path: Iterable[str]) -> str:
    """Return the text at the path of an event, or "" if there is none."""
    value = payload
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""


def delete_unused(names: Iterable[str]) -> int:
    """Delete the given stored files that no message and no event uses any more.

    Returns the number of deleted files.
    """
    unused = set(filter(None, names))
    # Each question is answered by an index; without a file there is none to ask.
    for users in (_events_with, _pending_events_with, _media_with):
        if not unused:
            return 0
        unused -= users(unused)
    for name in unused:
        default_storage.delete(name)
    return len(unused)


def stored_in(events: QuerySet[InboundEvent]) -> set[str]:
    """Return the names of the files of these events: extracted media and raw bytes."""
    names = set(events.exclude(raw_file="").values_list("raw_file", flat=True))
    for path in _file_paths():
        with_file = events.filter(has_stored_file(path))
        names |= set(with_file.values_list(stored_file(path), flat=True))
    return names


def _events_with(names: set[str]) -> set[str]:
    all_events = InboundEvent.objects.order_by()
    used = set(all_events.filter(raw_file__in=names).values_list("raw_file", flat=True))
    for path in _file_paths():
        with_file = all_events.filter(has_stored_file(path)).annotate(stored=stored_file(path))
        used |= set(with_file.filter(stored__in=names).values_list("stored", flat=True))
    return used


def _pending_events_with(names: set[str]) -> set[str]:
    media = PendingEvent.objects.filter(kind=PendingEvent.Kind.MEDIA)
    stored = media.annotate(stored=KeyTextTransform("stored", "payload"))
    return set(stored.filter(stored__in=names).values_list("stored", flat=True))


def _media_with(names: set[str]) -> set[str]:
    used = set(Media.objects.filter(file__in=names).values_list("file", flat=True))
    # A file that is stored has the name of its source.
    unfinished = Media.objects.exclude(state=Media.State.STORED)
    waiting = unfinished.annotate(stored=KeyTextTransform("stored", "source"))
    return used | set(waiting.filter(stored__in=names).values_list("stored", flat=True))


def _file_paths() -> list[tuple[str, ...]]:
    return [source.file_path for source in engines.event_sources() if source.file_path]


def _extract(payload: dict[str, Any], *path: str) -> dict[str, Any]:
    name, *rest = path
    value = payload.get(name)
    if rest:
        return {**payload, name: _extract(value, *rest)} if isinstance(value, dict) else payload
    if name not in payload:
        return payload
    if not isinstance(value, str):
        return {**payload, name: None}
    stored = _store(value) if value else None
    return payload if stored is None else {**payload, name: stored}


def _store(encoded: str) -> dict[str, Any] | None:
    # A data URI, or base64 in lines as MIME writes it.
    text = "".join(encoded[_data_uri(encoded) :].split())
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not content:
        return None
    name = f"inbound/{hashlib.sha256(content).hexdigest()}.bin"
    if not default_storage.exists(name):
        name = default_storage.save(name, ContentFile(content))
    return {"stored": name, "size": len(content)}


def _data_uri(encoded: str) -> int:
    """Return the length of `data:image/png;base64,` at the beginning, or 0."""
    if not encoded.startswith("data:"):
        return 0
    return encoded.find(",", 0, 300) + 1
