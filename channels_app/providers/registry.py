"""Which provider sends for a channel by which route."""

from __future__ import annotations

from channels_app.models import Channel
from channels_app.providers.base import (
    Accepted,
    ConnectionReport,
    OutboundMessage,
    Provider,
    Rejected,
)
from channels_app.providers.cloud import CloudProvider
from channels_app.providers.cloud_errors import failure
from channels_app.providers.evolution import EvolutionProvider
from channels_app.providers.wwebjs import WwebjsProvider


class NotConfigured:
    """Stands in for a connection that has no settings: refuses every message."""

    def send(self, message: OutboundMessage) -> Accepted:
        """Raises Rejected."""
        raise failure(Rejected, "not_configured")

    def check(self) -> ConnectionReport:
        """Say so."""
        return ConnectionReport(False, "not_configured")


def provider_for(channel: Channel, *, route: str) -> Provider:
    """Return the provider that sends by a route with the credentials that belong to it.

    `baileys` uses a Baileys channel itself, or the one that an official channel names as its
    fallback. A channel that lacks settings gets a provider that refuses to send. Raises
    ValueError for a route that does not exist.
    """
    if route == "official":
        return CloudProvider(channel)
    if route == "wwebjs":
        return WwebjsProvider(channel)
    if route != "baileys":
        raise ValueError(f"no such route: {route}")
    sender = channel if channel.kind == Channel.Kind.BAILEYS else channel.fallback_channel
    return EvolutionProvider(sender) if sender is not None else NotConfigured()
