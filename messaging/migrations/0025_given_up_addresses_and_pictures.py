from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Add a table, and a column that the database fills in by itself: no row is rewritten.

    No released version stores which addresses were given up.
    """

    dependencies = [("messaging", "0024_address_books")]
    operations = [
        migrations.AddField(
            "contact",
            "address_given_up",
            models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.CreateModel(
            name="ContactPicture",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("url", models.CharField(max_length=500)),
                ("content", models.BinaryField(default=bytes)),
                ("content_type", models.CharField(blank=True, max_length=20)),
                ("updated_at", models.DateTimeField()),
                (
                    "contact",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="picture",
                        to="messaging.contact",
                        verbose_name="contact",
                    ),
                ),
            ],
            options={
                "verbose_name": "profile picture",
                "verbose_name_plural": "profile pictures",
            },
        ),
    ]
