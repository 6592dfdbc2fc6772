"""The wwebjs-api session of an official channel's fallback: connect, QR, ready, disconnect, care.

For doors: `stored_state` (no network), `state`, `connect`, `disconnect`, `qr`, `pairing_code`,
`docker_command`. For jobs: `probe_due`, `probe`, `begin`, `end_again`. For the reader of callbacks:
`handle_callback`.

The server is asked without a lock; what it told is then written under the lock of the channel's
row, unless a command or a change of settings has made it a thing of the past. A start runs in a
job, because it blocks for as long as the page takes; until its end is known the session counts as
starting. Starts that nobody asked for are few (`session_states.cure_for`): one that fails leaves a
whole browser behind. Recovery closes the browser and starts another, because the server's own
restart blocks while a page is crashed or frozen (contracts/wwebjs-api.md §7.1).

What a person ended stays ended: a session that comes up all the same, after a start that was under
way or with its server, is ended again as it was asked for.
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
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app import tasks
from channels_app.connections import circuit_breaker, number_confirmation
from channels_app.connections.linked_numbers import UNCONFIRMED, is_unlinked, other_brazilian_form
from channels_app.connections.number_confirmation import ConfirmationRefused
from channels_app.connections.states import (
    FAST_POLL_SECONDS,
    MAX_SLOW_CHECKS,
    MISSING_FOR,
    SYNC_LIMIT,
    DerivedState,
    Observation,
    RecoveryAction,
    RecoveryContext,
    State,
    derive,
    drop_reason,
    has_recovered,
    next_poll_delay,
    ready_code,
    recovers_by_restart,
    recovery_action_for,
)
from channels_app.incidents import incidents
from channels_app.incidents.reason_text import describe, field_for_code
from channels_app.models import Channel, Incident, WwebjsSession
from channels_app.providers.wwebjs.session import SessionError, StartOutcome, WwebjsSessions
from channels_app.signals import session_changed

log = structlog.get_logger(__name__)

ROUTE = Incident.Route.WWEBJS
# The longest start that was measured took 180 s (contracts/wwebjs-api.md §2).
START_WINDOW = dt.timedelta(seconds=200)
# Without a link for so long, a person who asks to connect gets a new browser.
OPENING_FOR = dt.timedelta(seconds=60)
# An announced reason explains a drop that is seen this long after it.
ANNOUNCED_FOR = dt.timedelta(minutes=2)
# A probe that was claimed and never came back is due again after this.
LEASE = dt.timedelta(seconds=30)
PROBES_AT_A_TIME = 8
# A page that was linked anew reports the number of the phone before for about as long as it loads.
# The same number counts once it was reported for so long, and is checked quickly until SYNC_LIMIT.
LINGERS_FOR = dt.timedelta(seconds=10)
# So long after a command the server may still be carrying it out.
SETTLING = dt.timedelta(seconds=20)
# After so long no more are taken: other jobs of this worker's queue wait.
ROUND_SECONDS = 10.0
_LINKED = (State.QR, State.PAIRING, State.CONNECTED, State.READY)


class SessionRefused(Exception):
    """What was asked cannot be done now. `str()` says why, in the active language.

    `status` is the HTTP status of the REST contract, `code` its code, `field` the setting of the
    channel (or the argument) that is to be mended, "" where it is none.
    """

    def __init__(self, code: str, text: str, *, status: int = 409, field: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.field = field


@dataclass(frozen=True, slots=True)
class SessionState:
    """A session in words. `detail` is a sentence in the active language.

    `code` is the stable reason behind it. `field` names the setting that the trouble belongs to.
    `own_number` is the linked number, digits only, kept after a drop. `qr_seen_at` is when the
    code that is on show was first seen.
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
    """A code to scan. `seen_at` is when it was first seen; the server tells no age."""

    text: str
    svg: str
    seen_at: dt.datetime
    age_seconds: float


# -- for doors -------------------------------------------------------------------------------------


def stored_state(channel: Channel) -> SessionState:
    """Return the state as it was last seen, from the channel's row alone."""
    if not channel.has_wwebjs:
        return _not_configured()
    code = channel.wwebjs_state_code
    return SessionState(
        state=channel.wwebjs_state,
        code=code,
        detail=describe(code, channel.wwebjs_state_detail),
        since=channel.wwebjs_state_changed_at,
        checked_at=channel.wwebjs_checked_at,
        own_number=channel.wwebjs_own_number,
        field=field_for_code(code),
        last_drop_at=channel.wwebjs_last_drop_at,
        last_drop_reason=describe(channel.wwebjs_last_drop_reason),
        unconfirmed_number=channel.unconfirmed_number if code == UNCONFIRMED else "",
    )


