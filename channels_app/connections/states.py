"""What a wwebjs-api session is doing, and what follows from it. Pure.

The server tells little and some of it misleads (contracts/wwebjs-api.md §2): a session that starts
is as unknown to it as one that does not exist, CONNECTED comes before a message can be sent, and a
dead QR code goes on being served. `derive` is the one place that knows.
"""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class State(TextChoices):
    """The states of the REST contract, with words for a badge."""

    NOT_CONFIGURED = "not_configured", _("Not configured")
    DISCONNECTED = "disconnected", _("Disconnected")
    STARTING = "starting", _("Starting")
    QR = "qr", _("Waiting for the QR code")
    PAIRING = "pairing", _("Linking the phone")
    CONNECTED = "connected", _("Loading")
    READY = "ready", _("Ready")
    ERROR = "error", _("Not working")


@dataclass(frozen=True, slots=True)
class Observation:
    """What a server said of a session.

    `trouble` is a word of `cloud_errors` where it said nothing usable. `socket` is the state of
    WhatsApp Web's socket, `message` the server's word where there is none. `own_number` (digits)
    and `name` are only known once the session can send (`ready`). `qr` is the text of the code,
    asked for only while one is due.
    """

    trouble: str = ""
    detail: str = ""
    connected: bool = False
    socket: str = ""
    message: str = ""
    ready: bool = False
    own_number: str = ""
    name: str = ""
    qr: str = ""


@dataclass(frozen=True, slots=True)
class DerivedState:
    """A state and the reason for it: a key of SENTENCES, or a word of `cloud_errors`.

    `detail` is the server's own words, where they say more.
    """

    state: State
    code: str
    detail: str = ""


