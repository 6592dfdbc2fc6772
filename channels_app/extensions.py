"""What floors above draw about a channel. They enter it here; see instances.apps.

A part returns HTML, or "" where it has nothing to say of this channel. It asks the database for
nothing that RELATED brings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils.safestring import SafeString

from channels_app.models import Channel

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

# On the channel's card: of the channel, and of whether the person may change it.
CARD: list[Callable[[Channel, bool], SafeString]] = []
# Beside the form on the channel's page: of the channel and of the person, who may see the channel.
PAGE: list[Callable[[Channel, User | AnonymousUser], SafeString]] = []
# On the channel's line of the dashboard, which is a link: text only.
LINE: list[Callable[[Channel], SafeString]] = []
# What the parts read of other rows.
RELATED: list[str] = ["fallback_channel", "new_chats_lifted_by"]


def channels() -> QuerySet[Channel]:
    """The channels with all that their cards and lines show.

    `also_linked` is the name of another one that has the same phone linked.
    """
    same = Channel.objects.filter(linked_number=OuterRef("linked_number"))
    other = same.exclude(linked_number="").exclude(pk=OuterRef("pk")).order_by("name")
    also = Coalesce(Subquery(other.values("name")[:1]), Value(""))
    return Channel.objects.select_related(*RELATED).annotate(also_linked=also)
