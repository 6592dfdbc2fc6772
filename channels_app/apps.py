from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_save
from django.utils.translation import gettext_lazy as _


class ChannelsAppConfig(AppConfig):
    name = "channels_app"
    verbose_name = _("Channels")

    def ready(self) -> None:
        """What is known of a session is looked at again when its channel is saved."""
        from channels_app import wwebjs_session
        from channels_app.models import Channel

        post_save.connect(
            wwebjs_session.channel_saved,
            sender=Channel,
            dispatch_uid="channels_app.session_of_saved_channel",
        )