def state(channel: Channel) -> SessionState:
    """Ask the server now, store and return the answer. Never raises for the server's sake.

    Takes 5 s at most. Not to be called inside of a transaction.
    """
    if not channel.has_wwebjs:
        return _not_configured()
    return _poll(channel)[1]


def connect(channel: Channel) -> SessionState:
    """Bring the session up, if it is not, and have it kept up. Returns the state it is in then.

    The start itself runs in a job: "starting" is the usual answer. A start that is under way is
    not asked for again. Raises SessionRefused (409 not_configured; 502 where the server cannot be
    asked, with the field that is to be mended).
    """
    _require_settings(channel)
    seen = _poll(channel)[1]
    with transaction.atomic():
        row, session = _locked(channel)
        now = timezone.now()
        session.wanted, session.unlink_failed = True, False
        session.stopped, session.unlink_asked_at = False, None
        session.tries, session.tried_at = 0, None
        action = _what_connects(row, session, now)
        if action is not None:
            _begin(row, session, restart=action == RecoveryAction.RESTART, now=now)
        session.save()
    if action is None and seen.state == State.ERROR and seen.code != UNCONFIRMED:
        raise SessionRefused(seen.code, seen.detail, status=502, field=seen.field)
    return _current(channel)


def disconnect(channel: Channel, *, unlink: bool = True) -> SessionState:
    """End the session and leave it ended; with `unlink` the phone is unlinked, too.

    Without it the login stays on the server, and connecting needs no new code; should the session
    come up by itself, it is stopped again. What the server does not have cannot be unlinked yet:
    the state's code is then "unlinking" while a start is under way, else "not_running", and it is
    unlinked when it comes up, unless somebody connects it before. Raises SessionRefused (409
    not_configured, 502 where the server did not do it).
    """
    _require_settings(channel)
    with transaction.atomic():
        # Whatever comes of the call, nothing is to start it again.
        session = _locked(channel)[1]
        was_starting = session.start_asked_at is not None
        now = timezone.now()
        session.wanted, session.stopped = False, not unlink
        session.unlink_asked_at = now if unlink else None
        session.start_asked_at = None
        session.commanded_at = now
        session.save()
        incidents.close_silently(channel, route=ROUTE)
    client = WwebjsSessions(channel)
    try:
        if not unlink:
            client.stop()
            code = "stopped"
        elif client.terminate():
            code = "unlinked"
        else:
            code = "unlinking" if was_starting else "not_running"
    except SessionError as trouble:
        # An unlink cannot be undone: later it might be wanted no more, so a person repeats it.
        WwebjsSession.objects.filter(channel=channel).update(
            probe_at=None, unlink_asked_at=None, unlink_failed=unlink
        )
        raise _refused(trouble) from None
    _note_end(channel, code)
    return _current(channel)


# What a person's commands write.
_COMMANDED = (
    "wanted", "stopped", "unlink_asked_at", "unlink_failed", "start_asked_at", "note",
    "note_detail",
)  # fmt: skip


@contextmanager
def unchanged_if_refused(channel: Channel) -> Iterator[None]:
    """Restore what was stored of the session where the block raises SessionRefused.

    Nothing of a refused `disconnect` is carried out later then. Not where somebody connected the
    session meanwhile.
    """
    before = WwebjsSession.objects.filter(channel=channel).first()
    stored = Channel.objects.get(pk=channel.pk)
    incident = incidents.open_incident(channel, route=ROUTE)
    try:
        yield
    except SessionRefused:
        with transaction.atomic():
            row, session = _locked(channel)
            if before is not None and not session.wanted:
                for name in _COMMANDED:
                    setattr(session, name, getattr(before, name))
                session.commanded_at, session.probe_at = timezone.now(), None
                session.save()
                state = State(stored.wwebjs_state)
                seen = DerivedState(state, stored.wwebjs_state_code, stored.wwebjs_state_detail)
                _write(row, seen, timezone.now())
                if incident is not None:
                    incidents.reopen(incident)
        raise


def _note_end(channel: Channel, code: str) -> None:
    """Write down that the session was ended, and how. Not where somebody connected it meanwhile."""
    with transaction.atomic():
        row, session = _locked(channel)
        if session.wanted:
            return
        now = timezone.now()
        session.note, session.note_detail = code, ""
        if code == "unlinked":
            session.unlink_asked_at = None
        session.commanded_at = now
        session.missing_since = session.syncing_since = None
        session.probe_at = now + dt.timedelta(seconds=1)
        session.save()
        state = State.STARTING if code == "unlinking" else State.DISCONNECTED
        _write(row, DerivedState(state, code), now)


