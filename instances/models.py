from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_app.models import Channel, Connection, EvolutionCredentials
from core.fields import EncryptedTextField

# After the connection to WhatsApp has opened, what waited there arrives within this time.
BACKLOG_ARRIVES_FOR = dt.timedelta(minutes=15)


class Mode(models.TextChoices):
    WEBHOOK = "webhook", "Webhook"
    WEBSOCKET = "websocket", "WebSocket"


class Difference(models.TextChoices):
    """A setting of Evolution that differs from the agreed one."""

    INSTANCE = "instance", _("Evolution does not have this instance.")
    MODE = "mode", _("Another receive mode is enabled, or both, or none.")
    ADDRESS = "webhook_url", _("Its webhook points to another address.")
    SECRET = "webhook_secret", _("Its webhook does not send the configured secret.")
    EVENTS = "webhook_events", _("Its webhook does not include all events.")
    BY_EVENTS = "webhook_by_events", _("Its webhook uses a separate address for each event.")
    BASE64 = "webhook_base64", _("Its webhook has a different setting for Base64 media.")
    SOCKET_EVENTS = "websocket_events", _("Its WebSocket does not include all events.")


class SessionManager(models.Manager["WhatsAppSession"]):
    def loaded(self, **lookup: Any) -> WhatsAppSession | None:
        """Return one session with its channel and credentials."""
        return self.select_related("channel__evolution").filter(**lookup).first()

    def lock(self, **lookup: Any) -> WhatsAppSession | None:
        """Lock and return one session. In a transaction.

        Only its own row is locked. The default order joins the channel, whose row is locked before
        the session's elsewhere (`Connection.objects.lock`).
        """
        return self.select_for_update(no_key=True, of=("self",)).filter(**lookup).first()


