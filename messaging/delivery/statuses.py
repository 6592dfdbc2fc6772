"""Derive a message's status, route and icon from its attempts. Pure.

The status never moves from one value to the next: it is derived from the attempts each time. An
attempt's receipt only rises (`merge_receipt`), so the result is the same whatever the order and
number of events.
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
    HELD = "held"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    REJECTED = "rejected"
    UNCONFIRMED = "unconfirmed"


class Route(enum.StrEnum):
    """The routes that rules mention. A message's route is the name of any provider."""

    OFFICIAL = "official"
    WWEBJS = "wwebjs"
    BAILEYS = "baileys"


class Outcome(enum.StrEnum):
    """How an attempt ended. `started`: it is running, or its worker died."""

    STARTED = "started"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"


class Icon(enum.StrEnum):
    CLOCK = "clock"
    HELD = "held"
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


def merge_receipt(known: Receipt, reported: Receipt) -> Receipt:
    """Return the receipt after both were reported, in either order.

    A failure replaces "sent" but never a delivery: contradictory pairs occur
    (docs/providers/cloud.md §2.5).
    """
    return max(known, reported, key=lambda receipt: _RANK[receipt])


_STATUS_OF = {
    Receipt.NONE: Status.SENT,
    Receipt.SENT: Status.SENT,
    Receipt.FAILED: Status.REJECTED,
    Receipt.DELIVERED: Status.DELIVERED,
    Receipt.READ: Status.READ,
}


def merge_status(known: Status, reported: Receipt) -> Status:
    """Return the status of a message sent outside Alterna after one more receipt.

    It has no attempt to store a receipt: its status takes that role. The result does not depend on
    the order or number of receipts (`merge_receipt`).
    """
    receipts = [receipt for receipt, status in _STATUS_OF.items() if status == known]
    return _STATUS_OF[merge_receipt(receipts[-1] if receipts else Receipt.SENT, reported)]


def merge_call(known: CallStatus, reported: CallStatus) -> CallStatus:
    """Return the more specific of two reported call statuses, whatever their order."""
    return max(known, reported, key=list(CallStatus).index)


def outcome_after_receipt(outcome: Outcome, receipt: Receipt) -> Outcome:
    """Return the outcome of an attempt after its receipt.

    A delivery proves an attempt whose response was lost, or that seemed to have failed. A late
    failure turns any other outcome into a rejection.
    """
    if receipt in (Receipt.SENT, Receipt.DELIVERED, Receipt.READ):
        return Outcome.ACCEPTED
    return Outcome.REJECTED if receipt == Receipt.FAILED else outcome


def late_error_replaces(
    code: str, *, known: str, outcome: Outcome, receipt: Receipt = Receipt.NONE
) -> bool:
    """Return whether a late failure's error replaces the known one.

    `outcome` and `receipt` are those of the attempt without this failure. Of two late failures the
    more restrictive one counts, whatever their order. A late failure replaces any response except a
    more restrictive immediate rejection, which the fallback must not bypass.
    """
    late, before = severity(code), severity(known)
    if receipt == Receipt.FAILED:
        return late > before
    return outcome != Outcome.REJECTED or late[0] >= before[0]


@dataclass(frozen=True, slots=True)
class AttemptState:
    """The part of a delivery attempt that determines the message's status.

    `held`: the provider accepted the message, but had not sent it yet.
    """

    route: str
    outcome: Outcome
    receipt: Receipt = Receipt.NONE
    round: int = 1
    held: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    status: Status
    route: str | None


def summarize(attempts: Sequence[AttemptState], *, round: int = 1, final: bool = False) -> Summary:
    """Return status and route of an outgoing message, from its attempts in order.

    `round` is the current one: until it has an outcome, rejections of earlier rounds do not count.
    Accepted and unknown outcomes count in every round. `final` means that the policy tries nothing
    more: an attempt that could have been retried then counts as a rejection.
    """
    accepted = [attempt for attempt in attempts if attempt.outcome == Outcome.ACCEPTED]
    if accepted:
        best = max(accepted, key=lambda attempt: _RANK[attempt.receipt])
        if best.receipt == Receipt.NONE and best.held:
            return Summary(Status.HELD, best.route)
        status = {Receipt.DELIVERED: Status.DELIVERED, Receipt.READ: Status.READ}
        return Summary(status.get(best.receipt, Status.SENT), best.route)
    unknown = [attempt for attempt in attempts if attempt.outcome == Outcome.UNKNOWN]
    if unknown:
        return Summary(Status.UNCONFIRMED, unknown[-1].route)
    current = [attempt for attempt in attempts if attempt.round == round]
    undecided = (Outcome.STARTED, Outcome.TRANSIENT)
    if not final and all(attempt.outcome in undecided for attempt in current):
        attempts = current
    if not attempts:
        return Summary(Status.REJECTED if final else Status.QUEUED, None)
    last = attempts[-1]
    left_official = last.route != Route.OFFICIAL and attempts[0].route == Route.OFFICIAL
    rejected = any(attempt.outcome == Outcome.REJECTED for attempt in attempts)
    if rejected or left_official or final:
        # The X stays while the fallback is in progress: only its acceptance changes the icon.
        return Summary(Status.REJECTED, attempts[0].route)
    if last.outcome == Outcome.STARTED:
        return Summary(Status.SENDING, last.route)
    return Summary(Status.QUEUED, None)


def icon_for(status: Status, route: str | None) -> Icon:
    """Return the icon of an outgoing message: one table for pages, REST and documentation."""
    if status in (Status.QUEUED, Status.SENDING):
        return Icon.CLOCK
    if status == Status.REJECTED:
        return Icon.REJECTED
    if status == Status.UNCONFIRMED:
        return Icon.UNCONFIRMED
    if route not in (None, Route.OFFICIAL):
        return Icon.GLOBE
    return Icon(status.value)
