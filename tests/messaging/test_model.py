"""Model test of attempts, receipts and policy: any events in any order.

No database: the model does what `delivery` and `attempts` do with the pure functions.
"""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from channels_app.providers import error_codes
from channels_app.providers.error_codes import FallbackRule
from channels_app.providers.events import Receipt
from messaging.delivery import policy, statuses
from messaging.delivery.statuses import Icon, Outcome, Route, Status

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
OFFICIAL_CODES = ["131047", "131000", "131056", "131049", "131050", "190", "131031", "131999"]
FALLBACK_CODES = ["ack_error", "not_on_whatsapp", "session_not_connected", "wrong_key"]
ACCEPTED_STATUSES = (Status.SENT, Status.DELIVERED, Status.READ)


@dataclass
class Try:
    """An attempt, with the fields of its row."""

    round: int
    route: Route
    reason: str
    outcome: Outcome = Outcome.STARTED
    receipt: Receipt = Receipt.NONE
    code: str = ""
    finished_at: dt.datetime | None = None
    # What really happened; the system may not know.
    was_unknown: bool = False


def apply_receipt(attempt: Try, reported: Receipt, code: str, now: dt.datetime) -> None:
    """Do what `attempts._merge_receipt` does."""
    overrides = statuses.late_error_replaces(
        code, known=attempt.code, outcome=attempt.outcome, receipt=attempt.receipt
    )
    attempt.receipt = statuses.merge_receipt(attempt.receipt, reported)
    attempt.outcome = statuses.outcome_after_receipt(attempt.outcome, attempt.receipt)
    if reported == attempt.receipt == Receipt.FAILED and overrides:
        attempt.code = code
    if attempt.outcome == Outcome.ACCEPTED:
        attempt.code = ""
    if attempt.outcome != Outcome.STARTED and attempt.finished_at is None:
        attempt.finished_at = now


