from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_save
from django.utils.translation import gettext_lazy as _


class InstancesConfig(AppConfig):
    name = "instances"
    verbose_name = _("Instances")

    def ready(self) -> None:
        """Hear from the floors below: a saved channel, events about a connection."""
        from channels_app import card_parts, readiness, remote_sessions, signals
        from channels_app.models import Channel
        from instances import cards, connection_cards, connections, sessions
        from instances.remote_sessions import InstanceSource
        from messaging import live_frames
        from messaging.inbound import apply
        from messaging.inbound.events import ConnectionEvent, QrEvent

        post_save.connect(
            sessions.channel_saved, sender=Channel, dispatch_uid="instances.channel_saved"
        )
        signals.send_refused.connect(connections.note_refusal, dispatch_uid="instances.refused")
        signals.send_taken.connect(connections.note_taken, dispatch_uid="instances.taken")
        card_parts.CARD += [connection_cards.section, connection_cards.fallback]
        card_parts.PAGE += [connection_cards.beside]
        card_parts.LINE += [connection_cards.line]
        remote_sessions.SOURCES += [InstanceSource()]
        readiness.CONNECTION += [connection_cards.trouble]
        card_parts.RELATED += ["session", "fallback_channel__session"]
        live_frames.VIEWS |= {
            "instance": connection_cards.InstanceView,
            "instances": cards.InstancesView,
            "channel": connection_cards.ChannelView,
        }
        apply.HANDLERS[ConnectionEvent] = sessions.apply_connection
        apply.HANDLERS[QrEvent] = sessions.apply_qr
        apply.HISTORY_ENDS += [connections.end_of_history]
