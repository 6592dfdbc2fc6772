"""What floors above draw into a channel's card and page. They enter it here; see instances.apps.

A part is a function of the channel and of whether the person may change it; it returns HTML, or ""
where it has nothing to say of this channel. It asks the database for nothing that RELATED brings.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db.models import QuerySet
from django.utils.safestring import SafeString

from channels_app.models import Channel

Part = Callable[[Channel, bool], SafeString]

# "card": on the channel's card; "page": beside the form on the channel's page.
PARTS: dict[str, list[Part]] = {"card": [], "page": []}
# What the cards read of other rows.
RELATED: list[str] = ["fallback_channel"]


def channels() -> QuerySet[Channel]:
    """The channels with all that their cards show."""
    return Channel.objects.select_related(*RELATED)


def draw(place: str, channel: Channel, may_change: bool) -> list[SafeString]:
    """Return the parts of a place, in the order in which they were entered."""
    return [html for part in PARTS[place] if (html := part(channel, may_change))]
