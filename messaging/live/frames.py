"""Build the frames of a live socket: one for each changed element that a page shows.

A frame is `{"kind", "key", "version", "html", "sort"}`: the page replaces the element that has the
key with `html`, unless it already shows that version or a newer one. `alarms` lists all open
alerts. A `work` or `note` frame has also `data`, for programs: who works on a conversation, its
status and labels; a private note. A `message` frame of an answer says `by` whom. Other frames have
a kind only: `reload`, and `refresh` (load the figures again). `presence` frames: see `presence`.

A push may get lost, so the changes are also polled periodically. `SentFrames` records what was sent
recently, so that polling sends nothing twice.

Frames depend on the view, its language and its user's permissions only: pages that agree in these
receive the same frames, which are built once (`View.audience`).
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from django.db.models import Max, OuterRef, QuerySet, Subquery
from django.template.loader import render_to_string
from django.utils import timezone, translation

from accounts import people
from channels_app import extensions
from channels_app.incidents import incidents
from channels_app.models import Channel, Connection, Incident
from messaging import display, selectors
from messaging.inbox import notes
from messaging.live import publisher
from messaging.models import CallAttempt, Conversation, Message, Note

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

Frame = dict[str, Any]

# A transaction that was open while the page was rendered commits later: query changes from a
# little earlier than the page's time.
OVERLAP = dt.timedelta(seconds=30)
# If there are more changes, the page is reloaded instead.
MAX_CHANGES = 200
# A page counts at most this many unread conversations.
MAX_UNREAD = 500
MAX_PREVIEW = 200
# Frames of these kinds carry the version of their row; other versions are times.
ROW_VERSIONED = ("message", "call", "note")


class SentFrames:
    """What was sent to a page recently, so that polling for lost pushes repeats nothing.

    A poll covers the recent past only (`OVERLAP`). What it no longer returns is dropped.
    """

    def __init__(self) -> None:
        self._sent: dict[str, Any] = {}
        self._current: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def copy(self) -> SentFrames:
        copied = SentFrames()
        copied._sent = dict(self._sent)
        return copied

    def is_sent(self, key: str, stamp: Any) -> bool:
        """Return whether this was sent, and record it as sent."""
        self._current[key] = stamp
        return key in self._sent and bool(self._sent[key] == stamp)

    def differs(self, key: str, stamp: Any) -> bool:
        """Return whether the stamp differs from the previous poll; False in the first one."""
        self._current[key] = stamp
        return bool(self._sent.get(key, stamp) != stamp)

    def finish_poll(self, frames: Iterable[Frame]) -> list[Frame]:
        """End a poll: return those of its frames that were not sent yet."""
        new = [
            frame
            for frame in frames
            if frame["kind"] in ("refresh", "reload") or not self.is_sent(*_stamped(frame))
        ]
        self._sent, self._current = self._current, {}
        return new

    def record(self, frames: Iterable[Frame]) -> None:
        """Record frames that were sent outside a poll."""
        self._sent.update(_stamped(frame) for frame in frames)


def _stamped(frame: Frame) -> tuple[str, Any]:
    key = str(frame.get("key", frame["kind"]))
    if frame["kind"] in ROW_VERSIONED:
        return key, frame["version"]
    # If the version is a time, the content shows whether anything changed.
    shown = [frame.get(name) for name in ("html", "alarms", "data")]
    content = re.sub(r'data-version="\d+"', "", str(shown))
    return key, hash(content)


@dataclass(frozen=True)
class View:
    """Something that a page's socket watches for a user. Its methods read the database.

    `value` is the value of the query parameter that selected the view. Of the user, a view may use
    the permissions only.
    """

    user: User | AnonymousUser
    language: str
    value: str

    permissions: ClassVar[tuple[str, ...]]

    @property
    def group(self) -> str:
        """The group whose changes concern this view (see `publisher`)."""
        raise NotImplementedError

    @cached_property
    def audience(self) -> Hashable:
        """Equal for views whose frames are equal. The first access may read the database."""
        return type(self), self.value, self.language, rights(self.user)

    def exists(self) -> bool:
        """Return whether the watched object exists."""
        return True

    def catch_up(self, since: dt.datetime, sent: SentFrames) -> list[Frame]:
        """Return frames for everything that changed since then; sent ones may be omitted."""
        raise NotImplementedError

    @classmethod
    def values_changed(cls, values: set[str], since: dt.datetime) -> set[str]:
        """Return those of these values for which `catch_up` may find a change since then.

        A view that can have many values answers for all of them in few queries.
        """
        return values

    def newest(self, sent: SentFrames) -> list[Frame]:
        """Return the initial frames for a page that gives no time."""
        return self.catch_up(timezone.now() - OVERLAP, sent)

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        """Return frames with the current data of the changed rows, given by kind."""
        raise NotImplementedError

    def permitted(self) -> bool:
        """Return whether the user has the permissions for this view."""
        user = self.user
        return user.is_active and user.is_staff and user.has_perms(self.permissions)


class AlertsView(View):
    """The open alerts, shown on every page."""

    # Everyone who writes to customers sees alerts; the dashboard has the same information.
    any_permission = ("channels_app.view_channel", "messaging.view_message")
    permissions = ()
    group = publisher.ALERTS

    def permitted(self) -> bool:
        return any(map(self.user.has_perm, self.any_permission)) and super().permitted()

    def catch_up(self, since: dt.datetime, sent: SentFrames) -> list[Frame]:
        return [self._frame()]

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        return [self._frame()] if changed.get("alarms") else []

    def _frame(self) -> Frame:
        """Return all alerts, so that a page that missed a change is corrected by the next frame."""
        return {"kind": "alarms", "alarms": list(map(self._alert, incidents.alert_lines()))}

    def _alert(self, incident: Incident) -> dict[str, Any]:
        headline = incidents.headline(incident)
        context = {
            "incident": incident,
            "headline": headline,
            "may_open": self.user.has_perm("channels_app.view_channel"),
        }
        return {
            "id": incident.pk,
            "text": f"{incident.channel.name} · {headline}",
            # Several with the same are one line.
            "group": f"{incident.kind}:{incident.reason}",
            "headline": headline,
            "html": render_to_string("messaging/_alarm.html", context),
        }


class StatsView(View):
    """Reports only that something changed, for pages that then load their figures again."""

    permissions = ("messaging.view_message",)
    group = publisher.INBOX

    def catch_up(self, since: dt.datetime, sent: SentFrames) -> list[Frame]:
        latest = self.watched().filter(updated_at__gte=since).aggregate(at=Max("updated_at"))["at"]
        is_new = bool(latest) and not sent.is_sent(f"{self.group} latest", latest)
        return [{"kind": "refresh"}] if self.channels_changed(sent) or is_new else []

    def watched(self) -> QuerySet[Message]:
        return Message.objects.all()

    def channels_changed(self, sent: SentFrames) -> bool:
        """Return whether the state of the channels has changed since the previous poll."""
        channels = Channel.objects.order_by("pk").values_list("pk", "active", "updated_at")
        connections = Connection.objects.order_by("pk").values_list(
            "pk", "health", "state", "breaker_opened_at", "new_chats_stopped_until"
        )
        return sent.differs("channels", (*channels, *connections))

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        return [{"kind": "refresh"}] if self.concerns(changed) else []

    def concerns(self, changed: Mapping[str, Iterable[Any]]) -> bool:
        return bool(changed.get("conversations") or changed.get("channels"))


def _conversations_changed(values: set[str], since: dt.datetime) -> set[str]:
    """Return those of these conversations of which a message or call changed since then."""
    ids = {value: int(value) for value in values}
    changed: set[int] = set()
    for model in (Message, CallAttempt):
        found = model._default_manager.filter(conversation__in=ids.values(), updated_at__gte=since)
        changed.update(found.order_by().values_list("conversation_id", flat=True).distinct())
    return {value for value, pk in ids.items() if pk in changed}


def _time_lines_changed(values: set[str], since: dt.datetime) -> set[str]:
    """Return those of these conversations of which anything changed since then."""
    touched = Conversation.objects.filter(
        pk__in=[int(value) for value in values], changed_at__gte=since
    )
    ids = map(str, touched.order_by().values_list("pk", flat=True))
    return _conversations_changed(values, since) | (set(ids) & values)


class AttemptHistoryView(StatsView):
    """Reports that a message of the conversation in the parameter changed."""

    values_changed = staticmethod(_conversations_changed)

    @property
    def group(self) -> str:  # type: ignore[override]
        return publisher.conversation_group(int(self.value))

    def watched(self) -> QuerySet[Message]:
        return Message.objects.filter(conversation=int(self.value))

    def channels_changed(self, sent: SentFrames) -> bool:
        return False

    def concerns(self, changed: Mapping[str, Iterable[Any]]) -> bool:
        return bool(changed.get("messages"))


class InboxView(View):
    """The list of conversations. A row shows text of a message."""

    permissions = ("messaging.view_conversation", "messaging.view_message")
    group = publisher.INBOX

    def catch_up(self, since: dt.datetime, sent: SentFrames) -> list[Frame]:
        written = Message.objects.filter(updated_at__gte=since)
        called = CallAttempt.objects.filter(updated_at__gte=since, incoming=True)
        assigned = Conversation.objects.filter(changed_at__gte=since)
        # A query each: each uses an index; a combined one would scan all conversations.
        changed = set(assigned.order_by().values_list("pk", flat=True)) | {
            id_
            for rows in (written, called)
            for id_ in rows.order_by().values_list("conversation_id", flat=True).distinct()
        }
        return self.frames({"conversations": changed})

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        ids = list(changed.get("conversations", ()))
        rows = selectors.conversation_list().filter(pk__in=ids)[:MAX_CHANGES]  # the latest
        return [_conversation_frame(row) for row in selectors.with_latest(rows)]


class UnreadView(View):
    """The conversations with unread messages: every page counts those that concern its user.

    A page receives all of them at first, then those that change, so that its frames are the same
    for everybody with the same permissions. A change has the latest message from the customer.
    """

    permissions = InboxView.permissions
    group = publisher.INBOX

    def catch_up(self, since: dt.datetime, sent: SentFrames) -> list[Frame]:
        found = selectors.conversation_list(unread=True)
        columns = ("pk", "unread_count", "assignee_id")
        rows = [list(row) for row in found.values_list(*columns)[:MAX_UNREAD]]
        return [{"kind": "unread", "key": "unread", "data": {"all": rows}}]

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        ids = list(changed.get("conversations", ()))[:MAX_CHANGES]
        if not ids:
            return []
        newest = Message.objects.filter(
            conversation=OuterRef("pk"), direction=Message.Direction.IN
        ).order_by("-created_at", "-id")
        rows = list(
            Conversation.objects.filter(pk__in=ids)
            .select_related("contact")
            .annotate(latest_in=Subquery(newest.values("pk")[:1]))
        )
        unread = [row.latest_in for row in rows if row.unread_count and row.latest_in]
        messages = Message.objects.select_related("media").in_bulk(unread) if unread else {}
        return [self._row(row, messages.get(row.latest_in)) for row in rows]

    def _row(self, row: Conversation, message: Message | None) -> Frame:
        data: dict[str, Any] = {
            "row": [row.pk, row.unread_count, row.assignee_id],
        }
        if message is not None:
            data["message"] = str(message.pk)
            data["at"] = message.created_at.isoformat()
            data["name"] = display.contact_name(row.contact)
            data["text"] = display.preview(message)[:MAX_PREVIEW]
        return {"kind": "unread", "key": f"unread:{row.pk}", "data": data}


class ConversationView(View):
    """The messages, calls and notes of one conversation, and who works on it.

    Notes are for those who may see them.
    """

    permissions = ("messaging.view_conversation", "messaging.view_message")
    values_changed = staticmethod(_time_lines_changed)

    @property
    def group(self) -> str:
        return publisher.conversation_group(int(self.value))

    def exists(self) -> bool:
        return Conversation.objects.filter(pk=int(self.value)).exists()

    def catch_up(self, since: dt.datetime, sent: SentFrames) -> list[Frame]:
        found = Message.objects.filter(conversation=int(self.value), updated_at__gte=since)
        rows = found.order_by("created_at", "id").values_list("pk", "version")
        ids = [
            pk
            for pk, version in rows[: MAX_CHANGES + 1 + len(sent)]
            if not sent.is_sent(f"message:{pk}", version)
        ]
        if len(ids) > MAX_CHANGES:
            return [{"kind": "reload"}]
        calls = CallAttempt.objects.filter(conversation=int(self.value), updated_at__gte=since)
        changed: dict[str, Iterable[Any]] = {
            "messages": ids,
            "calls": calls.values_list("pk", flat=True),
        }
        if Conversation.objects.filter(pk=int(self.value), changed_at__gte=since).exists():
            noted = notes.of(int(self.value)).filter(updated_at__gte=since)
            changed["conversations"] = [int(self.value)]
            changed["notes"] = [note.pk for note in noted]
        return self.frames(changed)

    def newest(self, sent: SentFrames) -> list[Frame]:
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
        added = list(changed.get("notes", ()))
        if added and self.user.has_perm("messaging.view_note"):
            frames += map(note_frame, notes.of(int(self.value)).filter(pk__in=added))
        if changed.get("conversations"):
            shown = Conversation.objects.select_related("assignee", "team")
            one = shown.filter(pk=int(self.value)).prefetch_related("labels")
            frames += [work_frame(conversation, self.user) for conversation in one]
        return frames


class ChannelsView(View):
    """The cards of all channels."""

    permissions = ("channels_app.view_channel",)
    group = publisher.CHANNELS

    def catch_up(self, since: dt.datetime, sent: SentFrames) -> list[Frame]:
        return self.frames({"channels": Channel.objects.values_list("pk", flat=True)})

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        found = extensions.channels().filter(pk__in=list(changed.get("channels", ())))
        may_change = self.user.has_perm("channels_app.change_channel")
        return [_channel_frame(channel, may_change) for channel in found]


class ChannelView(ChannelsView):
    """The card of the channel in the parameter."""

    def exists(self) -> bool:
        return Channel.objects.filter(pk=int(self.value)).exists()

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
        own = {int(self.value)} & set(changed.get("channels", ()))
        return super().frames({**changed, "channels": own})


# The query parameter that selects each view; higher layers add theirs.
VIEWS: dict[str, type[View]] = {
    "alarms": AlertsView,
    "figures": StatsView,
    "trail": AttemptHistoryView,
    "inbox": InboxView,
    "unread": UnreadView,
    "conversation": ConversationView,
    "channel": ChannelView,
    "channels": ChannelsView,
}


def views_for_query(query: Mapping[str, Sequence[str]], **viewer: Any) -> list[View]:
    """Return the views that a socket's query selects: a page has one socket for all of them.

    Raises ValueError for an invalid value, and if the query selects no view.
    """
    views = [
        view(value=query[parameter][0], **viewer)
        for parameter, view in VIEWS.items()
        if parameter in query
    ]
    for view in views:
        view.group  # noqa: B018 (raises ValueError if the value is not a number)
    if not views:
        raise ValueError("nothing to watch")
    return views


def allowed(views: Iterable[View]) -> bool:
    """Return whether all views exist and their user may watch them."""
    return all(view.permitted() and view.exists() for view in views)


def rights(user: User | AnonymousUser) -> Hashable:
    """Return what views may know of a user: equal for users with equal permissions."""
    granted = user.is_superuser or frozenset(user.get_all_permissions())
    return user.is_active, user.is_staff, granted


def for_user(views: Iterable[View], user: User | AnonymousUser) -> list[View] | None:
    """Return the views for this user, or None if the user lacks a permission for one of them."""
    updated = [replace(view, user=user) for view in views]
    return updated if all(view.permitted() for view in updated) else None


def catch_up(
    views: Iterable[View], since: dt.datetime | None, sent: SentFrames | None = None
) -> list[Frame]:
    """Return frames for everything that changed since then, without what was sent already.

    If `since` is None, the page gives no time; a conversation then gets its newest messages.
    """
    sent = SentFrames() if sent is None else sent
    polled: list[Frame] = []
    for view in views:
        with translation.override(view.language):
            polled += view.newest(sent) if since is None else view.catch_up(since - OVERLAP, sent)
    return sent.finish_poll(polled)


def may_have_changed(views: Collection[View], since: dt.datetime) -> list[bool]:
    """Return for each view whether `catch_up` may find a change since then.

    The number of queries depends on the kinds of the views, not on their number.
    """
    values: dict[type[View], set[str]] = {}
    for view in views:
        values.setdefault(type(view), set()).add(view.value)
    changed = {kind: kind.values_changed(all_, since - OVERLAP) for kind, all_ in values.items()}
    return [view.value in changed[type(view)] for view in views]


def frames(views: Iterable[View], changed: Mapping[str, Iterable[Any]]) -> list[Frame]:
    """Return frames with the current data of these rows, in each view's language."""
    changed_frames: list[Frame] = []
    for view in views:
        with translation.override(view.language):
            changed_frames += view.frames(changed)
    return changed_frames


