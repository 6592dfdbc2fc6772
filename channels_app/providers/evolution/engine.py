"""The declaration of Evolution API with Baileys (docs/providers/evolution.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_lazy as _

from channels_app.providers import redaction
from channels_app.providers.addresses import Kind
from channels_app.providers.base import (
    Capabilities,
    ChannelKind,
    Engine,
    EventSource,
    NumberCache,
    Setting,
)
from channels_app.providers.events import (
    AddressEvent,
    CallEvent,
    ConnectionEvent,
    ContactEvent,
    EditEvent,
    GroupEvent,
    MessageEvent,
    QrEvent,
    ReactionEvent,
    ReceiptEvent,
    RevokeEvent,
    VoteEvent,
)
from channels_app.providers.evolution import events
from channels_app.providers.evolution.client import (
    FILE_TYPES,
    OBJECT_TYPES,
    EvolutionProvider,
    expresses,
    reserve_id,
)

if TYPE_CHECKING:
    from channels_app.models import Channel, Connection


def _create(connection: Connection, numbers: NumberCache) -> EvolutionProvider:
    return EvolutionProvider(
        connection.credentials, timeout=float(connection.channel.request_timeout_seconds)
    )


def _channel_key(channel: Channel) -> str:
    return str(channel.instance_name)


def _defect(payload: Mapping[str, Any]) -> str:
    instance = payload.get("instance")
    return "" if isinstance(instance, str) and instance else "no_instance"


def _file_reference(content: Mapping[str, Any]) -> dict[str, Any] | None:
    reference = content.get("evolution")
    key = reference.get("key") if isinstance(reference, Mapping) else None
    if not isinstance(key, Mapping):
        return None
    message: dict[str, Any] = {"key": dict(key)}
    if isinstance(url := content.get("media_url"), str):
        message["mediaUrl"] = url
    media_id, kind = content.get("id"), content.get("message_type")
    if media_id and isinstance(kind, str):
        # Meta's id: WHATSAPP-BUSINESS fetches by it and needs the other fields repeated (§3);
        # Baileys would take it for the whole message.
        inner = {"id": media_id, "mime_type": content.get("mime_type", "")}
        message |= {"messageType": kind, "message": {kind: inner}}
    return message


EVOLUTION = Engine(
    name="baileys",
    label="Baileys",
    title=_("Baileys channel"),
    create=_create,
    capabilities=Capabilities(
        types=frozenset({"text", *OBJECT_TYPES, *FILE_TYPES}),
        expresses=expresses,
        reports=frozenset(
            {
                AddressEvent,
                CallEvent,
                ConnectionEvent,
                ContactEvent,
                EditEvent,
                GroupEvent,
                MessageEvent,
                QrEvent,
                ReactionEvent,
                ReceiptEvent,
                RevokeEvent,
                VoteEvent,
            }
        ),
        links_phone=True,
        address_kinds=(Kind.LID, Kind.GROUP),
        lists_sent=True,
        marks_read=True,
        finds_by_id=True,
    ),
    events=EventSource(
        name="evolution",
        label="Evolution API",
        parse=events.read,
        channel_key=_channel_key,
        dedupe_key=events.dedupe_key,
        key_prefix="",
        redact=redaction.from_evolution,
        defect=_defect,
        file_path=("data", "message", "base64"),
        gather_file=events.gather_file,
        list_field="data",
        # Its webhook and sockets belong to `instances`.
        file_reference=_file_reference,
    ),
    reserve_id=reserve_id,
    settings=(
        Setting("evolution_url", "url", required=True, label=_("Evolution API URL")),
        Setting(
            "evolution_api_key",
            "api_key",
            required=True,
            label=_("Evolution API key"),
            help=_(
                "The server's own key (AUTHENTICATION_API_KEY) can create instances. An "
                "instance's key can only use that instance."
            ),
        ),
        Setting(
            "instance_name",
            "instance_name",
            required=True,
            label=_("Instance name"),
            help=_(
                "The name of an existing instance, or a new name: the instance is created when "
                "you connect."
            ),
        ),
    ),
    channel=ChannelKind(
        _("Baileys (Evolution API)"),
        _("A phone connected by QR code. It can serve as a fallback."),
    ),
)
