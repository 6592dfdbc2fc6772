from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_save
from django.utils.translation import gettext_lazy as _


class InstancesConfig(AppConfig):
    name = "instances"
    verbose_name = _("Instances")

    def ready(self) -> None:
        """Hear from the floors below: a saved channel, events about a connection."""
        from channels_app.models import Channel
        from instances import cards, sessions
        from messaging import live_frames
        from messaging.inbound import apply
        from messaging.inbound.events import ConnectionEvent, QrEvent

        post_save.connect(
            sessions.channel_saved, sender=Channel, dispatch_uid="instances.channel_saved"
        )
        live_frames.VIEWS |= {"instance": cards.InstanceView, "instances": cards.InstancesView}
        apply.HANDLERS[ConnectionEvent] = sessions.apply_connection
        apply.HANDLERS[QrEvent] = sessions.apply_qr
