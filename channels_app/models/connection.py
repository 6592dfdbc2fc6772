from __future__ import annotations

import datetime as dt
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_app.connections import linked_numbers
from channels_app.models.channel import Channel
from channels_app.models.credentials import MODELS
from channels_app.providers import engines
from channels_app.providers.sessions import STATE_CHOICES, State


class ConnectionManager(models.Manager["Connection"]):
    def stored(self, channel: Channel, provider: str) -> Connection:
        """Return the channel's connection by this provider; it is created if it is missing."""
        connection = channel.connection(provider)
        if connection.pk is None:
            connection, _created = self.get_or_create(channel=channel, provider=provider)
            connection.channel = channel
            channel.forget_connections()
        return connection

    def lock(self, channel_id: int, provider: str) -> Connection | None:
        """Lock and return the current row; None if the channel does not exist. In a transaction.

        The channel's row is locked first, in the order in which saving a channel does.
        """
        channel = Channel.objects.select_for_update(no_key=True).filter(pk=channel_id).first()
        if channel is None:
            return None
        rows = self.select_for_update(no_key=True)
        connection, _created = rows.get_or_create(channel=channel, provider=provider)
        connection.channel = channel
        return connection


class Connection(models.Model):
    """One route by which a channel reaches WhatsApp, and everything observed about it.

    A channel has one of its own kind (its Cloud API number or Evolution instance), and one for an
    attached wwebjs session. What its owner decides is in `Channel`. The row survives the session:
    attempts, incidents and look-ups belong to it.

    Writers of the session's columns hold the lock of the row; circuit breaker, health and new-chat
    block are written by single conditional updates.
    """

    class Health(models.TextChoices):
        UNKNOWN = "unknown", _("Not tested yet")
        OK = "ok", _("Connection established")
        FAILING = "failing", _("Not working")

    class ServerState(models.TextChoices):
        """The state of an instance in Evolution's own terms."""

        OPEN = "open", _("connected")
        CONNECTING = "connecting", _("connecting")
        CLOSE = "close", _("disconnected")
        UNKNOWN = "unknown", _("unknown")

    channel = models.ForeignKey(
        Channel, verbose_name=_("channel"), on_delete=models.CASCADE, related_name="connections"
    )
    provider = models.CharField(_("provider"), max_length=10, choices=engines.choices)

    # -- state of the session ----------------------------------------------------------------------

    # `monitor.stored_state` renders state, code and detail as text.
    state = models.CharField(
        _("state"), max_length=16, choices=STATE_CHOICES, default=State.NOT_CONFIGURED
    )
    state_code = models.CharField(max_length=40, blank=True)
    state_detail = models.CharField(max_length=300, blank=True)
    state_changed_at = models.DateTimeField(null=True)
    # Server and session name, separated by a space; "" if there is no session to poll. If they
    # change, everything observed here is obsolete.
    address = models.CharField(max_length=520, blank=True)
    # When the newest accepted answer was requested from the server.
    checked_at = models.DateTimeField(null=True)
    # How many delivered messages Meta counted as service this month (`messaging.costs`), as far as
    # that is counted; the month is its first day.
    service_month = models.DateField(null=True, blank=True, editable=False)
    service_messages = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    # None: poll immediately.
    next_poll_at = models.DateTimeField(null=True, db_index=True)
    # Answers requested before this time are outdated.
    commanded_at = models.DateTimeField(null=True)
    own_number = models.CharField(max_length=20, blank=True)
    profile_name = models.CharField(max_length=100, blank=True)
    # The code itself is not stored: anyone who has it can link a phone.
    qr_digest = models.CharField(max_length=64, blank=True)
    qr_seen_at = models.DateTimeField(null=True)
    # What the server itself last called the state, and its reason (Evolution).
    server_state = models.CharField(
        _("connection"), max_length=10, choices=ServerState, default=ServerState.UNKNOWN
    )
    server_state_reason = models.CharField(max_length=200, blank=True)
    server_state_changed_at = models.DateTimeField(null=True)

    # -- recovery ----------------------------------------------------------------------------------

    # A person connected it, or it was ready: it is reconnected when it goes down.
    keep_connected = models.BooleanField(default=False)
    # It was ready and has not dropped since.
    serving = models.BooleanField(default=False)
    last_ready_at = models.DateTimeField(null=True)
    # Automatic recovery actions since it was last ready for long, or connected by a person.
    recovery_attempts = models.PositiveSmallIntegerField(default=0)
    recovery_attempted_at = models.DateTimeField(null=True)
    # Why it is down, if our own command is the reason.
    local_reason = models.CharField(max_length=40, blank=True)
    local_reason_detail = models.CharField(max_length=300, blank=True)
    # The reason from the server's last callback, and when.
    callback_reason = models.CharField(max_length=40, blank=True)
    callback_reason_at = models.DateTimeField(null=True)
    # A start or restart whose outcome is not known yet.
    start_requested_at = models.DateTimeField(null=True)
    # A person stopped it: if it comes up automatically with its server, it is stopped again.
    stopped = models.BooleanField(default=False)
    # A person asked to unlink it while the server did not have it: done when it comes up.
    unlink_requested_at = models.DateTimeField(null=True)
    # A person's unlink failed: the session may stay up but is not started again.
    unlink_failed = models.BooleanField(default=False)
    # A person requested a code, and no phone has been linked since.
    linking_since = models.DateTimeField(null=True)
    # Until then the connection is expected to close: our own command caused it.
    quiet_until = models.DateTimeField(null=True)
    # Consecutive slow answers.
    slow_checks = models.PositiveSmallIntegerField(default=0)
    # The server does not know the session; it is connected but cannot send; it reports to be
    # connected but rejects sends; it reports to be closed: each since then.
    missing_since = models.DateTimeField(null=True)
    syncing_since = models.DateTimeField(null=True)
    dead_since = models.DateTimeField(null=True)
    closed_since = models.DateTimeField(null=True)
    last_drop_at = models.DateTimeField(null=True)
    last_drop_reason = models.CharField(max_length=40, blank=True)

    # -- the linked phone --------------------------------------------------------------------------

    # In the form of `linked_numbers.canonical`; "": the server has not reported it, or the link
    # ended. And the last number that was confirmed.
    linked_number = models.CharField(max_length=20, blank=True, db_index=True)
    confirmed_number = models.CharField(max_length=20, blank=True)
    # When the server last reported the linked phone. None: ask with the next poll.
    number_checked_at = models.DateTimeField(null=True)
    # The number that this browser reported last. It goes on reporting it for a while after another
    # phone was linked (docs/providers/wwebjs.md §2), first at `number_seen_at` after a new link.
    page_number = models.CharField(max_length=20, blank=True)
    number_seen_at = models.DateTimeField(null=True)
    # The provider gave the last message the ID that we had chosen (Evolution 2.4), so a message
    # that is sent again under the same ID is shown once.
    takes_message_ids = models.BooleanField(default=False)
    # Whether the WhatsApp app uses the number as well, according to the last connection test; None
    # if Meta did not report it.
    coexistence = models.BooleanField(null=True)

    # -- what sending showed -----------------------------------------------------------------------

    health = models.CharField(_("state"), max_length=10, choices=Health, default=Health.UNKNOWN)
    # Codes; `reason_text.render_reason` renders them.
    health_detail = models.CharField(max_length=300, blank=True)
    health_changed_at = models.DateTimeField(null=True)
    # See circuit_breaker.py.
    breaker_opened_at = models.DateTimeField(null=True)
    breaker_code = models.CharField(max_length=64, blank=True)
    # A late failure opened it: an acceptance then proves nothing.
    breaker_late = models.BooleanField(default=False)
    breaker_probe_at = models.DateTimeField(null=True)
    breaker_probes = models.PositiveSmallIntegerField(default=0)
    # WhatsApp rejects first messages from this number. Who lifted the latest block early, and when.
    new_chats_stopped_until = models.DateTimeField(null=True)
    new_chats_lifted_at = models.DateTimeField(null=True)
    new_chats_lifted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    objects = ConnectionManager()

    class Meta:
        verbose_name = _("connection")
        verbose_name_plural = _("connections")
        constraints = [
            models.UniqueConstraint(
                name="connection_once_per_channel_and_provider", fields=["channel", "provider"]
            )
        ]
        indexes = [
            models.Index(fields=["address"], condition=~Q(address=""), name="connection_address")
        ]

    def __str__(self) -> str:
        return f"{self.channel} · {self.get_provider_display()}"

    @property
    def is_primary(self) -> bool:
        """Whether it is the channel's own route, and not an attached session."""
        return self.provider == self.channel.kind

    @property
    def credentials(self) -> Any:
        """The credentials of its provider, in the provider's own class; blank if none."""
        return self.channel.credentials(MODELS[self.provider])

    @property
    def server(self) -> str:
        """The address of the server that has its session."""
        return self.address.partition(" ")[0]

    @property
    def number(self) -> str:
        """The number from which it sends, as far as known; digits only or E.164."""
        return self.channel.phone_number if self.is_primary else self.own_number

    @property
    def unconfirmed_number(self) -> str:
        """The linked number that a person must confirm before it may send, else ""."""
        return linked_numbers.unconfirmed(
            self.linked_number, confirmed=self.confirmed_number, expected=self.channel.phone_number
        )

    @property
    def is_number_unknown(self) -> bool:
        """Whether a number is expected and it is not known yet which phone is linked."""
        return not self.linked_number and not linked_numbers.is_first(
            confirmed=self.confirmed_number, expected=self.channel.phone_number
        )

    @property
    def throughput(self) -> int:
        """Messages per second; at most 20 in known coexistence.

        Source: docs/providers/cloud.md §5.
        """
        limit = self.channel.messages_per_second
        return min(limit, Channel.COEXISTENCE_PER_SECOND) if self.coexistence else limit

    @property
    def new_chat_block_was_lifted(self) -> bool:
        """Whether a person lifted a new-chat block within the last day."""
        at = self.new_chats_lifted_at
        return at is not None and timezone.now() - at < dt.timedelta(days=1)

    def record_health(self, *, ok: bool, detail: str = "") -> bool:
        """Store whether the connection works, and since when. Returns whether it changed.

        `detail` is encoded by `reason_text.encode_reason`, because readers have other languages.
        """
        health = self.Health.OK if ok else self.Health.FAILING
        values: dict[str, Any] = {"health": health, "health_detail": detail[:300]}
        now = timezone.now()
        rows = Connection.objects.filter(pk=self.pk).exclude(**values)
        if not rows.update(**values, health_changed_at=now):
            return False
        # A holder of the lock saves the whole row afterwards.
        self.health, self.health_detail, self.health_changed_at = (
            health,
            values["health_detail"],
            now,
        )
        return True
