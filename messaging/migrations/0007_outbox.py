from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.models import Q

# Messages are delivered from their own table (messaging.delivery.outbox). Nothing runs the jobs
# that an earlier version has queued for them; what a message waits for is in its row.
DELETE_JOBS = "DELETE FROM procrastinate_jobs WHERE task_name = 'messaging.deliver'"
UNFINISHED = Q(
    Q(decision="") | Q(decision__startswith="waiting_"),
    direction="out",
    sent_outside=False,
    status__in=["queued", "sending", "unconfirmed", "rejected"],
)


class Migration(migrations.Migration):
    # The indexes are created while others write: a large installation is not locked.
    atomic = False

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
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["created_at"],
                condition=UNFINISHED & Q(decision="", claimed_by=None),
                name="message_outbox",
            ),
        ),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["conversation", "created_at"],
                condition=UNFINISHED,
                name="message_unfinished",
            ),
        ),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["claimed_by"],
                condition=Q(claimed_by__isnull=False),
                name="message_claimed_by",
            ),
        ),
        RemoveIndexConcurrently("message", "message_unfinished_age"),
    ]