def confirm_number(channel: Channel, number: str, *, user_id: int | None = None) -> SessionState:
    """Take a person's word that the linked number is right, and look again.

    `number` is the one that the person saw. Raises SessionRefused (409 not_configured, or
    nothing_to_confirm where no number waits, or another one than this).
    """
    _require_settings(channel)
    try:
        number_confirmation.confirm(channel, number, user_id=user_id)
    except ConfirmationRefused as error:
        raise SessionRefused("nothing_to_confirm", str(error)) from None
    return state(channel)


def qr(channel: Channel) -> QrCode:
    """Return the code that can be scanned now, drawn as SVG.

    A code that has run out is never returned: the session is started again in its place. Raises
    SessionRefused (409 qr_not_ready or not_configured; 502 where the server cannot be asked).
    """
    _require_settings(channel)
    told, seen = _poll(channel)
    if seen.state == State.QR and told.qr:
        session = WwebjsSession.objects.get(channel=channel)
        seen_at = session.qr_seen_at or timezone.now()
        age = max((timezone.now() - seen_at).total_seconds(), 0.0)
        return QrCode(told.qr, draw(told.qr), seen_at, age)
    if seen.code == "qr_expired":
        _replace_dead_qr(channel)
    elif field_for_code(seen.code):
        raise SessionRefused(seen.code, seen.detail, status=502, field=seen.field)
    raise SessionRefused("qr_not_ready", _("The QR code is not ready or has been scanned already"))


def draw(text: str) -> str:
    """Return a QR code as an SVG element without a size of its own: black on white, always."""
    code = segno.make(text, error="l", boost_error=False, micro=False)
    return str(code.svg_inline(border=4, omitsize=True, dark="#000", light="#fff", svgclass="qr"))


def pairing_code(channel: Channel, phone_number: str) -> str:
    """Return the code to enter on the phone instead of scanning.

    Raises SessionRefused (400 invalid_number; 409 qr_not_ready where the session does not wait
    for a phone, or not_configured; 502 where the server did not give one).
    """
    _require_settings(channel)
    digits = re.sub(r"[\s().+-]", "", phone_number)
    if not re.fullmatch(r"[1-9]\d{7,14}", digits):
        raise _invalid_number()
    seen = _poll(channel)[1]
    if seen.state != State.QR:
        if field_for_code(seen.code):
            raise SessionRefused(seen.code, seen.detail, status=502, field=seen.field)
        raise SessionRefused("qr_not_ready", _("The session does not wait for a phone now."))
    try:
        return WwebjsSessions(channel).pairing_code(digits)
    except SessionError as trouble:
        if trouble.code == "invalid_recipient":
            raise _invalid_number() from None
        raise _refused(trouble) from None


KEY_PLACEHOLDER = "********"
# The line of the mission, word by word.
_DOCUMENTED = (
    "auth_failure|authenticated|call|change_state|disconnected|group_join|group_leave|group_update"
    "|loading_screen|media_uploaded|message|message_ack|message_create|message_reaction"
    "|message_revoke_everyone|qr|ready|contact_changed"
)
# What the server can send besides (contracts/wwebjs-api.md §4).
_UNDOCUMENTED = (
    "chat_archived|chat_removed|code|group_admin_changed|group_membership_request|media"
    "|message_ciphertext|message_edit|message_revoke_me|unread_count|vote_update"
)
_NEEDED = ("auth_failure", "change_state", "disconnected", "message_ack", "qr", "ready")


def docker_command(channel: Channel, *, callbacks: bool, reveal: bool = False) -> str:
    """Return the command that installs the server for this channel.

    Without `callbacks` it is the mission's line. With them, those that Alterna needs are on:
    what people write on the phone only where this channel shows it, what customers write only
    where the linked number is known to be another one than the channel's, because of the same
    number the Cloud API tells. The key stands in it only with `reveal`, which is for those who
    may change the channel, on their explicit wish.
    """
    disabled = _DOCUMENTED
    if callbacks:
        wanted = _wanted_callbacks(channel)
        known = f"{_DOCUMENTED}|{_UNDOCUMENTED}".split("|")
        disabled = "|".join(name for name in known if name not in wanted)
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


