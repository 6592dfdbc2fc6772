"""The declaration of Meta's official Cloud API (docs/providers/cloud.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_lazy as _

from channels_app.providers.base import Capabilities, Engine, EventSource, NumberCache
from channels_app.providers.cloud import events
from channels_app.providers.cloud.client import OBJECT_TYPES, CloudProvider
from channels_app.providers.events import MessageEvent, ReceiptEvent

if TYPE_CHECKING:
    from channels_app.models import Channel, Connection


def _create(connection: Connection, numbers: NumberCache) -> CloudProvider:
    return CloudProvider(
        connection.credentials, timeout=float(connection.channel.request_timeout_seconds)
    )


def _channel_key(channel: Channel) -> str:
    return str(channel.phone_number_id)


def _file_reference(content: Mapping[str, Any]) -> str | None:
    media_id = content.get("id")
    return media_id if isinstance(media_id, str) and media_id else None


CLOUD = Engine(
    name="official",
    label=_("official API"),
    title=_("Official (Cloud API)"),
    create=_create,
    capabilities=Capabilities(
        types=OBJECT_TYPES | {"text"},
        # Meta reports neither edits nor deletions (§3); an echo is a MessageEvent.
        reports=frozenset({MessageEvent, ReceiptEvent}),
    ),
    events=EventSource(
        name="cloud",
        label="Cloud API",
        parse=events.read,
        channel_key=_channel_key,
        # Its webhook has one URL for all channels and is signed: `inbound.authentication`.
        file_reference=_file_reference,
    ),
)
