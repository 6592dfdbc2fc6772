"""The engine of Evolution instances: how they are polled, linked and understood.

`lifecycle.py` has the commands that only an instance has, `states.py` the rules.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

import structlog
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app.connections import monitor, number_confirmation, records
from channels_app.connections.engines import Engine, SessionRefused, refused
from channels_app.connections.linked_numbers import UNCONFIRMED, UNKNOWN
from channels_app.connections.recovery import RecoveryAction, RecoveryContext
from channels_app.incidents.reason_text import field_for_code
from channels_app.models import Channel, Connection, Provider
from channels_app.providers import sessions
from channels_app.providers.evolution.instance import ASK_SECONDS, EvolutionLifecycle, Link, Row
from channels_app.providers.evolution.receive_mode import EvolutionFailed
from channels_app.providers.sessions import DerivedState, State
from instances import live, queue
from instances.connections import pictures
from instances.connections.history import LINK_MARGIN, is_linking
from instances.connections.states import (
    DIALLING_FOR,
    LEFT_CLOSED,
    Known,
    Observation,
    derive,
    recovery_action_for,
)
from instances.models import WhatsAppSession
from instances.receive_mode import handover

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

# Seconds to wait for work that Evolution finishes after its answer.
PATIENCE = 3.0
_POLL = 0.1
# A disconnection this soon after our own command is its consequence.
QUIET_FOR = dt.timedelta(seconds=60)
# Stop requesting codes if nobody scans one in this time (§4: 30 codes of 45 s).
LINKING_FOR = dt.timedelta(minutes=30)
# Maximum difference between our clock and the server's.
SKEW = dt.timedelta(minutes=2)
# How often to ask an open instance for its linked phone, apart from events that report a change.
# The request is expensive: the server counts the instance's messages.
NUMBER_EVERY = dt.timedelta(minutes=5)
# After a link, the number is asked with each probe, and probes are more frequent.
FRESHLY_LINKED = dt.timedelta(minutes=1)
FRESH_POLL_SECONDS = 5.0
# What a poll writes of the session: since when its events are new.
_RECEIVING_FIELDS = ("history_before", "opened_at", "backlog_since")


class EvolutionEngine(Engine):
    """The Evolution instance of a Baileys channel. Facts: docs/providers/evolution.md."""

    provider = Provider.BAILEYS
    settings = ("kind", "active", "evolution_url", "evolution_api_key", "instance_name")
    lease = dt.timedelta(seconds=90)

    def address(self, channel: Channel) -> str:
        has_instance = channel.kind == Channel.Kind.BAILEYS and channel.has_evolution
        return f"{channel.evolution_url} {channel.instance_name}" if has_instance else ""

    def field_for(self, code: str) -> str:
        return field_for_code(code, evolution=True)

    # -- network -----------------------------------------------------------------------------------

    def poll(self, connection: Connection, *, with_code: bool) -> Observation:
        """Request the state and the details relevant for it. Never raises."""
        client = client_of(connection, timeout=ASK_SECONDS)
        try:
            observation = Observation(connection=client.state())
            if observation.connection == "connecting" and with_code:
                # While it is connecting, this only returns the displayed code (§4).
                return _observation_from(client.connect())
            if _needs_row(connection, observation):
                return _with_row(observation, client.row(), connection)
        except EvolutionFailed as error:
            if error.code == "instance_missing":
                error = _why_missing(client, error)
            return Observation(error_code=error.reason, detail=_detail(error))
        return observation

    def connect(self, connection: Connection, *, user: User | None) -> None:
        """Create the instance if it does not exist, then connect it. Takes some seconds.

        An existing instance is taken over as it is. One that is open or displays a code is not
        connected again. The webhook is set first, because Evolution reads the base64 setting only
        when it connects (§3). The receive-mode history names the user.
        """
        client = client_of(connection)
        observation, _action = monitor.poll(connection)
        if observation.error_code not in ("", "instance_missing"):
            raise refused(self, observation.error_code, observation.detail)
        command_link(connection)
        try:
            if observation.error_code:
                self._create(connection, client)
            is_new = observation.error_code != ""
            _configure_events(connection.channel.session, is_new=is_new, user=user)
            polled_at = timezone.now()
            link = client.connect()
        except EvolutionFailed as error:
            store_and_raise(connection, error)
        records.record_observation(self, connection, _observation_from(link), polled_at=polled_at)

    def _create(self, connection: Connection, client: EvolutionLifecycle) -> None:
        try:
            client.create()
        except EvolutionFailed as error:
            # A concurrent request created it: take over that instance.
            if error.reason != "name_taken" or monitor.poll(connection)[0].error_code:
                raise
        # No phone was ever linked to it: do not request codes automatically.
        forget_link(connection)

    def pairing_code(self, connection: Connection, digits: str) -> str:
        """Evolution creates one only when it connects for that number: discard a shown QR code."""
        client = client_of(connection)
        polled, _action = monitor.poll(connection, with_code=True)
        observation = cast("Observation", polled)
        if observation.error_code:
            raise refused(self, observation.error_code, observation.detail)
        is_connecting = observation.connection == "connecting"
        if observation.connection == "open" or (is_connecting and not observation.qr):
            raise monitor.not_waiting_for_phone()
        command_link(connection, quiet_until=timezone.now() + QUIET_FOR)
        try:
            if is_connecting:
                client.log_out()
                wait_until(lambda: client.state() == "close")
            polled_at = timezone.now()
            link = client.connect(number=digits)
        except EvolutionFailed as error:
            store_and_raise(connection, error)
        records.record_observation(self, connection, _observation_from(link), polled_at=polled_at)
        if not link.pairing_code:
            text = _("WhatsApp returned no code for this number.")
            raise SessionRefused("no_pairing_code", text, status=502)
        return link.pairing_code

    def wants_code(self, connection: Connection, now: dt.datetime) -> bool:
        """Whether somebody links a phone, or a code may be displayed that no event reported."""
        since = connection.linking_since
        is_waiting = since is not None and since > now - LINKING_FOR
        # Ask for the code before calling it a failure.
        return is_waiting or (connection.keep_connected and _is_connecting_long(connection, now))

    def after_probe(self, connection: Connection, observation: sessions.Observation) -> None:
        """Fetch the picture of the linked account, or forget it where it has none."""
        seen = cast("Observation", observation)
        if seen.picture_url or (seen.picture_url is not None and seen.connection == "open"):
            pictures.store(connection.channel.session, seen.picture_url)

    def recover(self, connection: Connection, action: RecoveryAction) -> None:
        client = client_of(connection)
        with contextlib.suppress(EvolutionFailed):
            if action == RecoveryAction.RESTART:
                client.restart()
            else:
                client.connect()
        # If it is still dead, the next send reports it again.
        records.command(connection, dead_since=None)

    # -- under the lock of the row -----------------------------------------------------------------

    def lock_related(self, row: Connection) -> bool:
        """Lock the session as well: events write the same columns of it."""
        session = WhatsAppSession.objects.lock(channel_id=row.channel_id)
        if session is None:
            return False
        session.channel = row.channel
        return True

    def save(self, row: Connection) -> None:
        row.save()
        row.channel.session.save(update_fields=_RECEIVING_FIELDS)

    def interpret(
        self, row: Connection, observation: sessions.Observation, now: dt.datetime,
        *, had_worked: bool,
    ) -> DerivedState:  # fmt: skip
        observation = cast("Observation", observation)
        session = row.channel.session
        was_linking = is_linking(row)
        is_open = observation.connection == "open"
        if is_open and row.server_state != Connection.ServerState.OPEN and not was_linking:
            session.note_opening(now)
        _record_server_state(row, observation, now)
        _record_account(row, observation, now)
        known = _known(row, now, dropped=had_worked)
        if observation.qr and not known.shown:
            # The server keeps reporting the last code after it was scanned or has expired.
            observation = replace(observation, qr="")
        derived = derive(observation, known, now=now)
        is_missing = derived.code in ("no_instance", "instance_gone")
        if observation.connection in ("open", "close") or is_missing:
            records.record_code(self, row, "")
            if derived.state != State.STARTING:
                row.linking_since = None
        is_closed = observation.connection == "close"
        row.closed_since = (row.closed_since or now) if is_closed else None
        number_codes = (UNCONFIRMED, UNKNOWN)
        is_linked = derived.state == State.READY or derived.code in number_codes
        if is_linked and was_linking and not row.serving and row.state_code not in number_codes:
            session.history_before = now - LINK_MARGIN
            # What the link brings is history, not a backlog.
            session.backlog_since = None
        return derived

    def recovery_action(
        self, derived: DerivedState, context: RecoveryContext,
        observation: sessions.Observation, now: dt.datetime,
    ) -> RecoveryAction:  # fmt: skip
        left_closed = cast("Observation", observation).ended_with in LEFT_CLOSED
        return recovery_action_for(derived, replace(context, left_closed=left_closed), now=now)

    def poll_delay(self, row: Connection, delay: float, now: dt.datetime) -> float:
        is_open = row.server_state == Connection.ServerState.OPEN
        is_fresh = is_open and _is_freshly_linked(row.channel.session, now)
        return min(delay, FRESH_POLL_SECONDS) if is_fresh else delay

    def forget(self, row: Connection) -> None:
        row.channel.session.opened_at = row.channel.session.backlog_since = None
        pictures.forget(row)

    def notify_pages(self, row: Connection) -> None:
        live.session_changed(row.channel.session)
        super().notify_pages(row)

    # -- jobs --------------------------------------------------------------------------------------

    def due(self, rows: QuerySet[Connection]) -> QuerySet[Connection]:
        return rows.filter(channel__session__isnull=False, channel__active=True)

    def enqueue_probe(self, row: Connection) -> None:
        queue.enqueue_probe(row.channel.session.pk)


ENGINE = EvolutionEngine()


def probe(session_id: int) -> sessions.Observation | None:
    """Poll one instance, store the observation and run the recovery action, if any."""
    rows = Connection.objects.filter(provider=ENGINE.provider, channel__session=session_id)
    connection_id = rows.values_list("pk", flat=True).first()
    return monitor.probe(connection_id) if connection_id is not None else None


# -- commands --------------------------------------------------------------------------------------


def client_of(connection: Connection, **options: Any) -> EvolutionLifecycle:
    """Return the client of a connection's instance."""
    return EvolutionLifecycle(connection.credentials, **options)


