from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('messaging', '0022_message_search'),
    ]

    operations = [
        migrations.AddField(
            model_name='personalstate',
            name='mentions_seen_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
