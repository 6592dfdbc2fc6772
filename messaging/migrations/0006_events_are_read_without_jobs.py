from __future__ import annotations

from django.db import migrations

# Events are read as soon as they are committed (messaging.inbound.reader_loop); nothing runs the
# jobs that an earlier version has queued for them.
FORWARD = "DELETE FROM procrastinate_jobs WHERE task_name = 'messaging.read_inbound'"


class Migration(migrations.Migration):
    dependencies = [("messaging", "0005_drop_unused_indexes")]
    operations = [migrations.RunSQL(FORWARD, migrations.RunSQL.noop)]
