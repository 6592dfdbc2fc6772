"""The browsers that show a new message although no page is open, and what was sent to them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class PushSubscription(models.Model):
    """An address at a browser's push service. It ends with the session that made it."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        related_name="push_subscriptions",
    )
    session_key = models.CharField(_("session"), max_length=40)
    endpoint = models.CharField(_("address"), max_length=1000, unique=True)
    p256dh = models.CharField(_("key"), max_length=200)
    auth = models.CharField(_("secret"), max_length=100)
    language = models.CharField(_("language"), max_length=10)
    # Without the customer's name and words.
    private = models.BooleanField(_("private"), default=False)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)

    class Meta:
        verbose_name = _("push subscription")
        verbose_name_plural = _("push subscriptions")

    def __str__(self) -> str:
        return f"{self.user_id}: {self.pk}"


class PushedMessage(models.Model):
    """A message that was taken for pushing, so that it is pushed once."""

    message_id = models.UUIDField(primary_key=True)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return str(self.message_id)