def _wanted_callbacks(channel: Channel) -> set[str]:
    wanted = {*_NEEDED}
    if not channel.ignore_messages_sent_outside:
        wanted |= {"message_create", "media"}
    own, ours = channel.wwebjs_own_number, re.sub(r"\D", "", channel.phone_number)
    if own and own not in (ours, other_brazilian_form(ours)):
        wanted |= {"message", "media"}
    return wanted


# As the mission has them; the command above follows.
UPDATE_COMMANDS = "docker pull avoylenko/wwebjs-api\ndocker rm -f wwebjs_api"


def is_webhook_local() -> bool:
    """Say whether callbacks would go to this machine only, which no container can reach."""
    host = urlsplit(settings.PUBLIC_URL).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def webhook_url(channel: Channel) -> str:
    """Return the address that the server is to post its callbacks to."""
    return f"{settings.PUBLIC_URL}/api/webhooks/wwebjs/{channel.pk}"


# -- for jobs and signals --------------------------------------------------------------------------


def probe_due() -> None:
    """Ask every session whose time has come, several at a time; a slow one holds up no other."""
    missing = Channel.objects.filter(fallback=Channel.Fallback.WWEBJS, wwebjs_session=None)
    for channel in missing:
        channel_saved(Channel, channel)
    deadline, asked = time.monotonic() + ROUND_SECONDS, set[int]()
    while time.monotonic() < deadline and (ids := _claim(asked)):
        _for_each(probe, ids)
        asked.update(ids)


def probe(channel_id: int) -> None:
    """Ask one session and write down what it told."""
    channel = Channel.objects.filter(pk=channel_id).first()
    if channel is not None and channel.has_wwebjs:
        _poll(channel)


def begin(channel_id: int, *, restart: bool) -> None:
    """Start the session that was asked for. Blocks while the server does.

    `restart`: the browser that it has is closed before. Does nothing where nobody waits for it any
    more.
    """
    channel = Channel.objects.filter(pk=channel_id).first()
    session = WwebjsSession.objects.filter(channel_id=channel_id).first()
    if channel is None or session is None or session.start_asked_at is None:
        return
    client = WwebjsSessions(channel)
    try:
        beginning = client.reopen() if restart else client.start()
        if beginning.end == StartOutcome.EXISTS and recovers_by_restart(derive(client.ask()).code):
            beginning = client.reopen()
    except SessionError as trouble:
        # Nothing was begun, so no browser was left behind.
        _end_of_start(channel, DerivedState(State.ERROR, trouble.code, trouble.detail), note="")
        return
    log.info("wwebjs session begun", channel=channel.pk, end=beginning.end.value)
    if beginning.end == StartOutcome.FAILED:
        seen = DerivedState(State.ERROR, "start_failed", beginning.detail)
        _end_of_start(channel, seen, note=seen.code)
    elif beginning.end in (StartOutcome.UP, StartOutcome.EXISTS):
        _end_unwanted(channel, code="stopped")
        _end_of_start(channel, None, note="")
    # BUSY and NO_ANSWER: probes will see it come up, or the window close.
    probe(channel_id)


def end_again(channel_id: int) -> None:
    """End a session that is up although a person had stopped or unlinked it."""
    channel = Channel.objects.filter(pk=channel_id).first()
    if channel is not None and channel.has_wwebjs:
        _end_unwanted(channel, code="stopped_again")


def _end_unwanted(channel: Channel, *, code: str) -> None:
    """End the session as a person asked for, where nobody wants it; `code` is that of a stop.

    Where the server does not do it, the next probe has it done.
    """
    session = WwebjsSession.objects.filter(channel=channel, wanted=False).first()
    if session is None or _is_wanted_by_others(session):
        return
    client = WwebjsSessions(channel)
    try:
        if session.unlink_asked_at is None:
            client.stop()
        elif client.terminate():
            code = "unlinked"
        else:
            return
    except SessionError as trouble:
        log.warning("wwebjs session not ended", channel=channel.pk, reason=trouble.code)
        return
    log.info("wwebjs session ended", channel=channel.pk, end=code)
    _note_end(channel, code)


def handle_callback(channel: Channel, *, reason: str) -> None:
    """A callback said that something changed: ask at once. `reason` explains a drop, or is ""."""
    with transaction.atomic():
        session = _locked(channel)[1]
        if reason:
            session.announced, session.announced_at = reason[:40], timezone.now()
        session.probe_at = None
        session.save()
    tasks.enqueue_probe(channel.pk)


