"""Who looks at a conversation and who writes in it. Uses no database, clock or network.

A page sends `{"viewing": bool}` and `{"typing": bool}`, and repeats them while they hold. Each web
process tells the others, through the channel layer, everything that its own pages say of a
conversation (`Board.shared`); the latest such list counts. What is not repeated expires, so a page
or process that dies is forgotten. The pages of a conversation receive
`{"kind": "presence", "key", "people": [{"id", "name", "initials", "hue", "typing"}]}`: everybody,
each person once; a page leaves out its own.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

# A page repeats "viewing" every 20 s and "typing" every 3 s (static/js/presence.js).
VIEWING_SECONDS: Final = 50.0
TYPING_SECONDS: Final = 8.0
# A process repeats what its pages say with every ping (25 s).
SHARED_SECONDS: Final = 55.0
MAX_FRAME: Final = 100
# A page may send this many frames at once, and so many a second in the long run.
BURST: Final = 20
PER_SECOND: Final = 2.0

Frame = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    id: int
    name: str
    initials: str
    hue: int


def read_frame(text: str | None) -> tuple[str, bool]:
    """Return what a page says, "viewing" or "typing", and whether it is so. Else ValueError."""
    if text is None or len(text) > MAX_FRAME:
        raise ValueError("no frame of a page")
    frame = json.loads(text)
    if not isinstance(frame, dict) or len(frame) != 1:
        raise ValueError("no frame of a page")
    [(name, value)] = frame.items()
    if name not in ("viewing", "typing") or not isinstance(value, bool):
        raise ValueError("no frame of a page")
    return name, value


class Rate:
    """How many frames a page may still send."""

    def __init__(self, now: float) -> None:
        self._left = float(BURST)
        self._at = now

    def allows(self, now: float) -> bool:
        self._left = min(BURST, self._left + (now - self._at) * PER_SECOND)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class _Page:
    person: Person
    viewing_until: float = 0.0
    typing_until: float = 0.0


class Board:
    """What all processes know of who is where. The caller gives the time of its event loop."""

    def __init__(self) -> None:
        self._own: dict[int, dict[Hashable, _Page]] = {}
        # By conversation and process: until when it holds, and the people, with who types.
        self._others: dict[int, dict[str, tuple[float, list[tuple[Person, bool]]]]] = {}

    def say(
        self,
        conversation: int,
        page: Hashable,
        person: Person,
        what: str,
        value: bool,
        now: float,
    ) -> None:
        """Record what a page of this process says."""
        found = self._own.setdefault(conversation, {}).setdefault(page, _Page(person))
        if what == "typing":
            found.typing_until = now + TYPING_SECONDS if value else 0.0
            value = True  # whoever types, or stops, looks at it
        found.viewing_until = now + VIEWING_SECONDS if value else 0.0
        if not value:
            found.typing_until = 0.0

    def leave(self, conversation: int, page: Hashable) -> bool:
        """Forget a page; return whether it was known."""
        return self._own.get(conversation, {}).pop(page, None) is not None

    def shared(self, conversation: int, now: float) -> list[dict[str, Any]]:
        """Return what the other processes need to know of the pages of this one."""
        return [
            {**asdict(person), "typing": typing}
            for person, typing in _once(self._own_people(conversation, now))
        ]

    def hear(
        self, process: str, conversation: int, people: Iterable[dict[str, Any]], now: float
    ) -> None:
        """Replace what another process says of a conversation."""
        found = [
            (
                Person(**{name: one[name] for name in ("id", "name", "initials", "hue")}),
                one["typing"],
            )
            for one in people
        ]
        of_conversation = self._others.setdefault(conversation, {})
        if found:
            of_conversation[process] = (now + SHARED_SECONDS, found)
        else:
            of_conversation.pop(process, None)

    def forget(self, process: str) -> set[int]:
        """Forget a process that ends; return the conversations in which it had pages."""
        return {
            conversation
            for conversation, processes in self._others.items()
            if processes.pop(process, None) is not None
        }

    def frame(self, conversation: int, now: float) -> Frame:
        """Return the frame for the pages of a conversation."""
        people = [*self._own_people(conversation, now)]
        for until, others in self._others.get(conversation, {}).values():
            if until > now:
                people += others
        shown = sorted(_once(people), key=lambda entry: (entry[0].name, entry[0].id))
        return {
            "kind": "presence",
            "key": f"presence:{conversation}",
            "people": [{**asdict(person), "typing": typing} for person, typing in shown],
        }

    def conversations(self) -> set[int]:
        """Return those in which somebody is, or was a moment ago."""
        return self._own.keys() | self._others.keys()

    def own(self) -> set[int]:
        """Return the conversations of this process's pages."""
        return set(self._own)

    def tidy(self, now: float) -> None:
        """Forget what has expired."""
        for conversation, pages in list(self._own.items()):
            for page, found in list(pages.items()):
                if found.viewing_until <= now:
                    del pages[page]
            if not pages:
                del self._own[conversation]
        for conversation, processes in list(self._others.items()):
            for process, (until, _people) in list(processes.items()):
                if until <= now:
                    del processes[process]
            if not processes:
                del self._others[conversation]

    def _own_people(self, conversation: int, now: float) -> Iterator[tuple[Person, bool]]:
        for page in self._own.get(conversation, {}).values():
            if page.viewing_until > now:
                yield page.person, page.typing_until > now


def _once(people: Iterable[tuple[Person, bool]]) -> list[tuple[Person, bool]]:
    """Return each person once; whoever types in one window types."""
    typing: dict[int, bool] = {}
    known: dict[int, Person] = {}
    for person, types in people:
        known[person.id] = person
        typing[person.id] = typing.get(person.id, False) or types
    return [(person, typing[id_]) for id_, person in known.items()]
