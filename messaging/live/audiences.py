"""Which sockets receive which frames. Uses no database, clock or network.

All views with equal frames form an audience (`View.audience`): a frame is built and serialized once
and put into the outbox of each member.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from messaging.live.frames import ConversationView, Frame, SentFrames, View
from messaging.live.presence import Person

CLOSE_RECONNECT = 4000
CLOSE_NOT_ALLOWED = 4003
CLOSE_NO_LAYER = 4013
# The page sent what no page sends.
CLOSE_INVALID = 1008
# A page that is this many frames behind reconnects and catches up.
MAX_WAITING = 500


class Outbox:
    """The texts that a socket still has to send, and the code with which it then closes.

    A slow socket delays no other: one that falls behind is closed.
    """

    def __init__(self) -> None:
        self.close_code: int | None = None
        # Called when the socket has to close although a text may still be on its way.
        self.abort: Callable[[], object] = lambda: None
        self._texts: deque[str] = deque()
        self._changed = asyncio.Event()

    def put(self, texts: Iterable[str]) -> None:
        if self.close_code is None and len(self._texts) >= MAX_WAITING:
            self.close_now(CLOSE_RECONNECT)
        if self.close_code is None:
            self._texts.extend(texts)
            self._changed.set()

    def close(self, code: int) -> None:
        """Close after what was put so far."""
        if self.close_code is None:
            self.close_code = code
            self._changed.set()

    def close_now(self, code: int) -> None:
        """Close without sending what is left."""
        self.close(code)
        self._texts.clear()
        self.abort()

    async def next(self) -> str | None:
        """Return the next text as soon as there is one, or None if the socket has to close."""
        while not self._texts:
            if self.close_code is not None:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._texts.popleft()


@dataclass(eq=False)
class Subscriber:
    """A page's socket. The page is up to date as of `since`, if that is known."""

    views: list[View]
    rights: Hashable
    session_key: str
    session_group: str
    since: dt.datetime | None
    person: Person | None = None
    # The time of the event loop after which the page has to reconnect.
    expires_at: float = float("inf")
    outbox: Outbox = field(default_factory=Outbox)

    @property
    def conversation(self) -> int | None:
        """The conversation that the page shows, if any."""
        shown = (view for view in self.views if isinstance(view, ConversationView))
        return next((int(view.value) for view in shown), None)

    @property
    def start(self) -> Hashable:
        """Equal for subscribers that missed the same."""
        return self.since, *(view.audience for view in self.views)


class Audience:
    """Subscribers that receive the same frames of a view.

    The members are up to date as of `since`. `sent` is what all of them received recently. Members
    that joined after the latest poll may have received more, when they caught up (together: the
    same).
    """

    def __init__(self, view: View, since: dt.datetime, sent: SentFrames) -> None:
        self.view = view
        self.since = since
        self.sent = sent
        self.members: dict[Subscriber, None] = {}  # in the order in which they joined
        self._joined: dict[Subscriber, SentFrames] = {}
        self._latest: dict[str, Frame] = {}  # sent for a change, to all present members

    def add(self, subscriber: Subscriber, sent: SentFrames) -> None:
        self._latest = {}
        self.members[subscriber] = None
        if sent is not self.sent:
            self._joined[subscriber] = sent

    def remove(self, subscriber: Subscriber) -> None:
        self.members.pop(subscriber, None)
        self._joined.pop(subscriber, None)

    def sent_to(self, subscriber: Subscriber) -> SentFrames:
        return self._joined.get(subscriber, self.sent)

    def changed(self, frames: Sequence[Frame]) -> Iterator[tuple[Subscriber, list[str]]]:
        """Return what each member has to send for a change.

        Two changes of a row may both be read after the second one: it is sent once.
        """
        keyed = {str(frame.get("key")): frame for frame in frames if "key" in frame}
        frames = [frame for frame in frames if self._latest.get(str(frame.get("key"))) != frame]
        self._latest |= keyed
        for sent in {self.sent, *self._joined.values()}:
            sent.record(frames)
        texts = encode(frames)
        return ((member, texts) for member in list(self.members))

    def polled(
        self, frames: Sequence[Frame], at: dt.datetime
    ) -> Iterator[tuple[Subscriber, list[str]]]:
        """Return what each member has to send after a poll, whose frames `sent` lets through."""
        self.since = at
        self._latest = {}
        joined, self._joined = self._joined, {}
        texts = {sent: encode(sent.finish_poll(frames)) for sent in set(joined.values())}
        texts[self.sent] = encode(frames)
        return ((member, texts[joined.get(member, self.sent)]) for member in list(self.members))


class Audiences:
    """All audiences of a process."""

    def __init__(self) -> None:
        self._audiences: dict[Hashable, Audience] = {}
        self._by_group: dict[str, dict[Hashable, Audience]] = {}

    def __iter__(self) -> Iterator[Audience]:
        return iter(self._audiences.values())

    def watching(self, group: str) -> list[Audience]:
        """Return the audiences that changes of this group concern."""
        return list(self._by_group.get(group, {}).values())

    def start_of(self, subscriber: Subscriber, view: View) -> tuple[dt.datetime, SentFrames]:
        """Return as of when a member is up to date, and a copy of what it received recently."""
        audience = self._audiences[view.audience]
        return audience.since, audience.sent_to(subscriber).copy()

    def join(self, subscriber: Subscriber, sent: Sequence[SentFrames], since: dt.datetime) -> None:
        """Add a subscriber that is up to date as of `since`, and what it received for each view."""
        for view, its_sent in zip(subscriber.views, sent, strict=True):
            audience = self._audiences.get(view.audience)
            if audience is None:
                audience = self._audiences[view.audience] = Audience(view, since, its_sent)
                self._by_group.setdefault(view.group, {})[view.audience] = audience
            audience.add(subscriber, its_sent)

    def leave(self, subscriber: Subscriber) -> None:
        for view in subscriber.views:
            key = view.audience
            audience = self._audiences.get(key)
            if audience is None:
                continue
            audience.remove(subscriber)
            if not audience.members:
                del self._audiences[key]
                of_group = self._by_group[view.group]
                del of_group[key]
                if not of_group:
                    del self._by_group[view.group]


def encode(frames: Iterable[Frame]) -> list[str]:
    return [json.dumps(frame) for frame in frames]
