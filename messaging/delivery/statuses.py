"""What a message's attempts amount to: its status, its route and its icon. Pure.

The status is never stepped from one value to the next: it is derived from the attempts each time.
An attempt itself only climbs (`merge_receipt`), so events may come in any order and any number of
times and the end is the same.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from channels_app.providers.error_codes import severity
from channels_app.providers.events import CallStatus, Receipt


class Status(enum.StrEnum):
    """A message's status, as the database, the REST API and the pages name it."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    REJECTED = "rejected"
    UNCONFIRMED = "unconfirmed"


class Route(enum.StrEnum):
    OFFICIAL = "official"
    WWEBJS = "wwebjs"
    BAILEYS = "baileys"


class Outcome(enum.StrEnum):
    """How an attempt ended. `started` has not ended yet, or its worker died."""

    STARTED = "started"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"


class Icon(enum.StrEnum):
    CLOCK = "clock"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    REJECTED = "rejected"
    GLOBE = "globe"
    UNCONFIRMED = "unconfirmed"


_RANK = {
    Receipt.NONE: 0,
    Receipt.SENT: 1,
    Receipt.FAILED: 2,
    Receipt.DELIVERED: 3,
    Receipt.READ: 4,
}


def merge_receipt(known: Receipt, told: Receipt) -> Receipt:
    """Return the receipt that stands after both were told, in either order.

    A failure replaces "sent" but never a delivery: contradictory pairs occur
    (contracts/cloud-api.md §2.5).
    """
    return max(known, told, key=lambda receipt: _RANK[receipt])


_STATUS_OF = {
    Receipt.NONE: Status.SENT,
    Receipt.SENT: Status.SENT,
    Receipt.FAILED: Status.REJECTED,
    Receipt.DELIVERED: Status.DELIVERED,
    Receipt.READ: Status.READ,
}


def merge_status(known: Status, told: Receipt) -> Status:
    """Return the status of a message that was sent outside, after one more receipt.

    It has no attempt whose receipt could be kept: its status says as much as one. In any order, and
    told any number of times, the same receipts end in the same status (`merge_receipt`).
    """
    receipts = [receipt for receipt, status in _STATUS_OF.items() if status == known]
    return _STATUS_OF[merge_receipt(receipts[-1] if receipts else Receipt.SENT, told)]


def merge_call(known: CallStatus, told: CallStatus) -> CallStatus:
    """Return the status of a call after both were told, in either order: the one that says more."""
    return max(known, told, key=list(CallStatus).index)


def merge_outcome(outcome: Outcome, receipt: Receipt) -> Outcome:
    """Return the outcome of an attempt once its receipt is known.

    A delivery proves an attempt whose answer never came, and one that was thought to have failed.
    A late failure makes a rejection of anything else.
    """
    if receipt in (Receipt.SENT, Receipt.DELIVERED, Receipt.READ):
        return Outcome.ACCEPTED
    return Outcome.REJECTED if receipt == Receipt.FAILED else outcome


def late_error_overrides(
    code: str, *, known: str, outcome: Outcome, receipt: Receipt = Receipt.NONE
) -> bool:
    """Return whether the reason of a late failure is told, rather than the one that is known.

    `outcome` and `receipt` are those of the attempt without this failure. Of two late failures the
    one counts that forbids more, whichever came first; the late one over any answer, but for a
    refusal at once that forbids more: the fallback must not go around it.
    """
    late, before = severity(code), severity(known)
    if receipt == Receipt.FAILED:
        return late > before
    return outcome != Outcome.REJECTED or late[0] >= before[0]


@dataclass(frozen=True, slots=True)
class AttemptState:
    """The part of a delivery attempt that decides the message's status."""

    route: Route
    outcome: Outcome
    receipt: Receipt = Receipt.NONE
    round: int = 1


@dataclass(frozen=True, slots=True)
class Summary:
    status: Status
    route: Route | None


def summarize(attempts: Sequence[AttemptState], *, round: int = 1, final: bool = False) -> Summary:
    """Return status and route of an outgoing message, from its attempts in order.

    `round` is the present one: until it has an outcome, no rejection of an earlier one counts. What
    was accepted, or may have been, stays true in every round. `final` says that the policy has
    given up: then an attempt that could have been retried counts as a rejection.
    """
    accepted = [attempt for attempt in attempts if attempt.outcome == Outcome.ACCEPTED]
    if accepted:
        best = max(accepted, key=lambda attempt: _RANK[attempt.receipt])
        status = {Receipt.DELIVERED: Status.DELIVERED, Receipt.READ: Status.READ}
        return Summary(status.get(best.receipt, Status.SENT), best.route)
    unknown = [attempt for attempt in attempts if attempt.outcome == Outcome.UNKNOWN]
    if unknown:
        return Summary(Status.UNCONFIRMED, unknown[-1].route)
    present = [attempt for attempt in attempts if attempt.round == round]
    undecided = (Outcome.STARTED, Outcome.TRANSIENT)
    if not final and all(attempt.outcome in undecided for attempt in present):
        attempts = present
    if not attempts:
        return Summary(Status.REJECTED if final else Status.QUEUED, None)
    last = attempts[-1]
    left_official = last.route != Route.OFFICIAL and attempts[0].route == Route.OFFICIAL
    rejected = any(attempt.outcome == Outcome.REJECTED for attempt in attempts)
    if rejected or left_official or final:
        # The X stays while the fallback is on its way: only its acceptance changes the icon.
        return Summary(Status.REJECTED, attempts[0].route)
    if last.outcome == Outcome.STARTED:
        return Summary(Status.SENDING, last.route)
    return Summary(Status.QUEUED, None)


def icon_for(status: Status, route: Route | None) -> Icon:
    """Return the icon of an outgoing message: one table for pages, REST and documentation."""
    if status in (Status.QUEUED, Status.SENDING):
        return Icon.CLOCK
    if status == Status.REJECTED:
        return Icon.REJECTED
    if status == Status.UNCONFIRMED:
        return Icon.UNCONFIRMED
    if route in (Route.WWEBJS, Route.BAILEYS):
        return Icon.GLOBE
    return Icon(status.value)
