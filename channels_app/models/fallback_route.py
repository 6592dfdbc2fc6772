from __future__ import annotations

from collections.abc import Sequence

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from channels_app.models.channel import Channel, FallbackChoice
from channels_app.models.connection import Connection


class FallbackRouteManager(models.Manager["FallbackRoute"]):
    """Reads a route with its connection and that connection's channel, in one query."""

    def get_queryset(self) -> models.QuerySet[FallbackRoute]:
        return super().get_queryset().select_related("connection__channel")

    def replace(self, channel: Channel, fallbacks: Sequence[FallbackChoice]) -> None:
        """Store these as the channel's fallbacks, in this order. In a transaction.

        Missing connections are created. Nothing is written if nothing changes.
        """
        wanted = [
            Connection.objects.stored(one.channel, one.channel.kind).pk
            if one.channel
            else Connection.objects.stored(channel, one.kind).pk
            for one in fallbacks
        ]
        stored = self.filter(channel=channel).order_by("position")
        if list(stored.values_list("connection", flat=True)) == wanted:
            return
        stored.delete()
        self.bulk_create(
            FallbackRoute(channel=channel, position=position, connection_id=pk)
            for position, pk in enumerate(wanted, start=1)
        )


class FallbackRoute(models.Model):
    """A connection by which an official channel sends what its own rejects, and its rank.

    The routes of a channel are tried in the order of `position`, which counts from 1: its attached
    wwebjs session, or the connections of Baileys channels.
    """

    channel = models.ForeignKey(
        Channel,
        verbose_name=_("channel"),
        on_delete=models.CASCADE,
        related_name="fallback_routes",
    )
    position = models.PositiveSmallIntegerField(_("position"), validators=[MinValueValidator(1)])
    # A connection that others fall back to cannot be deleted. RESTRICT, unlike PROTECT, lets a
    # channel be deleted together with its own attached session.
    connection = models.ForeignKey(
        Connection,
        verbose_name=_("connection"),
        on_delete=models.RESTRICT,
        related_name="fallback_for",
    )

    objects = FallbackRouteManager()

    class Meta:
        verbose_name = _("fallback")
        verbose_name_plural = _("fallbacks")
        ordering = ["position"]
        constraints = [
            models.CheckConstraint(
                name="fallback_route_position_from_1", condition=Q(position__gte=1)
            ),
            models.UniqueConstraint(
                name="fallback_route_once_per_position", fields=["channel", "position"]
            ),
            models.UniqueConstraint(
                name="fallback_route_once_per_connection", fields=["channel", "connection"]
            ),
        ]

    def __str__(self) -> str:
        return f"{self.channel_id} {self.position} {self.connection_id}"