def note_no_answer(channel: Channel, route: str = "", **kwargs: Any) -> None:
    """Signal receiver: a send by the session got no answer, so the session is asked at once."""
    if route == ROUTE:
        # Not with the message's lock held.
        transaction.on_commit(partial(_request_probe, channel.pk), robust=True)


def _request_probe(channel_id: int) -> None:
    with transaction.atomic():
        if WwebjsSession.objects.filter(channel=channel_id).update(probe_at=None):
            tasks.enqueue_probe(channel_id)


def channel_saved(sender: type[Channel], instance: Channel, **kwargs: Any) -> None:
    """Signal receiver: the settings may have changed, so what is known may not hold any more."""
    changed = kwargs.get("update_fields")
    if changed is not None and not {*Channel.WWEBJS_WAY} & {*changed}:
        return
    if not instance.has_wwebjs:
        if not kwargs.get("created"):
            _forget_session(instance)
        return
    with transaction.atomic():
        row, session = _locked(instance)
        now = timezone.now()
        address = f"{row.wwebjs_url} {row.wwebjs_session_id}"[:300]
        if session.address != address:
            was_another = session.address != ""
            session = WwebjsSession(pk=session.pk, channel=row, address=address)
            incidents.close_silently(row, route=ROUTE)
            _write(row, DerivedState(State.DISCONNECTED, "unchecked"), now)
            Channel.objects.filter(pk=row.pk).update(wwebjs_own_number="")
            if was_another:
                number_confirmation.record_linked(row, "")
        session.commanded_at, session.probe_at = now, None
        session.save()


# -- asking and writing down -----------------------------------------------------------------------


def _poll(channel: Channel) -> tuple[Observation, SessionState]:
    asked_at = timezone.now()
    told = WwebjsSessions(channel).ask()
    with transaction.atomic():
        _record_observation(channel, told, asked_at)
    return told, _current(channel)


def _record_observation(channel: Channel, told: Observation, asked_at: dt.datetime) -> None:
    """Write down what the server told, unless it was told of a time that is over.

    That is: before a command, or before what is written down already was asked for.
    """
    row, session = _locked(channel)
    now = timezone.now()
    if row.wwebjs_checked_at is not None and row.wwebjs_checked_at > asked_at:
        return
    changed = any(getattr(row, name) != getattr(channel, name) for name in Channel.WWEBJS_WAY)
    if changed or (session.commanded_at is not None and session.commanded_at > asked_at):
        return
    number = _settled_number(row, session, told, now)
    if number or (told.ready and not row.linked_number):
        number_confirmation.record_linked(row, number)
    if _is_up_unwanted(session, told):
        if session.commanded_at is not None and now < session.commanded_at + SETTLING:
            session.probe_at = now + dt.timedelta(seconds=FAST_POLL_SECONDS)
            session.save()
            return
        tasks.enqueue_end(row.pk)
    incident = incidents.open_incident(row, route=ROUTE)
    was_linked = session.wanted and (row.wwebjs_state == State.READY or incident is not None)
    seen = _derive(row, session, told, now, was_linked=was_linked)
    _note_qr(row, session, told, now)
    dropped = row.wwebjs_state == State.READY != seen.state
    is_other_phone = seen.code == UNCONFIRMED != row.wwebjs_state_code
    if is_other_phone or (session.wanted and (dropped or _is_news_of_stuck(row, seen))):
        _note_drop(row, session, seen, now)
    elif seen.state != State.READY and incident is not None:
        reason = drop_reason(seen, _announced(session, now))
        incidents.observed(row, route=ROUTE, reason=reason, detail=seen.detail, at=now)
    if seen.code == UNCONFIRMED:
        session.wanted = session.wanted or not session.unlink_failed
    if seen.state == State.READY:
        seen = replace(seen, code=_ready_code(row, session, incident))
        _note_ready(row, session, now)
        if row.wwebjs_state != State.READY and field_for_code(row.wwebjs_breaker_code):
            # It was asked with the same address, key and name that had been refused.
            circuit_breaker.close(row, ROUTE)
    if has_recovered(row.wwebjs_state, row.wwebjs_state_changed_at, now=now):
        session.tries, session.tried_at = 0, None
    care = RecoveryContext(
        wanted=session.wanted and row.active,
        tries=session.tries,
        tried_at=session.tried_at,
        hangs=session.hangs,
        missing_since=session.missing_since,
    )
    cure = (
        RecoveryAction.NONE if session.start_asked_at else recovery_action_for(seen, care, now=now)
    )
    if cure != RecoveryAction.NONE:
        log.warning("wwebjs session is started again", channel=row.pk, reason=seen.code)
        _begin(row, session, restart=cure == RecoveryAction.RESTART, now=now)
    else:
        if is_unlinked(seen.state, seen.code):
            session.number_seen_at = None
        _write(row, seen, now, own_number=number)
        lasting = now - (row.wwebjs_state_changed_at or now)
        pause = next_poll_delay(
            seen.state,
            wanted=session.wanted,
            lasting=lasting,
            chance=random.random(),  # noqa: S311
        )
        linked_at = session.number_seen_at
        if linked_at is not None and now < linked_at + SYNC_LIMIT:
            pause = FAST_POLL_SECONDS
        if 0 < session.hangs < MAX_SLOW_CHECKS and care.wanted:
            # One more slow answer proves that the page hangs.
            pause = FAST_POLL_SECONDS
        session.probe_at = now + dt.timedelta(seconds=pause)
        if session.missing_since and care.wanted:
            session.probe_at = min(session.probe_at, max(session.missing_since + MISSING_FOR, now))
    session.save()
    Channel.objects.filter(pk=row.pk).update(wwebjs_checked_at=asked_at)


