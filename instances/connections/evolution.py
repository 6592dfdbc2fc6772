"""The engine of Evolution instances: how they are polled, and what an answer means.

`lifecycle.py` has what a person does with them, `states.py` the rules. Sections are those of
docs/providers/evolution.md.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy

from channels_app.connections import monitor, number_confirmation, records
from channels_app.connections.linked_numbers import UNCONFIRMED, UNKNOWN
from channels_app.connections.recovery import RecoveryAction, RecoveryContext
from channels_app.connections.session_engines import KEEP, SessionEngine, SessionState
from channels_app.incidents.reason_text import field_for_code
from channels_app.models import Channel, Connection, Provider
from channels_app.providers import sessions
from channels_app.providers.evolution.instance import ASK_SECONDS, EvolutionLifecycle, Row
from channels_app.providers.evolution.receive_mode import EvolutionFailed
from channels_app.providers.sessions import DerivedState, State
from core import http_addresses
from instances import live, queue
from instances.connections import lifecycle, pictures, probe_requests
from instances.connections.history import LINK_MARGIN, is_linking
from instances.connections.lifecycle import PROVIDER, client_of, detail_of, observation_from
from instances.connections.states import (
    DIALING_FOR,
    LEFT_CLOSED,
    Known,
    Observation,
    derive,
    recovery_action_for,
)
from instances.models import WhatsAppSession

if TYPE_CHECKING:
    from django.contrib.auth.models import User

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
_TO_CREATE = ("no_instance", "instance_gone", "instance_deleted")
# The connection is unhealthy: reconnecting or a new code may help.
_TO_REPAIR = ("dead_socket", "dialling_long")
# What a poll writes of the session: since when its events are new.
_RECEIVING_FIELDS = ("history_before", "opened_at", "backlog_since")


class EvolutionEngine(SessionEngine):
    """The Evolution instance of a Baileys channel."""

    provider = PROVIDER
    settings = ("kind", "active", "evolution_url", "evolution_api_key", "instance_name")
    lease = dt.timedelta(seconds=90)
    end_choices = (
        (KEEP, gettext_lazy("Leave it as it is on the server")),
        ("log_out", gettext_lazy("Unlink the phone; the instance stays on the server")),
        ("delete", gettext_lazy("Delete the instance on the server")),
    )

    def address(self, channel: Channel) -> str:
        if channel.kind != Provider.BAILEYS or not channel.is_complete:
            return ""
        return f"{http_addresses.normalize(channel.evolution_url)} {channel.instance_name}"

    def field_for(self, code: str) -> str:
        return field_for_code(code, evolution=True)

    # -- display -----------------------------------------------------------------------------------

    def buttons(self, session: SessionState) -> tuple[str, ...]:
        if session.code in ("unchecked", "not_configured", "deleting"):
            return ("check",)
        if session.code in _TO_CREATE:
            return ("create",)
        if session.code == UNCONFIRMED:
            return ("confirm_number", "log_out", "delete")
        if session.code in _TO_REPAIR:
            return ("reconnect", "log_out", "delete")
        match session.state:
            case State.READY | State.CONNECTED:
                return ("log_out", "reconnect", "delete")
            case State.QR:
                return ("qr", "delete")
            case State.STARTING:
                return ("qr", "reconnect", "delete")
            case State.DISCONNECTED:
                return ("connect", "delete")
        if session.code == "refused_by_whatsapp":
            return ("connect", "delete")
        # The address or key must be fixed first.
        return ("check",)

    def tone(self, session: SessionState) -> str:
        if session.state == State.READY:
            return "ok"
        # A lost connection is a problem; one that was never made is not.
        lost = session.code in ("connection_lost", "unlinked_on_phone", "instance_gone")
        return "failing" if session.state == State.ERROR or lost else "waiting"

    # -- network -----------------------------------------------------------------------------------

    def poll(self, connection: Connection, *, with_code: bool) -> Observation:
        """Request the state and the details relevant for it. Never raises."""
        client = client_of(connection, timeout=ASK_SECONDS)
        try:
            observation = Observation(connection=client.state())
            if observation.connection == "connecting" and with_code:
                # While it is connecting, this only returns the displayed code (§4).
                return observation_from(client.connect())
            if _needs_row(connection, observation):
                return _with_row(observation, client.row(), connection)
        except EvolutionFailed as error:
            if error.code == "instance_missing":
                error = _why_missing(client, error)
            return Observation(error_code=error.reason, detail=detail_of(error))
        return observation

    def connect(self, connection: Connection, *, user: User | None) -> None:
        lifecycle.connect(connection, user=user)

    def pairing_code(self, connection: Connection, digits: str) -> str:
        return lifecycle.pairing_code(connection, digits)

    def end(self, connection: Connection, choice: str, *, user: User | None) -> str:
        if choice == "delete":
            ended = lifecycle.delete(connection, user=user)
            return ended.detail if ended.code == "deleting" else ""
        ended = lifecycle.log_out(connection)
        return ended.detail if ended.code == "not_running" else ""

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

    # -- after a send ------------------------------------------------------------------------------

    def send_failed(self, connection: Connection, code: str) -> None:
        """See `SessionEngine`.

        If its state is open nevertheless, the connection behind it is dead (§4, issues 1398 and
        2403), or the server is down.
        """
        if code == "instance_not_connected":
            probe_requests.record_rejection(connection.channel_id)
        else:
            probe_requests.probe_after_no_answer(connection.channel_id)

    def send_accepted(self, connection: Connection) -> None:
        probe_requests.record_success(connection.channel_id)

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
            records.record_code(row, "")
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


def probe(session_id: int) -> sessions.Observation | None:
    """Poll one instance, store the observation and run the recovery action, if any."""
    rows = Connection.objects.filter(provider=PROVIDER, channel__session=session_id)
    connection_id = rows.values_list("pk", flat=True).first()
    return monitor.probe(connection_id) if connection_id is not None else None


# -- what a server answers -------------------------------------------------------------------------


def _why_missing(client: EvolutionLifecycle, error: EvolutionFailed) -> EvolutionFailed:
    """Check the key: a missing name is reported without one, the instance list requires it."""
    try:
        client.row()
    except EvolutionFailed as other:
        if other.code == "wrong_key":
            return EvolutionFailed(
                "wrong_key", reason="key_cannot_create", error_text=other.error_text
            )
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
    return connection.state_changed_at <= now - DIALING_FOR


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
    dialing = row.state_changed_at if row.state == State.STARTING else None
    # A code is valid for 45 s (§3): one that is not renewed has expired.
    stale = row.qr_seen_at is not None and row.qr_seen_at <= now - DIALING_FOR
    if stale and row.state == State.QR:
        dialing = row.qr_seen_at
    if row.state_code == "dialling_long":
        dialing = dt.datetime.min.replace(tzinfo=dt.UTC)
    return Known(
        linked=row.keep_connected and bool(row.last_ready_at),
        ever=row.last_ready_at is not None,
        shown=bool(row.qr_digest) and not stale,
        dead=row.dead_since is not None,
        dropped=dropped,
        note=row.local_reason,
        dialing_since=dialing,
        unconfirmed=row.unconfirmed_number,
        unknown=row.is_number_unknown,
    )
