import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('messaging', '0007_waiting_messages'),
    ]

    operations = [
        migrations.AddField(
            model_name='callattempt',
            name='incoming',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='callattempt',
            name='status',
            field=models.CharField(blank=True, choices=[('ringing', 'ringing'), ('ended', 'over'), ('missed', 'missed'), ('rejected', 'declined'), ('accepted', 'answered')], max_length=10, default=''),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='callattempt',
            name='video',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='callattempt',
            name='call_id',
            field=models.CharField(blank=True, max_length=255, default=''),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='callattempt',
            name='version',
            field=models.PositiveIntegerField(default=1),
        ),
        migrations.AddField(
            model_name='callattempt',
            name='updated_at',
            field=models.DateTimeField(auto_now=True, default=django.utils.timezone.now),
            preserve_default=False,
        ),
        migrations.AlterField(
            model_name='callattempt',
            name='phone_number',
            field=models.CharField(blank=True, max_length=20, verbose_name='phone number'),
        ),
        migrations.AddConstraint(
            model_name='callattempt',
            constraint=models.UniqueConstraint(condition=models.Q(('call_id', ''), _negated=True), fields=('channel', 'call_id'), name='call_once_per_channel'),
        ),
        migrations.AddConstraint(
            model_name='callattempt',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('call_id', ''), ('incoming', False), ('status', '')), models.Q(('incoming', True), ('status__in', ['ringing', 'ended', 'missed', 'rejected', 'accepted']), models.Q(('call_id', ''), _negated=True)), _connector='OR'), name='call_has_an_id_and_a_status_when_incoming'),
        ),
    ]
