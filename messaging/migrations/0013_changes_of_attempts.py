import django.db.models.expressions
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # The index is created while others write: a large installation is not locked.
    atomic = False

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
        AddIndexConcurrently(
            "message",
            models.Index(
                condition=models.Q(("direction", "out"), ("type", "interactive")),
                fields=["conversation", "created_at"],
                name="message_with_options",
            ),
        ),
    ]
