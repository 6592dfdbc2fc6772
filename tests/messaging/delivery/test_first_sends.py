"""Sending messages together gives the same rows as sending each by itself."""

from __future__ import annotations

import datetime as dt
import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from channels_app.models import Channel, Connection, Incident
from channels_app.providers.base import Accepted, OutboundMessage, Rejected, Transient, Unknown
from channels_app.providers.cloud.client import CloudProvider
from channels_app.providers.events import Receipt
from channels_app.providers.wwebjs.client import WwebjsProvider
from messaging.delivery import first_sends, outbox, rate_limits, runner
from messaging.inbound import pending_events
from messaging.models import DeliveryAttempt, Message, PendingEvent
from tests.messaging.support import accept, deliver_due

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from time_machine import TimeMachineFixture

pytestmark = pytest.mark.django_db

RESULTS = {
    "accepted": lambda id_: Accepted(id_),
    "without an id": lambda id_: Accepted(None),
    "refused": lambda id_: Rejected("131047", "Re-engagement message"),
    "undeliverable": lambda id_: Rejected("131026", "Undeliverable"),
    "later": lambda id_: Transient("131016", "Service unavailable"),
    "lost": lambda id_: Unknown("timeout", "No response"),
    "bug": lambda id_: ZeroDivisionError("a bug of ours"),
}
STATES = ("new", "new", "new", "retried", "by the fallback", "reserved", "faulty", "started")
CUSTOMERS = [f"+55119888877{number:02d}" for number in range(10)]
# Of which a plan uses a few, so that messages wait for each other.
FEW = 5
Plan = tuple[int, str, str, bool]


def send(provider: object, message: OutboundMessage) -> Accepted:
    """Answer as the text of the message says."""
    by_fallback = isinstance(provider, WwebjsProvider)
    name, _, number = message.text.partition(" #")
    result = RESULTS["accepted" if by_fallback else name](f"wamid.{number}.{by_fallback}")
    if isinstance(result, Accepted):
        return result
    raise result


@pytest.fixture
def scripted(wired: Channel, monkeypatch: pytest.MonkeyPatch) -> Channel:
    monkeypatch.setattr(CloudProvider, "send", send)
    monkeypatch.setattr(WwebjsProvider, "send", send)
    monkeypatch.setattr(rate_limits.random, "random", lambda: 0.5)
    # Stopped like the clock: a slow machine comes no less near to a limit.
    monkeypatch.setattr(rate_limits, "time", SimpleNamespace(monotonic=lambda: 0.0))
    Connection.objects.filter(channel=wired).update(health="ok", state="ready", own_number="1")
    return wired


def store(plans: Sequence[Plan], channel: Channel) -> None:
    """Accept the planned messages, and put each into its state."""
    now = timezone.now()
    for number, (customer, state, result, has_receipt) in enumerate(plans):
        message = accept(channel, CUSTOMERS[customer], text=f"{result} #{number}")
        changes: dict[str, Any] = {
            "retried": {"round": 2},
            "by the fallback": {"round": 2, "round_route": "fallback"},
            "reserved": {"decision": "waiting_throughput", "next_attempt_at": now},
            "faulty": {"faults": 1},
        }.get(state, {})
        Message.objects.filter(pk=message.pk).update(
            created_at=now + dt.timedelta(microseconds=number), **changes
        )
        if state == "started":
            DeliveryAttempt.objects.create(
                message=message, number=1, connection=channel.primary, started_at=now
            )
        if has_receipt:
            pending_events.store_receipt(
                channel_id=channel.pk, provider_message_id=f"wamid.{number}.False",
                receipt=Receipt.DELIVERED, error=None,
            )  # fmt: skip


def deliver_one_by_one() -> None:
    worker_id = outbox.register()
    while True:
        with transaction.atomic():
            due = outbox.lock_new(limit=1) or outbox.lock_waiting(now=timezone.now(), limit=1)
            Message.objects.filter(pk__in=due).update(claimed_by=worker_id)
        if not due:
            break
        runner.run(str(due[0]), worker_id)
        outbox.release(str(due[0]), worker_id)
    outbox.unregister(worker_id)


def everything() -> dict[str, Any]:
    """Return what delivering may change, without ids and versions."""

    def rows(model: Any, *fields: str) -> list[Any]:
        return sorted(map(list, model.objects.values_list(*fields)), key=repr)

    return {
        "messages": rows(
            Message, "text", "status", "route", "error_code", "error_title", "decision",
            "next_attempt_at", "round", "faults", "claimed_by",
        ),
        "attempts": rows(
            DeliveryAttempt, "message__text", "number", "round", "connection", "rule", "outcome",
            "receipt", "error_code", "provider_message_id", "started_at", "finished_at",
        ),
        "pending": rows(PendingEvent, "provider_message_id", "kind"),
        "connections": rows(Connection, "id", "health", "breaker_opened_at", "breaker_probe_at"),
        "incidents": rows(Incident, "kind", "reason", "code"),
    }  # fmt: skip