SENTENCES: dict[str, str | Promise] = {
    "unchecked": _("The connection is being checked."),
    "not_started": _("The session is not started; connect it."),
    "starting": _("The session is starting; this can take a few minutes."),
    "restarting": _("The session is being started again."),
    "opening": _("The session has no connection to WhatsApp yet."),
    "waiting_for_scan": _("Waiting for the QR code to be scanned."),
    "unlinked_scan_qr": _("The phone was unlinked: read the QR code."),
    "pairing": _("The phone is being linked."),
    "syncing": _("Connected, but WhatsApp is still loading."),
    "never_ready": _(
        "Connected to WhatsApp for minutes without becoming ready to send; a new start usually "
        "helps."
    ),
    "ready": _("Ready to send."),
    "ready_after_restart": _("Ready to send. It came back by itself after the server restarted."),
    "ready_after_outage": _(
        "Ready to send. It came back by itself once the server could be reached again."
    ),
    "qr_expired": _("The QR code has run out; start the session again."),
    "unlinked_on_phone": _("The session was unlinked on the phone."),
    "conflict": _("WhatsApp Web was opened somewhere else with this session."),
    "refused_by_whatsapp": _("WhatsApp does not let this session in."),
    "start_failed": _("The session could not be started."),
    "start_no_answer": _("The session did not come up in time."),
    "unlinked": _("Disconnected here; the phone was unlinked."),
    "stopped": _("Stopped here; the phone stays linked."),
    "number_unconfirmed": _(
        "The linked phone has the number %(who)s, which nobody has confirmed for this channel: "
        "nothing is sent by it until somebody does."
    ),
    "number_unknown": _(
        "Connected, but the server does not report yet which phone is linked: nothing is sent by "
        "it until its number is known."
    ),
    "another_phone": _("Another phone was linked, whose number nobody confirmed."),
    "came_up": _(
        "It was stopped here and came up by itself with its server: it is being stopped again."
    ),
    "stopped_again": _(
        "Stopped again after it came up by itself with its server, because it was stopped here; "
        "the phone stays linked."
    ),
    "unlinking": _(
        "The session is still starting; the phone is unlinked as soon as it is up. Connect it to "
        "keep it linked."
    ),
    # Of an Evolution instance.
    "not_linked": _("No phone is linked; connect it by QR code."),
    "dialling": _("Evolution is connecting to WhatsApp."),
    "dialling_long": _(
        "Evolution has been connecting for minutes without success; reconnect, or log out and "
        "link the phone anew."
    ),
    "license_required": _(
        "The Evolution server does nothing until its licence is activated: open its manager and "
        "activate it there."
    ),
    "reconnecting": _("The instance is being connected anew."),
    "qr_limit": _("Nobody scanned the QR code in time; ask for a new one."),
    "connection_lost": _("The connection to WhatsApp was lost."),
    "dead_socket": _(
        "Evolution says that it is connected, but refuses to send: its connection is dead."
    ),
    "no_instance": _("Evolution has no instance of this name yet; create it here."),
    "instance_gone": _("Evolution does not have this instance any more; create it again."),
    "instance_vanished": _("The instance disappeared from the Evolution server."),
    "instance_deleted": _("The instance was deleted here."),
    "deleting": _("Evolution has not finished deleting the instance yet."),
    "name_taken": _(
        "Evolution holds another instance of this name, or has not finished deleting it. Try "
        "again in a moment."
    ),
    "key_cannot_create": _(
        "This key may not create instances: enter the server's own key "
        "(AUTHENTICATION_API_KEY), or create the instance in Evolution."
    ),
    "other_integration": _("This Evolution instance is not a Baileys one; choose another name."),
    "instance_open": _("Connected to WhatsApp."),
    "instance_connecting": _("Connecting: waiting for the QR code or for WhatsApp."),
    "instance_close": _("Not connected: link the phone by QR code."),
    "instance_in_unknown_state": _("Evolution tells a state that is not known here."),
    "not_running": _(
        "The session was not running, so nothing was unlinked. If the phone still lists it under "
        "linked devices, remove it there."
    ),
    # What a test of the connection finds.
    "ready_as": _("Ready to send as %(who)s"),
    "number_in_coexistence": _(
        "%(who)s · coexistence with the app; the fallback can use the same number"
    ),
    "number_answers": _("%(who)s · Meta does not say whether the app uses the number as well"),
    "number_on_cloud_only": _("%(who)s · Cloud API only; a fallback sends from another number"),
    "number_filled_in": _("The channel's phone number was filled in."),
    # Of the receive mode of an Evolution instance, and of the socket to it.
    "websocket_off": _("The Evolution server runs with WEBSOCKET_ENABLED=false."),
    "websocket_not_kept": _("Evolution did not keep the WebSocket that was set."),
    "websocket_still_on": _("Evolution did not switch the WebSocket off."),
    "webhook_not_kept": _("Evolution did not keep the webhook that was set."),
    "webhook_still_on": _("Evolution did not switch the webhook off."),
    "mode_not_undone": _("Evolution did not go back to the old way."),
    "not_joined": _("The socket was lost during the switch."),
    "cancelled_by_person": _("Cancelled by a person."),
    "socket_not_open": _("Evolution has not opened the instance's socket yet."),
    "socket_unproven": _(
        "Nothing came yet at the root of Evolution's socket: the first event shows that it is in"
        " global mode."
    ),
    "socket_refused": _("Evolution does not let us join the socket."),
    "socket_lost": _("The connection to Evolution's socket was lost."),
    "socket_no_answer": _("Evolution's socket does not answer."),
    "socket_failed": _("The connection to Evolution's socket failed."),
    # Why Evolution's receive mode is not the agreed one, and what became of fetching messages.
    "drift_mode": _("Evolution has another receive mode than the one that was set here."),
    "drift_webhook": _("Evolution's webhook is not set as it is here; events may not arrive."),
    "drift_emptied": _("Evolution has emptied the webhook; events do not arrive."),
    "drift_base64": _("Evolution's webhook has another setting for media as Base64."),
    "drift_websocket": _("Evolution's WebSocket leaves out events."),
    "drift_contested": _(
        "Somebody keeps changing this instance's receive mode in Evolution. It is not repaired"
        " automatically any more: find out which system does it, then repair it here."
    ),
    "backfill_failed": _("The missing messages could not be read."),
    "backfill_not_stored": _("The missing messages could not be stored."),
}

