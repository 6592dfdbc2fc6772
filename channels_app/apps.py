from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ChannelsAppConfig(AppConfig):
    name = "channels_app"
    verbose_name = _("Channels")

    def ready(self) -> None:
        """Connect the receivers of sends that show a problem of a session."""
        from channels_app import signals
        from channels_app.connections import wwebjs_session

        signals.send_rejected.connect(
            wwebjs_session.note_no_answer, dispatch_uid="channels_app.send_without_answer"
        )
