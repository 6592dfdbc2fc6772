from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('messaging', '0026_words_of_files_and_revoked_messages'),
    ]

    operations = [
        migrations.AddField(
            model_name='personalstate',
            name='mentions_seen_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
