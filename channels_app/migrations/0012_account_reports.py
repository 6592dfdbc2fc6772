import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('channels_app', '0010_team_and_automatic_answers'),
    ]

    operations = [
        migrations.CreateModel(
            name='AccountReport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('topic', models.CharField(max_length=64)),
                ('reason', models.CharField(blank=True, max_length=64)),
                ('detail', models.CharField(blank=True, max_length=200)),
                ('at', models.DateTimeField()),
                ('connection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='channels_app.connection')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('connection', 'topic'), name='account_report_once_per_topic')],
            },
        ),
        migrations.AddField(
            model_name='connection',
            name='service_month',
            field=models.DateField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name='connection',
            name='service_messages',
            field=models.PositiveIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
