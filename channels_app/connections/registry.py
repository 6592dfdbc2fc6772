"""Selects the provider that sends for a channel on a given route."""

from __future__ import annotations

from channels_app import number_cache
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
    """Stands in for a connection without settings: rejects every message."""

    def send(self, message: OutboundMessage) -> Accepted:
        """Always raise Rejected."""
        raise failure(Rejected, "not_configured")

    def check(self) -> ConnectionReport:
        """Report that the connection is not configured."""
        return ConnectionReport(False, "not_configured")


class NumberUnconfirmed:
    """Stands in for a connection whose linked number is unconfirmed: it sends nothing."""

    def __init__(self, provider: Provider, number: str) -> None:
        self._provider = provider
        self._number = f"+{number}"

    def send(self, message: OutboundMessage) -> Accepted:
        """Raise Transient: the message can be sent once a person confirms the number."""
        raise failure(Transient, UNCONFIRMED, self._number)

    def check(self) -> ConnectionReport:
        """Report the unconfirmed number if the connection itself works."""
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
    """Return the provider for a route, with the credentials of that route.

    `baileys` uses a Baileys channel itself, or the fallback channel of an official channel. If the
    settings are incomplete, or the linked number is unconfirmed or unknown, the returned provider
    refuses to send. Raises ValueError for an unknown route.
    """
    if route == "official":
        return CloudProvider(channel)
    if route == "wwebjs":
        return _require_confirmed_number(wwebjs_provider(channel), channel)
    if route != "baileys":
        raise ValueError(f"no such route: {route}")
    sender = channel if channel.kind == Channel.Kind.BAILEYS else channel.fallback_channel
    if sender is None:
        return NotConfigured()
    return _require_confirmed_number(EvolutionProvider(sender), sender)


def wwebjs_provider(channel: Channel) -> WwebjsProvider:
    """Return the provider of a channel's attached session, even if its number is unconfirmed."""
    return WwebjsProvider(channel, numbers=number_cache)


def reserved_id(*, route: str, type_: str, content: object) -> str:
    """Return the ID to assign to a message, or "" if the route does not let us choose one."""
    return reserve_id(type_, content) if route == "baileys" else ""


def _require_confirmed_number(provider: Provider, channel: Channel) -> Provider:
    if channel.is_number_unknown:
        return NumberUnknown(provider)
    number = channel.unconfirmed_number
    return NumberUnconfirmed(provider, number) if number else provider
