"""The texts of session states, and what follows from a state whatever the provider. Pure.

`providers/wwebjs/states.py` and `instances/connections/states.py` derive the states. Sections
are those of docs/providers/wwebjs.md.
"""

from __future__ import annotations

import datetime as dt

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from channels_app.connections.linked_numbers import ANOTHER_PHONE, UNCONFIRMED
from channels_app.providers.sessions import SERVER_ABSENCES, DerivedState, Observation, State
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
    "another_phone": _("Another phone was linked, with an unconfirmed number."),
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
        "The Evolution server does not work until its license is activated. Open its manager and "
        "activate the license there."
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
    "cancelled_by_person": _("Canceled by a user."),
    "socket_not_open": _("Evolution has not opened the instance's socket yet."),
    "socket_unproven": _(
        "No event has arrived at the root of Evolution's socket yet. The first event shows that "
        "it is in global mode."
    ),
    "socket_refused": _("Evolution rejects Alterna's connection to its socket."),
    "socket_unjoinable": _(
        "The socket of an instance whose name contains a comma cannot be joined. Use the webhook. "
        "If the Evolution server runs in global mode (WEBSOCKET_GLOBAL_EVENTS), configure this in "
        "the administration first."
    ),
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


# A drop has a reason, and not advice what to do now.
_DROP_REASONS = {
    UNCONFIRMED: ANOTHER_PHONE,
    "dialling": "connection_lost",
    "instance_gone": "instance_vanished",
}
# An incident even if the session did not work before: it cannot go on without a person.
_NEEDS_PERSON = frozenset({"dialling_long", "license_required", "never_ready", UNCONFIRMED})


def drop_reason(derived: DerivedState, callback_reason: str = "") -> str:
    """Return why a session stopped working; the server's callback reason is more specific.

    A visible code or an unreachable server needs a person and overrides the callback reason.
    """
    if derived.code in _DROP_REASONS:
        return _DROP_REASONS[derived.code]
    if derived.state == State.QR:
        return UNLINKED
    if derived.state == State.ERROR and derived.code in SERVER_ABSENCES:
        return derived.code
    return _DROPS.get(callback_reason.upper()) or derived.code


def needs_person(derived: DerivedState) -> bool:
    """Return whether this is an incident even if the session did not work before."""
    return derived.code in _NEEDS_PERSON


# -- server outages --------------------------------------------------------------------------------

# The server cannot be reached: the result for one of its sessions applies to all.
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
# The server may be down, or only slow for this session: polling a second one decides.
SERVER_SILENT = frozenset({"timeout", "connection_broken"})
_READY_AFTER = {"restarted": "ready_after_restart", "unreachable": "ready_after_outage"}


def applies_to_server(first: Observation, second: Observation | None = None) -> bool:
    """Return whether the answers for one or two sessions apply to the whole server."""
    if first.error_code in SERVER_AWAY or first.error_code == "license_required":
        return True
    is_silent = first.error_code in SERVER_SILENT
    return is_silent and second is not None and second.error_code in SERVER_SILENT


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


def next_poll_delay(
    state: State, *, keep_connected: bool, lasting: dt.timedelta, chance: float
) -> float:
    """Return the seconds until the next poll of the session.

    `lasting` is how long the state has lasted; `chance` (0 to 1) spreads channels over time.
    """
    if state in _TEMPORARY and lasting < FAST_POLL_FOR:
        return FAST_POLL_SECONDS
    if state in (State.ERROR, State.DISCONNECTED) and keep_connected and lasting < PROBLEM_POLL_FOR:
        return PROBLEM_POLL_SECONDS * (0.8 + 0.4 * chance)
    return POLL_SECONDS * (0.8 + 0.4 * chance)
