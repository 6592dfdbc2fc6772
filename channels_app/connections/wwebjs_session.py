"""The wwebjs-api session of an official channel's fallback: connect, QR, ready, disconnect.

For entry points: `stored_state` (no network), `state`, `connect`, `disconnect`, `qr`,
`pairing_code`, `docker_command`. For jobs: `probe_due`, `probe`, `begin`, `end_again`. For the
callback handler: `handle_callback`.

The server is polled without a lock. The observation is then stored under the lock of the channel's
row, unless a newer command or a change of settings superseded it. A start runs in a job, because it
blocks until the page has loaded; until its outcome is known the session counts as starting.
Automatic starts are few (`states.recovery_action_for`): a failed one leaves a whole browser behind.
Recovery closes the browser and starts a new one, because the server's own restart blocks while a
page is crashed or frozen (docs/providers/wwebjs.md §7.1).

A session that a person ended stays ended: if it comes up again, after a start in progress or with
its server, it is ended again in the requested way.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import random
import re
import shlex
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import segno
import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app import queue
from channels_app.connections import circuit_breaker, number_confirmation
from channels_app.connections.linked_numbers import UNCONFIRMED, is_unlinked
from channels_app.connections.number_confirmation import ConfirmationRefused
from channels_app.connections.states import (
    FAST_POLL_SECONDS,
    MAX_SLOW_CHECKS,
    MISSING_FOR,
    RecoveryAction,
    RecoveryContext,
    drop_reason,
    has_recovered,
    next_poll_delay,
    ready_code,
    recovery_action_for,
)
from channels_app.incidents import incidents
from channels_app.incidents.reason_text import describe, field_for_code
from channels_app.models import Channel, Connection, Incident, Provider, WwebjsCredentials
from channels_app.providers.sessions import DerivedState, State
from channels_app.providers.wwebjs.session import SessionError, StartOutcome, WwebjsSessions
from channels_app.providers.wwebjs.states import (
    SYNC_LIMIT,
    Observation,
    derive,
    recovers_by_restart,
)
from channels_app.signals import session_changed
from core.phone_numbers import other_brazilian_form

log = structlog.get_logger(__name__)

PROVIDER = Provider.WWEBJS
# The longest start that was measured took 180 s (docs/providers/wwebjs.md §2).
START_WINDOW = dt.timedelta(seconds=200)
# After this time without a link, a request to connect starts a new browser.
OPENING_FOR = dt.timedelta(seconds=60)
# A callback's reason explains a drop that is detected within this time.
CALLBACK_REASON_VALID_FOR = dt.timedelta(minutes=2)
# A claimed probe without a result is due again after this time.
LEASE = dt.timedelta(seconds=30)
MAX_CONCURRENT_PROBES = 8
# After a new link in the same browser, the page reports the previous number until it has loaded.
# The same number counts once it was reported for this long; the session is polled fast until
# SYNC_LIMIT.
LINGERS_FOR = dt.timedelta(seconds=10)
# The server may still be executing a command for this long.
SETTLING = dt.timedelta(seconds=20)
# A round claims no more sessions after this time: other jobs of the worker's queue wait.
ROUND_SECONDS = 10.0
_LINKED = (State.QR, State.PAIRING, State.CONNECTED, State.READY)


class SessionRefused(Exception):
    """The request cannot be carried out now. `str()` says why, in the active language.

    `status` and `code` are the HTTP status and code of the REST contract. `field` is the channel's
    setting (or the argument) to correct, or "".
    """

    def __init__(self, code: str, text: str, *, status: int = 409, field: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.field = field


@dataclass(frozen=True, slots=True)
class SessionState:
    """The state of a session for display. `detail` is a sentence in the active language.

    `code` is the stable reason behind it. `field` names the setting that causes the problem.
    `own_number` is the linked number, digits only, and survives a drop. `qr_seen_at` is when the
    current code was first observed.
    """

    state: str
    code: str
    detail: str
    since: dt.datetime | None = None
    checked_at: dt.datetime | None = None
    own_number: str = ""
    field: str = ""
    last_drop_at: dt.datetime | None = None
    last_drop_reason: str = ""
    qr_seen_at: dt.datetime | None = None
    unconfirmed_number: str = ""


@dataclass(frozen=True, slots=True)
class QrCode:
    """A code to scan. `seen_at` is when we first observed it; the server reports no age."""

    text: str
    svg: str
    seen_at: dt.datetime
    age_seconds: float


# -- for entry points ------------------------------------------------------------------------------


def stored_state(channel: Channel) -> SessionState:
    """Return the last observed state. Makes no network call."""
    if not channel.has_wwebjs:
        return _not_configured()
    row = channel.wwebjs
    code = row.state_code
    return SessionState(
        state=row.state,
        code=code,
        detail=describe(code, row.state_detail),
        since=row.state_changed_at,
        checked_at=row.checked_at,
        own_number=row.own_number,
        field=field_for_code(code),
        last_drop_at=row.last_drop_at,
        last_drop_reason=describe(row.last_drop_reason),
        qr_seen_at=row.qr_seen_at,
        unconfirmed_number=row.unconfirmed_number if code == UNCONFIRMED else "",
    )


def state(channel: Channel) -> SessionState:
    """Poll the server now; store and return the state. Server errors are never raised.

    Takes 5 s at most. Do not call it inside a transaction.
    """
    if not channel.has_wwebjs:
        return _not_configured()
    return _poll(channel)[1]


def connect(channel: Channel) -> SessionState:
    """Start the session if it is down, and keep it connected. Returns the new state.

    The start itself runs in a job, so the result is usually "starting". A start in progress is not
    repeated. Raises SessionRefused (409 not_configured; 502 with the field to correct if the server
    cannot be reached).
    """
    _require_settings(channel)
    observed = _poll(channel)[1]
    with transaction.atomic():
        row = _locked(channel)
        now = timezone.now()
        row.keep_connected, row.unlink_failed = True, False
        row.stopped, row.unlink_requested_at = False, None
        row.recovery_attempts, row.recovery_attempted_at = 0, None
        action = _connect_action(row, now)
        if action is not None:
            _request_start(row, restart=action == RecoveryAction.RESTART, now=now)
        row.save()
    if action is None and observed.state == State.ERROR and observed.code != UNCONFIRMED:
        raise SessionRefused(observed.code, observed.detail, status=502, field=observed.field)
    return _current(channel)


def disconnect(channel: Channel, *, unlink: bool = True) -> SessionState:
    """End the session and keep it ended; with `unlink`, also unlink the phone.

    Without `unlink` the login stays on the server, so that connecting needs no new code; if the
    session comes up automatically, it is stopped again. A session that the server does not have
    cannot be unlinked yet: the state's code is then "unlinking" during a start, else "not_running",
    and it is unlinked when it comes up, unless somebody connects it first. Raises SessionRefused
    (409 not_configured; 502 if the server did not do it).
    """
    _require_settings(channel)
    with transaction.atomic():
        # Whatever the outcome of the call, nothing may start the session again.
        row = _locked(channel)
        was_starting = row.start_requested_at is not None
        now = timezone.now()
        row.keep_connected, row.stopped = False, not unlink
        row.unlink_requested_at = now if unlink else None
        row.start_requested_at = None
        row.commanded_at = now
        row.save()
        incidents.close_silently(row)
    client = _client(channel)
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
        _rows(channel).update(next_poll_at=None, unlink_requested_at=None, unlink_failed=unlink)
        raise _refused(error) from None
    _record_end(channel, code)
    return _current(channel)


# What a person's commands write.
_COMMANDED = (
    "keep_connected", "stopped", "unlink_requested_at", "unlink_failed", "start_requested_at",
    "local_reason", "local_reason_detail",
)  # fmt: skip


@contextmanager
def unchanged_if_refused(channel: Channel) -> Iterator[None]:
    """Restore what was stored of the session where the block raises SessionRefused.

    Nothing of a refused `disconnect` is carried out later then. Not where somebody connected the
    session meanwhile.
    """
    before = _rows(channel).select_related("channel").first()
    incident = incidents.open_incident(before) if before is not None else None
    try:
        yield
    except SessionRefused:
        with transaction.atomic():
            row = _locked(channel)
            if before is not None and not row.keep_connected:
                for name in _COMMANDED:
                    setattr(row, name, getattr(before, name))
                row.commanded_at, row.next_poll_at = timezone.now(), None
                derived = DerivedState(State(before.state), before.state_code, before.state_detail)
                _store_state(row, derived, timezone.now())
                if incident is not None:
                    incidents.reopen(incident)
        raise


def _record_end(channel: Channel, code: str) -> None:
    """Write down that the session was ended, and how. Not where somebody connected it meanwhile."""
    with transaction.atomic():
        row = _locked(channel)
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
        _store_state(row, DerivedState(state, code), now)


def confirm_number(channel: Channel, number: str, *, user_id: int | None = None) -> SessionState:
    """Record a person's confirmation of the linked number, and poll again.

    `number` is the one shown to the person. Raises SessionRefused (409 not_configured, or
    nothing_to_confirm if no number or a different one is awaiting confirmation).
    """
    _require_settings(channel)
    try:
        number_confirmation.confirm(channel, PROVIDER, number, user_id=user_id)
    except ConfirmationRefused as error:
        raise SessionRefused("nothing_to_confirm", str(error)) from None
    return state(channel)


def qr(channel: Channel) -> QrCode:
    """Return the code that can be scanned now, drawn as SVG.

    An expired code is never returned: the session is restarted instead. Raises SessionRefused
    (409 qr_not_ready or not_configured; 502 if the server cannot be reached).
    """
    _require_settings(channel)
    observation, observed = _poll(channel)
    if observed.state == State.QR and observation.qr:
        seen_at = observed.qr_seen_at or timezone.now()
        age = max((timezone.now() - seen_at).total_seconds(), 0.0)
        return QrCode(observation.qr, draw(observation.qr), seen_at, age)
    if observed.code == "qr_expired":
        _replace_expired_qr(channel)
    elif field_for_code(observed.code):
        raise SessionRefused(observed.code, observed.detail, status=502, field=observed.field)
    raise SessionRefused("qr_not_ready", _("The QR code is not ready or has been scanned already"))


def draw(text: str) -> str:
    """Return a QR code as an SVG element without a fixed size, always black on white."""
    code = segno.make(text, error="l", boost_error=False, micro=False)
    return str(code.svg_inline(border=4, omitsize=True, dark="#000", light="#fff", svgclass="qr"))


def pairing_code(channel: Channel, phone_number: str) -> str:
    """Return the code to enter on the phone instead of scanning.

    Raises SessionRefused (400 invalid_number; 409 qr_not_ready if the session is not waiting for a
    phone, or not_configured; 502 if the server returned no code).
    """
    _require_settings(channel)
    digits = re.sub(r"[\s().+-]", "", phone_number)
    if not re.fullmatch(r"[1-9]\d{7,14}", digits):
        raise _invalid_number()
    observed = _poll(channel)[1]
    if observed.state != State.QR:
        if field_for_code(observed.code):
            raise SessionRefused(observed.code, observed.detail, status=502, field=observed.field)
        raise SessionRefused("qr_not_ready", _("The session is not waiting for a phone."))
    try:
        return _client(channel).pairing_code(digits)
    except SessionError as error:
        if error.code == "invalid_recipient":
            raise _invalid_number() from None
        raise _refused(error) from None


KEY_PLACEHOLDER = "********"
# The value in the project's requirements, verbatim.
_DOCUMENTED = (
    "auth_failure|authenticated|call|change_state|disconnected|group_join|group_leave|group_update"
    "|loading_screen|media_uploaded|message|message_ack|message_create|message_reaction"
    "|message_revoke_everyone|qr|ready|contact_changed"
)
# Further callbacks that the server can send (docs/providers/wwebjs.md §4).
_UNDOCUMENTED = (
    "chat_archived|chat_removed|code|group_admin_changed|group_membership_request|media"
    "|message_ciphertext|message_edit|message_revoke_me|unread_count|vote_update"
)
_REQUIRED = ("auth_failure", "change_state", "disconnected", "message_ack", "qr", "ready")


def docker_command(channel: Channel, *, callbacks: bool, reveal: bool = False) -> str:
    """Return the command that installs the server for this channel.

    Without `callbacks` it is the command of the requirements. With them, it enables the callbacks
    that Alterna needs: messages typed on the phone only if this channel shows them; customers'
    messages only if the linked number is known to differ from the channel's, because otherwise the
    Cloud API reports them. It contains the key only with `reveal`, which requires the permission to
    change the channel and an explicit request.
    """
    disabled = _DOCUMENTED
    if callbacks:
        enabled = _enabled_callbacks(channel)
        known = f"{_DOCUMENTED}|{_UNDOCUMENTED}".split("|")
        disabled = "|".join(name for name in known if name not in enabled)
    key = channel.wwebjs_api_key if reveal and channel.wwebjs_api_key else KEY_PLACEHOLDER
    variables = [
        "ENABLE_LOCAL_CALLBACK_EXAMPLE=FALSE",
        "MAX_ATTACHMENT_SIZE=10000000",
        "SET_MESSAGES_AS_SEEN=FALSE",
        f"DISABLED_CALLBACKS={disabled}",
        "ENABLE_SWAGGER_ENDPOINT=FALSE",
        "PUPPETEER_SKIP_CHROMIUM_DOWNLOAD=TRUE",
        "NODE_ENV=production",
        f"API_KEY={key}",
        f"BASE_WEBHOOK_URL={webhook_url(channel)}" if callbacks else "ENABLE_WEBHOOK=FALSE",
        "PORT=3000",
    ]
    lines = ["docker run -d", "--name wwebjs_api", f"-p {_port(channel)}:3000", "--restart=always"]
    lines += [f"-e {_quoted(variable)}" for variable in variables]
    return " \\\n  ".join([*lines, "avoylenko/wwebjs-api"])


def _enabled_callbacks(channel: Channel) -> set[str]:
    enabled = {*_REQUIRED}
    if not channel.ignore_messages_sent_outside:
        enabled |= {"message_create", "media"}
    linked, expected = channel.wwebjs.own_number, re.sub(r"\D", "", channel.phone_number)
    if linked and linked not in (expected, other_brazilian_form(expected)):
        enabled |= {"message", "media"}
    return enabled


# Verbatim from the requirements; the command above follows them.
UPDATE_COMMANDS = "docker pull avoylenko/wwebjs-api\ndocker rm -f wwebjs_api"


def is_webhook_local() -> bool:
    """Return whether callbacks would go to localhost, which no container can reach."""
    host = urlsplit(settings.PUBLIC_URL).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def webhook_url(channel: Channel) -> str:
    """Return the URL to which the server posts its callbacks."""
    return f"{settings.PUBLIC_URL}/api/webhooks/wwebjs/{channel.pk}"


# -- for jobs and signals --------------------------------------------------------------------------


def probe_due() -> None:
    """Poll all due sessions, several at a time; a slow session does not delay the others."""
    _adopt_unobserved()
    deadline, polled = time.monotonic() + ROUND_SECONDS, set[int]()
    while time.monotonic() < deadline and (ids := _claim(polled)):
        _for_each(probe, ids)
        polled.update(ids)


def _adopt_unobserved() -> None:
    """Start observing the sessions of channels that were written without `save_channel`."""
    observed = Connection.objects.filter(provider=PROVIDER).exclude(address="")
    unobserved = Channel.objects.filter(fallback_routes__connection__provider=PROVIDER)
    for channel in unobserved.exclude(pk__in=observed.values("channel_id")):
        with transaction.atomic():
            settings_saved(channel, None)


def probe(channel_id: int) -> None:
    """Poll one session and store the observation."""
    channel = Channel.objects.filter(pk=channel_id).first()
    if channel is not None and channel.has_wwebjs:
        _poll(channel)


def begin(channel_id: int, *, restart: bool) -> None:
    """Carry out a requested start. Blocks while the server does.

    `restart`: close the existing browser first. Does nothing if the start is no longer requested.
    """
    channel = Channel.objects.filter(pk=channel_id).first()
    if channel is None or channel.wwebjs.start_requested_at is None:
        return
    client = _client(channel)
    try:
        result = client.reopen() if restart else client.start()
        exists = result.outcome == StartOutcome.EXISTS
        if exists and recovers_by_restart(derive(client.poll()).code):
            result = client.reopen()
    except SessionError as error:
        # No start began, so no browser was left behind.
        _finish_start(channel, DerivedState(State.ERROR, error.code, error.detail), note="")
        return
    log.info("wwebjs session started", channel=channel.pk, end=result.outcome.value)
    if result.outcome == StartOutcome.FAILED:
        derived = DerivedState(State.ERROR, "start_failed", result.detail)
        _finish_start(channel, derived, note=derived.code)
    elif result.outcome in (StartOutcome.UP, StartOutcome.EXISTS):
        _end_unwanted(channel, code="stopped")
        _finish_start(channel, None, note="")
    # BUSY and NO_ANSWER: later probes detect that it is up, or START_WINDOW expires.
    probe(channel_id)


def end_again(channel_id: int) -> None:
    """End a session that is up although a person stopped or unlinked it."""
    channel = Channel.objects.filter(pk=channel_id).first()
    if channel is not None and channel.has_wwebjs:
        _end_unwanted(channel, code="stopped_again")


def _end_unwanted(channel: Channel, *, code: str) -> None:
    """End the session as requested, unless a channel uses it; `code` is recorded for a stop.

    If the server does not do it, the next probe tries again.
    """
    row = _rows(channel).filter(keep_connected=False).first()
    if row is None or _is_used_by_others(row):
        return
    client = _client(channel)
    try:
        if row.unlink_requested_at is None:
            client.stop()
        elif client.terminate():
            code = "unlinked"
        else:
            return
    except SessionError as error:
        log.warning("wwebjs session not ended", channel=channel.pk, reason=error.code)
        return
    log.info("wwebjs session ended", channel=channel.pk, end=code)
    _record_end(channel, code)


def handle_callback(channel: Channel, *, reason: str) -> None:
    """Request an immediate poll after a callback. `reason` explains a drop, or is ""."""
    with transaction.atomic():
        row = _locked(channel)
        if reason:
            row.callback_reason, row.callback_reason_at = reason[:40], timezone.now()
        row.next_poll_at = None
        row.save()
    queue.enqueue_probe(channel.pk)


def note_no_answer(connection: Connection, **kwargs: Any) -> None:
    """Signal receiver: poll the session at once after a send without a response."""
    if connection.provider == PROVIDER:
        # After commit, when the message's lock is released.
        transaction.on_commit(partial(_request_probe, connection.channel_id), robust=True)


def _request_probe(channel_id: int) -> None:
    with transaction.atomic():
        rows = Connection.objects.filter(channel=channel_id, provider=PROVIDER)
        if rows.update(next_poll_at=None):
            queue.enqueue_probe(channel_id)


def settings_saved(channel: Channel, before: Channel | None) -> None:
    """Reset what was observed if the channel has another session now. In a transaction."""
    if not channel.has_wwebjs:
        if before is not None and before.has_wwebjs:
            _forget_session(channel)
        return
    if before is not None and not channel.differs_from(before, Channel.WWEBJS_SETTINGS):
        return
    row, now = _locked(channel), timezone.now()
    address = f"{channel.wwebjs_url} {channel.wwebjs_session_id}"
    if row.address != address:
        was_another = row.address != ""
        _reset(row)
        row.address = address
        row.commanded_at = now
        _store_state(row, DerivedState(State.DISCONNECTED, "unchecked"), now)
        if was_another:
            number_confirmation.record_linked(row, "")
    row.commanded_at, row.next_poll_at = now, None
    row.save()
    circuit_breaker.settings_changed(row)


# What was observed of a session, and commanded; it does not apply to another one.
_SESSION_FIELDS = (
    "checked_at", "next_poll_at", "commanded_at", "own_number", "qr_digest", "qr_seen_at",
    "keep_connected", "recovery_attempts", "recovery_attempted_at", "local_reason",
    "local_reason_detail", "callback_reason", "callback_reason_at", "start_requested_at",
    "stopped", "unlink_requested_at", "unlink_failed", "slow_checks", "missing_since",
    "syncing_since", "page_number", "number_seen_at",
)  # fmt: skip


def _reset(row: Connection) -> None:
    """Clear what is known of the session; the incident is closed. The caller saves the row."""
    blank = Connection()
    for name in _SESSION_FIELDS:
        setattr(row, name, getattr(blank, name))
    incidents.close_silently(row)


# -- polling and recording -------------------------------------------------------------------------


def _poll(channel: Channel) -> tuple[Observation, SessionState]:
    polled_at = timezone.now()
    observation = _client(channel).poll()
    with transaction.atomic():
        _record_observation(channel, observation, polled_at)
    return observation, _current(channel)


def _record_observation(channel: Channel, observation: Observation, polled_at: dt.datetime) -> None:
    """Store an observation unless it is stale.

    It is stale if it was requested before the last command, or before the stored observation.
    """
    row = _locked(channel)
    now = timezone.now()
    if row.checked_at is not None and row.checked_at > polled_at:
        return
    if row.channel.differs_from(channel, Channel.WWEBJS_SETTINGS) or (
        row.commanded_at is not None and row.commanded_at > polled_at
    ):
        return
    number = _settled_number(row, observation, now)
    if number or (observation.ready and not row.linked_number):
        number_confirmation.record_linked(row, number)
    if _is_up_unwanted(row, observation):
        if row.commanded_at is not None and now < row.commanded_at + SETTLING:
            row.next_poll_at = now + dt.timedelta(seconds=FAST_POLL_SECONDS)
            row.save()
            return
        queue.enqueue_end(row.channel_id)
    incident = incidents.open_incident(row)
    was_linked = row.keep_connected and (row.state == State.READY or incident is not None)
    derived = _derive(row, observation, now, was_linked=was_linked)
    _record_qr(row, observation, now)
    dropped = row.state == State.READY != derived.state
    is_other_phone = derived.code == UNCONFIRMED != row.state_code
    if is_other_phone or (row.keep_connected and (dropped or _is_newly_stuck(row, derived))):
        _record_drop(row, derived, now)
    elif derived.state != State.READY and incident is not None:
        reason = drop_reason(derived, _callback_reason(row, now))
        incidents.observed(row, reason=reason, detail=derived.detail, at=now)
    if derived.code == UNCONFIRMED:
        row.keep_connected = row.keep_connected or not row.unlink_failed
    if derived.state == State.READY:
        derived = replace(derived, code=_ready_code(row, incident))
        _record_ready(row, now)
        if row.state != State.READY and field_for_code(row.breaker_code):
            # The poll succeeded with the address, key and name that had been rejected.
            circuit_breaker.close(row)
    if has_recovered(row.state, row.state_changed_at, now=now):
        row.recovery_attempts, row.recovery_attempted_at = 0, None
    context = RecoveryContext(
        wanted=row.keep_connected and row.channel.active,
        tries=row.recovery_attempts,
        tried_at=row.recovery_attempted_at,
        hangs=row.slow_checks,
        missing_since=row.missing_since,
    )
    action = RecoveryAction.NONE
    if not row.start_requested_at:
        action = recovery_action_for(derived, context, now=now)
    if action != RecoveryAction.NONE:
        log.warning("wwebjs session is restarted", channel=row.channel_id, reason=derived.code)
        _request_start(row, restart=action == RecoveryAction.RESTART, now=now)
    else:
        if is_unlinked(derived.state, derived.code):
            row.number_seen_at = None
        _store_state(row, derived, now, own_number=number)
        lasting = now - (row.state_changed_at or now)
        pause = next_poll_delay(
            derived.state,
            wanted=row.keep_connected,
            lasting=lasting,
            chance=random.random(),  # noqa: S311
        )
        linked_at = row.number_seen_at
        if linked_at is not None and now < linked_at + SYNC_LIMIT:
            pause = FAST_POLL_SECONDS
        if 0 < row.slow_checks < MAX_SLOW_CHECKS and context.wanted:
            # One more slow answer proves that the page hangs.
            pause = FAST_POLL_SECONDS
        row.next_poll_at = now + dt.timedelta(seconds=pause)
        if row.missing_since and context.wanted:
            row.next_poll_at = min(row.next_poll_at, max(row.missing_since + MISSING_FOR, now))
    row.checked_at = polled_at
    row.save()


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
    is_up = not observation.trouble and observation.message != "session_not_found"
    was_ended = row.stopped or row.unlink_requested_at is not None
    return is_up and was_ended and not row.keep_connected and not _is_used_by_others(row)


def _is_used_by_others(row: Connection) -> bool:
    """Whether another channel keeps the same session of the same server connected."""
    others = Connection.objects.filter(provider=PROVIDER, address=row.address, keep_connected=True)
    return others.exclude(pk=row.pk).exists()


def _is_newly_stuck(row: Connection, derived: DerivedState) -> bool:
    """Whether this poll is the first to find that the session never becomes ready. Runs a query."""
    if derived.code != "never_ready" or row.state_code == "never_ready":
        return False
    return not incidents.current(row).filter(kind=Incident.Kind.CONNECTION).exists()


def _derive(
    row: Connection,
    observation: Observation,
    now: dt.datetime,
    *,
    was_linked: bool = False,
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
    if not observation.trouble:
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
    if not row.local_reason:
        return derived
    if row.local_reason == "unlinking":
        asked_at = row.unlink_requested_at
        if asked_at is not None and now < asked_at + START_WINDOW:
            return DerivedState(State.STARTING, "unlinking")
        row.local_reason = "not_running"
    failed = row.local_reason in ("start_failed", "start_no_answer")
    return DerivedState(
        State.ERROR if failed else State.DISCONNECTED, row.local_reason, row.local_reason_detail
    )


def _record_qr(row: Connection, observation: Observation, now: dt.datetime) -> None:
    digest = hashlib.sha256(observation.qr.encode()).hexdigest() if observation.qr else ""
    if digest == row.qr_digest:
        return
    row.qr_digest = digest
    row.qr_seen_at = now if digest else None
    # A page that shows the code then fetches the new one.
    session_changed.send(sender=Connection, channel=row.channel)


def _callback_reason(row: Connection, now: dt.datetime) -> str:
    """Return the reason from a recent callback, or ""."""
    at = row.callback_reason_at
    return row.callback_reason if at is not None and at > now - CALLBACK_REASON_VALID_FOR else ""


def _ready_code(row: Connection, incident: Incident | None) -> str:
    commanded = row.commanded_at
    return ready_code(
        before=row.state_code if row.state == State.READY else "",
        absence=incident.server_absence if incident and row.state != State.READY else "",
        by_itself=incident is not None and (commanded is None or commanded < incident.opened_at),
    )


def _record_drop(row: Connection, derived: DerivedState, now: dt.datetime) -> None:
    reason = drop_reason(derived, _callback_reason(row, now))
    log.warning("wwebjs session dropped", channel=row.channel_id, reason=reason)
    row.last_drop_at, row.last_drop_reason = now, reason[:40]
    incidents.open_or_update(row, reason=reason, detail=derived.detail, at=now)


def _record_ready(row: Connection, now: dt.datetime) -> None:
    row.keep_connected = row.keep_connected or not row.unlink_failed
    row.stopped, row.unlink_requested_at = False, None
    row.callback_reason = ""
    incidents.mark_recovered(row, at=now)


def _store_state(
    row: Connection, derived: DerivedState, now: dt.datetime, *, own_number: str = ""
) -> None:
    """Save the row with this state, and notify the pages if it has changed."""
    if is_unlinked(derived.state, derived.code):
        number_confirmation.record_linked(row, "")
    before = (row.state, row.state_code, row.state_detail, row.own_number)
    if row.state != derived.state:
        row.state_changed_at = now
    row.state, row.state_code = derived.state.value, derived.code[:40]
    row.state_detail, row.own_number = derived.detail[:300], own_number or row.own_number
    row.save()
    if (row.state, row.state_code, row.state_detail, row.own_number) != before:
        session_changed.send(sender=Connection, channel=row.channel)


def _request_start(row: Connection, *, restart: bool, now: dt.datetime) -> None:
    """Request a start. The caller holds the lock and saves the session."""
    row.start_requested_at = row.commanded_at = row.recovery_attempted_at = now
    row.recovery_attempts += 1
    row.slow_checks = 0
    row.missing_since = row.syncing_since = None
    row.page_number, row.number_seen_at = "", None
    row.local_reason = row.local_reason_detail = ""
    row.next_poll_at = now + dt.timedelta(seconds=1)
    code = "restarting" if restart else "starting"
    _store_state(row, DerivedState(State.STARTING, code), now)
    queue.enqueue_begin(row.channel_id, restart=restart)


def _finish_start(channel: Channel, derived: DerivedState | None, *, note: str) -> None:
    with transaction.atomic():
        row = _locked(channel)
        if row.start_requested_at is None:
            return
        now = timezone.now()
        row.start_requested_at = None
        row.commanded_at = now
        row.local_reason, row.local_reason_detail = (
            note,
            derived.detail[:300] if derived and note else "",
        )
        row.save()
        if derived is not None:
            _store_state(row, derived, now)


def _connect_action(row: Connection, now: dt.datetime) -> RecoveryAction | None:
    """Return the action for a person's request to connect, or None if there is nothing to do."""
    if row.start_requested_at is not None:
        return None
    state = row.state
    if state == State.DISCONNECTED or row.state_code in ("start_failed", "start_no_answer"):
        return RecoveryAction.START
    if state == State.ERROR:
        return RecoveryAction.RESTART if recovers_by_restart(row.state_code) else None
    since = row.state_changed_at or now
    if state == State.STARTING and since < now - OPENING_FOR:
        return RecoveryAction.RESTART
    return None


