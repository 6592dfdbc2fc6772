"""The list of labels: rename, color, merge, delete. Conversations are labeled by `work`."""

from __future__ import annotations

import re
from typing import Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from core.text import is_storable
from messaging.inbox.models import MAX_LABEL
from messaging.live import publisher
from messaging.models import Conversation, Label

# Open pages follow for this many of the latest conversations; others are right when next opened.
SHOWN_AT_ONCE: Final = 200
_COLOR = re.compile(r"#[0-9a-f]{6}")


def all_with_counts() -> QuerySet[Label]:
    """Return all labels by name, with `used`: the number of conversations that have it."""
    kept = Q(conversations__merged_into=None)
    return Label.objects.annotate(used=Count("conversations", filter=kept)).order_by("name")


def clean_name(name: str, *, field: str) -> str:
    """Return a label's name without superfluous spaces. Raises ValidationError for the field."""
    name = " ".join(name.split())
    if not 0 < len(name) <= MAX_LABEL or not is_storable(name):
        raise ValidationError({field: _("A label has 1 to 50 characters.")})
    return name


def change(label: Label, *, name: str, color: str = "") -> None:
    """Rename a label, and choose its color; "" lets the page choose. Raises ValidationError."""
    name = clean_name(name, field="name")
    if color and not _COLOR.fullmatch(color):
        raise ValidationError({"color": _("This is no color.")})
    with transaction.atomic():
        Label.objects.select_for_update().get(pk=label.pk)
        if Label.objects.filter(name__iexact=name).exclude(pk=label.pk).exists():
            raise ValidationError(
                {"name": _("There is another label with this name. Merge the two instead.")}
            )
        label.name, label.color = name, color
        label.save(update_fields=["name", "color"])
        _touch(label)


def merge(label: Label, into: Label) -> None:
    """Give the conversations of a label another one instead, and delete it."""
    if label.pk == into.pk:
        raise ValidationError({"into": _("Choose another label.")})
    through = Conversation.labels.through
    with transaction.atomic():
        locked = Label.objects.select_for_update().filter(pk__in=[label.pk, into.pk])
        if len(locked.order_by("pk")) < 2:
            raise ValidationError({"into": _("This label does not exist any more.")})
        _touch(label)
        theirs = through.objects.filter(label=label)
        both = through.objects.filter(label=into).values("conversation")
        theirs.exclude(conversation__in=both).update(label=into)
        label.delete()


def delete(label: Label) -> None:
    """Delete a label; its conversations lose it."""
    with transaction.atomic():
        _touch(label)
        label.delete()


def _touch(label: Label) -> None:
    latest = Conversation.objects.filter(labels=label).order_by("-last_message_at", "-pk")
    ids = list(latest.values_list("pk", flat=True)[:SHOWN_AT_ONCE])
    Conversation.objects.filter(pk__in=ids).update(changed_at=timezone.now())
    for pk in ids:
        publisher.conversation_changed(pk)
