"""What a person does with an Evolution instance: connect, link, reconnect, log out, delete.

`connect` and `pairing_code` are called through `channels_app.connections.monitor`. All commands use
the network: do not call them inside a transaction. Sections are those of
docs/providers/evolution.md.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, cast

import structlog
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app.connections import monitor, observations, records
from channels_app.connections.session_engines import (
    SessionRefused,
    SessionState,
    configured,
    refused,
)
from channels_app.incidents import incidents
from channels_app.models import Connection, Provider
from channels_app.providers.evolution.instance import EvolutionLifecycle, Link
from channels_app.providers.evolution.receive_mode import EvolutionFailed
from channels_app.providers.sessions import DerivedState, State
from instances.connections import pictures
from instances.connections.states import Observation
from instances.models import WhatsAppSession
from instances.receive_mode import handover

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

PROVIDER = Provider.BAILEYS
# Seconds to wait for work that Evolution finishes after its answer.
PATIENCE = 3.0
_POLL = 0.1
# A disconnection this soon after our own command is its consequence.
QUIET_FOR = dt.timedelta(seconds=60)


def client_of(connection: Connection, **options: Any) -> EvolutionLifecycle:
    """Return the client of a connection's instance."""
    return EvolutionLifecycle(connection.credentials, **options)


# -- connect and link ------------------------------------------------------------------------------


def connect(connection: Connection, *, user: User | None = None) -> None:
    """Create the instance if it does not exist, then connect it. Takes some seconds.

    An existing instance is taken over as it is. One that is open or displays a code is not
    connected again. The webhook is set first, because Evolution reads the base64 setting only when
    it connects (§3). The receive-mode history names the user. Raises SessionRefused.
    """
    client = client_of(connection)
    code, detail = _error_of(connection)
    if code not in ("", "instance_missing"):
        raise refused(PROVIDER, code, detail)
    _command_link(connection)
    try:
        if code:
            _create(connection, client)
        _configure_events(connection.channel.session, is_new=code != "", user=user)
        polled_at = timezone.now()
        link = client.connect()
    except EvolutionFailed as error:
        _store_and_raise(connection, error)
    observations.record_observation(connection, observation_from(link), polled_at=polled_at)


def pairing_code(connection: Connection, digits: str) -> str:
    """Return the code to enter on this phone. Raises SessionRefused.

    Evolution creates one only when it connects for that number, so a displayed QR code is discarded
    first.
    """
    client = client_of(connection)
    polled, _action = monitor.poll(connection, with_code=True)
    observation = cast("Observation", polled)
    if observation.error_code:
        raise refused(PROVIDER, observation.error_code, observation.detail)
    is_connecting = observation.connection == "connecting"
    if observation.connection == "open" or (is_connecting and not observation.qr):
        raise monitor.not_waiting_for_phone()
    _command_link(connection, quiet_until=timezone.now() + QUIET_FOR)
    try:
        if is_connecting:
            client.log_out()
            _wait(lambda: client.state() == "close")
        polled_at = timezone.now()
        link = client.connect(number=digits)
    except EvolutionFailed as error:
        _store_and_raise(connection, error)
    observations.record_observation(connection, observation_from(link), polled_at=polled_at)
    if not link.pairing_code:
        text = _("WhatsApp returned no code for this number.")
        raise SessionRefused("no_pairing_code", text, status=502)
    return link.pairing_code


def reconnect(connection: Connection, *, user: User | None = None) -> SessionState:
    """Reconnect with the existing login; a closed instance is connected instead.

    Raises SessionRefused like `monitor.connect`.
    """
    configured(connection)
    client = client_of(connection)
    # It may display a code if no phone is linked.
    _command_link(connection, dead_since=None, quiet_until=timezone.now() + QUIET_FOR)
    try:
        restarted = client.restart()
    except EvolutionFailed as error:
        if error.code != "instance_missing":
            _store_and_raise(connection, error)
        restarted = False
    if not restarted:
        return monitor.connect(connection, user=user)
    return _store(connection, DerivedState(State.STARTING, "reconnecting"))


def observation_from(link: Link) -> Observation:
    """Return what the answer to a request to connect says of the instance."""
    reported = "open" if link.is_open else "connecting"
    return Observation(connection=reported, qr=link.qr, pairing_code=link.pairing_code)


def _error_of(connection: Connection) -> tuple[str, str]:
    observation, _action = monitor.poll(connection)
    return observation.error_code, observation.detail


