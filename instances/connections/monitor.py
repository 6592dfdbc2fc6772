"""The connection of an Evolution instance to WhatsApp: create, link, reconnect, log out, delete.

For doors: `stored` (no network), `state`, `connect`, `qr`, `pairing_code`, `reconnect`, `log_out`,
`delete`. For jobs: `probe_due`, `probe`. For what happens elsewhere: `request_poll` (an event
came), `note_refusal` (a send was refused), `channel_saved`.

The server is asked without a lock; what it told is then written under the lock of the session's
row, unless a command or a change of settings has made it a thing of the past. Events only say that
it is time to ask: they come late, twice and in any order (contracts/evolution-api.md §1).
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
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app import signals
from channels_app.connections import number_confirmation
from channels_app.connections.linked_numbers import UNCONFIRMED, UNKNOWN, is_unlinked
from channels_app.connections.number_confirmation import ConfirmationRefused
from channels_app.connections.states import (
    DerivedState,
    State,
    has_recovered,
    next_poll_delay,
    ready_code,
)
from channels_app.connections.wwebjs_session import QrCode, SessionRefused, SessionState, draw
from channels_app.incidents import incidents
from channels_app.incidents.reason_text import describe, encode_reason, field_for_code
from channels_app.models import Channel, Incident
from channels_app.providers.evolution.instance import ASK_SECONDS, EvolutionLifecycle, Link, Row
from channels_app.providers.evolution.receive_mode import EvolutionFailed
from instances import live, tasks
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
    derive,
    drop_reason,
    holds_for_server,
    needs_person,
    recovery_action_for,
)
from instances.models import WhatsAppSession
from instances.receive_mode import handover

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

ROUTE = Incident.Route.BAILEYS
# Seconds that a command waits for what Evolution does after its answer.
PATIENCE = 3.0
_POLL = 0.1
# A closing so shortly after a command of ours is its consequence.
QUIET_FOR = dt.timedelta(seconds=60)
# A code that nobody scanned in this time is not asked for any more (§4: 30 codes of 45 s).
LINKING_FOR = dt.timedelta(minutes=30)
# Our clock and the server's may differ by so much.
SKEW = dt.timedelta(minutes=2)
# How often an open instance is asked which phone is linked, beside the times when an event says
# that something changed: the server counts its messages for that answer.
NUMBER_EVERY = dt.timedelta(minutes=5)
# So long after a link it is asked with each probe, and probed more often.
FRESHLY_LINKED = dt.timedelta(minutes=1)
FRESH_POLL_SECONDS = 5.0
# A probe that was claimed and never came back is due again after this.
LEASE = dt.timedelta(seconds=90)
PROBES_AT_A_TIME = 8
# After so long no more are taken: other jobs of this worker's queue wait.
ROUND_SECONDS = 10.0
# What is written here; the rest of the row belongs to the receive mode.
_OURS = (
    "state", "state_code", "state_detail", "state_changed_at", "checked_at", "probe_at",
    "commanded_at", "address", "wanted", "serving", "last_open_at", "history_before",
    "linking_since", "quiet_until", "dead_since", "tries", "tried_at", "closed_since", "note",
    "own_number", "number_checked_at", "profile_name", "last_drop_at", "last_drop_reason",
    "qr_digest", "qr_seen_at", "connection", "connection_reason", "connection_changed_at",
)  # fmt: skip
_NEVER_LINKED: dict[str, Any] = {
    "last_open_at": None,
    "history_before": None,
    "closed_since": None,
}
# A link is observed some time after it was made: what a customer writes meanwhile is no history.
LINK_MARGIN = dt.timedelta(minutes=2)
_SETTINGS = ("kind", "active", "evolution_url", "evolution_api_key", "instance_name")


@dataclass(frozen=True, slots=True)
class ConnectionState(SessionState):
    """As SessionState, with the name of the linked account."""

    profile_name: str = ""


@dataclass(frozen=True, slots=True)
class LinkCode(QrCode):
    """A code to scan, and the one to type instead where a number was given."""

    pairing_code: str = ""


# -- for doors -------------------------------------------------------------------------------------


def stored(session: WhatsAppSession) -> ConnectionState:
    """Return the state as it was last seen, from the session's row alone."""
    if not _is_configured(session.channel):
        code = "not_configured"
        return ConnectionState(State.NOT_CONFIGURED.value, code, describe(code))
    code = session.state_code
    return ConnectionState(
        state=session.state,
        code=code,
        detail=describe(code, session.state_detail),
        since=session.state_changed_at,
        checked_at=session.checked_at,
        own_number=session.own_number,
        field=field_for_code(code, evolution=True),
        last_drop_at=session.last_drop_at,
        last_drop_reason=describe(session.last_drop_reason),
        qr_seen_at=session.qr_seen_at,
        profile_name=session.profile_name,
        unconfirmed_number=session.channel.unconfirmed_number if code == UNCONFIRMED else "",
    )


