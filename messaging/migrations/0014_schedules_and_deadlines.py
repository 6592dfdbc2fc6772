from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    # The indexes are created while others write: a large installation is not locked.
    atomic = False

    dependencies = [
        ("messaging", "0013_changes_of_attempts"),
        ("channels_app", "0007_deadlines"),
    ]

    operations = [
        migrations.AddField(
            "message",
            "send_at",
            models.DateTimeField(blank=True, null=True, verbose_name="send at"),
        ),
        migrations.AddField(
            "message",
            "deliver_by",
            models.DateTimeField(blank=True, null=True, verbose_name="deliver by"),
        ),
        migrations.AddField(
            "message",
            "on_undelivered",
            models.CharField(
                blank=True,
                choices=[
                    ("hold", "Tell a person"),
                    ("fallback", "Send through the fallback, if it cannot arrive twice"),
                ],
                db_default="",
                default="",
                max_length=10,
                verbose_name="if not delivered by then",
            ),
        ),
        migrations.AddField(
            "message",
            "deadline_check_at",
            models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            "message",
            "overdue_at",
            models.DateTimeField(blank=True, null=True, verbose_name="overdue since"),
        ),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["created_at"],
                condition=Q(overdue_at__isnull=False, status__in=["held", "sent"]),
                name="message_undelivered",
            ),
        ),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["deadline_check_at"],
                condition=Q(deadline_check_at__isnull=False),
                name="message_deadline",
            ),
        ),
    ]
