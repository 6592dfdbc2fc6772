"""The live updates of one web process: a change is read once, whatever the number of sockets.

A hub serves all sockets of an event loop. It
1. receives the changes of all commits, as one member of the channel layer's group,
2. reads and renders what changed, once for each audience (see `audiences`),
3. puts the frames into the outboxes of the audience's sockets, which send them independently,
4. checks periodically, for all sockets together, whether their users are still signed in and may
   watch, sends the changes whose push was lost, and pings.

One task reads everything, in turn: no socket receives something older after something newer.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import uuid
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from functools import partial
from typing import Any

import structlog
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from accounts.sessions import signed_in_users
from messaging.live import frames as live_frames
from messaging.live import presence, publisher
from messaging.live.audiences import (
    CLOSE_NO_LAYER,
    CLOSE_NOT_ALLOWED,
    CLOSE_RECONNECT,
    Audience,
    Audiences,
    Subscriber,
    encode,
)

log = structlog.get_logger(__name__)

# The first change is read immediately; those that follow within this time, together.
GATHER_SECONDS = 0.01
# A poll reads this many audiences, then changes are sent, and so on.
POLLED_AT_ONCE = 20
# After this many outboxes, the event loop does other work.
FILLED_AT_ONCE = 100
# So often is looked whether somebody stopped typing or looking without a word.
PRESENCE_SECONDS = 2.0

# The frames of a view, or None if they could not be built.
Built = list[live_frames.Frame] | None


class LayerLost(Exception):
    """The channel layer failed."""


class Hub:
    """Serves the sockets of one event loop until the last one is removed, or something fails.

    Then it closes its sockets with a code that says why, and their pages reconnect.
    """

    def __init__(self, ping_seconds: float) -> None:
        self._ping_seconds = ping_seconds
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._audiences = Audiences()
        # Both are ordered sets. A subscriber that is being brought up to date is still joining.
        self._subscribers: dict[Subscriber, None] = {}
        self._joining: dict[Subscriber, None] = {}
        self._changes: publisher.Changes = {}
        self._process = uuid.uuid4().hex
        self._presence = presence.Board()
        self._present: dict[int, live_frames.Frame] = {}  # what the pages were sent
        self._shared: dict[int, list[dict[str, Any]]] = {}  # what the other processes were sent
        self._share_all = False
        self._presence_changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._read_at = float("-inf")
        self._task = asyncio.create_task(self._run())

    def add(self, subscriber: Subscriber) -> None:
        """Bring a socket up to date in its turn, then send it every change."""
        self._joining[subscriber] = None
        self._wake.set()

    def say(self, subscriber: Subscriber, what: str, value: bool) -> None:
        """Record that the person of a page looks at its conversation, or types."""
        conversation, person = subscriber.conversation, subscriber.person
        if conversation is not None and person is not None:
            self._presence.say(conversation, subscriber, person, what, value, self._time())
            self._presence_changed.set()

    async def remove(self, subscriber: Subscriber) -> None:
        conversation = subscriber.conversation
        if conversation is not None and self._presence.leave(conversation, subscriber):
            self._presence_changed.set()
        self._joining.pop(subscriber, None)
        if subscriber in self._subscribers:
            del self._subscribers[subscriber]
            self._audiences.leave(subscriber)
        if not self._subscribers and not self._joining and not self._task.done():
            self._take_no_more()
            self._task.cancel()
            await asyncio.wait({self._task})

    def _take_no_more(self) -> None:
        if _hubs.get(self._loop) is self:
            del _hubs[self._loop]

    # -- its life ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        layer, channel, code = get_channel_layer(), "", CLOSE_RECONNECT
        try:
            with _layer_errors():
                channel = await layer.new_channel()
                await layer.group_add(publisher.CHANNEL_GROUP, channel)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive(layer, channel))
                tasks.create_task(self._stay_in_group(layer, channel))
                tasks.create_task(self._serve())
                tasks.create_task(self._show_presence())
        except* LayerLost as errors:
            code = CLOSE_NO_LAYER
            log.warning("no channel layer; pages reconnect", error=str(errors.exceptions[0]))
        except* Exception as errors:
            log.warning("live updates failed; pages reconnect", exc_info=errors)
        finally:
            self._take_no_more()
            for subscriber in (*self._subscribers, *self._joining):
                subscriber.outbox.close(code)
            if code != CLOSE_NO_LAYER:
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    await publisher.end_presence(self._process)
                with contextlib.suppress(Exception):
                    await layer.group_discard(publisher.CHANNEL_GROUP, channel)

    async def _receive(self, layer: Any, channel: str) -> None:
        while True:
            with _layer_errors():
                message = await layer.receive(channel)
            if message["type"] == "live.presence":
                self._hear_presence(message)
                continue
            changed = message["changed"]
            self._end_sessions({g for g, kinds in changed.items() if publisher.SIGNED_OUT in kinds})
            publisher.merge(self._changes, changed)
            self._wake.set()

    def _end_sessions(self, groups: Collection[str]) -> None:
        for subscriber in (*self._subscribers, *self._joining) if groups else ():
            if subscriber.session_group in groups:
                subscriber.outbox.close_now(CLOSE_NOT_ALLOWED)

    async def _stay_in_group(self, layer: Any, channel: str) -> None:
        """Repeat the membership: it expires after a day, and Valkey may have been emptied."""
        while True:
            await asyncio.sleep(self._ping_seconds)
            with _layer_errors():
                await layer.group_add(publisher.CHANNEL_GROUP, channel)

    async def _serve(self) -> None:
        """Do everything that reads the database, one after the other."""
        ping_at = self._time() + self._ping_seconds
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(ping_at):
                    await self._wake.wait()
            self._wake.clear()
            await self._send_changes()
            if self._joining:
                first = next(iter(self._joining))
                await self._join([one for one in self._joining if one.start == first.start])
                self._wake.set()  # there may be more to do
            if self._time() >= ping_at:
                ping_at = self._time() + self._ping_seconds
                await self._check_rights()
                await self._poll()

    # -- who is where ------------------------------------------------------------------------------

    def _hear_presence(self, message: Any) -> None:
        process, people = message["process"], message["people"]
        if process == self._process:
            return
        if people is None:
            self._presence.forget(process)
        elif not people:  # a process that has just started asks
            self._share_all = True
        else:
            for conversation, its_people in people.items():
                self._presence.hear(process, int(conversation), its_people, self._time())
        self._presence_changed.set()

    async def _show_presence(self) -> None:
        """Send who is where: to the other processes what pages here say, to pages everything."""
        await publisher.share_presence(self._process, {})
        repeat_at = self._time() + self._ping_seconds
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PRESENCE_SECONDS):
                    await self._presence_changed.wait()
            self._presence_changed.clear()
            now = self._time()
            if now >= repeat_at:
                repeat_at = now + self._ping_seconds
                self._share_all = True
            await self._share_presence(now)
            await self._send_presence(now)

    async def _share_presence(self, now: float) -> None:
        own, before, everything = {}, self._shared, self._share_all
        for conversation in self._presence.own() | before.keys():
            own[conversation] = self._presence.shared(conversation, now)
        self._shared = {one: people for one, people in own.items() if people}
        self._share_all = False
        news = {
            one: people
            for one, people in own.items()
            if everything or people != before.get(one, [])
        }
        if news:
            await publisher.share_presence(self._process, news)

    async def _send_presence(self, now: float) -> None:
        """Send the pages of a conversation who is in it, if that has changed."""
        known = self._presence.conversations() | self._present.keys()
        self._presence.tidy(now)
        for conversation in known:
            frame = self._presence.frame(conversation, now)
            if frame == self._present.get(conversation, {**frame, "people": []}):
                continue
            if frame["people"]:
                self._present[conversation] = frame
            else:
                del self._present[conversation]
            group = publisher.conversation_group(conversation)
            members = {
                member
                for audience in self._audiences.watching(group)
                for member in audience.members
                if member.conversation == conversation
            }
            texts = encode([frame])
            await _fill((member, texts) for member in members)

    # -- what it reads -----------------------------------------------------------------------------

    async def _send_changes(self) -> None:
        if not self._changes:
            return
        await asyncio.sleep(self._read_at + GATHER_SECONDS - self._time())
        self._read_at = self._time()
        changes, self._changes = self._changes, {}
        audiences = [audience for group in changes for audience in self._audiences.watching(group)]
        reads = (
            partial(live_frames.frames, [audience.view], changes[audience.view.group])
            for audience in audiences
        )
        for audience, built in zip(audiences, await _build(reads), strict=True):
            if built is None:
                _close(audience)
            else:
                await _fill(audience.changed(built))

    async def _join(self, subscribers: Collection[Subscriber]) -> None:
        """Send what these pages missed, all the same, then a frame that says they are up to date.

        After a restart, pages that a process served reconnect with the time of its last ping.
        """
        at = timezone.now()
        views, since = next(iter(subscribers)).views, next(iter(subscribers)).since
        sent = [live_frames.SentFrames() for _ in views]
        missed = await _catch_up(views, [since] * len(sent), sent)
        texts = encode([*(missed or ()), {"kind": "ready", "at": at.isoformat()}])
        for subscriber in subscribers:
            if subscriber not in self._joining:  # it disconnected meanwhile
                continue
            del self._joining[subscriber]
            self._subscribers[subscriber] = None
            self._audiences.join(subscriber, sent, at)
            if missed is None:
                subscriber.outbox.close(CLOSE_RECONNECT)
            else:
                present = self._present.get(subscriber.conversation or 0)
                subscriber.outbox.put([*texts, *(encode([present]) if present else ())])

    async def _check_rights(self) -> None:
        """Close the sockets of users who may no longer watch; update what the others see."""
        changed = await _in_thread(_changed_rights)(list(self._subscribers))
        for subscriber, views, _ in changed:
            if views is None:
                subscriber.outbox.close_now(CLOSE_NOT_ALLOWED)
        for subscriber, views, rights in changed:
            if views is not None:
                await self._show_again(subscriber, views, rights)
                await self._send_changes()

    async def _show_again(
        self, subscriber: Subscriber, views: list[live_frames.View], rights: Hashable
    ) -> None:
        """Send what looks different to a user with other rights."""
        if subscriber not in self._subscribers:
            return
        at = timezone.now()
        starts = [self._audiences.start_of(subscriber, view) for view in subscriber.views]
        sent = [sent for _, sent in starts]
        missed = await _catch_up(views, [since for since, _ in starts], sent)
        if subscriber not in self._subscribers:
            return
        self._audiences.leave(subscriber)
        subscriber.views, subscriber.rights = views, rights
        self._audiences.join(subscriber, sent, at)
        if missed is None:
            subscriber.outbox.close(CLOSE_RECONNECT)
        else:
            subscriber.outbox.put(encode(missed))

    async def _poll(self) -> None:
        """Send the changes whose push was lost, then a frame that says all pages are up to date."""
        at = timezone.now()
        audiences = await self._changed_audiences(at)
        for first in range(0, len(audiences), POLLED_AT_ONCE):
            some = audiences[first : first + POLLED_AT_ONCE]
            reads = (
                partial(live_frames.catch_up, [audience.view], audience.since, audience.sent)
                for audience in some
            )
            for audience, built in zip(some, await _build(reads), strict=True):
                if built is None:
                    _close(audience)
                else:
                    await _fill(audience.polled(built, at))
            await self._send_changes()
        ping = encode([{"kind": "ping", "at": at.isoformat()}])
        await _fill((subscriber, ping) for subscriber in list(self._subscribers))
        for subscriber in self._subscribers:
            if self._time() >= subscriber.expires_at:
                subscriber.outbox.close(CLOSE_RECONNECT)

    async def _changed_audiences(self, at: dt.datetime) -> list[Audience]:
        """Return those to poll; the others are up to date."""
        audiences = list(self._audiences)
        since = min((audience.since for audience in audiences), default=at)
        views = [audience.view for audience in audiences]
        may_have_changed = await _in_thread(live_frames.may_have_changed)(views, since)
        for audience, may in zip(audiences, may_have_changed, strict=True):
            if not may:
                audience.sent.finish_poll(())
                audience.polled((), at)
        return [audience for audience, may in zip(audiences, may_have_changed, strict=True) if may]


async def _fill(texts: Iterable[tuple[Subscriber, list[str]]]) -> None:
    for number, (subscriber, its_texts) in enumerate(texts, 1):
        subscriber.outbox.put(its_texts)
        if number % FILLED_AT_ONCE == 0:
            await asyncio.sleep(0)


def _close(audience: Audience) -> None:
    for subscriber in audience.members:
        subscriber.outbox.close(CLOSE_RECONNECT)


async def _catch_up(
    views: Iterable[live_frames.View],
    since: Iterable[dt.datetime | None],
    sent: Iterable[live_frames.SentFrames],
) -> Built:
    """Return what one page missed, by view."""
    reads = (
        partial(live_frames.catch_up, [view], its_since, its_sent)
        for view, its_since, its_sent in zip(views, since, sent, strict=True)
    )
    frames: list[live_frames.Frame] = []
    for built in await _build(reads):
        if built is None:
            return None
        frames += built
    return frames


async def _build(reads: Iterable[Callable[[], list[live_frames.Frame]]]) -> list[Built]:
    """Run these one after the other in a thread."""
    reads = list(reads)
    return list(await _in_thread(_build_each)(reads)) if reads else []


def _build_each(reads: Iterable[Callable[[], list[live_frames.Frame]]]) -> list[Built]:
    """An error in one view concerns no other, unless the database is away."""
    built: list[Built] = []
    is_away = False
    for read in reads:
        try:
            built.append(None if is_away else read())
        except (OperationalError, InterfaceError) as error:
            is_away = True
            log.warning("database failed; pages reconnect", error=type(error).__name__)
            built.append(None)
        except Exception:
            log.exception("a view failed; its pages reconnect")
            built.append(None)
    return built


def _changed_rights(
    subscribers: Iterable[Subscriber],
) -> list[tuple[Subscriber, list[live_frames.View] | None, Hashable]]:
    """Return those whose rights changed, with their views (None if not allowed) and rights."""
    users = signed_in_users({subscriber.session_key for subscriber in subscribers})
    rights = {key: live_frames.rights(user) for key, user in users.items()}
    changed = []
    for subscriber in subscribers:
        key = subscriber.session_key
        if rights.get(key) != subscriber.rights:
            views = live_frames.for_user(subscriber.views, users[key]) if key in users else None
            changed.append((subscriber, views, rights.get(key)))
    return changed


def _in_thread(function: Any) -> Any:
    """Read the database outside the thread that all synchronous code would otherwise share."""
    return database_sync_to_async(function, thread_sensitive=False)


@contextlib.contextmanager
def _layer_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise LayerLost(type(error).__name__) from error


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def current(ping_seconds: float) -> Hub:
    """Return the hub of the running event loop, a new one if there is none."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub(ping_seconds)
    return _hubs[loop]
