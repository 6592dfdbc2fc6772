from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ChannelsAppConfig(AppConfig):
    name = "channels_app"
    verbose_name = _("Channels")

    def ready(self) -> None:
        """Register the engine of wwebjs sessions, and the receiver of sends without a response."""
        from channels_app import signals
        from channels_app.connections import session_engines, wwebjs, wwebjs_commands

        session_engines.register(wwebjs.WwebjsEngine())
        signals.send_rejected.connect(
            wwebjs_commands.poll_after_no_answer, dispatch_uid="channels_app.send_without_answer"
        )
