"""The commands that only an Evolution instance has: reconnect, log out, delete.

For views and the API. They use the network: do not call them inside a transaction.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from django.utils import timezone

from channels_app.connections import monitor, records
from channels_app.connections.engines import SessionRefused, SessionState, not_configured
from channels_app.incidents import incidents
from channels_app.models import Connection
from channels_app.providers.evolution.instance import EvolutionLifecycle
from channels_app.providers.evolution.receive_mode import EvolutionFailed
from channels_app.providers.sessions import DerivedState, State
from instances.connections import pictures
from instances.connections.evolution import (
    ENGINE,
    QUIET_FOR,
    client_of,
    command_link,
    forget_link,
    store_and_raise,
    wait_until,
)
from instances.models import WhatsAppSession
from instances.receive_mode import handover

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def reconnect(connection: Connection, *, user: User | None = None) -> SessionState:
    """Reconnect with the existing login; a closed instance is connected instead.

    Raises SessionRefused like `monitor.connect`.
    """
    client = _client(connection)
    # It may display a code if no phone is linked.
    command_link(connection, dead_since=None, quiet_until=timezone.now() + QUIET_FOR)
    try:
        restarted = client.restart()
    except EvolutionFailed as error:
        if error.code != "instance_missing":
            store_and_raise(connection, error)
        restarted = False
    if not restarted:
        return monitor.connect(connection, user=user)
    return _store(connection, DerivedState(State.STARTING, "reconnecting"))


def log_out(connection: Connection) -> SessionState:
    """Unlink the phone; the instance stays. Connecting again requires a new code.

    A closed instance cannot be unlinked: the state's code is then "not_running". Raises
    SessionRefused (409 not_configured; 502 if the server failed).
    """
    client = _client(connection)
    _command_end(connection)
    try:
        code = "unlinked" if client.log_out() else "not_running"
    except EvolutionFailed as error:
        store_and_raise(connection, error)
    records.command(connection, local_reason=code, dead_since=None)
    return _store(connection, DerivedState(State.DISCONNECTED, code))


def delete(connection: Connection, *, user: User | None = None) -> SessionState:
    """Delete the instance on the server; the channel and its history stay.

    The webhook is disabled first, because the deletion waits for its delivery (§1). The state's
    code is "deleting" if Evolution has not finished in time. Raises SessionRefused (409
    not_configured, or conflict during a switch of the receive mode; 502 if the server failed).
    """
    client, session = _client(connection), connection.channel.session
    try:
        with handover.locked(session):
            _command_end(connection)
            code = _remove(client)
            handover.forget(session)
    except handover.SwitchRefused as error:
        raise SessionRefused("conflict", str(error)) from None
    except EvolutionFailed as error:
        _restore_receive_mode(session, user=user)
        store_and_raise(connection, error)
    pictures.forget(connection)
    records.command(
        connection, local_reason=code, dead_since=None, own_number="", profile_name="",
        recovery_attempts=0,
    )  # fmt: skip
    forget_link(connection)
    return _store(connection, DerivedState(State.DISCONNECTED, code))


def _client(connection: Connection) -> EvolutionLifecycle:
    if not ENGINE.is_configured(connection.channel):
        raise not_configured()
    return client_of(connection)


def _command_end(connection: Connection) -> None:
    """Do not reconnect it, whatever the server answers."""
    records.command(connection, keep_connected=False, serving=False, linking_since=None)
    incidents.close_silently(connection)


def _store(connection: Connection, derived: DerivedState) -> SessionState:
    records.store_command_state(ENGINE, connection, derived)
    return monitor.current_state(connection)


def _remove(client: EvolutionLifecycle) -> str:
    """Delete the instance and return the resulting code. Raises EvolutionFailed."""
    try:
        client.disable_webhook()
        client.delete()
    except EvolutionFailed as error:
        if error.code != "instance_missing":
            raise
    return "instance_deleted" if wait_until(lambda: _is_gone(client)) else "deleting"


def _is_gone(client: EvolutionLifecycle) -> bool:
    try:
        client.state()
    except EvolutionFailed as error:
        return error.code == "instance_missing"
    return False


def _restore_receive_mode(session: WhatsAppSession, *, user: User | None) -> None:
    """Restore the agreed receive mode after a failed deletion disabled the webhook."""
    if session.mode is not None:
        with contextlib.suppress(handover.SwitchRefused):
            handover.repair(session, keep="database", user=user)
