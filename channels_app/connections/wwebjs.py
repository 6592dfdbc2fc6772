"""The engine of wwebjs-api sessions; `wwebjs_commands` has what a person does with them.

Automatic starts are few (`wwebjs_recovery`): a failed one leaves a whole browser behind.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, cast

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels_app import queue
from channels_app.connections import number_confirmation, records, wwebjs_commands
from channels_app.connections.linked_numbers import UNCONFIRMED
from channels_app.connections.recovery import RecoveryAction, RecoveryContext
from channels_app.connections.session_engines import (
    KEEP,
    SessionEngine,
    SessionRefused,
    SessionState,
)
from channels_app.connections.states import FAST_POLL_SECONDS
from channels_app.connections.wwebjs_commands import (
    PROVIDER,
    START_FAILED,
    client_of,
    is_used_by_others,
    request_start,
)
from channels_app.connections.wwebjs_recovery import (
    MAX_SLOW_CHECKS,
    MISSING_FOR,
    recovery_action_for,
)
from channels_app.incidents.reason_text import field_for_code
from channels_app.models import Channel, Connection, Provider
from channels_app.providers import sessions
from channels_app.providers.sessions import DerivedState, State
from channels_app.providers.wwebjs.engine import default_session
from channels_app.providers.wwebjs.states import (
    SYNC_LIMIT,
    Observation,
    derive,
    recovers_by_restart,
)
from core import http_addresses

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# The longest start that was measured took 180 s (docs/providers/wwebjs.md §2).
START_WINDOW = dt.timedelta(seconds=200)
# After a new link in the same browser, the page reports the previous number until it has loaded.
# The same number counts once it was reported for this long; the session is polled fast until
# SYNC_LIMIT.
LINGERS_FOR = dt.timedelta(seconds=10)
# The server may still be executing a command for this long.
SETTLING = dt.timedelta(seconds=20)
# The codes of a session that nobody has asked the server about yet.
UNCHECKED = ("", "unchecked", "not_configured")
_LINKED = (State.QR, State.PAIRING, State.CONNECTED, State.READY)


class WwebjsEngine(SessionEngine):
    """The session of a wwebjs-api server that an official channel has as its fallback."""

    provider = PROVIDER
    settings = ("kind", "uses_wwebjs", "wwebjs_url", "wwebjs_api_key", "wwebjs_session_id")
    lease = dt.timedelta(seconds=30)
    end_choices = (
        (KEEP, gettext_lazy("Leave it as it is on the server")),
        ("stop", gettext_lazy("Stop it; the phone stays linked")),
        ("unlink", gettext_lazy("End it and unlink the phone")),
    )
    recovers_in_a_job = True

    def address(self, channel: Channel) -> str:
        is_official = channel.kind == Provider.OFFICIAL
        is_attached = is_official and channel.uses_wwebjs
        if not (is_attached and channel.wwebjs_url):
            return ""
        name = channel.wwebjs_session_id or default_session(channel)
        return f"{http_addresses.normalize(channel.wwebjs_url)} {name}"

    def field_for(self, code: str) -> str:
        return field_for_code(code)

    def buttons(self, session: SessionState) -> tuple[str, ...]:
        if session.code == "unlinking":
            return ("connect",)
        if session.code == "never_ready":
            return ("start_again", "disconnect")
        match session.state:
            case State.STARTING | State.QR:
                return ("qr", "disconnect")
            case State.PAIRING | State.CONNECTED | State.READY:
                return ("disconnect",)
        if session.code == UNCONFIRMED:
            return ("confirm_number", "disconnect")
        if session.code in UNCHECKED:
            return ("check",)
        if session.state == State.DISCONNECTED:
            return ("connect",)
        if session.code == "qr_expired":
            return ("qr", "disconnect")
        if recovers_by_restart(session.code):
            return ("connect", "disconnect")
        # A wrong address or key must be corrected first.
        return ("connect",) if session.code in START_FAILED else ("check",)

    def poll(self, connection: Connection, *, with_code: bool) -> Observation:
        """Ask for the state; it comes with the code that belongs to it."""
        return client_of(connection).poll()

    def connect(self, connection: Connection, *, user: User | None) -> None:
        wwebjs_commands.connect(connection)

    def pairing_code(self, connection: Connection, digits: str) -> str:
        return wwebjs_commands.pairing_code(connection, digits)

    def replace_expired_qr(self, connection: Connection, state_code: str) -> None:
        if state_code == "qr_expired":
            wwebjs_commands.replace_expired_qr(connection)

    def end(self, connection: Connection, choice: str, *, user: User | None) -> str:
        ended = wwebjs_commands.disconnect(connection, unlink=choice == "unlink")
        if ended.code == "unlinking":
            # Deleting the channel now would also delete the request to unlink.
            text = _("The session is still starting. Try again when it is running.")
            raise SessionRefused("unlinking", str(text))
        return ended.detail if ended.code == "not_running" else ""

    def send_failed(self, connection: Connection, code: str) -> None:
        wwebjs_commands.request_probe(connection)

    def interpret(
        self, row: Connection, observation: sessions.Observation, now: dt.datetime,
        *, had_worked: bool,
    ) -> DerivedState | None:  # fmt: skip
        """See `SessionEngine`. A session that came up although it was ended is ended again."""
        observation = cast("Observation", observation)
        number = _settled_number(row, observation, now)
        if number or (observation.ready and not row.linked_number):
            number_confirmation.record_linked(row, number)
        is_unwanted = _is_up_unwanted(row, observation)
        if is_unwanted:
            if row.commanded_at is not None and now < row.commanded_at + SETTLING:
                return None
            queue.enqueue_end(row.channel_id)
        row.own_number = number or row.own_number
        if not observation.qr:
            records.record_code(row, "")
        if not is_unwanted:
            return _derive(row, observation, now, was_linked=had_worked)
        if row.unlink_requested_at is not None:
            return DerivedState(State.STARTING, "unlinking")
        return DerivedState(State.DISCONNECTED, "came_up")

    def recovery_action(
        self, derived: DerivedState, context: RecoveryContext,
        observation: sessions.Observation, now: dt.datetime,
    ) -> RecoveryAction:  # fmt: skip
        return recovery_action_for(derived, context, now=now)

    def begin_recovery(
        self, row: Connection, derived: DerivedState, action: RecoveryAction, now: dt.datetime
    ) -> DerivedState:
        return request_start(row, restart=action == RecoveryAction.RESTART, now=now)

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
                records.reset_if_session_changed(PROVIDER, channel, None)

    def enqueue_probe(self, row: Connection) -> None:
        queue.enqueue_probe(row.channel_id)


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
    return is_up and was_ended and not row.keep_connected and not is_used_by_others(row)


def _derive(
    row: Connection, observation: Observation, now: dt.datetime, *, was_linked: bool
) -> DerivedState:
    """Derive the state from the observation and the stored starts, slow checks and commands."""
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
    failed = row.local_reason in START_FAILED
    return DerivedState(
        State.ERROR if failed else State.DISCONNECTED, row.local_reason, row.local_reason_detail
    )
