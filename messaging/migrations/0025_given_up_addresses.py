from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """Add a column that the database fills in by itself: no row is rewritten.

    No released version stores which addresses were given up.
    """

    dependencies = [("messaging", "0024_address_books")]
    operations = [
        migrations.AddField(
            "contact",
            "address_given_up",
            models.BooleanField(db_default=False, default=False, editable=False),
        ),
    ]
