"""Registry of page parts that higher layers render for a channel; see instances.apps.

A part returns HTML, or "" if it has nothing to show for this channel. It runs no query for the
relations in RELATED.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from django.db.models import OuterRef, Prefetch, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils.safestring import SafeString

from channels_app.models import Channel, Connection, FallbackRoute

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

# On the channel's card: called with the channel, and whether the person may change it.
CARD: list[Callable[[Channel, bool], SafeString]] = []
# Beside the form on the channel's page: called with the channel and a person who may view it.
PAGE: list[Callable[[Channel, User | AnonymousUser], SafeString]] = []
# On the channel's line of the dashboard, which is a link: text only.
LINE: list[Callable[[Channel], SafeString]] = []
# The relations that the parts read of the channel and of the Baileys channels it falls back to.
RELATED: list[str] = []


def channels() -> QuerySet[Channel]:
    """Return the channels with all data that their cards and lines show.

    `also_linked` is the name of another channel that has the same phone linked.
    """
    mine = Connection.objects.filter(channel=OuterRef(OuterRef("pk"))).exclude(linked_number="")
    same = Connection.objects.filter(linked_number__in=mine.values("linked_number"))
    other = same.exclude(channel=OuterRef("pk")).order_by("channel__name")
    also = Coalesce(Subquery(other.values("channel__name")[:1]), Value(""))
    connections = Connection.objects.select_related("new_chats_lifted_by")
    sender = "connection__channel"
    shown = (*RELATED, "evolution")
    routes = FallbackRoute.objects.select_related(*(f"{sender}__{name}" for name in shown))
    return (
        Channel.objects.select_related(*shown, "wwebjs_api")
        .prefetch_related(
            Prefetch("connections", connections),
            Prefetch(
                "fallback_routes",
                routes.prefetch_related(Prefetch(f"{sender}__connections", connections)),
            ),
        )
        .annotate(also_linked=also)
    )
