from __future__ import annotations

from django.db import migrations, models

# Files of earlier versions belong to a message, except uploads of the last days, perhaps. They are
# looked up; no other row is touched.
RECENT = """
UPDATE messaging_media SET attached = false
WHERE created_at > now() - interval '7 days'
    AND NOT EXISTS (SELECT FROM messaging_message WHERE media_id = messaging_media.id)
"""


class Migration(migrations.Migration):
    dependencies = [("messaging", "0003_indexes_that_do_not_grow")]

    operations = [
        migrations.AddField(
            "media", "attached", models.BooleanField(default=False, db_default=True)
        ),
        migrations.AlterField(
            "media", "attached", models.BooleanField(default=False, db_default=False)
        ),
        migrations.RunSQL(RECENT, migrations.RunSQL.noop),
    ]
