"""The commands of wwebjs-api sessions: connect, disconnect, and the jobs that carry them out.

A start runs in a job, because it blocks until the page has loaded; until its outcome is known the
session counts as starting. It closes the browser and opens a new one, because the server's own
restart blocks while a page is crashed or frozen (docs/providers/wwebjs.md §7.1).

A session that a person ended stays ended: if it comes up again, after a start in progress or with
its server, it is ended again in the requested way.
"""

from __future__ import annotations

import datetime as dt

import structlog
from django.db import transaction
from django.utils import timezone

from channels_app import queue
from channels_app.connections import monitor, records
from channels_app.connections.linked_numbers import UNCONFIRMED
from channels_app.connections.recovery import RecoveryAction
from channels_app.connections.session_engines import SessionState, configured, refused
from channels_app.incidents import incidents
from channels_app.models import Connection, Provider
from channels_app.providers.sessions import DerivedState, State
from channels_app.providers.wwebjs.session import SessionError, StartOutcome, WwebjsSessions
from channels_app.providers.wwebjs.states import derive, recovers_by_restart

log = structlog.get_logger(__name__)

PROVIDER = Provider.WWEBJS
# After this time without a link, a request to connect starts a new browser.
OPENING_FOR = dt.timedelta(seconds=60)
START_FAILED = ("start_failed", "start_no_answer")


def client_of(connection: Connection) -> WwebjsSessions:
    """Return the client of a connection's session."""
    return WwebjsSessions(connection.credentials)


# -- what a person does ----------------------------------------------------------------------------


def connect(connection: Connection) -> None:
    """Start the session if it is down. A start in progress is not repeated.

    Raises SessionRefused if there is nothing to start because of an error.
    """
    observed = monitor.state(connection)
    with records.locked(connection) as row:
        now = timezone.now()
        row.keep_connected, row.unlink_failed = True, False
        row.stopped, row.unlink_requested_at = False, None
        row.recovery_attempts, row.recovery_attempted_at = 0, None
        action = _connect_action(row, now)
        if action is not None:
            _start(row, restart=action == RecoveryAction.RESTART, now=now)
    if action is None and observed.state == State.ERROR and observed.code != UNCONFIRMED:
        raise monitor.refusal_of(observed)


def pairing_code(connection: Connection, digits: str) -> str:
    """Ask for a code while a QR code is shown. Raises SessionRefused."""
    observed = monitor.state(connection)
    if observed.state != State.QR:
        raise monitor.refusal_of(observed) if observed.field else monitor.not_waiting_for_phone()
    try:
        return client_of(connection).pairing_code(digits)
    except SessionError as error:
        if error.code == "invalid_recipient":
            raise monitor.invalid_number() from None
        raise refused(PROVIDER, error.code, error.detail) from None


def replace_expired_qr(connection: Connection) -> None:
    """Restart the session: the server goes on serving the last code after it has expired (§2)."""
    with records.locked(connection) as row:
        if row.start_requested_at is None:
            _start(row, restart=True, now=timezone.now())


def disconnect(connection: Connection, *, unlink: bool = True) -> SessionState:
    """End the session and keep it ended; with `unlink`, also unlink the phone.

    Without `unlink` the login stays on the server, so that connecting needs no new code; if the
    session comes up automatically, it is stopped again. A session that the server does not have
    cannot be unlinked yet: the state's code is then "unlinking" during a start, else "not_running",
    and it is unlinked when it comes up, unless somebody connects it first. Raises SessionRefused
    (409 not_configured; 502 if the server did not do it).
    """
    configured(connection)
    with records.locked(connection) as row:
        # Whatever the outcome of the call, nothing may start the session again.
        was_starting = row.start_requested_at is not None
        now = timezone.now()
        row.keep_connected, row.serving, row.stopped = False, False, not unlink
        row.unlink_requested_at = now if unlink else None
        row.start_requested_at = None
        row.commanded_at = now
        incidents.close_silently(row)
    client = client_of(connection)
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
        records.rows(connection).update(
            next_poll_at=None, unlink_requested_at=None, unlink_failed=unlink
        )
        raise refused(PROVIDER, error.code, error.detail) from None
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
    client = client_of(connection)
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


def request_probe(connection: Connection) -> None:
    """Poll the session at once."""
    with transaction.atomic():
        if records.rows(connection).update(next_poll_at=None):
            queue.enqueue_probe(connection.channel_id)


# -- ends and starts -------------------------------------------------------------------------------


def _record_end(connection: Connection, code: str) -> None:
    """Write down that the session was ended, and how. Not where somebody connected it meanwhile."""
    with records.locked(connection) as row:
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
        records.store_state(row, DerivedState(state, code), now)


def _end_unwanted(connection: Connection, *, code: str) -> None:
    """End the session as requested, unless a channel uses it; `code` is recorded for a stop.

    If the server does not do it, the next probe tries again.
    """
    row = Connection.objects.filter(pk=connection.pk, keep_connected=False).first()
    if row is None or is_used_by_others(row):
        return
    client = client_of(connection)
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


def _start(row: Connection, *, restart: bool, now: dt.datetime) -> None:
    records.count_attempt(row, now)
    records.store_state(row, request_start(row, restart=restart, now=now), now)


def request_start(row: Connection, *, restart: bool, now: dt.datetime) -> DerivedState:
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
    with records.locked(connection) as row:
        if row.start_requested_at is None:
            return
        now = timezone.now()
        row.start_requested_at = None
        row.commanded_at = now
        detail = derived.detail[:300] if derived and reason else ""
        row.local_reason, row.local_reason_detail = reason, detail
        if derived is not None:
            records.store_state(row, derived, now)


def _connect_action(row: Connection, now: dt.datetime) -> RecoveryAction | None:
    """Return the action for a person's request to connect, or None if there is nothing to do."""
    if row.start_requested_at is not None:
        return None
    if row.state == State.DISCONNECTED or row.state_code in START_FAILED:
        return RecoveryAction.START
    if row.state == State.ERROR:
        return RecoveryAction.RESTART if recovers_by_restart(row.state_code) else None
    since = row.state_changed_at or now
    if row.state == State.STARTING and since < now - OPENING_FOR:
        return RecoveryAction.RESTART
    return None


def is_used_by_others(row: Connection) -> bool:
    """Whether another channel keeps the same session of the same server connected."""
    others = Connection.objects.filter(provider=PROVIDER, address=row.address, keep_connected=True)
    return others.exclude(pk=row.pk).exists()


def _stored(channel_id: int) -> Connection | None:
    rows = Connection.objects.select_related("channel")
    return rows.filter(channel=channel_id, provider=PROVIDER).first()
