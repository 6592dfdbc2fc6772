"""Which routes can reach a customer, and why others cannot, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from channels_app.providers import engines, error_codes
from messaging import contacts
from messaging.contacts import GIVEN_UP
from messaging.delivery.statuses import Route
from messaging.models import Conversation


@dataclass(frozen=True, slots=True)
class Reachability:
    """Whether the official API, and any other route of the channel, has an address to send to.

    `why` says in the active language what is missing; "" if nothing is.
    """

    official: bool
    fallback: bool
    why: str = ""

    @property
    def any(self) -> bool:
        """Whether any route can reach the customer."""
        return self.official or self.fallback


def of(conversation: Conversation) -> Reachability:
    """Return which of the channel's routes can reach the customer. No query if they have a number.

    The state of the connections does not matter: a message waits for those.
    """
    channel = conversation.channel
    others = [
        route
        for route in (channel.kind, *(row.kind for row in channel.fallbacks))
        if route != Route.OFFICIAL
    ]
    has_official = channel.kind == Route.OFFICIAL
    if conversation.contact.address_given_up:
        return Reachability(False, False, str(error_codes.title_for(GIVEN_UP)))
    if conversation.contact.phone_number:
        return Reachability(has_official, bool(others))
    stored = list(conversation.contact.addresses.all())
    official = has_official and bool(contacts.pick_address(stored, channel, Route.OFFICIAL))
    reachable = [route for route in others if contacts.pick_address(stored, channel, route)]
    return Reachability(official, bool(reachable), _why(official, others, reachable, has_official))


def _why(official: bool, others: list[str], reachable: list[str], has_official: bool) -> str:
    missing = [route for route in others if route not in reachable]
    if official:
        if not missing:
            return ""
        return _(
            "The customer's phone number is hidden: only the official API can reach them, no"
            " fallback."
        )
    if not reachable:
        return _("This channel has no address of this customer that it can send to.")
    if has_official:
        return _(
            "The official API does not know this customer: messages are sent by %(route)s."
        ) % {"route": engines.label(reachable[0])}
    return ""
