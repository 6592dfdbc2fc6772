"""The connection of an Evolution instance to WhatsApp: create, link, reconnect, log out, delete.

For views and the API: `stored` (no network), `state`, `connect`, `qr`, `pairing_code`,
`reconnect`, `log_out`, `delete`. For jobs: `probe_due`, `probe`. For signals and events:
`request_poll` (an event arrived), `record_rejection` (a send was rejected), `channel_saved`.

The server is polled without a lock. The observation is then stored under the lock of the session's
row, unless a newer command or settings change superseded it. Events only trigger a poll: they
arrive late, twice and in any order (docs/providers/evolution.md §1).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import random
import re
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import structlog
from django.db import connection as database
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app import signals
from channels_app.connections import number_confirmation
from channels_app.connections.linked_numbers import UNCONFIRMED, UNKNOWN, is_unlinked
from channels_app.connections.number_confirmation import ConfirmationRefused
from channels_app.connections.states import has_recovered, next_poll_delay, ready_code
from channels_app.connections.wwebjs_session import QrCode, SessionRefused, SessionState, draw
from channels_app.incidents import incidents
from channels_app.incidents.reason_text import describe, encode_reason, field_for_code
from channels_app.models import Channel, Connection, Incident, Provider
from channels_app.providers.evolution.instance import ASK_SECONDS, EvolutionLifecycle, Link, Row
from channels_app.providers.evolution.receive_mode import EvolutionFailed
from channels_app.providers.sessions import DerivedState, State
from instances import live, queue
from instances.connections import pictures
from instances.connections.probe_requests import request_probe
from instances.connections.states import (
    DIALLING_FOR,
    LEFT_CLOSED,
    SERVER_SILENT,
    Known,
    Observation,
    RecoveryAction,
    RecoveryContext,
    applies_to_server,
    derive,
    drop_reason,
    needs_person,
    recovery_action_for,
)
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
# A claimed probe that never finished is due again after this time.
LEASE = dt.timedelta(seconds=90)
PROBES_AT_A_TIME = 8
# A round claims no more probes after this time: other jobs of the queue wait.
ROUND_SECONDS = 10.0
# What the monitor writes of the session: since when its events are new.
_RECEIVING_FIELDS = ("history_before", "opened_at", "backlog_since")
# We observe a link late: messages that a customer writes in between are not history.
LINK_MARGIN = dt.timedelta(minutes=2)
_SETTINGS = ("kind", "active", "evolution_url", "evolution_api_key", "instance_name")


@dataclass(frozen=True, slots=True)
class ConnectionState(SessionState):
    """A SessionState with the name of the linked account."""

    profile_name: str = ""


@dataclass(frozen=True, slots=True)
class LinkCode(QrCode):
    """A code to scan, and the pairing code if a number was given."""

    pairing_code: str = ""


# -- for views and the API -------------------------------------------------------------------------


def stored(session: WhatsAppSession) -> ConnectionState:
    """Return the last stored state. Makes no network call."""
    if not _is_configured(session.channel):
        code = "not_configured"
        return ConnectionState(State.NOT_CONFIGURED.value, code, describe(code))
    row = session.connection
    code = row.state_code
    return ConnectionState(
        state=row.state,
        code=code,
        detail=describe(code, row.state_detail),
        since=row.state_changed_at,
        checked_at=row.checked_at,
        own_number=row.own_number,
        field=field_for_code(code, evolution=True),
        last_drop_at=row.last_drop_at,
        last_drop_reason=describe(row.last_drop_reason),
        qr_seen_at=row.qr_seen_at,
        profile_name=row.profile_name,
        unconfirmed_number=row.unconfirmed_number if code == UNCONFIRMED else "",
    )


def state(session: WhatsAppSession) -> ConnectionState:
    """Poll the server, store and return the state. Server errors never raise.

    Takes a few seconds at most. Do not call it inside a transaction.
    """
    if _is_configured(session.channel):
        _poll_and_store(session)
    return _current(session)


def connect(session: WhatsAppSession, *, user: User | None = None) -> ConnectionState:
    """Create the instance if it does not exist, then connect it.

    An existing instance is taken over as it is. One that is open or displays a code is not
    connected again. The webhook is set first, because Evolution reads the base64 setting only when
    it connects (§3). The receive-mode history names the user. Takes some seconds. Raises
    SessionRefused (409 not_configured; 502 if the server failed, with the field to correct).
    """
    client = _client(session)
    observation = _poll_and_store(session)
    if observation.trouble not in ("", "instance_missing"):
        raise _refused(observation.trouble, observation.detail)
    now = timezone.now()
    _command(
        session,
        keep_connected=True,
        linking_since=now,
        local_reason="",
        recovery_attempts=0,
        recovery_attempted_at=None,
    )
    try:
        if observation.trouble == "instance_missing":
            _create(session, client)
        _configure_events(session, is_new=observation.trouble != "", user=user)
        polled_at = timezone.now()
        link = client.connect()
    except EvolutionFailed as error:
        _store_and_raise(session, error)
    _record_observation(session, _observation_from(link), polled_at=polled_at, recover=False)
    return _current(session)


def confirm_number(
    session: WhatsAppSession, number: str, *, user: User | None = None
) -> ConnectionState:
    """Confirm that the linked number is right, and poll again.

    `number` is the one shown to the user. Raises SessionRefused (409 not_configured, or
    nothing_to_confirm if no number or a different one is waiting for confirmation).
    """
    _client(session)
    try:
        number_confirmation.confirm(
            session.channel, PROVIDER, number, user_id=user.pk if user else None
        )
    except ConfirmationRefused as error:
        raise SessionRefused("nothing_to_confirm", str(error)) from None
    return state(session)


def _forget_link(session: WhatsAppSession) -> None:
    """Record that no phone was ever linked to the instance."""
    _rows(session).update(last_ready_at=None, closed_since=None)
    WhatsAppSession.objects.filter(pk=session.pk).update(
        history_before=None, opened_at=None, backlog_since=None
    )


def _create(session: WhatsAppSession, client: EvolutionLifecycle) -> None:
    try:
        client.create()
    except EvolutionFailed as error:
        # A concurrent request created it: take over that instance.
        if error.reason != "name_taken" or _poll_and_store(session).trouble:
            raise
    # No phone was ever linked to it: do not request codes automatically.
    _forget_link(session)


def qr(session: WhatsAppSession) -> LinkCode:
    """Return the current QR code as SVG; Evolution renews it every 45 s.

    Raises SessionRefused (409 qr_not_ready or not_configured; 502 if the server cannot be
    reached).
    """
    _client(session)
    observation = _poll_and_store(session, with_code=True)
    current = _current(session)
    if current.state == State.QR and observation.qr:
        now = timezone.now()
        received_at = current.qr_seen_at or now
        age = max((now - received_at).total_seconds(), 0.0)
        return LinkCode(
            observation.qr, draw(observation.qr), received_at, age, observation.pairing_code
        )
    if current.field:
        raise _refused(current.code, session.connection.state_detail)
    raise SessionRefused("qr_not_ready", _("The QR code is not ready or has been scanned already"))


def pairing_code(session: WhatsAppSession, phone_number: str) -> str:
    """Return the code to type on the phone instead of scanning.

    Evolution creates one only when it connects for that number, so a displayed QR code is discarded
    first. Raises SessionRefused (400 invalid_number; 409 qr_not_ready if a phone is linked, or
    not_configured; 502 if the server returned none).
    """
    client = _client(session)
    digits = re.sub(r"[\s().+-]", "", phone_number)
    if not re.fullmatch(r"[1-9]\d{7,14}", digits):
        text = _("Enter the phone's number with country and area code.")
        raise SessionRefused("invalid_number", text, status=400, field="phone_number")
    observation = _poll_and_store(session, with_code=True)
    if observation.trouble:
        raise _refused(observation.trouble, observation.detail)
    if observation.connection == "open" or (
        observation.connection == "connecting" and not observation.qr
    ):
        raise SessionRefused("qr_not_ready", _("The session is not waiting for a phone."))
    now = timezone.now()
    _command(
        session,
        keep_connected=True,
        linking_since=now,
        local_reason="",
        recovery_attempts=0,
        recovery_attempted_at=None,
        quiet=True,
    )
    try:
        if observation.connection == "connecting":
            client.log_out()
            _wait(lambda: client.state() == "close")
        polled_at = timezone.now()
        link = client.connect(number=digits)
    except EvolutionFailed as error:
        _store_and_raise(session, error)
    _record_observation(session, _observation_from(link), polled_at=polled_at, recover=False)
    if not link.pairing_code:
        text = _("WhatsApp returned no code for this number.")
        raise SessionRefused("no_pairing_code", text, status=502)
    return link.pairing_code


def reconnect(session: WhatsAppSession, *, user: User | None = None) -> ConnectionState:
    """Reconnect with the existing login; a closed instance is connected instead.

    Raises SessionRefused like `connect`.
    """
    client = _client(session)
    # It may display a code if no phone is linked.
    _command(
        session, keep_connected=True, local_reason="", recovery_attempts=0,
        recovery_attempted_at=None, dead_since=None, linking_since=timezone.now(), quiet=True,
    )  # fmt: skip
    try:
        restarted = client.restart()
    except EvolutionFailed as error:
        if error.code != "instance_missing":
            _store_and_raise(session, error)
        restarted = False
    if not restarted:
        return connect(session, user=user)
    _save_state(session, DerivedState(State.STARTING, "reconnecting"))
    return _current(session)


def log_out(session: WhatsAppSession) -> ConnectionState:
    """Unlink the phone; the instance stays. Connecting again requires a new code.

    A closed instance cannot be unlinked: the state's code is then "not_running". Raises
    SessionRefused (409 not_configured; 502 if the server failed).
    """
    client = _client(session)
    # Do not reconnect, whatever the result of the call.
    _command(session, keep_connected=False, serving=False, linking_since=None)
    incidents.close_silently(session.connection)
    try:
        code = "unlinked" if client.log_out() else "not_running"
    except EvolutionFailed as error:
        _store_and_raise(session, error)
    _command(session, local_reason=code, dead_since=None)
    _save_state(session, DerivedState(State.DISCONNECTED, code))
    return _current(session)


def delete(session: WhatsAppSession, *, user: User | None = None) -> ConnectionState:
    """Delete the instance on the server; the channel and its history stay.

    The webhook is disabled first, because the deletion waits for its delivery (§1). The state's
    code is "deleting" if Evolution has not finished in time. Raises SessionRefused (409
    not_configured, or conflict during a switch of the receive mode; 502 if the server failed).
    """
    client = _client(session)
    try:
        with handover.locked(session):
            _command(session, keep_connected=False, serving=False, linking_since=None)
            incidents.close_silently(session.connection)
            code = _remove(client)
            handover.forget(session)
    except handover.SwitchRefused as error:
        raise SessionRefused("conflict", str(error)) from None
    except EvolutionFailed as error:
        _restore_receive_mode(session, user=user)
        _store_and_raise(session, error)
    pictures.forget(session.connection)
    _command(
        session, local_reason=code, dead_since=None, own_number="", profile_name="",
        recovery_attempts=0,
    )  # fmt: skip
    _forget_link(session)
    _save_state(session, DerivedState(State.DISCONNECTED, code))
    return _current(session)


@contextlib.contextmanager
def unchanged_if_refused(session: WhatsAppSession) -> Iterator[None]:
    """Restore whether the instance is kept connected where the block raises SessionRefused.

    Not where somebody connected it meanwhile.
    """
    before = _rows(session).select_related("channel__evolution").get()
    incident = incidents.open_incident(before)
    try:
        yield
    except SessionRefused:
        with transaction.atomic():
            row = _locked(session.channel_id)
            if row is not None and not row.keep_connected:
                _command(
                    session,
                    keep_connected=before.keep_connected,
                    serving=before.serving,
                    linking_since=before.linking_since,
                )
                if incident is not None:
                    incidents.reopen(incident)
        raise


def _remove(client: EvolutionLifecycle) -> str:
    """Delete the instance and return the resulting code. Raises EvolutionFailed."""
    try:
        client.disable_webhook()
        client.delete()
    except EvolutionFailed as error:
        if error.code != "instance_missing":
            raise
    return "instance_deleted" if _wait(lambda: _is_gone(client)) else "deleting"


def _restore_receive_mode(session: WhatsAppSession, *, user: User | None) -> None:
    """Restore the agreed receive mode after a failed deletion disabled the webhook."""
    if session.mode is not None:
        with contextlib.suppress(handover.SwitchRefused):
            handover.repair(session, keep="database", user=user)


# -- for jobs, events and signals ------------------------------------------------------------------


def probe_due() -> None:
    """Probe all due instances, several at a time; a slow one does not block the others."""
    deadline, polled = time.monotonic() + ROUND_SECONDS, set[int]()
    while time.monotonic() < deadline and (ids := _claim(polled)):
        polled.update(ids)
        _probe_all(ids, polled)


def probe_server(url: str) -> None:
    """Ask the instances of one server whose time has come: something showed that it may be away.

    What is still due after ROUND_SECONDS is left to `probe_due`.
    """
    deadline, polled = time.monotonic() + ROUND_SECONDS, set[int]()
    while time.monotonic() < deadline and (ids := _claim(polled, url=url)):
        polled.update(ids)
        _probe_all(ids, polled)


def probe(session_id: int) -> Observation | None:
    """Poll one instance, store the observation and run the recovery action, if any.

    Returns the observation, or None if the channel is not configured.
    """
    session = _configured(session_id)
    if session is None:
        return None
    polled_at = timezone.now()
    linking = (
        session.connection.linking_since is not None
        and session.connection.linking_since > polled_at - LINKING_FOR
    )
    # A code may be displayed that no event reported: ask for it before calling it a failure.
    _lease(session, polled_at)
    observation = _poll(
        session,
        with_code=linking
        or (session.connection.keep_connected and _connecting_long(session, polled_at)),
    )
    action = _record_observation(session, observation, polled_at=polled_at)
    if observation.picture_url or (
        observation.picture_url is not None and observation.connection == "open"
    ):
        pictures.store(session, observation.picture_url)
    if action != RecoveryAction.NONE:
        _run_recovery_action(session, action)
    return observation


def _connecting_long(session: WhatsAppSession, now: dt.datetime) -> bool:
    if session.connection.state != State.STARTING or session.connection.state_changed_at is None:
        return session.connection.state_code == "dialling_long"
    return session.connection.state_changed_at <= now - DIALLING_FOR


def request_poll(channel: Channel, *, qr_digest: str = "") -> None:
    """Poll now after an event. `qr_digest` is the digest of the displayed code."""
    with transaction.atomic():
        row = _locked(channel.pk)
        if row is None:
            return
        if qr_digest:
            _record_code(row, qr_digest)
        # The linked phone may have changed.
        row.next_poll_at = row.number_checked_at = None
        row.save()
        queue.enqueue_probe(row.channel.session.pk)


def record_rejection(connection: Connection, code: str, **kwargs: Any) -> None:
    """Signal receiver: a send failed because the instance is not connected or did not answer.

    If its state is open nevertheless, the connection behind it is dead (§4, issues 1398 and
    2403), or the server is down.
    """
    if connection.provider == PROVIDER:
        react = _record_rejection if code == "instance_not_connected" else _probe_after_no_answer
        # Run after the message's lock is released.
        transaction.on_commit(partial(react, connection.channel), robust=True)


def _probe_after_no_answer(channel: Channel) -> None:
    for session_id in WhatsAppSession.objects.filter(channel=channel).values_list("pk", flat=True):
        request_probe(session_id)


def _record_rejection(channel: Channel) -> None:
    with transaction.atomic():
        row = _locked(channel.pk)
        if row is None:
            return
        is_open = row.server_state == Connection.ServerState.OPEN
        if is_open and row.dead_since is None:
            row.dead_since = timezone.now()
        row.next_poll_at = None
        row.save()
        queue.enqueue_probe(row.channel.session.pk)


def record_success(connection: Connection, **kwargs: Any) -> None:
    """Signal receiver: a send succeeded after failures, so the connection works."""
    if connection.provider == PROVIDER:
        transaction.on_commit(partial(_record_success, connection.channel_id), robust=True)


def _record_success(channel_id: int) -> None:
    dead = WhatsAppSession.objects.filter(
        channel=channel_id, channel__connections__dead_since__isnull=False
    )
    for session in dead.select_related("channel__evolution"):
        _command(session, dead_since=None)
        queue.enqueue_probe(session.pk)


def channel_saved(channel: Channel, before: Channel | None, **kwargs: Any) -> None:
    """Signal receiver: changed settings may invalidate the stored state. In a transaction."""
    if before is not None and not channel.differs_from(before, _SETTINGS):
        return
    row = _locked(channel.pk)
    if row is None:
        return
    address = f"{channel.evolution_url} {channel.instance_name}"
    if row.address != address:
        if row.address:
            _reset(row)
        row.address = address
        row.state, row.state_code, row.state_detail = State.DISCONNECTED, "unchecked", ""
    if not channel.active:
        row.serving = False
        incidents.close_silently(row)
    row.commanded_at, row.next_poll_at = timezone.now(), None
    row.save()
    _publish(row)
    if channel.active and _is_configured(channel):
        queue.enqueue_probe(row.channel.session.pk)


def _reset(row: Connection) -> None:
    """Clear the stored state: it describes another instance."""
    row.keep_connected = row.serving = False
    row.linking_since = row.quiet_until = row.dead_since = row.recovery_attempted_at = (
        row.closed_since
    ) = None
    row.last_ready_at = row.last_drop_at = row.qr_seen_at = None
    row.channel.session.opened_at = row.channel.session.backlog_since = None
    row.local_reason = row.own_number = row.profile_name = row.last_drop_reason = row.qr_digest = ""
    row.recovery_attempts = 0
    row.server_state = Connection.ServerState.UNKNOWN
    row.server_state_reason = ""
    row.number_checked_at = None
    row.takes_message_ids = False
    pictures.forget(row)
    number_confirmation.record_linked(row, "")
    incidents.close_silently(row)
    row.channel.session.save(update_fields=_RECEIVING_FIELDS)


# -- polling and storing ---------------------------------------------------------------------------


def _poll_and_store(session: WhatsAppSession, *, with_code: bool = False) -> Observation:
    """Ask and write down; what could be mended without a person is left to the next probe."""
    polled_at = timezone.now()
    _lease(session, polled_at)
    observation = _poll(session, with_code=with_code)
    _record_observation(session, observation, polled_at=polled_at, recover=False)
    return observation


def _lease(session: WhatsAppSession, asked_at: dt.datetime) -> None:
    """Note that the session is being asked, so that a request for a probe meanwhile is seen."""
    not_commanded = Q(commanded_at=None) | Q(commanded_at__lte=asked_at)
    _rows(session).filter(not_commanded).update(next_poll_at=asked_at + LEASE)


def _poll(session: WhatsAppSession, *, with_code: bool = False) -> Observation:
    """Request the state and the details relevant for it. Never raises."""
    client = EvolutionLifecycle(session.credentials, timeout=ASK_SECONDS)
    try:
        observation = Observation(connection=client.state())
        if observation.connection == "connecting" and with_code:
            # While it is connecting, this only returns the displayed code (§4).
            return _observation_from(client.connect())
        if _needs_row(session, observation):
            return _with_row(observation, client.row(), session)
    except EvolutionFailed as error:
        if error.code == "instance_missing":
            error = _why_missing(client, error)
        return Observation(trouble=error.reason, detail=_detail(error))
    return observation


def _why_missing(client: EvolutionLifecycle, error: EvolutionFailed) -> EvolutionFailed:
    """Check the key: a missing name is reported without one, the instance list requires it."""
    try:
        client.row()
    except EvolutionFailed as other:
        if other.code == "wrong_key":
            return EvolutionFailed("wrong_key", reason="key_cannot_create", told=other.told)
    return error


def _needs_row(session: WhatsAppSession, observation: Observation) -> bool:
    if observation.connection == "open":
        checked = session.connection.number_checked_at
        stale = checked is None or checked < timezone.now() - NUMBER_EVERY
        is_fresh = _is_freshly_linked(session, timezone.now())
        return (
            stale
            or is_fresh
            or session.connection.state != State.READY
            or not session.connection.own_number
        )
    return observation.connection == "close" or session.connection.state_code == "unchecked"


def _is_freshly_linked(session: WhatsAppSession, now: dt.datetime) -> bool:
    """Whether the server's row may still name the phone before: it is written after the opening."""
    linked_at = session.history_before
    return linked_at is not None and now < linked_at + LINK_MARGIN + FRESHLY_LINKED


