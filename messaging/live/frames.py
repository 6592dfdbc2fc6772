"""What a live socket sends: one frame for each thing that a page shows and that changed.

A frame is `{"kind", "key", "version", "html", "sort"}`: the page puts `html` in the place of the
element that carries the key, unless it already shows that version or a newer one. `alarms` lists
all that are on. Others have a kind only: `reload`, `refresh` (read the figures anew).

A push may get lost, so a socket looks again and again for what changed. `Told` keeps what it told
lately: nothing is told twice for that.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from django.db.models import Max, QuerySet
from django.template.loader import render_to_string
from django.utils import timezone, translation

from channels_app import extensions
from channels_app.incidents import incidents
from channels_app.models import Channel, Incident
from messaging import selectors
from messaging.live import publisher
from messaging.models import CallAttempt, Conversation, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

Frame = dict[str, Any]

# A transaction that was under way while the page was made commits after it: look a little further
# back than the page says.
OVERLAP = dt.timedelta(seconds=30)
# More changes than this are not sent one by one: the page is told to load itself anew.
MOST_CHANGES = 200
# Frames of these kinds carry the version of their row; other versions are times.
ROW_VERSIONED = ("message", "call")


class Told:
    """What a socket told its page lately, so that looking for what was lost repeats nothing.

    A look goes back only so far (`OVERLAP`). What one does not find any more is forgotten.
    """

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._found: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._known)

    def knows(self, key: str, stamp: Any) -> bool:
        """Whether the page was told this; from now on it was."""
        self._found[key] = stamp
        return key in self._known and bool(self._known[key] == stamp)

    def differs(self, key: str, stamp: Any) -> bool:
        """Whether it is another than at the last look; False at the first."""
        self._found[key] = stamp
        return bool(self._known.get(key, stamp) != stamp)

    def news(self, frames: Iterable[Frame]) -> list[Frame]:
        """Return what is new of what a look found. This ends the look."""
        new = [
            frame
            for frame in frames
            if frame["kind"] in ("refresh", "reload") or not self.knows(*_stamped(frame))
        ]
        self._known, self._found = self._found, {}
        return new

    def note(self, frames: Iterable[Frame]) -> None:
        """Remember what was told without a look."""
        self._known.update(_stamped(frame) for frame in frames)


def _stamped(frame: Frame) -> tuple[str, Any]:
    key = str(frame.get("key", frame["kind"]))
    if frame["kind"] in ROW_VERSIONED:
        return key, frame["version"]
    # Where the version is a time, the words tell whether there is anything new.
    words = re.sub(r'data-version="\d+"', "", str(frame.get("html", frame.get("alarms"))))
    return key, hash(words)


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

    def catch_up(self, since: dt.datetime, told: Told) -> list[Frame]:
        """Return frames for all that changed since then; what was told may be left out."""
        raise NotImplementedError

    def newest(self, told: Told) -> list[Frame]:
        """Return frames for who does not say as of when they are right."""
        return self.catch_up(timezone.now() - OVERLAP, told)

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        """Return frames of the rows that changed, by kind, as they are now."""
        raise NotImplementedError

    def permitted(self) -> bool:
        """Whether this person has the rights to watch this."""
        user = self.user
        return user.is_active and user.is_staff and user.has_perms(self.permissions)


class AlarmsView(View):
    """What does not work now and should, on whatever page the person is."""

    # Whoever writes to customers is to know; what an alarm says stands on the dashboard as well.
    any_permission = ("channels_app.view_channel", "messaging.view_message")
    permissions = ()
    group = publisher.ALARMS

    def permitted(self) -> bool:
        return any(map(self.user.has_perm, self.any_permission)) and super().permitted()

    def catch_up(self, since: dt.datetime, told: Told) -> list[Frame]:
        return [self._frame()]

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        return [self._frame()] if changed.get("alarms") else []

    def _frame(self) -> Frame:
        """All of them: a page that missed one, or the end of one, is right after the next frame."""
        return {"kind": "alarms", "alarms": list(map(self._alarm, incidents.alertable()))}

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


class StatsView(View):
    """Nothing but that something has changed: for pages that read their figures anew."""

    permissions = ("messaging.view_message",)
    group = publisher.INBOX

    def catch_up(self, since: dt.datetime, told: Told) -> list[Frame]:
        latest = self.watched().filter(updated_at__gte=since).aggregate(at=Max("updated_at"))["at"]
        news = bool(latest) and not told.knows(f"{self.group} latest", latest)
        return [{"kind": "refresh"}] if self.others_changed(told) or news else []

    def watched(self) -> QuerySet[Message]:
        return Message.objects.all()

    def others_changed(self, told: Told) -> bool:
        """Whether the channels are in another state than at the last look."""
        states = Channel.objects.order_by("pk").values_list(
            "pk", "active", "health", "wwebjs_state", "breaker_opened_at",
            "wwebjs_breaker_opened_at", "new_chats_stopped_until", "updated_at",
        )  # fmt: skip
        return told.differs("channels", tuple(states))

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        return [{"kind": "refresh"}] if self.concerns(changed) else []

    def concerns(self, changed: Mapping[str, Iterable[Any]]) -> bool:
        return bool(changed.get("conversations") or changed.get("channels"))


class AttemptHistoryView(StatsView):
    """That a message changed, of the conversation that the parameter names."""

    @property
    def group(self) -> str:  # type: ignore[override]
        return publisher.conversation_group(int(self.value))

    def watched(self) -> QuerySet[Message]:
        return Message.objects.filter(conversation=int(self.value))

    def others_changed(self, told: Told) -> bool:
        return False

    def concerns(self, changed: Mapping[str, Iterable[Any]]) -> bool:
        return bool(changed.get("messages"))


class InboxView(View):
    """The list of conversations. A row shows words of a message."""

    permissions = ("messaging.view_conversation", "messaging.view_message")
    group = publisher.INBOX

    def catch_up(self, since: dt.datetime, told: Told) -> list[Frame]:
        written = Message.objects.filter(updated_at__gte=since)
        called = CallAttempt.objects.filter(updated_at__gte=since, incoming=True)
        # Asked for one by one: each has an index, and both at once would read all conversations.
        touched = {
            id_
            for rows in (written, called)
            for id_ in rows.order_by().values_list("conversation_id", flat=True).distinct()
        }
        return self.frames({"conversations": touched})

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        found = selectors.conversation_list().filter(pk__in=list(changed.get("conversations", ())))
        rows = found[:MOST_CHANGES]  # the latest; no page shows as many
        return [_conversation_frame(row) for row in selectors.with_latest(list(rows))]


class ConversationView(View):
    """The messages of one conversation, and the calls."""

    permissions = ("messaging.view_conversation", "messaging.view_message")

    @property
    def group(self) -> str:
        return publisher.conversation_group(int(self.value))

    def exists(self) -> bool:
        return Conversation.objects.filter(pk=int(self.value)).exists()

    def catch_up(self, since: dt.datetime, told: Told) -> list[Frame]:
        found = Message.objects.filter(conversation=int(self.value), updated_at__gte=since)
        rows = found.order_by("created_at", "id").values_list("pk", "version")
        ids = [
            pk
            for pk, version in rows[: MOST_CHANGES + 1 + len(told)]
            if not told.knows(f"message:{pk}", version)
        ]
        if len(ids) > MOST_CHANGES:
            return [{"kind": "reload"}]
        calls = CallAttempt.objects.filter(conversation=int(self.value), updated_at__gte=since)
        return self.frames({"messages": ids, "calls": calls.values_list("pk", flat=True)})

    def newest(self, told: Told) -> list[Frame]:
        page = selectors.message_page(Conversation(pk=int(self.value)))
        messages = [message.pk for message in page.messages]
        return self.frames({"messages": messages, "calls": [call.pk for call in page.calls]})

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        found = selectors.messages().filter(pk__in=list(changed.get("messages", ())))
        may_retry = self.user.has_perm("messaging.change_message")
        frames = [
            _message_frame(message, may_retry) for message in found.order_by("created_at", "id")
        ]
        if calls := list(changed.get("calls", ())):
            frames += map(_call_frame, selectors.calls().filter(pk__in=calls))
        return frames


class ChannelsView(View):
    """The cards of all channels, or of the one that the parameter names."""

    permissions = ("channels_app.view_channel",)
    group = publisher.CHANNELS

    def catch_up(self, since: dt.datetime, told: Told) -> list[Frame]:
        return self.frames({"channels": Channel.objects.values_list("pk", flat=True)})

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        found = extensions.channels().filter(pk__in=list(changed.get("channels", ())))
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
    "figures": StatsView,
    "trail": AttemptHistoryView,
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
    """Whether there is all of this, and this person may watch it."""
    return all(view.permitted() and view.exists() for view in views)


def for_user(views: Iterable[View], user: User | AnonymousUser) -> list[View] | None:
    """Return the views with this person's rights as they are now, or None where one is lacking."""
    own = [replace(view, user=user) for view in views]
    return own if all(view.permitted() for view in own) else None


def catch_up(
    views: Iterable[View], since: dt.datetime | None, told: Told | None = None
) -> list[Frame]:
    """Return frames for all that changed since the page was right, but for what it was told.

    None: the page does not say since when; of a conversation it then gets the newest messages.
    """
    told = Told() if told is None else told
    found: list[Frame] = []
    for view in views:
        with translation.override(view.language):
            found += view.newest(told) if since is None else view.catch_up(since - OVERLAP, told)
    return told.news(found)


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
