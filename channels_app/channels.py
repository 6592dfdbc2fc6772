"""The use case of saving a channel: everything that depends on its settings follows them."""

from __future__ import annotations

from django.db import transaction

from channels_app.connections import circuit_breaker, connection_tests, records
from channels_app.models import Channel, Connection, Provider
from channels_app.models.credentials import MODELS
from channels_app.signals import channel_saved


def save_channel(channel: Channel) -> Channel:
    """Store a new or changed channel, already validated, its connections and fallbacks.

    What was observed of a connection whose server, session or credentials have changed is reset,
    and the connection is checked again. Other apps follow by the signal `channel_saved`. Everything
    happens in one transaction; no network call is made in it.
    """
    with transaction.atomic():
        locked = Channel.objects.select_for_update(no_key=True, of=("self",)).filter(pk=channel.pk)
        # Credentials and fallbacks are read before they change, too.
        related = locked.select_related(*(model.ACCESSOR for model in MODELS.values()))
        before = related.prefetch_related("fallback_routes").first()
        channel.save()
        primary = Connection.objects.stored(channel, channel.kind)
        records.reset_if_session_changed(Provider.WWEBJS, channel, before)
        if before is not None and channel.differs_from(before, Channel.PRIMARY_ROUTE_SETTINGS):
            circuit_breaker.close_for_new_settings(primary)
        for connection in Connection.objects.filter(channel=channel):
            connection.channel = channel
            # Any other change may have fixed it as well.
            circuit_breaker.request_probe(connection)
        connection_tests.enqueue_test_if_changed(channel, before)
        channel_saved.send(sender=Channel, channel=channel, before=before)
    channel.forget_connections()
    return channel