def state(session: WhatsAppSession) -> ConnectionState:
    """Ask the server now, store and return the answer. Never raises for the server's sake.

    Takes a few seconds at most. Not to be called inside of a transaction.
    """
    if _is_configured(session.channel):
        _look(session)
    return _current(session)


def connect(session: WhatsAppSession, *, user: User | None = None) -> ConnectionState:
    """Bring the instance up: create it where there is none, then dial.

    An instance that exists is taken over as it is; one that is open or shows a code already is not
    dialled again. The webhook is set before dialling, because the wish for base64 is read at that
    moment only (§3); the history of the receive mode names the user. Takes some seconds. Raises
    SessionRefused (409 not_configured; 502 where the server did not do it, with the field that is
    to be mended).
    """
    client = _client(session)
    told = _look(session)
    if told.trouble not in ("", "instance_missing"):
        raise _refused(told.trouble, told.detail)
    now = timezone.now()
    _command(session, wanted=True, linking_since=now, note="", tries=0, tried_at=None)
    try:
        if told.trouble == "instance_missing":
            _create(session, client)
        _receive_events(session, is_new=told.trouble != "", user=user)
        asked_at = timezone.now()
        link = client.connect()
    except EvolutionFailed as error:
        _fail(session, error)
    _record_observation(session, _told_by(link), asked_at=asked_at, cures=False)
    return _current(session)


def confirm_number(
    session: WhatsAppSession, number: str, *, user: User | None = None
) -> ConnectionState:
    """Take a person's word that the linked number is right, and look again.

    `number` is the one that the person saw. Raises SessionRefused (409 not_configured, or
    nothing_to_confirm where no number waits, or another one than this).
    """
    _client(session)
    try:
        number_confirmation.confirm(session.channel, number, user_id=user.pk if user else None)
    except ConfirmationRefused as error:
        raise SessionRefused("nothing_to_confirm", str(error)) from None
    return state(session)


def _create(session: WhatsAppSession, client: EvolutionLifecycle) -> None:
    try:
        client.create()
    except EvolutionFailed as error:
        # Somebody clicked at the same moment: what is there now is taken over.
        if error.reason != "name_taken" or _look(session).trouble:
            raise
    # No phone was ever linked to this one: without a person it is not to ask for codes.
    WhatsAppSession.objects.filter(pk=session.pk).update(**_NEVER_LINKED)


def qr(session: WhatsAppSession) -> LinkCode:
    """Return the code that can be scanned now, drawn as SVG; Evolution renews it every 45 s.

    Raises SessionRefused (409 qr_not_ready or not_configured; 502 where the server cannot be
    asked).
    """
    _client(session)
    told = _look(session, with_code=True)
    seen = _current(session)
    if seen.state == State.QR and told.qr:
        now = timezone.now()
        seen_at = seen.qr_seen_at or now
        age = max((now - seen_at).total_seconds(), 0.0)
        return LinkCode(told.qr, draw(told.qr), seen_at, age, told.pairing_code)
    if seen.field:
        raise _refused(seen.code, session.state_detail)
    raise SessionRefused("qr_not_ready", _("The QR code is not ready or has been scanned already"))


def pairing_code(session: WhatsAppSession, phone_number: str) -> str:
    """Return the code to type on the phone instead of scanning.

    Evolution gives one only when it dials for that number, so a code that is on show is given up
    first. Raises SessionRefused (400 invalid_number; 409 qr_not_ready where a phone is linked, or
    not_configured; 502 where the server gave none).
    """
    client = _client(session)
    digits = re.sub(r"[\s().+-]", "", phone_number)
    if not re.fullmatch(r"[1-9]\d{7,14}", digits):
        text = _("Write the phone's number with country and area code.")
        raise SessionRefused("invalid_number", text, status=400, field="phone_number")
    told = _look(session, with_code=True)
    if told.trouble:
        raise _refused(told.trouble, told.detail)
    if told.connection == "open" or (told.connection == "connecting" and not told.qr):
        raise SessionRefused("qr_not_ready", _("The session does not wait for a phone now."))
    now = timezone.now()
    _command(session, wanted=True, linking_since=now, note="", tries=0, tried_at=None, quiet=True)
    try:
        if told.connection == "connecting":
            client.log_out()
            _wait(lambda: client.state() == "close")
        asked_at = timezone.now()
        link = client.connect(number=digits)
    except EvolutionFailed as error:
        _fail(session, error)
    _record_observation(session, _told_by(link), asked_at=asked_at, cures=False)
    if not link.pairing_code:
        text = _("WhatsApp gave no code for this number.")
        raise SessionRefused("no_pairing_code", text, status=502)
    return link.pairing_code


