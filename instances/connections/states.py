"""Derives the state of an Evolution instance and the recovery action. Pure.

The server's three states are ambiguous (docs/providers/evolution.md §3, §4). `connecting` means a
code is displayed, a short connection attempt, or one that never ends. `close` means the phone was
never linked, was unlinked, or is only offline. `open` may hide a dead connection. Only `derive`
resolves this.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from channels_app.connections.linked_numbers import UNCONFIRMED, UNKNOWN
from channels_app.connections.recovery import RecoveryAction, RecoveryContext, attempt_is_due
from channels_app.providers import sessions
from channels_app.providers.sessions import DerivedState, State

# After these reasons Evolution does not reconnect (§3): the login is gone.
UNLINKED = frozenset({401})
REFUSED = frozenset({402, 403, 406})
# After this one 2.4 does not reconnect either, although the phone may still be linked (§10).
LEFT_CLOSED = frozenset({408})
# Connecting takes seconds; after this long it does not finish without help.
DIALING_FOR = dt.timedelta(minutes=2)
# A server that has just started connects its instances itself.
CLOSED_FOR = dt.timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Observation(sessions.Observation):
    """What a server reported about an instance.

    `connection` is the server's own value. `qr` is the text of the code, requested only while
    somebody needs to scan it. The other fields are requested when needed and None otherwise:
    `ended_with` is WhatsApp's reason for the last disconnection.
    """

    connection: str = ""
    pairing_code: str = ""
    ended_with: int | None = None
    own_number: str | None = None
    profile_name: str | None = None
    picture_url: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """The stored facts about an instance.

    `linked`: a phone was linked and has not been unlinked since. `shown`: a code was displayed.
    `dropped`: it worked until it disconnected, and no user disconnected it. `dialing_since`:
    since when it has been connecting without a code. `unconfirmed`: the linked number if nobody
    has confirmed it. `unknown`: the linked phone is not known yet.
    """

    linked: bool = False
    shown: bool = False
    ever: bool = False
    dead: bool = False
    dropped: bool = False
    note: str = ""
    unconfirmed: str = ""
    unknown: bool = False
    dialing_since: dt.datetime | None = None


def derive(observation: Observation, known: Known, *, now: dt.datetime) -> DerivedState:
    """Return the state of the instance and its reason."""
    if observation.error_code == "instance_missing":
        if known.note in ("instance_deleted", "deleting"):
            return DerivedState(State.DISCONNECTED, "instance_deleted")
        return DerivedState(State.DISCONNECTED, "instance_gone" if known.ever else "no_instance")
    if observation.error_code:
        return DerivedState(State.ERROR, observation.error_code, observation.detail)
    if observation.connection == "open":
        return _open(known)
    if observation.connection == "connecting":
        return _connecting(observation, known, now)
    if observation.connection == "close":
        return _closed(observation, known)
    return DerivedState(State.ERROR, "unreadable_answer")


def _open(known: Known) -> DerivedState:
    if known.dead:
        return DerivedState(State.ERROR, "dead_socket")
    if known.unknown:
        return DerivedState(State.CONNECTED, UNKNOWN)
    if known.unconfirmed:
        return DerivedState(State.ERROR, UNCONFIRMED, f"+{known.unconfirmed}")
    return DerivedState(State.READY, "ready")


def _connecting(observation: Observation, known: Known, now: dt.datetime) -> DerivedState:
    if observation.qr or known.shown:
        return DerivedState(State.QR, "unlinked_scan_qr" if known.dropped else "waiting_for_scan")
    since = known.dialing_since
    if since is not None and now - since >= DIALING_FOR:
        return DerivedState(State.ERROR, "dialling_long")
    return DerivedState(State.STARTING, "dialling")


def _closed(observation: Observation, known: Known) -> DerivedState:
    if known.note and known.note != "instance_deleted":
        return DerivedState(State.DISCONNECTED, known.note)
    if observation.ended_with in REFUSED:
        return DerivedState(State.ERROR, "refused_by_whatsapp", f"{observation.ended_with}")
    if observation.ended_with in UNLINKED and known.ever:
        return DerivedState(State.DISCONNECTED, "unlinked_on_phone")
    if known.shown:
        return DerivedState(State.DISCONNECTED, "qr_limit")
    return DerivedState(State.DISCONNECTED, "connection_lost" if known.linked else "not_linked")


def recovery_action_for(
    derived: DerivedState, context: RecoveryContext, *, now: dt.datetime
) -> RecoveryAction:
    """Return the action that would reconnect an instance without a new code.

    If the phone is no longer linked, only a user can reconnect it.
    """
    if not attempt_is_due(context, now=now):
        return RecoveryAction.NONE
    if derived.code in ("dead_socket", "dialling_long"):
        return RecoveryAction.RESTART
    closed = context.closed_since is not None and now >= context.closed_since + CLOSED_FOR
    should_connect = closed or context.left_closed
    return (
        RecoveryAction.START
        if derived.code == "connection_lost" and should_connect
        else RecoveryAction.NONE
    )
