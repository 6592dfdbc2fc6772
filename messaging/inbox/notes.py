"""Private notes: entries of a conversation's time line that are never sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import people
from core.text import is_storable
from messaging import merging
from messaging.inbox.models import MAX_NOTE
from messaging.live import publisher
from messaging.models import Conversation, Note

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def add(conversation: Conversation, text: str, *, user: User) -> Note:
    """Store a note and whom it mentions (`@user`); open pages follow. Raises ValidationError."""
    text = text.strip().replace("\r\n", "\n")
    if not text:
        raise ValidationError({"text": _("Write something.")})
    if len(text) > MAX_NOTE:
        raise ValidationError({"text": _("At most 4096 characters.")})
    if not is_storable(text):
        raise ValidationError({"text": _("The text contains a character that cannot be stored.")})
    with transaction.atomic():
        note = Note.objects.create(conversation=conversation, text=text, author=user)
        note.mentions.set(people.mentioned_in(text))
        shown_in = conversation
        while shown_in.merged_into is not None:
            shown_in = shown_in.merged_into
        Conversation.objects.filter(pk=shown_in.pk).update(changed_at=timezone.now())
        publisher.note_added(shown_in.pk, note.pk)
    return note


def of(conversation_id: int) -> QuerySet[Note]:
    """Return the notes of a conversation and of those that were joined to it, oldest first."""
    found = Note.objects.filter(conversation__in=merging.joined_to(conversation_id))
    return found.select_related("author").prefetch_related("mentions").order_by("created_at", "id")
