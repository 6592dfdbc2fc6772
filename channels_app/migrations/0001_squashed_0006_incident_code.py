import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

import core.fields
import core.validators


class Migration(migrations.Migration):
    initial = True

    replaces = [
        ("channels_app", "0001_initial"),
        ("channels_app", "0002_wwebjs_session"),
        ("channels_app", "0003_alter_channel_evolution_url_alter_channel_graph_url_and_more"),
        ("channels_app", "0004_delivery_limits"),
        ("channels_app", "0005_coexistence"),
        ("channels_app", "0006_incident_code"),
    ]

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Channel",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=100, unique=True, verbose_name="name")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("official", "Official (Cloud API)"),
                            ("baileys", "Baileys (Evolution API)"),
                        ],
                        default="official",
                        max_length=10,
                        verbose_name="kind",
                    ),
                ),
                (
                    "phone_number",
                    models.CharField(blank=True, max_length=20, verbose_name="phone number"),
                ),
                ("active", models.BooleanField(default=True, verbose_name="active")),
                (
                    "graph_url",
                    models.CharField(
                        blank=True,
                        default="https://graph.facebook.com",
                        max_length=200,
                        validators=[core.validators.validate_http_address],
                        verbose_name="Graph API address",
                    ),
                ),
                (
                    "graph_version",
                    models.CharField(
                        blank=True,
                        default="v25.0",
                        max_length=10,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^v\\d+\\.\\d+$", "Write it like v25.0."
                            )
                        ],
                        verbose_name="Graph API version",
                    ),
                ),
                (
                    "phone_number_id",
                    models.CharField(
                        blank=True,
                        max_length=32,
                        validators=[
                            django.core.validators.RegexValidator("^\\d+$", "Digits only.")
                        ],
                        verbose_name="phone number id",
                    ),
                ),
                (
                    "business_account_id",
                    models.CharField(
                        blank=True,
                        max_length=32,
                        validators=[
                            django.core.validators.RegexValidator("^\\d+$", "Digits only.")
                        ],
                        verbose_name="WhatsApp business account id",
                    ),
                ),
                (
                    "access_token",
                    core.fields.EncryptedTextField(blank=True, verbose_name="access token"),
                ),
                (
                    "app_secret",
                    core.fields.EncryptedTextField(blank=True, verbose_name="app secret"),
                ),
                (
                    "verify_token",
                    core.fields.EncryptedTextField(
                        blank=True, verbose_name="webhook verification token"
                    ),
                ),
                (
                    "fallback",
                    models.CharField(
                        choices=[
                            ("none", "None"),
                            ("wwebjs", "wwebjs-api"),
                            ("baileys", "Baileys channel"),
                        ],
                        default="none",
                        max_length=10,
                        verbose_name="fallback",
                    ),
                ),
                (
                    "wwebjs_url",
                    models.CharField(
                        blank=True,
                        max_length=200,
                        validators=[core.validators.validate_http_address],
                        verbose_name="wwebjs-api address",
                    ),
                ),
                (
                    "wwebjs_api_key",
                    core.fields.EncryptedTextField(
                        blank=True, verbose_name="wwebjs-api key"
                    ),
                ),
                (
                    "wwebjs_session_id",
                    models.CharField(
                        blank=True,
                        max_length=64,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[A-Za-z0-9_-]+$", "Letters, digits, - and _ only."
                            )
                        ],
                        verbose_name="wwebjs-api session",
                    ),
                ),
                (
                    "ignore_messages_sent_outside",
                    models.BooleanField(
                        default=True, verbose_name="ignore messages sent outside the app"
                    ),
                ),
                (
                    "official_retries",
                    models.PositiveSmallIntegerField(
                        default=1,
                        validators=[django.core.validators.MaxValueValidator(10)],
                        verbose_name="official retries",
                    ),
                ),
                (
                    "request_timeout_seconds",
                    models.PositiveSmallIntegerField(
                        default=15,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(120),
                        ],
                        verbose_name="request timeout (s)",
                    ),
                ),
                (
                    "confirm_seconds",
                    models.PositiveSmallIntegerField(
                        default=60,
                        validators=[django.core.validators.MaxValueValidator(3600)],
                        verbose_name="wait for a confirmation (s)",
                    ),
                ),
                (
                    "on_unconfirmed",
                    models.CharField(
                        choices=[
                            ("fallback", "Send by the fallback"),
                            ("hold", "Hold for a person"),
                        ],
                        default="fallback",
                        max_length=10,
                        verbose_name="when nothing confirms a send",
                    ),
                ),
                (
                    "fallback_max_age_minutes",
                    models.PositiveIntegerField(
                        default=60,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(10080),
                        ],
                        verbose_name="oldest message that still falls back (min)",
                    ),
                ),
                (
                    "fallback_per_minute",
                    models.PositiveSmallIntegerField(
                        default=20,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(600),
                        ],
                        verbose_name="fallback messages a minute",
                    ),
                ),
                (
                    "fallback_new_chats_per_day",
                    models.PositiveIntegerField(
                        default=100,
                        validators=[django.core.validators.MaxValueValidator(100000)],
                        verbose_name="first messages by the fallback a day",
                    ),
                ),
                (
                    "fallback_despite_limits",
                    models.BooleanField(
                        default=False,
                        verbose_name="fall back in spite of Meta's limits on the number",
                    ),
                ),
                (
                    "messages_per_second",
                    models.PositiveSmallIntegerField(
                        default=80,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000),
                        ],
                        verbose_name="official messages a second",
                    ),
                ),
                ("coexistence", models.BooleanField(default=False, editable=False)),
                (
                    "evolution_url",
                    models.CharField(
                        blank=True,
                        max_length=200,
                        validators=[core.validators.validate_http_address],
                        verbose_name="Evolution API address",
                    ),
                ),
                (
                    "evolution_api_key",
                    core.fields.EncryptedTextField(
                        blank=True, verbose_name="Evolution API key"
                    ),
                ),
                (
                    "instance_name",
                    models.CharField(
                        blank=True,
                        max_length=100,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[A-Za-z0-9_.-]+$", "Letters, digits, -, _ and . only."
                            )
                        ],
                        verbose_name="instance name",
                    ),
                ),
                (
                    "calls_api_key",
                    core.fields.EncryptedTextField(
                        blank=True, verbose_name="key for calls"
                    ),
                ),
                (
                    "health",
                    models.CharField(
                        choices=[
                            ("unknown", "Not tested yet"),
                            ("ok", "Connection established"),
                            ("failing", "Not working"),
                        ],
                        default="unknown",
                        editable=False,
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("health_detail", models.CharField(blank=True, editable=False, max_length=300)),
                ("health_changed_at", models.DateTimeField(editable=False, null=True)),
                (
                    "wwebjs_state",
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
                        default="not_configured",
                        editable=False,
                        max_length=16,
                        verbose_name="wwebjs session",
                    ),
                ),
                ("wwebjs_state_code", models.CharField(blank=True, editable=False, max_length=40)),
                (
                    "wwebjs_state_detail",
                    models.CharField(blank=True, editable=False, max_length=300),
                ),
                ("wwebjs_state_changed_at", models.DateTimeField(editable=False, null=True)),
                ("wwebjs_checked_at", models.DateTimeField(editable=False, null=True)),
                ("wwebjs_own_number", models.CharField(blank=True, editable=False, max_length=20)),
                ("wwebjs_last_drop_at", models.DateTimeField(editable=False, null=True)),
                (
                    "wwebjs_last_drop_reason",
                    models.CharField(blank=True, editable=False, max_length=40),
                ),
                ("breaker_opened_at", models.DateTimeField(editable=False, null=True)),
                ("breaker_code", models.CharField(blank=True, editable=False, max_length=64)),
                ("breaker_late", models.BooleanField(default=False, editable=False)),
                ("breaker_probe_at", models.DateTimeField(editable=False, null=True)),
                ("breaker_probes", models.PositiveSmallIntegerField(default=0, editable=False)),
                ("wwebjs_breaker_opened_at", models.DateTimeField(editable=False, null=True)),
                (
                    "wwebjs_breaker_code",
                    models.CharField(blank=True, editable=False, max_length=64),
                ),
                ("wwebjs_breaker_late", models.BooleanField(default=False, editable=False)),
                ("wwebjs_breaker_probe_at", models.DateTimeField(editable=False, null=True)),
                (
                    "wwebjs_breaker_probes",
                    models.PositiveSmallIntegerField(default=0, editable=False),
                ),
                ("new_chats_stopped_until", models.DateTimeField(editable=False, null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="last change")),
                (
                    "fallback_channel",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="fallback_for",
                        to="channels_app.channel",
                        verbose_name="Baileys connection for fallback",
                    ),
                ),
            ],
            options={
                "verbose_name": "channel",
                "verbose_name_plural": "channels",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Incident",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "route",
                    models.CharField(
                        choices=[
                            ("wwebjs", "wwebjs"),
                            ("baileys", "Baileys"),
                            ("official", "official API"),
                            ("new_chats", "first messages by the fallback"),
                            ("fallbacks", "share of fallbacks"),
                            ("requests", "refused messages"),
                        ],
                        max_length=10,
                    ),
                ),
                ("code", models.CharField(blank=True, max_length=64)),
                ("reason", models.CharField(max_length=64)),
                ("detail", models.CharField(blank=True, max_length=300)),
                ("drops", models.PositiveIntegerField(default=1)),
                ("opened_at", models.DateTimeField()),
                ("last_drop_at", models.DateTimeField()),
                ("recovered_at", models.DateTimeField(blank=True, null=True)),
                ("closed_at", models.DateTimeField(blank=True, null=True)),
                ("told_at", models.DateTimeField(blank=True, null=True)),
                ("told_end_at", models.DateTimeField(blank=True, null=True)),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="incidents",
                        to="channels_app.channel",
                    ),
                ),
            ],
            options={
                "verbose_name": "incident",
                "verbose_name_plural": "incidents",
                "ordering": ["-opened_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="KnownNumber",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.CharField(max_length=20)),
                ("chat_id", models.CharField(max_length=255)),
                ("found_at", models.DateTimeField()),
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
        migrations.CreateModel(
            name="WwebjsSession",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("address", models.CharField(blank=True, max_length=300)),
                ("wanted", models.BooleanField(default=False)),
                ("probe_at", models.DateTimeField(db_index=True, null=True)),
                ("commanded_at", models.DateTimeField(null=True)),
                ("start_asked_at", models.DateTimeField(null=True)),
                ("tries", models.PositiveSmallIntegerField(default=0)),
                ("tried_at", models.DateTimeField(null=True)),
                ("hangs", models.PositiveSmallIntegerField(default=0)),
                ("missing_since", models.DateTimeField(null=True)),
                ("note", models.CharField(blank=True, max_length=40)),
                ("note_detail", models.CharField(blank=True, max_length=300)),
                ("announced", models.CharField(blank=True, max_length=40)),
                ("announced_at", models.DateTimeField(null=True)),
                ("qr_digest", models.CharField(blank=True, max_length=64)),
                ("qr_seen_at", models.DateTimeField(null=True)),
                (
                    "channel",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="wwebjs_session",
                        to="channels_app.channel",
                    ),
                ),
            ],
            options={
                "verbose_name": "wwebjs session",
                "verbose_name_plural": "wwebjs sessions",
            },
        ),
        migrations.AddConstraint(
            model_name="channel",
            constraint=models.CheckConstraint(
                condition=models.Q(("fallback_channel", models.F("pk")), _negated=True),
                name="channel_is_not_its_own_fallback",
                violation_error_message="A channel cannot be its own fallback.",
            ),
        ),
        migrations.AddConstraint(
            model_name="channel",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("fallback", "baileys"), _negated=True),
                    ("fallback_channel__isnull", False),
                    _connector="OR",
                ),
                name="channel_fallback_channel_when_baileys",
                violation_error_message="Choose the Baileys channel of the fallback.",
            ),
        ),
        migrations.AddConstraint(
            model_name="channel",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind", "official"), ("fallback", "none"), _connector="OR"),
                name="channel_only_official_has_fallback",
                violation_error_message="Only an official channel has a fallback.",
            ),
        ),
        migrations.AddConstraint(
            model_name="channel",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("kind", "official"), models.Q(("phone_number_id", ""), _negated=True)
                ),
                fields=("phone_number_id",),
                name="channel_phone_number_id_once",
                violation_error_message="Another channel already uses this phone number id.",
            ),
        ),
        migrations.AddConstraint(
            model_name="channel",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("kind", "baileys"), models.Q(("instance_name", ""), _negated=True)
                ),
                fields=("instance_name",),
                name="channel_instance_name_once",
                violation_error_message="Another channel already uses this instance.",
            ),
        ),
        migrations.AddIndex(
            model_name="incident",
            index=models.Index(
                fields=["channel", "-opened_at"], name="channels_ap_channel_efdf8d_idx"
            ),
        ),
        migrations.AddConstraint(
            model_name="incident",
            constraint=models.UniqueConstraint(
                condition=models.Q(("closed_at__isnull", True)),
                fields=("channel", "route", "code"),
                name="incident_one_open_per_connection",
            ),
        ),
        migrations.AddConstraint(
            model_name="knownnumber",
            constraint=models.UniqueConstraint(
                fields=("channel", "number"), name="known_number_once_per_channel"
            ),
        ),
    ]
