from __future__ import annotations

from django.contrib.postgres.operations import (
    AddConstraintNotValid,
    AddIndexConcurrently,
    ValidateConstraint,
)
from django.db import migrations, models
from django.db.models import F, Q

LATEST = (F("last_message_at").desc(nulls_last=True), F("id").desc())
HAS_ASSIGNEE = models.Func(
    F("assignee"), template="(%(expressions)s IS NOT NULL)", output_field=models.BooleanField()
)


def index(name: str, *columns: object, condition: Q) -> AddIndexConcurrently:
    return AddIndexConcurrently(
        "conversation", models.Index(*columns, condition=condition, name=name)
    )


class Migration(migrations.Migration):
    # The indexes are created while others write: a large installation is not locked.
    atomic = False

    dependencies = [("messaging", "0020_shared_inbox")]

    operations = [
        index(
            "conversation_of_person", F("assignee"), *LATEST, condition=Q(assignee__isnull=False)
        ),
        index("conversation_of_team", F("team"), *LATEST, condition=Q(team__isnull=False)),
        index("conversation_unread", *LATEST, condition=Q(unread_count__gt=0)),
        index("conversation_open", HAS_ASSIGNEE, *LATEST, condition=Q(status="open")),
        AddIndexConcurrently(
            "conversation",
            models.Index(
                fields=["snoozed_until"], condition=Q(status="snoozed"), name="conversation_snoozed"
            ),
        ),
        AddIndexConcurrently(
            "conversation",
            models.Index(
                fields=["changed_at"],
                condition=Q(changed_at__isnull=False),
                name="conversation_changed",
            ),
        ),
        AddConstraintNotValid(
            "conversation",
            models.CheckConstraint(
                name="conversation_snoozed_until_a_time",
                condition=Q(status="snoozed", snoozed_until__isnull=False)
                | (~Q(status="snoozed") & Q(snoozed_until__isnull=True)),
            ),
        ),
        ValidateConstraint("conversation", "conversation_snoozed_until_a_time"),
    ]
