"""Calls through Wavoip: whose key a call goes by, and the address of the page that makes it. Pure.

Wavoip's page runs in the browser of whoever calls, so that person's browser learns the key. The
link is therefore made for one click, and never stands in a page, a log or an answer of the API.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from channels_app.models import Channel

# The deep link that public products use (contracts/cloud-api.md §6.2); Wavoip documents none.
ORIGIN = "https://app.wavoip.com"


def caller_of(channel: Channel) -> Channel | None:
    """Return the channel by whose key the contacts of `channel` are called, None without one.

    The Baileys channel of its fallback comes first, then the channel itself. Nobody calls by a
    channel that is not active. Reads `fallback_channel`.
    """
    if not channel.active:
        return None
    other = channel.fallback_channel if channel.fallback == Channel.Fallback.BAILEYS else None
    for candidate in (other, channel):
        if candidate is not None and candidate.active and _tokens(candidate):
            return candidate
    return None


def link(channel: Channel, *, phone_number: str, name: str) -> str:
    """Return the address at which Wavoip calls `phone_number` by the key of `channel`.

    `phone_number` is E.164. A key may be several device tokens, separated by commas.
    """
    query = {
        "token": ",".join(_tokens(channel)),
        "phone": phone_number.removeprefix("+"),
        "name": name or phone_number,
        "start_if_ready": "true",
        "close_after_call": "true",
    }
    return f"{ORIGIN}/call?{urlencode(query, safe=',', quote_via=quote)}"


def _tokens(channel: Channel) -> list[str]:
    return [token for part in channel.calls_api_key.split(",") if (token := part.strip())]
