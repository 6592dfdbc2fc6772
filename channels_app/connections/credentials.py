"""Tests a channel's connections and stores the results."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext as _

from channels_app import queue
from channels_app.connections.registry import provider_for
from channels_app.incidents import reason_text
from channels_app.models import Channel
from channels_app.providers.base import ConnectionReport
from channels_app.signals import session_changed


def test_connection(channel: Channel) -> list[tuple[str, ConnectionReport]]:
    """Test the channel's primary route and its fallback. Never raises.

    Returns one (label, report) each, the primary route first, in the active language. The result is
    stored as the channel's health, which covers the primary route; its detail also names a failing
    fallback. The health of a Baileys channel that serves as fallback is stored on that channel. It
    also stores what Meta reports about the number: coexistence, which limits its throughput, and
    the number itself if the channel has none. It uses the network: do not call it inside a
    transaction.
    """
    label, report, stored = _test_primary(channel)
    results = [(label, report)]
    fallback = _fallback(channel)
    if fallback is not None:
        label, route = fallback
        other = provider_for(channel, route=route).check()
        results.append((label, other))
        reason = reason_text.encode_reason(other.code, other.told)
        if not other.ok:
            stored.append(f"fallback_{route}|{reason}")
        if route == "baileys" and channel.fallback_channel is not None:
            channel.fallback_channel.record_health(ok=other.ok, detail=reason)
    _record(channel, ok=report.ok, stored=stored)
    return results


def test_primary_route(channel_id: int) -> None:
    """Test a channel's primary route and store the result; its fallback is monitored separately.

    Never raises. It uses the network: do not call it inside a transaction.
    """
    channel = Channel.objects.filter(pk=channel_id).first()
    if channel is not None:
        _, report, stored = _test_primary(channel)
        _record(channel, ok=report.ok, stored=stored)


def channel_saved(sender: type[Channel], instance: Channel, **kwargs: Any) -> None:
    """Signal receiver: enqueue a test of an official channel with new credentials.

    A channel without a phone number is tested, too: the test determines it.
    """
    can_be_tested = instance.kind == Channel.Kind.OFFICIAL and instance.access_token
    if can_be_tested and (instance.has_changed(Channel.CREDENTIALS) or not instance.phone_number):
        queue.enqueue_test(instance.pk)


# pytest must not collect these functions as tests where they are imported.
test_connection.__test__ = False  # type: ignore[attr-defined]
test_primary_route.__test__ = False  # type: ignore[attr-defined]


def _test_primary(channel: Channel) -> tuple[str, ConnectionReport, list[str]]:
    """Return the route's label, the report, and its stored form, one reason per item."""
    label, route = _primary(channel)
    report = provider_for(channel, route=route).check()
    stored = [reason_text.encode_reason(report.code, report.told)]
    if report.ok and (answer := report.details.get("coexistence")):
        known = {"yes": True, "no": False}.get(answer)
        Channel.objects.filter(pk=channel.pk).update(coexistence=known)
    number = _international(report.details.get("display_phone_number", "")) if report.ok else ""
    without_number = Channel.objects.filter(pk=channel.pk, phone_number="")
    if number and without_number.update(phone_number=number):
        report = replace(report, details={**report.details, "filled_in": number})
        stored.append("number_filled_in")
    return label, report, stored


def _record(channel: Channel, *, ok: bool, stored: list[str]) -> None:
    channel.record_health(ok=ok, detail="\n".join(stored))
    session_changed.send(sender=Channel, channel=channel)


def _international(displayed: str) -> str:
    """Return `+5511900000001` for "+55 11 90000-0001" (docs/providers/cloud.md §4.6), or ""."""
    digits = re.sub(r"\D", "", displayed)
    return f"+{digits}" if 7 <= len(digits) <= 15 else ""


def _primary(channel: Channel) -> tuple[str, str]:
    if channel.kind == Channel.Kind.BAILEYS:
        return _("Baileys (Evolution API)"), "baileys"
    return _("Official (Cloud API)"), "official"


def _fallback(channel: Channel) -> tuple[str, str] | None:
    if channel.fallback == Channel.Fallback.WWEBJS:
        return str(reason_text.SIDES["fallback_wwebjs"]), "wwebjs"
    if channel.fallback == Channel.Fallback.BAILEYS:
        return str(reason_text.SIDES["fallback_baileys"]), "baileys"
    return None