def _with_row(observation: Observation, row: Row, session: WhatsAppSession) -> Observation:
    if not row.is_baileys:
        return Observation(trouble="other_integration")
    ended_with = row.ended_with
    if (
        ended_with is not None
        and row.ended_at is not None
        and session.connection.last_ready_at is not None
    ):
        # The reason for an earlier disconnection stays in the row after relinking.
        ended_with = ended_with if row.ended_at > session.connection.last_ready_at - SKEW else None
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


def _record_observation(
    session: WhatsAppSession,
    observation: Observation,
    *,
    polled_at: dt.datetime,
    recover: bool = True,
) -> RecoveryAction:
    """Store an observation unless it is outdated, and return the recovery action to run.

    It is outdated if it was requested before a command or before the stored observation. The
    returned action counts as started.
    """
    with transaction.atomic():
        row = _locked(session.channel_id)
        if row is None or any(at and at > polled_at for at in (row.commanded_at, row.checked_at)):
            return RecoveryAction.NONE
        if row.channel.differs_from(session.channel, _SETTINGS):
            return RecoveryAction.NONE
        now = timezone.now()
        derived = _apply_observation(row, observation, now)
        row.checked_at = polled_at
        context = RecoveryContext(
            wanted=row.keep_connected and row.channel.active and recover,
            tries=row.recovery_attempts,
            tried_at=row.recovery_attempted_at,
            closed_since=row.closed_since,
            left_closed=observation.ended_with in LEFT_CLOSED,
        )
        action = recovery_action_for(derived, context, now=now)
        if action != RecoveryAction.NONE:
            row.recovery_attempts, row.recovery_attempted_at = row.recovery_attempts + 1, now
        row.save()
        row.channel.session.save(update_fields=_RECEIVING_FIELDS)
        return action


