from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class InstancesConfig(AppConfig):
    name = "instances"
    verbose_name = _("Instances")

    def ready(self) -> None:
        """Register signal receivers, event handlers and page extensions."""
        from channels_app import extensions, signals
        from channels_app.connections import readiness, session_engines
        from channels_app.providers.events import ConnectionEvent, QrEvent
        from instances import sessions
        from instances.connections import cards as connection_cards
        from instances.connections import evolution, history
        from instances.receive_mode import presentation
        from messaging.inbound import handlers
        from messaging.live import frames

        session_engines.register(evolution.EvolutionEngine())
        signals.channel_saved.connect(
            sessions.channel_saved, dispatch_uid="instances.channel_saved"
        )
        extensions.CARD += [connection_cards.section, connection_cards.fallbacks]
        extensions.PAGE += [connection_cards.beside]
        extensions.LINE += [connection_cards.line]
        readiness.CONNECTION += [connection_cards.describe_problem]
        extensions.RELATED += ["session"]
        frames.VIEWS |= {
            "instance": connection_cards.InstanceView,
            "instances": presentation.InstancesView,
            "channel": connection_cards.ChannelView,
        }
        handlers.HANDLERS[ConnectionEvent] = sessions.apply_connection
        handlers.HANDLERS[QrEvent] = sessions.apply_qr
        handlers.HISTORY_ENDS += [history.end_of_history]
