"""Choose the id that a reply quotes, for the connection that sends it. Pure.

One WhatsApp message has several ids. The Cloud API's is a wamid, which contains WhatsApp's own key
id (docs/providers/cloud.md §4.4); wwebjs-api and Baileys use that key id. A key id is valid only
for the WhatsApp account that took part in the chat: a reply by a fallback on another number quotes
nothing. If no id is certain, the reply is sent without a quote.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from channels_app.connections.linked_numbers import is_same_number
from channels_app.providers.base import Quote
from channels_app.providers.cloud.events import web_message_id
from channels_app.providers.message_keys import WAMID
from messaging.delivery.statuses import Route


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection to WhatsApp: the channel whose credentials it uses, and its number.

    `number` is digits only, "" if unknown.
    """

    channel: int
    route: str
    number: str = ""

    def is_same_account(self, other: Connection) -> bool:
        """Return whether both are certainly one WhatsApp account, and so share key ids."""
        if (self.channel, self.route) == (other.channel, other.route):
            return True
        return bool(
            is_same_number(self.number, other.number) or is_same_number(other.number, self.number)
        )


@dataclass(frozen=True, slots=True)
class KnownId:
    """An id of the quoted message, and the connection that reported it.

    `chat` is the chat in which WhatsApp Web shows it, "" if it was not reported.
    """

    value: str
    by: Connection
    chat: str = ""


def quote(ids: Iterable[KnownId], *, from_us: bool, by: Connection) -> Quote | None:
    """Return the quote for a reply sent by this connection; None if no id is certain.

    `from_us` is whether we wrote the quoted message.
    """
    usable = [
        candidate for candidate in ids if candidate.value and candidate.by.is_same_account(by)
    ]
    if by.route == Route.OFFICIAL:
        # The Cloud API rejects an id that it did not issue.
        wamids = (candidate.value for candidate in usable if candidate.value.startswith(WAMID))
        wamid = next(wamids, "")
        return Quote(wamid, from_us=from_us) if wamid else None
    # Prefer an id that the connection reported over one extracted from a wamid.
    for candidate in sorted(usable, key=lambda candidate: candidate.by != by):
        if key := key_id(candidate.value):
            return Quote(key, from_us=from_us, chat=candidate.chat)
    return None


def source_route(value: str, kind: str) -> str:
    """Return the route by which a channel of this kind reports an id like this."""
    if value.startswith(WAMID):
        return Route.OFFICIAL
    return Route.WWEBJS if kind == Route.OFFICIAL else kind


def key_id(value: str) -> str | None:
    """Return WhatsApp's own key id from a provider's message id, or None."""
    return web_message_id(value) if value.startswith(WAMID) else value or None
