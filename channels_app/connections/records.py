"""What is stored of a session, whatever its provider: state, drops, incidents, QR code, commands.

An observation is stored under the lock of the connection's row, unless a newer command or a change
of settings superseded it. The server is polled without the lock.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from channels_app.connections import circuit_breaker, number_confirmation
from channels_app.connections.engines import Engine, SessionRefused, engine_for
from channels_app.connections.linked_numbers import UNCONFIRMED, is_unlinked
from channels_app.connections.recovery import RecoveryAction, RecoveryContext, has_recovered
from channels_app.connections.states import (
    FAST_POLL_SECONDS,
    drop_reason,
    needs_person,
    next_poll_delay,
    ready_code,
)
from channels_app.incidents import incidents
from channels_app.incidents.reason_text import encode_reason
from channels_app.models import Channel, Connection, Incident
from channels_app.providers.sessions import DerivedState, Observation, State

log = structlog.get_logger(__name__)

# A callback's reason explains a drop that is detected within this time.
CALLBACK_REASON_VALID_FOR = dt.timedelta(minutes=2)
# What a person's commands write.
COMMANDED = (
    "keep_connected", "serving", "stopped", "unlink_requested_at", "unlink_failed",
    "start_requested_at", "linking_since", "local_reason", "local_reason_detail",
)  # fmt: skip
# What was observed of a session, and commanded; it does not apply to another one.
_OF_THE_SESSION = (
    *COMMANDED, "checked_at", "next_poll_at", "commanded_at", "own_number", "profile_name",
    "qr_digest", "qr_seen_at", "server_state", "server_state_reason", "last_ready_at",
    "last_drop_at", "last_drop_reason", "recovery_attempts", "recovery_attempted_at",
    "callback_reason", "callback_reason_at", "quiet_until", "slow_checks", "missing_since",
    "syncing_since", "dead_since", "closed_since", "number_checked_at", "page_number",
    "number_seen_at", "takes_message_ids",
)  # fmt: skip


# -- rows ------------------------------------------------------------------------------------------


def lock(engine: Engine, channel_id: int) -> Connection | None:
    """Lock and return the current row; None if there is none in use. In a transaction."""
    row = Connection.objects.lock(channel_id, engine.provider)
    return row if row is not None and engine.lock_related(row) else None


def lease(engine: Engine, connection: Connection, polled_at: dt.datetime) -> None:
    """Note that the session is being polled, so that a request to poll meanwhile is noticed."""
    not_commanded = Q(commanded_at=None) | Q(commanded_at__lte=polled_at)
    _rows(connection).filter(not_commanded).update(next_poll_at=polled_at + engine.lease)


def command(connection: Connection, **values: Any) -> None:
    """Store values of our own command; observations that were requested earlier are outdated."""
    now = timezone.now()
    values |= {"commanded_at": now, "next_poll_at": now + dt.timedelta(seconds=1)}
    _rows(connection).update(**values)


def store_command_state(engine: Engine, connection: Connection, derived: DerivedState) -> None:
    """Store the state that resulted from our own command."""
    with transaction.atomic():
        row = lock(engine, connection.channel_id)
        if row is not None:
            store_state(engine, row, derived, timezone.now())
            row.save()


@contextmanager
def unchanged_if_refused(connection: Connection) -> Iterator[None]:
    """Restore what was stored of the session where the block raises SessionRefused.

    Nothing of a refused end is carried out later then. Not where somebody connected the session
    meanwhile.
    """
    engine = engine_for(connection.provider)
    before = _rows(connection).select_related("channel").first()
    incident = incidents.open_incident(before) if before is not None else None
    try:
        yield
    except SessionRefused:
        with transaction.atomic():
            row = lock(engine, connection.channel_id)
            if row is not None and before is not None and not row.keep_connected:
                for name in COMMANDED:
                    setattr(row, name, getattr(before, name))
                row.commanded_at, row.next_poll_at = timezone.now(), None
                derived = DerivedState(State(before.state), before.state_code, before.state_detail)
                store_state(engine, row, derived, timezone.now())
                row.save()
                if incident is not None:
                    incidents.reopen(incident)
        raise


def settings_saved(provider: str, channel: Channel, before: Channel | None) -> None:
    """Reset what was observed if the channel has another session now. In a transaction."""
    engine = engine_for(provider)
    address = engine.address(channel)
    if not address and (before is None or not engine.is_configured(before)):
        return
    if before is not None and not channel.differs_from(before, engine.settings):
        return
    row = lock(engine, channel.pk)
    if row is None:
        return
    now = timezone.now()
    if row.address != address:
        if row.address:
            _reset(engine, row)
        row.address = address
        row.state, row.state_code, row.state_detail = State.DISCONNECTED, "unchecked", ""
    if not address:
        number_confirmation.record_linked(row, "")
        row.state, row.state_code = State.NOT_CONFIGURED, ""
    if not channel.active:
        row.serving = False
        incidents.close_silently(row)
    row.commanded_at, row.next_poll_at = now, None
    engine.save(row)
    engine.notify_pages(row)
    if not row.is_primary:
        circuit_breaker.settings_changed(row)
    if address and channel.active:
        engine.enqueue_probe(row)


def request_poll(
    provider: str, channel: Channel, *, callback_reason: str = "", qr_digest: str = ""
) -> None:
    """Poll at once, because the server reported a change: what changed, only the poll decides.

    `callback_reason` explains a drop; `qr_digest` is the digest of the displayed code.
    """
    engine = engine_for(provider)
    with transaction.atomic():
        row = lock(engine, channel.pk)
        if row is None:
            return
        if callback_reason:
            row.callback_reason, row.callback_reason_at = callback_reason[:40], timezone.now()
        if qr_digest:
            record_code(engine, row, qr_digest)
        # The linked phone may have changed.
        row.next_poll_at = row.number_checked_at = None
        row.save()
        engine.enqueue_probe(row)


def _rows(connection: Connection) -> Any:
    return Connection.objects.filter(channel=connection.channel_id, provider=connection.provider)


def _reset(engine: Engine, row: Connection) -> None:
    """Clear what is known of the session: it was another one. The incident is closed."""
    blank = Connection()
    for name in _OF_THE_SESSION:
        setattr(row, name, getattr(blank, name))
    engine.forget(row)
    number_confirmation.record_linked(row, "")
    incidents.close_silently(row)


# -- observations ----------------------------------------------------------------------------------


def record_observation(
    engine: Engine,
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
    with transaction.atomic():
        row = lock(engine, connection.channel_id)
        if row is None or any(at and at > polled_at for at in (row.commanded_at, row.checked_at)):
            return RecoveryAction.NONE
        if row.channel.differs_from(connection.channel, engine.settings):
            # The poll took the place of one with the new settings.
            _rows(connection).update(next_poll_at=None)
            return RecoveryAction.NONE
        action = _apply(engine, row, observation, polled_at=polled_at, recover=recover)
        engine.save(row)
        return action


def _apply(
    engine: Engine,
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
        record_code(engine, row, hashlib.sha256(observation.qr.encode()).hexdigest())
    derived = engine.interpret(row, observation, now, had_worked=had_worked)
    if derived is None:
        row.next_poll_at = now + dt.timedelta(seconds=FAST_POLL_SECONDS)
        return RecoveryAction.NONE
    row.checked_at = polled_at
    if derived.state == State.READY:
        derived = replace(derived, code=_ready_code(row, incident))
    _record_transition(engine, row, derived, incident, now)
    action = _choose_recovery(engine, row, derived, observation, now) if recover else None
    if action:
        derived = engine.begin_recovery(row, derived, action, now)
    store_state(engine, row, derived, now)
    if row.own_number != own_number:
        engine.notify_pages(row)
    if row.next_poll_at is not None:
        # Who polls leaves a lease there: None was written meanwhile, to have it polled anew.
        delay = next_poll_delay(
            derived.state,
            keep_connected=row.keep_connected,
            lasting=now - (row.state_changed_at or now),
            chance=random.random(),  # noqa: S311
        )
        row.next_poll_at = now + dt.timedelta(seconds=engine.poll_delay(row, delay, now))
    return action or RecoveryAction.NONE


def _record_transition(
    engine: Engine,
    row: Connection,
    derived: DerivedState,
    incident: Incident | None,
    now: dt.datetime,
) -> None:
    """Record that the session became ready or dropped, and what an open incident is about now."""
    if derived.code == UNCONFIRMED or derived.state == State.READY:
        _record_link(row, now)
    reason = drop_reason(derived, _callback_reason(row, now))
    is_missed = row.keep_connected and row.channel.active
    if derived.state == State.READY:
        _record_ready(engine, row, now)
    elif row.serving and not (row.quiet_until and now < row.quiet_until):
        row.serving = False
        if row.keep_connected:
            _record_drop(row, derived, reason, now)
    elif derived.state in (State.QR, State.DISCONNECTED) and row.last_ready_at is None:
        # It goes on after all, or has given up; no phone was ever linked that could be missed.
        incidents.mark_recovered(row, at=now)
    elif incident is not None and incident.recovered_at is None:
        incidents.observed(row, reason=reason, detail=derived.detail, at=now)
    elif is_missed and needs_person(derived):
        incidents.open_or_update(row, reason=reason, detail=derived.detail, at=now)


def _record_link(row: Connection, now: dt.datetime) -> None:
    row.keep_connected = row.keep_connected or not row.unlink_failed
    row.last_ready_at, row.linking_since = now, None


def _record_ready(engine: Engine, row: Connection, now: dt.datetime) -> None:
    row.serving, row.quiet_until = True, None
    row.stopped, row.unlink_requested_at = False, None
    row.callback_reason = ""
    incidents.mark_recovered(row, at=now)
    if row.state != State.READY and engine.field_for(row.breaker_code):
        # The poll succeeded with the address, key and name that had been rejected.
        circuit_breaker.close(row)


def _record_drop(row: Connection, derived: DerivedState, reason: str, now: dt.datetime) -> None:
    log.warning("session dropped", channel=row.channel_id, provider=row.provider, reason=reason)
    row.last_drop_at, row.last_drop_reason = now, reason[:40]
    incidents.open_or_update(row, reason=reason, detail=derived.detail, at=now)


def _choose_recovery(
    engine: Engine,
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
    count_attempt(row, now)
    log.warning(
        "session recovery begins", channel=row.channel_id, provider=row.provider,
        action=action.value, reason=derived.code,
    )  # fmt: skip
    return action


def count_attempt(row: Connection, now: dt.datetime) -> None:
    row.recovery_attempts, row.recovery_attempted_at = row.recovery_attempts + 1, now


def store_state(engine: Engine, row: Connection, derived: DerivedState, now: dt.datetime) -> None:
    """Set the state on the row, which the caller saves; if it changed, update open pages."""
    if is_unlinked(derived.state, derived.code):
        row.number_seen_at = None
        number_confirmation.record_linked(row, "")
    before = (row.state, row.state_code, row.state_detail)
    row.state, row.state_code = derived.state.value, derived.code[:40]
    row.state_detail = derived.detail[:300]
    if before == (row.state, row.state_code, row.state_detail):
        return
    if before[0] != row.state or before[1] == "unchecked":
        row.state_changed_at = now
    ok = derived.state == State.READY
    if row.is_primary and (ok or derived.state in (State.ERROR, State.DISCONNECTED)):
        # What its own sends show, too; an attached session's health is its state.
        row.record_health(ok=ok, detail="" if ok else encode_reason(derived.code, derived.detail))
    engine.notify_pages(row)


def record_code(engine: Engine, row: Connection, digest: str) -> None:
    """Store which code is displayed ("" for none) and since when; pages fetch the new one."""
    if digest != row.qr_digest:
        row.qr_digest, row.qr_seen_at = digest, timezone.now() if digest else None
        engine.notify_pages(row)


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
