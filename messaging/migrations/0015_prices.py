from __future__ import annotations

from decimal import Decimal

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('messaging', '0014_schedules_and_deadlines'),
    ]

    operations = [
        migrations.CreateModel(
            name='Rate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('category', models.CharField(choices=[('authentication', 'authentication'), ('authentication-international', 'international authentication'), ('marketing', 'marketing'), ('marketing_lite', 'marketing (Marketing Messages API)'), ('referral_conversion', 'conversation from an advertisement'), ('service', 'service'), ('utility', 'utility')], max_length=40, verbose_name='category')),
                ('prefix', models.CharField(blank=True, help_text="A country's code with the plus, like +55. Empty: all other numbers.", max_length=16, validators=[django.core.validators.RegexValidator('^\\+[1-9][0-9]*$', 'Enter a plus and digits, like +55.')], verbose_name='numbers that begin with')),
                ('price', models.DecimalField(decimal_places=6, max_digits=12, validators=[django.core.validators.MinValueValidator(Decimal('0'))], verbose_name='price per delivered message')),
                ('currency', models.CharField(max_length=3, validators=[django.core.validators.RegexValidator('^[A-Z]{3}$', 'Enter three letters, like BRL or USD.')], verbose_name='currency')),
                ('valid_from', models.DateField(verbose_name='valid from')),
            ],
            options={
                'verbose_name': 'price',
                'verbose_name_plural': 'prices',
                'ordering': ['category', 'prefix', '-valid_from'],
                'constraints': [models.UniqueConstraint(fields=('category', 'prefix', 'valid_from'), name='rate_once_per_day')],
            },
        ),
    ]
