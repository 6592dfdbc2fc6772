import uuid

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import messaging.models

# procrastinate tells its workers of new jobs only. A job that had to wait for its lock is otherwise
# found when a worker next looks by itself, some seconds later.
FORWARD = """
CREATE FUNCTION alterna_notify_lock_is_free() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM procrastinate_jobs WHERE lock = OLD.lock AND status = 'todo') THEN
        PERFORM pg_notify('procrastinate_any_queue_v1', '{"type": "job_inserted"}');
        PERFORM pg_notify(
            'procrastinate_queue_v1#' || OLD.queue_name, '{"type": "job_inserted"}'
        );
    END IF;
    RETURN NULL;
END;
$$;
CREATE TRIGGER alterna_lock_is_free_after_update
    AFTER UPDATE OF status ON procrastinate_jobs FOR EACH ROW
    WHEN (OLD.lock IS NOT NULL AND OLD.status = 'doing' AND NEW.status NOT IN ('doing', 'todo'))
    EXECUTE FUNCTION alterna_notify_lock_is_free();
CREATE TRIGGER alterna_lock_is_free_after_delete
    AFTER DELETE ON procrastinate_jobs FOR EACH ROW
    WHEN (OLD.lock IS NOT NULL AND OLD.status = 'doing')
    EXECUTE FUNCTION alterna_notify_lock_is_free();
"""
BACKWARD = """
DROP TRIGGER alterna_lock_is_free_after_update ON procrastinate_jobs;
DROP TRIGGER alterna_lock_is_free_after_delete ON procrastinate_jobs;
DROP FUNCTION alterna_notify_lock_is_free();
"""


