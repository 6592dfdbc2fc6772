"""The texts of session states, and the actions that follow from a state. Pure.

`providers/wwebjs/states.py` and `instances/connections/states.py` derive the states. Sections
are those of docs/providers/wwebjs.md.
"""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from channels_app.providers.sessions import SERVER_ABSENCES, DerivedState, State
from channels_app.providers.wwebjs.states import UNLINKED

SENTENCES: dict[str, str | Promise] = {
    "unchecked": _("The connection is being checked."),
    "not_started": _("The session is not started; connect it."),
    "starting": _("The session is starting; this can take a few minutes."),
    "restarting": _("The session is restarting."),
    "opening": _("The session has no connection to WhatsApp yet."),
    "waiting_for_scan": _("Waiting for the QR code to be scanned."),
    "unlinked_scan_qr": _("The phone was unlinked. Scan the QR code."),
    "pairing": _("The phone is being linked."),
    "syncing": _("Connected, but WhatsApp is still loading."),
    "never_ready": _(
        "Connected to WhatsApp for several minutes but not ready to send. Restarting usually helps."
    ),
    "ready": _("Ready to send."),
    "ready_after_restart": _(
        "Ready to send. It reconnected automatically after the server restarted."
    ),
    "ready_after_outage": _(
        "Ready to send. It reconnected automatically when the server became reachable again."
    ),
    "qr_expired": _("The QR code has expired. Restart the session."),
    "unlinked_on_phone": _("The session was unlinked on the phone."),
    "conflict": _("This session was opened in WhatsApp Web somewhere else."),
    "refused_by_whatsapp": _("WhatsApp does not accept this session."),
    "start_failed": _("The session could not be started."),
    "start_no_answer": _("The session did not start in time."),
    "unlinked": _("Disconnected here; the phone was unlinked."),
    "stopped": _("Stopped here; the phone stays linked."),
    "number_unconfirmed": _(
        "The linked phone has the number %(who)s, which has not been confirmed for this channel. "
        "Nothing is sent through it until someone confirms it."
    ),
    "number_unknown": _(
        "Connected, but the server has not reported which phone is linked. Nothing is sent "
        "through it until its number is known."
    ),
    "another_phone": _("Another phone was linked and its number has not been confirmed."),
    "came_up": _(
        "It was stopped here but started again with its server. It is being stopped again."
    ),
    "stopped_again": _(
        "Stopped again: it had been stopped here but started again with its server. The phone "
        "stays linked."
    ),
    "unlinking": _(
        "The session is still starting. The phone will be unlinked as soon as it is running. To "
        "keep it linked, connect the session."
    ),
    # Of an Evolution instance.
    "not_linked": _("No phone is linked; connect it by QR code."),
    "dialling": _("Evolution is connecting to WhatsApp."),
    "dialling_long": _(
        "Evolution has been trying to connect for several minutes. Reconnect, or log out and link "
        "the phone again."
    ),
    "license_required": _(
        "The Evolution server does not work until its licence is activated. Open its manager and "
        "activate the licence there."
    ),
    "reconnecting": _("The instance is reconnecting."),
    "qr_limit": _("The QR code was not scanned in time. Request a new one."),
    "connection_lost": _("The connection to WhatsApp was lost."),
    "dead_socket": _(
        "Evolution reports that it is connected but refuses to send. Its connection is no longer "
        "working."
    ),
    "no_instance": _("Evolution has no instance of this name yet; create it here."),
    "instance_gone": _("Evolution no longer has this instance. Create it again."),
    "instance_vanished": _("The instance disappeared from the Evolution server."),
    "instance_deleted": _("The instance was deleted here."),
    "deleting": _("Evolution has not finished deleting the instance yet."),
    "name_taken": _(
        "Evolution has another instance with this name, or has not finished deleting it. Try "
        "again in a moment."
    ),
    "key_cannot_create": _(
        "This key cannot create instances. Enter the server's own key (AUTHENTICATION_API_KEY), "
        "or create the instance in Evolution."
    ),
    "other_integration": _(
        "This Evolution instance is not a Baileys instance. Choose another name."
    ),
    "instance_open": _("Connected to WhatsApp."),
    "instance_connecting": _("Connecting: waiting for the QR code or for WhatsApp."),
    "instance_close": _("Not connected: link the phone by QR code."),
    "instance_in_unknown_state": _("Evolution reported an unknown state."),
    "not_running": _(
        "The session was not running, so nothing was unlinked. If the phone still lists it under "
        "linked devices, remove it there."
    ),
    # Results of a connection test.
    "ready_as": _("Ready to send as %(who)s"),
    "number_in_coexistence": _(
        "%(who)s · coexistence with the app; the fallback can use the same number"
    ),
    "number_answers": _("%(who)s · Meta does not report whether the app also uses the number"),
    "number_on_cloud_only": _("%(who)s · Cloud API only; a fallback sends from another number"),
    "number_filled_in": _("The channel's phone number was filled in."),
    # Of the receive mode of an Evolution instance, and of the socket to it.
    "websocket_off": _("The Evolution server runs with WEBSOCKET_ENABLED=false."),
    "websocket_not_kept": _("Evolution did not save the WebSocket settings."),
    "websocket_still_on": _("Evolution did not disable the WebSocket."),
    "webhook_not_kept": _("Evolution did not save the webhook settings."),
    "webhook_still_on": _("Evolution did not disable the webhook."),
    "mode_not_undone": _("Evolution did not return to the previous receive mode."),
    "not_joined": _("The socket was lost during the switch."),
    "cancelled_by_person": _("Cancelled by a user."),
    "socket_not_open": _("Evolution has not opened the instance's socket yet."),
    "socket_unproven": _(
        "No event has arrived at the root of Evolution's socket yet. The first event shows that "
        "it is in global mode."
    ),
    "socket_refused": _("Evolution rejects Alterna's connection to its socket."),
    "socket_lost": _("The connection to Evolution's socket was lost."),
    "socket_no_answer": _("Evolution's socket does not respond."),
    "socket_failed": _("The connection to Evolution's socket failed."),
    # Why Evolution's receive mode differs from the configured one, and why a backfill failed.
    "drift_mode": _("Evolution's receive mode differs from the one configured here."),
    "drift_webhook": _(
        "Evolution's webhook is not configured as it is here. Events may not arrive."
    ),
    "drift_emptied": _("Evolution's webhook configuration is empty. Events do not arrive."),
    "drift_base64": _("Evolution's webhook has a different setting for Base64 media."),
    "drift_websocket": _("Evolution's WebSocket does not include all events."),
    "drift_contested": _(
        "Another system keeps changing this instance's receive mode in Evolution. Automatic "
        "repair has stopped: find out which system it is, then repair it here."
    ),
    "backfill_failed": _("The missing messages could not be read."),
    "backfill_not_stored": _("The missing messages could not be stored."),
}