# A code is on show to which a phone was linked before.
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
# Reasons that the library gives with `disconnected` and `change_state` (§2, §4).
_DROPS = {
    "UNPAIRED": "unlinked_on_phone",
    "LOGOUT": "unlinked_on_phone",
    "CONFLICT": "conflict",
}
# In these the session may be the cause, so that starting it anew is a cure.
_CURED_BY_RESTART = frozenset(
    {
        "session_closed",
        "session_check_failed",
        "qr_expired",
        "conflict",
        "refused_by_whatsapp",
        "never_ready",
    }
)
# Loading takes seconds, with many chats a minute. What lasts longer does not end by itself
# (whatsapp-web.js #3785, §7.3).
SYNC_LIMIT = dt.timedelta(minutes=2)


def derive(
    told: Observation,
    *,
    starting: bool = False,
    syncing_for: dt.timedelta = dt.timedelta(0),
    unconfirmed: str = "",
    unknown: bool = False,
    was_linked: bool = False,
) -> DerivedState:
    """Return what the session is doing. `starting`: we asked for a start that is still running.

    `syncing_for` is how long it has been connected without being ready; `unconfirmed` is the
    linked number where nobody has confirmed it; `unknown`: it is not known yet which phone is
    linked. `was_linked`: it served until it dropped, so that a code on show means an unlinked
    phone.
    """
    if told.trouble:
        return DerivedState(State.ERROR, told.trouble, told.detail)
    if told.connected:
        if not told.ready:
            if syncing_for >= SYNC_LIMIT:
                return DerivedState(State.ERROR, "never_ready")
            return DerivedState(State.CONNECTED, "syncing")
        if unknown:
            return DerivedState(State.CONNECTED, "number_unknown")
        if unconfirmed:
            return DerivedState(State.ERROR, "number_unconfirmed", f"+{unconfirmed}")
        return DerivedState(State.READY, "ready")
    if told.socket:
        seen = _SOCKETS.get(
            told.socket, DerivedState(State.ERROR, "refused_by_whatsapp", told.socket)
        )
        if was_linked and seen.state == State.QR:
            seen = DerivedState(State.QR, UNLINKED)
        begun_anew = starting and seen.code in _CURED_BY_RESTART
        return DerivedState(State.STARTING, "restarting") if begun_anew else seen
    if told.message == "session_not_found":
        starts = DerivedState(State.STARTING, "starting")
        return starts if starting else DerivedState(State.DISCONNECTED, "not_started")
    if starting:
        return DerivedState(State.STARTING, "restarting")
    if told.message == "session_not_connected":
        # Lost between two questions, so there is no word yet of what it is now.
        return DerivedState(State.STARTING, "opening")
    if told.message in _CLOSED:
        return DerivedState(State.ERROR, "session_closed")
    return DerivedState(State.ERROR, "session_check_failed", told.message)


def drop_reason(seen: DerivedState, announced: str = "") -> str:
    """Return why a session is not ready any more: what the library announced says more.

    A code on show asks for a person whatever was announced, and so does a server that cannot be
    asked.
    """
    if seen.code == "number_unconfirmed":
        return "another_phone"
    if seen.state == State.QR:
        return UNLINKED
    if seen.state == State.ERROR and seen.code in SERVER_ABSENCES:
        return seen.code
    return _DROPS.get(announced.upper()) or seen.code


# -- what an outage says ---------------------------------------------------------------------------

# Reasons that show that the server itself was away: it was not running, or does not know a session
# that it had; or nothing reached it.
SERVER_ABSENCES: dict[str, str] = {
    "connection_refused": "restarted",
    "not_started": "restarted",
    **dict.fromkeys(
        ("dns_failed", "connect_timeout", "unreachable", "timeout", "connection_broken"),
        "unreachable",
    ),
}
_READY_AFTER = {"restarted": "ready_after_restart", "unreachable": "ready_after_outage"}


