import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import core.fields


class Migration(migrations.Migration):
    initial = True

    replaces = [
        ("instances", "0001_initial"),
        ("instances", "0002_connection_care"),
        ("instances", "0003_names_for_people"),
    ]

    dependencies = [
        ("channels_app", "0001_squashed_0006_incident_code"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ListenerProcess",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=200, unique=True)),
                ("started_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
            ],
            options={
                "verbose_name": "listener process",
                "verbose_name_plural": "listener processes",
            },
        ),
        migrations.CreateModel(
            name="ReceiveModeChange",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "from_mode",
                    models.CharField(
                        blank=True,
                        choices=[("webhook", "Webhook"), ("websocket", "WebSocket")],
                        max_length=10,
                    ),
                ),
                (
                    "to_mode",
                    models.CharField(
                        choices=[("webhook", "Webhook"), ("websocket", "WebSocket")], max_length=10
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("page", "page"),
                            ("api", "API"),
                            ("repair", "repair"),
                            ("command", "command"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "result",
                    models.CharField(
                        choices=[
                            ("running", "under way"),
                            ("done", "done"),
                            ("undone", "undone"),
                            ("cancelled", "cancelled"),
                        ],
                        default="running",
                        max_length=10,
                    ),
                ),
                ("detail", models.CharField(blank=True, max_length=500)),
                ("started_at", models.DateTimeField(auto_now_add=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "change of receive mode",
                "verbose_name_plural": "changes of receive mode",
                "ordering": ["-started_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="WhatsAppSession",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "webhook_enabled",
                    models.BooleanField(default=False, verbose_name="webhook enabled"),
                ),
                (
                    "websocket_enabled",
                    models.BooleanField(default=False, verbose_name="websocket enabled"),
                ),
                ("webhook_url", models.URLField(blank=True, null=True, verbose_name="webhook url")),
                ("webhook_base64", models.BooleanField(blank=True, null=True)),
                ("wants_base64", models.BooleanField(default=True)),
                ("webhook_secret", core.fields.EncryptedTextField(editable=False)),
                (
                    "webhook_secret_digest",
                    models.CharField(editable=False, max_length=64, unique=True),
                ),
                (
                    "global_events",
                    models.BooleanField(default=False, verbose_name="Evolution uses global events"),
                ),
                (
                    "switching_to",
                    models.CharField(
                        blank=True,
                        choices=[("webhook", "Webhook"), ("websocket", "WebSocket")],
                        max_length=10,
                    ),
                ),
                (
                    "switching_phase",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("preparing", "setting up the new way"),
                            ("joining", "waiting for the socket to open"),
                            ("cutting", "switching off the old way"),
                            ("undoing", "going back to the old way"),
                        ],
                        max_length=10,
                    ),
                ),
                ("switching_since", models.DateTimeField(blank=True, null=True)),
                (
                    "connection",
                    models.CharField(
                        choices=[
                            ("open", "connected"),
                            ("connecting", "connecting"),
                            ("close", "disconnected"),
                            ("unknown", "unknown"),
                        ],
                        default="unknown",
                        editable=False,
                        max_length=10,
                        verbose_name="connection",
                    ),
                ),
                ("connection_reason", models.CharField(blank=True, editable=False, max_length=200)),
                ("connection_changed_at", models.DateTimeField(editable=False, null=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("not_configured", "Not configured"),
                            ("disconnected", "Disconnected"),
                            ("starting", "Starting"),
                            ("qr", "Waiting for the QR code"),
                            ("pairing", "Linking the phone"),
                            ("connected", "Loading"),
                            ("ready", "Ready"),
                            ("error", "Not working"),
                        ],
                        default="disconnected",
                        editable=False,
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "state_code",
                    models.CharField(default="unchecked", editable=False, max_length=40),
                ),
                ("state_detail", models.CharField(blank=True, editable=False, max_length=300)),
                ("state_changed_at", models.DateTimeField(editable=False, null=True)),
                ("checked_at", models.DateTimeField(editable=False, null=True)),
                ("probe_at", models.DateTimeField(db_index=True, editable=False, null=True)),
                ("commanded_at", models.DateTimeField(editable=False, null=True)),
                ("address", models.CharField(blank=True, editable=False, max_length=310)),
                ("wanted", models.BooleanField(default=False, editable=False)),
                ("serving", models.BooleanField(default=False, editable=False)),
                ("last_open_at", models.DateTimeField(editable=False, null=True)),
                ("linking_since", models.DateTimeField(editable=False, null=True)),
                ("quiet_until", models.DateTimeField(editable=False, null=True)),
                ("dead_since", models.DateTimeField(editable=False, null=True)),
                ("tries", models.PositiveSmallIntegerField(default=0, editable=False)),
                ("tried_at", models.DateTimeField(editable=False, null=True)),
                ("closed_since", models.DateTimeField(editable=False, null=True)),
                ("note", models.CharField(blank=True, editable=False, max_length=40)),
                ("own_number", models.CharField(blank=True, editable=False, max_length=20)),
                ("profile_name", models.CharField(blank=True, editable=False, max_length=100)),
                ("has_picture", models.BooleanField(default=False, editable=False)),
                ("last_drop_at", models.DateTimeField(editable=False, null=True)),
                ("last_drop_reason", models.CharField(blank=True, editable=False, max_length=40)),
                ("qr_digest", models.CharField(blank=True, editable=False, max_length=64)),
                ("qr_seen_at", models.DateTimeField(editable=False, null=True)),
                ("listener_connected", models.BooleanField(default=False, editable=False)),
                ("listener_seen_at", models.DateTimeField(editable=False, null=True)),
                ("listener_note", models.CharField(blank=True, editable=False, max_length=200)),
                ("caught_up_at", models.DateTimeField(editable=False, null=True)),
                ("found_webhook", models.BooleanField(editable=False, null=True)),
                ("found_websocket", models.BooleanField(editable=False, null=True)),
                ("found_at", models.DateTimeField(editable=False, null=True)),
                ("found_error", models.CharField(blank=True, editable=False, max_length=300)),
                ("in_sync", models.BooleanField(editable=False, null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "channel",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="session",
                        to="channels_app.channel",
                        verbose_name="channel",
                    ),
                ),
                (
                    "switching_change",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="instances.receivemodechange",
                    ),
                ),
            ],
            options={
                "verbose_name": "WhatsApp session",
                "verbose_name_plural": "WhatsApp sessions",
                "ordering": ["channel__instance_name"],
            },
        ),
        migrations.AddField(
            model_name="receivemodechange",
            name="session",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="mode_changes",
                to="instances.whatsappsession",
            ),
        ),
        migrations.CreateModel(
            name="ProfilePicture",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("url", models.CharField(max_length=500)),
                ("content", models.BinaryField(default=bytes)),
                ("content_type", models.CharField(blank=True, max_length=20)),
                ("fetched_at", models.DateTimeField()),
                (
                    "session",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="picture",
                        to="instances.whatsappsession",
                    ),
                ),
            ],
            options={
                "verbose_name": "profile picture",
                "verbose_name_plural": "profile pictures",
            },
        ),
        migrations.AddConstraint(
            model_name="whatsappsession",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("webhook_enabled", True), ("websocket_enabled", True), _negated=True
                ),
                name="session_one_receive_mode",
            ),
        ),
        migrations.AddConstraint(
            model_name="whatsappsession",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("switching_phase", ""), ("switching_to", "")),
                    models.Q(
                        models.Q(("switching_to", ""), _negated=True),
                        models.Q(("switching_phase", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="session_switching_has_a_phase",
            ),
        ),
        migrations.AddIndex(
            model_name="receivemodechange",
            index=models.Index(
                fields=["session", "-started_at"], name="instances_r_session_953645_idx"
            ),
        ),
    ]
