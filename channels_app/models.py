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
from channels_app.connections.states import State
from core.fields import EncryptedTextField, HttpAddressField

DEFAULT_GRAPH_URL = "https://graph.facebook.com"
DEFAULT_GRAPH_VERSION = "v25.0"


class Channel(models.Model):
    """A way to reach customers: an official Cloud API number, or a Baileys instance.

    An official channel may name a fallback: its own wwebjs-api session, or a Baileys channel.
    Shapes and defaults are those of the REST contract; secrets are encrypted at rest.
    """

    class Kind(models.TextChoices):
        OFFICIAL = "official", _("Official (Cloud API)")
        BAILEYS = "baileys", _("Baileys (Evolution API)")

    class Fallback(models.TextChoices):
        NONE = "none", _("None")
        WWEBJS = "wwebjs", _("wwebjs-api")
        BAILEYS = "baileys", _("Baileys channel")

    class OnUnconfirmed(models.TextChoices):
        FALLBACK = "fallback", _("Send by the fallback")
        HOLD = "hold", _("Hold for a person")

    class Health(models.TextChoices):
        UNKNOWN = "unknown", _("Not tested yet")
        OK = "ok", _("Connection established")
        FAILING = "failing", _("Not working")

    # What the care of the wwebjs session writes; a form that was open meanwhile must not undo it.
    TOLD = (
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
        # What the test of the connection found out.
        "coexistence",
        # What sending found out; see breakers.py.
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
    # What proves the channel's own way at Meta.
    CREDENTIALS = ("graph_url", "graph_version", "phone_number_id", "access_token")
    # By what the channel's own way and its wwebjs session are reached: with others of these, what
    # was found out about a way is about something else.
    OWN_WAY = ("kind", *CREDENTIALS, "evolution_url", "evolution_api_key", "instance_name")
    WWEBJS_WAY = ("kind", "fallback", "wwebjs_url", "wwebjs_api_key", "wwebjs_session_id")
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
        validators=[RegexValidator(r"^v\d+\.\d+$", _("Write it like v25.0."))],
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
        validators=[RegexValidator(r"^[A-Za-z0-9_-]+$", _("Letters, digits, - and _ only."))],
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
        _("wait for a confirmation (s)"), default=60, validators=[MaxValueValidator(3600)]
    )
    on_unconfirmed = models.CharField(
        _("when nothing confirms a send"),
        max_length=10,
        choices=OnUnconfirmed,
        default=OnUnconfirmed.FALLBACK,
    )
    fallback_max_age_minutes = models.PositiveIntegerField(
        _("oldest message that still falls back (min)"),
        default=60,
        validators=[MinValueValidator(1), MaxValueValidator(7 * 24 * 60)],
    )
    fallback_per_minute = models.PositiveSmallIntegerField(
        _("fallback messages a minute"),
        default=20,
        validators=[MinValueValidator(1), MaxValueValidator(600)],
    )
    fallback_new_chats_per_day = models.PositiveIntegerField(
        _("first messages by the fallback a day"),
        default=100,
        validators=[MaxValueValidator(100_000)],
    )
    fallback_despite_limits = models.BooleanField(
        _("fall back in spite of Meta's limits on the number"), default=False
    )
    messages_per_second = models.PositiveSmallIntegerField(
        _("official messages a second"),
        default=80,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
    )
    # Whether the WhatsApp app uses the number as well, by the last test of the connection; None
    # where Meta did not say.
    coexistence = models.BooleanField(null=True, editable=False)

    evolution_url = HttpAddressField(_("Evolution API address"), max_length=200, blank=True)
    evolution_api_key = EncryptedTextField(_("Evolution API key"), blank=True)
    instance_name = models.CharField(
        _("instance name"),
        # As long as Evolution's own column.
        max_length=255,
        blank=True,
        # An existing instance keeps the name it has, and Evolution takes any. Dots alone cannot be
        # a segment of an address, not even escaped.
        validators=[
            RegexValidator(
                "^(?!\\.+\\Z)[^\\x00-\\x1f\\x7f]+\\Z",
                _("No control characters, and not dots alone."),
            )
        ],
    )
    calls_api_key = EncryptedTextField(_("key for calls"), blank=True)

    health = models.CharField(
        _("state"), max_length=10, choices=Health, default=Health.UNKNOWN, editable=False
    )
    # Codes; `session_words.in_words` makes sentences of them.
    health_detail = models.CharField(max_length=300, blank=True, editable=False)
    health_changed_at = models.DateTimeField(null=True, editable=False)

    # The fallback session as it was last seen; `wwebjs_session.stored_state` puts it into words.
    wwebjs_state = models.CharField(
        _("wwebjs session"),
        max_length=16,
        choices=State,
        default=State.NOT_CONFIGURED,
        editable=False,
    )
    wwebjs_state_code = models.CharField(max_length=40, blank=True, editable=False)
    wwebjs_state_detail = models.CharField(max_length=300, blank=True, editable=False)
    wwebjs_state_changed_at = models.DateTimeField(null=True, editable=False)
    # When the newest of the server's answers that count was asked for.
    wwebjs_checked_at = models.DateTimeField(null=True, editable=False)
    wwebjs_own_number = models.CharField(max_length=20, blank=True, editable=False)
    wwebjs_last_drop_at = models.DateTimeField(null=True, editable=False)
    wwebjs_last_drop_reason = models.CharField(max_length=40, blank=True, editable=False)

    # Of the phone that is linked to the instance of a Baileys channel, or to the wwebjs session of
    # an official one: `linked_numbers.canonical`, "" while none is; and what was confirmed last.
    linked_number = models.CharField(max_length=20, blank=True, editable=False, db_index=True)
    confirmed_number = models.CharField(max_length=20, blank=True, editable=False)
    # The link ended, or the server reports no number: which phone is linked next is not known yet.
    link_unverified = models.BooleanField(default=False, editable=False)
    # Evolution gave the last message the id that we had chosen (2.4), so that sending one again
    # under the same id shows it once.
    takes_message_ids = models.BooleanField(default=False, editable=False)

    # Circuit breakers of the channel's own way and of its wwebjs session: breakers.py.
    breaker_opened_at = models.DateTimeField(null=True, editable=False)
    breaker_code = models.CharField(max_length=64, blank=True, editable=False)
    # It was a late failure that opened it: being accepted proves nothing then.
    breaker_late = models.BooleanField(default=False, editable=False)
    breaker_probe_at = models.DateTimeField(null=True, editable=False)
    breaker_probes = models.PositiveSmallIntegerField(default=0, editable=False)
    wwebjs_breaker_opened_at = models.DateTimeField(null=True, editable=False)
    wwebjs_breaker_code = models.CharField(max_length=64, blank=True, editable=False)
    wwebjs_breaker_late = models.BooleanField(default=False, editable=False)
    wwebjs_breaker_probe_at = models.DateTimeField(null=True, editable=False)
    wwebjs_breaker_probes = models.PositiveSmallIntegerField(default=0, editable=False)
    # WhatsApp refuses first messages of the number that the fallback sends from.
    new_chats_stopped_until = models.DateTimeField(null=True, editable=False)
    # Who ended the latest new-chat block before its time, and when.
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
            kept = {*self.TOLD, *self.get_deferred_fields()}
            fields = [field for field in self._meta.concrete_fields if not field.primary_key]
            kwargs["update_fields"] = [f.name for f in fields if f.attname not in kept]
        super().save(*args, **kwargs)
        self._remember(kwargs.get("update_fields"))

    def clean(self) -> None:
        """Check what one field alone cannot; errors are keyed by the field that is to be mended."""
        super().clean()
        self._drop_unused_fallback()
        errors: dict[str, Any] = {}
        required = {
            self.Kind.OFFICIAL: ("graph_url", "graph_version", "phone_number_id", "access_token"),
            self.Kind.BAILEYS: ("evolution_url", "evolution_api_key", "instance_name"),
        }[self.Kind(self.kind)]
        wanted = list(required)
        if self.fallback == self.Fallback.WWEBJS:
            wanted += ["wwebjs_url", "wwebjs_api_key"]
        for name in wanted:
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
                    "“%(name)s” lacks address, key or instance name: complete it first."
                ) % {"name": other.name}
        if errors:
            raise ValidationError(errors)

    def _drop_unused_fallback(self) -> None:
        """Let no channel be named as the fallback of one that does not fall back to it."""
        if self.fallback != self.Fallback.BAILEYS:
            self.fallback_channel = None

    # Settings of the ways as they are stored.
    _stored: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        channel = super().from_db(*args, **kwargs)
        channel._remember()
        return channel

    def _remember(self, saved: Iterable[str] | None = None) -> None:
        names = {*self.OWN_WAY, *self.WWEBJS_WAY} & self.__dict__.keys()
        if saved is not None:
            names &= {*saved}
        self._stored = {**self._stored, **{name: self.__dict__[name] for name in names}}

    def has_changed(self, names: Iterable[str]) -> bool:
        """Whether one of these settings of a way is another than the stored one, or is new.

        While the channel is being saved it is about what was stored before.
        """
        loaded = [name for name in names if name in self.__dict__]
        return any(self._stored.get(name) != self.__dict__[name] for name in loaded)

    @property
    def default_session_name(self) -> str:
        """The name of the wwebjs session where none was chosen."""
        return f"alterna-{self.phone_number_id or slugify(self.name)}"[:64]

    @property
    def has_wwebjs(self) -> bool:
        """Whether the settings of an attached wwebjs session are there."""
        return (
            self.kind == self.Kind.OFFICIAL
            and self.fallback == self.Fallback.WWEBJS
            and bool(self.wwebjs_url and self.wwebjs_session_id)
        )

    @property
    def unconfirmed_number(self) -> str:
        """The linked number that a person must confirm before anything is sent by it, else ""."""
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
        """Official messages a second; 20 at most in known coexistence.

        Source: contracts/cloud-api.md §5.
        """
        limit = self.messages_per_second
        return min(limit, self.COEXISTENCE_PER_SECOND) if self.coexistence else limit

    @property
    def new_chat_block_was_lifted(self) -> bool:
        """Whether a person ended a new-chat block within the last day."""
        at = self.new_chats_lifted_at
        return at is not None and timezone.now() - at < dt.timedelta(days=1)

    @property
    def has_evolution(self) -> bool:
        """Whether the settings of an Evolution instance are there."""
        return bool(self.evolution_url and self.evolution_api_key and self.instance_name)

    @property
    def is_fallback_of(self) -> str:
        """The names of the channels that fall back to this one, "" where none does."""
        return ", ".join(other.name for other in self.fallback_for.all())

    def record_health(self, *, ok: bool, detail: str = "") -> bool:
        """Store whether the channel works, and since when. Returns whether that is a change.

        `detail` is what `session_words.kept` makes of a reason: it is read in another language.
        """
        health = self.Health.OK if ok else self.Health.FAILING
        changed = (
            Channel.objects.filter(pk=self.pk)
            .exclude(health=health, health_detail=detail[:300])
            .update(health=health, health_detail=detail[:300], health_changed_at=timezone.now())
        )
        return bool(changed)


