"""Private notes: entries of a conversation's time line that are never sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import people
from core.text import is_storable
from messaging.inbox.models import MAX_NOTE
from messaging.live import publisher
from messaging.models import Conversation, Note, PersonalState

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
        if note.mentions.exists():
            publisher.publish(publisher.INBOX, conversations=shown_in.pk)
    return note


def unseen_mentions(user: User) -> QuerySet[Any, Any]:
    """Return the notes that mention a person and that they have not seen yet, latest first.

    None for whoever may not see notes. `shown_in` is the id of the conversation that shows it.
    """
    if not user.has_perm("messaging.view_note"):
        return Note.objects.none().annotate(shown_in=F("conversation"))
    seen = PersonalState.objects.filter(
        user=user,
        conversation=OuterRef("shown_in"),
        mentions_seen_at__gte=OuterRef("created_at"),
    )
    shown_in = Coalesce(
        "conversation__merged_into__merged_into", "conversation__merged_into", "conversation"
    )
    found = Note.objects.filter(mentions=user).annotate(shown_in=shown_in)
    return found.exclude(Exists(seen)).order_by("-created_at", "-id")


def mark_mentions_seen(conversation: Conversation, *, user: User) -> None:
    """Store that the person has seen the notes of a conversation that mention them.

    One query if there are none.
    """
    now = timezone.now()
    if unseen_mentions(user).filter(shown_in=conversation.pk).exists():
        PersonalState.objects.update_or_create(
            user=user, conversation=conversation, defaults={"mentions_seen_at": now}
        )


def of(conversation_id: int) -> QuerySet[Note]:
    """Return the notes of a conversation and of those that were joined to it, oldest first."""
    joined = Q(conversation__merged_into=conversation_id)
    joined |= Q(conversation__merged_into__merged_into=conversation_id)
    found = Note.objects.filter(Q(conversation=conversation_id) | joined)
    return found.select_related("author").prefetch_related("mentions").order_by("created_at", "id")
