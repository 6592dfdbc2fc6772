from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_teams'),
        ('channels_app', '0008_submitted_time_to_live'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='channel',
            name='assignee',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='assignee'),
        ),
        migrations.AddField(
            model_name='channel',
            name='away_message',
            field=models.TextField(blank=True, db_default='', default='', max_length=1024, verbose_name='out-of-hours answer'),
        ),
        migrations.AddField(
            model_name='channel',
            name='greeting',
            field=models.TextField(blank=True, db_default='', default='', max_length=1024, verbose_name='greeting'),
        ),
        migrations.AddField(
            model_name='channel',
            name='opening_hours',
            field=models.JSONField(blank=True, db_default=models.Value({}, models.JSONField()), default=dict, help_text='Such as {"mon": [["08:00", "18:00"]]}. Empty: always open.', verbose_name='opening hours'),
        ),
        migrations.AddField(
            model_name='channel',
            name='team',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='channels', to='accounts.team', verbose_name='team'),
        ),
        migrations.AddField(
            model_name='channel',
            name='time_zone',
            field=models.CharField(blank=True, db_default='', default='', max_length=64, verbose_name='time zone'),
        ),
    ]
