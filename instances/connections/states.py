"""What an Evolution instance is doing, and what follows from it. Pure.

The server's three words hide much (contracts/evolution-api.md §3, §4): `connecting` is a code on
show, a dialling that ends in a moment, or one that never ends; `close` is a phone that was never
linked, was unlinked, or is only away; `open` may have a dead connection behind it. `derive` is the
one place that knows.
"""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

from channels_app.connections.linked_numbers import ANOTHER_PHONE, UNCONFIRMED, UNKNOWN
from channels_app.connections.states import RECOVERY_PAUSES, DerivedState, State

# Reasons with which Evolution does not dial again (§3): the login is gone.
UNLINKED = frozenset({401})
REFUSED = frozenset({402, 403, 406})
# With this one 2.4 does not dial again either, although the phone may be linked still (§10).
LEFT_CLOSED = frozenset({408})
# No instance of the server can be reached: what one says of it holds for all.
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
# The server may be dead, or only busy with this one instance: a second one decides.
SERVER_SILENT = frozenset({"timeout", "connection_broken"})
# Dialling takes seconds; one that lasts so long does not end by itself.
DIALLING_FOR = dt.timedelta(minutes=2)
# A server that has just come up dials its instances itself.
CLOSED_FOR = dt.timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Observation:
    """What a server said of an instance.

    `trouble` is a word of `cloud_errors` or SENTENCES where it did not tell the state. `connection`
    is its own word. `qr` is the text of the code, asked for only while somebody is to scan it. The
    rest is asked for where it matters, None where it was not: `ended_with` is WhatsApp's reason of
    the last end.
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
    """What is remembered of an instance.

    `linked` says that a phone was linked and nothing unlinked it since; `shown` that a code was on
    show; `dropped` that it served until it dropped, and no person ended it; `dialling_since` how
    long it has been connecting without a code; `unconfirmed` is the linked number where nobody has
    confirmed it; `unknown` says that it is not known yet which phone is linked.
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


def holds_for_server(first: Observation, second: Observation | None = None) -> bool:
    """Whether the answers for one or two instances say how all of their server's are."""
    if first.trouble in SERVER_AWAY or first.trouble == "license_required":
        return True
    silent = first.trouble in SERVER_SILENT
    return silent and second is not None and second.trouble in SERVER_SILENT


def derive(told: Observation, known: Known, *, now: dt.datetime) -> DerivedState:
    """Return what the instance is doing, and why."""
    if told.trouble == "instance_missing":
        if known.note in ("instance_deleted", "deleting"):
            return DerivedState(State.DISCONNECTED, "instance_deleted")
        return DerivedState(State.DISCONNECTED, "instance_gone" if known.ever else "no_instance")
    if told.trouble:
        return DerivedState(State.ERROR, told.trouble, told.detail)
    if told.connection == "open":
        return _open(known)
    if told.connection == "connecting":
        return _connecting(told, known, now)
    if told.connection == "close":
        return _closed(told, known)
    return DerivedState(State.ERROR, "unreadable_answer")


def _open(known: Known) -> DerivedState:
    if known.dead:
        return DerivedState(State.ERROR, "dead_socket")
    if known.unknown:
        return DerivedState(State.CONNECTED, UNKNOWN)
    if known.unconfirmed:
        return DerivedState(State.ERROR, UNCONFIRMED, f"+{known.unconfirmed}")
    return DerivedState(State.READY, "ready")


def _connecting(told: Observation, known: Known, now: dt.datetime) -> DerivedState:
    if told.qr or known.shown:
        return DerivedState(State.QR, "unlinked_scan_qr" if known.dropped else "waiting_for_scan")
    since = known.dialling_since
    if since is not None and now - since >= DIALLING_FOR:
        return DerivedState(State.ERROR, "dialling_long")
    return DerivedState(State.STARTING, "dialling")


def _closed(told: Observation, known: Known) -> DerivedState:
    if known.note and known.note != "instance_deleted":
        return DerivedState(State.DISCONNECTED, known.note)
    if told.ended_with in REFUSED:
        return DerivedState(State.ERROR, "refused_by_whatsapp", f"{told.ended_with}")
    if told.ended_with in UNLINKED and known.ever:
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
    """What a cure depends on. `tries` and `tried_at` count those made since it had recovered.

    `left_closed`: the server is known not to dial again by itself.
    """

    wanted: bool
    tries: int = 0
    tried_at: dt.datetime | None = None
    closed_since: dt.datetime | None = None
    left_closed: bool = False


def recovery_action_for(
    seen: DerivedState, care: RecoveryContext, *, now: dt.datetime
) -> RecoveryAction:
    """Return what would bring back an instance that is to be connected, without a new code.

    Where the phone is not linked any more only a person can help.
    """
    if not care.wanted or care.tries >= len(RECOVERY_PAUSES):
        return RecoveryAction.NONE
    if care.tried_at and now < care.tried_at + dt.timedelta(seconds=RECOVERY_PAUSES[care.tries]):
        return RecoveryAction.NONE
    if seen.code in ("dead_socket", "dialling_long"):
        return RecoveryAction.RESTART
    closed = care.closed_since is not None and now >= care.closed_since + CLOSED_FOR
    dials = closed or care.left_closed
    return RecoveryAction.DIAL if seen.code == "connection_lost" and dials else RecoveryAction.NONE


def drop_reason(seen: DerivedState) -> str:
    """Return why an instance does not serve any more, as a reason and not as an advice."""
    return {
        "dialling": "connection_lost",
        "instance_gone": "instance_vanished",
        UNCONFIRMED: ANOTHER_PHONE,
    }.get(seen.code, seen.code)


def needs_person(seen: DerivedState) -> bool:
    """Whether this is an incident even of an instance that did not serve before."""
    return seen.code in ("dialling_long", "license_required", UNCONFIRMED)