def reconnect(session: WhatsAppSession, *, user: User | None = None) -> ConnectionState:
    """Dial anew with the login that is there; a closed instance is connected instead.

    Raises SessionRefused as `connect`.
    """
    client = _client(session)
    # It may show a code, where no phone is linked.
    _command(
        session, wanted=True, note="", tries=0, tried_at=None, dead_since=None,
        linking_since=timezone.now(), quiet=True,
    )  # fmt: skip
    try:
        restarted = client.restart()
    except EvolutionFailed as error:
        if error.code != "instance_missing":
            _fail(session, error)
        restarted = False
    if not restarted:
        return connect(session, user=user)
    _write_seen(session, DerivedState(State.STARTING, "reconnecting"))
    return _current(session)


def log_out(session: WhatsAppSession) -> ConnectionState:
    """Unlink the phone; the instance stays. Connecting again takes a new code.

    One that was closed cannot be unlinked: the state's code is then "not_running". Raises
    SessionRefused (409 not_configured; 502 where the server did not do it).
    """
    client = _client(session)
    # Whatever comes of the call, nothing is to bring it back.
    _command(session, wanted=False, serving=False, linking_since=None)
    incidents.close_silently(session.channel, route=ROUTE)
    try:
        code = "unlinked" if client.log_out() else "not_running"
    except EvolutionFailed as error:
        _fail(session, error)
    _command(session, note=code, dead_since=None)
    _write_seen(session, DerivedState(State.DISCONNECTED, code))
    return _current(session)


def delete(session: WhatsAppSession, *, user: User | None = None) -> ConnectionState:
    """Delete the instance on the server; the channel and its history stay.

    The webhook is switched off first, because the deletion waits for its delivery (§1). The state's
    code is "deleting" where Evolution has not finished in time. Raises SessionRefused (409
    not_configured, conflict while the receive mode is being switched; 502 where the server did not
    do it).
    """
    client = _client(session)
    try:
        with handover.locked(session):
            _command(session, wanted=False, serving=False, linking_since=None)
            incidents.close_silently(session.channel, route=ROUTE)
            code = _remove(client)
            handover.forget(session)
    except handover.SwitchRefused as error:
        raise SessionRefused("conflict", str(error)) from None
    except EvolutionFailed as error:
        _receive_again(session, user=user)
        _fail(session, error)
    pictures.forget(session)
    _command(
        session, note=code, dead_since=None, own_number="", profile_name="", tries=0,
        **_NEVER_LINKED,
    )  # fmt: skip
    _write_seen(session, DerivedState(State.DISCONNECTED, code))
    return _current(session)


@contextlib.contextmanager
def unchanged_if_refused(session: WhatsAppSession) -> Iterator[None]:
    """Restore whether the instance is kept connected where the block raises SessionRefused.

    Not where somebody connected it meanwhile.
    """
    before = WhatsAppSession.objects.get(pk=session.pk)
    incident = incidents.open_incident(session.channel, route=ROUTE)
    try:
        yield
    except SessionRefused:
        with transaction.atomic():
            row = _locked(session.channel_id)
            if row is not None and not row.wanted:
                _command(
                    row,
                    wanted=before.wanted,
                    serving=before.serving,
                    linking_since=before.linking_since,
                )
                if incident is not None:
                    incidents.reopen(incident)
        raise


def _remove(client: EvolutionLifecycle) -> str:
    """Delete the instance; returns whether it is gone or still going. Raises EvolutionFailed."""
    try:
        client.disable_webhook()
        client.delete()
    except EvolutionFailed as error:
        if error.code != "instance_missing":
            raise
    return "instance_deleted" if _wait(lambda: _is_gone(client)) else "deleting"


def _receive_again(session: WhatsAppSession, *, user: User | None) -> None:
    """The deletion failed after its webhook was switched off: what is agreed is made true again."""
    if session.mode is not None:
        with contextlib.suppress(handover.SwitchRefused):
            handover.repair(session, keep="database", user=user)


# -- for jobs, events and signals ------------------------------------------------------------------


def probe_due() -> None:
    """Ask every instance whose time has come, several at a time; a slow one holds up no other."""
    deadline, asked = time.monotonic() + ROUND_SECONDS, set[int]()
    while time.monotonic() < deadline and (ids := _claim(asked)):
        _probe_all(ids)
        asked.update(ids)


def probe_server(url: str) -> None:
    """Ask the instances of one server whose time has come: something showed that it may be away.

    What is still due after ROUND_SECONDS is left to `probe_due`.
    """
    deadline, asked = time.monotonic() + ROUND_SECONDS, set[int]()
    while time.monotonic() < deadline and (ids := _claim(asked, url=url)):
        _probe_all(ids)
        asked.update(ids)