def end_of_history(channel: Channel) -> dt.datetime | None:
    """Return the time before which a message of this channel is history; None if unknown.

    A new link delivers the messages of days or years as messages.set
    (docs/providers/evolution.md §10.4), and Evolution stores them like all others. Age does not
    distinguish them from messages delayed by an outage, so the time of the link decides. Older
    messages were handled on the phone; newer ones were sent to a linked instance. While a code is
    displayed, the link is still to come. An instance that was taken over already linked has no
    link time; then only messages that Evolution marks as history count.
    """
    session = WhatsAppSession.objects.filter(channel=channel).first()
    if session is None:
        return None
    row = session.connection
    shown_at = row.qr_seen_at if row.qr_digest and row.state != State.READY else None
    link = shown_at - LINK_MARGIN if shown_at else None
    return max(filter(None, [session.history_before, link]), default=None)


def is_linking(row: Connection) -> bool:
    """Return whether the last poll was still waiting for a phone to be linked.

    A command to connect proves nothing if a phone was linked before: usually the login still
    exists and no code is shown.
    """
    waits = row.state in (State.QR, State.PAIRING)
    never_linked = row.linking_since is not None and row.last_ready_at is None
    return waits or bool(row.qr_digest) or never_linked


def _apply_observation(row: Connection, observation: Observation, now: dt.datetime) -> DerivedState:
    was_linking = is_linking(row)
    if has_recovered(row.state, row.state_changed_at, now=now):
        row.recovery_attempts, row.recovery_attempted_at = 0, None
    if observation.connection == "open" and row.server_state != "open" and not was_linking:
        row.channel.session.note_opening(now)
    _record_connection(row, observation, now)
    if observation.qr:
        _record_code(row, hashlib.sha256(observation.qr.encode()).hexdigest())
    incident = incidents.open_incident(row)
    # If no phone was ever linked, none can be missing.
    was_linked = incident is not None and row.last_ready_at is not None
    known = _known(row, now, dropped=row.serving or was_linked)
    if observation.qr and not known.shown:
        # The server keeps reporting the last code after it was scanned or has expired.
        observation = replace(observation, qr="")
    if observation.own_number is not None:
        row.number_checked_at = now
        row.own_number = observation.own_number or row.own_number
        row.profile_name = observation.profile_name or ""
        if observation.own_number or not row.linked_number:
            # Not the number known before: it may be that of the phone before.
            number_confirmation.record_linked(row, observation.own_number)
        known = replace(
            known,
            unconfirmed=row.unconfirmed_number,
            unknown=row.is_number_unknown,
        )
    derived = derive(observation, known, now=now)
    if observation.connection in ("open", "close") or derived.code in (
        "no_instance",
        "instance_gone",
    ):
        row.qr_digest, row.qr_seen_at = "", None
        if row.linking_since and derived.state != State.STARTING:
            row.linking_since = None
    row.closed_since = (row.closed_since or now) if observation.connection == "close" else None
    is_new_link = was_linking and not row.serving and row.state_code not in (UNCONFIRMED, UNKNOWN)
    if is_new_link and (derived.state == State.READY or derived.code in (UNCONFIRMED, UNKNOWN)):
        row.channel.session.history_before = now - LINK_MARGIN
        # What the link brings is history, not a backlog.
        row.channel.session.backlog_since = None
    if derived.code == UNCONFIRMED:
        row.keep_connected, row.last_ready_at, row.linking_since = True, now, None
    if derived.state == State.READY:
        derived = replace(derived, code=_ready_code(row, incident))
        _record_ready(row, now)
    elif row.serving and not (row.quiet_until and now < row.quiet_until):
        _record_drop(row, derived, now)
    elif derived.state in (State.QR, State.DISCONNECTED) and row.last_ready_at is None:
        # It dials after all, or has given up; no phone was ever linked that could be missed.
        incidents.mark_recovered(row, at=now)
    elif incident is not None and incident.recovered_at is None:
        reason = drop_reason(derived)
        incidents.observed(row, reason=reason, detail=derived.detail, at=now)
    elif row.keep_connected and row.channel.active and needs_person(derived):
        incidents.open_or_update(row, reason=drop_reason(derived), detail=derived.detail, at=now)
    _store_state(row, derived, now)
    delay = next_poll_delay(
        derived.state,
        wanted=row.keep_connected,
        lasting=now - (row.state_changed_at or now),
        chance=random.random(),  # noqa: S311
    )
    if row.server_state == Connection.ServerState.OPEN and _is_freshly_linked(
        row.channel.session, now
    ):
        delay = min(delay, FRESH_POLL_SECONDS)
    if row.next_poll_at is not None:
        # Who asks leaves a lease there: None was written meanwhile, by one who wants it asked anew.
        row.next_poll_at = now + dt.timedelta(seconds=delay)
    return derived


