"""What leads a person to a message: the page around it, and the files of a conversation."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from messaging import selectors
from messaging.inbox import search
from messaging.models import Conversation, Message

# Of the messages around one, this many are before it, and this many follow.
BEFORE = 20
AFTER = 20
PER_PAGE = 60

# The kinds of the gallery: their names, and the types of message that have them.
KINDS = {
    "images": (_("Images"), ("image", "sticker")),
    "videos": (_("Videos"), ("video",)),
    "documents": (_("Documents"), ("document", "audio", "voice")),
    "links": (_("Links"), ()),
}
_LINK = re.compile(r"https?://[^\s<>\"]+", re.IGNORECASE)


def around(
    conversation: Conversation, message: uuid.UUID, *, with_notes: bool = False
) -> selectors.MessagePage | None:
    """Return the messages around one; None if the conversation has no such message."""
    later = selectors.message_page(conversation, since=message, limit=AFTER, with_notes=with_notes)
    if not later.messages:
        return None
    earlier = selectors.message_page(
        conversation, before=message, limit=BEFORE, with_notes=with_notes
    )
    return selectors.MessagePage(
        [*earlier.messages, *later.messages],
        earlier.has_older,
        [*earlier.calls, *later.calls],
        [*earlier.notes, *later.notes],
        has_newer=later.has_newer,
    )


def after(
    conversation: Conversation, message: uuid.UUID, *, with_notes: bool = False
) -> selectors.MessagePage:
    """Return the messages that follow one, which is not among them."""
    page = selectors.message_page(
        conversation, since=message, limit=2 * AFTER + 1, with_notes=with_notes
    )
    if not page.messages:
        return page
    _shown, *rest = page.messages
    if not rest:
        return selectors.MessagePage([], has_older=False)
    return selectors.MessagePage(
        rest,
        has_older=False,
        calls=[call for call in page.calls if call.created_at >= rest[0].created_at],
        notes=[note for note in page.notes if note.created_at >= rest[0].created_at],
        has_newer=page.has_newer,
    )


def marked_words(text: str, message: Message | None) -> list[str]:
    """Return the words of a message that a search for the text finds, as they are written in it."""
    if message is None or not text.strip():
        return []
    found = {
        part.text for hit in search.marked(text, [message]) for part in hit.parts if part.marked
    }
    return sorted(found)


def jump_to(conversation: Conversation, day: dt.date) -> Message | None:
    """Return the message with which a day begins; the latest before it if nothing followed."""
    first = selectors.first_message_of(conversation, day)
    return first or conversation.messages.order_by("created_at", "id").last()


@dataclass(frozen=True, slots=True)
class Link:
    address: str
    message: Message


@dataclass(frozen=True, slots=True)
class Gallery:
    """A page of the files or links of some conversations, latest first."""

    messages: list[Message]
    links: list[Link]
    page: int
    more: bool


def gallery(conversations: Iterable[Conversation], kind: str, page: int = 1) -> Gallery:
    """Return a page of what was sent in these conversations; `kind` is one of `KINDS`."""
    found = Message.objects.filter(conversation__in=list(conversations), revoked_at=None)
    found = _with_links(found) if kind == "links" else _with_files(found, KINDS[kind][1])
    start = (page - 1) * PER_PAGE
    newest = found.select_related("media", "conversation__contact").order_by("-created_at", "-id")
    rows = list(newest[start : start + PER_PAGE + 1])
    shown = rows[:PER_PAGE]
    links = [
        Link(address.rstrip(".,;:!?)"), message)
        for message in shown
        for address in _LINK.findall(message.text)
    ]
    return Gallery(shown, links if kind == "links" else [], page, len(rows) > PER_PAGE)


def _with_files(messages: QuerySet[Message], types: tuple[str, ...]) -> QuerySet[Message]:
    # Scheduled messages have a time in the future: they were not sent yet.
    return messages.filter(type__in=types, media__isnull=False, created_at__lte=timezone.now())


def _with_links(messages: QuerySet[Message]) -> QuerySet[Message]:
    return messages.filter(Q(text__icontains="http://") | Q(text__icontains="https://"))
