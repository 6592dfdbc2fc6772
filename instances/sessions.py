"""Sessions: made with their channel, and told by events what state they are in."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from channels_app.models import Channel
from instances import live
from instances.models import WhatsAppSession
from messaging.inbound.events import ConnectionEvent

_STATES = {
    "open": WhatsAppSession.Connection.OPEN,
    "connecting": WhatsAppSession.Connection.CONNECTING,
    "close": WhatsAppSession.Connection.CLOSE,
    "refused": WhatsAppSession.Connection.CLOSE,
}


def ensure(channel: Channel) -> None:
    """Make the session of a Baileys channel where it has none yet."""
    if channel.kind == Channel.Kind.BAILEYS:
        WhatsAppSession.objects.get_or_create(channel=channel)


def channel_saved(sender: type[Channel], instance: Channel, **kwargs: Any) -> None:
    """Signal receiver: a channel was saved."""
    ensure(instance)


def apply_connection(channel: Channel, event: ConnectionEvent) -> None:
    """Store what an event said of the instance's connection to WhatsApp."""
    state = _STATES.get(event.state, WhatsAppSession.Connection.UNKNOWN)
    session = WhatsAppSession.objects.filter(channel=channel).first()
    if session is None:
        return
    changed = (
        WhatsAppSession.objects.filter(pk=session.pk)
        .exclude(connection=state, connection_reason=event.reason[:200])
        .update(
            connection=state,
            connection_reason=event.reason[:200],
            connection_changed_at=timezone.now(),
        )
    )
    if changed:
        live.session_changed(session)
    if event.own_number and not channel.phone_number:
        Channel.objects.filter(pk=channel.pk).update(phone_number=event.own_number)
