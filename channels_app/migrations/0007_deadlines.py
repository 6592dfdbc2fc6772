from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("channels_app", "0006_message_templates")]
    operations = [
        migrations.AddField(
            "channel",
            "on_undelivered",
            models.CharField(
                choices=[
                    ("hold", "Tell a person"),
                    ("fallback", "Send through the fallback, if it cannot arrive twice"),
                ],
                default="hold",
                db_default="hold",
                max_length=10,
                verbose_name="if a message is not delivered by its deadline",
            ),
        ),
        migrations.AddField(
            "messagetemplate",
            "ttl_seconds",
            models.PositiveIntegerField(blank=True, null=True, verbose_name="time to live (s)"),
        ),
    ]
