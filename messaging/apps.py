from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MessagingConfig(AppConfig):
    name = "messaging"
    verbose_name = _("Messages")

    def ready(self) -> None:
        """Hear from the floor below: a channel's session changed, and pages are to show it."""
        from channels_app.signals import incident_opened, session_changed

        session_changed.connect(_push_channel, dispatch_uid="messaging.push_channel")
        incident_opened.connect(_push_incident, dispatch_uid="messaging.push_incident")


def _push_channel(channel: Any, **kwargs: Any) -> None:
    from messaging import live

    live.channel_changed(channel)


def _push_incident(incident: Any, **kwargs: Any) -> None:
    from messaging import live

    live.incident_opened(incident)
