from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from channels_app.providers.cloud.templates import Definition


class MessageTemplate(models.Model):
    """A template of a WhatsApp Business account, as Meta last listed it.

    All channels of the account share it. A name and language can return under another
    `template_id` after a deletion; rows of deleted templates stay, because sent messages refer to
    them. `components` are those of Meta's list. Statuses that are unknown here are stored as well.
    """

    business_account_id = models.CharField(_("WhatsApp business account id"), max_length=32)
    template_id = models.CharField(_("template id"), max_length=64)
    name = models.CharField(_("name"), max_length=512)
    language = models.CharField(_("language"), max_length=20)
    category = models.CharField(_("category"), max_length=40, blank=True)
    status = models.CharField(_("status"), max_length=40, blank=True)
    quality = models.CharField(_("quality"), max_length=40, blank=True)
    rejected_reason = models.CharField(_("reason of the rejection"), max_length=200, blank=True)
    parameter_format = models.CharField(_("format of the variables"), max_length=40, blank=True)
    components = models.JSONField(_("components"), default=list)
    # Until when after the send Meta delivers it; null if that is not known. Meta does not list it:
    # it is known of what was submitted here, once that is approved, until anything else changes.
    ttl_seconds = models.PositiveIntegerField(_("time to live (s)"), null=True, blank=True)
    submitted_ttl_seconds = models.PositiveIntegerField(
        _("time to live after the review (s)"), null=True, blank=True
    )
    synced_at = models.DateTimeField(_("synchronized at"))
    deleted_at = models.DateTimeField(_("deleted at"), null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(_("last change"))

    # What a synchronization compares and stores.
    SYNCED: ClassVar = (
        "name",
        "language",
        "category",
        "status",
        "quality",
        "rejected_reason",
        "parameter_format",
        "components",
        "deleted_at",
    )

    class Meta:
        verbose_name = _("template")
        verbose_name_plural = _("templates")
        ordering = ["name", "language", "id"]
        constraints = [
            models.UniqueConstraint(
                name="message_template_once", fields=["business_account_id", "template_id"]
            )
        ]
        indexes = [
            models.Index(
                name="message_template_by_name",
                fields=["business_account_id", "name", "language"],
                condition=models.Q(deleted_at=None),
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.language})"

    @property
    def definition(self) -> Definition:
        """What the pure rules know of the template."""
        components: list[Any] = self.components if isinstance(self.components, list) else []
        return Definition(
            template_id=self.template_id,
            name=self.name,
            language=self.language,
            category=self.category,
            status="DELETED" if self.deleted_at else self.status,
            quality=self.quality,
            rejected_reason=self.rejected_reason,
            parameter_format=self.parameter_format,
            components=tuple(one for one in components if isinstance(one, dict)),
        )


class TemplateSync(models.Model):
    """When the templates of a WhatsApp Business account were last read, and how that ended.

    `error_code` is "" after a success; `synced_at` is that of the last success.
    """

    business_account_id = models.CharField(max_length=32, primary_key=True)
    tried_at = models.DateTimeField()
    synced_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_detail = models.CharField(max_length=300, blank=True)

    class Meta:
        verbose_name = _("synchronization of templates")
        verbose_name_plural = _("synchronizations of templates")

    def __str__(self) -> str:
        return self.business_account_id