def _command_link(connection: Connection, **values: Any) -> None:
    """Record that a person wants it connected, and that a code may be shown for it."""
    records.command(
        connection, keep_connected=True, linking_since=timezone.now(), local_reason="",
        recovery_attempts=0, recovery_attempted_at=None, **values,
    )  # fmt: skip


def _create(connection: Connection, client: EvolutionLifecycle) -> None:
    try:
        client.create()
    except EvolutionFailed as error:
        # A concurrent request created it: take over that instance.
        if error.reason != "name_taken" or _error_of(connection)[0]:
            raise
    # No phone was ever linked to it: do not request codes automatically.
    _forget_link(connection)


def _forget_link(connection: Connection) -> None:
    """Record that no phone was ever linked to the instance."""
    records.rows(connection).update(last_ready_at=None, closed_since=None)
    WhatsAppSession.objects.filter(channel=connection.channel_id).update(
        history_before=None, opened_at=None, backlog_since=None
    )


def _configure_events(session: WhatsAppSession, *, is_new: bool, user: User | None) -> None:
    """Configure event delivery if no receive mode is agreed yet.

    The webhook of another program stays: staff decide on the receive-mode card, which also shows
    failures.
    """
    try:
        if session.mode is not None:
            if is_new:
                handover.repair(session, keep="database", user=user)
            return
        found = handover.inspect_remote(session)
        if not (found.webhook.enabled or found.websocket.enabled):
            handover.configure_default(session.pk, user=user)
    except handover.SwitchRefused as error:
        log.warning("instance delivers no events", instance=session.name, error=str(error))


# -- log out and delete ----------------------------------------------------------------------------


def log_out(connection: Connection) -> SessionState:
    """Unlink the phone; the instance stays. Connecting again requires a new code.

    A closed instance cannot be unlinked: the state's code is then "not_running". Raises
    SessionRefused (409 not_configured; 502 if the server failed).
    """
    configured(connection)
    _command_end(connection)
    try:
        code = "unlinked" if client_of(connection).log_out() else "not_running"
    except EvolutionFailed as error:
        _store_and_raise(connection, error)
    records.command(connection, local_reason=code, dead_since=None)
    return _store(connection, DerivedState(State.DISCONNECTED, code))


def delete(connection: Connection, *, user: User | None = None) -> SessionState:
    """Delete the instance on the server; the channel and its history stay.

    The webhook is disabled first, because the deletion waits for its delivery (§1). The state's
    code is "deleting" if Evolution has not finished in time. Raises SessionRefused (409
    not_configured, or conflict during a switch of the receive mode; 502 if the server failed).
    """
    configured(connection)
    session = connection.channel.session
    try:
        with handover.locked(session):
            _command_end(connection)
            code = _remove(client_of(connection))
            handover.forget(session)
    except handover.SwitchRefused as error:
        raise SessionRefused("conflict", str(error)) from None
    except EvolutionFailed as error:
        _restore_receive_mode(session, user=user)
        _store_and_raise(connection, error)
    pictures.forget(connection)
    records.command(
        connection, local_reason=code, dead_since=None, own_number="", profile_name="",
        recovery_attempts=0,
    )  # fmt: skip
    _forget_link(connection)
    return _store(connection, DerivedState(State.DISCONNECTED, code))


def _command_end(connection: Connection) -> None:
    """Do not reconnect it, whatever the server answers."""
    records.command(connection, keep_connected=False, serving=False, linking_since=None)
    incidents.close_silently(connection)


def _remove(client: EvolutionLifecycle) -> str:
    """Delete the instance and return the resulting code. Raises EvolutionFailed."""
    try:
        client.disable_webhook()
        client.delete()
    except EvolutionFailed as error:
        if error.code != "instance_missing":
            raise
    return "instance_deleted" if _wait(lambda: _is_gone(client)) else "deleting"


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


# -- results ---------------------------------------------------------------------------------------


def detail_of(error: EvolutionFailed) -> str:
    """Return the server's own message if our code does not cover it."""
    return error.error_text[:300] if error.reason == "refused_request" else ""


def _store_and_raise(connection: Connection, error: EvolutionFailed) -> NoReturn:
    """Store the failure of a command and raise SessionRefused."""
    code, detail = error.reason, detail_of(error)
    state = State.DISCONNECTED if code == "name_taken" else State.ERROR
    records.store_command_state(connection, DerivedState(state, code, detail))
    raise refused(PROVIDER, code, detail) from None


def _store(connection: Connection, derived: DerivedState) -> SessionState:
    records.store_command_state(connection, derived)
    return monitor.current_state(connection)


def _wait(reached: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True
