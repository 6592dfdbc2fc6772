from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from channels_app.models.channel import Channel
from channels_app.models.connection import Connection


class Incident(models.Model):
    """A dropped connection, from the drop until a lasting recovery.

    Drops in close succession are one incident. `recovered_at` is set while the connection works
    again, `closed_at` once that has lasted. Staff are alerted once to the drop and once to the end;
    an incident that recovered before the first alert is closed silently. `code` tells incidents of
    one kind apart: the provider's error code, or what Meta's report is about; else "".

    `reason` and `detail` are those of the latest observation; `first_reason` never changes. If the
    reason changes after the alert so that a different action is needed, one more alert is sent
    (`updated_alert_at`).
    """

    class ServerAbsence(models.TextChoices):
        """The kind of server outage during the incident."""

        RESTARTED = "restarted"
        UNREACHABLE = "unreachable"

    class Kind(models.TextChoices):
        """What is wrong: the connection itself, or something that it only concerns."""

        CONNECTION = "connection", _("connection")
        # WhatsApp blocked first messages from its number.
        NEW_CHATS = "new_chats", _("new chats through the fallback")
        # The share of fallbacks is unusually high.
        FALLBACKS = "fallbacks", _("fallback rate")
        # Single messages are rejected with a code that needs investigation.
        REQUESTS = "requests", _("rejected messages")
        # Evolution's receive mode is not the configured one (instances/receive_mode/drift.py).
        RECEIVE_MODE = "receive_mode", _("receive mode")
        # Meta reports something about the account, a number or a template, and later its end.
        ACCOUNT = "account", _("account at Meta")
        # The same, but nothing reports its end.
        NOTICE = "notice", _("notice from Meta")

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="incidents")
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.CONNECTION)
    code = models.CharField(max_length=64, blank=True)
    reason = models.CharField(max_length=64)
    detail = models.CharField(max_length=300, blank=True)
    reason_since = models.DateTimeField(null=True, blank=True)
    first_reason = models.CharField(max_length=64, blank=True)
    server_absence = models.CharField(max_length=12, choices=ServerAbsence, blank=True)
    drops = models.PositiveIntegerField(default=1)
    opened_at = models.DateTimeField()
    last_drop_at = models.DateTimeField()
    recovered_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    alerted_at = models.DateTimeField(null=True, blank=True)
    # The reason in the latest alert, and when an alert about a changed reason was sent.
    alerted_reason = models.CharField(max_length=64, blank=True)
    updated_alert_at = models.DateTimeField(null=True, blank=True)
    end_alerted_at = models.DateTimeField(null=True, blank=True)

    # How many others it stands for in a list (`incidents.alert_lines`).
    more = 0

    class Meta:
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                name="incident_one_open_per_connection",
                fields=["connection", "kind", "code"],
                condition=Q(closed_at__isnull=True),
            )
        ]
        indexes = [models.Index(fields=["connection", "-opened_at"])]

    def __str__(self) -> str:
        return f"{self.connection_id} {self.kind} {self.reason}"

    @property
    def channel(self) -> Channel:
        """The channel of the connection."""
        return self.connection.channel

    @property
    def subject(self) -> str:
        """What is wrong, as one word for programs: the route of a connection, or the kind."""
        is_connection = self.kind == self.Kind.CONNECTION
        return self.connection.provider if is_connection else self.kind

    @property
    def is_of_a_code(self) -> bool:
        """Whether `code` is an error code of the provider, which the help explains."""
        return bool(self.code) and self.code == self.reason

    def get_subject_display(self) -> str:
        """Return the subject in the active language."""
        is_connection = self.kind == self.Kind.CONNECTION
        return str(
            self.connection.get_provider_display() if is_connection else self.get_kind_display()
        )
