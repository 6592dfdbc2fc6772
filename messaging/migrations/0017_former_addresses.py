from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """Add columns that are empty at first: no row is rewritten."""

    dependencies = [("messaging", "0016_names_and_control")]
    operations = [
        migrations.AddField(
            "contactaddress",
            name,
            models.DateTimeField(blank=True, editable=False, null=True),
        )
        for name in ("named_at", "retired_at")
    ]