def command_link(connection: Connection, **values: Any) -> None:
    """Record that a person wants it connected, and that a code may be shown for it."""
    records.command(
        connection, keep_connected=True, linking_since=timezone.now(), local_reason="",
        recovery_attempts=0, recovery_attempted_at=None, **values,
    )  # fmt: skip


def forget_link(connection: Connection) -> None:
    """Record that no phone was ever linked to the instance."""
    Connection.objects.filter(channel=connection.channel_id, provider=ENGINE.provider).update(
        last_ready_at=None, closed_since=None
    )
    WhatsAppSession.objects.filter(channel=connection.channel_id).update(
        history_before=None, opened_at=None, backlog_since=None
    )


def store_and_raise(connection: Connection, error: EvolutionFailed) -> NoReturn:
    """Store the failure of a command and raise SessionRefused."""
    code, detail = error.reason, _detail(error)
    state = State.DISCONNECTED if code == "name_taken" else State.ERROR
    records.store_command_state(ENGINE, connection, DerivedState(state, code, detail))
    raise refused(ENGINE, code, detail) from None


def wait_until(reached: Callable[[], bool]) -> bool:
    """Wait for PATIENCE seconds at most. Returns whether it was reached."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True


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


# -- what a server answers -------------------------------------------------------------------------


def _why_missing(client: EvolutionLifecycle, error: EvolutionFailed) -> EvolutionFailed:
    """Check the key: a missing name is reported without one, the instance list requires it."""
    try:
        client.row()
    except EvolutionFailed as other:
        if other.code == "wrong_key":
            return EvolutionFailed("wrong_key", reason="key_cannot_create", told=other.told)
    return error


def _needs_row(connection: Connection, observation: Observation) -> bool:
    if observation.connection == "open":
        now = timezone.now()
        checked = connection.number_checked_at
        is_stale = checked is None or checked < now - NUMBER_EVERY
        is_known = connection.state == State.READY and bool(connection.own_number)
        return is_stale or not is_known or _is_freshly_linked(connection.channel.session, now)
    return observation.connection == "close" or connection.state_code == "unchecked"


def _is_freshly_linked(session: WhatsAppSession, now: dt.datetime) -> bool:
    """Whether the server's row may still name the phone before: it is written after the opening."""
    linked_at = session.history_before
    return linked_at is not None and now < linked_at + LINK_MARGIN + FRESHLY_LINKED


