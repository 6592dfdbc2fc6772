"""When a session that should stay connected may be reconnected automatically. Pure.

What reconnects it, and in which state, each engine decides: `wwebjs_recovery.py` and
`instances/connections/states.py`.
"""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

from channels_app.providers.sessions import State


class RecoveryAction(enum.StrEnum):
    NONE = "none"
    START = "start"
    RESTART = "restart"


# Seconds between automatic attempts. A failed start of a wwebjs session leaves a whole browser
# behind (docs/providers/wwebjs.md §2), so there are few; after that only a person can start it.
RECOVERY_PAUSES = (0, 300, 1800, 7200)
# A session that was ready for this long has recovered: its attempts are counted from 0 again.
RECOVERED_AFTER = dt.timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class RecoveryContext:
    """The input of a recovery action. `attempts` and `attempted_at`: since it had recovered.

    `slow_checks` are consecutive slow answers; `missing_since` and `closed_since` say since when
    the server does not know the session, or reports it closed. `left_closed`: the server is known
    not to reconnect by itself.
    """

    keep_connected: bool
    attempts: int = 0
    attempted_at: dt.datetime | None = None
    slow_checks: int = 0
    missing_since: dt.datetime | None = None
    closed_since: dt.datetime | None = None
    left_closed: bool = False


def attempt_is_due(
    context: RecoveryContext, *, now: dt.datetime, counted: int | None = None
) -> bool:
    """Whether another attempt may begin now. `counted`: the attempts that lengthen the pause."""
    if not context.keep_connected or context.attempts >= len(RECOVERY_PAUSES):
        return False
    earlier = context.attempts if counted is None else counted
    pause = dt.timedelta(seconds=RECOVERY_PAUSES[earlier])
    return context.attempted_at is None or now >= context.attempted_at + pause


def has_recovered(state: str, since: dt.datetime | None, *, now: dt.datetime) -> bool:
    """Whether a session is ready for so long that earlier attempts count no more."""
    return state == State.READY and since is not None and now >= since + RECOVERED_AFTER