def _ready_code(row: Connection, incident: Incident | None) -> str:
    was_ready = row.state == State.READY
    commanded = row.commanded_at
    return ready_code(
        before=row.state_code if was_ready else "",
        absence=incident.server_absence if incident is not None and not was_ready else "",
        by_itself=incident is not None and (commanded is None or commanded < incident.opened_at),
    )


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


def _record_connection(row: Connection, observation: Observation, now: dt.datetime) -> None:
    """Record the connection state reported by the server; events report it, too."""
    if observation.connection != "open":
        row.dead_since = None
    if observation.connection in ("open", "connecting"):
        row.local_reason = ""
    reported = (
        observation.connection
        if observation.connection in Connection.ServerState.values
        else "unknown"
    )
    if row.server_state != reported:
        row.server_state, row.server_state_reason, row.server_state_changed_at = reported, "", now


def _record_code(row: Connection, digest: str) -> None:
    if digest != row.qr_digest:
        row.qr_digest, row.qr_seen_at = digest, timezone.now()
        # Pages that display the code fetch the new one.
        _publish(row)


def _record_ready(row: Connection, now: dt.datetime) -> None:
    row.keep_connected = row.serving = True
    row.last_ready_at = now
    row.linking_since = row.quiet_until = None
    incidents.mark_recovered(row, at=now)