def _is_connecting_long(connection: Connection, now: dt.datetime) -> bool:
    if connection.state != State.STARTING or connection.state_changed_at is None:
        return connection.state_code == "dialling_long"
    return connection.state_changed_at <= now - DIALLING_FOR


def _with_row(observation: Observation, row: Row, connection: Connection) -> Observation:
    if not row.is_baileys:
        return Observation(error_code="other_integration")
    ended_with, ready_at = row.ended_with, connection.last_ready_at
    if ended_with is not None and row.ended_at is not None and ready_at is not None:
        # The reason for an earlier disconnection stays in the row after relinking.
        ended_with = ended_with if row.ended_at > ready_at - SKEW else None
    if observation.connection != "open":
        return replace(observation, ended_with=ended_with)
    return replace(
        observation,
        own_number=row.own_number,
        profile_name=row.profile_name,
        picture_url=row.picture_url,
    )


def _observation_from(link: Link) -> Observation:
    reported = "open" if link.is_open else "connecting"
    return Observation(connection=reported, qr=link.qr, pairing_code=link.pairing_code)


def _detail(error: EvolutionFailed) -> str:
    """Return the server's own message if our code does not cover it."""
    return error.told[:300] if error.reason == "refused_request" else ""


# -- what is written of it -------------------------------------------------------------------------


