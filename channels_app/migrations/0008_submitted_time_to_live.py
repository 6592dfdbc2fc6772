from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("channels_app", "0007_deadlines")]
    operations = [
        migrations.AddField(
            "messagetemplate",
            "submitted_ttl_seconds",
            models.PositiveIntegerField(
                blank=True, null=True, verbose_name="time to live after the review (s)"
            ),
        ),
    ]
