from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _

from channels_app.connections import linked_numbers
from channels_app.providers.cloud.client import DEFAULT_GRAPH_URL, DEFAULT_GRAPH_VERSION
from channels_app.providers.sessions import STATE_CHOICES, State
from core.fields import EncryptedTextField, HttpAddressField


class Channel(models.Model):
    """A channel to reach customers: an official Cloud API number, or a Baileys instance.

    An official channel may have a fallback: its own wwebjs-api session, or a Baileys channel.
    Formats and defaults are those of the REST contract; secrets are encrypted at rest.
    """

    class Kind(models.TextChoices):
        OFFICIAL = "official", _("Official (Cloud API)")
        BAILEYS = "baileys", _("Baileys (Evolution API)")

    class Fallback(models.TextChoices):
        NONE = "none", _("None")
        WWEBJS = "wwebjs", _("wwebjs-api")
        BAILEYS = "baileys", _("Baileys channel")

    class OnUnconfirmed(models.TextChoices):
        FALLBACK = "fallback", _("Send through the fallback")
        HOLD = "hold", _("Hold for review")

    class Health(models.TextChoices):
        UNKNOWN = "unknown", _("Not tested yet")
        OK = "ok", _("Connection established")
        FAILING = "failing", _("Not working")

    # Written by the monitoring of the wwebjs session; saving a stale form must not overwrite them.
    OBSERVED_FIELDS = (
        "wwebjs_state",
        "wwebjs_state_code",
        "wwebjs_state_detail",
        "wwebjs_state_changed_at",
        "wwebjs_checked_at",
        "wwebjs_own_number",
        "wwebjs_last_drop_at",
        "wwebjs_last_drop_reason",
        "linked_number",
        "confirmed_number",
        "link_unverified",
        "takes_message_ids",
        # Written by the connection test.
        "coexistence",
        # Written by sending; see circuit_breaker.py.
        "breaker_opened_at",
        "breaker_code",
        "breaker_late",
        "breaker_probe_at",
        "breaker_probes",
        "wwebjs_breaker_opened_at",
        "wwebjs_breaker_code",
        "wwebjs_breaker_late",
        "wwebjs_breaker_probe_at",
        "wwebjs_breaker_probes",
        "new_chats_stopped_until",
        "new_chats_lifted_at",
        "new_chats_lifted_by_id",
    )
    # The credentials of the channel's primary route at Meta.
    CREDENTIALS = ("graph_url", "graph_version", "phone_number_id", "access_token")
    # The settings that identify the channel's primary route and its wwebjs session. When one of
    # them changes, the stored observations of the route no longer apply.
    PRIMARY_ROUTE_SETTINGS = (
        "kind",
        *CREDENTIALS,
        "evolution_url",
        "evolution_api_key",
        "instance_name",
    )
    WWEBJS_SETTINGS = ("kind", "fallback", "wwebjs_url", "wwebjs_api_key", "wwebjs_session_id")
    COEXISTENCE_PER_SECOND = 20
    SECRETS = (
        "access_token",
        "app_secret",
        "verify_token",
        "wwebjs_api_key",
        "evolution_api_key",
        "calls_api_key",
    )

    name = models.CharField(_("name"), max_length=100, unique=True)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.OFFICIAL)
    phone_number = models.CharField(_("phone number"), max_length=20, blank=True)
    active = models.BooleanField(_("active"), default=True)

    graph_url = HttpAddressField(
        _("Graph API address"), max_length=200, default=DEFAULT_GRAPH_URL, blank=True
    )
    graph_version = models.CharField(
        _("Graph API version"),
        max_length=10,
        default=DEFAULT_GRAPH_VERSION,
        blank=True,
        validators=[RegexValidator(r"^v\d+\.\d+$", _("Use the format v25.0."))],
    )
    phone_number_id = models.CharField(
        _("phone number id"),
        max_length=32,
        blank=True,
        validators=[RegexValidator(r"^\d+$", _("Digits only."))],
    )
    business_account_id = models.CharField(
        _("WhatsApp business account id"),
        max_length=32,
        blank=True,
        validators=[RegexValidator(r"^\d+$", _("Digits only."))],
    )
    access_token = EncryptedTextField(_("access token"), blank=True)
    app_secret = EncryptedTextField(_("app secret"), blank=True)
    verify_token = EncryptedTextField(_("webhook verification token"), blank=True)

    fallback = models.CharField(
        _("fallback"), max_length=10, choices=Fallback, default=Fallback.NONE
    )
    wwebjs_url = HttpAddressField(_("URL of the WWebJS API"), max_length=200, blank=True)
    wwebjs_api_key = EncryptedTextField(_("API_KEY of the WWebJS API"), blank=True)
    wwebjs_session_id = models.CharField(
        _("WWebJS session name"),
        max_length=64,
        blank=True,
        validators=[RegexValidator(r"^[A-Za-z0-9_-]+$", _("Only letters, digits, - and _."))],
    )
    fallback_channel = models.ForeignKey(
        "self",
        verbose_name=_("Baileys connection for fallback"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="fallback_for",
    )
    ignore_messages_sent_outside = models.BooleanField(
        _("ignore messages sent outside the app"), default=True
    )

    official_retries = models.PositiveSmallIntegerField(
        _("official retries"), default=1, validators=[MaxValueValidator(10)]
    )
    request_timeout_seconds = models.PositiveSmallIntegerField(
        _("request timeout (s)"),
        default=15,
        validators=[MinValueValidator(1), MaxValueValidator(120)],
    )
    confirm_seconds = models.PositiveSmallIntegerField(
        _("wait for delivery confirmation (s)"), default=60, validators=[MaxValueValidator(3600)]
    )
    on_unconfirmed = models.CharField(
        _("if delivery is not confirmed"),
        max_length=10,
        choices=OnUnconfirmed,
        default=OnUnconfirmed.FALLBACK,
    )
    fallback_max_age_minutes = models.PositiveIntegerField(
        _("maximum message age for fallback (min)"),
        default=60,
        validators=[MinValueValidator(1), MaxValueValidator(7 * 24 * 60)],
    )
    fallback_per_minute = models.PositiveSmallIntegerField(
        _("fallback messages per minute"),
        default=20,
        validators=[MinValueValidator(1), MaxValueValidator(600)],
    )
    fallback_new_chats_per_day = models.PositiveIntegerField(
        _("new chats through the fallback per day"),
        default=100,
        validators=[MaxValueValidator(100_000)],
    )
    fallback_despite_limits = models.BooleanField(
        _("use the fallback despite Meta's limits on the number"), default=False
    )
    messages_per_second = models.PositiveSmallIntegerField(
        _("official messages per second"),
        default=80,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
    )
    # Whether the WhatsApp app uses the number as well, according to the last connection test; None
    # if Meta did not report it.
    coexistence = models.BooleanField(null=True, editable=False)

    evolution_url = HttpAddressField(_("Evolution API address"), max_length=200, blank=True)
    evolution_api_key = EncryptedTextField(_("Evolution API key"), blank=True)
    instance_name = models.CharField(
        _("instance name"),
        # The length of Evolution's own column.
        max_length=255,
        blank=True,
        # Evolution accepts any name, and an existing instance keeps its own. Dots alone cannot be
        # a URL path segment, not even escaped.
        validators=[
            RegexValidator(
                "^(?!\\.+\\Z)[^\\x00-\\x1f\\x7f]+\\Z",
                _("Control characters are not allowed, and the name cannot consist of dots only."),
            )
        ],
    )
    calls_api_key = EncryptedTextField(_("key for calls"), blank=True)

    health = models.CharField(
        _("state"), max_length=10, choices=Health, default=Health.UNKNOWN, editable=False
    )
    # Codes; `reason_text.render_reason` renders them.
    health_detail = models.CharField(max_length=300, blank=True, editable=False)
    health_changed_at = models.DateTimeField(null=True, editable=False)

    # The last observed state of the fallback session; `wwebjs_session.stored_state` describes it.
    wwebjs_state = models.CharField(
        _("wwebjs session"),
        max_length=16,
        choices=STATE_CHOICES,
        default=State.NOT_CONFIGURED,
        editable=False,
    )
    wwebjs_state_code = models.CharField(max_length=40, blank=True, editable=False)
    wwebjs_state_detail = models.CharField(max_length=300, blank=True, editable=False)
    wwebjs_state_changed_at = models.DateTimeField(null=True, editable=False)
    # When the latest stored observation was requested.
    wwebjs_checked_at = models.DateTimeField(null=True, editable=False)
    wwebjs_own_number = models.CharField(max_length=20, blank=True, editable=False)
    wwebjs_last_drop_at = models.DateTimeField(null=True, editable=False)
    wwebjs_last_drop_reason = models.CharField(max_length=40, blank=True, editable=False)

    # The number of the phone linked to a Baileys channel's instance or an official channel's wwebjs
    # session, in the form of `linked_numbers.canonical` or ""; and the last confirmed number.
    linked_number = models.CharField(max_length=20, blank=True, editable=False, db_index=True)
    confirmed_number = models.CharField(max_length=20, blank=True, editable=False)
    # The link ended, or the server reports no number: the next linked phone is not known yet.
    link_unverified = models.BooleanField(default=False, editable=False)
    # Evolution gave the last message the ID that we had chosen (2.4), so a message that is sent
    # again under the same ID is shown once.
    takes_message_ids = models.BooleanField(default=False, editable=False)

    # Circuit breakers of the primary route and of the wwebjs session: see circuit_breaker.py.
    breaker_opened_at = models.DateTimeField(null=True, editable=False)
    breaker_code = models.CharField(max_length=64, blank=True, editable=False)
    # A late failure opened it: an acceptance then proves nothing.
    breaker_late = models.BooleanField(default=False, editable=False)
    breaker_probe_at = models.DateTimeField(null=True, editable=False)
    breaker_probes = models.PositiveSmallIntegerField(default=0, editable=False)
    wwebjs_breaker_opened_at = models.DateTimeField(null=True, editable=False)
    wwebjs_breaker_code = models.CharField(max_length=64, blank=True, editable=False)
    wwebjs_breaker_late = models.BooleanField(default=False, editable=False)
    wwebjs_breaker_probe_at = models.DateTimeField(null=True, editable=False)
    wwebjs_breaker_probes = models.PositiveSmallIntegerField(default=0, editable=False)
    # WhatsApp rejects first messages from the fallback's number.
    new_chats_stopped_until = models.DateTimeField(null=True, editable=False)
    # Who lifted the latest new-chat block early, and when.
    new_chats_lifted_at = models.DateTimeField(null=True, editable=False)
    new_chats_lifted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="+",
    )

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(_("last change"), auto_now=True)

    class Meta:
        verbose_name = _("channel")
        verbose_name_plural = _("channels")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="channel_is_not_its_own_fallback",
                condition=~Q(fallback_channel=models.F("pk")),
                violation_error_message=_("A channel cannot be its own fallback."),
            ),
            models.CheckConstraint(
                name="channel_fallback_channel_when_baileys",
                condition=Q(fallback="baileys", fallback_channel__isnull=False)
                | (~Q(fallback="baileys") & Q(fallback_channel__isnull=True)),
                violation_error_message=_("Choose the Baileys channel of the fallback."),
            ),
            models.CheckConstraint(
                name="channel_only_official_has_fallback",
                condition=Q(kind="official") | Q(fallback="none"),
                violation_error_message=_("Only an official channel has a fallback."),
            ),
            models.UniqueConstraint(
                name="channel_phone_number_id_once",
                fields=["phone_number_id"],
                condition=Q(kind="official") & ~Q(phone_number_id=""),
                violation_error_message=_("Another channel already uses this phone number id."),
            ),
            models.UniqueConstraint(
                name="channel_instance_name_once",
                fields=["instance_name"],
                condition=Q(kind="baileys") & ~Q(instance_name=""),
                violation_error_message=_("Another channel already uses this instance."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.fallback == self.Fallback.WWEBJS and not self.wwebjs_session_id:
            self.wwebjs_session_id = self.default_session_name
        self._drop_unused_fallback()
        if "fallback" in (kwargs.get("update_fields") or ()):
            kwargs["update_fields"] = {*kwargs["update_fields"], "fallback_channel"}
        if not self._state.adding and not args and kwargs.get("update_fields") is None:
            excluded = {*self.OBSERVED_FIELDS, *self.get_deferred_fields()}
            fields = [field for field in self._meta.concrete_fields if not field.primary_key]
            kwargs["update_fields"] = [f.name for f in fields if f.attname not in excluded]
        super().save(*args, **kwargs)
        self._record_stored(kwargs.get("update_fields"))

    def clean(self) -> None:
        """Validate rules across fields; errors are keyed by the field to correct."""
        super().clean()
        self._drop_unused_fallback()
        errors: dict[str, Any] = {}
        required = {
            self.Kind.OFFICIAL: ("graph_url", "graph_version", "phone_number_id", "access_token"),
            self.Kind.BAILEYS: ("evolution_url", "evolution_api_key", "instance_name"),
        }[self.Kind(self.kind)]
        names = list(required)
        if self.fallback == self.Fallback.WWEBJS:
            names += ["wwebjs_url", "wwebjs_api_key"]
        for name in names:
            if not getattr(self, name):
                errors[name] = ValidationError(_("This field is required."), code="required")
        if self.fallback == self.Fallback.BAILEYS:
            other = self.fallback_channel
            if other is None:
                errors["fallback_channel"] = _("Choose the Baileys channel of the fallback.")
            elif other.kind != self.Kind.BAILEYS or not other.active:
                errors["fallback_channel"] = _("Choose an active Baileys channel.")
            elif not other.has_evolution:
                errors["fallback_channel"] = _(
                    "“%(name)s” has no address, key or instance name. Complete it first."
                ) % {"name": other.name}
        if errors:
            raise ValidationError(errors)

    def _drop_unused_fallback(self) -> None:
        """Clear the fallback channel if it is not used as the fallback."""
        if self.fallback != self.Fallback.BAILEYS:
            self.fallback_channel = None

    # The stored values of the route settings.
    _stored: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        channel = super().from_db(*args, **kwargs)
        channel._record_stored()
        return channel

    def _record_stored(self, saved: Iterable[str] | None = None) -> None:
        names = {*self.PRIMARY_ROUTE_SETTINGS, *self.WWEBJS_SETTINGS} & self.__dict__.keys()
        if saved is not None:
            names &= {*saved}
        self._stored = {**self._stored, **{name: self.__dict__[name] for name in names}}

    def has_changed(self, names: Iterable[str]) -> bool:
        """Whether one of these route settings differs from the stored one, or is new.

        While the channel is being saved, it compares with the values before the save.
        """
        loaded = [name for name in names if name in self.__dict__]
        return any(self._stored.get(name) != self.__dict__[name] for name in loaded)

    @property
    def default_session_name(self) -> str:
        """The name of the wwebjs session if none was entered."""
        return f"alterna-{self.phone_number_id or slugify(self.name)}"[:64]

    @property
    def has_wwebjs(self) -> bool:
        """Whether the settings of an attached wwebjs session are complete."""
        return (
            self.kind == self.Kind.OFFICIAL
            and self.fallback == self.Fallback.WWEBJS
            and bool(self.wwebjs_url and self.wwebjs_session_id)
        )

    @property
    def unconfirmed_number(self) -> str:
        """The linked number that a person must confirm before it may send, else ""."""
        return linked_numbers.unconfirmed(
            self.linked_number, confirmed=self.confirmed_number, expected=self.phone_number
        )

    @property
    def is_number_unknown(self) -> bool:
        """Whether a number is expected and it is not known yet which phone is linked."""
        return self.link_unverified and not linked_numbers.is_first(
            confirmed=self.confirmed_number, expected=self.phone_number
        )

    @property
    def throughput(self) -> int:
        """Official messages per second; at most 20 in known coexistence.

        Source: docs/providers/cloud.md §5.
        """
        limit = self.messages_per_second
        return min(limit, self.COEXISTENCE_PER_SECOND) if self.coexistence else limit

    @property
    def new_chat_block_was_lifted(self) -> bool:
        """Whether a person lifted a new-chat block within the last day."""
        at = self.new_chats_lifted_at
        return at is not None and timezone.now() - at < dt.timedelta(days=1)

    @property
    def has_evolution(self) -> bool:
        """Whether the settings of an Evolution instance are complete."""
        return bool(self.evolution_url and self.evolution_api_key and self.instance_name)

    @property
    def is_fallback_of(self) -> str:
        """The names of the channels that fall back to this one, or ""."""
        return ", ".join(other.name for other in self.fallback_for.all())

    def record_health(self, *, ok: bool, detail: str = "") -> bool:
        """Store whether the channel works, and since when. Returns whether it changed.

        `detail` is encoded by `reason_text.encode_reason`, because readers have other languages.
        """
        health = self.Health.OK if ok else self.Health.FAILING
        changed = (
            Channel.objects.filter(pk=self.pk)
            .exclude(health=health, health_detail=detail[:300])
            .update(health=health, health_detail=detail[:300], health_changed_at=timezone.now())
        )
        return bool(changed)


class WwebjsSession(models.Model):
    """Monitoring data of a channel's attached wwebjs session. The channel has the visible state.

    Writers hold the lock of the channel's row; network requests are made without it.
    """

    channel = models.OneToOneField(Channel, on_delete=models.CASCADE, related_name="wwebjs_session")
    # Server and session name; if they change, all data here is obsolete.
    address = models.CharField(max_length=300, blank=True)
    # A person connected it, or it was ready: it is restarted when it goes down.
    wanted = models.BooleanField(default=False)
    # A person stopped it: if it comes up automatically with its server, it is stopped again.
    stopped = models.BooleanField(default=False)
    # A person asked to unlink it while the server did not have it: done when it comes up.
    unlink_asked_at = models.DateTimeField(null=True)
    # A person's unlink failed: the session may stay up but is not started again.
    unlink_failed = models.BooleanField(default=False)
    # None: due immediately.
    probe_at = models.DateTimeField(null=True, db_index=True)
    # Observations requested before this time are stale.
    commanded_at = models.DateTimeField(null=True)
    # A start or restart whose outcome is not known yet.
    start_asked_at = models.DateTimeField(null=True)
    # Since it was last ready for `states.RECOVERED_AFTER`, or connected by a person.
    tries = models.PositiveSmallIntegerField(default=0)
    tried_at = models.DateTimeField(null=True)
    hangs = models.PositiveSmallIntegerField(default=0)
    missing_since = models.DateTimeField(null=True)
    # Connected to WhatsApp since then, but not yet able to send.
    syncing_since = models.DateTimeField(null=True)
    # Why it is not started, if more is known than the server's "session_not_found".
    note = models.CharField(max_length=40, blank=True)
    note_detail = models.CharField(max_length=300, blank=True)
    # The reason from the library's last callback, and when.
    announced = models.CharField(max_length=40, blank=True)
    announced_at = models.DateTimeField(null=True)
    # The code itself is not stored: anyone who has it can link a phone.
    qr_digest = models.CharField(max_length=64, blank=True)
    qr_seen_at = models.DateTimeField(null=True)
    # The number that this browser reported last. It goes on reporting it for a while after another
    # phone was linked (docs/providers/wwebjs.md §2), first at `number_seen_at` after a new link.
    page_number = models.CharField(max_length=20, blank=True)
    number_seen_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("wwebjs session")
        verbose_name_plural = _("wwebjs sessions")

    def __str__(self) -> str:
        return f"{self.channel_id} {self.address}"


class Incident(models.Model):
    """A dropped connection, from the drop until a lasting recovery.

    Drops in close succession are one incident. `recovered_at` is set while the connection works
    again, `closed_at` once that has lasted. Staff are alerted once to the drop and once to the end;
    an incident that recovered before the first alert is closed silently. `code` is the provider's
    error code if each code has its own incident, else "".

    `reason` and `detail` are those of the latest observation; `first_reason` never changes. If the
    reason changes after the alert so that a different action is needed, one more alert is sent
    (`updated_alert_at`).
    """

    class ServerAbsence(models.TextChoices):
        """The kind of server outage during the incident."""

        RESTARTED = "restarted"
        UNREACHABLE = "unreachable"

    class Route(models.TextChoices):
        WWEBJS = "wwebjs", "wwebjs"
        BAILEYS = "baileys", "Baileys"
        OFFICIAL = "official", _("official API")
        # Not connections: WhatsApp blocked first messages; the fallback rate is unusually high;
        # single messages are rejected with a code that needs investigation.
        NEW_CHATS = "new_chats", _("new chats through the fallback")
        FALLBACKS = "fallbacks", _("fallback rate")
        REQUESTS = "requests", _("rejected messages")
        # Evolution's receive mode is not the configured one (instances/receive_mode/drift.py).
        RECEIVE_MODE = "receive_mode", _("receive mode")

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="incidents")
    route = models.CharField(max_length=16, choices=Route)
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
    told_at = models.DateTimeField(null=True, blank=True)
    # The reason in the latest alert, and when an alert about a changed reason was sent.
    alerted_reason = models.CharField(max_length=64, blank=True)
    updated_alert_at = models.DateTimeField(null=True, blank=True)
    told_end_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                name="incident_one_open_per_connection",
                fields=["channel", "route", "code"],
                condition=Q(closed_at__isnull=True),
            )
        ]
        indexes = [models.Index(fields=["channel", "-opened_at"])]

    def __str__(self) -> str:
        return f"{self.channel_id} {self.route} {self.reason}"


class ResolvedNumber(models.Model):
    """The chat ID under which WhatsApp knows a number, from a session's look-up.

    `number` is the requested number, digits only; `chat_id` may have the other Brazilian form.
    `lid` is WhatsApp's hidden ID of the same person, from the response to a send.
    """

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="+")
    number = models.CharField(max_length=20)
    chat_id = models.CharField(max_length=255)
    lid = models.CharField(max_length=64, blank=True)
    found_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="known_number_once_per_channel", fields=["channel", "number"]
            )
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.chat_id}"
