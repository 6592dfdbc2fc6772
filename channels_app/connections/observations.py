"""What an observation changes: state, drop, incident, recovery and the time of the next poll.

It is stored under the lock of the connection's row, unless a newer command, a newer observation or
a change of settings superseded it. The server is polled without the lock.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import random
from dataclasses import replace

import structlog
from django.db import transaction
from django.utils import timezone

from channels_app.connections import circuit_breaker, records
from channels_app.connections.linked_numbers import UNCONFIRMED
from channels_app.connections.recovery import RecoveryAction, RecoveryContext, has_recovered
from channels_app.connections.session_engines import SessionEngine, engine_for
from channels_app.connections.states import (
    FAST_POLL_SECONDS,
    drop_reason,
    needs_person,
    next_poll_delay,
    ready_code,
)
from channels_app.incidents import incidents
from channels_app.models import Connection, Incident
from channels_app.providers.sessions import DerivedState, Observation, State

log = structlog.get_logger(__name__)

# A callback's reason explains a drop that is detected within this time.
CALLBACK_REASON_VALID_FOR = dt.timedelta(minutes=2)


def record_observation(
    connection: Connection,
    observation: Observation,
    *,
    polled_at: dt.datetime,
    recover: bool = False,
) -> RecoveryAction:
    """Store an observation unless it is outdated; return the recovery action, which has begun.

    It is outdated if it was requested before the last command, before the stored observation, or
    with other settings. No action begins unless `recover`.
    """
    engine = engine_for(connection.provider)
    with transaction.atomic():
        row = records.lock(connection.provider, connection.channel_id)
        if row is None or any(at and at > polled_at for at in (row.commanded_at, row.checked_at)):
            return RecoveryAction.NONE
        if row.channel.differs_from(connection.channel, engine.settings):
            # The poll took the place of one with the new settings.
            records.rows(connection).update(next_poll_at=None)
            return RecoveryAction.NONE
        action = _apply(engine, row, observation, polled_at=polled_at, recover=recover)
        engine.save(row)
        return action


def _apply(
    engine: SessionEngine,
    row: Connection,
    observation: Observation,
    *,
    polled_at: dt.datetime,
    recover: bool,
) -> RecoveryAction:
    now = timezone.now()
    incident = incidents.open_incident(row)
    had_worked = row.serving or (incident is not None and row.last_ready_at is not None)
    own_number = row.own_number
    if has_recovered(row.state, row.state_changed_at, now=now):
        row.recovery_attempts, row.recovery_attempted_at = 0, None
    if observation.qr:
        records.record_code(row, hashlib.sha256(observation.qr.encode()).hexdigest())
    derived = engine.interpret(row, observation, now, had_worked=had_worked)
    if derived is None:
        row.next_poll_at = now + dt.timedelta(seconds=FAST_POLL_SECONDS)
        return RecoveryAction.NONE
    row.checked_at = polled_at
    if derived.state == State.READY:
        derived = replace(derived, code=_ready_code(row, incident))
    _record_transition(row, derived, incident, now)
    action = _choose_recovery(engine, row, derived, observation, now) if recover else None
    if action:
        derived = engine.begin_recovery(row, derived, action, now)
    records.store_state(row, derived, now)
    if row.own_number != own_number:
        engine.notify_pages(row)
    if row.next_poll_at is not None:
        # A poll leaves its lease here; None means that another poll was requested meanwhile.
        delay = next_poll_delay(
            derived.state,
            keep_connected=row.keep_connected,
            lasting=now - (row.state_changed_at or now),
            chance=random.random(),  # noqa: S311
        )
        row.next_poll_at = now + dt.timedelta(seconds=engine.poll_delay(row, delay, now))
    return action or RecoveryAction.NONE


def _record_transition(
    row: Connection, derived: DerivedState, incident: Incident | None, now: dt.datetime
) -> None:
    """Record that the session became ready or dropped, and what an open incident is about now."""
    if derived.code == UNCONFIRMED or derived.state == State.READY:
        _record_link(row, now)
    reason = drop_reason(derived, _callback_reason(row, now))
    is_missed = row.keep_connected and row.channel.active
    if derived.state == State.READY:
        _record_ready(row, now)
    elif row.serving and not (row.quiet_until and now < row.quiet_until):
        row.serving = False
        if row.keep_connected:
            _record_drop(row, derived, reason, now)
    elif derived.state in (State.QR, State.DISCONNECTED) and row.last_ready_at is None:
        # It continues or has stopped trying; no phone was ever linked, so none can be missing.
        incidents.mark_recovered(row, at=now)
    elif incident is not None and incident.recovered_at is None:
        incidents.observed(row, reason=reason, detail=derived.detail, at=now)
    elif is_missed and needs_person(derived):
        incidents.open_or_update(row, reason=reason, detail=derived.detail, at=now)


def _record_link(row: Connection, now: dt.datetime) -> None:
    row.keep_connected = row.keep_connected or not row.unlink_failed
    row.last_ready_at, row.linking_since = now, None


def _record_ready(row: Connection, now: dt.datetime) -> None:
    row.serving, row.quiet_until = True, None
    row.stopped, row.unlink_requested_at = False, None
    row.callback_reason = ""
    incidents.mark_recovered(row, at=now)
    if row.state != State.READY and engine_for(row.provider).field_for(row.breaker_code):
        # The poll succeeded with the address, key and name that had been rejected.
        circuit_breaker.close(row)


def _record_drop(row: Connection, derived: DerivedState, reason: str, now: dt.datetime) -> None:
    log.warning("session dropped", channel=row.channel_id, provider=row.provider, reason=reason)
    row.last_drop_at, row.last_drop_reason = now, reason[:40]
    incidents.open_or_update(row, reason=reason, detail=derived.detail, at=now)


def _choose_recovery(
    engine: SessionEngine,
    row: Connection,
    derived: DerivedState,
    observation: Observation,
    now: dt.datetime,
) -> RecoveryAction | None:
    """Return the action that is due, counted as an attempt; None if there is none."""
    context = RecoveryContext(
        keep_connected=row.keep_connected and row.channel.active,
        attempts=row.recovery_attempts,
        attempted_at=row.recovery_attempted_at,
        slow_checks=row.slow_checks,
        missing_since=row.missing_since,
        closed_since=row.closed_since,
    )
    # While a start that was requested is in progress, nothing else is.
    is_starting = row.start_requested_at is not None
    action = engine.recovery_action(derived, context, observation, now)
    if is_starting or action == RecoveryAction.NONE:
        return None
    records.count_attempt(row, now)
    log.warning(
        "session recovery begins", channel=row.channel_id, provider=row.provider,
        action=action.value, reason=derived.code,
    )  # fmt: skip
    return action


def _callback_reason(row: Connection, now: dt.datetime) -> str:
    """Return the reason from a recent callback, or ""."""
    at = row.callback_reason_at
    return row.callback_reason if at is not None and at > now - CALLBACK_REASON_VALID_FOR else ""


def _ready_code(row: Connection, incident: Incident | None) -> str:
    was_ready = row.state == State.READY
    commanded = row.commanded_at
    return ready_code(
        before=row.state_code if was_ready else "",
        absence=incident.server_absence if incident is not None and not was_ready else "",
        by_itself=incident is not None and (commanded is None or commanded < incident.opened_at),
    )
