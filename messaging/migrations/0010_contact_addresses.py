from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("channels_app", "0003_version_of_webhook_keys"),
        ("messaging", "0009_reactions_votes_and_context"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ContactAddress",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("phone", "phone number"),
                            ("user_id", "user id"),
                            ("parent_user_id", "parent user id"),
                            ("lid", "LID"), ("group", "group"),
                        ],
                        max_length=14,
                        verbose_name="kind",
                    ),
                ),
                ("value", models.CharField(max_length=150, verbose_name="address")),
                ("key", models.CharField(editable=False, max_length=150, unique=True)),
                (
                    "scope",
                    models.CharField(blank=True, max_length=64, verbose_name="business account"),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created at")),
            ],
            options={
                "verbose_name": "address",
                "verbose_name_plural": "addresses",
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="ContactMerge",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=200, verbose_name="reason")),
                ("fields", models.JSONField(default=dict)),
                ("addresses", models.JSONField(default=list)),
                ("conversations", models.JSONField(default=list)),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created at")),
                (
                    "undone_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="undone at"),
                ),
            ],
            options={
                "verbose_name": "merge of contacts",
                "verbose_name_plural": "merges of contacts",
                "ordering": ["-id"],
            },
        ),
        migrations.AlterModelOptions(
            name="conversation",
            options={
                "base_manager_name": "everything",
                "ordering": [
                    models.OrderBy(models.F("last_message_at"), descending=True, nulls_last=True),
                    "-id",
                ],
                "verbose_name": "conversation",
                "verbose_name_plural": "conversations",
            },
        ),
        migrations.AlterModelManagers(
            name="conversation",
            managers=[
                ("everything", django.db.models.manager.Manager()),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="contact",
            name="contact_has_an_address",
        ),
        migrations.AddField(
            model_name="callattempt",
            name="merged_from",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="messaging.conversation",
            ),
        ),
        migrations.AddField(
            model_name="contact",
            name="merged_into",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="merged",
                to="messaging.contact",
                verbose_name="merged into",
            ),
        ),
        migrations.AddField(
            model_name="contact",
            name="named_by_staff",
            field=models.BooleanField(
                db_default=False, default=False, verbose_name="named by staff"
            ),
        ),
        migrations.AddField(
            model_name="contact",
            name="username",
            field=models.CharField(
                blank=True, db_default="", max_length=100, verbose_name="username"
            ),
        ),
        migrations.AddField(
            model_name="conversation",
            name="merged_into",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="merged",
                to="messaging.conversation",
                verbose_name="merged into",
            ),
        ),
        migrations.AddField(
            model_name="deliveryattempt",
            name="message_key",
            field=models.CharField(blank=True, db_default="", editable=False, max_length=255),
        ),
        migrations.AddField(
            model_name="message",
            name="merged_from",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="messaging.conversation",
            ),
        ),
        migrations.AddField(
            model_name="message",
            name="message_key",
            field=models.CharField(blank=True, db_default="", editable=False, max_length=255),
        ),
        migrations.AlterField(
            model_name="contact",
            name="user_id",
            field=models.CharField(max_length=150, null=True, unique=True, verbose_name="user id"),
        ),
        migrations.AddIndex(
            model_name="contact",
            index=models.Index(
                condition=models.Q(("merged_into__isnull", False)),
                fields=["merged_into"],
                name="contact_merged_into",
            ),
        ),
        migrations.AddIndex(
            model_name="conversation",
            index=models.Index(
                condition=models.Q(("merged_into__isnull", False)),
                fields=["merged_into"],
                name="conversation_merged_into",
            ),
        ),
        migrations.AddConstraint(
            model_name="contact",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("phone_number__isnull", False),
                    ("user_id__isnull", False),
                    ("merged_into__isnull", False),
                    _connector="OR",
                ),
                name="contact_has_an_address",
            ),
        ),
        migrations.AddField(
            model_name="contactaddress",
            name="contact",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="addresses",
                to="messaging.contact",
                verbose_name="contact",
            ),
        ),
        migrations.AddField(
            model_name="contactmerge",
            name="contact",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="merges",
                to="messaging.contact",
                verbose_name="contact",
            ),
        ),
        migrations.AddField(
            model_name="contactmerge",
            name="created_by",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="created by",
            ),
        ),
        migrations.AddField(
            model_name="contactmerge",
            name="merged",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="merged_by",
                to="messaging.contact",
                verbose_name="merged contact",
            ),
        ),
        migrations.AddField(
            model_name="contactmerge",
            name="undone_by",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="undone by",
            ),
        ),
    ]
