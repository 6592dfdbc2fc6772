"""Turn received payloads into rows of the journal: complete events, or stubs of unreadable ones.

The webhooks and sockets of all providers create an `Arrival`. `prepare` turns it into a normalized
`Raw` (`inbound.neutral`), or into a `Stub` if that is impossible: the body is not JSON, is not an
object, names no channel, has values that JSON does not have, is too deep or too large. A stub
holds the raw bytes; `replay` prepares them again with the code that is current then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError
from psycopg_pool import PoolTimeout

from channels_app.providers import engines
from channels_app.providers.base import EventSource
from messaging.inbound import neutral
from messaging.inbound.neutral import Unstorable
from messaging.media import embedded_files

log = structlog.get_logger(__name__)

# The database or the file storage is unreachable: nothing is wrong with the event.
STORAGE_ERRORS = (OperationalError, InterfaceError, PoolTimeout, OSError)

# Normalized JSON has at most ten times the length of its text: 1e39 becomes an integer.
SMALL_BYTES = neutral.MAX_CHARACTERS // 16
# A longer list is split into several rows.
MAX_ITEMS = 500
# Half of a row's limit: the rest of the event is repeated in each part.
MAX_CHARACTERS_OF_PART = neutral.MAX_CHARACTERS // 2


@dataclass(frozen=True, slots=True)
class Raw:
    """An event as received. Every repetition, by any transport, has the same `dedupe_key`."""

    source_key: str
    dedupe_key: str
    payload: Any


@dataclass(frozen=True, slots=True)
class Stub:
    """An event that could not be prepared: its raw bytes and the reason (`error`)."""

    source_key: str
    dedupe_key: str
    body: bytes
    error: str


Entry = Raw | Stub


@dataclass(frozen=True, slots=True)
class Arrival:
    """One payload received for a source key, or the error that prevented parsing it.

    `key_scope` distinguishes equal ids of two sessions that share a source key. `is_normal`: the
    payload needs no `neutral.normalize`.
    """

    source_key: str
    payload: Any
    _body: bytes | None = None
    key_scope: str = ""
    is_normal: bool = False

    @classmethod
    def from_body(cls, source_key: str, body: bytes) -> Arrival:
        """Create an arrival from a body, even from one that is not JSON."""
        try:
            payload = neutral.decode(body)
        except Unstorable as error:
            return cls(source_key, error, body)
        return cls(source_key, payload, body, is_normal=neutral.is_normal(body, payload))

    def part(self, source_key: str, payload: Any) -> Arrival:
        """Return a part of this arrival. It has its own bytes and therefore its own keys."""
        return replace(self, source_key=source_key, payload=payload, _body=None)

    @property
    def body(self) -> bytes:
        """The raw bytes. A socket library's object is encoded to equivalent bytes."""
        return neutral.encode(self.payload) if self._body is None else self._body

    @property
    def is_small(self) -> bool:
        """Whether the payload is certainly smaller than the largest row."""
        return self._body is not None and len(self._body) <= SMALL_BYTES


def split(source: str, arrival: Arrival) -> list[Arrival]:
    """Split an arrival into parts that fit into one row each.

    An Evolution event may contain a long list, such as the history of a newly linked phone. The
    split does not depend on the transport, so each part has the same key when it arrives again.
    """
    payload, events = arrival.payload, engines.event_source(source)
    name = events.list_field
    if not name or not isinstance(payload, Mapping) or not isinstance(payload.get(name), list):
        return [arrival]
    try:
        payload = _object(arrival)
    except Unstorable:
        return [arrival]
    if events.defect(payload):
        return [arrival]
    parts: list[list[Any]] = [[]]
    size = 0
    for item in payload[name]:
        length = neutral.characters(item)
        full = len(parts[-1]) >= MAX_ITEMS or size + length > MAX_CHARACTERS_OF_PART
        if parts[-1] and full:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += length
    if len(parts) == 1:
        return [arrival]
    return [arrival.part(arrival.source_key, {**payload, name: part}) for part in parts]


def prepare(source: str, arrival: Arrival) -> Entry:
    """Return what the journal stores for an arrival, and save its file to the storage.

    Raises one of STORAGE_ERRORS and nothing else: every arrival can be stored.
    """
    try:
        if isinstance(arrival.payload, Unstorable):
            raise arrival.payload
        return _raw(source, arrival)
    except STORAGE_ERRORS:
        raise
    except Unstorable as error:
        return stub(source, arrival, str(error))
    except Exception as error:
        log.exception("event could not be parsed", source=source)
        return stub(source, arrival, type(error).__name__)


def stub(source: str, arrival: Arrival, error: str) -> Stub:
    """Return the stub of an arrival. Equal bytes for the same source key give one stub."""
    return Stub(arrival.source_key, stub_key(source, arrival), arrival.body, error)


def stub_key(source: str, arrival: Arrival) -> str:
    """Return the journal's dedupe key of an arrival that is stored as a stub."""
    return f"unread:{source}:{arrival.source_key}:{hashlib.sha256(arrival.body).hexdigest()}"


def dedupe_key(source: str, source_key: str, payload: Any) -> str:
    """Return the journal's dedupe key of an event; it is equal for all transports."""
    arrival = Arrival(source_key, payload)
    events = engines.event_source(source)
    try:
        normalized = neutral.normalize(payload)
        if isinstance(normalized, dict):
            normalized = events.gather_file(normalized)
            size = neutral.characters(normalized)
            if size > neutral.MAX_CHARACTERS:
                _check_size(size - len(embedded_files.encoded(normalized, events.file_path)))
        return _key(events, arrival, normalized)
    except Unstorable:
        return stub_key(source, arrival)


def _raw(source: str, arrival: Arrival) -> Raw:
    events = engines.event_source(source)
    payload = events.gather_file(_object(arrival))
    if defect := events.defect(payload):
        raise Unstorable(defect)
    key = _key(events, arrival, payload)
    if arrival.is_small:
        remaining = embedded_files.extract(payload, events.file_path)
    else:
        remaining = _without_file(payload, events.file_path)
    return Raw(arrival.source_key, key, remaining)


def _key(events: EventSource, arrival: Arrival, payload: Any) -> str:
    """Return the dedupe key of a normalized event.

    It includes the channel, because two servers may use the same ids, and two apps may receive the
    same event, but each app may report other channels.
    """
    if events.dedupe_key is None:
        key = hashlib.sha256(arrival.body).hexdigest()
    else:
        key = events.dedupe_key(payload)
    prefix = f"{events.name}:" if events.key_prefix is None else events.key_prefix
    return f"{prefix}{arrival.source_key}:{arrival.key_scope}{key}"


def _object(arrival: Arrival) -> dict[str, Any]:
    payload = arrival.payload if arrival.is_normal else neutral.normalize(arrival.payload)
    if not isinstance(payload, dict):
        raise Unstorable("not_an_object")
    return payload


def _without_file(payload: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Extract the event's file. Raises Unstorable, without saving it, if the rest is too large."""
    size = neutral.characters(payload)
    if size > neutral.MAX_CHARACTERS:
        _check_size(size - len(embedded_files.encoded(payload, path)))
    remaining = embedded_files.extract(payload, path)
    if remaining is payload:
        _check_size(size)
    return remaining


def _check_size(size: int) -> None:
    if size > neutral.MAX_CHARACTERS:
        raise Unstorable("too_large", str(size))
