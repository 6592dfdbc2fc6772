"""A message's status, route and icon, derived from its attempts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_app.providers.events import Receipt
from messaging.delivery.statuses import (
    AttemptState,
    Icon,
    Outcome,
    Route,
    Status,
    Summary,
    icon_for,
    merge_receipt,
    outcome_after_receipt,
    summarize,
)

OFFICIAL, WWEBJS, BAILEYS = Route.OFFICIAL, Route.WWEBJS, Route.BAILEYS
ACCEPTED, REJECTED, TRANSIENT = Outcome.ACCEPTED, Outcome.REJECTED, Outcome.TRANSIENT
STARTED, UNKNOWN = Outcome.STARTED, Outcome.UNKNOWN
RECEIPT_ORDER = [Receipt.NONE, Receipt.SENT, Receipt.FAILED, Receipt.DELIVERED, Receipt.READ]


@pytest.mark.parametrize(
    ("lower", "higher"), list(itertools.combinations_with_replacement(RECEIPT_ORDER, 2))
)
def test_the_higher_receipt_wins_in_either_order(lower: Receipt, higher: Receipt) -> None:
    assert merge_receipt(lower, higher) == higher
    assert merge_receipt(higher, lower) == higher


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("receipt", [Receipt.SENT, Receipt.DELIVERED, Receipt.READ])
def test_a_positive_receipt_proves_any_attempt(outcome: Outcome, receipt: Receipt) -> None:
    assert outcome_after_receipt(outcome, receipt) == ACCEPTED


@pytest.mark.parametrize("outcome", Outcome)
def test_without_a_receipt_the_outcome_is_unchanged(outcome: Outcome) -> None:
    assert outcome_after_receipt(outcome, Receipt.NONE) == outcome


@pytest.mark.parametrize("outcome", Outcome)
def test_a_late_failure_rejects_any_outcome(outcome: Outcome) -> None:
    assert outcome_after_receipt(outcome, Receipt.FAILED) == REJECTED


def one(
    route: Route, outcome: Outcome, receipt: Receipt = Receipt.NONE, round: int = 1
) -> AttemptState:
    return AttemptState(route, outcome, receipt, round)


@pytest.mark.parametrize(
    ("attempts", "final", "summary"),
    [
        ([], False, Summary(Status.QUEUED, None)),
        ([], True, Summary(Status.REJECTED, None)),
        ([one(OFFICIAL, STARTED)], False, Summary(Status.SENDING, OFFICIAL)),
        ([one(OFFICIAL, ACCEPTED)], False, Summary(Status.SENT, OFFICIAL)),
        ([one(OFFICIAL, ACCEPTED, Receipt.SENT)], False, Summary(Status.SENT, OFFICIAL)),
        ([one(OFFICIAL, ACCEPTED, Receipt.DELIVERED)], False, Summary(Status.DELIVERED, OFFICIAL)),
        ([one(OFFICIAL, ACCEPTED, Receipt.READ)], False, Summary(Status.READ, OFFICIAL)),
        ([one(OFFICIAL, REJECTED)], False, Summary(Status.REJECTED, OFFICIAL)),
        ([one(OFFICIAL, REJECTED)], True, Summary(Status.REJECTED, OFFICIAL)),
        ([one(OFFICIAL, TRANSIENT)], False, Summary(Status.QUEUED, None)),
        ([one(OFFICIAL, TRANSIENT)], True, Summary(Status.REJECTED, OFFICIAL)),
        ([one(OFFICIAL, UNKNOWN)], False, Summary(Status.UNCONFIRMED, OFFICIAL)),
        ([one(OFFICIAL, UNKNOWN)], True, Summary(Status.UNCONFIRMED, OFFICIAL)),
        # The X stays while the fallback is in progress …
        (
            [one(OFFICIAL, REJECTED), one(WWEBJS, STARTED)],
            False,
            Summary(Status.REJECTED, OFFICIAL),
        ),
        (
            [one(OFFICIAL, TRANSIENT), one(WWEBJS, STARTED)],
            False,
            Summary(Status.REJECTED, OFFICIAL),
        ),
        (
            [one(OFFICIAL, REJECTED), one(WWEBJS, TRANSIENT)],
            False,
            Summary(Status.REJECTED, OFFICIAL),
        ),
        # … and a retry on the same route after a transient failure still shows the clock.
        (
            [one(OFFICIAL, TRANSIENT), one(OFFICIAL, STARTED)],
            False,
            Summary(Status.SENDING, OFFICIAL),
        ),
        ([one(OFFICIAL, REJECTED), one(WWEBJS, ACCEPTED)], False, Summary(Status.SENT, WWEBJS)),
        (
            [one(OFFICIAL, REJECTED), one(WWEBJS, ACCEPTED, Receipt.READ)],
            False,
            Summary(Status.READ, WWEBJS),
        ),
        (
            [one(OFFICIAL, REJECTED), one(WWEBJS, UNKNOWN)],
            True,
            Summary(Status.UNCONFIRMED, WWEBJS),
        ),
        # The first route accepted it after all: that copy was read.
        (
            [one(OFFICIAL, ACCEPTED, Receipt.READ), one(WWEBJS, ACCEPTED)],
            False,
            Summary(Status.READ, OFFICIAL),
        ),
        ([one(OFFICIAL, ACCEPTED), one(WWEBJS, ACCEPTED)], False, Summary(Status.SENT, OFFICIAL)),
        # A Baileys channel's primary route, and a message sent by the fallback only.
        ([one(BAILEYS, ACCEPTED)], False, Summary(Status.SENT, BAILEYS)),
        ([one(BAILEYS, TRANSIENT)], False, Summary(Status.QUEUED, None)),
        ([one(BAILEYS, STARTED)], False, Summary(Status.SENDING, BAILEYS)),
        ([one(BAILEYS, REJECTED)], True, Summary(Status.REJECTED, BAILEYS)),
        ([one(WWEBJS, STARTED)], False, Summary(Status.SENDING, WWEBJS)),
    ],
)
def test_the_attempts_determine_status_and_route(
    attempts: list[AttemptState], final: bool, summary: Summary
) -> None:
    assert summarize(attempts, final=final) == summary


@pytest.mark.parametrize("before", [REJECTED, TRANSIENT])
def test_a_retry_shows_the_clock_until_it_has_an_outcome(before: Outcome) -> None:
    def later(*outcomes: Outcome, route: Route = OFFICIAL) -> list[AttemptState]:
        return [one(OFFICIAL, before), *(one(route, outcome, round=2) for outcome in outcomes)]

    assert summarize(later(), round=2) == Summary(Status.QUEUED, None)
    assert summarize(later(STARTED), round=2) == Summary(Status.SENDING, OFFICIAL)
    assert summarize(later(TRANSIENT), round=2) == Summary(Status.QUEUED, None)
    assert summarize(later(TRANSIENT, STARTED), round=2) == Summary(Status.SENDING, OFFICIAL)
    assert summarize(later(STARTED, route=WWEBJS), round=2) == Summary(Status.SENDING, WWEBJS)
    assert summarize(later(UNKNOWN), round=2) == Summary(Status.UNCONFIRMED, OFFICIAL)
    assert summarize(later(ACCEPTED), round=2) == Summary(Status.SENT, OFFICIAL)
    # Then all attempts count again.
    rejected = Summary(Status.REJECTED, OFFICIAL)
    assert summarize(later(REJECTED), round=2) == rejected
    assert summarize(later(TRANSIENT), round=2, final=True) == rejected
    assert summarize(later(), round=2, final=True) == rejected


def test_a_retry_does_not_hide_an_unconfirmed_send() -> None:
    attempts = [one(OFFICIAL, UNKNOWN), one(OFFICIAL, STARTED, round=2)]
    assert summarize(attempts, round=2) == Summary(Status.UNCONFIRMED, OFFICIAL)


def test_a_late_delivery_of_an_earlier_round_wins() -> None:
    attempts = [one(OFFICIAL, ACCEPTED, Receipt.DELIVERED), one(OFFICIAL, STARTED, round=2)]
    assert summarize(attempts, round=2) == Summary(Status.DELIVERED, OFFICIAL)


@pytest.mark.parametrize(
    ("status", "route", "icon"),
    [
        (Status.QUEUED, None, Icon.CLOCK),
        (Status.SENDING, OFFICIAL, Icon.CLOCK),
        (Status.SENDING, WWEBJS, Icon.CLOCK),
        (Status.SENT, OFFICIAL, Icon.SENT),
        (Status.SENT, None, Icon.SENT),
        (Status.DELIVERED, OFFICIAL, Icon.DELIVERED),
        (Status.READ, OFFICIAL, Icon.READ),
        (Status.SENT, WWEBJS, Icon.GLOBE),
        (Status.DELIVERED, WWEBJS, Icon.GLOBE),
        (Status.READ, BAILEYS, Icon.GLOBE),
        (Status.REJECTED, OFFICIAL, Icon.REJECTED),
        (Status.REJECTED, WWEBJS, Icon.REJECTED),
        (Status.REJECTED, None, Icon.REJECTED),
        (Status.UNCONFIRMED, OFFICIAL, Icon.UNCONFIRMED),
        (Status.UNCONFIRMED, WWEBJS, Icon.UNCONFIRMED),
    ],
)
def test_each_status_and_route_has_its_icon(
    status: Status, route: Route | None, icon: Icon
) -> None:
    assert icon_for(status, route) == icon


@given(st.sampled_from(Status), st.sampled_from([None, *Route]))
def test_every_status_has_an_icon(status: Status, route: Route | None) -> None:
    assert icon_for(status, route) in Icon


def after(outcome: Outcome, receipts: Sequence[Receipt]) -> tuple[Outcome, Receipt]:
    known = Receipt.NONE
    for receipt in receipts:
        known = merge_receipt(known, receipt)
        outcome = outcome_after_receipt(outcome, known)
    return outcome, known


@pytest.mark.parametrize("outcome", Outcome)
def test_receipts_in_any_order_give_the_same_result(outcome: Outcome) -> None:
    for count in range(1, len(Receipt) + 1):
        for reported in itertools.combinations(Receipt, count):
            ends = {after(outcome, order) for order in itertools.permutations(reported)}
            assert len(ends) == 1, (outcome, reported, ends)


@given(
    st.sampled_from(Outcome),
    st.lists(st.sampled_from(Receipt), min_size=1).flatmap(
        lambda reported: st.tuples(
            st.just(reported), st.permutations(reported), st.lists(st.sampled_from(reported))
        )
    ),
)
def test_receipts_in_any_order_and_number_give_the_same_result(
    outcome: Outcome, reported: tuple[list[Receipt], list[Receipt], list[Receipt]]
) -> None:
    receipts, another_order, repeated = reported
    assert after(outcome, receipts) == after(outcome, [*another_order, *repeated])


@given(
    st.lists(
        st.builds(
            AttemptState,
            st.sampled_from(Route),
            st.sampled_from(Outcome),
            st.sampled_from(Receipt),
            st.integers(1, 3),
        )
    ),
    st.integers(1, 3),
    st.booleans(),
)
def test_an_accepted_message_is_never_shown_as_rejected(
    attempts: list[AttemptState], round: int, final: bool
) -> None:
    summary = summarize(attempts, round=round, final=final)
    accepted = any(attempt.outcome == ACCEPTED for attempt in attempts)
    assert accepted == (summary.status in (Status.SENT, Status.DELIVERED, Status.READ))
    if not accepted and any(attempt.outcome == UNKNOWN for attempt in attempts):
        assert summary.status == Status.UNCONFIRMED
