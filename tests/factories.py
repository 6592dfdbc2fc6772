"""Rows for tests, made as the product makes them."""

from __future__ import annotations

import re
from typing import Any

from channels_app.channels import save_channel
from channels_app.models import (
    Channel,
    CloudCredentials,
    Connection,
    EvolutionCredentials,
    Provider,
)
from channels_app.providers.cloud.client import CloudProvider
from channels_app.providers.evolution.client import EvolutionProvider


def create_channel(**fields: Any) -> Channel:
    """Create a channel with its connections, as the form and REST do."""
    return save_channel(Channel(**fields))


def change_channel(channel: Channel, **fields: Any) -> Channel:
    """Change settings of a stored channel as the form and REST do."""
    for name, value in fields.items():
        setattr(channel, name, value)
    return save_channel(channel)


def link_phones(channel: Channel) -> None:
    """Store that the server reported a phone with the channel's number for each session it has."""
    connections = channel.connections.exclude(provider=Provider.OFFICIAL)
    connections.update(linked_number=re.sub(r"\D", "", channel.phone_number))
    channel.forget_connections()


def update_connection(channel: Channel, provider: str = "", **fields: Any) -> Connection:
    """Store observations of a channel's connection, by default of its own one; return it."""
    connection = Connection.objects.stored(channel, provider or channel.kind)
    Connection.objects.filter(pk=connection.pk).update(**fields)
    connection.refresh_from_db()
    channel.forget_connections()
    return connection


def cloud_provider(channel: Channel) -> CloudProvider:
    """Return the provider of an official channel, which need not be stored."""
    settings = channel.credentials(CloudCredentials)
    return CloudProvider(settings, timeout=channel.request_timeout_seconds)


def evolution_provider(channel: Channel) -> EvolutionProvider:
    """Return the provider of a Baileys channel, which need not be stored."""
    settings = channel.credentials(EvolutionCredentials)
    return EvolutionProvider(settings, timeout=channel.request_timeout_seconds)
