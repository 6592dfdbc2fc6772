from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("instances", "0009_backfill"),
    ]

    operations = [
        migrations.AddField(
            model_name="whatsappsession",
            name="opened_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="whatsappsession",
            name="backlog_since",
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
