"""Selects the provider of a connection."""

from __future__ import annotations

from channels_app.connections.linked_numbers import UNCONFIRMED, UNKNOWN
from channels_app.models import (
    CloudCredentials,
    Connection,
    EvolutionCredentials,
    WwebjsCredentials,
)
from channels_app.models import Provider as ProviderName
from channels_app.number_cache import NumberCache
from channels_app.providers.base import (
    Accepted,
    ConnectionReport,
    OutboundMessage,
    Provider,
    Transient,
)
from channels_app.providers.cloud.client import CloudProvider
from channels_app.providers.error_codes import failure
from channels_app.providers.evolution.client import EvolutionProvider, reserve_id
from channels_app.providers.wwebjs.client import WwebjsProvider


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
    """Stands in for a connection whose linked phone is not known yet: it sends nothing."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def send(self, message: OutboundMessage) -> Accepted:
        """Raise Transient: the message can be sent once the number is known."""
        raise failure(Transient, UNKNOWN)

    def check(self) -> ConnectionReport:
        """Report the unknown number if the connection itself works."""
        report = self._provider.check()
        return ConnectionReport(False, UNKNOWN, "", report.details) if report.ok else report


def provider_for(connection: Connection) -> Provider:
    """Return the provider of a connection, with its credentials.

    If the settings are incomplete, or the linked number is unconfirmed or unknown, the returned
    provider refuses to send. Raises ValueError for an unknown provider.
    """
    timeout = float(connection.channel.request_timeout_seconds)
    if connection.provider == ProviderName.OFFICIAL:
        return CloudProvider(connection.channel.credentials(CloudCredentials), timeout=timeout)
    if connection.provider == ProviderName.WWEBJS:
        return _require_confirmed_number(wwebjs_provider(connection), connection)
    if connection.provider != ProviderName.BAILEYS:
        raise ValueError(f"no such provider: {connection.provider}")
    settings = connection.channel.credentials(EvolutionCredentials)
    return _require_confirmed_number(EvolutionProvider(settings, timeout=timeout), connection)


def wwebjs_provider(connection: Connection) -> WwebjsProvider:
    """Return the provider of an attached session, even if its number is unconfirmed."""
    return WwebjsProvider(
        connection.channel.credentials(WwebjsCredentials),
        timeout=float(connection.channel.request_timeout_seconds),
        numbers=NumberCache(connection),
    )


def reserved_id(connection: Connection, *, type_: str, content: object) -> str:
    """Return the ID to assign to a message, or "" if the provider does not let us choose one."""
    is_evolution = connection.provider == ProviderName.BAILEYS
    return reserve_id(type_, content) if is_evolution else ""


def _require_confirmed_number(provider: Provider, connection: Connection) -> Provider:
    if connection.is_number_unknown:
        return NumberUnknown(provider)
    number = connection.unconfirmed_number
    return NumberUnconfirmed(provider, number) if number else provider
