"""The declaration of Meta's official Cloud API (docs/providers/cloud.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_lazy as _

from channels_app.providers.addresses import Kind
from channels_app.providers.base import (
    Capabilities,
    ChannelKind,
    Engine,
    EventSource,
    NumberCache,
    Setting,
)
from channels_app.providers.cloud import events
from channels_app.providers.cloud.client import OBJECT_TYPES, CloudProvider
from channels_app.providers.events import (
    AddressEvent,
    EditEvent,
    MessageEvent,
    ReactionEvent,
    ReceiptEvent,
    RevokeEvent,
)

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
        # An echo is a MessageEvent.
        reports=frozenset(
            {AddressEvent, EditEvent, MessageEvent, ReactionEvent, ReceiptEvent, RevokeEvent}
        ),
        marks_read=True,
        address_kinds=(Kind.USER_ID, Kind.PARENT_USER_ID),
    ),
    events=EventSource(
        name="cloud",
        label="Cloud API",
        parse=events.read,
        channel_key=_channel_key,
        # Its webhook has one URL for all channels and is signed: `inbound.authentication`.
        file_reference=_file_reference,
        exact_files=True,
    ),
    settings=(
        Setting("graph_url", "graph_url", required=True, label=_("Graph API URL")),
        Setting("graph_version", "graph_version", required=True, label=_("Graph API version")),
        Setting(
            "phone_number_id",
            "phone_number_id",
            required=True,
            label=_("Phone number ID"),
            help=_("In the Meta app, under WhatsApp, API setup."),
        ),
        Setting(
            "business_account_id", "business_account_id", label=_("WhatsApp Business account ID")
        ),
        Setting(
            "access_token",
            "access_token",
            required=True,
            label=_("Access token"),
            help=_(
                "For a system user with whatsapp_business_messaging, and"
                " whatsapp_business_management for templates."
            ),
        ),
        Setting(
            "app_secret",
            "app_secret",
            label=_("App secret"),
            help=_("Verifies that webhooks come from Meta. Without it, none are accepted."),
        ),
        Setting(
            "verify_token",
            "verify_token",
            label=_("Webhook verification token"),
            help=_("Any text of your choice; enter the same one at Meta."),
        ),
    ),
    channel=ChannelKind(_("Official (Cloud API)"), _("Meta's own API. It can have a fallback.")),
)