def probe(session_id: int) -> Observation | None:
    """Ask one instance, write down what it told, and mend what can be mended without a person.

    Returns what it told, None where there is nothing to ask.
    """
    session = _configured(session_id)
    if session is None:
        return None
    asked_at = timezone.now()
    linking = session.linking_since is not None and session.linking_since > asked_at - LINKING_FOR
    # Before it is said that it dials in vain: there may be a code that no event has told of.
    _lease(session, asked_at)
    told = _poll(session, with_code=linking or (session.wanted and _dials_long(session, asked_at)))
    cure = _record_observation(session, told, asked_at=asked_at)
    if told.picture_url or (told.picture_url is not None and told.connection == "open"):
        pictures.keep(session, told.picture_url)
    if cure != RecoveryAction.NONE:
        _cure(session, cure)
    return told


def _dials_long(session: WhatsAppSession, now: dt.datetime) -> bool:
    if session.state != State.STARTING or session.state_changed_at is None:
        return session.state_code == "dialling_long"
    return session.state_changed_at <= now - DIALLING_FOR


def request_poll(channel: Channel, *, qr_digest: str = "") -> None:
    """An event said that something changed: ask now. `qr_digest` is of the code on show."""
    with transaction.atomic():
        row = _locked(channel.pk)
        if row is None:
            return
        if qr_digest:
            _note_code(row, qr_digest)
        # It may be another phone.
        row.probe_at = row.number_checked_at = None
        row.save(update_fields=["qr_digest", "qr_seen_at", "probe_at", "number_checked_at"])
        tasks.enqueue_probe(row.pk)


def note_refusal(channel: Channel, code: str, **kwargs: Any) -> None:
    """Signal receiver: a send found that the instance is not connected, or got no answer.

    Where its state says open all the same, the connection behind it is dead (§4, issues 1398 and
    2403), or the server is away.
    """
    if channel.kind == Channel.Kind.BAILEYS:
        act = _note_refusal if code == "instance_not_connected" else _note_no_answer
        # Not with the message's lock held.
        transaction.on_commit(partial(act, channel), robust=True)


def _note_no_answer(channel: Channel) -> None:
    for session_id in WhatsAppSession.objects.filter(channel=channel).values_list("pk", flat=True):
        request_probe(session_id)


def _note_refusal(channel: Channel) -> None:
    with transaction.atomic():
        row = _locked(channel.pk)
        if row is None:
            return
        is_open = row.connection == WhatsAppSession.Connection.OPEN
        if is_open and row.dead_since is None:
            row.dead_since = timezone.now()
        row.probe_at = None
        row.save(update_fields=["dead_since", "probe_at"])
        tasks.enqueue_probe(row.pk)


def note_taken(channel: Channel, **kwargs: Any) -> None:
    """Signal receiver: a send went through after trouble, so the connection lives."""
    transaction.on_commit(partial(_note_taken, channel), robust=True)


def _note_taken(channel: Channel) -> None:
    for session in WhatsAppSession.objects.filter(channel=channel, dead_since__isnull=False):
        _command(session, dead_since=None)
        tasks.enqueue_probe(session.pk)


def channel_saved(sender: type[Channel], instance: Channel, **kwargs: Any) -> None:
    """Signal receiver: the settings may have changed, so what is known may not hold any more."""
    changed = kwargs.get("update_fields")
    if changed is not None and not {*_SETTINGS} & {*changed}:
        return
    with transaction.atomic():
        row = _locked(instance.pk)
        if row is None:
            return
        address = f"{instance.evolution_url} {instance.instance_name}"[:310]
        if row.address != address:
            if row.address:
                _reset(row)
            row.address = address
            row.state, row.state_code, row.state_detail = State.DISCONNECTED, "unchecked", ""
        if not instance.active:
            row.serving = False
            incidents.close_silently(instance, route=ROUTE)
        row.commanded_at, row.probe_at = timezone.now(), None
        row.save(update_fields=_OURS)
        _tell(row)
        if instance.active and _is_configured(instance):
            tasks.enqueue_probe(row.pk)


def _reset(row: WhatsAppSession) -> None:
    """All that is known is about another instance."""
    row.wanted = row.serving = False
    row.linking_since = row.quiet_until = row.dead_since = row.tried_at = row.closed_since = None
    row.last_open_at = row.last_drop_at = row.qr_seen_at = None
    row.note = row.own_number = row.profile_name = row.last_drop_reason = row.qr_digest = ""
    row.tries = 0
    row.connection = WhatsAppSession.Connection.UNKNOWN
    row.connection_reason = ""
    row.number_checked_at = None
    pictures.forget(row)
    number_confirmation.record_linked(row.channel, "")
    Channel.objects.filter(pk=row.channel_id).update(takes_message_ids=False)
    incidents.close_silently(row.channel, route=ROUTE)


