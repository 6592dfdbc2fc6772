"""What a live socket sends: one frame for each thing that a page shows and that changed.

A frame is `{"kind", "key", "version", "html", "sort"}`: the page puts `html` in the place of the
element that carries the key, unless it already shows that version or a newer one. `alarms` lists
all that are on. Others have a kind only: `reload`, `refresh` (read the figures anew).
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django.db.models import Q
from django.template.loader import render_to_string
from django.utils import timezone, translation

from channels_app import card_parts, incidents
from channels_app.models import Channel, Incident
from messaging import live, reading
from messaging.models import CallAttempt, Conversation, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

Frame = dict[str, Any]

# A transaction that was under way while the page was made commits after it: look a little further
# back than the page says.
OVERLAP = dt.timedelta(seconds=30)
# More changes than this are not sent one by one: the page is told to load itself anew.
MOST_CHANGES = 200


@dataclass(frozen=True)
class View:
    """One thing that a page's socket watches, and for whom. Its methods read the database.

    `value` is that of the query parameter which chose the view.
    """

    user: User | AnonymousUser
    language: str
    value: str

    permissions: ClassVar[tuple[str, ...]]

    @property
    def group(self) -> str:
        """The group of the channel layer that tells this view's changes."""
        raise NotImplementedError

    def exists(self) -> bool:
        """Whether there is what is to be watched."""
        return True

    def catch_up(self, since: dt.datetime) -> list[Frame]:
        """Return frames for all that changed since then."""
        raise NotImplementedError

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        """Return frames of the rows that changed, by kind, as they are now."""
        raise NotImplementedError

    def allowed(self) -> bool:
        """Whether this person may watch this."""
        user = self.user
        may = user.is_active and user.is_staff and user.has_perms(self.permissions)
        return may and self.exists()


class AlarmsView(View):
    """What does not work now and should, on whatever page the person is."""

    # Whoever writes to customers is to know; what an alarm says stands on the dashboard as well.
    any_permission = ("channels_app.view_channel", "messaging.view_message")
    permissions = ()
    group = live.ALARMS

    def allowed(self) -> bool:
        return any(map(self.user.has_perm, self.any_permission)) and super().allowed()

    def catch_up(self, since: dt.datetime) -> list[Frame]:
        return [self._frame()]

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        return [self._frame()] if changed.get("alarms") else []

    def _frame(self) -> Frame:
        """All of them: a page that missed one, or the end of one, is right after the next frame."""
        return {"kind": "alarms", "alarms": list(map(self._alarm, incidents.alarming()))}

    def _alarm(self, incident: Incident) -> dict[str, Any]:
        headline = incidents.headline(incident)
        context = {
            "incident": incident,
            "headline": headline,
            "may_open": self.user.has_perm("channels_app.view_channel"),
        }
        return {
            "id": incident.pk,
            "text": f"{incident.channel.name} · {headline}",
            "html": render_to_string("messaging/_alarm.html", context),
        }


class FiguresView(View):
    """Nothing but that something has changed: for pages that read their figures anew."""

    permissions = ("messaging.view_message",)
    group = live.INBOX

    def catch_up(self, since: dt.datetime) -> list[Frame]:
        changed = Message.objects.filter(updated_at__gte=since).exists()
        return [{"kind": "refresh"}] if changed else []

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        return [{"kind": "refresh"}] if self.concerns(changed) else []

    def concerns(self, changed: Mapping[str, Iterable[Any]]) -> bool:
        return bool(changed.get("conversations") or changed.get("channels"))


class TrailView(FiguresView):
    """That a message changed, of the conversation that the parameter names."""

    @property
    def group(self) -> str:  # type: ignore[override]
        return live.conversation_group(int(self.value))

    def concerns(self, changed: Mapping[str, Iterable[Any]]) -> bool:
        return bool(changed.get("messages"))


class InboxView(View):
    """The list of conversations. A row shows words of a message."""

    permissions = ("messaging.view_conversation", "messaging.view_message")
    group = live.INBOX

    def catch_up(self, since: dt.datetime) -> list[Frame]:
        written = Message.objects.filter(updated_at__gte=since).values("conversation_id")
        called = CallAttempt.objects.filter(updated_at__gte=since, incoming=True)
        touched = Conversation.objects.filter(
            Q(pk__in=written) | Q(pk__in=called.values("conversation_id"))
        )
        return self.frames({"conversations": touched.values_list("pk", flat=True)[:MOST_CHANGES]})

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        rows = reading.conversation_list().filter(pk__in=list(changed.get("conversations", ())))
        return [_conversation_frame(row) for row in reading.with_latest(list(rows))]


