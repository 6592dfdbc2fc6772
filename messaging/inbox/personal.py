"""A person's own state of a conversation: the draft, and how far they have read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from core.text import is_storable
from messaging.models import Conversation, Message, PersonalState

if TYPE_CHECKING:
    from django.contrib.auth.models import User

MAX_DRAFT: Final = 8_000


def draft(conversation: Conversation, *, user: User) -> str:
    """Return the person's draft, or ""."""
    return state(conversation, user=user).draft


def save_draft(conversation: Conversation, text: str, *, user: User) -> None:
    """Store the person's draft; "" removes it. Raises ValidationError."""
    if len(text) > MAX_DRAFT:
        raise ValidationError({"text": _("At most 8000 characters.")})
    if not is_storable(text):
        raise ValidationError({"text": _("The text contains a character that cannot be stored.")})
    if not text:
        mine = PersonalState.objects.filter(user=user, conversation=conversation)
        mine.exclude(draft="").update(draft="", draft_at=None)
        return
    PersonalState.objects.update_or_create(
        user=user,
        conversation=conversation,
        defaults={"draft": text, "draft_at": timezone.now()},
    )


def drafts(user: User, conversations: list[int]) -> dict[int, str]:
    """Return the person's drafts in these conversations."""
    found = PersonalState.objects.filter(user=user, conversation__in=conversations)
    return dict(found.exclude(draft="").values_list("conversation_id", "draft"))


def state(conversation: Conversation, *, user: User) -> PersonalState:
    """Return the person's state; a new one, not stored, if there is none."""
    found = PersonalState.objects.filter(user=user, conversation=conversation).first()
    return found or PersonalState(user=user, conversation=conversation)


def new_in(messages: Sequence[Message], read_at: dt.datetime | None) -> list[Message]:
    """Return those of the customer's messages that came after a person last read.

    None are new to somebody who has never read the conversation.
    """
    if read_at is None:
        return []
    received = (one for one in messages if one.direction == Message.Direction.IN)
    return [one for one in received if one.created_at > read_at]


def mark_read(conversation: Conversation, *, user: User, at: dt.datetime | None = None) -> None:
    """Store that the person has read everything up to `at`, by default to the latest message.

    The position never moves back.
    """
    at = at or conversation.last_message_at
    if at is None:
        return
    own = PersonalState.objects.filter(user=user, conversation=conversation)
    behind = Q(read_at=None) | Q(read_at__lt=at)
    if not own.filter(behind).update(read_at=at):
        PersonalState.objects.bulk_create(
            [PersonalState(user=user, conversation=conversation, read_at=at)],
            ignore_conflicts=True,
        )