class Delivery(RuleBasedStateMachine):
    """The delivery of one message, with arbitrary external events."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.round = 1
        self.round_route = "official"
        self.round_started_at = NOW
        self.tries: list[Try] = []
        self.decision = ""
        self.waiting: dt.datetime | None = None
        self.channel = policy.ChannelRules(
            active=True,
            fallbacks=(policy.Sender(Route.WWEBJS),),
            official_retries=1,
            confirm_seconds=60,
            on_unconfirmed="fallback",
            fallback_max_age=dt.timedelta(minutes=60),
        )

    # -- what the system does ----------------------------------------------------------------------

    @property
    def running(self) -> Try | None:
        return next((a for a in self.tries if a.outcome == Outcome.STARTED), None)

    @property
    def summary(self) -> statuses.Summary:
        final = bool(self.decision) and self.waiting is None
        return statuses.summarize(
            [statuses.AttemptState(a.route, a.outcome, a.receipt, a.round) for a in self.tries],
            round=self.round,
            final=final,
        )

    def run_policy(self) -> policy.Step:
        return policy.next_step(
            policy.MessageFacts(
                self.round,
                "fallback" if self.round_route == "fallback" else "official",
                self.round_started_at,
            ),
            [
                policy.AttemptFacts(a.round, a.route, a.outcome, a.code, a.finished_at)
                for a in self.tries
            ],
            self.channel,
            now=self.now,
        )

    @precondition(lambda self: self.running is None)
    @rule()
    def job_runs(self) -> None:
        """A message's job, a late failure's job or a sweep's: any number of them."""
        accepted = any(a.outcome == Outcome.ACCEPTED for a in self.tries)
        unknown_before = self.tries[-1] if self.tries else None
        step = self.run_policy()
        self.waiting, self.decision = None, ""
        if isinstance(step, policy.Attempt):
            assert not accepted, "sent although a provider accepted it"
            if (
                unknown_before is not None
                and unknown_before.round == self.round
                and unknown_before.outcome == Outcome.UNKNOWN
            ):
                assert step.reason == "unconfirmed"
                assert unknown_before.route == Route.OFFICIAL
                assert unknown_before.finished_at is not None
                waited = self.now - unknown_before.finished_at
                assert waited >= dt.timedelta(seconds=self.channel.confirm_seconds)
            if step.route != Route.OFFICIAL:
                age = self.now - self.round_started_at
                assert age <= self.channel.fallback_max_age
            self.tries.append(Try(self.round, step.route, step.reason))
        elif isinstance(step, policy.Wait):
            assert step.until > self.now
            self.waiting, self.decision = step.until, step.reason
        elif not isinstance(step, policy.Done):
            assert step.reason in policy.FINAL_REASONS
            self.decision = step.reason

    # -- external events ---------------------------------------------------------------------------

    @precondition(lambda self: self.running is not None)
    @rule(ending=st.sampled_from(["accepted", "refused", "unknown", "worker_lost"]), data=st.data())
    def provider_responds(self, ending: str, data: st.DataObject) -> None:
        attempt = self.running
        assert attempt is not None
        official = attempt.route == Route.OFFICIAL
        if ending == "accepted":
            attempt.outcome = Outcome.ACCEPTED
        elif ending == "refused":
            codes = OFFICIAL_CODES if official else FALLBACK_CODES
            attempt.code = data.draw(st.sampled_from(codes))
            transient = error_codes.lookup(attempt.code).transient
            attempt.outcome = Outcome.TRANSIENT if transient else Outcome.REJECTED
        else:
            attempt.outcome, attempt.was_unknown = Outcome.UNKNOWN, True
            attempt.code = "timeout" if ending == "unknown" else "worker_lost"
        attempt.finished_at = self.now
        apply_receipt(attempt, Receipt.NONE, "", self.now)

    @precondition(lambda self: bool(self.tries))
    @rule(
        which=st.integers(0, 20),
        reported=st.sampled_from([Receipt.SENT, Receipt.DELIVERED, Receipt.READ, Receipt.FAILED]),
        code=st.sampled_from(OFFICIAL_CODES),
        times=st.integers(1, 3),
    )
    def receipt_arrives(self, which: int, reported: Receipt, code: str, times: int) -> None:
        """For any attempt, at any time, also while it runs, also repeatedly."""
        attempt = self.tries[which % len(self.tries)]
        once = replace(attempt)
        apply_receipt(once, reported, code, self.now)
        for _ in range(times):
            apply_receipt(attempt, reported, code, self.now)
        assert attempt == once
        if self.summary.status in ACCEPTED_STATUSES:
            self.waiting, self.decision = None, ""

    @rule(seconds=st.sampled_from([1, 3, 30, 61, 600, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.now += dt.timedelta(seconds=seconds)

    @precondition(
        lambda self: (
            self.running is None
            and self.decision
            and self.waiting is None
            and self.summary.status in (Status.REJECTED, Status.UNCONFIRMED)
        )
    )
    @rule(route=st.sampled_from(["official", "fallback"]))
    def person_retries(self, route: str) -> None:
        self.round += 1
        self.round_route, self.round_started_at, self.decision = route, self.now, ""

    @rule(open_=st.booleans(), opted=st.booleans())
    def channel_changes(self, open_: bool, opted: bool) -> None:
        primary = replace(self.channel.primary, breaker_open=open_)
        self.channel = replace(self.channel, primary=primary, fallback_despite_limits=opted)

    # -- invariants --------------------------------------------------------------------------------

    @invariant()
    def at_most_one_attempt_runs(self) -> None:
        assert sum(a.outcome == Outcome.STARTED for a in self.tries) <= 1

    @invariant()
    def the_icon_matches_the_attempts(self) -> None:
        summary = self.summary
        icon = statuses.icon_for(summary.status, summary.route)
        accepted = [a for a in self.tries if a.outcome == Outcome.ACCEPTED]
        assert (summary.status in ACCEPTED_STATUSES) == bool(accepted)
        if icon == Icon.GLOBE:
            assert any(a.route != Route.OFFICIAL for a in accepted)
        if icon in (Icon.SENT, Icon.DELIVERED, Icon.READ):
            assert any(a.route == Route.OFFICIAL for a in accepted)
        untried = all(a.round != self.round for a in self.tries)
        if untried and not self.decision:
            assert icon != Icon.REJECTED  # requested, without a result yet
        if icon == Icon.REJECTED:
            assert not any(a.outcome == Outcome.UNKNOWN for a in self.tries)
        if any(a.outcome == Outcome.UNKNOWN for a in self.tries) and not accepted:
            assert icon == Icon.UNCONFIRMED

    @invariant()
    def a_round_limits_the_tries_of_each_route(self) -> None:
        for number, tries in itertools.groupby(self.tries, key=lambda a: a.round):
            own = list(tries)
            by_fallback = [a for a in own if a.route != Route.OFFICIAL]
            assert number <= self.round
            assert len(by_fallback) <= len(policy.FALLBACK_BACKOFF) + 1
            assert len(own) - len(by_fallback) <= policy.PAIR_LIMIT_MAX_TRIES
            first_fallback = next((i for i, a in enumerate(own) if a in by_fallback), len(own))
            assert all(a.route != Route.OFFICIAL for a in own[first_fallback:])

    @invariant()
    def an_opt_out_is_never_bypassed(self) -> None:
        for earlier, later in itertools.combinations(self.tries, 2):
            if earlier.route == Route.OFFICIAL != later.route:
                forbidden = error_codes.lookup(earlier.code).fallback == FallbackRule.NEVER
                # A rejection that arrived after the fallback was sent could not stop it.
                assert not forbidden or earlier.receipt == Receipt.FAILED


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)

EVENTS = st.lists(
    st.tuples(
        st.sampled_from([Receipt.SENT, Receipt.DELIVERED, Receipt.READ, Receipt.FAILED]),
        st.sampled_from(["131026", "131050", "131000", error_codes.NO_REASON]),
    ),
    max_size=5,
)


@given(
    EVENTS,
    st.sampled_from([Outcome.ACCEPTED, Outcome.REJECTED, Outcome.TRANSIENT, Outcome.UNKNOWN]),
    st.randoms(),
    st.integers(0, 5),
)
def test_events_in_any_order_and_number_give_the_same_result(
    events: list[tuple[Receipt, str]],
    answer: Outcome,
    shuffled: object,
    again: int,
) -> None:
    """The provider's response is one more event: receipts may arrive before it."""

    def end(order: list[tuple[Receipt, str] | None]) -> tuple[str, str, str]:
        attempt = Try(1, Route.OFFICIAL, "first")
        for event in order:
            if event is None:
                if attempt.receipt != Receipt.FAILED or not statuses.late_error_replaces(
                    attempt.code, known="131049", outcome=answer
                ):
                    attempt.code = "" if answer == Outcome.ACCEPTED else "131049"
                attempt.outcome = answer
                apply_receipt(attempt, Receipt.NONE, "", NOW)
            else:
                apply_receipt(attempt, *event, NOW)
        # A rejection of a message also reported as sent: Meta cannot mean both.
        contradictory = answer == Outcome.REJECTED and Receipt.SENT in dict(events)
        return attempt.outcome, attempt.receipt, "" if contradictory else attempt.code

    order: list[tuple[Receipt, str] | None] = [None, *events]
    other = [*order, *events[:again]]
    shuffled.shuffle(other)  # type: ignore[attr-defined]
    assert end(order) == end(other)