def _record_drop(row: Connection, derived: DerivedState, now: dt.datetime) -> None:
    row.serving = False
    if not row.keep_connected:
        return
    reason = drop_reason(derived)
    log.warning("instance disconnected", instance=row.channel.instance_name, reason=reason)
    row.last_drop_at, row.last_drop_reason = now, reason[:40]
    incidents.open_or_update(row, reason=reason, detail=derived.detail, at=now)


def _store_state(row: Connection, derived: DerivedState, now: dt.datetime) -> None:
    """Set the state on the row and, if it changed, update open pages."""
    if is_unlinked(derived.state, derived.code):
        number_confirmation.record_linked(row, "")
    before = (row.state, row.state_code, row.state_detail)
    row.state, row.state_code, row.state_detail = (
        derived.state.value,
        derived.code[:40],
        derived.detail[:300],
    )
    if before == (row.state, row.state_code, row.state_detail):
        return
    if before[0] != row.state or before[1] == "unchecked":
        row.state_changed_at = now
    if derived.state in (State.READY, State.ERROR, State.DISCONNECTED):
        ok = derived.state == State.READY
        row.record_health(ok=ok, detail="" if ok else encode_reason(derived.code, derived.detail))
    _publish(row)


def _save_state(session: WhatsAppSession, derived: DerivedState) -> None:
    """Store the state that resulted from our own command."""
    with transaction.atomic():
        row = _locked(session.channel_id)
        if row is not None:
            _store_state(row, derived, timezone.now())
            row.save()


