from __future__ import annotations

from django.db import models

from channels_app.models.connection import Connection


class ResolvedNumber(models.Model):
    """The chat ID under which WhatsApp knows a number, from a session's look-up.

    `number` is the requested number, digits only; `chat_id` may have the other Brazilian form.
    `lid` is WhatsApp's hidden ID of the same person, from the response to a send.
    """

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="+")
    number = models.CharField(max_length=20)
    chat_id = models.CharField(max_length=255)
    lid = models.CharField(max_length=64, blank=True)
    found_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="resolved_number_once_per_connection", fields=["connection", "number"]
            )
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.chat_id}"
