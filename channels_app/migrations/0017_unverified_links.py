from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("channels_app", "0016_resolved_number"),
    ]

    operations = [
        migrations.AddField(
            model_name="channel",
            name="link_unverified",
            field=models.BooleanField(default=False, editable=False),
        ),
        migrations.AddField(
            model_name="wwebjssession",
            name="number_seen_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="wwebjssession",
            name="page_number",
            field=models.CharField(blank=True, max_length=20),
        ),
        migrations.AddField(
            model_name="wwebjssession",
            name="unlink_failed",
            field=models.BooleanField(default=False),
        ),
    ]
