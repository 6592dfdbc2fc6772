from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("channels_app", "0004_incidents_of_the_account")]
    operations = [
        migrations.AddField(
            "channel",
            "ignore_groups",
            models.BooleanField(default=False, db_default=False, verbose_name="ignore groups"),
        )
    ]
