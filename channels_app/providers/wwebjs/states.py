"""Derives the state of a wwebjs-api session from what the server reports. Pure.

The server reports little, and some of it is misleading (docs/providers/wwebjs.md §2): it does not
distinguish a starting session from a missing one, reports CONNECTED before a message can be sent,
and continues to serve an expired QR code. Only `derive` handles these cases.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from channels_app.providers import sessions
from channels_app.providers.sessions import DerivedState, State


@dataclass(frozen=True, slots=True)
class Observation(sessions.Observation):
    """What a server reported about a session.

    `socket` is the state of WhatsApp Web's socket; `message` is the server's message if there is no
    socket. `own_number` (digits) and `name` are only known once the session can send (`ready`).
    `qr` is requested only while the session waits for a scan.
    """

    connected: bool = False
    socket: str = ""
    message: str = ""
    ready: bool = False
    own_number: str = ""
    name: str = ""


# A code is shown although a phone was linked before.
UNLINKED = "unlinked_scan_qr"
_SOCKETS = {
    "UNPAIRED": DerivedState(State.QR, "waiting_for_scan"),
    "PAIRING": DerivedState(State.PAIRING, "pairing"),
    "OPENING": DerivedState(State.STARTING, "opening"),
    "TIMEOUT": DerivedState(State.STARTING, "opening"),
    "UNPAIRED_IDLE": DerivedState(State.ERROR, "qr_expired"),
    "CONFLICT": DerivedState(State.ERROR, "conflict"),
}
_CLOSED = frozenset({"browser tab closed", "session closed"})
# The session itself may cause these reasons, so a restart can resolve them.
_RESOLVED_BY_RESTART = frozenset(
    {
        "session_closed",
        "session_check_failed",
        "qr_expired",
        "conflict",
        "refused_by_whatsapp",
        "never_ready",
    }
)
# Loading takes seconds, or a minute with many chats. If it takes longer, it never completes
# (whatsapp-web.js #3785, §7.3).
SYNC_LIMIT = dt.timedelta(minutes=2)


def derive(
    observation: Observation,
    *,
    starting: bool = False,
    syncing_for: dt.timedelta = dt.timedelta(0),
    unconfirmed: str = "",
    unknown: bool = False,
    was_linked: bool = False,
) -> DerivedState:
    """Return the state of the session. `starting`: a start that we requested is in progress.

    `syncing_for` is how long it has been connected without being ready; `unconfirmed` is the linked
    number if nobody has confirmed it; `unknown`: the linked phone is not known yet. `was_linked`:
    it worked until it dropped, so a visible code means that the phone was unlinked.
    """
    if observation.error_code:
        return DerivedState(State.ERROR, observation.error_code, observation.detail)
    if observation.connected:
        if not observation.ready:
            if syncing_for >= SYNC_LIMIT:
                return DerivedState(State.ERROR, "never_ready")
            return DerivedState(State.CONNECTED, "syncing")
        if unknown:
            return DerivedState(State.CONNECTED, "number_unknown")
        if unconfirmed:
            return DerivedState(State.ERROR, "number_unconfirmed", f"+{unconfirmed}")
        return DerivedState(State.READY, "ready")
    if observation.socket:
        derived = _SOCKETS.get(
            observation.socket, DerivedState(State.ERROR, "refused_by_whatsapp", observation.socket)
        )
        if was_linked and derived.state == State.QR:
            derived = DerivedState(State.QR, UNLINKED)
        is_restarting = starting and derived.code in _RESOLVED_BY_RESTART
        return DerivedState(State.STARTING, "restarting") if is_restarting else derived
    if observation.message == "session_not_found":
        started = DerivedState(State.STARTING, "starting")
        return started if starting else DerivedState(State.DISCONNECTED, "not_started")
    if starting:
        return DerivedState(State.STARTING, "restarting")
    if observation.message == "session_not_connected":
        # Lost between two requests, so its current state is not known yet.
        return DerivedState(State.STARTING, "opening")
    if observation.message in _CLOSED:
        return DerivedState(State.ERROR, "session_closed")
    return DerivedState(State.ERROR, "session_check_failed", observation.message)


def recovers_by_restart(code: str) -> bool:
    return code in _RESOLVED_BY_RESTART
