from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


def without_index(model: str, name: str, column: str, suffix: str, field: models.Field) -> object:
    """Drop the index of a foreign key. Django would also drop the key and check all rows again."""
    table = f"messaging_{model}"
    index = f"{table}_{column}_{suffix}"
    return migrations.SeparateDatabaseAndState(
        [
            migrations.RunSQL(
                f"DROP INDEX CONCURRENTLY {index}",
                f"CREATE INDEX CONCURRENTLY {index} ON {table} ({column})",
            )
        ],
        [migrations.AlterField(model, name, field)],
    )


def key(to: str, **options: object) -> models.Field:
    return models.ForeignKey(to=to, db_index=False, **options)


PROTECT, CASCADE, SET_NULL = (
    django.db.models.deletion.PROTECT,
    django.db.models.deletion.CASCADE,
    django.db.models.deletion.SET_NULL,
)
OPTIONAL = {"blank": True, "null": True, "on_delete": SET_NULL}


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("messaging", "0004_media_attached"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndexConcurrently(
            "media",
            models.Index(
                fields=["created_at"], condition=models.Q(attached=False), name="media_unattached"
            ),
        ),
        without_index(
            "conversation", "channel", "channel_id", "41e8dcd0",
            key("channels_app.channel", on_delete=PROTECT, related_name="conversations",
                verbose_name="channel"),
        ),
        without_index(
            "message", "conversation", "conversation_id", "3db4d3d1",
            key("messaging.conversation", on_delete=PROTECT, related_name="messages",
                verbose_name="conversation"),
        ),
        without_index(
            "message", "media", "media_id", "66c62540",
            key("messaging.media", blank=True, null=True, on_delete=PROTECT,
                related_name="messages", verbose_name="media"),
        ),
        without_index(
            "message", "reply_to", "reply_to_id", "f28e3285",
            key("messaging.message", related_name="replies", verbose_name="reply to", **OPTIONAL),
        ),
        without_index(
            "message", "echo_of", "echo_of_id", "8fad9362",
            key("messaging.message", related_name="echoes", verbose_name="echo of", **OPTIONAL),
        ),
        without_index(
            "message", "created_by", "created_by_id", "8c40f7ec",
            key(settings.AUTH_USER_MODEL, verbose_name="created by", **OPTIONAL),
        ),
        without_index(
            "deliveryattempt", "message", "message_id", "3317fec4",
            key("messaging.message", on_delete=CASCADE, related_name="attempts",
                verbose_name="message"),
        ),
        without_index(
            "deliveryattempt", "connection", "connection_id", "c9dd1fdc",
            key("channels_app.connection", on_delete=PROTECT, related_name="attempts",
                verbose_name="connection"),
        ),
        without_index(
            "deliveryattempt", "confirmed_by", "confirmed_by_id", "43b07fcd",
            key(settings.AUTH_USER_MODEL, related_name="+", verbose_name="confirmed by", **OPTIONAL),
        ),
        # The constraint `inbound_once` takes its place; its second index (LIKE) goes with it.
        migrations.AlterField(
            "inboundevent",
            "dedupe_key",
            models.CharField(max_length=200, verbose_name="dedupe key"),
        ),
        RemoveIndexConcurrently("conversation", "messaging_c_last_me_7eba10_idx"),
        RemoveIndexConcurrently("media", "messaging_m_created_2d9d3d_idx"),
        RemoveIndexConcurrently("message", "message_unfinished"),
        RemoveIndexConcurrently("message", "messaging_m_status_17edaf_idx"),
        RemoveIndexConcurrently("message", "message_provider_message_id"),
    ]
