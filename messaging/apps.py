from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import post_delete, post_save
from django.utils.translation import gettext_lazy as _


class MessagingConfig(AppConfig):
    name = "messaging"
    verbose_name = _("Messages")

    def ready(self) -> None:
        """Connect signals from `channels_app` for page updates and changed limits."""
        from channels_app.models import Channel
        from channels_app.signals import incident_changed, session_changed

        session_changed.connect(_push_channel, dispatch_uid="messaging.push_channel")
        incident_changed.connect(_push_incidents, dispatch_uid="messaging.push_alarms")
        # A channel that is inactive or deleted has no incidents.
        post_save.connect(_push_saved, sender=Channel, dispatch_uid="messaging.push_saved")
        post_delete.connect(_push_saved, sender=Channel, dispatch_uid="messaging.push_deleted")
        user_logged_out.connect(_close_sockets, dispatch_uid="messaging.close_sockets")
        post_save.connect(_reschedule_throttled, sender=Channel, dispatch_uid="messaging.ask_again")


def _reschedule_throttled(instance: Any, created: bool, **kwargs: Any) -> None:
    from messaging import queue

    if not created:
        queue.enqueue_rescheduling(instance.pk)


def _push_channel(channel: Any, **kwargs: Any) -> None:
    from messaging.live import publisher

    publisher.channel_changed(channel)


def _push_incidents(channel: Any, **kwargs: Any) -> None:
    from messaging.live import publisher

    publisher.alarms_changed(channel)


def _push_saved(instance: Any, **kwargs: Any) -> None:
    _push_incidents(instance)


def _close_sockets(request: Any, **kwargs: Any) -> None:
    from messaging.live import publisher

    if request is not None and (key := request.session.session_key):
        # Django deletes it next; a page that reloads immediately must not find it.
        request.session.delete(key)
        publisher.signed_out(key)
