from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Prefetch, prefetch_related_objects
from django.utils.translation import gettext_lazy as _

from channels_app import opening_hours
from channels_app.models.credentials import MODELS, SECRETS, SETTINGS, Credentials
from channels_app.models.provider import Provider
from channels_app.providers import engines
from channels_app.providers.base import Setting
from core.fields import EncryptedTextField

C = TypeVar("C", bound=Credentials)

if TYPE_CHECKING:
    from channels_app.models.connection import Connection
    from channels_app.models.fallback_route import FallbackRoute


@dataclass(frozen=True, slots=True)
class FallbackChoice:
    """One of a channel's fallbacks: the engine's name, and the `channel` unless it is attached."""

    kind: str
    channel: Channel | None = None


class Channel(models.Model):
    """A channel to reach customers: an official Cloud API number, or a Baileys instance.

    An official channel may have fallbacks, which are tried in their order: its own wwebjs-api
    session, and Baileys channels. They are stored as `FallbackRoute`s. `fallbacks` reads them, and
    what is set to it is stored by `save`; `fallback` and `fallback_channel` are the shorthand for
    at most one. Likewise the settings of each provider are stored in its credentials table. Formats
    and defaults are those of the REST contract; secrets are encrypted at rest.
    """

    class OnUnconfirmed(models.TextChoices):
        FALLBACK = "fallback", _("Send through the fallback")
        HOLD = "hold", _("Hold for review")

    class OnUndelivered(models.TextChoices):
        HOLD = "hold", _("Tell a person")
        FALLBACK = "fallback", _("Send through the fallback, if it cannot arrive twice")

    # `fallback` if there is none; else it is the name of an engine.
    NO_FALLBACK = "none"
    COEXISTENCE_PER_SECOND = 20
    SECRETS = (*SECRETS, "calls_api_key")

    name = models.CharField(_("name"), max_length=100, unique=True)
    kind = models.CharField(
        _("kind"), max_length=10, choices=engines.channel_kinds, default=Provider.OFFICIAL.value
    )
    phone_number = models.CharField(_("phone number"), max_length=20, blank=True)
    active = models.BooleanField(_("active"), default=True)

    # The settings that code reads by name. All those that the engines declare are attributes, and
    # columns of their credentials: see the end of this module.
    graph_url: Any
    graph_version: Any
    phone_number_id: Any
    business_account_id: Any
    access_token: Any
    app_secret: Any
    verify_token: Any
    wwebjs_url: Any
    wwebjs_api_key: Any
    wwebjs_session_id: Any
    evolution_url: Any
    evolution_api_key: Any
    instance_name: Any

    ignore_messages_sent_outside = models.BooleanField(
        _("ignore messages sent outside the app"), default=True
    )

    ignore_groups = models.BooleanField(_("ignore groups"), default=False, db_default=False)

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
    on_undelivered = models.CharField(
        _("if a message is not delivered by its deadline"),
        max_length=10,
        choices=OnUndelivered,
        default=OnUndelivered.HOLD,
        db_default=OnUndelivered.HOLD.value,
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
    calls_api_key = EncryptedTextField(_("key for calls"), blank=True)

    # To whom its new conversations go.
    team = models.ForeignKey(
        "accounts.Team",
        verbose_name=_("team"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="channels",
    )
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("assignee"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    greeting = models.TextField(
        _("greeting"), blank=True, default="", db_default="", max_length=1024
    )
    away_message = models.TextField(
        _("out-of-hours answer"), blank=True, default="", db_default="", max_length=1024
    )
    opening_hours = models.JSONField(
        _("opening hours"),
        default=dict,
        blank=True,
        db_default=models.Value({}, models.JSONField()),
        help_text=_('Such as {"mon": [["08:00", "18:00"]]}. Empty: always open.'),
    )
    # Empty: that of the installation.
    time_zone = models.CharField(
        _("time zone"), max_length=64, blank=True, default="", db_default=""
    )

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(_("last change"), auto_now=True)

    class Meta:
        verbose_name = _("channel")
        verbose_name_plural = _("channels")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    # The fallbacks that the next `save` stores; None: those that are stored already.
    _new_fallbacks: list[FallbackChoice] | None = None
    # What `fallback_channel` was last set to: it may be set before `fallback`.
    _named_fallback_channel: Channel | None = None

    # The credentials that the next `save` stores.
    _changed_credentials: frozenset[type[Credentials]] = frozenset()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store the channel, and its fallbacks and credentials if they were set."""
        for setting in self._settings():
            if setting.default is not None and not getattr(self, setting.name):
                setattr(self, setting.name, setting.default(self))
        with transaction.atomic():
            super().save(*args, **kwargs)
            for model in self._changed_credentials:
                self.credentials(model).save()
            if self._new_fallbacks is not None:
                self.fallback_routes.model.objects.replace(self, self._new_fallbacks)
                self.forget_connections()
        self._forget_changes()

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Channel] | None = None,
    ) -> None:
        super().refresh_from_db(using, fields, from_queryset)
        if fields is None:
            self._forget_changes()

    def _forget_changes(self) -> None:
        self._new_fallbacks = self._named_fallback_channel = None
        self._changed_credentials = frozenset()

    def clean(self) -> None:
        """Validate rules across fields; errors are keyed by the field to correct.

        The first fallback's error is keyed by `fallback_channel`, those of others by `fallbacks`.
        """
        super().clean()
        errors: dict[str, Any] = {}
        for setting in self._settings():
            if setting.required and not getattr(self, setting.name):
                required = ValidationError(_("This field is required."), code="required")
                errors[setting.name] = required
        fallbacks = self.fallbacks
        for rank, fallback in enumerate(fallbacks):
            if error := self._fallback_error(fallback):
                errors.setdefault("fallbacks" if rank else "fallback_channel", error)
            elif fallback in fallbacks[:rank]:
                errors.setdefault("fallbacks", _("Each fallback can be chosen only once."))
        if fallbacks and self.kind != Provider.OFFICIAL:
            errors[NON_FIELD_ERRORS] = _("Only an official channel has a fallback.")
        for model in self._changed_credentials:
            self._clean_credentials(model, errors)
        if error := opening_hours.error_in(self.opening_hours):
            errors["opening_hours"] = error
        if self.time_zone and not opening_hours.is_time_zone(self.time_zone):
            errors["time_zone"] = _("There is no such time zone.")
        if errors:
            raise ValidationError(errors)

    def _clean_credentials(self, model: type[Credentials], errors: dict[str, Any]) -> None:
        """Normalize and validate changed credentials; errors have the names of the settings."""
        try:
            self.credentials(model).full_clean(exclude=["channel"])
        except ValidationError as error:
            names = {one.name: name for name, one in SETTINGS.items() if one.model is model}
            for name, found in error.error_dict.items():
                errors.setdefault(names.get(name, NON_FIELD_ERRORS), found)

    def _fallback_error(self, fallback: FallbackChoice) -> str:
        """Return why the channel cannot have this fallback, or ""."""
        if not engines.has_channels(fallback.kind):
            return ""
        other = fallback.channel
        if other is None:
            return str(_("Choose the Baileys channel of the fallback."))
        if other.pk is not None and other.pk == self.pk:
            return str(_("A channel cannot be its own fallback."))
        if other.kind != fallback.kind or not other.active:
            return str(_("Choose an active Baileys channel."))
        if not other.is_complete:
            text = _("“%(name)s” has no address, key or instance name. Complete it first.")
            return str(text) % {"name": other.name}
        return ""

    @property
    def local_time_zone(self) -> str:
        """The name of the time zone of its opening hours."""
        return self.time_zone or settings.TIME_ZONE

    # -- credentials -------------------------------------------------------------------------------

    def credentials(self, model: type[C]) -> C:
        """Return the channel's credentials of this kind; blank ones if none are stored."""
        try:
            return getattr(self, model.accessor())  # type: ignore[no-any-return]
        except model.DoesNotExist:
            # Django keeps the new object as the channel's own.
            return model(channel=self)

    def changed_credentials(self, model: type[Credentials]) -> Credentials:
        """Return the channel's credentials of this kind; the next `save` stores them."""
        self._changed_credentials |= {model}
        return self.credentials(model)

    # -- fallbacks ---------------------------------------------------------------------------------

    @property
    def fallbacks(self) -> list[FallbackChoice]:
        """The fallbacks in the order in which they are tried.

        Those that were set but not saved yet, else the stored ones, which are read once.
        """
        if self._new_fallbacks is not None:
            return self._new_fallbacks
        return [
            FallbackChoice(one.provider, None if one.channel_id == self.pk else one.channel)
            for one in (route.connection for route in self._stored_routes())
        ]

    @fallbacks.setter
    def fallbacks(self, fallbacks: Sequence[FallbackChoice]) -> None:
        self._new_fallbacks = list(fallbacks)

    @property
    def fallback(self) -> str:
        """The kind of the first fallback. Setting it leaves at most one fallback."""
        fallbacks = self.fallbacks
        return fallbacks[0].kind if fallbacks else self.NO_FALLBACK

    @fallback.setter
    def fallback(self, kind: str) -> None:
        channel = self.fallback_channel or self._named_fallback_channel
        self._set_only_fallback(kind, channel)

    @property
    def fallback_channel(self) -> Channel | None:
        """The channel that is the first fallback, if it is one.

        Setting it leaves at most one fallback; it has no effect if `fallback` is an attached one.
        """
        fallbacks = self.fallbacks
        return fallbacks[0].channel if fallbacks else None

    @fallback_channel.setter
    def fallback_channel(self, channel: Channel | None) -> None:
        self._set_only_fallback(self.fallback, channel)

    def _set_only_fallback(self, kind: str, channel: Channel | None) -> None:
        self._named_fallback_channel = channel
        only = FallbackChoice(str(kind), channel if engines.has_channels(kind) else None)
        self._new_fallbacks = [] if kind == self.NO_FALLBACK else [only]

    def _stored_routes(self) -> list[FallbackRoute]:
        if self.pk is None:
            return []
        # Without the channels of the connections: nearly always it is this one.
        routes = self.fallback_routes.model._base_manager.select_related("connection")
        prefetch_related_objects([self], Prefetch("fallback_routes", routes))
        return list(self.fallback_routes.all())

    @property
    def uses_wwebjs(self) -> bool:
        """Whether the attached wwebjs session is one of the fallbacks."""
        return any(one.kind == Provider.WWEBJS for one in self.fallbacks)

    @property
    def fallback_connections(self) -> list[Connection]:
        """The connections that send what the primary one does not, in their order."""
        if self._new_fallbacks is not None:
            return [
                one.channel.primary if one.channel else self.connection(one.kind)
                for one in self._new_fallbacks
            ]
        stored = [route.connection for route in self._stored_routes()]
        return [
            self.connection(one.provider) if one.channel_id == self.pk else one for one in stored
        ]

    @property
    def fallback_connection(self) -> Connection | None:
        """The first of the fallback connections; None without a fallback."""
        return next(iter(self.fallback_connections), None)

    @property
    def fallback_for(self) -> list[Channel]:
        """The other channels that fall back to this one, by name."""
        if self.pk is None:
            return []
        prefetch_related_objects([self], "connections__fallback_for__channel")
        routes = [route for one in self.connections.all() for route in one.fallback_for.all()]
        others = {route.channel for route in routes if route.channel_id != self.pk}
        return sorted(others, key=lambda channel: channel.name)

    @property
    def is_fallback_of(self) -> str:
        """The names of the channels that fall back to this one, or ""."""
        return ", ".join(other.name for other in self.fallback_for)

    # -- connections -------------------------------------------------------------------------------

    @property
    def has_wwebjs(self) -> bool:
        """Whether the settings of an attached wwebjs session are complete."""
        return (
            self.kind == Provider.OFFICIAL
            and bool(self.wwebjs_url and self.wwebjs_session_id)
            and self.uses_wwebjs
        )

    @property
    def primary_settings(self) -> list[str]:
        """The settings that identify the account of its own connection."""
        return [one.name for one in self._settings_of(self.kind) if one.required]

    @property
    def is_complete(self) -> bool:
        """Whether the settings of its own connection are complete."""
        return all(getattr(self, name) for name in self.primary_settings)

    def _settings(self) -> list[Setting]:
        """Return the settings of its own connection and of its attached fallbacks."""
        attached = (one.kind for one in self.fallbacks if not engines.has_channels(one.kind))
        return [one for name in (self.kind, *attached) for one in self._settings_of(name)]

    @staticmethod
    def _settings_of(provider: str) -> tuple[Setting, ...]:
        # The model's validation reports an unknown provider.
        return engines.ENGINES[provider].settings if provider in engines.ENGINES else ()

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

    def forget_stored(self) -> None:
        """Let the credentials, the connections and the stored fallbacks be read again."""
        for model in MODELS.values():
            self._state.fields_cache.pop(model.accessor(), None)
        self.forget_connections()

    def forget_connections(self) -> None:
        """Let the connections and the stored fallbacks be read again."""
        for name in ("connections", "fallback_routes"):
            getattr(self, "_prefetched_objects_cache", {}).pop(name, None)

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
        return self.wwebjs if self.kind == Provider.OFFICIAL else self.primary


for name, setting in SETTINGS.items():
    setattr(Channel, name, setting)
