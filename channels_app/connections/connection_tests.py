"""Tests a channel's connections and stores the results."""

from __future__ import annotations

import re
from dataclasses import replace

from channels_app import queue
from channels_app.connections.registry import provider_for
from channels_app.incidents import reason_text
from channels_app.models import Channel, Connection, Provider
from channels_app.providers.base import ConnectionReport
from channels_app.signals import session_changed


def test_connection(channel: Channel) -> list[tuple[str, ConnectionReport]]:
    """Test the channel's primary route and its fallbacks. Never raises.

    Returns one (label, report) each, the primary route first, in the active language. The result is
    stored as the channel's health, which covers the primary route; its detail also names failing
    fallbacks. The health of a Baileys channel that serves as fallback is stored on that channel. It
    also stores what Meta reports about the number: coexistence, which limits its throughput, and
    the number itself if the channel has none. It uses the network: do not call it inside a
    transaction.
    """
    label, report, stored = _test_primary(channel)
    results = [(label, report)]
    for fallback in channel.fallback_connections:
        other = provider_for(fallback).check()
        side = f"{reason_text.SIDE}{fallback.provider}"
        results.append((reason_text.describe_side(side), other))
        reason = reason_text.encode_reason(other.code, other.detail)
        if not other.ok:
            stored.append(f"{side}|{reason}")
        if fallback.is_primary:
            fallback.record_health(ok=other.ok, detail=reason)
    _record(channel.primary, ok=report.ok, stored=stored)
    return results


def test_primary_route(channel_id: int) -> None:
    """Test a channel's primary route and store the result; its fallback is monitored separately.

    Never raises. It uses the network: do not call it inside a transaction.
    """
    channel = Channel.objects.filter(pk=channel_id).first()
    if channel is not None:
        _, report, stored = _test_primary(channel)
        _record(channel.primary, ok=report.ok, stored=stored)


def enqueue_test_if_changed(channel: Channel, before: Channel | None) -> None:
    """Enqueue a test of an official channel with new credentials. In a transaction.

    A channel without a phone number is tested, too: the test determines it.
    """
    if channel.kind != Provider.OFFICIAL or not channel.access_token:
        return
    is_new = before is None or channel.differs_from(before, channel.primary_settings)
    if is_new or not channel.phone_number:
        queue.enqueue_test(channel.pk)


# pytest must not collect these functions as tests where they are imported.
test_connection.__test__ = False  # type: ignore[attr-defined]
test_primary_route.__test__ = False  # type: ignore[attr-defined]


def _test_primary(channel: Channel) -> tuple[str, ConnectionReport, list[str]]:
    """Return the connection's label, the report, and its stored form, one reason per item."""
    connection = channel.primary
    report = provider_for(connection).check()
    stored = [reason_text.encode_reason(report.code, report.detail)]
    if report.ok and (answer := report.details.get("coexistence")):
        known = {"yes": True, "no": False}.get(answer)
        Connection.objects.filter(pk=connection.pk).update(coexistence=known)
    number = _international(report.details.get("display_phone_number", "")) if report.ok else ""
    without_number = Channel.objects.filter(pk=channel.pk, phone_number="")
    if number and without_number.update(phone_number=number):
        report = replace(report, details={**report.details, "filled_in": number})
        stored.append("number_filled_in")
    return str(channel.get_kind_display()), report, stored


def _record(connection: Connection, *, ok: bool, stored: list[str]) -> None:
    connection.record_health(ok=ok, detail="\n".join(stored))
    session_changed.send(sender=Connection, channel=connection.channel)


def _international(displayed: str) -> str:
    """Return `+5511900000001` for "+55 11 90000-0001" (docs/providers/cloud.md §4.6), or ""."""
    digits = re.sub(r"\D", "", displayed)
    return f"+{digits}" if 7 <= len(digits) <= 15 else ""
