from __future__ import annotations

from django.db import migrations, models
from django.db.models import JSONField, Value

KINDS = ["sent", "delivered", "read", "failed", "edit", "revoke", "media", "reaction", "vote"]


def empty(name: str, value: type[dict] | type[list]) -> migrations.AddField:
    """Add a column whose value the database fills in by itself: no row is rewritten."""
    default = Value(value(), JSONField())
    field = JSONField(blank=True, db_default=default, default=value)
    return migrations.AddField("message", name, field)


class Migration(migrations.Migration):
    dependencies = [("messaging", "0008_wishes_prices_and_held_messages")]
    operations = [
        empty("context", dict),
        empty("reactions", list),
        empty("votes", list),
        empty("earlier_texts", list),
        migrations.AlterField(
            "pendingevent",
            "kind",
            models.CharField(choices=[(kind, kind.title()) for kind in KINDS], max_length=10),
        ),
    ]