class Migration(migrations.Migration):
    initial = True

    replaces = [
        ("messaging", "0001_initial"),
        ("messaging", "0002_message_edited_at_message_revoked_at"),
        ("messaging", "0003_wake_the_next_of_a_lock"),
        ("messaging", "0004_echoes_and_confirmations"),
        ("messaging", "0005_call_attempts"),
        ("messaging", "0006_media"),
        ("messaging", "0007_waiting_messages"),
        ("messaging", "0008_incoming_calls"),
        ("messaging", "0009_inbound_skipped"),
        ("messaging", "0010_names_for_people"),
    ]

    dependencies = [
        ("channels_app", "0001_squashed_0006_incident_code"),
        ("procrastinate", "0041_post_retry_failed_job"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Contact",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "phone_number",
                    models.CharField(
                        max_length=20, null=True, unique=True, verbose_name="phone number"
                    ),
                ),
                (
                    "user_id",
                    models.CharField(
                        max_length=128, null=True, unique=True, verbose_name="user id"
                    ),
                ),
                ("name", models.CharField(blank=True, max_length=200, verbose_name="name")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created at")),
            ],
            options={
                "verbose_name": "contact",
                "verbose_name_plural": "contacts",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("phone_number__isnull", False),
                            ("user_id__isnull", False),
                            _connector="OR",
                        ),
                        name="contact_has_an_address",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Conversation",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "last_message_at",
                    models.DateTimeField(null=True, verbose_name="last message at"),
                ),
                (
                    "last_inbound_at",
                    models.DateTimeField(null=True, verbose_name="last inbound at"),
                ),
                (
                    "unread_count",
                    models.PositiveIntegerField(default=0, verbose_name="unread count"),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created at")),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="conversations",
                        to="channels_app.channel",
                        verbose_name="channel",
                    ),
                ),
                (
                    "contact",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="conversations",
                        to="messaging.contact",
                        verbose_name="contact",
                    ),
                ),
            ],
            options={
                "verbose_name": "conversation",
                "verbose_name_plural": "conversations",
                "ordering": [
                    models.OrderBy(models.F("last_message_at"), descending=True, nulls_last=True),
                    "-id",
                ],
            },
        ),
        migrations.CreateModel(
            name="CallAttempt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "phone_number",
                    models.CharField(blank=True, max_length=20, verbose_name="phone number"),
                ),
                ("incoming", models.BooleanField(default=False, verbose_name="incoming")),
                (
                    "status",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("ringing", "ringing"),
                            ("ended", "over"),
                            ("missed", "missed"),
                            ("rejected", "declined"),
                            ("accepted", "answered"),
                        ],
                        max_length=10,
                        verbose_name="status",
                    ),
                ),
                ("video", models.BooleanField(default=False, verbose_name="video")),
                ("call_id", models.CharField(blank=True, max_length=255, verbose_name="call id")),
                ("version", models.PositiveIntegerField(default=1, verbose_name="version")),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="created at"
                    ),
                ),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="updated at")),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="channels_app.channel",
                        verbose_name="channel",
                    ),
                ),
                (
                    "created_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="created by",
                    ),
                ),
                (
                    "conversation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="calls",
                        to="messaging.conversation",
                        verbose_name="conversation",
                    ),
                ),
            ],
            options={
                "verbose_name": "call attempt",
                "verbose_name_plural": "call attempts",
                "ordering": ["-created_at", "-id"],
                "permissions": [("call_contact", "Can call contacts")],
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="InboundEvent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("cloud", "Cloud API"),
                            ("evolution", "Evolution API"),
                            ("wwebjs", "wwebjs-api"),
                        ],
                        max_length=10,
                        verbose_name="source",
                    ),
                ),
                ("source_key", models.CharField(max_length=100, verbose_name="source key")),
                (
                    "dedupe_key",
                    models.CharField(max_length=200, unique=True, verbose_name="dedupe key"),
                ),
                ("payload", models.JSONField(verbose_name="payload")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "waiting"),
                            ("done", "read"),
                            ("set_aside", "set aside"),
                        ],
                        default="pending",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("error", models.TextField(blank=True, verbose_name="error")),
                ("skipped", models.CharField(blank=True, max_length=200, verbose_name="not read")),
                (
                    "received_at",
                    models.DateTimeField(auto_now_add=True, verbose_name="received at"),
                ),
                (
                    "processed_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="processed at"),
                ),
            ],
            options={
                "verbose_name": "inbound event",
                "verbose_name_plural": "inbound events",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "pending")),
                        fields=["source", "source_key", "id"],
                        name="inbound_pending",
                    ),
                    models.Index(
                        condition=models.Q(("state", "set_aside")),
                        fields=["id"],
                        name="inbound_set_aside",
                    ),
                    models.Index(
                        condition=models.Q(("skipped", ""), _negated=True),
                        fields=["skipped"],
                        name="inbound_skipped",
                    ),
                    models.Index(fields=["received_at"], name="messaging_i_receive_885701_idx"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Media",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("stored", "stored"),
                            ("waiting", "is being fetched"),
                            ("failed", "could not be loaded"),
                        ],
                        default="stored",
                        max_length=10,
                    ),
                ),
                (
                    "file",
                    models.FileField(
                        blank=True, max_length=200, upload_to=messaging.models.new_file_name
                    ),
                ),
                ("mime_type", models.CharField(blank=True, max_length=150)),
                ("size", models.PositiveBigIntegerField(default=0)),
                ("filename", models.CharField(blank=True, max_length=200)),
                ("sha256", models.CharField(blank=True, max_length=64)),
                ("source", models.JSONField(blank=True, default=dict)),
                ("tries", models.PositiveSmallIntegerField(default=0)),
                ("next_try_at", models.DateTimeField(blank=True, null=True)),
                ("error_code", models.CharField(blank=True, max_length=64)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "created_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "file",
                "verbose_name_plural": "files",
            },
        ),
        migrations.CreateModel(
            name="MediaUpload",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("provider_media_id", models.CharField(max_length=255)),
                ("expires_at", models.DateTimeField()),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="channels_app.channel",
                    ),
                ),
                (
                    "media",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="uploads",
                        to="messaging.media",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Message",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "direction",
                    models.CharField(
                        choices=[("in", "received"), ("out", "sent")],
                        max_length=3,
                        verbose_name="direction",
                    ),
                ),
                ("type", models.CharField(default="text", max_length=20, verbose_name="type")),
                ("text", models.TextField(blank=True, verbose_name="text")),
                ("content", models.JSONField(blank=True, default=dict, verbose_name="content")),
                (
                    "status",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("queued", "Waiting"),
                            ("sending", "Sending"),
                            ("sent", "Sent"),
                            ("delivered", "Delivered"),
                            ("read", "Read"),
                            ("rejected", "Rejected"),
                            ("unconfirmed", "Not confirmed"),
                        ],
                        max_length=12,
                        verbose_name="status",
                    ),
                ),
                (
                    "route",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("official", "official API"),
                            ("wwebjs", "wwebjs"),
                            ("baileys", "Baileys"),
                        ],
                        max_length=10,
                        null=True,
                        verbose_name="route",
                    ),
                ),
                (
                    "error_code",
                    models.CharField(blank=True, max_length=64, verbose_name="error code"),
                ),
                (
                    "error_title",
                    models.CharField(blank=True, max_length=300, verbose_name="error title"),
                ),
                ("error_detail", models.TextField(blank=True, verbose_name="error detail")),
                ("decision", models.CharField(blank=True, max_length=40, verbose_name="decision")),
                (
                    "next_attempt_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="next attempt at"),
                ),
                ("round", models.PositiveSmallIntegerField(default=1, verbose_name="round")),
                (
                    "round_route",
                    models.CharField(
                        choices=[("official", "official first"), ("fallback", "fallback only")],
                        default="official",
                        max_length=10,
                        verbose_name="round route",
                    ),
                ),
                (
                    "round_started_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="round started at"),
                ),
                ("version", models.PositiveIntegerField(default=1, verbose_name="version")),
                (
                    "provider_message_id",
                    models.CharField(
                        blank=True, max_length=255, verbose_name="provider message id"
                    ),
                ),
                ("sent_outside", models.BooleanField(default=False, verbose_name="sent outside")),
                (
                    "edited_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="edited at"),
                ),
                (
                    "revoked_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="revoked at"),
                ),
                (
                    "client_reference",
                    models.CharField(blank=True, max_length=255, verbose_name="client reference"),
                ),
                (
                    "idempotency_key",
                    models.CharField(blank=True, max_length=255, verbose_name="idempotency key"),
                ),
                (
                    "request_digest",
                    models.CharField(blank=True, max_length=64, verbose_name="request digest"),
                ),
                ("created_at", models.DateTimeField(db_index=True, verbose_name="created at")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="updated at")),
                (
                    "conversation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="messages",
                        to="messaging.conversation",
                        verbose_name="conversation",
                    ),
                ),
                (
                    "created_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="created by",
                    ),
                ),
                (
                    "echo_of",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="echoes",
                        to="messaging.message",
                        verbose_name="echo of",
                    ),
                ),
                (
                    "media",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="messages",
                        to="messaging.media",
                        verbose_name="media",
                    ),
                ),
                (
                    "reply_to",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="replies",
                        to="messaging.message",
                        verbose_name="reply to",
                    ),
                ),
            ],
            options={
                "verbose_name": "message",
                "verbose_name_plural": "messages",
                "ordering": ["-created_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="DeliveryAttempt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveSmallIntegerField(verbose_name="number")),
                ("round", models.PositiveSmallIntegerField(default=1, verbose_name="round")),
                (
                    "route",
                    models.CharField(
                        choices=[
                            ("official", "official API"),
                            ("wwebjs", "wwebjs"),
                            ("baileys", "Baileys"),
                        ],
                        max_length=10,
                        verbose_name="route",
                    ),
                ),
                ("rule", models.CharField(blank=True, max_length=40, verbose_name="rule")),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("started", "started"),
                            ("accepted", "accepted"),
                            ("rejected", "rejected"),
                            ("transient", "not sent, may be tried again"),
                            ("unknown", "unknown"),
                        ],
                        default="started",
                        max_length=10,
                        verbose_name="outcome",
                    ),
                ),
                ("receipt", models.CharField(blank=True, max_length=10, verbose_name="receipt")),
                (
                    "error_code",
                    models.CharField(blank=True, max_length=64, verbose_name="error code"),
                ),
                (
                    "error_title",
                    models.CharField(blank=True, max_length=300, verbose_name="error title"),
                ),
                ("error_detail", models.TextField(blank=True, verbose_name="error detail")),
                (
                    "provider_message_id",
                    models.CharField(
                        blank=True, max_length=255, verbose_name="provider message id"
                    ),
                ),
                ("started_at", models.DateTimeField(verbose_name="started at")),
                (
                    "finished_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="finished at"),
                ),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="channels_app.channel",
                        verbose_name="channel",
                    ),
                ),
                (
                    "confirmed_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="confirmed by",
                    ),
                ),
                (
                    "message",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="attempts",
                        to="messaging.message",
                        verbose_name="message",
                    ),
                ),
            ],
            options={
                "verbose_name": "delivery attempt",
                "verbose_name_plural": "delivery attempts",
                "ordering": ["message", "number"],
            },
        ),
        migrations.CreateModel(
            name="ParkedReceipt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("provider_message_id", models.CharField(max_length=255)),
                ("receipt", models.CharField(max_length=10)),
                ("error_code", models.CharField(blank=True, max_length=64)),
                ("error_title", models.CharField(blank=True, max_length=300)),
                ("error_detail", models.TextField(blank=True)),
                ("received_at", models.DateTimeField(auto_now_add=True)),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="channels_app.channel",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="conversation",
            index=models.Index(
                fields=["-last_message_at", "-id"], name="messaging_c_last_me_7eba10_idx"
            ),
        ),
        migrations.AddConstraint(
            model_name="conversation",
            constraint=models.UniqueConstraint(
                fields=("channel", "contact"), name="conversation_once_per_channel_and_contact"
            ),
        ),
        migrations.AddIndex(
            model_name="callattempt",
            index=models.Index(
                fields=["conversation", "-created_at"], name="messaging_c_convers_e2da10_idx"
            ),
        ),
        migrations.AddConstraint(
            model_name="callattempt",
            constraint=models.UniqueConstraint(
                condition=models.Q(("call_id", ""), _negated=True),
                fields=("channel", "call_id"),
                name="call_once_per_channel",
            ),
        ),
        migrations.AddConstraint(
            model_name="callattempt",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("call_id", ""), ("incoming", False), ("status", "")),
                    models.Q(
                        ("incoming", True),
                        ("status__in", ["ringing", "ended", "missed", "rejected", "accepted"]),
                        models.Q(("call_id", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="call_has_an_id_and_a_status_when_incoming",
            ),
        ),
        migrations.AddIndex(
            model_name="media",
            index=models.Index(
                condition=models.Q(("state", "waiting")),
                fields=["next_try_at"],
                name="media_waiting",
            ),
        ),
        migrations.AddIndex(
            model_name="media",
            index=models.Index(fields=["file"], name="messaging_m_file_10ebee_idx"),
        ),
        migrations.AddIndex(
            model_name="media",
            index=models.Index(fields=["created_at"], name="messaging_m_created_2d9d3d_idx"),
        ),
        migrations.AddConstraint(
            model_name="media",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "stored"), _negated=True),
                    models.Q(models.Q(("file", ""), _negated=True), ("size__gt", 0)),
                    _connector="OR",
                ),
                name="media_stored_has_a_file",
            ),
        ),
        migrations.AddConstraint(
            model_name="mediaupload",
            constraint=models.UniqueConstraint(
                fields=("media", "channel"), name="media_uploaded_once_per_channel"
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                fields=["conversation", "-created_at", "-id"], name="messaging_m_convers_fccf6c_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                fields=["conversation", "updated_at"], name="messaging_m_convers_98cbfa_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("client_reference", ""), _negated=True),
                fields=["client_reference"],
                name="message_client_reference",
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                fields=["status", "created_at"], name="messaging_m_status_17edaf_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("next_attempt_at__isnull", False)),
                fields=["next_attempt_at"],
                name="message_waiting",
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("next_attempt_at__isnull", False)),
                fields=["conversation"],
                name="message_waiting_here",
            ),
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.UniqueConstraint(
                condition=models.Q(("idempotency_key", ""), _negated=True),
                fields=("created_by", "idempotency_key"),
                name="message_idempotency_key_once_per_user",
            ),
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.UniqueConstraint(
                condition=models.Q(("provider_message_id", ""), _negated=True),
                fields=("conversation", "provider_message_id"),
                name="message_provider_id_once_per_conversation",
            ),
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("direction", "in"), ("status", "")),
                    models.Q(
                        ("direction", "out"),
                        (
                            "status__in",
                            [
                                "queued",
                                "sending",
                                "sent",
                                "delivered",
                                "read",
                                "rejected",
                                "unconfirmed",
                            ],
                        ),
                    ),
                    _connector="OR",
                ),
                name="message_status_is_known_when_sent",
            ),
        ),
        migrations.AddIndex(
            model_name="deliveryattempt",
            index=models.Index(
                condition=models.Q(("provider_message_id", ""), _negated=True),
                fields=["provider_message_id"],
                name="attempt_provider_message_id",
            ),
        ),
        migrations.AddIndex(
            model_name="deliveryattempt",
            index=models.Index(
                fields=["channel", "route", "started_at"], name="messaging_d_channel_340a16_idx"
            ),
        ),
        migrations.AddConstraint(
            model_name="deliveryattempt",
            constraint=models.UniqueConstraint(
                fields=("message", "number"), name="attempt_number_once_per_message"
            ),
        ),
        migrations.AddConstraint(
            model_name="deliveryattempt",
            constraint=models.UniqueConstraint(
                condition=models.Q(("outcome", "started")),
                fields=("message",),
                name="attempt_one_started_per_message",
            ),
        ),
        migrations.AddConstraint(
            model_name="parkedreceipt",
            constraint=models.UniqueConstraint(
                fields=("channel", "provider_message_id", "receipt"), name="parked_receipt_once"
            ),
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
