"""Which action reconnects a wwebjs session. Pure."""

from __future__ import annotations

import datetime as dt

from channels_app.connections.recovery import RecoveryAction, RecoveryContext, attempt_is_due
from channels_app.providers.sessions import DerivedState

# A server that has just started restores its sessions itself and does not list them until then.
MISSING_FOR = dt.timedelta(seconds=60)
# A single slow response does not prove that the page hangs.
MAX_SLOW_CHECKS = 2
_RESTARTED = ("session_closed", "conflict", "refused_by_whatsapp", "never_ready")


def recovery_action_for(
    derived: DerivedState, context: RecoveryContext, *, now: dt.datetime
) -> RecoveryAction:
    """Return the action that would reconnect a session that should stay connected.

    An expired QR code needs no action: it is replaced when somebody opens its page.
    """
    counted = context.attempts
    if derived.code == "never_ready" and counted:
        # The last start did open a browser, and SYNC_LIMIT has passed since.
        counted -= 1
    if not attempt_is_due(context, now=now, counted=counted):
        return RecoveryAction.NONE
    is_hanging = context.slow_checks >= MAX_SLOW_CHECKS
    if derived.code in _RESTARTED or (derived.code == "session_check_failed" and is_hanging):
        return RecoveryAction.RESTART
    if derived.code == "session_check_failed":
        return RecoveryAction.NONE
    missing = context.missing_since is not None and now >= context.missing_since + MISSING_FOR
    return RecoveryAction.START if missing else RecoveryAction.NONE
