"""Which id a reply quotes, for the connection that it goes out by. Pure.

One WhatsApp message has several ids. The Cloud API's is a wamid, which carries WhatsApp's own key
id (contracts/cloud-api.md §4.4); wwebjs-api and Baileys know messages by that key id. A key id
means something only to the WhatsApp account that took part in the chat: a reply by a fallback on
another number quotes nothing. Where no id is certain, the reply goes out without a quote.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from channels_app.connections.linked_numbers import is_same_number
from channels_app.providers.base import Quote
from channels_app.providers.cloud.events import web_message_id
from messaging.delivery.statuses import Route

WAMID = "wamid."


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection to WhatsApp: the channel whose credentials it uses, and its number.

    `number` is digits only, "" where it is not known.
    """

    channel: int
    route: Route
    number: str = ""

    def is_same_account(self, other: Connection) -> bool:
        """Whether both are certainly one WhatsApp account, and so know the same key ids."""
        if (self.channel, self.route) == (other.channel, other.route):
            return True
        return bool(
            is_same_number(self.number, other.number) or is_same_number(other.number, self.number)
        )


@dataclass(frozen=True, slots=True)
class KnownId:
    """An id of the quoted message, and the connection that named it.

    `chat` is the chat in which WhatsApp Web shows it, "" where that was not told.
    """

    value: str
    by: Connection
    chat: str = ""


def quote(ids: Iterable[KnownId], *, from_us: bool, by: Connection) -> Quote | None:
    """Return what a reply that goes out by this connection quotes; None where it cannot be told.

    `from_us` says who wrote the quoted message.
    """
    usable = [known for known in ids if known.value and known.by.is_same_account(by)]
    if by.route == Route.OFFICIAL:
        # The Cloud API refuses an id that it did not give out.
        wamids = (known.value for known in usable if known.value.startswith(WAMID))
        wamid = next(wamids, "")
        return Quote(wamid, from_us=from_us) if wamid else None
    # An id that the connection gave itself comes before one that is taken out of a wamid.
    for known in sorted(usable, key=lambda known: known.by != by):
        if key := key_id(known.value):
            return Quote(key, from_us=from_us, chat=known.chat)
    return None


def source_route(value: str, kind: str) -> Route:
    """Return the connection of a channel of this kind that names a message like this."""
    if value.startswith(WAMID):
        return Route.OFFICIAL
    return Route.WWEBJS if kind == "official" else Route.BAILEYS


def key_id(value: str) -> str | None:
    """Return WhatsApp's own key id from any provider's id of a message, None without one."""
    return web_message_id(value) if value.startswith(WAMID) else value or None
