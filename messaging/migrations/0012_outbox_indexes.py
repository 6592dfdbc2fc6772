from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.models import Q

UNFINISHED = Q(
    Q(decision="") | Q(decision__startswith="waiting_"),
    direction="out",
    sent_outside=False,
    status__in=["queued", "sending", "unconfirmed", "rejected"],
)


class Migration(migrations.Migration):
    # The indexes are created while others write: a large installation is not locked.
    atomic = False

    dependencies = [("messaging", "0011_addresses_and_keys_of_old_rows")]

    operations = [
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["created_at"],
                condition=UNFINISHED & Q(decision="", claimed_by=None),
                name="message_outbox",
            ),
        ),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["conversation", "created_at"],
                condition=UNFINISHED,
                name="message_unfinished",
            ),
        ),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["claimed_by"],
                condition=Q(claimed_by__isnull=False),
                name="message_claimed_by",
            ),
        ),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["created_at"], condition=Q(decision="waiting_turn"), name="message_turn"
            ),
        ),
        RemoveIndexConcurrently("message", "message_unfinished_age"),
    ]
