from __future__ import annotations

from typing import Any

from django.db import migrations, models


def move_errors(apps: Any, schema_editor: Any) -> None:
    """Put a receipt's error where every pending event has its own data."""
    for event in apps.get_model("messaging", "PendingEvent").objects.iterator():
        event.payload = {
            "code": event.error_code,
            "title": event.error_title,
            "detail": event.error_detail,
        }
        event.save(update_fields=["payload"])


class Migration(migrations.Migration):
    dependencies = [("messaging", "0012_withheld")]
    operations = [
        migrations.AddField(
            model_name="message",
            name="faults",
            field=models.PositiveSmallIntegerField(default=0, editable=False),
        ),
        migrations.RemoveConstraint(model_name="parkedreceipt", name="parked_receipt_once"),
        migrations.RenameModel(old_name="ParkedReceipt", new_name="PendingEvent"),
        migrations.RenameField(model_name="pendingevent", old_name="receipt", new_name="kind"),
        migrations.AlterField(
            model_name="pendingevent",
            name="kind",
            field=models.CharField(
                choices=[
                    ("sent", "Sent"),
                    ("delivered", "Delivered"),
                    ("read", "Read"),
                    ("failed", "Failed"),
                    ("edit", "Edit"),
                    ("revoke", "Revoke"),
                    ("media", "Media"),
                ],
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="pendingevent", name="payload", field=models.JSONField(default=dict)
        ),
        migrations.RunPython(move_errors, migrations.RunPython.noop),
        migrations.RemoveField(model_name="pendingevent", name="error_code"),
        migrations.RemoveField(model_name="pendingevent", name="error_title"),
        migrations.RemoveField(model_name="pendingevent", name="error_detail"),
        migrations.AddConstraint(
            model_name="pendingevent",
            constraint=models.UniqueConstraint(
                fields=("channel", "provider_message_id", "kind"), name="pending_event_once"
            ),
        ),
        migrations.RemoveConstraint(
            model_name="message", name="message_provider_id_once_per_conversation"
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.UniqueConstraint(
                condition=models.Q(("provider_message_id", ""), _negated=True),
                fields=("provider_message_id", "conversation"),
                name="message_provider_id_once_per_conversation",
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(
                    models.Q(("decision", ""), ("decision__startswith", "waiting_"), _connector="OR"),
                    ("direction", "out"),
                    ("status__in", ["queued", "sending", "unconfirmed", "rejected"]),
                ),
                fields=["updated_at"],
                name="message_unfinished",
            ),
        ),
    ]
