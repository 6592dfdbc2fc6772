"""Testing a channel: asks each provider that it uses, and keeps what was found."""

from __future__ import annotations

from django.utils.translation import gettext as _

from channels_app import session_words
from channels_app.models import Channel
from channels_app.providers.base import ConnectionReport
from channels_app.providers.registry import provider_for


def test_connection(channel: Channel) -> list[tuple[str, ConnectionReport]]:
    """Ask the channel's own provider and its fallback whether they work now. Never raises.

    Returns one (label, report) each, the channel's own first, in the active language. The result
    is stored as the channel's health: it says whether the channel's own way works, its detail
    also names a fallback that does not. A Baileys channel that serves as the fallback gets its
    own health stored on itself. Whether the number is in coexistence is kept as well: that limits
    its throughput. It asks the network: not to be called inside of a transaction.
    """
    label, route = _own(channel)
    report = provider_for(channel, route=route).check()
    if report.ok and (told := report.details.get("coexistence")):
        Channel.objects.filter(pk=channel.pk).update(coexistence=told == "yes")
    found = [(label, report)]
    stored = [session_words.kept(report.code, report.told)]
    fallback = _fallback(channel)
    if fallback is not None:
        label, route = fallback
        other = provider_for(channel, route=route).check()
        found.append((label, other))
        of_it = session_words.kept(other.code, other.told)
        if not other.ok:
            stored.append(f"fallback_{route}|{of_it}")
        if route == "baileys" and channel.fallback_channel is not None:
            channel.fallback_channel.record_health(ok=other.ok, detail=of_it)
    channel.record_health(ok=report.ok, detail="\n".join(stored))
    return found


# The name is the service's; pytest must not take it for a test where it is imported.
test_connection.__test__ = False  # type: ignore[attr-defined]


def _own(channel: Channel) -> tuple[str, str]:
    if channel.kind == Channel.Kind.BAILEYS:
        return _("Baileys (Evolution API)"), "baileys"
    return _("Official (Cloud API)"), "official"


def _fallback(channel: Channel) -> tuple[str, str] | None:
    if channel.fallback == Channel.Fallback.WWEBJS:
        return str(session_words.SIDES["fallback_wwebjs"]), "wwebjs"
    if channel.fallback == Channel.Fallback.BAILEYS:
        return str(session_words.SIDES["fallback_baileys"]), "baileys"
    return None
