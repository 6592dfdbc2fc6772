"""Opening a conversation: what a person is shown of it, and what that changes."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from messaging import selectors
from messaging.inbox import finding, notes, personal
from messaging.models import Conversation, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# Whoever has one of these looks after customers: what they have read is read for the team.
_LOOK_AFTER: Final = ("messaging.add_message", "messaging.change_conversation")


@dataclass(frozen=True, slots=True)
class Opened:
    """A page of a conversation. `target` is the message it was opened at, if it has that one.

    `new` are the customer's messages on the page that the person had not read; `draft` is theirs.
    """

    page: selectors.MessagePage
    target: Message | None
    new: list[Message]
    draft: str


def open_at(conversation: Conversation, message: uuid.UUID | None, *, user: User) -> Opened:
    """Return the latest messages, or those around one; what is shown counts as read.

    Notes only for those who may see them; the mentions in them then count as seen.
    """
    sees_notes = user.has_perm("messaging.view_note")
    if sees_notes:
        notes.mark_mentions_seen(conversation, user=user)
    page = message and finding.around(conversation, message, with_notes=sees_notes)
    page = page or selectors.message_page(conversation, with_notes=sees_notes)
    own = personal.state(conversation, user=user)
    opened = Opened(
        page=page,
        target=next((one for one in page.messages if one.pk == message), None),
        new=personal.new_in(page.messages, own.read_at),
        draft=own.draft,
    )
    if not page.has_newer:
        _read(conversation, own.read_at, user=user)
    return opened


def read(conversation: Conversation, *, user: User) -> None:
    """Store that a person has seen the latest messages on an open page."""
    _read(conversation, personal.state(conversation, user=user).read_at, user=user)


def _read(conversation: Conversation, before: dt.datetime | None, *, user: User) -> None:
    if any(map(user.has_perm, _LOOK_AFTER)):
        selectors.mark_read(conversation)
    latest = conversation.last_message_at
    if latest is not None and (before is None or before < latest):
        personal.mark_read(conversation, user=user)
