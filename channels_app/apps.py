from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ChannelsAppConfig(AppConfig):
    name = "channels_app"
    verbose_name = _("Channels")

    def ready(self) -> None:
        """Register the engine of wwebjs sessions."""
        from channels_app.connections import session_engines, wwebjs

        session_engines.register(wwebjs.WwebjsEngine())
