"""Sessions: created with their channel and updated by connection events."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone

from channels_app.connections import records
from channels_app.models import Channel, Connection, Provider
from channels_app.providers.events import ConnectionEvent, QrEvent
from instances import live
from instances.connections import history
from instances.models import WhatsAppSession
from instances.receive_mode import backfill

ServerState = Connection.ServerState

_STATES = {
    "open": ServerState.OPEN,
    "connecting": ServerState.CONNECTING,
    "close": ServerState.CLOSE,
    "refused": ServerState.CLOSE,
}
# Our own reasons, in addition to WhatsApp's numbers.
QR_DISPLAYED, QR_LIMIT = "qr", "qr_limit"


def ensure(channel: Channel) -> None:
    """Create the session of a Baileys channel if it does not exist."""
    if channel.kind == Provider.BAILEYS:
        WhatsAppSession.objects.get_or_create(channel=channel)


def channel_saved(channel: Channel, before: Channel | None, **kwargs: Any) -> None:
    """Signal receiver: a channel was saved."""
    ensure(channel)
    records.reset_if_session_changed(Provider.BAILEYS, channel, before)


def apply_connection(channel: Channel, event: ConnectionEvent) -> None:
    """Store the connection state that an event reported.

    The sign of a gap is stored with the event. The rest runs after the commit of the event batch:
    session locks must not wait for message locks, which other code acquires in the opposite order.
    """
    if event.state == "open":
        _note_opening(channel)
    transaction.on_commit(partial(_apply_connection, channel, event), robust=True)


def _note_opening(channel: Channel) -> None:
    """Record a gap: WhatsApp delivers its backlog now, and Evolution may have restarted."""
    session = WhatsAppSession.objects.lock(channel=channel)
    if session is None:
        return
    if not history.is_linking(session.connection):
        session.note_opening(timezone.now())
        session.save(update_fields=["opened_at", "backlog_since"])
    backfill.request(
        session.pk, reason=backfill.Reason.RECONNECTED, delay=backfill.AFTER_RECONNECTING
    )


def _apply_connection(channel: Channel, event: ConnectionEvent) -> None:
    _set_connection(channel, _STATES.get(event.state, ServerState.UNKNOWN), event.reason)
    if event.own_number and not (channel.phone_number or channel.primary.confirmed_number):
        # The first phone. For a later one, the next probe decides whether it is right.
        Channel.objects.filter(pk=channel.pk, phone_number="").update(phone_number=event.own_number)
    records.request_poll(Provider.BAILEYS, channel)


def apply_qr(channel: Channel, event: QrEvent) -> None:
    """Store that the instance waits for its QR code to be scanned, or stopped waiting.

    It runs after the commit, like `apply_connection`.
    """
    transaction.on_commit(partial(_apply_qr, channel, event), robust=True)


def _apply_qr(channel: Channel, event: QrEvent) -> None:
    if event.digest:
        _set_connection(channel, ServerState.CONNECTING, QR_DISPLAYED)
    else:
        _set_connection(channel, ServerState.CLOSE, QR_LIMIT)
    records.request_poll(Provider.BAILEYS, channel, qr_digest=event.digest)


def _set_connection(channel: Channel, state: str, reason: str) -> None:
    session = WhatsAppSession.objects.loaded(channel=channel)
    if session is None:
        return
    connection = Connection.objects.stored(session.channel, session.channel.kind)
    values = {"server_state": state, "server_state_reason": reason[:200]}
    if all(getattr(connection, name) == value for name, value in values.items()):
        return
    Connection.objects.filter(pk=connection.pk).update(
        **values, server_state_changed_at=timezone.now()
    )
    live.session_changed(session)
