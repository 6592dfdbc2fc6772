"""Private notes: entries of a conversation's time line that are never sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import people
from core.text import is_storable
from messaging import merging
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


def unseen_mentions(user: User) -> QuerySet[Note]:
    """Return the notes that mention a person and that they have not seen yet.

    None for whoever may not see notes.
    """
    if not user.has_perm("messaging.view_note"):
        return Note.objects.none()
    # Of the note's own conversation, whichever it was joined to: an undo needs nothing.
    seen = PersonalState.objects.filter(
        user=user,
        conversation=OuterRef("conversation"),
        mentions_seen_at__gte=OuterRef("created_at"),
    )
    return Note.objects.filter(~Exists(seen), mentions=user)


def mentioning(user: User) -> dict[int, int]:
    """Return the conversations with such notes, and for each the one that shows it."""
    found = set(unseen_mentions(user).order_by().values_list("conversation_id", flat=True))
    shown = {pk: pk for pk in found}
    latest = found
    while latest:
        joined = Conversation.everything.filter(pk__in=latest, merged_into__isnull=False)
        moved = dict(joined.values_list("pk", "merged_into_id"))
        shown = {pk: moved.get(at, at) or at for pk, at in shown.items()}
        latest = {at for at in moved.values() if at is not None}
    return shown


def mark_mentions_seen(conversation: Conversation, *, user: User) -> None:
    """Store that the person has seen the notes of a conversation that mention them.

    One query if there are none.
    """
    now = timezone.now()
    for pk, shown in mentioning(user).items():
        if shown == conversation.pk:
            PersonalState.objects.update_or_create(
                user=user, conversation_id=pk, defaults={"mentions_seen_at": now}
            )


def of(conversation_id: int) -> QuerySet[Note]:
    """Return the notes of a conversation and of those that were joined to it, oldest first."""
    found = Note.objects.filter(conversation__in=merging.joined_to(conversation_id))
    return found.select_related("author").prefetch_related("mentions").order_by("created_at", "id")
