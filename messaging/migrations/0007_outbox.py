from __future__ import annotations

from django.db import migrations, models

# Messages are delivered from their own table (messaging.delivery.outbox). Nothing runs the jobs
# that an earlier version has queued for them; what a message waits for is in its row.
DELETE_JOBS = "DELETE FROM procrastinate_jobs WHERE task_name = 'messaging.deliver'"


class Migration(migrations.Migration):
    dependencies = [("messaging", "0006_events_are_read_without_jobs")]

    operations = [
        migrations.RunSQL(DELETE_JOBS, migrations.RunSQL.noop),
        migrations.CreateModel(
            name="DeliveryWorker",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("seen_at", models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            "message",
            "claimed_by",
            models.ForeignKey(
                db_constraint=False,
                db_index=False,
                editable=False,
                null=True,
                on_delete=models.DO_NOTHING,
                related_name="+",
                to="messaging.deliveryworker",
            ),
        ),
    ]
