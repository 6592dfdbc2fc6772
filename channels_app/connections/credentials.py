"""Testing a channel: asks each provider that it uses, and keeps what was found."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext as _

from channels_app import tasks
from channels_app.incidents import reason_text
from channels_app.models import Channel
from channels_app.providers.base import ConnectionReport
from channels_app.providers.registry import provider_for
from channels_app.signals import session_changed


def test_connection(channel: Channel) -> list[tuple[str, ConnectionReport]]:
    """Ask the channel's own provider and its fallback whether they work now. Never raises.

    Returns one (label, report) each, the channel's own first, in the active language. The result
    is stored as the channel's health: it says whether the channel's own way works, its detail
    also names a fallback that does not. A Baileys channel that serves as the fallback gets its
    own health stored on itself. What Meta says about the number is kept as well: whether it is in
    coexistence, which limits its throughput, and the number itself where the channel has none. It
    asks the network: not to be called inside of a transaction.
    """
    label, report, stored = _test_own(channel)
    found = [(label, report)]
    fallback = _fallback(channel)
    if fallback is not None:
        label, route = fallback
        other = provider_for(channel, route=route).check()
        found.append((label, other))
        of_it = reason_text.encode_reason(other.code, other.told)
        if not other.ok:
            stored.append(f"fallback_{route}|{of_it}")
        if route == "baileys" and channel.fallback_channel is not None:
            channel.fallback_channel.record_health(ok=other.ok, detail=of_it)
    _record(channel, ok=report.ok, stored=stored)
    return found


def test_own_way(channel_id: int) -> None:
    """Test a channel's own way and keep the result; its fallback has a care of its own.

    Never raises. It asks the network: not to be called inside of a transaction.
    """
    channel = Channel.objects.filter(pk=channel_id).first()
    if channel is not None:
        _, report, stored = _test_own(channel)
        _record(channel, ok=report.ok, stored=stored)


def channel_saved(sender: type[Channel], instance: Channel, **kwargs: Any) -> None:
    """Signal receiver: new credentials of an official channel are tried at once, by a job.

    So is one whose number is not known: the test finds it out.
    """
    can_be_tried = instance.kind == Channel.Kind.OFFICIAL and instance.access_token
    if can_be_tried and (instance.has_changed(Channel.CREDENTIALS) or not instance.phone_number):
        tasks.enqueue_test(instance.pk)


# The names are the service's; pytest must not take them for tests where they are imported.
test_connection.__test__ = False  # type: ignore[attr-defined]
test_own_way.__test__ = False  # type: ignore[attr-defined]


def _test_own(channel: Channel) -> tuple[str, ConnectionReport, list[str]]:
    """Return the way's name, what was found, and that as it is stored, a reason each."""
    label, route = _own(channel)
    report = provider_for(channel, route=route).check()
    stored = [reason_text.encode_reason(report.code, report.told)]
    if report.ok and (answer := report.details.get("coexistence")):
        known = {"yes": True, "no": False}.get(answer)
        Channel.objects.filter(pk=channel.pk).update(coexistence=known)
    number = _international(report.details.get("display_phone_number", "")) if report.ok else ""
    unknown = Channel.objects.filter(pk=channel.pk, phone_number="")
    if number and unknown.update(phone_number=number):
        report = replace(report, details={**report.details, "filled_in": number})
        stored.append("number_filled_in")
    return label, report, stored


def _record(channel: Channel, *, ok: bool, stored: list[str]) -> None:
    channel.record_health(ok=ok, detail="\n".join(stored))
    session_changed.send(sender=Channel, channel=channel)


def _international(displayed: str) -> str:
    """`+5511900000001` for "+55 11 90000-0001" (contracts/cloud-api.md §4.6); "" for no number."""
    digits = re.sub(r"\D", "", displayed)
    return f"+{digits}" if 7 <= len(digits) <= 15 else ""


def _own(channel: Channel) -> tuple[str, str]:
    if channel.kind == Channel.Kind.BAILEYS:
        return _("Baileys (Evolution API)"), "baileys"
    return _("Official (Cloud API)"), "official"


def _fallback(channel: Channel) -> tuple[str, str] | None:
    if channel.fallback == Channel.Fallback.WWEBJS:
        return str(reason_text.SIDES["fallback_wwebjs"]), "wwebjs"
    if channel.fallback == Channel.Fallback.BAILEYS:
        return str(reason_text.SIDES["fallback_baileys"]), "baileys"
    return None
