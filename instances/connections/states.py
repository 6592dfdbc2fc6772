"""Derives the state of an Evolution instance and the recovery action. Pure.

The server's three states are ambiguous (docs/providers/evolution.md §3, §4). `connecting` means a
code is displayed, a short connection attempt, or one that never ends. `close` means the phone was
never linked, was unlinked, or is only offline. `open` may hide a dead connection. Only `derive`
resolves this.
"""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

from channels_app.connections.linked_numbers import ANOTHER_PHONE, UNCONFIRMED, UNKNOWN
from channels_app.connections.states import RECOVERY_PAUSES
from channels_app.providers.sessions import DerivedState, State

# After these reasons Evolution does not reconnect (§3): the login is gone.
UNLINKED = frozenset({401})
REFUSED = frozenset({402, 403, 406})
# After this one 2.4 does not reconnect either, although the phone may still be linked (§10).
LEFT_CLOSED = frozenset({408})
# The server is unreachable: the result for one instance applies to all.
SERVER_AWAY = frozenset(
    {
        "dns_failed",
        "connection_refused",
        "connect_timeout",
        "unreachable",
        "certificate_refused",
        "not_tls",
        "tls_failed",
    }
)
# The server may be down, or only slow for this instance: polling a second one decides.
SERVER_SILENT = frozenset({"timeout", "connection_broken"})
# Connecting takes seconds; after this long it does not finish without help.
DIALLING_FOR = dt.timedelta(minutes=2)
# A server that has just started connects its instances itself.
CLOSED_FOR = dt.timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Observation:
    """What a server reported about an instance.

    `trouble` is a code from `error_codes` or SENTENCES if the server did not report the state.
    `connection` is the server's own value. `qr` is the text of the code, requested only while
    somebody needs to scan it. The other fields are requested when needed and None otherwise:
    `ended_with` is WhatsApp's reason for the last disconnection.
    """

    trouble: str = ""
    detail: str = ""
    connection: str = ""
    qr: str = ""
    pairing_code: str = ""
    ended_with: int | None = None
    own_number: str | None = None
    profile_name: str | None = None
    picture_url: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """The stored facts about an instance.

    `linked`: a phone was linked and has not been unlinked since. `shown`: a code was displayed.
    `dropped`: it worked until it disconnected, and no user disconnected it. `dialling_since`:
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
    dialling_since: dt.datetime | None = None


def applies_to_server(first: Observation, second: Observation | None = None) -> bool:
    """Return whether the answers for one or two instances apply to the whole server."""
    if first.trouble in SERVER_AWAY or first.trouble == "license_required":
        return True
    is_silent = first.trouble in SERVER_SILENT
    return is_silent and second is not None and second.trouble in SERVER_SILENT


def derive(observation: Observation, known: Known, *, now: dt.datetime) -> DerivedState:
    """Return the state of the instance and its reason."""
    if observation.trouble == "instance_missing":
        if known.note in ("instance_deleted", "deleting"):
            return DerivedState(State.DISCONNECTED, "instance_deleted")
        return DerivedState(State.DISCONNECTED, "instance_gone" if known.ever else "no_instance")
    if observation.trouble:
        return DerivedState(State.ERROR, observation.trouble, observation.detail)
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
    since = known.dialling_since
    if since is not None and now - since >= DIALLING_FOR:
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


class RecoveryAction(enum.StrEnum):
    NONE = "none"
    DIAL = "dial"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class RecoveryContext:
    """The input for a recovery action. `tries` counts actions since it had recovered.

    `left_closed`: the server is known not to reconnect automatically.
    """

    wanted: bool
    tries: int = 0
    tried_at: dt.datetime | None = None
    closed_since: dt.datetime | None = None
    left_closed: bool = False


def recovery_action_for(
    derived: DerivedState, context: RecoveryContext, *, now: dt.datetime
) -> RecoveryAction:
    """Return the action that would reconnect an instance without a new code.

    If the phone is no longer linked, only a user can reconnect it.
    """
    if not context.wanted or context.tries >= len(RECOVERY_PAUSES):
        return RecoveryAction.NONE
    if context.tried_at and now < context.tried_at + dt.timedelta(
        seconds=RECOVERY_PAUSES[context.tries]
    ):
        return RecoveryAction.NONE
    if derived.code in ("dead_socket", "dialling_long"):
        return RecoveryAction.RESTART
    closed = context.closed_since is not None and now >= context.closed_since + CLOSED_FOR
    should_connect = closed or context.left_closed
    return (
        RecoveryAction.DIAL
        if derived.code == "connection_lost" and should_connect
        else RecoveryAction.NONE
    )


def drop_reason(derived: DerivedState) -> str:
    """Return why an instance stopped working, as a reason and not as advice."""
    return {
        "dialling": "connection_lost",
        "instance_gone": "instance_vanished",
        UNCONFIRMED: ANOTHER_PHONE,
    }.get(derived.code, derived.code)


def needs_person(derived: DerivedState) -> bool:
    """Return whether this is an incident even if the instance did not work before."""
    return derived.code in ("dialling_long", "license_required", UNCONFIRMED)