class WwebjsSession(models.Model):
    """How the attached wwebjs session of a channel is cared for. What people see is on the channel.

    Whoever writes here holds the lock of the channel's row; the network is asked without it.
    """

    channel = models.OneToOneField(Channel, on_delete=models.CASCADE, related_name="wwebjs_session")
    # Server and session name; with other ones all that is known here is about something else.
    address = models.CharField(max_length=300, blank=True)
    # A person connected it, or it was ready: then it is started again when it goes away.
    wanted = models.BooleanField(default=False)
    # A person stopped it: when it comes up by itself, with its server, it is stopped again.
    stopped = models.BooleanField(default=False)
    # A person asked to unlink it while the server did not have it: done as soon as it is there.
    unlink_asked_at = models.DateTimeField(null=True)
    # A person's command to unlink it failed: it may stay up, but is not started again.
    unlink_failed = models.BooleanField(default=False)
    # None: to be asked at once.
    probe_at = models.DateTimeField(null=True, db_index=True)
    # What was asked of the server before this moment was told of a time that is over.
    commanded_at = models.DateTimeField(null=True)
    # A start or restart that has not shown its end yet.
    start_asked_at = models.DateTimeField(null=True)
    # Since it was last ready for `states.RECOVERED_AFTER`, or connected by a person.
    tries = models.PositiveSmallIntegerField(default=0)
    tried_at = models.DateTimeField(null=True)
    hangs = models.PositiveSmallIntegerField(default=0)
    missing_since = models.DateTimeField(null=True)
    # Connected to WhatsApp since then, and not able to send yet.
    syncing_since = models.DateTimeField(null=True)
    # Why it is not started, where more is known than the server's "session_not_found".
    note = models.CharField(max_length=40, blank=True)
    note_detail = models.CharField(max_length=300, blank=True)
    # The reason that the library announced by callback, and when.
    announced = models.CharField(max_length=40, blank=True)
    announced_at = models.DateTimeField(null=True)
    # The code itself is not kept: who holds it can link a phone.
    qr_digest = models.CharField(max_length=64, blank=True)
    qr_seen_at = models.DateTimeField(null=True)
    # The number that this browser reported last. It goes on reporting it for a while after another
    # phone was linked (contracts/wwebjs-api.md §2), first at `number_seen_at` after a new link.
    page_number = models.CharField(max_length=20, blank=True)
    number_seen_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("wwebjs session")
        verbose_name_plural = _("wwebjs sessions")

    def __str__(self) -> str:
        return f"{self.channel_id} {self.address}"


