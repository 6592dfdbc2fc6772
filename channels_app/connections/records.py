"""The row of a session, whatever its provider: its lock, commands, settings, state and QR code."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from channels_app.connections import circuit_breaker, number_confirmation
from channels_app.connections.linked_numbers import is_unlinked
from channels_app.connections.session_engines import SessionRefused, engine_for
from channels_app.incidents import incidents
from channels_app.incidents.reason_text import encode_reason
from channels_app.models import Channel, Connection
from channels_app.providers.sessions import DerivedState, State

# What a person's commands write.
COMMANDED = (
    "keep_connected", "serving", "stopped", "unlink_requested_at", "unlink_failed",
    "start_requested_at", "linking_since", "local_reason", "local_reason_detail",
)  # fmt: skip
# What was observed of a session, and commanded; it does not apply to another one.
_SESSION_FIELDS = (
    *COMMANDED, "checked_at", "next_poll_at", "commanded_at", "own_number", "profile_name",
    "qr_digest", "qr_seen_at", "server_state", "server_state_reason", "last_ready_at",
    "last_drop_at", "last_drop_reason", "recovery_attempts", "recovery_attempted_at",
    "callback_reason", "callback_reason_at", "quiet_until", "slow_checks", "missing_since",
    "syncing_since", "dead_since", "closed_since", "number_checked_at", "page_number",
    "number_seen_at", "takes_message_ids",
)  # fmt: skip


# -- rows ------------------------------------------------------------------------------------------


def lock(provider: str, channel_id: int) -> Connection | None:
    """Lock and return the current row; None if there is none in use. In a transaction."""
    row = Connection.objects.lock(channel_id, provider)
    return row if row is not None and engine_for(provider).lock_related(row) else None


@contextmanager
def locked(connection: Connection) -> Iterator[Connection]:
    """Lock the current row in a transaction, and save what the block changes of it.

    Raises Connection.DoesNotExist if there is none in use.
    """
    with transaction.atomic():
        row = lock(connection.provider, connection.channel_id)
        if row is None:
            raise Connection.DoesNotExist
        yield row
        row.save()


def lease(connection: Connection, polled_at: dt.datetime) -> None:
    """Note that the session is being polled, so that a request to poll meanwhile is noticed."""
    engine = engine_for(connection.provider)
    not_commanded = Q(commanded_at=None) | Q(commanded_at__lte=polled_at)
    rows(connection).filter(not_commanded).update(next_poll_at=polled_at + engine.lease)


def command(connection: Connection, **values: Any) -> None:
    """Store values of our own command; observations that were requested earlier are outdated."""
    now = timezone.now()
    values |= {"commanded_at": now, "next_poll_at": now + dt.timedelta(seconds=1)}
    rows(connection).update(**values)


def store_command_state(connection: Connection, derived: DerivedState) -> None:
    """Store the state that resulted from our own command."""
    with locked(connection) as row:
        store_state(row, derived, timezone.now())


@contextmanager
def unchanged_if_refused(connection: Connection) -> Iterator[None]:
    """Restore what was stored of the session where the block raises SessionRefused.

    Nothing of a refused end is carried out later then. Not where somebody connected the session
    meanwhile.
    """
    before = rows(connection).select_related("channel").first()
    incident = incidents.open_incident(before) if before is not None else None
    try:
        yield
    except SessionRefused:
        with locked(connection) as row:
            if before is not None and not row.keep_connected:
                for name in COMMANDED:
                    setattr(row, name, getattr(before, name))
                row.commanded_at, row.next_poll_at = timezone.now(), None
                derived = DerivedState(State(before.state), before.state_code, before.state_detail)
                store_state(row, derived, timezone.now())
                if incident is not None:
                    incidents.reopen(incident)
        raise


def reset_if_session_changed(provider: str, channel: Channel, before: Channel | None) -> None:
    """Reset what was observed if the channel has another session now. In a transaction."""
    engine = engine_for(provider)
    address = engine.address(channel)
    if not address and (before is None or not engine.is_configured(before)):
        return
    if before is not None and not channel.differs_from(before, engine.settings):
        return
    row = lock(provider, channel.pk)
    if row is None:
        return
    now = timezone.now()
    if row.address != address:
        if row.address:
            _reset(row)
        row.address = address
        row.state, row.state_code, row.state_detail = State.DISCONNECTED, "unchecked", ""
        row.state_changed_at = now
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
        circuit_breaker.close_for_new_settings(row)
    if address and channel.active:
        engine.enqueue_probe(row)


def request_poll(
    provider: str, channel: Channel, *, callback_reason: str = "", qr_digest: str = ""
) -> None:
    """Poll at once, because the server reported a change: what changed, only the poll decides.

    `callback_reason` explains a drop; `qr_digest` is the digest of the displayed code.
    """
    with transaction.atomic():
        row = lock(provider, channel.pk)
        if row is None:
            return
        if callback_reason:
            row.callback_reason, row.callback_reason_at = callback_reason[:40], timezone.now()
        if qr_digest:
            record_code(row, qr_digest)
        # The linked phone may have changed.
        row.next_poll_at = row.number_checked_at = None
        row.save()
        engine_for(provider).enqueue_probe(row)


def rows(connection: Connection) -> QuerySet[Connection]:
    return Connection.objects.filter(channel=connection.channel_id, provider=connection.provider)


def _reset(row: Connection) -> None:
    """Clear what is known of the session: it was another one. The incident is closed."""
    blank = Connection()
    for name in _SESSION_FIELDS:
        setattr(row, name, getattr(blank, name))
    engine_for(row.provider).forget(row)
    number_confirmation.record_linked(row, "")
    incidents.close_silently(row)


# -- what the row says -----------------------------------------------------------------------------


def store_state(row: Connection, derived: DerivedState, now: dt.datetime) -> None:
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
    engine_for(row.provider).notify_pages(row)


def record_code(row: Connection, digest: str) -> None:
    """Store which code is displayed ("" for none) and since when; pages fetch the new one."""
    if digest != row.qr_digest:
        row.qr_digest, row.qr_seen_at = digest, timezone.now() if digest else None
        engine_for(row.provider).notify_pages(row)


def count_attempt(row: Connection, now: dt.datetime) -> None:
    row.recovery_attempts, row.recovery_attempted_at = row.recovery_attempts + 1, now