def _settled_number(
    row: Channel, session: WwebjsSession, told: Observation, now: dt.datetime
) -> str:
    """Return the number that the server reports, "" while it may be that of the phone before.

    After a new link in the same browser the old `sessionInfo` stays until WhatsApp has loaded
    (contracts/wwebjs-api.md §2).
    """
    if not told.own_number:
        return ""
    lingers = row.link_unverified and told.own_number == session.page_number
    session.page_number = told.own_number
    if not lingers:
        return told.own_number
    session.number_seen_at = session.number_seen_at or now
    return told.own_number if now >= session.number_seen_at + LINGERS_FOR else ""


def _is_up_unwanted(session: WwebjsSession, told: Observation) -> bool:
    """Whether the server has a session that a person ended, and that no other channel wants."""
    is_up = not told.trouble and told.message != "session_not_found"
    was_ended = session.stopped or session.unlink_asked_at is not None
    return is_up and was_ended and not session.wanted and not _is_wanted_by_others(session)


def _is_wanted_by_others(session: WwebjsSession) -> bool:
    """Whether another channel uses the same session of the same server, and wants it up."""
    others = WwebjsSession.objects.filter(address=session.address, wanted=True)
    return others.exclude(pk=session.pk).exists()


def _is_news_of_stuck(row: Channel, seen: DerivedState) -> bool:
    """Whether it turns out only now that the session never becomes ready. Asks the database."""
    if seen.code != "never_ready" or row.wwebjs_state_code == "never_ready":
        return False
    return not incidents.current(row).filter(route=ROUTE).exists()


def _derive(
    row: Channel,
    session: WwebjsSession,
    told: Observation,
    now: dt.datetime,
    *,
    was_linked: bool = False,
) -> DerivedState:
    """The state, with what is remembered of starts, silences, absences and of what was ended."""
    if _is_up_unwanted(session, told):
        unlinks = session.unlink_asked_at is not None
        return (
            DerivedState(State.STARTING, "unlinking")
            if unlinks
            else DerivedState(State.DISCONNECTED, "came_up")
        )
    starting = session.start_asked_at is not None
    if not told.trouble:
        loads = told.connected and not told.ready
        session.syncing_since = (session.syncing_since or now) if loads else None
    since = session.syncing_since
    seen = derive(
        told,
        starting=starting,
        syncing_for=now - since if since else dt.timedelta(0),
        unconfirmed=row.unconfirmed_number,
        unknown=row.is_number_unknown,
        was_linked=was_linked,
    )
    if starting and seen.code == "syncing" and row.wwebjs_state_code == "restarting":
        # Perhaps the browser that is to be replaced: the job that replaces it tells its end.
        session.syncing_since = None
        seen = DerivedState(State.STARTING, "restarting")
    if session.start_asked_at and (seen.state in _LINKED or seen.code == UNCONFIRMED):
        session.start_asked_at = None
        starting = False
    if session.start_asked_at and now > session.start_asked_at + START_WINDOW:
        session.start_asked_at = None
        starting = False
        seen = derive(told)
        if seen.code == "not_started":
            session.note, session.note_detail = "start_no_answer", ""
    session.hangs = session.hangs + 1 if seen.code == "session_check_failed" else 0
    missing = told.message == "session_not_found" and not starting
    session.missing_since = (session.missing_since or now) if missing else None
    if seen.code != "not_started":
        if seen.state in _LINKED or seen.code == UNCONFIRMED:
            session.note = session.note_detail = ""
        return seen
    if not session.note:
        return seen
    if session.note == "unlinking":
        asked_at = session.unlink_asked_at
        if asked_at is not None and now < asked_at + START_WINDOW:
            return DerivedState(State.STARTING, "unlinking")
        session.note = "not_running"
    failed = session.note in ("start_failed", "start_no_answer")
    return DerivedState(
        State.ERROR if failed else State.DISCONNECTED, session.note, session.note_detail
    )