def _replace_expired_qr(channel: Channel) -> None:
    with transaction.atomic():
        row = _locked(channel)
        if row.start_requested_at is None:
            _request_start(row, restart=True, now=timezone.now())
            row.save()


def _forget_session(channel: Channel) -> None:
    """Clear the state of a session that the channel no longer has. In a transaction."""
    row = _locked(channel)
    _reset(row)
    row.address = ""
    number_confirmation.record_linked(row, "")
    _store_state(row, DerivedState(State.NOT_CONFIGURED, ""), timezone.now())
    circuit_breaker.settings_changed(row)


# -- helpers ---------------------------------------------------------------------------------------


def _locked(channel: Channel) -> Connection:
    """Lock and return the current row of the session. In a transaction."""
    row = Connection.objects.lock(channel.pk, PROVIDER)
    if row is None:
        raise Channel.DoesNotExist
    return row


def _rows(channel: Channel) -> QuerySet[Connection]:
    return Connection.objects.filter(channel=channel, provider=PROVIDER)


def _current(channel: Channel) -> SessionState:
    """Return the currently stored state, and let the caller's channel read it anew."""
    row = Channel.objects.get(pk=channel.pk)
    channel.forget_connections()
    return stored_state(row)


def _claim(polled: Collection[int] = ()) -> list[int]:
    """Claim due sessions, so that no other worker polls them; immediate requests come first.

    It claims no more than are polled concurrently: the lease starts with the poll and outlasts it.
    Sessions already `polled` in this round wait for the next one.
    """
    now = timezone.now()
    with transaction.atomic():
        due = Connection.objects.select_for_update(skip_locked=True, of=("self",)).filter(
            Q(next_poll_at=None) | Q(next_poll_at__lte=now),
            provider=PROVIDER,
            fallback_for__channel=F("channel"),
        )
        due = due.exclude(channel_id__in=polled).order_by(F("next_poll_at").asc(nulls_first=True))
        claimed = list(due.values_list("pk", "channel_id")[:MAX_CONCURRENT_PROBES])
        Connection.objects.filter(pk__in=[pk for pk, _ in claimed]).update(next_poll_at=now + LEASE)
    return [channel_id for _, channel_id in claimed]