def _message_frame(message: Message, may_retry: bool) -> Frame:
    context = {"message": message, "may_retry": may_retry}
    return {
        "kind": "message",
        "key": f"message:{message.pk}",
        "version": message.version,
        "sort": message.created_at.isoformat(),
        "html": render_to_string("messaging/_message.html", context),
        "by": _person(message.created_by),
    }


def _call_frame(call: CallAttempt) -> Frame:
    return {
        "kind": "call",
        "key": f"call:{call.pk}",
        "version": call.version,
        "sort": call.created_at.isoformat(),
        "html": render_to_string("messaging/_call.html", {"call": call}),
    }


def note_frame(note: Note) -> Frame:
    """Return a private note, for a page that shows it."""
    return {
        "kind": "note",
        "key": f"note:{note.pk}",
        "version": note.version,
        "sort": note.created_at.isoformat(),
        "html": render_to_string("messaging/_note.html", {"note": note}),
        "data": {
            "id": note.pk,
            "text": note.text,
            "author": _person(note.author),
            "mentions": [_person(one) for one in note.mentions.all()],
            "created_at": note.created_at.isoformat(),
        },
    }


def work_html(conversation: Conversation, user: User | AnonymousUser) -> str:
    """Return the part of the head that says who works on a conversation, as of now."""
    context = {
        "conversation": conversation,
        "may_work": user.has_perm("messaging.change_conversation"),
        "version": now_ms(),
    }
    return render_to_string("messaging/_work.html", context)


def work_frame(conversation: Conversation, user: User | AnonymousUser) -> Frame:
    """Return who works on a conversation, its status and labels."""
    until, team = conversation.snoozed_until, conversation.team
    return {
        "kind": "work",
        "key": f"work:{conversation.pk}",
        "version": now_ms(),
        "sort": "",
        "html": work_html(conversation, user),
        "data": {
            "assignee": _person(conversation.assignee),
            "team": None if team is None else {"id": team.pk, "name": team.name},
            "status": conversation.status,
            "snoozed_until": None if until is None else until.isoformat(),
            "labels": [label.name for label in conversation.labels.all()],
        },
    }


def _person(user: User | None) -> dict[str, Any] | None:
    return None if user is None else {"id": user.pk, "name": people.names_of(user)[0]}


def _conversation_frame(conversation: Conversation) -> Frame:
    sort_at = conversation.last_message_at or conversation.created_at
    return {
        "kind": "conversation",
        "key": f"conversation:{conversation.pk}",
        "version": now_ms(),
        "sort": sort_at.isoformat(),
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
    """Return a version for elements without their own: later frames win."""
    return int(time.time() * 1000)
