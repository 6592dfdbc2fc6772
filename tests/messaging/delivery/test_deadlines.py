"""Scheduled messages, cancellation, and what follows when a deadline passes."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from channels_app.models import Channel, Incident, MessageTemplate
from messaging import selectors
from messaging.delivery import accept as sending
from messaging.delivery import deadlines, outbox, policy
from messaging.delivery.policy import (
    Attempt,
    AttemptFacts,
    ChannelRules,
    Done,
    Expire,
    Fail,
    Hold,
    MessageFacts,
    Sender,
    Wait,
    at_deadline,
    next_step,
)
from messaging.delivery.schedule import Times
from messaging.delivery.statuses import Outcome, Route
from messaging.models import Conversation, Message
from tests.factories import change_channel
from tests.messaging.support import accept, customer, deliver_due, post, read_events, status, trail

if TYPE_CHECKING:
    from time_machine import TimeMachineFixture

    from tests.conftest import Provider

NOW = dt.datetime(2026, 11, 30, 12, 0, tzinfo=dt.UTC)
ACCEPTED, REJECTED, UNKNOWN = Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNKNOWN
TRANSIENT = Outcome.TRANSIENT
RULES = ChannelRules(
    active=True,
    fallbacks=(Sender(Route.WWEBJS, 1), Sender(Route.BAILEYS, 2)),
    official_retries=2,
    confirm_seconds=30,
    on_unconfirmed="fallback",
    fallback_max_age=dt.timedelta(minutes=60),
)


def at(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def facts(**changes: Any) -> MessageFacts:
    given: dict[str, Any] = {"round": 1, "round_route": "official", "round_started_at": NOW}
    return MessageFacts(**given | changes)


def tried(outcome: Outcome, code: str = "", **changes: Any) -> AttemptFacts:
    return AttemptFacts(1, changes.pop("route", Route.OFFICIAL), outcome, code, NOW, **changes)


# -- rules -----------------------------------------------------------------------------------------

HELD = Hold(policy.UNDELIVERED)
AFTER_A_DEADLINE = [
    # what was tried, the rule, what follows two minutes later
    ([], "hold", Fail("deadline_passed")),
    ([tried(REJECTED, "131047")], "fallback", Fail("deadline_passed")),
    ([tried(TRANSIENT, "131000")], "fallback", Fail("deadline_passed")),
    ([tried(UNKNOWN, "timeout")], "fallback", Hold("deadline_passed")),
    ([tried(ACCEPTED, delivered=True, expires_at=at(60))], "fallback", Done()),
    ([tried(ACCEPTED)], "hold", HELD),
    ([tried(ACCEPTED, expires_at=at(60))], "hold", HELD),
    # It may still arrive, for all that is known.
    ([tried(ACCEPTED)], "fallback", HELD),
    ([tried(ACCEPTED, route=Route.WWEBJS, key=1)], "fallback", HELD),
    ([tried(UNKNOWN, "timeout"), tried(ACCEPTED, expires_at=at(60))], "fallback", HELD),
    # It certainly does not, from then on.
    ([tried(ACCEPTED, expires_at=at(60))], "fallback", Expire()),
    ([tried(ACCEPTED, expires_at=at(300))], "fallback", Wait(at(300), "waiting_expiry")),
    # The next route would be too late, or is forbidden.
    ([tried(ACCEPTED, expires_at=at(3601))], "fallback", HELD),
    ([tried(REJECTED, "131050"), tried(ACCEPTED, expires_at=at(60))], "fallback", HELD),
]


@pytest.mark.parametrize(("attempts", "rule", "expected"), AFTER_A_DEADLINE)
def test_what_follows_when_a_deadline_has_passed(
    attempts: list[AttemptFacts], rule: Any, expected: Any
) -> None:
    message = facts(deliver_by=at(60), on_undelivered=rule)

    assert at_deadline(message, attempts, RULES, now=at(120)) == expected


OUTCOMES = [
    (ACCEPTED, ""), (REJECTED, "131047"), (REJECTED, "131050"), (TRANSIENT, "131000"),
    (TRANSIENT, "session_not_connected"), (UNKNOWN, "timeout"),
]  # fmt: skip


@given(
    outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=8),
    durations=st.lists(st.integers(0, 50), min_size=8, max_size=8),
    send_after=st.none() | st.integers(0, 100),
    deadline=st.none() | st.integers(101, 300),
    rule=st.sampled_from(["hold", "fallback"]),
    lifetime=st.none() | st.integers(30, 400),
)
def test_nothing_is_sent_too_early_or_too_late_or_twice(
    outcomes: list[Any],
    durations: list[int],
    send_after: int | None,
    deadline: int | None,
    rule: Any,
    lifetime: int | None,
) -> None:
    send_at = None if send_after is None else at(send_after)
    deliver_by = None if deadline is None else at(deadline)
    message = facts(send_at=send_at, deliver_by=deliver_by, on_undelivered=rule)
    now, made, may_arrive, answered = NOW, [], 0, False
    for _ in range(60):
        step: Any = next_step(message, made, RULES, now=now)
        if isinstance(step, Done) and deliver_by is not None and not answered:
            now, answered = max(now, deliver_by), True
            step = at_deadline(message, made, RULES, now=now)
            if isinstance(step, Wait):
                now = step.until
                step = at_deadline(message, made, RULES, now=now)
            if isinstance(step, Expire):
                expires = made[-1].expires_at
                assert rule == "fallback"
                assert expires is not None
                assert now >= expires
                made[-1] = dataclasses.replace(
                    made[-1], outcome=REJECTED, error_code=policy.UNDELIVERED
                )
                may_arrive -= 1
                continue
        if isinstance(step, Wait):
            assert step.until > now
            now = step.until
            continue
        if not isinstance(step, Attempt):
            break
        assert send_at is None or now >= send_at
        escalated = any(one.error_code == policy.UNDELIVERED for one in made)
        assert deliver_by is None or now < deliver_by or escalated
        # An unknown send is confirmed by nothing here: the channel's rule accepts that risk once.
        assert may_arrive == 0 or step.reason == "unconfirmed"
        outcome, code = outcomes[len(made) % len(outcomes)]
        now += dt.timedelta(seconds=durations[len(made) % 8])
        may_arrive += outcome == ACCEPTED
        known = lifetime is not None and step.route == Route.OFFICIAL
        made.append(
            AttemptFacts(
                1,
                step.route,
                outcome,
                code,
                now,
                key=step.key,
                expires_at=now + dt.timedelta(seconds=lifetime or 0) if known else None,
            )
        )
    else:
        pytest.fail("it never ends")
    assert may_arrive <= 1


# -- scheduled messages ----------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_scheduled_message_is_sent_at_its_time_and_delays_none(
    wired: Channel, graph: Provider, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(NOW, tick=False)
    scheduled = accept(wired, text="later", times=Times(send_at=at(600)))
    # It answers nobody yet, and those of one second keep their order.
    Conversation.objects.update(unread_count=1)
    places = [accept(wired, times=Times(send_at=at(900))).created_at for _ in range(3)]
    assert places == sorted(set(places))
    found = Conversation.objects.get()
    assert (found.unread_count, found.last_message_at) == (1, None)
    deliver_due()
    accept(wired, text="now")
    deliver_due()

    assert [sent["text"]["body"] for sent in graph.sends()] == ["now"]
    scheduled.refresh_from_db()
    assert (scheduled.status, scheduled.decision) == ("queued", "waiting_schedule")
    [row] = selectors.with_latest(selectors.conversation_list())
    assert row.latest.text == "now"
    # Whoever wakes the conversation does not send it early.
    outbox.wake([scheduled.conversation_id])
    time_machine.move_to(at(599), tick=False)
    deliver_due()
    assert len(graph.sends()) == 1

    time_machine.move_to(at(601), tick=False)
    deliver_due()
    assert [sent["text"]["body"] for sent in graph.sends()] == ["now", "later"]
    scheduled.refresh_from_db()
    assert (scheduled.status, scheduled.created_at) == ("sent", at(600))
    [row] = selectors.with_latest(selectors.conversation_list())
    assert (row.latest.text, row.last_message_at) == ("later", at(600))


@pytest.mark.django_db
def test_only_a_message_that_was_certainly_not_sent_can_be_canceled(
    wired: Channel, graph: Provider, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(NOW, tick=False)
    scheduled = accept(wired, times=Times(send_at=at(600), deliver_by=at(900)))
    sent, unknown = accept(wired), accept(wired, customer(graph="85"))
    deliver_due()

    for message in (sent, unknown):
        with pytest.raises(sending.NotCancelable):
            sending.cancel_message(message, user=None)
    for _ in range(2):
        canceled = sending.cancel_message(scheduled, user=None)
        assert (canceled.status, canceled.decision) == ("rejected", "canceled")
    time_machine.move_to(at(1000), tick=False)
    deliver_due()
    assert deadlines.check() == 0
    assert len(graph.sends()) == 2
    assert canceled not in selectors.dashboard().attention


INVALID_TIMES = [
    ({"send_at": at(-1)}, "send_at"),
    ({"send_at": at(400 * 24 * 3600)}, "send_at"),
    ({"deliver_by": at(0)}, "deliver_by"),
    ({"send_at": at(60), "deliver_by": at(60)}, "deliver_by"),
    ({"on_undelivered": "fallback"}, "on_undelivered"),
]


@pytest.mark.parametrize(("times", "field"), INVALID_TIMES)
def test_times_that_cannot_be_kept_are_refused(times: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Times(**times).validate(now=NOW)
    assert list(refused.value.message_dict) == [field]


# -- deadlines -------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_message_that_was_not_sent_by_its_deadline_is_not_sent_any_more(
    wired: Channel, graph: Provider, wwebjs: Provider, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(NOW, tick=False)
    change_channel(wired, official_retries=5)
    # Both routes fail for now, and one message waits behind the other.
    first = accept(wired, customer(graph="30", fallback="31"), times=Times(deliver_by=at(20)))
    behind = accept(wired, customer(graph="30", fallback="31"), times=Times(deliver_by=at(10)))
    deliver_due()
    assert deadlines.check() == 0

    time_machine.move_to(at(11), tick=False)
    assert deadlines.check() == 1
    behind.refresh_from_db()
    assert (behind.status, behind.decision, behind.next_attempt_at) == (
        "rejected", "deadline_passed", None,
    )  # fmt: skip
    time_machine.move_to(at(21), tick=False)
    deliver_due()
    first.refresh_from_db()
    assert first.decision == "deadline_passed"
    tries = len(graph.sends())
    time_machine.move_to(at(4000), tick=False)
    deliver_due()
    assert len(graph.sends()) == tries
    with pytest.raises(sending.NotRetryable):
        sending.retry_message(first, route="official", user=None)
    assert {first, behind} <= set(selectors.dashboard().attention)


@pytest.mark.django_db
def test_an_accepted_message_that_is_not_delivered_in_time_is_reported(
    wired: Channel, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(NOW, tick=False)
    late = accept(wired, times=Times(deliver_by=at(60)))
    delivered = accept(wired, "+5511988880000", times=Times(deliver_by=at(60)))
    deliver_due()
    assert not Message.objects.exclude(status="sent").exists()
    post(status(delivered, "delivered", channel=wired, id="wamid.2"))
    read_events()

    time_machine.move_to(at(61), tick=False)
    assert deadlines.check() == 2
    assert deadlines.check() == 0
    late.refresh_from_db()
    delivered.refresh_from_db()
    assert (late.status, late.overdue_at) == ("sent", at(60))
    assert (delivered.status, delivered.overdue_at) == ("delivered", None)
    assert selectors.dashboard().attention == [late]
    [incident] = Incident.objects.filter(code=policy.UNDELIVERED)
    assert incident.connection == wired.primary

    post(status(late, "delivered", channel=wired, id="wamid.1"))
    read_events()
    assert selectors.dashboard().attention == []


@pytest.mark.django_db
def test_a_code_that_cannot_arrive_any_more_is_sent_by_the_next_route_once(
    wired: Channel, wwebjs: Provider, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(NOW, tick=False)
    change_channel(wired, business_account_id="102290129340398")
    MessageTemplate.objects.create(
        business_account_id="102290129340398", template_id="1", name="code", language="pt_BR",
        category="UTILITY", status="APPROVED", ttl_seconds=30, synced_at=NOW, updated_at=NOW,
        components=[{"type": "BODY", "text": "Your code is 1234."}],
    )  # fmt: skip
    message = accept(
        wired,
        type="template",
        text="",
        content={"name": "code", "language": {"code": "pt_BR"}},
        times=Times(deliver_by=at(60), on_undelivered="fallback"),
    )
    deliver_due()
    time_machine.move_to(at(61), tick=False)
    deadlines.check()
    message.refresh_from_db()
    # Meta tries for 30 seconds, and its last status may take a while.
    assert (message.status, message.overdue_at, message.deadline_check_at) == (
        "sent", at(60), at(90),
    )  # fmt: skip
    deliver_due()
    assert trail(message) == [("official", "accepted", "")]

    time_machine.move_to(at(91), tick=False)
    deadlines.check()
    deliver_due()
    message.refresh_from_db()
    assert trail(message)[0] == ("official", "rejected", policy.UNDELIVERED)
    assert trail(message)[1] == ("wwebjs", "accepted", "")
    assert [sent["content"] for sent in wwebjs.sends()] == ["Your code is 1234."]
    assert message.attempts.last().rule == policy.UNDELIVERED  # type: ignore[union-attr]
    time_machine.move_to(at(4000), tick=False)
    deadlines.check()
    deliver_due()
    assert len(trail(message)) == 2