# -- asking and writing down -----------------------------------------------------------------------


def _look(session: WhatsAppSession, *, with_code: bool = False) -> Observation:
    """Ask and write down; what could be mended without a person is left to the next probe."""
    asked_at = timezone.now()
    _lease(session, asked_at)
    told = _poll(session, with_code=with_code)
    _record_observation(session, told, asked_at=asked_at, cures=False)
    return told


def _lease(session: WhatsAppSession, asked_at: dt.datetime) -> None:
    """Note that the session is being asked, so that a request for a probe meanwhile is seen."""
    not_commanded = Q(commanded_at=None) | Q(commanded_at__lte=asked_at)
    rows = WhatsAppSession.objects.filter(not_commanded, pk=session.pk)
    rows.update(probe_at=asked_at + LEASE)


def _poll(session: WhatsAppSession, *, with_code: bool = False) -> Observation:
    """Ask for the state and for what it makes worth asking. Never raises."""
    client = EvolutionLifecycle(session.channel, timeout=ASK_SECONDS)
    try:
        told = Observation(connection=client.state())
        if told.connection == "connecting" and with_code:
            # While it is connecting this only tells the code on show (§4).
            return _told_by(client.connect())
        if _row_is_worth_asking(session, told):
            return _with_row(told, client.row(), session)
    except EvolutionFailed as error:
        if error.code == "instance_missing":
            error = _why_missing(client, error)
        return Observation(trouble=error.reason, detail=_detail(error))
    return told


def _why_missing(client: EvolutionLifecycle, error: EvolutionFailed) -> EvolutionFailed:
    """A name that is not there is told to anyone; only the list of instances asks for the key."""
    try:
        client.row()
    except EvolutionFailed as other:
        if other.code == "wrong_key":
            return EvolutionFailed("wrong_key", reason="key_cannot_create", told=other.told)
    return error


def _row_is_worth_asking(session: WhatsAppSession, told: Observation) -> bool:
    if told.connection == "open":
        checked = session.number_checked_at
        stale = checked is None or checked < timezone.now() - NUMBER_EVERY
        is_fresh = _is_freshly_linked(session, timezone.now())
        return stale or is_fresh or session.state != State.READY or not session.own_number
    return told.connection == "close" or session.state_code == "unchecked"


def _is_freshly_linked(session: WhatsAppSession, now: dt.datetime) -> bool:
    """Whether the server's row may still name the phone before: it is written after the opening."""
    linked_at = session.history_before
    return linked_at is not None and now < linked_at + LINK_MARGIN + FRESHLY_LINKED


def _with_row(told: Observation, row: Row, session: WhatsAppSession) -> Observation:
    if not row.is_baileys:
        return Observation(trouble="other_integration")
    ended_with = row.ended_with
    if ended_with is not None and row.ended_at is not None and session.last_open_at is not None:
        # The reason of an earlier end stays in the row when the phone is linked again.
        ended_with = ended_with if row.ended_at > session.last_open_at - SKEW else None
    if told.connection != "open":
        return replace(told, ended_with=ended_with)
    return replace(
        told,
        own_number=row.own_number,
        profile_name=row.profile_name,
        picture_url=row.picture_url,
    )


def _told_by(link: Link) -> Observation:
    word = "open" if link.is_open else "connecting"
    return Observation(connection=word, qr=link.qr, pairing_code=link.pairing_code)


def _record_observation(
    session: WhatsAppSession, told: Observation, *, asked_at: dt.datetime, cures: bool = True
) -> RecoveryAction:
    """Write down what the server told, unless it was told of a time that is over.

    That is: before a command, or before what is written down already was asked for. Returns
    what is to be done about it; it counts as begun.
    """
    with transaction.atomic():
        row = _locked(session.channel_id)
        if row is None or any(at and at > asked_at for at in (row.commanded_at, row.checked_at)):
            return RecoveryAction.NONE
        changed = any(getattr(row.channel, n) != getattr(session.channel, n) for n in _SETTINGS)
        if changed:
            return RecoveryAction.NONE
        now = timezone.now()
        seen = _write_told(row, told, now)
        row.checked_at = asked_at
        care = RecoveryContext(
            wanted=row.wanted and row.channel.active and cures,
            tries=row.tries,
            tried_at=row.tried_at,
            closed_since=row.closed_since,
            left_closed=told.ended_with in LEFT_CLOSED,
        )
        cure = recovery_action_for(seen, care, now=now)
        if cure != RecoveryAction.NONE:
            row.tries, row.tried_at = row.tries + 1, now
        row.save(update_fields=_OURS)
        return cure


