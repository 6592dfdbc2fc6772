from django.db import migrations, models
from django.db.models import F, Q


def fill(apps, schema_editor):
    """Nobody wrote down when the latest drop was; the first is the best that is known."""
    apps.get_model("channels_app", "Incident").objects.update(last_drop_at=F("opened_at"))


class Migration(migrations.Migration):
    dependencies = [("channels_app", "0005_coexistence")]

    operations = [
        migrations.AddField("incident", "code", models.CharField(blank=True, max_length=64)),
        migrations.AddField("incident", "last_drop_at", models.DateTimeField(null=True)),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AlterField("incident", "last_drop_at", models.DateTimeField()),
        migrations.AlterField("incident", "reason", models.CharField(max_length=64)),
        migrations.AlterField(
            "incident",
            "route",
            models.CharField(
                max_length=10,
                choices=[
                    ("wwebjs", "wwebjs"),
                    ("baileys", "Baileys"),
                    ("official", "official API"),
                    ("new_chats", "first messages by the fallback"),
                    ("fallbacks", "share of fallbacks"),
                    ("requests", "refused messages"),
                ],
            ),
        ),
        migrations.RemoveConstraint("incident", "incident_one_open_per_connection"),
        migrations.AddConstraint(
            "incident",
            models.UniqueConstraint(
                name="incident_one_open_per_connection",
                fields=["channel", "route", "code"],
                condition=Q(closed_at__isnull=True),
            ),
        ),
    ]
