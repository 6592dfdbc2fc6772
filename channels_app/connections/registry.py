"""Selects the provider of a connection."""

from __future__ import annotations

from channels_app.connections.linked_numbers import UNCONFIRMED, UNKNOWN
from channels_app.models import Connection
from channels_app.number_cache import NumberCache
from channels_app.providers import engines
from channels_app.providers.base import (
    Accepted,
    ConnectionReport,
    OutboundMessage,
    Provider,
    Transient,
)
from channels_app.providers.error_codes import failure


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
    provider = unguarded(connection)
    if not engines.by_name(connection.provider).capabilities.links_phone:
        return provider
    return _require_confirmed_number(provider, connection)


def unguarded(connection: Connection) -> Provider:
    """Return the provider of a connection, even if its number is unconfirmed or unknown.

    Raises ValueError for an unknown provider.
    """
    engine = engines.by_name(connection.provider)
    return engine.create(connection, NumberCache(connection))


def _require_confirmed_number(provider: Provider, connection: Connection) -> Provider:
    if connection.is_number_unknown:
        return NumberUnknown(provider)
    number = connection.unconfirmed_number
    return NumberUnconfirmed(provider, number) if number else provider
