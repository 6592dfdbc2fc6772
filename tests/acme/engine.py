"""The declaration of Acme."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from channels_app.providers.base import (
    Capabilities,
    ChannelKind,
    Engine,
    EventSource,
    NumberCache,
)
from channels_app.providers.events import EditEvent, MessageEvent, ReceiptEvent, RevokeEvent
from tests.acme import events
from tests.acme.client import TYPES, AcmeProvider
from tests.acme.credentials import credentials_of

if TYPE_CHECKING:
    from channels_app.models import Channel, Connection


def _create(connection: Connection, numbers: NumberCache) -> AcmeProvider:
    return AcmeProvider(credentials_of(connection.channel))


def _channel_key(channel: Channel) -> str:
    return credentials_of(channel).line


def _authenticate(channel: Channel, headers: Mapping[str, str], body: bytes) -> bool:
    key, given = credentials_of(channel).key, headers.get("x-acme-key", "")
    return bool(key) and hmac.compare_digest(key.encode(), given.encode())


def _reserve_id(type_: str, content: object) -> str:
    return f"ACME{secrets.token_hex(8)}" if type_ in TYPES else ""


ACME = Engine(
    name="acme",
    label="Acme",
    title="Acme",
    create=_create,
    capabilities=Capabilities(
        types=TYPES,
        reports=frozenset({EditEvent, MessageEvent, ReceiptEvent, RevokeEvent}),
        links_phone=True,
        lists_sent=True,
        finds_by_id=True,
    ),
    events=EventSource(
        name="acme",
        label="Acme",
        parse=events.parse,
        channel_key=_channel_key,
        dedupe_key=events.dedupe_key,
        redact=events.redact,
        authenticate=_authenticate,
    ),
    reserve_id=_reserve_id,
    channel=ChannelKind("Acme line", "A line at Acme. It can serve as a fallback."),
)