class Incident(models.Model):
    """A connection that served and does not any more, from the drop until it is back for good.

    Drops that follow each other closely are one incident. `recovered_at` is set while it serves
    again, `closed_at` once that has lasted. Staff are told once of the drop and once of the end;
    one that healed before anybody was told is closed without a word. `code` is the provider's
    error code where each has an incident of its own; "" where the connection has one.

    `reason` and `detail` are those of the latest observation; `first_reason` stays as it was when
    the incident began. Where the reason changes after the alert so that a person must do something
    else, one more alert is sent (`updated_alert_at`).
    """

    class ServerAbsence(models.TextChoices):
        """How the provider's server was missing at some time of the incident."""

        RESTARTED = "restarted"
        UNREACHABLE = "unreachable"

    class Route(models.TextChoices):
        WWEBJS = "wwebjs", "wwebjs"
        BAILEYS = "baileys", "Baileys"
        OFFICIAL = "official", _("official API")
        # Not connections: WhatsApp stopped first messages; the share of fallbacks jumped;
        # single messages are refused with a code that somebody must look into.
        NEW_CHATS = "new_chats", _("first messages by the fallback")
        FALLBACKS = "fallbacks", _("share of fallbacks")
        REQUESTS = "requests", _("refused messages")
        # Evolution does not deliver as it was agreed (instances/receive_mode/drift.py).
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
    # The reason that the latest alert gave, and when an alert told of another one.
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
    """The chat id under which WhatsApp knows a number, as a session's look-up told it.

    `number` is what was asked for, digits only; `chat_id` may have the other Brazilian form. `lid`
    is WhatsApp's hidden id of the same person, as an answer to a send named it.
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