def _record_server_state(row: Connection, observation: Observation, now: dt.datetime) -> None:
    """Record the connection state reported by the server; events report it, too."""
    if observation.connection != "open":
        row.dead_since = None
    if observation.connection in ("open", "connecting"):
        row.local_reason = ""
    is_known = observation.connection in Connection.ServerState.values
    reported = observation.connection if is_known else Connection.ServerState.UNKNOWN
    if row.server_state != reported:
        row.server_state, row.server_state_reason, row.server_state_changed_at = reported, "", now


def _record_account(row: Connection, observation: Observation, now: dt.datetime) -> None:
    """Record the linked phone and its name, if the server was asked for them."""
    if observation.own_number is None:
        return
    row.number_checked_at = now
    row.own_number = observation.own_number or row.own_number
    row.profile_name = observation.profile_name or ""
    if observation.own_number or not row.linked_number:
        # Not the number known before: it may be that of the phone before.
        number_confirmation.record_linked(row, observation.own_number)


def _known(row: Connection, now: dt.datetime, *, dropped: bool) -> Known:
    dialling = row.state_changed_at if row.state == State.STARTING else None
    # A code is valid for 45 s (§3): one that is not renewed has expired.
    stale = row.qr_seen_at is not None and row.qr_seen_at <= now - DIALLING_FOR
    if stale and row.state == State.QR:
        dialling = row.qr_seen_at
    if row.state_code == "dialling_long":
        dialling = dt.datetime.min.replace(tzinfo=dt.UTC)
    return Known(
        linked=row.keep_connected and bool(row.last_ready_at),
        ever=row.last_ready_at is not None,
        shown=bool(row.qr_digest) and not stale,
        dead=row.dead_since is not None,
        dropped=dropped,
        note=row.local_reason,
        dialling_since=dialling,
        unconfirmed=row.unconfirmed_number,
        unknown=row.is_number_unknown,
    )
