from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """Add columns that the database fills in by itself: no row is rewritten."""

    dependencies = [("messaging", "0015_prices")]
    operations = [
        migrations.AddField(
            "contact",
            "profile_name",
            models.CharField(
                blank=True, db_default="", default="", max_length=200, verbose_name="profile name"
            ),
        ),
        migrations.AddField(
            "contact",
            "saved_name",
            models.CharField(
                blank=True,
                db_default="",
                default="",
                max_length=200,
                verbose_name="name in the address book",
            ),
        ),
        migrations.AddField(
            "contact",
            "saved_name_at",
            models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            "conversation",
            "controlled_by",
            models.CharField(
                blank=True,
                db_default="",
                default="",
                max_length=16,
                verbose_name="controlled by",
            ),
        ),
        migrations.AddField(
            "conversation",
            "controlled_at",
            models.DateTimeField(blank=True, editable=False, null=True),
        ),
    ]