def _run_recovery_action(session: WhatsAppSession, action: RecoveryAction) -> None:
    log.warning("instance recovery started", instance=session.name, action=action.value)
    client = EvolutionLifecycle(session.credentials)
    with contextlib.suppress(EvolutionFailed):
        if action == RecoveryAction.RESTART:
            client.restart()
        else:
            client.connect()
    # If it is still dead, the next send reports it again.
    _command(session, dead_since=None)


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


def _store_and_raise(session: WhatsAppSession, error: EvolutionFailed) -> NoReturn:
    """Store the failure of a command and raise SessionRefused."""
    code, detail = error.reason, _detail(error)
    derived = DerivedState(
        State.DISCONNECTED if code == "name_taken" else State.ERROR, code, detail
    )
    _save_state(session, derived)
    raise _refused(code, detail) from None


def _detail(error: EvolutionFailed) -> str:
    """Return the server's own message if our code does not cover it."""
    return error.told[:300] if error.reason == "refused_request" else ""


# -- helpers ---------------------------------------------------------------------------------------


def _locked(channel_id: int) -> Connection | None:
    """Lock and return the instance's current row; None without a session. In a transaction.

    `row.channel.session` is locked as well: events write the same columns of it.
    """
    row = Connection.objects.lock(channel_id, PROVIDER)
    session = WhatsAppSession.objects.lock(channel_id=channel_id)
    if row is None or session is None:
        return None
    session.channel = row.channel
    return row