def end_of_history(channel: Channel) -> dt.datetime | None:
    """Return the time before which a message of this channel is history, None where it is unknown.

    A link brings the messages of days or years (contracts/evolution-api.md §10.4), as messages.set,
    and Evolution's own store has them like all others. What came late because the instance was
    offline cannot be told from them by its age, which is that of the outage. So the time of the
    link decides: what is older was dealt with on the phone, what is younger was written to an
    instance that was linked. While a code is on show, the link is still to come. An instance that
    was taken over linked has no such time; then only what Evolution calls history is.
    """
    session = WhatsAppSession.objects.filter(channel=channel).first()
    if session is None:
        return None
    shown = session.qr_seen_at if session.qr_digest and session.state != State.READY else None
    link = shown - LINK_MARGIN if shown else None
    return max(filter(None, [session.history_before, link]), default=None)


def _is_linking(row: WhatsAppSession) -> bool:
    """Whether a phone was still to be linked when the server was last asked."""
    waits = row.state in (State.QR, State.PAIRING)
    return waits or bool(row.qr_digest) or row.linking_since is not None


def _write_told(row: WhatsAppSession, told: Observation, now: dt.datetime) -> DerivedState:
    was_linking = _is_linking(row)
    if has_recovered(row.state, row.state_changed_at, now=now):
        row.tries, row.tried_at = 0, None
    _note_connection(row, told, now)
    if told.qr:
        _note_code(row, hashlib.sha256(told.qr.encode()).hexdigest())
    incident = incidents.open_incident(row.channel, route=ROUTE)
    # Where no phone was ever linked there is none that could be missed.
    was_linked = incident is not None and row.last_open_at is not None
    known = _known(row, now, dropped=row.serving or was_linked)
    if told.qr and not known.shown:
        # The server goes on telling the last code after it was scanned or has run out.
        told = replace(told, qr="")
    if told.own_number is not None:
        row.number_checked_at = now
        row.own_number = told.own_number or row.own_number
        row.profile_name = told.profile_name or ""
        if told.own_number or not row.channel.linked_number:
            # Not the number known before: it may be that of the phone before.
            number_confirmation.record_linked(row.channel, told.own_number)
        known = replace(
            known,
            unconfirmed=row.channel.unconfirmed_number,
            unknown=row.channel.is_number_unknown,
        )
    seen = derive(told, known, now=now)
    if told.connection in ("open", "close") or seen.code in ("no_instance", "instance_gone"):
        row.qr_digest, row.qr_seen_at = "", None
        if row.linking_since and seen.state != State.STARTING:
            row.linking_since = None
    row.closed_since = (row.closed_since or now) if told.connection == "close" else None
    is_new_link = was_linking and not row.serving and row.state_code not in (UNCONFIRMED, UNKNOWN)
    if is_new_link and (seen.state == State.READY or seen.code in (UNCONFIRMED, UNKNOWN)):
        row.history_before = now - LINK_MARGIN
    if seen.code == UNCONFIRMED:
        row.wanted, row.last_open_at, row.linking_since = True, now, None
    if seen.state == State.READY:
        seen = replace(seen, code=_ready_code(row, incident))
        _note_ready(row, now)
    elif row.serving and not (row.quiet_until and now < row.quiet_until):
        _note_drop(row, seen, now)
    elif seen.state in (State.QR, State.DISCONNECTED) and row.last_open_at is None:
        # It dials after all, or has given up; no phone was ever linked that could be missed.
        incidents.mark_recovered(row.channel, route=ROUTE, at=now)
    elif incident is not None and incident.recovered_at is None:
        reason = drop_reason(seen)
        incidents.observed(row.channel, route=ROUTE, reason=reason, detail=seen.detail, at=now)
    elif row.wanted and row.channel.active and needs_person(seen):
        incidents.open_or_update(
            row.channel, route=ROUTE, reason=drop_reason(seen), detail=seen.detail, at=now
        )
    _store_state(row, seen, now)
    pause = next_poll_delay(
        seen.state,
        wanted=row.wanted,
        lasting=now - (row.state_changed_at or now),
        chance=random.random(),  # noqa: S311
    )
    if row.connection == WhatsAppSession.Connection.OPEN and _is_freshly_linked(row, now):
        pause = min(pause, FRESH_POLL_SECONDS)
    if row.probe_at is not None:
        # Who asks leaves a lease there: None was written meanwhile, by one who wants it asked anew.
        row.probe_at = now + dt.timedelta(seconds=pause)
    return seen


def _ready_code(row: WhatsAppSession, incident: Incident | None) -> str:
    was_ready = row.state == State.READY
    commanded = row.commanded_at
    return ready_code(
        before=row.state_code if was_ready else "",
        absence=incident.server_absence if incident is not None and not was_ready else "",
        by_itself=incident is not None and (commanded is None or commanded < incident.opened_at),
    )


