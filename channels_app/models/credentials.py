"""What its owner enters so that a channel reaches WhatsApp, one table per provider.

A channel has at most one connection by each provider, so the rows are one-to-one with the channel:
they exist before their connection. Secrets are encrypted at rest and decrypted when they are read.
"""

from __future__ import annotations

from typing import Any, cast

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from channels_app.providers import engines
from channels_app.providers.cloud.client import DEFAULT_GRAPH_URL, DEFAULT_GRAPH_VERSION
from core.fields import EncryptedTextField, HttpAddressField


class Credentials(models.Model):
    """The address of one provider's server, the account there, and the keys to it."""

    channel: Any

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.pk}"

    @classmethod
    def accessor(cls) -> str:
        """Return the channel's attribute that holds the row."""
        field = cast("models.OneToOneField[Any, Any]", cls._meta.get_field("channel"))
        return field.remote_field.get_accessor_name() or ""


class CloudCredentials(Credentials):
    """A phone number at Meta, and the app that may send from it."""

    channel = models.OneToOneField(
        "channels_app.Channel",
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="cloud",
    )
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

    class Meta:
        verbose_name = _("Cloud API credentials")
        verbose_name_plural = _("Cloud API credentials")
        constraints = [
            models.UniqueConstraint(
                name="cloud_credentials_phone_number_id_once",
                fields=["phone_number_id"],
                condition=~Q(phone_number_id=""),
                violation_error_message=_("Another channel already uses this phone number id."),
            )
        ]


class WwebjsCredentials(Credentials):
    """A session of a wwebjs-api server."""

    channel = models.OneToOneField(
        "channels_app.Channel",
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="wwebjs_api",
    )
    url = HttpAddressField(_("URL of the WWebJS API"), max_length=200, blank=True)
    api_key = EncryptedTextField(_("API_KEY of the WWebJS API"), blank=True)
    session_id = models.CharField(
        _("WWebJS session name"),
        max_length=64,
        blank=True,
        validators=[RegexValidator(r"^[A-Za-z0-9_-]+$", _("Only letters, digits, - and _."))],
    )

    class Meta:
        verbose_name = _("wwebjs-api credentials")
        verbose_name_plural = _("wwebjs-api credentials")


class EvolutionCredentials(Credentials):
    """An instance of an Evolution API server."""

    channel = models.OneToOneField(
        "channels_app.Channel",
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="evolution",
    )
    url = HttpAddressField(_("Evolution API address"), max_length=200, blank=True)
    api_key = EncryptedTextField(_("Evolution API key"), blank=True)
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

    class Meta:
        verbose_name = _("Evolution API credentials")
        verbose_name_plural = _("Evolution API credentials")
        constraints = [
            models.UniqueConstraint(
                name="evolution_credentials_instance_name_once",
                fields=["instance_name"],
                condition=~Q(instance_name=""),
                violation_error_message=_("Another channel already uses this instance."),
            )
        ]


# By the name of the provider.
MODELS: dict[str, type[Credentials]] = {
    "official": CloudCredentials,
    "wwebjs": WwebjsCredentials,
    "baileys": EvolutionCredentials,
}


class StoredSetting(property):
    """A channel's attribute that is stored in its credentials, under its name in REST.

    Reading it loads the credentials once; what is set is stored by the channel's `save`.
    """

    def __init__(self, model: type[Credentials], name: str) -> None:
        super().__init__(self._read, self._write)
        self.model = model
        self.name = name

    @property
    def field(self) -> models.Field[Any, Any]:
        """The column that holds the value."""
        return self.model._meta.get_field(self.name)  # type: ignore[return-value]

    def _read(self, channel: Any) -> Any:
        return getattr(channel.credentials(self.model), self.name)

    def _write(self, channel: Any, value: Any) -> None:
        setattr(channel.changed_credentials(self.model), self.name, value)


# The settings that the engines declare, under their names in REST.
SETTINGS: dict[str, StoredSetting] = {
    setting.name: StoredSetting(MODELS[engine.name], setting.column)
    for engine in engines.ENGINES.values()
    for setting in engine.settings
}
SECRETS = [name for name, one in SETTINGS.items() if isinstance(one.field, EncryptedTextField)]