def after(deliver: Callable[[], None], plans: Sequence[Plan], channel: Channel) -> dict[str, Any]:
    """Deliver the planned messages; undo it and return the rows at its end."""
    rate_limits._connection_starts = rate_limits._Starts()
    rate_limits._conversation_starts = rate_limits._Starts()
    with transaction.atomic():
        store(plans, channel)
        deliver()
        end = everything()
        transaction.set_rollback(True)
    return end


def test_sending_together_gives_the_rows_of_sending_one_by_one(
    scripted: Channel, time_machine: TimeMachineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_machine.move_to(timezone.now(), tick=False)
    plan = st.tuples(
        st.integers(0, FEW - 1), st.sampled_from(STATES),
        st.sampled_from(list(RESULTS)), st.booleans(),
    )  # fmt: skip
    limits = st.sampled_from([3, 80])
    seen: set[tuple[bool, bool]] = set()
    real = first_sends.record

    def noted(made: Sequence[Any]) -> Any:
        left, more_due = real(made)
        seen.add((len(left) < len(made), bool(left)))
        return left, more_due

    monkeypatch.setattr(first_sends, "record", noted)
    monkeypatch.setattr(Connection, "throughput", property(lambda self: LIMIT[0]))

    @settings(
        max_examples=12,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(plan, min_size=1, max_size=10), limits)
    def same(plans: list[Plan], limit: int) -> None:
        LIMIT[0] = limit
        if limit < len(CUSTOMERS):
            # Who gets a slot depends on the order. Simple messages that nobody waits for keep it.
            plans = [
                (number, state if state == "reserved" else "new", result, has_receipt)
                for number, (_, state, result, has_receipt) in enumerate(plans)
            ]
        together = after(deliver_due, plans, scripted)
        assert together == after(deliver_one_by_one, plans, scripted)

    same()
    assert {True, False} == {stored for stored, _ in seen} == {left for _, left in seen}


LIMIT = [80]


def test_many_sends_take_few_statements(scripted: Channel) -> None:
    def statements(count: int) -> int:
        for number in range(count):
            accept(scripted, f"+55119888{next(fresh):05d}", text=f"accepted #{number}")
        with CaptureQueriesContext(connection) as queries:
            deliver_due()
        return len(queries)

    fresh = itertools.count()
    few = statements(2)
    assert few < 30
    # Two more ask how near the limit per second is.
    assert statements(40) <= few + 2
    assert set(Message.objects.values_list("status", flat=True)) == {"sent"}


def test_slots_are_reserved_in_order(scripted: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "throughput", property(lambda self: 10))
    for number in range(14):
        accept(scripted, f"+55119888{number:05d}", text=f"accepted #{number:02d}")
    deliver_due()
    waiting = Message.objects.filter(decision="waiting_throughput").order_by("next_attempt_at")
    texts = waiting.values_list("text", flat=True)
    assert list(texts) == [f"accepted #{number}" for number in range(10, 14)]
    times = [message.next_attempt_at for message in waiting]
    gaps = {round((b - a).total_seconds(), 3) for a, b in itertools.pairwise(times) if a and b}
    assert gaps == {0.1}


def test_a_customers_limit_delays_nobody_else(
    scripted: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "throughput", property(lambda self: 6))
    until = timezone.now() + dt.timedelta(minutes=1)
    limited = accept(scripted, CUSTOMERS[0], text="accepted #0")
    monkeypatch.setattr(
        rate_limits,
        "_recipient_free_at",
        lambda message, now: until if message.pk == limited.pk else None,
    )
    for number in range(1, 6):
        accept(scripted, f"+55119888{number:05d}", text=f"accepted #{number}")
    deliver_due()
    decisions = Message.objects.order_by("created_at").values_list("decision", flat=True)
    assert list(decisions) == ["waiting_recipient", *[""] * 5]


def test_an_error_in_deciding_about_one_message_concerns_no_other(
    scripted: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runner.facts_of

    def broken(message: Message) -> Any:
        if message.text.startswith("bug"):
            raise ZeroDivisionError("a bug of ours")
        return real(message)

    monkeypatch.setattr(runner, "facts_of", broken)
    accept(scripted, CUSTOMERS[0], text="bug #0")
    accept(scripted, CUSTOMERS[1], text="accepted #1")
    deliver_due()
    states = Message.objects.order_by("created_at").values_list("status", "decision", "faults")
    assert list(states) == [("queued", "waiting_internal_error", 1), ("sent", "", 0)]


def test_messages_behind_a_reserved_slot_wait_for_their_turn(
    scripted: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "throughput", property(lambda self: 3))
    for number in range(3):
        accept(scripted, CUSTOMERS[number], text=f"accepted #{number}")
    first, second = (accept(scripted, CUSTOMERS[4], text=f"accepted #{n}") for n in (3, 4))
    deliver_due()
    for message in (first, second):
        message.refresh_from_db()
    assert (first.decision, second.decision) == ("waiting_throughput", "waiting_turn")
    assert first.next_attempt_at == second.next_attempt_at
