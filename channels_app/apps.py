from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_save
from django.utils.translation import gettext_lazy as _


class ChannelsAppConfig(AppConfig):
    name = "channels_app"
    verbose_name = _("Channels")

    def ready(self) -> None:
        """Connect the receivers that re-check a channel when it is saved."""
        from channels_app import signals
        from channels_app.connections import circuit_breaker, credentials, wwebjs_session
        from channels_app.models import Channel

        post_save.connect(
            wwebjs_session.channel_saved,
            sender=Channel,
            dispatch_uid="channels_app.session_of_saved_channel",
        )
        signals.send_refused.connect(
            wwebjs_session.note_no_answer, dispatch_uid="channels_app.send_without_answer"
        )
        post_save.connect(
            circuit_breaker.channel_saved,
            sender=Channel,
            dispatch_uid="channels_app.breakers_of_saved_channel",
        )
        post_save.connect(
            credentials.channel_saved,
            sender=Channel,
            dispatch_uid="channels_app.credentials_of_saved_channel",
        )