def _rows(session: WhatsAppSession) -> QuerySet[Connection]:
    return Connection.objects.filter(channel=session.channel_id, provider=PROVIDER)


def _command(session: WhatsAppSession, *, quiet: bool = False, **values: Any) -> None:
    """Record our own command with these values; observations requested earlier are outdated."""
    now = timezone.now()
    values |= {"commanded_at": now, "next_poll_at": now + dt.timedelta(seconds=1)}
    if quiet:
        values["quiet_until"] = now + QUIET_FOR
    _rows(session).update(**values)


def _current(session: WhatsAppSession) -> ConnectionState:
    """Refresh the caller's session and return its stored state."""
    session.refresh_from_db()
    session.channel = Channel.objects.get(pk=session.channel_id)
    return stored(session)


def _publish(row: Connection) -> None:
    """Update the pages of the instance, its channel and the channels that fall back to it."""
    live.session_changed(row.channel.session)
    dependents = Channel.objects.filter(fallback_routes__connection=row)
    for channel in (row.channel, *dependents):
        signals.session_changed.send(sender=Connection, channel=channel)


def _client(session: WhatsAppSession) -> EvolutionLifecycle:
    if not _is_configured(session.channel):
        raise SessionRefused("not_configured", describe("not_configured"))
    return EvolutionLifecycle(session.credentials)