def _known(row: WhatsAppSession, now: dt.datetime, *, dropped: bool) -> Known:
    dialling = row.state_changed_at if row.state == State.STARTING else None
    # A code lives for 45 s (§3): one that is not renewed is none.
    stale = row.qr_seen_at is not None and row.qr_seen_at <= now - DIALLING_FOR
    if stale and row.state == State.QR:
        dialling = row.qr_seen_at
    if row.state_code == "dialling_long":
        dialling = dt.datetime.min.replace(tzinfo=dt.UTC)
    return Known(
        linked=row.wanted and bool(row.last_open_at),
        ever=row.last_open_at is not None,
        shown=bool(row.qr_digest) and not stale,
        dead=row.dead_since is not None,
        dropped=dropped,
        note=row.note,
        dialling_since=dialling,
        unconfirmed=row.channel.unconfirmed_number,
        unknown=row.channel.is_number_unknown,
    )


def _note_connection(row: WhatsAppSession, told: Observation, now: dt.datetime) -> None:
    """The server's own word, as events tell it, too."""
    if told.connection != "open":
        row.dead_since = None
    if told.connection in ("open", "connecting"):
        row.note = ""
    word = told.connection if told.connection in WhatsAppSession.Connection.values else "unknown"
    if row.connection != word:
        row.connection, row.connection_reason, row.connection_changed_at = word, "", now


def _note_code(row: WhatsAppSession, digest: str) -> None:
    if digest != row.qr_digest:
        row.qr_digest, row.qr_seen_at = digest, timezone.now()
        # A page that shows the code fetches the new one.
        _tell(row)


def _note_ready(row: WhatsAppSession, now: dt.datetime) -> None:
    row.wanted = row.serving = True
    row.last_open_at = now
    row.linking_since = row.quiet_until = None
    incidents.mark_recovered(row.channel, route=ROUTE, at=now)


def _note_drop(row: WhatsAppSession, seen: DerivedState, now: dt.datetime) -> None:
    row.serving = False
    if not row.wanted:
        return
    reason = drop_reason(seen)
    log.warning("instance dropped", instance=row.name, reason=reason)
    row.last_drop_at, row.last_drop_reason = now, reason[:40]
    incidents.open_or_update(row.channel, route=ROUTE, reason=reason, detail=seen.detail, at=now)


def _store_state(row: WhatsAppSession, seen: DerivedState, now: dt.datetime) -> None:
    """Put the state on the row and tell the pages, where it is another one."""
    if is_unlinked(seen.state, seen.code):
        number_confirmation.record_linked(row.channel, "")
    before = (row.state, row.state_code, row.state_detail)
    row.state, row.state_code, row.state_detail = (
        seen.state.value,
        seen.code[:40],
        seen.detail[:300],
    )
    if before == (row.state, row.state_code, row.state_detail):
        return
    if before[0] != row.state or before[1] == "unchecked":
        row.state_changed_at = now
    if seen.state in (State.READY, State.ERROR, State.DISCONNECTED):
        ok = seen.state == State.READY
        row.channel.record_health(ok=ok, detail="" if ok else encode_reason(seen.code, seen.detail))
    _tell(row)


def _write_seen(session: WhatsAppSession, seen: DerivedState) -> None:
    """Write a state that a command of ours has led to."""
    with transaction.atomic():
        row = _locked(session.channel_id)
        if row is not None:
            _store_state(row, seen, timezone.now())
            row.save(update_fields=_OURS)


def _cure(session: WhatsAppSession, cure: RecoveryAction) -> None:
    log.warning("instance is connected anew", instance=session.name, cure=cure.value)
    client = EvolutionLifecycle(session.channel)
    with contextlib.suppress(EvolutionFailed):
        if cure == RecoveryAction.RESTART:
            client.restart()
        else:
            client.connect()
    # Should it still be dead, the next send says so again.
    _command(session, dead_since=None)


def _receive_events(session: WhatsAppSession, *, is_new: bool, user: User | None) -> None:
    """Have the instance deliver its events, where nothing else was agreed.

    The webhook of another program stays: staff decide on the receive-mode card, which also shows
    a failure.
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
        log.warning("instance without events", instance=session.name, error=str(error))


def _fail(session: WhatsAppSession, error: EvolutionFailed) -> NoReturn:
    """Write down that a command failed, and raise SessionRefused."""
    code, detail = error.reason, _detail(error)
    seen = DerivedState(State.DISCONNECTED if code == "name_taken" else State.ERROR, code, detail)
    _write_seen(session, seen)
    raise _refused(code, detail) from None


def _detail(error: EvolutionFailed) -> str:
    """The server's own words, where ours do not say it all."""
    return error.told[:300] if error.reason == "refused_request" else ""


# -- small things ----------------------------------------------------------------------------------


