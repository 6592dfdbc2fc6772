"""The declaration of wwebjs-api (docs/providers/wwebjs.md)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _

from channels_app.providers import redaction
from channels_app.providers.addresses import Kind
from channels_app.providers.base import Capabilities, Engine, EventSource, NumberCache, Setting
from channels_app.providers.events import (
    EditEvent,
    MediaEvent,
    MessageEvent,
    ReactionEvent,
    ReceiptEvent,
    RevokeEvent,
    SessionEvent,
    VoteEvent,
)
from channels_app.providers.wwebjs import events
from channels_app.providers.wwebjs.client import FILE_TYPES, WwebjsProvider, expresses

if TYPE_CHECKING:
    from channels_app.models import Channel, Connection


def _create(connection: Connection, numbers: NumberCache) -> WwebjsProvider:
    return WwebjsProvider(
        connection.credentials,
        timeout=float(connection.channel.request_timeout_seconds),
        numbers=numbers,
    )


def _channel_key(channel: Channel) -> str:
    return str(channel.wwebjs_session_id)


def default_session(channel: Channel) -> str:
    """Return the name of the channel's session if none was entered."""
    return f"alterna-{channel.phone_number_id or slugify(channel.name)}"[:64]


def _dedupe_key(payload: Any) -> str:
    return events.dedupe_key(payload, arrival=uuid.uuid4().hex)


def _file_reference(content: Mapping[str, Any]) -> dict[str, str] | None:
    reference = content.get("wwebjs")
    return dict(reference) if isinstance(reference, Mapping) and reference else None


WWEBJS = Engine(
    name="wwebjs",
    label="wwebjs",
    title=_("wwebjs-api"),
    create=_create,
    capabilities=Capabilities(
        types=frozenset({"text", "location", "contacts", "reaction", *FILE_TYPES}),
        expresses=expresses,
        reports=frozenset(
            {
                EditEvent,
                MediaEvent,
                MessageEvent,
                ReactionEvent,
                ReceiptEvent,
                RevokeEvent,
                SessionEvent,
                VoteEvent,
            }
        ),
        links_phone=True,
        address_kinds=(Kind.LID,),
        may_omit_id=True,
        lists_sent=True,
        marks_read=True,
        looks_up_numbers=True,
    ),
    events=EventSource(
        name="wwebjs",
        label="wwebjs-api",
        parse=events.read,
        channel_key=_channel_key,
        dedupe_key=_dedupe_key,
        redact=redaction.from_wwebjs,
        file_path=("data", "messageMedia", "data"),
        file_reference=_file_reference,
        # It sends the file in a callback of its own.
        file_wait_seconds=20,
        # A server posts the callbacks of all its sessions to one URL: `inbound.authentication`.
    ),
    settings=(
        Setting(
            "wwebjs_url",
            "url",
            required=True,
            help=_("On the same server: http://127.0.0.1:port. Otherwise: http://ip:port."),
        ),
        Setting(
            "wwebjs_api_key",
            "api_key",
            required=True,
            help=_("The key that the API was started with."),
        ),
        Setting(
            "wwebjs_session_id",
            "session_id",
            help=_("If empty, Alterna chooses one."),
            default=default_session,
        ),
    ),
)
