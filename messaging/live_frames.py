"""What a live socket sends: one frame for each thing that a page shows and that changed.

A frame is `{"kind", "key", "version", "html", "sort"}`: the page puts `html` in the place of the
element that carries the key, unless it already shows that version or a newer one.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.template.loader import render_to_string
from django.utils import timezone, translation

from channels_app.models import Channel
from messaging import live, reading
from messaging.models import Conversation, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

Frame = dict[str, Any]

# A transaction that was under way while the page was made commits after it: look a little further
# back than the page says.
OVERLAP = dt.timedelta(seconds=30)
# More changes than this are not sent one by one: the page is told to load itself anew.
MOST_CHANGES = 200


@dataclass(frozen=True, slots=True)
class View:
    """What one socket watches, and for whom."""

    user: User | AnonymousUser
    language: str
    conversation: int | None = None
    channel: int | None = None
    channels: bool = False

    @property
    def groups(self) -> list[str]:
        if self.conversation is not None:
            return [live.conversation_group(self.conversation)]
        if self.channels or self.channel is not None:
            return [live.CHANNELS]
        return [live.INBOX]

    def allowed(self) -> bool:
        """Whether this person may watch this. Reads the database."""
        app = (
            "channels_app.view_channel"
            if live.CHANNELS in self.groups
            else "messaging.view_message"
        )
        if not (self.user.is_active and self.user.is_staff and self.user.has_perm(app)):
            return False
        if self.conversation is not None:
            return Conversation.objects.filter(pk=self.conversation).exists()
        return self.channel is None or Channel.objects.filter(pk=self.channel).exists()


def catch_up(view: View, since: dt.datetime | None) -> list[Frame]:
    """Return frames for all that changed since the page was made, or was last told something."""
    since = (since or timezone.now()) - OVERLAP
    if view.conversation is not None:
        changed = Message.objects.filter(conversation=view.conversation, updated_at__gte=since)
        ids = list(changed.order_by("created_at").values_list("pk", flat=True)[: MOST_CHANGES + 1])
        if len(ids) > MOST_CHANGES:
            return [{"kind": "reload"}]
        return frames(view, messages={str(pk) for pk in ids})
    if live.CHANNELS in view.groups:
        return frames(view, channels=set(Channel.objects.values_list("pk", flat=True)))
    touched = Conversation.objects.filter(messages__updated_at__gte=since).distinct()
    return frames(view, conversations=set(touched.values_list("pk", flat=True)[:MOST_CHANGES]))


def frames(
    view: View,
    *,
    messages: Iterable[str] = (),
    conversations: Iterable[int] = (),
    channels: Iterable[int] = (),
) -> list[Frame]:
    """Return the frames of these rows as they are now, in the language of the view."""
    with translation.override(view.language):
        if view.conversation is not None:
            return [_message_frame(view, message) for message in _messages(messages)]
        if live.CHANNELS in view.groups:
            wanted = set(channels) if view.channel is None else {view.channel} & set(channels)
            found = Channel.objects.select_related("fallback_channel").filter(pk__in=wanted)
            return [_channel_frame(view, channel) for channel in found]
        rows = reading.conversation_list().filter(pk__in=list(conversations))
        return [_conversation_frame(row) for row in reading.with_latest(list(rows))]


def _messages(ids: Iterable[str]) -> list[Message]:
    return list(reading.messages().filter(pk__in=list(ids)).order_by("created_at", "id"))


def _message_frame(view: View, message: Message) -> Frame:
    context = {"message": message, "may_retry": view.user.has_perm("messaging.change_message")}
    return {
        "kind": "message",
        "key": f"message:{message.pk}",
        "version": message.version,
        "sort": message.created_at.isoformat(),
        "html": render_to_string("messaging/_message.html", context),
    }


def _conversation_frame(conversation: Conversation) -> Frame:
    moved = conversation.last_message_at or conversation.created_at
    return {
        "kind": "conversation",
        "key": f"conversation:{conversation.pk}",
        "version": _now_ms(),
        "sort": moved.isoformat(),
        "html": render_to_string(
            "messaging/_conversation_row.html", {"conversation": conversation}
        ),
    }


def _channel_frame(view: View, channel: Channel) -> Frame:
    context = {"channel": channel, "may_change": view.user.has_perm("channels_app.change_channel")}
    return {
        "kind": "channel",
        "key": f"channel:{channel.pk}",
        "version": _now_ms(),
        "sort": channel.name,
        "html": render_to_string("channels_app/_card.html", context),
    }


def _now_ms() -> int:
    return int(time.time() * 1000)
