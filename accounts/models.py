from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _
from knox.models import AbstractAuthToken


class ApiToken(AbstractAuthToken):
    """A REST API key for a program, which acts as the key's user. Only a digest is stored."""

    class Scope(models.TextChoices):
        FULL = "full", _("everything that its user may do")
        READ = "read", _("read only")

    name = models.CharField(_("name"), max_length=100, blank=True)
    scope = models.CharField(_("scope"), max_length=10, choices=Scope, default=Scope.FULL)
    # To the minute, so that a key in steady use does not write with each request.
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")

    def __str__(self) -> str:
        return f"{self.user} {self.name} {self.token_key}…"


class Team(models.Model):
    """People who share conversations, such as “Sales”."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    members = models.ManyToManyField(
        settings.AUTH_USER_MODEL, verbose_name=_("members"), blank=True, related_name="teams"
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("team")
        verbose_name_plural = _("teams")
        ordering = ["name"]
        permissions = [("manage_people", _("Can invite people and change their roles"))]

    def __str__(self) -> str:
        return self.name


class Profile(models.Model):
    """What a person has chosen for themselves. Without a row, everything is as by default."""

    class Theme(models.TextChoices):
        SYSTEM = "system", _("As the device")
        LIGHT = "light", _("Light")
        DARK = "dark", _("Dark")

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, related_name="profile"
    )
    theme = models.CharField(_("appearance"), max_length=10, choices=Theme, default=Theme.SYSTEM)
    sound = models.BooleanField(_("play a sound for a new message"), default=False)
    desktop = models.BooleanField(_("show a notification on this desktop"), default=False)
    signature = models.CharField(_("signature"), max_length=120, blank=True)
    signature_on = models.BooleanField(_("put the signature under my messages"), default=False)

    class Meta:
        verbose_name = _("profile")
        verbose_name_plural = _("profiles")

    def __str__(self) -> str:
        return str(self.user)


class Invitation(models.Model):
    """A link by which a new person chooses a name and password, once. Only its digest is stored."""

    digest = models.CharField(max_length=64, primary_key=True)
    role = models.CharField(_("role"), max_length=20)
    teams = models.ManyToManyField(Team, verbose_name=_("teams"), blank=True, related_name="+")
    note = models.CharField(_("for whom"), max_length=100, blank=True)
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    accepted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        verbose_name = _("invitation")
        verbose_name_plural = _("invitations")
        ordering = ["-created_at"]
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.role} {self.created_at:%Y-%m-%d}"
