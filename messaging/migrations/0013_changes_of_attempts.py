import django.db.models.expressions
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("messaging", "0012_outbox_indexes")]

    operations = [
        migrations.AddField(
            model_name="deliveryattempt",
            name="changes",
            field=models.JSONField(
                blank=True,
                db_default=django.db.models.expressions.Value([], models.JSONField()),
                default=list,
                verbose_name="changes",
            ),
        ),
        migrations.AddField(
            model_name="deliveryattempt",
            name="sent_type",
            field=models.CharField(
                blank=True, db_default="", max_length=20, verbose_name="sent as"
            ),
        ),
        migrations.AddField(
            model_name="deliveryattempt",
            name="sent_text",
            field=models.TextField(blank=True, db_default="", verbose_name="sent text"),
        ),
    ]