def _locked(channel_id: int) -> WhatsAppSession | None:
    """The session as it is now, locked for others who write about it. In a transaction.

    The channel comes first, as for one who saves it.
    """
    channel = Channel.objects.select_for_update(no_key=True).filter(pk=channel_id).first()
    rows = WhatsAppSession.objects.select_for_update(no_key=True).filter(channel_id=channel_id)
    row = rows.first() if channel is not None else None
    if row is not None and channel is not None:
        row.channel = channel
    return row


def _command(session: WhatsAppSession, *, quiet: bool = False, **values: Any) -> None:
    """Note a command of ours with these values; what was asked before it counts no more."""
    now = timezone.now()
    values |= {"commanded_at": now, "probe_at": now + dt.timedelta(seconds=1)}
    if quiet:
        values["quiet_until"] = now + QUIET_FOR
    WhatsAppSession.objects.filter(pk=session.pk).update(**values)


def _current(session: WhatsAppSession) -> ConnectionState:
    """The state as it is stored now; the caller's session learns it, too."""
    session.refresh_from_db()
    return stored(session)


def _tell(row: WhatsAppSession) -> None:
    """Show it on the pages of the instance, of its channel, and of those that fall back to it."""
    live.session_changed(row)
    for channel in (row.channel, *row.channel.fallback_for.all()):
        signals.session_changed.send(sender=WhatsAppSession, channel=channel)


def _client(session: WhatsAppSession) -> EvolutionLifecycle:
    if not _is_configured(session.channel):
        raise SessionRefused("not_configured", describe("not_configured"))
    return EvolutionLifecycle(session.channel)


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
    asked: Collection[int] = (), *, url: str = "", limit: int | None = PROBES_AT_A_TIME
) -> list[int]:
    """Take due sessions, so that no other worker asks them meanwhile; those wanted at once first.

    No more than are asked at a time: the lease begins with the question, and outlasts it. Those
    that were `asked` in this round wait for the next one. `url`: of this server only.
    """
    now = timezone.now()
    with transaction.atomic():
        due = WhatsAppSession.objects.select_for_update(skip_locked=True, of=("self",)).filter(
            Q(probe_at=None) | Q(probe_at__lte=now),
            channel__kind=Channel.Kind.BAILEYS,
            channel__active=True,
        )
        if url:
            due = due.filter(channel__evolution_url=url)
        due = due.exclude(pk__in=asked).order_by(F("probe_at").asc(nulls_first=True))
        taken = list(due.values_list("pk", flat=True)[:limit])
        WhatsAppSession.objects.filter(pk__in=taken).update(probe_at=now + LEASE)
    return taken


def _probe_all(ids: list[int]) -> None:
    """Ask these instances, PROBES_AT_A_TIME at once.

    Of each server one is asked first: where that says that the server is away, this is recorded for
    all others of it that are due and they are not asked, so a dead server costs one question and
    not one an instance.
    """
    servers: dict[str, list[int]] = {}
    due = WhatsAppSession.objects.filter(pk__in=ids).order_by("probe_at", "pk")
    for session_id, url in due.values_list("pk", "channel__evolution_url"):
        servers.setdefault(url, []).append(session_id)
    if not servers:
        return
    with ThreadPoolExecutor(max_workers=PROBES_AT_A_TIME) as pool:
        running = {
            pool.submit(_run, partial(_probe_first, url, mine)) for url, mine in servers.items()
        }
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_run, step) for one in done for step in one.result()}


# A step of `_probe_all`; it returns those that follow from it.
_Step = Callable[[], "list[_Step]"]


def _run(step: _Step) -> list[_Step]:
    try:
        return step()
    except Exception as error:
        log.exception("probe failed", error=type(error).__name__)
        return []
    finally:
        database.close()


def _probe_first(url: str, ids: list[int]) -> list[_Step]:
    """Ask one instance of a server, or two where the first gave no answer."""
    asked_at, rest = timezone.now(), ids[1:]
    told = probe(ids[0])
    second = None
    if told is not None and told.trouble in SERVER_SILENT and rest:
        second, rest = probe(rest[0]), rest[1:]
    if told is not None and holds_for_server(told, second):
        rest += _claim(ids, url=url, limit=None)
        return [partial(_note_server, other, told, asked_at) for other in rest]
    return [partial(_probe_one, other) for other in rest]


def _probe_one(session_id: int) -> list[_Step]:
    probe(session_id)
    return []


def _note_server(session_id: int, told: Observation, asked_at: dt.datetime) -> list[_Step]:
    """Write down for an instance what another one of its server told of the server."""
    session = _configured(session_id)
    if session is not None:
        _record_observation(session, told, asked_at=asked_at)
    return []


def _configured(session_id: int) -> WhatsAppSession | None:
    session = WhatsAppSession.objects.select_related("channel").filter(pk=session_id).first()
    return session if session is not None and _is_configured(session.channel) else None