def ready_code(*, before: str, absence: str, by_itself: bool) -> str:
    """Return the code of a session that is ready.

    `before` is the code that is stored: what brought a session back is said until it drops again.
    `absence` is how the server was missing since the drop, `by_itself` whether no command was given
    since then.
    """
    if by_itself and absence in _READY_AFTER:
        return _READY_AFTER[absence]
    return before if before in _READY_AFTER.values() else "ready"


def recovers_by_restart(code: str) -> bool:
    return code in _CURED_BY_RESTART


# -- when to ask again -----------------------------------------------------------------------------

POLL_SECONDS = 60.0
PROBLEM_POLL_SECONDS = 10.0
FAST_POLL_SECONDS = 1.5
# A state that should pass does not for ever deserve the quick pace.
FAST_POLL_FOR = dt.timedelta(minutes=10)
PROBLEM_POLL_FOR = dt.timedelta(minutes=10)
_PASSING = (State.STARTING, State.QR, State.PAIRING, State.CONNECTED)


def next_poll_delay(state: State, *, wanted: bool, lasting: dt.timedelta, chance: float) -> float:
    """Return the seconds until the session is asked again.

    `lasting` is how long the state has lasted; `chance` (0 to 1) spreads channels over time.
    """
    if state in _PASSING and lasting < FAST_POLL_FOR:
        return FAST_POLL_SECONDS
    if state in (State.ERROR, State.DISCONNECTED) and wanted and lasting < PROBLEM_POLL_FOR:
        return PROBLEM_POLL_SECONDS * (0.8 + 0.4 * chance)
    return POLL_SECONDS * (0.8 + 0.4 * chance)


# -- what to do about it ---------------------------------------------------------------------------


class RecoveryAction(enum.StrEnum):
    NONE = "none"
    START = "start"
    RESTART = "restart"


# Seconds between the starts that are made by themselves. A start that fails leaves a whole browser
# behind (§2), so there are few, and then only a person may.
RECOVERY_PAUSES = (0, 300, 1800, 7200)
# A session that was ready for so long has recovered: the next starts are counted from 0 again.
RECOVERED_AFTER = dt.timedelta(minutes=10)
# A server that has just come up restores its sessions itself, unknown to all meanwhile.
MISSING_FOR = dt.timedelta(seconds=60)
# One slow answer is no hanging page.
MAX_SLOW_CHECKS = 2


@dataclass(frozen=True, slots=True)
class RecoveryContext:
    """What a cure depends on. `tries` and `tried_at` count the starts since it had recovered."""

    wanted: bool
    tries: int = 0
    tried_at: dt.datetime | None = None
    hangs: int = 0
    missing_since: dt.datetime | None = None


def has_recovered(state: str, since: dt.datetime | None, *, now: dt.datetime) -> bool:
    """Whether a session is ready for so long that earlier recoveries count no more."""
    return state == State.READY and since is not None and now >= since + RECOVERED_AFTER


def recovery_action_for(
    seen: DerivedState, care: RecoveryContext, *, now: dt.datetime
) -> RecoveryAction:
    """Return what would bring a session back that a person wants connected.

    A dead QR code is left alone: it is replaced when somebody looks at it.
    """
    if not care.wanted or care.tries >= len(RECOVERY_PAUSES):
        return RecoveryAction.NONE
    earlier = care.tries
    if seen.code == "never_ready" and earlier:
        # The latest start did bring a browser up, and has had SYNC_LIMIT of patience.
        earlier -= 1
    if care.tried_at and now < care.tried_at + dt.timedelta(seconds=RECOVERY_PAUSES[earlier]):
        return RecoveryAction.NONE
    if seen.code in ("session_closed", "conflict", "refused_by_whatsapp", "never_ready"):
        return RecoveryAction.RESTART
    if seen.code == "session_check_failed":
        return RecoveryAction.RESTART if care.hangs >= MAX_SLOW_CHECKS else RecoveryAction.NONE
    missing = care.missing_since is not None and now >= care.missing_since + MISSING_FOR
    return RecoveryAction.START if missing else RecoveryAction.NONE
