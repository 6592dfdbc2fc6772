"""The engine of wwebjs-api sessions, and the commands that only they have.

A start runs in a job, because it blocks until the page has loaded; until its outcome is known the
session counts as starting. Automatic starts are few (`wwebjs_recovery`): a failed one leaves a
whole browser behind. Recovery closes the browser and starts a new one, because the server's own
restart blocks while a page is crashed or frozen (docs/providers/wwebjs.md §7.1).

A session that a person ended stays ended: if it comes up again, after a start in progress or with
its server, it is ended again in the requested way.
"""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import structlog
from django.db import transaction
from django.utils import timezone

from channels_app import queue
from channels_app.connections import monitor, number_confirmation, records
from channels_app.connections.engines import (
    Engine,
    SessionRefused,
    SessionState,
    engine_for,
    not_configured,
    refused,
)
from channels_app.connections.linked_numbers import UNCONFIRMED
from channels_app.connections.recovery import RecoveryAction, RecoveryContext
from channels_app.connections.states import FAST_POLL_SECONDS
from channels_app.connections.wwebjs_recovery import (
    MAX_SLOW_CHECKS,
    MISSING_FOR,
    recovery_action_for,
)
from channels_app.incidents import incidents
from channels_app.incidents.reason_text import field_for_code
from channels_app.models import Channel, Connection, Provider
from channels_app.providers import sessions
from channels_app.providers.sessions import DerivedState, State
from channels_app.providers.wwebjs.session import SessionError, StartOutcome, WwebjsSessions
from channels_app.providers.wwebjs.states import (
    SYNC_LIMIT,
    Observation,
    derive,
    recovers_by_restart,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

PROVIDER = Provider.WWEBJS
# The longest start that was measured took 180 s (docs/providers/wwebjs.md §2).
START_WINDOW = dt.timedelta(seconds=200)
# After this time without a link, a request to connect starts a new browser.
OPENING_FOR = dt.timedelta(seconds=60)
# After a new link in the same browser, the page reports the previous number until it has loaded.
# The same number counts once it was reported for this long; the session is polled fast until
# SYNC_LIMIT.
LINGERS_FOR = dt.timedelta(seconds=10)
# The server may still be executing a command for this long.
SETTLING = dt.timedelta(seconds=20)
_LINKED = (State.QR, State.PAIRING, State.CONNECTED, State.READY)
_START_FAILED = ("start_failed", "start_no_answer")


class WwebjsEngine(Engine):
    """The session of a wwebjs-api server that an official channel has as its fallback."""

    provider = PROVIDER
    settings = Channel.WWEBJS_SETTINGS
    lease = dt.timedelta(seconds=30)
    recovers_in_a_job = True

    def address(self, channel: Channel) -> str:
        has_session = channel.has_wwebjs
        return f"{channel.wwebjs_url} {channel.wwebjs_session_id}" if has_session else ""

    def field_for(self, code: str) -> str:
        return field_for_code(code)

    def poll(self, connection: Connection, *, with_code: bool) -> Observation:
        """Ask for the state; it comes with the code that belongs to it."""
        return _client(connection).poll()

    def connect(self, connection: Connection, *, user: User | None) -> None:
        """Start the session if it is down. A start in progress is not repeated."""
        observed = monitor.state(connection)
        with transaction.atomic():
            row = _locked(connection)
            now = timezone.now()
            row.keep_connected, row.unlink_failed = True, False
            row.stopped, row.unlink_requested_at = False, None
            row.recovery_attempts, row.recovery_attempted_at = 0, None
            action = _connect_action(row, now)
            if action is not None:
                records.count_attempt(row, now)
                derived = _request_start(row, restart=action == RecoveryAction.RESTART, now=now)
                records.store_state(self, row, derived, now)
            row.save()
        if action is None and observed.state == State.ERROR and observed.code != UNCONFIRMED:
            raise SessionRefused(observed.code, observed.detail, status=502, field=observed.field)

    def pairing_code(self, connection: Connection, digits: str) -> str:
        """Ask for a code while a QR code is shown."""
        observed = monitor.state(connection)
        if observed.state != State.QR:
            if observed.field:
                raise SessionRefused(
                    observed.code, observed.detail, status=502, field=observed.field
                )
            raise monitor.not_waiting_for_phone()
        try:
            return _client(connection).pairing_code(digits)
        except SessionError as error:
            if error.code == "invalid_recipient":
                raise monitor.invalid_number() from None
            raise refused(self, error.code, error.detail) from None

    def replace_expired_code(self, connection: Connection, code: str) -> None:
        """The server goes on serving the last code after it has expired (§2): restart."""
        if code != "qr_expired":
            return
        with transaction.atomic():
            row, now = _locked(connection), timezone.now()
            if row.start_requested_at is None:
                records.count_attempt(row, now)
                derived = _request_start(row, restart=True, now=now)
                records.store_state(self, row, derived, now)
                row.save()

    def interpret(
        self, row: Connection, observation: sessions.Observation, now: dt.datetime,
        *, had_worked: bool,
    ) -> DerivedState | None:  # fmt: skip
        """See `Engine`. A session that came up although it was ended is ended again."""
        observation = cast("Observation", observation)
        number = _settled_number(row, observation, now)
        if number or (observation.ready and not row.linked_number):
            number_confirmation.record_linked(row, number)
        if _is_up_unwanted(row, observation):
            if row.commanded_at is not None and now < row.commanded_at + SETTLING:
                return None
            queue.enqueue_end(row.channel_id)
        row.own_number = number or row.own_number
        if not observation.qr:
            records.record_code(self, row, "")
        return _derive(row, observation, now, was_linked=had_worked)

    def recovery_action(
        self, derived: DerivedState, context: RecoveryContext,
        observation: sessions.Observation, now: dt.datetime,
    ) -> RecoveryAction:  # fmt: skip
        return recovery_action_for(derived, context, now=now)

    def begin_recovery(
        self, row: Connection, derived: DerivedState, action: RecoveryAction, now: dt.datetime
    ) -> DerivedState:
        return _request_start(row, restart=action == RecoveryAction.RESTART, now=now)

    def poll_delay(self, row: Connection, delay: float, now: dt.datetime) -> float:
        linked_at = row.number_seen_at
        is_wanted = row.keep_connected and row.channel.active
        if linked_at is not None and now < linked_at + SYNC_LIMIT:
            delay = FAST_POLL_SECONDS
        if 0 < row.slow_checks < MAX_SLOW_CHECKS and is_wanted:
            # One more slow answer proves that the page hangs.
            delay = FAST_POLL_SECONDS
        if row.missing_since and is_wanted:
            left = (row.missing_since + MISSING_FOR - now).total_seconds()
            delay = min(delay, max(left, 0.0))
        return delay

    def before_round(self) -> None:
        """Start observing the sessions of channels that were written without `save_channel`."""
        observed = Connection.objects.filter(provider=PROVIDER).exclude(address="")
        unobserved = Channel.objects.filter(fallback_routes__connection__provider=PROVIDER)
        for channel in unobserved.exclude(pk__in=observed.values("channel_id")):
            with transaction.atomic():
                records.settings_saved(PROVIDER, channel, None)

    def enqueue_probe(self, row: Connection) -> None:
        queue.enqueue_probe(row.channel_id)


# -- commands --------------------------------------------------------------------------------------


def disconnect(connection: Connection, *, unlink: bool = True) -> SessionState:
    """End the session and keep it ended; with `unlink`, also unlink the phone.

    Without `unlink` the login stays on the server, so that connecting needs no new code; if the
    session comes up automatically, it is stopped again. A session that the server does not have
    cannot be unlinked yet: the state's code is then "unlinking" during a start, else "not_running",
    and it is unlinked when it comes up, unless somebody connects it first. Raises SessionRefused
    (409 not_configured; 502 if the server did not do it).
    """
    engine = engine_for(PROVIDER)
    if not engine.is_configured(connection.channel):
        raise not_configured()
    with transaction.atomic():
        # Whatever the outcome of the call, nothing may start the session again.
        row = _locked(connection)
        was_starting = row.start_requested_at is not None
        now = timezone.now()
        row.keep_connected, row.serving, row.stopped = False, False, not unlink
        row.unlink_requested_at = now if unlink else None
        row.start_requested_at = None
        row.commanded_at = now
        row.save()
        incidents.close_silently(row)
    client = _client(connection)
    try:
        if not unlink:
            client.stop()
            code = "stopped"
        elif client.terminate():
            code = "unlinked"
        else:
            code = "unlinking" if was_starting else "not_running"
    except SessionError as error:
        # An unlink cannot be undone: later it might be wanted no more, so a person repeats it.
        Connection.objects.filter(channel=connection.channel_id, provider=PROVIDER).update(
            next_poll_at=None, unlink_requested_at=None, unlink_failed=unlink
        )
        raise refused(engine, error.code, error.detail) from None
    _record_end(connection, code)
    return monitor.current_state(connection)


# -- jobs and signals ------------------------------------------------------------------------------


def probe(channel_id: int) -> None:
    """Poll one session and store the observation."""
    if (connection := _stored(channel_id)) is not None:
        monitor.probe(connection.pk)


def begin(channel_id: int, *, restart: bool) -> None:
    """Carry out a requested start. Blocks while the server does.

    `restart`: close the existing browser first. Does nothing if the start is no longer requested.
    """
    connection = _stored(channel_id)
    if connection is None or connection.start_requested_at is None:
        return
    client = _client(connection)
    try:
        result = client.reopen() if restart else client.start()
        exists = result.outcome == StartOutcome.EXISTS
        if exists and recovers_by_restart(derive(client.poll()).code):
            result = client.reopen()
    except SessionError as error:
        # No start began, so no browser was left behind.
        _finish_start(connection, DerivedState(State.ERROR, error.code, error.detail), reason="")
        return
    log.info("wwebjs session started", channel=channel_id, end=result.outcome.value)
    if result.outcome == StartOutcome.FAILED:
        derived = DerivedState(State.ERROR, "start_failed", result.detail)
        _finish_start(connection, derived, reason=derived.code)
    elif result.outcome in (StartOutcome.UP, StartOutcome.EXISTS):
        _end_unwanted(connection, code="stopped")
        _finish_start(connection, None, reason="")
    # BUSY and NO_ANSWER: later probes detect that it is up, or START_WINDOW expires.
    monitor.probe(connection.pk)


def end_again(channel_id: int) -> None:
    """End a session that is up although a person stopped or unlinked it."""
    connection = _stored(channel_id)
    if connection is not None and connection.channel.has_wwebjs:
        _end_unwanted(connection, code="stopped_again")


def poll_after_no_answer(connection: Connection, **kwargs: Any) -> None:
    """Signal receiver: poll the session at once after a send without a response."""
    if connection.provider == PROVIDER:
        # After commit, when the message's lock is released.
        transaction.on_commit(partial(_request_probe, connection), robust=True)


def _request_probe(connection: Connection) -> None:
    with transaction.atomic():
        rows = Connection.objects.filter(channel=connection.channel_id, provider=PROVIDER)
        if rows.update(next_poll_at=None):
            queue.enqueue_probe(connection.channel_id)


# -- ends and starts -------------------------------------------------------------------------------


def _record_end(connection: Connection, code: str) -> None:
    """Write down that the session was ended, and how. Not where somebody connected it meanwhile."""
    with transaction.atomic():
        row = _locked(connection)
        if row.keep_connected:
            return
        now = timezone.now()
        row.local_reason, row.local_reason_detail = code, ""
        if code == "unlinked":
            row.unlink_requested_at = None
        row.commanded_at = now
        row.missing_since = row.syncing_since = None
        row.next_poll_at = now + dt.timedelta(seconds=1)
        state = State.STARTING if code == "unlinking" else State.DISCONNECTED
        records.store_state(engine_for(PROVIDER), row, DerivedState(state, code), now)
        row.save()


def _end_unwanted(connection: Connection, *, code: str) -> None:
    """End the session as requested, unless a channel uses it; `code` is recorded for a stop.

    If the server does not do it, the next probe tries again.
    """
    row = Connection.objects.filter(pk=connection.pk, keep_connected=False).first()
    if row is None or _is_used_by_others(row):
        return
    client = _client(connection)
    try:
        if row.unlink_requested_at is None:
            client.stop()
        elif client.terminate():
            code = "unlinked"
        else:
            return
    except SessionError as error:
        log.warning("wwebjs session not ended", channel=row.channel_id, reason=error.code)
        return
    log.info("wwebjs session ended", channel=row.channel_id, end=code)
    _record_end(connection, code)


def _request_start(row: Connection, *, restart: bool, now: dt.datetime) -> DerivedState:
    """Request a start and return the state until its outcome is known. The caller saves the row."""
    row.start_requested_at = row.commanded_at = now
    row.slow_checks = 0
    row.missing_since = row.syncing_since = None
    row.page_number, row.number_seen_at = "", None
    row.local_reason = row.local_reason_detail = ""
    row.next_poll_at = now + dt.timedelta(seconds=1)
    queue.enqueue_begin(row.channel_id, restart=restart)
    return DerivedState(State.STARTING, "restarting" if restart else "starting")


def _finish_start(connection: Connection, derived: DerivedState | None, *, reason: str) -> None:
    with transaction.atomic():
        row = _locked(connection)
        if row.start_requested_at is None:
            return
        now = timezone.now()
        row.start_requested_at = None
        row.commanded_at = now
        detail = derived.detail[:300] if derived and reason else ""
        row.local_reason, row.local_reason_detail = reason, detail
        if derived is not None:
            records.store_state(engine_for(PROVIDER), row, derived, now)
        row.save()


def _connect_action(row: Connection, now: dt.datetime) -> RecoveryAction | None:
    """Return the action for a person's request to connect, or None if there is nothing to do."""
    if row.start_requested_at is not None:
        return None
    if row.state == State.DISCONNECTED or row.state_code in _START_FAILED:
        return RecoveryAction.START
    if row.state == State.ERROR:
        return RecoveryAction.RESTART if recovers_by_restart(row.state_code) else None
    since = row.state_changed_at or now
    if row.state == State.STARTING and since < now - OPENING_FOR:
        return RecoveryAction.RESTART
    return None


# -- what an observation means ---------------------------------------------------------------------


def _settled_number(row: Connection, observation: Observation, now: dt.datetime) -> str:
    """Return the number that the server reports, "" while it may be that of the phone before.

    After a new link in the same browser the old `sessionInfo` stays until WhatsApp has loaded
    (docs/providers/wwebjs.md §2).
    """
    if not observation.own_number:
        return ""
    lingers = not row.linked_number and observation.own_number == row.page_number
    row.page_number = observation.own_number
    if not lingers:
        return observation.own_number
    row.number_seen_at = row.number_seen_at or now
    return observation.own_number if now >= row.number_seen_at + LINGERS_FOR else ""


def _is_up_unwanted(row: Connection, observation: Observation) -> bool:
    """Whether the server has a session that a person ended, and that no other channel wants."""
    is_up = not observation.error_code and observation.message != "session_not_found"
    was_ended = row.stopped or row.unlink_requested_at is not None
    return is_up and was_ended and not row.keep_connected and not _is_used_by_others(row)


def _is_used_by_others(row: Connection) -> bool:
    """Whether another channel keeps the same session of the same server connected."""
    others = Connection.objects.filter(provider=PROVIDER, address=row.address, keep_connected=True)
    return others.exclude(pk=row.pk).exists()


def _derive(
    row: Connection, observation: Observation, now: dt.datetime, *, was_linked: bool
) -> DerivedState:
    """Derive the state from the observation and the stored starts, slow checks and commands."""
    if _is_up_unwanted(row, observation):
        unlinks = row.unlink_requested_at is not None
        return (
            DerivedState(State.STARTING, "unlinking")
            if unlinks
            else DerivedState(State.DISCONNECTED, "came_up")
        )
    starting = row.start_requested_at is not None
    if not observation.error_code:
        is_loading = observation.connected and not observation.ready
        row.syncing_since = (row.syncing_since or now) if is_loading else None
    since = row.syncing_since
    derived = derive(
        observation,
        starting=starting,
        syncing_for=now - since if since else dt.timedelta(0),
        unconfirmed=row.unconfirmed_number,
        unknown=row.is_number_unknown,
        was_linked=was_linked,
    )
    if starting and derived.code == "syncing" and row.state_code == "restarting":
        # This may be the browser to be replaced; the job that replaces it records the outcome.
        row.syncing_since = None
        derived = DerivedState(State.STARTING, "restarting")
    if row.start_requested_at and (derived.state in _LINKED or derived.code == UNCONFIRMED):
        row.start_requested_at = None
        starting = False
    if row.start_requested_at and now > row.start_requested_at + START_WINDOW:
        row.start_requested_at = None
        starting = False
        derived = derive(observation)
        if derived.code == "not_started":
            row.local_reason, row.local_reason_detail = "start_no_answer", ""
    row.slow_checks = row.slow_checks + 1 if derived.code == "session_check_failed" else 0
    missing = observation.message == "session_not_found" and not starting
    row.missing_since = (row.missing_since or now) if missing else None
    if derived.code != "not_started":
        if derived.state in _LINKED or derived.code == UNCONFIRMED:
            row.local_reason = row.local_reason_detail = ""
        return derived
    return _why_not_started(row, derived, now)


def _why_not_started(row: Connection, derived: DerivedState, now: dt.datetime) -> DerivedState:
    """Return the state of a session that the server does not have, if our command explains it."""
    if not row.local_reason:
        return derived
    if row.local_reason == "unlinking":
        requested_at = row.unlink_requested_at
        if requested_at is not None and now < requested_at + START_WINDOW:
            return DerivedState(State.STARTING, "unlinking")
        row.local_reason = "not_running"
    failed = row.local_reason in _START_FAILED
    return DerivedState(
        State.ERROR if failed else State.DISCONNECTED, row.local_reason, row.local_reason_detail
    )


# -- rows ------------------------------------------------------------------------------------------


def _client(connection: Connection) -> WwebjsSessions:
    return WwebjsSessions(connection.credentials)


def _stored(channel_id: int) -> Connection | None:
    rows = Connection.objects.select_related("channel")
    return rows.filter(channel=channel_id, provider=PROVIDER).first()


def _locked(connection: Connection) -> Connection:
    """Lock and return the current row of the session. In a transaction."""
    row = records.lock(engine_for(PROVIDER), connection.channel_id)
    if row is None:
        raise Channel.DoesNotExist
    return row