def _for_each(function: Callable[[int], None], ids: list[int]) -> None:
    def call(channel_id: int) -> None:
        try:
            function(channel_id)
        except Exception as error:
            log.exception("probe failed", channel=channel_id, error=type(error).__name__)
        finally:
            connection.close()

    if ids:
        with ThreadPoolExecutor(max_workers=MAX_CONCURRENT_PROBES) as pool:
            list(pool.map(call, ids))


def _client(channel: Channel) -> WwebjsSessions:
    return WwebjsSessions(channel.credentials(WwebjsCredentials))


def _not_configured() -> SessionState:
    return SessionState(State.NOT_CONFIGURED.value, "not_configured", describe("not_configured"))


def _require_settings(channel: Channel) -> None:
    if not channel.has_wwebjs:
        raise SessionRefused("not_configured", describe("not_configured"))


def _refused(error: SessionError) -> SessionRefused:
    text = describe(error.code, error.detail)
    return SessionRefused(error.code, text, status=502, field=field_for_code(error.code))


def _invalid_number() -> SessionRefused:
    text = _("Enter the phone's number with country and area code.")
    return SessionRefused("invalid_number", text, status=400, field="phone_number")


def _port(channel: Channel) -> int:
    try:
        parts = urlsplit(channel.wwebjs_url)
        return parts.port or 3500
    except ValueError:
        return 3500


def _quoted(variable: str) -> str:
    """Quote a variable as the requirements do: in double quotes if the shell needs quoting."""
    name, _sign, value = variable.partition("=")
    if shlex.quote(value) == value:
        return variable
    plain = not re.search(r"[\"$`\\!]", value)
    return f'"{name}={value}"' if plain else shlex.quote(variable)
