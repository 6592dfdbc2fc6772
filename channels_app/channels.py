"""The use case of saving a channel: everything that depends on its settings follows them."""

from __future__ import annotations

from django.db import transaction

from channels_app import message_templates
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
        Channel.objects.select_for_update(no_key=True).filter(pk=channel.pk).first()
        # Read in a query of its own: that of the lock may join rows from before another's commit.
        related = Channel.objects.select_related(*(model.accessor() for model in MODELS.values()))
        before = related.prefetch_related("fallback_routes").filter(pk=channel.pk).first()
        channel.save()
        # What was not set is compared as it is stored now, not as this object once read it.
        channel.forget_stored()
        primary = Connection.objects.stored(channel, channel.kind)
        records.reset_if_session_changed(Provider.WWEBJS, channel, before)
        if before is not None and channel.differs_from(before, ("kind", *channel.primary_settings)):
            circuit_breaker.close_for_new_settings(primary)
        for connection in Connection.objects.filter(channel=channel):
            connection.channel = channel
            # Any other change may have fixed it as well.
            circuit_breaker.request_probe(connection)
        connection_tests.enqueue_test_if_changed(channel, before)
        message_templates.enqueue_if_changed(channel, before)
        channel_saved.send(sender=Channel, channel=channel, before=before)
    channel.forget_connections()
    return channel
