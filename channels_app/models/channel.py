from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q, prefetch_related_objects
from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _

from channels_app.providers.cloud.client import DEFAULT_GRAPH_URL, DEFAULT_GRAPH_VERSION
from core.fields import EncryptedTextField, HttpAddressField

if TYPE_CHECKING:
    from channels_app.models.connection import Connection


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

    # The credentials of the channel's primary route at Meta.
    CREDENTIALS = ("graph_url", "graph_version", "phone_number_id", "access_token")
    # The settings that identify the channel's primary route and its wwebjs session. When one of
    # them changes, what was observed of the connection no longer applies.
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
        super().save(*args, **kwargs)

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
    def has_evolution(self) -> bool:
        """Whether the settings of an Evolution instance are complete."""
        return bool(self.evolution_url and self.evolution_api_key and self.instance_name)

    @property
    def is_fallback_of(self) -> str:
        """The names of the channels that fall back to this one, or ""."""
        return ", ".join(other.name for other in self.fallback_for.all())

    def differs_from(self, other: Channel, names: Iterable[str]) -> bool:
        """Whether one of these settings has another value there."""
        return any(getattr(self, name) != getattr(other, name) for name in names)

    def connection(self, provider: str) -> Connection:
        """Return the channel's connection by this provider; a blank one if none is stored yet.

        The connections are read once, and again after `refresh_from_db`.
        """
        stored: list[Connection] = []
        if self.pk is not None:
            prefetch_related_objects([self], "connections")
            stored = [one for one in self.connections.all() if one.provider == provider]
        blank = cast("type[Connection]", self._meta.get_field("connections").related_model)
        return stored[0] if stored else blank(channel=self, provider=provider)

    def forget_connections(self) -> None:
        """Let the connections be read anew."""
        getattr(self, "_prefetched_objects_cache", {}).pop("connections", None)

    @property
    def primary(self) -> Connection:
        """The channel's own connection: its Cloud API number or its Evolution instance."""
        return self.connection(self.kind)

    @property
    def wwebjs(self) -> Connection:
        """The attached wwebjs session."""
        return self.connection("wwebjs")

    @property
    def fallback_number(self) -> Connection:
        """The connection whose number would write to new customers instead of the official one.

        For any other than an official channel its own; for a channel that falls back to such a
        one, nothing: a blank one.
        """
        return self.wwebjs if self.kind == self.Kind.OFFICIAL else self.primary

    @property
    def fallback_connection(self) -> Connection | None:
        """The connection that sends what the primary one does not; None without a fallback."""
        if self.fallback == self.Fallback.WWEBJS:
            return self.wwebjs
        if self.fallback == self.Fallback.BAILEYS and self.fallback_channel is not None:
            return self.fallback_channel.primary
        return None

    @property
    def fallback_connections(self) -> list[Connection]:
        """The connections that send what the primary one does not, in their order."""
        return [self.fallback_connection] if self.fallback_connection is not None else []