def _note_qr(row: Channel, session: WwebjsSession, told: Observation, now: dt.datetime) -> None:
    digest = hashlib.sha256(told.qr.encode()).hexdigest() if told.qr else ""
    if digest == session.qr_digest:
        return
    session.qr_digest = digest
    session.qr_seen_at = now if digest else None
    # A page that shows the code fetches the new one.
    session_changed.send(sender=WwebjsSession, channel=row)


def _announced(session: WwebjsSession, now: dt.datetime) -> str:
    """The reason that the library announced lately, "" where it did not."""
    at = session.announced_at
    return session.announced if at is not None and at > now - ANNOUNCED_FOR else ""


def _ready_code(row: Channel, session: WwebjsSession, incident: Incident | None) -> str:
    commanded = session.commanded_at
    return ready_code(
        before=row.wwebjs_state_code if row.wwebjs_state == State.READY else "",
        absence=incident.server_absence if incident and row.wwebjs_state != State.READY else "",
        by_itself=incident is not None and (commanded is None or commanded < incident.opened_at),
    )


def _note_drop(row: Channel, session: WwebjsSession, seen: DerivedState, now: dt.datetime) -> None:
    reason = drop_reason(seen, _announced(session, now))
    log.warning("wwebjs session dropped", channel=row.pk, reason=reason)
    Channel.objects.filter(pk=row.pk).update(
        wwebjs_last_drop_at=now, wwebjs_last_drop_reason=reason[:40]
    )
    incidents.open_or_update(row, route=ROUTE, reason=reason, detail=seen.detail, at=now)


def _note_ready(row: Channel, session: WwebjsSession, now: dt.datetime) -> None:
    session.wanted = session.wanted or not session.unlink_failed
    session.stopped, session.unlink_asked_at = False, None
    session.announced = ""
    incidents.mark_recovered(row, route=ROUTE, at=now)


def _write(row: Channel, seen: DerivedState, now: dt.datetime, *, own_number: str = "") -> None:
    """Put the state on the channel and tell the pages, where it is another one."""
    if is_unlinked(seen.state, seen.code):
        number_confirmation.record_linked(row, "")
    values: dict[str, Any] = {
        "wwebjs_state": seen.state.value,
        "wwebjs_state_code": seen.code[:40],
        "wwebjs_state_detail": seen.detail[:300],
    }
    if own_number:
        values["wwebjs_own_number"] = own_number
    if all(getattr(row, name) == value for name, value in values.items()):
        return
    if row.wwebjs_state != seen.state:
        values["wwebjs_state_changed_at"] = now
    for name, value in values.items():
        setattr(row, name, value)
    Channel.objects.filter(pk=row.pk).update(**values)
    session_changed.send(sender=Channel, channel=row)


def _begin(row: Channel, session: WwebjsSession, *, restart: bool, now: dt.datetime) -> None:
    """Ask for a start. The caller holds the lock, and saves the session."""
    session.start_asked_at = session.commanded_at = session.tried_at = now
    session.tries += 1
    session.hangs = 0
    session.missing_since = session.syncing_since = None
    session.page_number, session.number_seen_at = "", None
    session.note = session.note_detail = ""
    session.probe_at = now + dt.timedelta(seconds=1)
    _write(row, DerivedState(State.STARTING, "restarting" if restart else "starting"), now)
    tasks.enqueue_begin(row.pk, restart=restart)


def _end_of_start(channel: Channel, seen: DerivedState | None, *, note: str) -> None:
    with transaction.atomic():
        row, session = _locked(channel)
        if session.start_asked_at is None:
            return
        now = timezone.now()
        session.start_asked_at = None
        session.commanded_at = now
        session.note, session.note_detail = note, seen.detail[:300] if seen and note else ""
        session.save()
        if seen is not None:
            _write(row, seen, now)


