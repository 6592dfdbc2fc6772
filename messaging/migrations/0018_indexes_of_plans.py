from __future__ import annotations

from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class AddIndex(AddIndexConcurrently):
    """Begin from nothing: a build that was canceled leaves an index that is not valid."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        self._ensure_not_in_transaction(schema_editor)
        name = schema_editor.quote_name(self.index.name)
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        super().database_forwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    # The indexes are created while others write: a large installation is not locked. The columns
    # have migrations of their own, so that this one can be repeated.
    atomic = False

    dependencies = [("messaging", "0017_former_addresses")]

    operations = [
        AddIndex(
            "message",
            models.Index(
                fields=["conversation", "created_at"],
                condition=Q(direction="out", type="interactive"),
                name="message_with_options",
            ),
        ),
        AddIndex(
            "message",
            models.Index(
                fields=["created_at"],
                condition=Q(overdue_at__isnull=False, status__in=["held", "sent"]),
                name="message_undelivered",
            ),
        ),
        AddIndex(
            "message",
            models.Index(
                fields=["deadline_check_at"],
                condition=Q(deadline_check_at__isnull=False),
                name="message_deadline",
            ),
        ),
    ]