class ConversationView(View):
    """The messages of one conversation, and the calls."""

    permissions = ("messaging.view_conversation", "messaging.view_message")

    @property
    def group(self) -> str:
        return live.conversation_group(int(self.value))

    def exists(self) -> bool:
        return Conversation.objects.filter(pk=int(self.value)).exists()

    def catch_up(self, since: dt.datetime) -> list[Frame]:
        found = Message.objects.filter(conversation=int(self.value), updated_at__gte=since)
        ids = list(found.order_by("created_at").values_list("pk", flat=True)[: MOST_CHANGES + 1])
        if len(ids) > MOST_CHANGES:
            return [{"kind": "reload"}]
        calls = CallAttempt.objects.filter(conversation=int(self.value), updated_at__gte=since)
        return self.frames({"messages": ids, "calls": calls.values_list("pk", flat=True)})

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        found = reading.messages().filter(pk__in=list(changed.get("messages", ())))
        may_retry = self.user.has_perm("messaging.change_message")
        frames = [
            _message_frame(message, may_retry) for message in found.order_by("created_at", "id")
        ]
        if calls := list(changed.get("calls", ())):
            frames += map(_call_frame, reading.calls().filter(pk__in=calls))
        return frames


class ChannelsView(View):
    """The cards of all channels, or of the one that the parameter names."""

    permissions = ("channels_app.view_channel",)
    group = live.CHANNELS

    def catch_up(self, since: dt.datetime) -> list[Frame]:
        return self.frames({"channels": Channel.objects.values_list("pk", flat=True)})

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        found = card_parts.channels().filter(pk__in=list(changed.get("channels", ())))
        may_change = self.user.has_perm("channels_app.change_channel")
        return [_channel_frame(channel, may_change) for channel in found]


class ChannelView(ChannelsView):
    def exists(self) -> bool:
        return Channel.objects.filter(pk=int(self.value)).exists()

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        own = {int(self.value)} & set(changed.get("channels", ()))
        return super().frames({**changed, "channels": own})


# The query parameter that asks for each view; floors above add theirs.
VIEWS: dict[str, type[View]] = {
    "alarms": AlarmsView,
    "figures": FiguresView,
    "trail": TrailView,
    "inbox": InboxView,
    "conversation": ConversationView,
    "channel": ChannelView,
    "channels": ChannelsView,
}


def views_of(query: Mapping[str, Sequence[str]], **who: Any) -> list[View]:
    """Return the views that a socket's query asks for: a page has one socket for all of them.

    Raises ValueError for a value that cannot be, and where none is asked for.
    """
    found = [
        view(value=query[parameter][0], **who)
        for parameter, view in VIEWS.items()
        if parameter in query
    ]
    for view in found:
        view.group  # noqa: B018 (raises ValueError where the value is no number)
    if not found:
        raise ValueError("nothing to watch")
    return found


def allowed(views: Iterable[View]) -> bool:
    """Whether this person may watch all of these."""
    return all(view.allowed() for view in views)


def catch_up(views: Iterable[View], since: dt.datetime | None) -> list[Frame]:
    """Return frames for all that changed since the page was made, or was last told something."""
    found: list[Frame] = []
    for view in views:
        with translation.override(view.language):
            found += view.catch_up((since or timezone.now()) - OVERLAP)
    return found


def frames(views: Iterable[View], changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
    """Return the frames of these rows as they are now, in the language of the views."""
    found: list[Frame] = []
    for view in views:
        with translation.override(view.language):
            found += view.frames(changed)
    return found


def _message_frame(message: Message, may_retry: bool) -> Frame:
    context = {"message": message, "may_retry": may_retry}
    return {
        "kind": "message",
        "key": f"message:{message.pk}",
        "version": message.version,
        "sort": message.created_at.isoformat(),
        "html": render_to_string("messaging/_message.html", context),
    }


def _call_frame(call: CallAttempt) -> Frame:
    return {
        "kind": "call",
        "key": f"call:{call.pk}",
        "version": call.version,
        "sort": call.created_at.isoformat(),
        "html": render_to_string("messaging/_call.html", {"call": call}),
    }


def _conversation_frame(conversation: Conversation) -> Frame:
    moved = conversation.last_message_at or conversation.created_at
    return {
        "kind": "conversation",
        "key": f"conversation:{conversation.pk}",
        "version": now_ms(),
        "sort": moved.isoformat(),
        "html": render_to_string(
            "messaging/_conversation_row.html", {"conversation": conversation}
        ),
    }


def _channel_frame(channel: Channel, may_change: bool) -> Frame:
    context = {"channel": channel, "may_change": may_change}
    return {
        "kind": "channel",
        "key": f"channel:{channel.pk}",
        "version": now_ms(),
        "sort": channel.name,
        "html": render_to_string("channels_app/_card.html", context),
    }


def now_ms() -> int:
    """A version for what has none of its own: later frames win."""
    return int(time.time() * 1000)