def _what_connects(row: Channel, session: WwebjsSession, now: dt.datetime) -> RecoveryAction | None:
    """What a person's wish to connect asks of the server, None where there is nothing to do."""
    if session.start_asked_at is not None:
        return None
    seen = row.wwebjs_state
    if seen == State.DISCONNECTED or row.wwebjs_state_code in ("start_failed", "start_no_answer"):
        return RecoveryAction.START
    if seen == State.ERROR:
        return RecoveryAction.RESTART if recovers_by_restart(row.wwebjs_state_code) else None
    since = row.wwebjs_state_changed_at or now
    if seen == State.STARTING and since < now - OPENING_FOR:
        return RecoveryAction.RESTART
    return None


def _replace_dead_qr(channel: Channel) -> None:
    with transaction.atomic():
        row, session = _locked(channel)
        if session.start_asked_at is None:
            _begin(row, session, restart=True, now=timezone.now())
            session.save()


def _forget_session(channel: Channel) -> None:
    """The channel has no wwebjs session any more."""
    with transaction.atomic():
        known, _by_model = WwebjsSession.objects.filter(channel=channel).delete()
        if known:
            incidents.close_silently(channel, route=ROUTE)
            row = Channel.objects.get(pk=channel.pk)
            number_confirmation.forget_link(row)
            _write(row, DerivedState(State.NOT_CONFIGURED, ""), timezone.now())


# -- small things ----------------------------------------------------------------------------------


def _locked(channel: Channel) -> tuple[Channel, WwebjsSession]:
    """The rows of channel and session as they are now, locked for others who write about it.

    The caller holds a transaction. The channel comes first, as for one who saves it.
    """
    row = Channel.objects.select_for_update(no_key=True).get(pk=channel.pk)
    session, _created = WwebjsSession.objects.get_or_create(channel=row)
    return row, session


def _current(channel: Channel) -> SessionState:
    """The state as it is stored now; the caller's channel learns it, too."""
    row = Channel.objects.select_related("wwebjs_session").get(pk=channel.pk)
    for name in Channel.TOLD:
        setattr(channel, name, getattr(row, name))
    session = getattr(row, "wwebjs_session", None)
    return replace(stored_state(row), qr_seen_at=session.qr_seen_at if session else None)


def _claim(asked: Collection[int] = ()) -> list[int]:
    """Take due sessions, so that no other worker asks them meanwhile; those wanted at once first.

    No more than are asked at a time: the lease begins with the question, and outlasts it. Those
    that were `asked` in this round wait for the next one.
    """
    now = timezone.now()
    with transaction.atomic():
        due = WwebjsSession.objects.select_for_update(skip_locked=True, of=("self",)).filter(
            Q(probe_at=None) | Q(probe_at__lte=now), channel__fallback=Channel.Fallback.WWEBJS
        )
        due = due.exclude(channel_id__in=asked).order_by(F("probe_at").asc(nulls_first=True))
        taken = list(due.values_list("pk", "channel_id")[:PROBES_AT_A_TIME])
        WwebjsSession.objects.filter(pk__in=[pk for pk, _ in taken]).update(probe_at=now + LEASE)
    return [channel_id for _, channel_id in taken]


def _for_each(function: Callable[[int], None], ids: list[int]) -> None:
    def call(channel_id: int) -> None:
        try:
            function(channel_id)
        except Exception as error:
            log.exception("probe failed", channel=channel_id, error=type(error).__name__)
        finally:
            connection.close()

    if ids:
        with ThreadPoolExecutor(max_workers=PROBES_AT_A_TIME) as pool:
            list(pool.map(call, ids))


def _not_configured() -> SessionState:
    return SessionState(State.NOT_CONFIGURED.value, "not_configured", describe("not_configured"))


def _require_settings(channel: Channel) -> None:
    if not channel.has_wwebjs:
        raise SessionRefused("not_configured", describe("not_configured"))


def _refused(trouble: SessionError) -> SessionRefused:
    text = describe(trouble.code, trouble.detail)
    return SessionRefused(trouble.code, text, status=502, field=field_for_code(trouble.code))


def _invalid_number() -> SessionRefused:
    text = _("Write the phone's number with country and area code.")
    return SessionRefused("invalid_number", text, status=400, field="phone_number")


def _port(channel: Channel) -> int:
    try:
        parts = urlsplit(channel.wwebjs_url)
        return parts.port or 3500
    except ValueError:
        return 3500


def _quoted(variable: str) -> str:
    """As the mission writes it: in double quotes where a shell would read it otherwise."""
    name, _sign, value = variable.partition("=")
    if shlex.quote(value) == value:
        return variable
    plain = not re.search(r"[\"$`\\!]", value)
    return f'"{name}={value}"' if plain else shlex.quote(variable)
