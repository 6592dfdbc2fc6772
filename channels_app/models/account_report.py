from __future__ import annotations

from django.db import models

from channels_app.models.connection import Connection


class AccountReport(models.Model):
    """The latest that the provider reported about one topic of an account, number or template.

    Reports come in any order: an earlier one changes nothing. `reason` is "" if nothing is wrong.
    """

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="+")
    topic = models.CharField(max_length=64)
    reason = models.CharField(max_length=64, blank=True)
    detail = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="account_report_once_per_topic", fields=["connection", "topic"]
            )
        ]

    def __str__(self) -> str:
        return f"{self.topic} {self.reason}"