# Reasons that the library reports with `disconnected` and `change_state` (§2, §4).
_DROPS = {
    "UNPAIRED": "unlinked_on_phone",
    "LOGOUT": "unlinked_on_phone",
    "CONFLICT": "conflict",
}


def drop_reason(derived: DerivedState, callback_reason: str = "") -> str:
    """Return why a session is no longer ready; the library's callback reason is more specific.

    A visible code or an unreachable server needs a person and overrides the callback reason.
    """
    if derived.code == "number_unconfirmed":
        return "another_phone"
    if derived.state == State.QR:
        return UNLINKED
    if derived.state == State.ERROR and derived.code in SERVER_ABSENCES:
        return derived.code
    return _DROPS.get(callback_reason.upper()) or derived.code


# -- server outages --------------------------------------------------------------------------------

_READY_AFTER = {"restarted": "ready_after_restart", "unreachable": "ready_after_outage"}


def ready_code(*, before: str, absence: str, by_itself: bool) -> str:
    """Return the code of a session that is ready.

    `before` is the stored code: the cause of a recovery is shown until the next drop. `absence` is
    the kind of server outage since the drop; `by_itself`: no command was given since then.
    """
    if by_itself and absence in _READY_AFTER:
        return _READY_AFTER[absence]
    return before if before in _READY_AFTER.values() else "ready"


