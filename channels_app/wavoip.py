"""Calls through Wavoip: which channel's key a call uses, and the URL that starts it. Pure.

Wavoip's page runs in the caller's browser, which therefore receives the key. The link is created
for one click and is never part of a page, a log or an API response.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from channels_app.models import Channel

# The deep link that public products use (docs/providers/cloud.md §6.2); Wavoip documents none.
ORIGIN = "https://app.wavoip.com"


def caller_of(channel: Channel) -> Channel | None:
    """Return the channel whose key is used to call the contacts of `channel`, or None.

    The Baileys channels of its fallbacks take precedence, in their order, over the channel itself.
    Inactive channels are never used.
    """
    if not channel.active:
        return None
    for candidate in (*(fallback.channel for fallback in channel.fallbacks), channel):
        if candidate is not None and candidate.active and _tokens(candidate):
            return candidate
    return None


def link(channel: Channel, *, phone_number: str, name: str) -> str:
    """Return the URL that calls `phone_number` through Wavoip with the key of `channel`.

    `phone_number` is E.164. A key may consist of several device tokens, separated by commas.
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
