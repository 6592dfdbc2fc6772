"""Decides when a drifted receive mode is repaired automatically. Pure."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Sequence
from dataclasses import dataclass

# Automatic repair stops after this many repairs within this time, each reverted by somebody.
MAX_REPAIRS = 3
WITHIN = dt.timedelta(hours=1)
# A fight that ended this long ago says nothing about a new drift.
CONTESTED_FOR = dt.timedelta(days=1)
FIRST_PAUSE, LONGEST_PAUSE = dt.timedelta(seconds=60), dt.timedelta(minutes=15)


class Decision(enum.Enum):
    REPAIR = "repair"
    WAIT = "wait"
    # Somebody reverts it repeatedly: staff must find out who.
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the receive mode. `automatic`: no user requested it.

    `emptied`: it repaired a webhook that Evolution itself emptied, as it does on some restarts.
    These repairs do not count as contested.
    """

    at: dt.datetime
    automatic: bool
    done: bool
    emptied: bool = False


def decide(newest_first: Sequence[Change], *, emptied: bool, now: dt.datetime) -> Decision:
    """Decide what to do about a drift, based on earlier changes; `emptied` as in `Change`.

    A change by a user starts a new count.
    """
    automatic: list[Change] = []
    for change in newest_first:
        if not change.automatic:
            break
        automatic.append(change)
    failed = 0
    for change in automatic:
        if change.done:
            break
        failed += 1
    if failed:
        pause = min(FIRST_PAUSE * 2 ** min(failed - 1, 10), LONGEST_PAUSE)
        if now < automatic[0].at + pause:
            return Decision.WAIT
    contested = [change for change in automatic if change.done and not change.emptied]
    if emptied or len(contested) < MAX_REPAIRS:
        return Decision.REPAIR
    if now - contested[0].at > CONTESTED_FOR:
        return Decision.REPAIR
    duration = contested[0].at - contested[MAX_REPAIRS - 1].at
    return Decision.LEAVE if duration <= WITHIN else Decision.REPAIR