def _is_configured(channel: Channel) -> bool:
    is_baileys = channel.kind == Channel.Kind.BAILEYS
    return is_baileys and channel.has_evolution


def _refused(code: str, detail: str = "") -> SessionRefused:
    field = field_for_code(code, evolution=True)
    return SessionRefused(code, describe(code, detail), status=502, field=field)


def _is_gone(client: EvolutionLifecycle) -> bool:
    try:
        client.state()
    except EvolutionFailed as error:
        return error.code == "instance_missing"
    return False


def _wait(reached: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True


def _claim(
    polled: Collection[int] = (), *, url: str = "", limit: int | None = PROBES_AT_A_TIME
) -> list[int]:
    """Take due sessions, so that no other worker asks them meanwhile; those wanted at once first.

    No more than are polled at a time: the lease begins with the question, and outlasts it. Those
    that were `polled` in this round wait for the next one. `url`: of this server only.
    """
    now = timezone.now()
    with transaction.atomic():
        due = Connection.objects.select_for_update(skip_locked=True, of=("self",)).filter(
            Q(next_poll_at=None) | Q(next_poll_at__lte=now),
            provider=PROVIDER,
            channel__session__isnull=False,
            channel__active=True,
        )
        if url:
            due = due.filter(channel__evolution__url=url)
        due = due.exclude(channel__session__in=polled)
        due = due.order_by(F("next_poll_at").asc(nulls_first=True))
        claimed = list(due.values_list("pk", "channel__session")[:limit])
        Connection.objects.filter(pk__in=[pk for pk, _session in claimed]).update(
            next_poll_at=now + LEASE
        )
    return [session_id for _pk, session_id in claimed]


def _probe_all(ids: list[int], polled: set[int]) -> None:
    """Probe these instances, PROBES_AT_A_TIME at once, and add others polled too to `polled`.

    One instance of each server is probed first. If it shows that the server is down, the result is
    stored for all others that are due without polling them, so a dead server costs one request, not
    one for each instance.
    """
    servers: dict[str, list[int]] = {}
    due = WhatsAppSession.objects.filter(pk__in=ids).order_by("pk")
    for session_id, url in due.values_list("pk", "channel__evolution__url"):
        servers.setdefault(url, []).append(session_id)
    if not servers:
        return
    with ThreadPoolExecutor(max_workers=PROBES_AT_A_TIME) as pool:
        running = {
            pool.submit(_run, partial(_probe_first, url, mine, polled))
            for url, mine in servers.items()
        }
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_run, step) for one in done for step in one.result()}


# A step of `_probe_all`; it returns the steps to run next.
_Step = Callable[[], "list[_Step]"]


def _run(step: _Step) -> list[_Step]:
    try:
        return step()
    except Exception as error:
        log.exception("probe failed", error=type(error).__name__)
        return []
    finally:
        database.close()


def _probe_first(url: str, ids: list[int], polled: set[int]) -> list[_Step]:
    """Ask one instance of a server, or two where the first gave no answer."""
    polled_at, rest = timezone.now(), ids[1:]
    observation = probe(ids[0])
    second = None
    if observation is not None and observation.trouble in SERVER_SILENT and rest:
        second, rest = probe(rest[0]), rest[1:]
    if observation is not None and applies_to_server(observation, second):
        others = _claim(polled, url=url, limit=None)
        polled.update(others)
        rest += others
        return [partial(_record_for_server, other, observation, polled_at) for other in rest]
    return [partial(_probe_one, other) for other in rest]


def _probe_one(session_id: int) -> list[_Step]:
    probe(session_id)
    return []


def _record_for_server(
    session_id: int, observation: Observation, polled_at: dt.datetime
) -> list[_Step]:
    """Store for an instance what another instance showed about their server."""
    session = _configured(session_id)
    if session is not None:
        _record_observation(session, observation, polled_at=polled_at)
    return []


def _configured(session_id: int) -> WhatsAppSession | None:
    session = (
        WhatsAppSession.objects.select_related("channel__evolution").filter(pk=session_id).first()
    )
    return session if session is not None and _is_configured(session.channel) else None
