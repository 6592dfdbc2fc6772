"""Who works on a conversation, and whether it waits: assign, label, snooze, resolve, reopen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from messaging.inbox import states
from messaging.inbox.labels import clean_name
from messaging.live import publisher
from messaging.models import Conversation, Label

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from accounts.models import Team

MAX_LABELS: Final = 20
# How many conversations one run of the job wakes at most.
WAKE_BATCH: Final = 1_000
# Leaves a field as it is: None has a meaning.
UNCHANGED: Final[Any] = object()


def change(
    conversation: Conversation,
    *,
    assignee: User | None = UNCHANGED,
    team: Team | None = UNCHANGED,
    status: str | None = UNCHANGED,
    snoozed_until: dt.datetime | None = UNCHANGED,
    labels: Sequence[str] = UNCHANGED,
) -> Conversation:
    """Change what is given; all of it or, with a ValidationError keyed by field, nothing.

    Open pages follow. A conversation that was joined to another one is changed there. Labels are
    names: one that does not exist yet is created.
    """
    now = timezone.now()
    fields: dict[str, Any] = {"changed_at": now}
    if assignee is not UNCHANGED:
        if assignee is not None and not (assignee.is_active and assignee.is_staff):
            raise ValidationError({"assignee": _("This person cannot sign in.")})
        fields["assignee"] = assignee
    if team is not UNCHANGED:
        fields["team"] = team
    ends_nothing = (
        status is UNCHANGED and snoozed_until is None and conversation.status != states.SNOOZED
    )
    if not ends_nothing and (status is not UNCHANGED or snoozed_until is not UNCHANGED):
        fields |= states.changed(
            None if status is UNCHANGED else status,
            None if snoozed_until is UNCHANGED else snoozed_until,
            now=now,
        )
    names = None if labels is UNCHANGED else _clean_labels(labels)
    with transaction.atomic():
        locked = _lock(conversation)
        if names is not None:
            locked.labels.set(_labels(names))
        for name, value in fields.items():
            setattr(locked, name, value)
        locked.save(update_fields=list(fields))
        publisher.conversation_changed(locked.pk)
    return locked


def label(conversation: Conversation, name: str, *, on: bool) -> Conversation:
    """Add a label or remove it, whatever others do meanwhile. Raises ValidationError."""
    [clean] = _clean_labels([name])
    with transaction.atomic():
        locked = _lock(conversation)
        names = {one.name.lower(): one.name for one in locked.labels.all()}
        names.pop(clean.lower(), None)
        if on:
            names[clean.lower()] = clean
        return change(locked, labels=list(names.values()))


def mark_unread(conversation: Conversation) -> None:
    """Show a conversation as unread again, to everybody. Open pages follow."""
    with transaction.atomic():
        locked = _lock(conversation)
        if locked.unread_count == 0:
            locked.unread_count = 1
            locked.save(update_fields=["unread_count"])
            publisher.publish(publisher.INBOX, conversations=locked.pk)


def reopening(conversation: Conversation) -> dict[str, Any]:
    """Return what a new message of the customer changes in its conversation, a locked row.

    The caller stores it together with its own changes; open pages follow.
    """
    if conversation.status == states.OPEN:
        return {}
    publisher.conversation_changed(conversation.pk)
    return {**states.REOPENED, "changed_at": timezone.now()}


def wake_snoozed() -> int:
    """Open the conversations whose time has come; return their number."""
    due = Conversation.objects.filter(
        status=states.SNOOZED, snoozed_until__lte=timezone.now()
    ).order_by("snoozed_until")
    with transaction.atomic():
        ids = list(
            due.select_for_update(skip_locked=True).values_list("pk", flat=True)[:WAKE_BATCH]
        )
        Conversation.objects.filter(pk__in=ids).update(**states.REOPENED, changed_at=timezone.now())
        for pk in ids:
            publisher.conversation_changed(pk)
    return len(ids)


def _lock(conversation: Conversation) -> Conversation:
    while True:
        found = Conversation.everything.select_for_update().get(pk=conversation.pk)
        if found.merged_into is None:
            return found
        conversation = found.merged_into


def _clean_labels(labels: Sequence[str]) -> list[str]:
    cleaned = [clean_name(name, field="labels") for name in labels]
    names = {name.lower(): name for name in cleaned}
    if len(names) > MAX_LABELS:
        raise ValidationError({"labels": _("At most 20 labels.")})
    return list(names.values())


def _labels(names: Sequence[str]) -> list[Label]:
    """Return the labels with these names, in any case; create those that are missing."""
    known = Label.objects.annotate(lower_name=Lower("name"))
    wanted = {name.lower() for name in names}
    existing = {one.lower_name for one in known.filter(lower_name__in=wanted)}
    Label.objects.bulk_create(
        [Label(name=name) for name in names if name.lower() not in existing], ignore_conflicts=True
    )
    return list(known.filter(lower_name__in=wanted))
