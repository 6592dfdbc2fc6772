"""When a receive mode that drifted is repaired without a person. Pure."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Sequence
from dataclasses import dataclass

# So many repairs within this time, each undone by somebody, and no more is tried.
MOST_REPAIRS = 3
WITHIN = dt.timedelta(hours=1)
# A fight that ended this long ago says nothing about a new drift.
CONTESTED_FOR = dt.timedelta(days=1)
FIRST_PAUSE, LONGEST_PAUSE = dt.timedelta(seconds=60), dt.timedelta(minutes=15)


class Decision(enum.Enum):
    REPAIR = "repair"
    WAIT = "wait"
    # Somebody changes it again and again: a person must find out who.
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the receive mode. `automatic`: nobody asked for it.

    `emptied`: it repaired a webhook that Evolution itself had emptied, as it does at some restarts;
    nobody fights about that.
    """

    at: dt.datetime
    automatic: bool
    done: bool
    emptied: bool = False


def decide(newest_first: Sequence[Change], *, emptied: bool, now: dt.datetime) -> Decision:
    """Say what to do about a drift, from the changes so far; `emptied` as of a Change.

    A change by a person begins a new count.
    """
    ours: list[Change] = []
    for change in newest_first:
        if not change.automatic:
            break
        ours.append(change)
    failed = 0
    for change in ours:
        if change.done:
            break
        failed += 1
    if failed:
        pause = min(FIRST_PAUSE * 2 ** min(failed - 1, 10), LONGEST_PAUSE)
        if now < ours[0].at + pause:
            return Decision.WAIT
    contested = [change for change in ours if change.done and not change.emptied]
    if emptied or len(contested) < MOST_REPAIRS:
        return Decision.REPAIR
    if now - contested[0].at > CONTESTED_FOR:
        return Decision.REPAIR
    lasted = contested[0].at - contested[MOST_REPAIRS - 1].at
    return Decision.LEAVE if lasted <= WITHIN else Decision.REPAIR
