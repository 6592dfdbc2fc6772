from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import post_delete
from django.utils.translation import gettext_lazy as _


class MessagingConfig(AppConfig):
    name = "messaging"
    verbose_name = _("Messages")

    def ready(self) -> None:
        """Connect signals from `channels_app` for page updates and changed limits."""
        from accounts.team import sessions_ended
        from channels_app.models import Channel
        from channels_app.signals import channel_saved, incident_changed, session_changed

        session_changed.connect(_push_channel, dispatch_uid="messaging.push_channel")
        incident_changed.connect(_push_incidents, dispatch_uid="messaging.push_alerts")
        # A channel that is inactive or deleted has no incidents.
        channel_saved.connect(_push_incidents, dispatch_uid="messaging.push_saved")
        post_delete.connect(_push_deleted, sender=Channel, dispatch_uid="messaging.push_deleted")
        user_logged_out.connect(_close_sockets, dispatch_uid="messaging.close_sockets")
        sessions_ended.connect(_close_sockets_of, dispatch_uid="messaging.close_sockets_of")
        channel_saved.connect(_reschedule_throttled, dispatch_uid="messaging.reschedule")


def _reschedule_throttled(channel: Any, before: Any, **kwargs: Any) -> None:
    from messaging import queue

    if before is not None:
        queue.enqueue_rescheduling(channel.pk)


def _push_channel(channel: Any, **kwargs: Any) -> None:
    from messaging.live import publisher

    publisher.channel_changed(channel)


def _push_incidents(channel: Any, **kwargs: Any) -> None:
    from messaging.live import publisher

    publisher.alerts_changed(channel)


def _push_deleted(instance: Any, **kwargs: Any) -> None:
    _push_incidents(instance)


def _close_sockets(request: Any, **kwargs: Any) -> None:
    from messaging.live import publisher

    if request is not None and (key := request.session.session_key):
        # Django deletes it next; a page that reloads immediately must not find it.
        request.session.delete(key)
        publisher.signed_out(key)


def _close_sockets_of(keys: Any, **kwargs: Any) -> None:
    from messaging.live import publisher

    for key in keys:
        publisher.signed_out(key)