class WhatsAppSession(models.Model):
    """How a Baileys channel's Evolution instance delivers its events: by one mode at a time.

    The four receive-mode fields hold the mode agreed with Evolution. `switching_to` and
    `switching_phase` describe a running handover; the agreed mode changes only when it ends.
    """

    class Phase(models.TextChoices):
        """The progress of a handover. Each phase can run again after a crash."""

        PREPARING = "preparing", _("setting up the new receive mode")
        JOINING = "joining", _("waiting for the socket to open")
        DISABLING_OLD = "cutting", _("disabling the previous receive mode")
        UNDOING = "undoing", _("returning to the previous receive mode")

    channel = models.OneToOneField(
        Channel, verbose_name=_("channel"), on_delete=models.CASCADE, related_name="session"
    )

    webhook_enabled = models.BooleanField(_("webhook enabled"), default=False)
    websocket_enabled = models.BooleanField(_("websocket enabled"), default=False)
    webhook_url = models.URLField(_("webhook url"), null=True, blank=True)  # noqa: DJ001 (the specification requires null)
    webhook_base64 = models.BooleanField(null=True, blank=True)
    # The last value of the checkbox; `webhook_base64` is empty while WebSocket is active.
    wants_base64 = models.BooleanField(default=True)
    # Evolution sends it with each event. The digest identifies the session without decryption.
    webhook_secret = EncryptedTextField(editable=False)
    webhook_secret_digest = models.CharField(max_length=64, unique=True, editable=False)

    # The server runs with WEBSOCKET_GLOBAL_EVENTS: its root namespace carries every instance.
    global_events = models.BooleanField(_("Evolution uses global events"), default=False)

    switching_to = models.CharField(max_length=10, choices=Mode, blank=True)
    switching_phase = models.CharField(max_length=10, choices=Phase, blank=True)
    switching_since = models.DateTimeField(null=True, blank=True)
    switching_change = models.ForeignKey(
        "ReceiveModeChange", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    # Older messages came with the link and count as history (`history.end_of_history`).
    history_before = models.DateTimeField(null=True, editable=False)

    listener_connected = models.BooleanField(default=False, editable=False)
    listener_seen_at = models.DateTimeField(null=True, editable=False)
    # Here and in `found_error`: codes from `reason_text.encode_reason`.
    listener_note = models.CharField(max_length=200, blank=True, editable=False)
    # Everything sent to the listener up to this time is stored. After a gap, it fetches what came
    # later.
    caught_up_at = models.DateTimeField(null=True, editable=False)

    # A comparison with Evolution's own store has proven that nothing is missing up to this time.
    # The listener cannot prove it: a socket stays connected even if Evolution stops sending.
    proven_at = models.DateTimeField(null=True, editable=False)
    # Start of a possible gap (None: no known gap) and its first sign. See backfill.py.
    gap_since = models.DateTimeField(null=True, editable=False)
    gap_reason = models.CharField(max_length=20, blank=True, editable=False)
    # Time of the newest sign. A fetch that began earlier does not close the gap.
    gap_noted_at = models.DateTimeField(null=True, editable=False)
    # When the gap is due to be fetched, the number of failures, and the last error (a code).
    gap_fetch_at = models.DateTimeField(null=True, db_index=True, editable=False)
    gap_tries = models.PositiveSmallIntegerField(default=0, editable=False)
    gap_error = models.CharField(max_length=300, blank=True, editable=False)
    # The last time the connection to WhatsApp opened, and when it was last open before that: the
    # messages sent in between arrive now, with their original times. See `note_opening`.
    opened_at = models.DateTimeField(null=True, editable=False)
    backlog_since = models.DateTimeField(null=True, editable=False)
    # Whether Evolution stores messages (DATABASE_SAVE_DATA_NEW_MESSAGE); None: unknown.
    stores_messages = models.BooleanField(null=True, editable=False)
    # The next comparison of the instance's newest messages.
    look_at = models.DateTimeField(null=True, db_index=True, editable=False)

    # The last answer of `find`; None if it never answered.
    found_webhook = models.BooleanField(null=True, editable=False)
    found_websocket = models.BooleanField(null=True, editable=False)
    found_at = models.DateTimeField(null=True, editable=False)
    found_error = models.CharField(max_length=300, blank=True, editable=False)
    in_sync = models.BooleanField(null=True, editable=False)
    # Comma-separated `Difference` codes if it is not in sync.
    found_differs = models.CharField(max_length=200, blank=True, editable=False)

    created_at = models.DateTimeField(auto_now_add=True)

    objects = SessionManager()

    class Meta:
        verbose_name = _("WhatsApp session")
        verbose_name_plural = _("WhatsApp sessions")
        ordering = ["channel__evolution__instance_name"]
        constraints = [
            models.CheckConstraint(
                name="session_one_receive_mode",
                condition=~Q(webhook_enabled=True, websocket_enabled=True),
            ),
            models.CheckConstraint(
                name="session_switching_has_a_phase",
                condition=Q(switching_to="", switching_phase="")
                | (~Q(switching_to="") & ~Q(switching_phase="")),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self.webhook_secret:
            self.webhook_secret = secrets.token_urlsafe(32)
            self.webhook_secret_digest = digest_of(self.webhook_secret)
        super().save(*args, **kwargs)

    @property
    def name(self) -> str:
        """The Evolution instance's name."""
        return self.credentials.instance_name

    @property
    def credentials(self) -> EvolutionCredentials:
        """The instance, its server and the key to it."""
        return self.channel.credentials(EvolutionCredentials)

    @property
    def mode(self) -> Mode | None:
        """The agreed mode; None if neither is set."""
        if self.webhook_enabled:
            return Mode.WEBHOOK
        return Mode.WEBSOCKET if self.websocket_enabled else None

    @property
    def connection(self) -> Connection:
        """The connection whose events it receives."""
        return self.channel.primary

    def note_opening(self, now: dt.datetime) -> None:
        """Record that the connection opens, without saving.

        If the previous opening was too short to deliver its whole backlog, that backlog is still
        expected.
        """
        last = self.connection.last_ready_at
        settled = (
            last is None or self.opened_at is None or last >= self.opened_at + BACKLOG_ARRIVES_FOR
        )
        if settled or self.backlog_since is None:
            self.backlog_since = last
        self.opened_at = now

    def arriving_since(self, since: dt.datetime) -> dt.datetime:
        """Return `since`, or the start of the backlog that is arriving now if that is earlier."""
        if self.backlog_since is None or self.opened_at is None:
            return since
        arrives = timezone.now() < self.opened_at + BACKLOG_ARRIVES_FOR
        return min(since, self.backlog_since) if arrives else since

    @property
    def differences(self) -> list[Difference]:
        """The differences from the agreed settings in the last answer of Evolution."""
        return [Difference(code) for code in self.found_differs.split(",") if code]

    @property
    def secret_header(self) -> str:
        """The Authorization header that Evolution is configured to send."""
        return f"Bearer {self.webhook_secret}"


def digest_of(secret: str) -> str:
    """Return the digest used to look up a webhook secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


class ProfilePicture(models.Model):
    """The linked account's picture, stored here: pages load nothing from other servers."""

    connection = models.OneToOneField(Connection, on_delete=models.CASCADE, related_name="picture")
    url = models.CharField(max_length=500)
    # Empty if the download failed.
    content = models.BinaryField(default=bytes)
    content_type = models.CharField(max_length=20, blank=True)
    fetched_at = models.DateTimeField()

    class Meta:
        verbose_name = _("profile picture")
        verbose_name_plural = _("profile pictures")

    def __str__(self) -> str:
        return f"{self.connection_id}"


class Backfill(models.Model):
    """Messages that neither mode delivered and that were fetched from Evolution's store."""

    class Reason(models.TextChoices):
        """The sign of the gap."""

        UNREACHABLE = "unreachable", _("Evolution was unreachable")
        RECONNECTED = "reconnected", _("the instance connected to WhatsApp")
        STARTED = "started", _("Alterna was started")
        DRIFT = "drift", _("Evolution's receive mode was different")
        SWITCH = "switch", _("the receive mode was switched")
        UNAUTHORIZED = "unauthorized", _("an event arrived without the correct secret")
        TOO_LARGE = "too_large", _("an event was too large")
        NOT_STORED = "not_stored", _("an event could not be stored")
        LISTENER = "listener", _("the listener was not connected")
        LOOK = "look", _("found by the regular check")

    session = models.ForeignKey(WhatsAppSession, on_delete=models.CASCADE, related_name="backfills")
    reason = models.CharField(_("reason"), max_length=20, choices=Reason)
    since = models.DateTimeField()
    messages = models.PositiveIntegerField(_("messages"))
    at = models.DateTimeField()

    class Meta:
        verbose_name = _("backfill")
        verbose_name_plural = _("backfills")
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["session", "-at"])]

    def __str__(self) -> str:
        return f"{self.session_id} {self.reason} {self.messages}"


class ReceiveModeChange(models.Model):
    """One attempt to switch a session's receive mode: user, time, source and result."""

    class Result(models.TextChoices):
        RUNNING = "running", _("in progress")
        DONE = "done", _("done")
        UNDONE = "undone", _("reverted")
        CANCELED = "cancelled", _("canceled")

    class Source(models.TextChoices):
        PAGE = "page", _("page")
        API = "api", "API"
        REPAIR = "repair", _("repair")
        COMMAND = "command", _("command")

    session = models.ForeignKey(
        WhatsAppSession, on_delete=models.CASCADE, related_name="mode_changes"
    )
    from_mode = models.CharField(max_length=10, choices=Mode, blank=True)
    to_mode = models.CharField(max_length=10, choices=Mode)
    source = models.CharField(max_length=10, choices=Source)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )
    cancelled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    result = models.CharField(max_length=10, choices=Result, default=Result.RUNNING)
    # Codes from `reason_text.encode_reason`.
    detail = models.CharField(max_length=500, blank=True)
    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("change of receive mode")
        verbose_name_plural = _("changes of receive mode")
        ordering = ["-started_at", "-id"]
        indexes = [models.Index(fields=["session", "-started_at"])]

    def __str__(self) -> str:
        return f"{self.session} {self.from_mode or '-'} → {self.to_mode} {self.result}"


class ListenerProcess(models.Model):
    """A running `listen_evolution`; without a recent heartbeat it counts as dead."""

    name = models.CharField(max_length=200, unique=True)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        verbose_name = _("listener process")
        verbose_name_plural = _("listener processes")

    def __str__(self) -> str:
        return self.name
