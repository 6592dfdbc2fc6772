"""Which provider sends for a channel by which route."""

from __future__ import annotations

from channels_app.connections.linked_numbers import UNCONFIRMED, UNKNOWN
from channels_app.models import Channel
from channels_app.providers.base import (
    Accepted,
    ConnectionReport,
    OutboundMessage,
    Provider,
    Rejected,
    Transient,
)
from channels_app.providers.cloud.client import CloudProvider
from channels_app.providers.error_codes import failure
from channels_app.providers.evolution.client import EvolutionProvider, reserve_id
from channels_app.providers.wwebjs.client import WwebjsProvider


class NotConfigured:
    """Stands in for a connection that has no settings: refuses every message."""

    def send(self, message: OutboundMessage) -> Accepted:
        """Raises Rejected."""
        raise failure(Rejected, "not_configured")

    def check(self) -> ConnectionReport:
        """Say so."""
        return ConnectionReport(False, "not_configured")


class NumberUnconfirmed:
    """Stands in for a connection whose linked phone nobody has confirmed: it sends nothing."""

    def __init__(self, provider: Provider, number: str) -> None:
        self._provider = provider
        self._number = f"+{number}"

    def send(self, message: OutboundMessage) -> Accepted:
        """Raises Transient: nothing was sent, and it may be once a person confirms the number."""
        raise failure(Transient, UNCONFIRMED, self._number)

    def check(self) -> ConnectionReport:
        """Say so where the connection itself works."""
        report = self._provider.check()
        if not report.ok:
            return report
        return ConnectionReport(False, UNCONFIRMED, self._number, report.details)


class NumberUnknown:
    """Stands in for a connection of which it is not known yet which phone is linked."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def send(self, message: OutboundMessage) -> Accepted:
        """Raises Transient: nothing was sent, and it may be once the number is known."""
        raise failure(Transient, UNKNOWN)

    def check(self) -> ConnectionReport:
        """Say so where the connection itself works."""
        report = self._provider.check()
        return ConnectionReport(False, UNKNOWN, "", report.details) if report.ok else report


def provider_for(channel: Channel, *, route: str) -> Provider:
    """Return the provider that sends by a route with the credentials that belong to it.

    `baileys` uses a Baileys channel itself, or the one that an official channel names as its
    fallback. A channel that lacks settings gets a provider that refuses to send, and so does one
    whose linked phone has a number that nobody confirmed or that is not known. Raises ValueError
    for a route that does not exist.
    """
    if route == "official":
        return CloudProvider(channel)
    if route == "wwebjs":
        return _by_confirmed_number(WwebjsProvider(channel), channel)
    if route != "baileys":
        raise ValueError(f"no such route: {route}")
    sender = channel if channel.kind == Channel.Kind.BAILEYS else channel.fallback_channel
    if sender is None:
        return NotConfigured()
    return _by_confirmed_number(EvolutionProvider(sender), sender)


def reserved_id(*, route: str, type_: str, content: object) -> str:
    """Return the id that a message is to have, "" where the route does not let us choose one."""
    return reserve_id(type_, content) if route == "baileys" else ""


def _by_confirmed_number(provider: Provider, channel: Channel) -> Provider:
    if channel.is_number_unknown:
        return NumberUnknown(provider)
    number = channel.unconfirmed_number
    return NumberUnconfirmed(provider, number) if number else provider
