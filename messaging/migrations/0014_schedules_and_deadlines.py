from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
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
    ]