# -- when to poll again ----------------------------------------------------------------------------

POLL_SECONDS = 60.0
PROBLEM_POLL_SECONDS = 10.0
FAST_POLL_SECONDS = 1.5
# A temporary state is polled at the fast rate for a limited time only.
FAST_POLL_FOR = dt.timedelta(minutes=10)
PROBLEM_POLL_FOR = dt.timedelta(minutes=10)
_TEMPORARY = (State.STARTING, State.QR, State.PAIRING, State.CONNECTED)


def next_poll_delay(state: State, *, wanted: bool, lasting: dt.timedelta, chance: float) -> float:
    """Return the seconds until the next poll of the session.

    `lasting` is how long the state has lasted; `chance` (0 to 1) spreads channels over time.
    """
    if state in _TEMPORARY and lasting < FAST_POLL_FOR:
        return FAST_POLL_SECONDS
    if state in (State.ERROR, State.DISCONNECTED) and wanted and lasting < PROBLEM_POLL_FOR:
        return PROBLEM_POLL_SECONDS * (0.8 + 0.4 * chance)
    return POLL_SECONDS * (0.8 + 0.4 * chance)


# -- recovery --------------------------------------------------------------------------------------


class RecoveryAction(enum.StrEnum):
    NONE = "none"
    START = "start"
    RESTART = "restart"


# Seconds between automatic starts. A failed start leaves a whole browser behind (§2), so there are
# few; after that only a person can start the session.
RECOVERY_PAUSES = (0, 300, 1800, 7200)
# A session that was ready for this long has recovered: its starts are counted from 0 again.
RECOVERED_AFTER = dt.timedelta(minutes=10)
# A server that has just started restores its sessions itself and does not list them until then.
MISSING_FOR = dt.timedelta(seconds=60)
# A single slow response does not prove that the page hangs.
MAX_SLOW_CHECKS = 2


@dataclass(frozen=True, slots=True)
class RecoveryContext:
    """The input of a recovery action. `tries` and `tried_at`: starts since it had recovered."""

    wanted: bool
    tries: int = 0
    tried_at: dt.datetime | None = None
    hangs: int = 0
    missing_since: dt.datetime | None = None


def has_recovered(state: str, since: dt.datetime | None, *, now: dt.datetime) -> bool:
    """Whether a session is ready for so long that earlier recoveries count no more."""
    return state == State.READY and since is not None and now >= since + RECOVERED_AFTER


def recovery_action_for(
    derived: DerivedState, context: RecoveryContext, *, now: dt.datetime
) -> RecoveryAction:
    """Return the action that would reconnect a session that should stay connected.

    An expired QR code needs no action: it is replaced when somebody opens its page.
    """
    if not context.wanted or context.tries >= len(RECOVERY_PAUSES):
        return RecoveryAction.NONE
    earlier = context.tries
    if derived.code == "never_ready" and earlier:
        # The last start did open a browser, and SYNC_LIMIT has passed since.
        earlier -= 1
    pause = dt.timedelta(seconds=RECOVERY_PAUSES[earlier])
    if context.tried_at and now < context.tried_at + pause:
        return RecoveryAction.NONE
    if derived.code in ("session_closed", "conflict", "refused_by_whatsapp", "never_ready"):
        return RecoveryAction.RESTART
    if derived.code == "session_check_failed":
        return RecoveryAction.RESTART if context.hangs >= MAX_SLOW_CHECKS else RecoveryAction.NONE
    missing = context.missing_since is not None and now >= context.missing_since + MISSING_FOR
    return RecoveryAction.START if missing else RecoveryAction.NONE
