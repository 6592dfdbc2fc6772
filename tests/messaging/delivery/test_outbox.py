"""Which messages are due, who claims them, and what happens to the claims of a dead worker."""

from __future__ import annotations

import datetime as dt
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test import override_settings
from django.utils import timezone

from channels_app.incidents import incidents
from channels_app.models import Incident
from messaging.delivery import accept as sending
from messaging.delivery import first_sends, outbox, policy, runner
from messaging.models import DeliveryAttempt, DeliveryWorker, Message
from tests.messaging.support import (
    accept,
    customer,
    deliver_due,
    jobs,
    post,
    read_events,
    status,
    stored_attempts,
)

if TYPE_CHECKING:
    from channels_app.models import Channel
    from tests.conftest import Provider

pytestmark = pytest.mark.django_db

ELSEWHERE = "+5511977776666"


def take(worker_id: int | None = None, **limits: int) -> list[str]:
    """Claim due messages; return their texts."""
    worker_id = worker_id or outbox.register()
    taken = first_sends.take(worker_id, **{"new": 64, "waiting": 64, **limits})
    return sorted(Message.objects.get(pk=pk).text for pk in taken.ids())


def make_due() -> None:
    """End the waiting time of every message."""
    past = timezone.now() - dt.timedelta(seconds=60)
    DeliveryAttempt.objects.update(finished_at=past)
    Message.objects.filter(next_attempt_at__isnull=False).update(next_attempt_at=past)


def state_of(message: Message) -> tuple[str, str]:
    message.refresh_from_db()
    return message.status, message.decision


# -- what is due -----------------------------------------------------------------------------------


def test_an_accepted_message_is_delivered_without_a_job(wired: Channel, graph: Provider) -> None:
    message = accept(wired)
    deliver_due()
    assert state_of(message) == ("sent", "")
    assert jobs() == []


@pytest.mark.parametrize(
    ("fields", "is_due"),
    [
        ({"status": "queued"}, True),
        ({"status": "sending"}, True),
        ({"status": "unconfirmed", "decision": "waiting_confirmation"}, True),
        ({"status": "rejected", "decision": ""}, True),
        ({"status": "rejected", "decision": "no_fallback"}, False),
        ({"status": "unconfirmed", "decision": "held"}, False),
        ({"status": "sent"}, False),
        ({"status": "delivered"}, False),
        ({"direction": "in", "status": ""}, False),
        ({"sent_outside": True, "status": "rejected"}, False),
    ],
)
def test_unfinished_messages_are_due(
    channel: Channel, fields: dict[str, Any], is_due: bool
) -> None:
    message = accept(channel)
    waits = fields.get("decision", "").startswith("waiting_")
    if waits:
        fields["next_attempt_at"] = timezone.now()
    Message.objects.filter(pk=message.pk).update(**fields)
    assert bool(take()) == is_due
    assert take() == [], "it is claimed"


def test_only_the_first_unfinished_message_of_a_conversation_is_due(channel: Channel) -> None:
    first, second = accept(channel, text="1"), accept(channel, text="2")
    accept(channel, ELSEWHERE, text="3")
    assert take() == ["1", "3"]
    Message.objects.filter(pk=first.pk).update(status="sent", claimed_by=None)
    assert take() == ["2"]
    # A message that a person retries is earlier than the one that is being sent.
    Message.objects.filter(pk=first.pk).update(status="queued")
    assert take() == []
    outbox.release(str(second.pk), Message.objects.get(pk=second.pk).claimed_by_id)
    assert take() == ["1"]


def test_no_more_than_the_limits_are_claimed_oldest_first(channel: Channel) -> None:
    for number in range(4):
        accept(channel, f"+55119888800{number:02}", text=str(number))
    waiting = Message.objects.filter(text__in=["0", "1"])
    waiting.update(decision="waiting_pace", next_attempt_at=timezone.now())
    assert take(new=1, waiting=1) == ["0", "2"]
    assert take(new=0, waiting=0) == []
    assert take() == ["1", "3"]


def test_a_conversation_preserves_its_order_while_its_first_message_waits(
    wired: Channel, graph: Provider
) -> None:
    graph.plays("refused_131016", to="+5511988887777")
    first, second = accept(wired, text="1"), accept(wired, text="2")
    elsewhere = accept(wired, ELSEWHERE, text="3")

    deliver_due()

    assert state_of(elsewhere) == ("sent", "")
    assert state_of(second) == ("queued", "waiting_turn")
    assert second.next_attempt_at == Message.objects.get(pk=first.pk).next_attempt_at
    make_due()
    deliver_due()
    texts = [sent["text"]["body"] for sent in graph.sends()]
    assert (sorted(texts[:2]), texts[2:]) == (["1", "3"], ["1", "2"])
    assert [state_of(first), state_of(second)] == [("sent", ""), ("sent", "")]


def test_a_proof_of_delivery_lets_the_next_message_go(wired: Channel, graph: Provider) -> None:
    graph.plays("reset_after", "ok")
    first, second = accept(wired, text="1"), accept(wired, text="2")
    deliver_due()
    assert state_of(first) == ("unconfirmed", "waiting_confirmation")
    assert state_of(second) == ("queued", "waiting_turn")

    post(status(first, "delivered", channel=wired))
    read_events()
    deliver_due()

    assert [state_of(first)[0], state_of(second)[0]] == ["delivered", "sent"]
    assert len(graph.sends()) == 2


def test_a_late_confirmation_ends_the_wait_for_the_fallback(
    wired: Channel, graph: Provider
) -> None:
    wired.fallback_per_minute = 1
    wired.save()
    accept(wired, customer(graph="47"))
    message = accept(wired)
    deliver_due()
    errors = [{"code": 131026, "title": "Undeliverable"}]
    post(status(message, "failed", channel=wired, errors=errors))
    read_events()
    deliver_due()
    assert state_of(message)[1] == "waiting_pace"
    behind = accept(wired)
    assert state_of(behind)[1] == "waiting_turn"

    post(status(message, "delivered", channel=wired))
    read_events()
    deliver_due()
    assert state_of(behind) == ("sent", "")


def test_a_late_failure_of_a_held_message_is_decided_again(wired: Channel, graph: Provider) -> None:
    wired.on_unconfirmed, wired.confirm_seconds = "hold", 0
    wired.save()
    graph.plays("reset_after", "ok")
    message = accept(wired)
    deliver_due()
    make_due()
    deliver_due()
    assert state_of(message) == ("unconfirmed", "held")
    errors = [{"code": 131026, "title": "Undeliverable"}]
    post(status(message, "failed", channel=wired, errors=errors))
    read_events()
    deliver_due()
    message.refresh_from_db()
    assert (message.status, message.icon) == ("sent", "globe")


def test_a_message_whose_turn_has_come_is_due_whatever_time_it_shows(channel: Channel) -> None:
    later = timezone.now() + dt.timedelta(hours=1)
    accept(channel)
    Message.objects.update(decision="waiting_turn", next_attempt_at=later)
    assert take() == ["Olá"]


def test_a_manual_retry_is_due(wired: Channel, graph: Provider) -> None:
    message = accept(wired, customer(graph="49"))
    deliver_due()
    assert state_of(message)[0] == "rejected"
    sending.retry_message(message, route="fallback", user=None)
    deliver_due()
    message.refresh_from_db()
    assert message.icon == "globe"


# -- claims ----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_message_is_claimed_by_one_of_several_workers(channel: Channel) -> None:
    for number in range(40):
        accept(channel, f"+55119888800{number:02}", text=f"{number:02}")
    together = threading.Barrier(4)
    taken: list[str] = []

    def claim() -> None:
        try:
            worker_id = outbox.register()
            together.wait(10)
            for _ in range(10):
                taken.extend(take(worker_id, new=5))
        finally:
            connection.close()

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(taken) == [f"{number:02}" for number in range(40)]


def grow_old(worker_id: int, seconds: float) -> None:
    seen_at = timezone.now() - dt.timedelta(seconds=seconds)
    DeliveryWorker.objects.filter(pk=worker_id).update(seen_at=seen_at)


def test_a_dead_worker_s_send_counts_as_unknown(wired: Channel, graph: Provider) -> None:
    message = accept(wired)
    dead, alive = outbox.register(), outbox.register()
    assert take(dead) == ["Olá"]
    grow_old(dead, 14)
    outbox.end_dead_claims()
    assert take(alive) == [], "the worker may be alive"
    grow_old(dead, 16)

    outbox.end_dead_claims()
    deliver_due()

    assert state_of(message) == ("unconfirmed", "waiting_confirmation")
    assert [attempt.error_code for attempt in stored_attempts(message)] == ["worker_lost"]
    assert graph.sends() == []
    assert list(DeliveryWorker.objects.values_list("pk", flat=True)) == [alive]


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_stands_still_in_a_claim_stops_no_other(channel: Channel) -> None:
    accept(channel)
    frozen, alive = outbox.register(), outbox.register()
    in_claim, go_on = threading.Event(), threading.Event()

    def claim() -> None:
        try:
            with transaction.atomic():
                outbox.lock_lease(frozen)
                in_claim.set()
                go_on.wait(30)
        finally:
            connection.close()

    thread = threading.Thread(target=claim)
    thread.start()
    assert in_claim.wait(30)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
        # Both count as dead now.
        with override_settings(WORKER_STALLED_SECONDS=0):
            outbox.end_dead_claims()
        assert DeliveryWorker.objects.filter(pk=frozen).exists()
        assert not DeliveryWorker.objects.filter(pk=alive).exists()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
        go_on.set()
        thread.join(30)


def test_a_worker_that_seemed_dead_claims_nothing_until_it_registers_again(
    channel: Channel,
) -> None:
    accept(channel)
    worker_id = outbox.register()
    grow_old(worker_id, 16)
    for attempt in (outbox.renew, take):
        with pytest.raises(outbox.LeaseExpired), transaction.atomic():
            attempt(worker_id)
    outbox.end_dead_claims()
    with pytest.raises(outbox.LeaseExpired):
        outbox.renew(worker_id)
    assert take(outbox.register()) == ["Olá"]


def test_a_worker_considered_dead_starts_no_send(
    wired: Channel, graph: Provider, wwebjs: Provider
) -> None:
    """It lost the database before it called the provider; another worker took over."""
    wired.confirm_seconds = 0
    wired.save()
    message = accept(wired)
    first, second = outbox.register(), outbox.register()
    taken = first_sends.take(first, new=1, waiting=1)
    [send] = taken.sends
    grow_old(first, 16)
    outbox.end_dead_claims()
    taken = first_sends.take(second, new=1, waiting=1)
    assert taken.others == [message.pk]
    runner.deliver(str(message.pk), second)
    message.refresh_from_db()
    # The first worker's send may last this long; the fallback must not overtake it.
    assert message.next_attempt_at is not None
    wait = (message.next_attempt_at - timezone.now()).total_seconds()
    assert wired.request_timeout_seconds < wait < wired.request_timeout_seconds + 11

    send.attempt.started_at -= runner.OWNERSHIP_GRACE * 2
    made = runner.make(send)
    assert getattr(made.result, "code", "") == "taken_over"
    assert (graph.sends(), wwebjs.sends()) == ([], [])
    assert runner.deliver(str(message.pk), first) is None
    assert len(stored_attempts(message)) == 1


def test_the_late_result_of_a_worker_considered_dead_is_stored(
    wired: Channel, graph: Provider
) -> None:
    message = accept(wired)
    first, second = outbox.register(), outbox.register()
    taken = first_sends.take(first, new=1, waiting=1)
    made = runner.make(taken.sends[0])
    grow_old(first, 16)
    outbox.end_dead_claims()
    deliver_due()
    assert state_of(message) == ("unconfirmed", "waiting_confirmation")

    left, _ = first_sends.record([made])
    assert left == [made]
    assert not runner.store(made)
    outbox.release(str(message.pk), first)

    assert state_of(message) == ("sent", "")
    assert (len(graph.sends()), take(second)) == (1, [])


def test_claims_that_a_worker_does_not_know_end(channel: Channel) -> None:
    known = accept(channel, text="1")
    accept(channel, ELSEWHERE, text="2")
    worker_id = outbox.register()
    assert take(worker_id) == ["1", "2"]
    outbox.end_forgotten_claims(worker_id, known={known.pk})
    assert take() == ["2"]
    outbox.unregister(worker_id)
    assert take() == ["1"]


# -- errors of our own -----------------------------------------------------------------------------


def test_a_message_that_always_fails_is_held_and_blocks_no_other(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = accept(wired, text="1"), accept(wired, text="2")
    real, tries = runner.outbound, []

    def broken(message: Message, attempt: DeliveryAttempt) -> Any:
        if message.pk == first.pk:
            tries.append(message.decision)
            raise ZeroDivisionError("a bug of ours")
        return real(message, attempt)

    monkeypatch.setattr(runner, "outbound", broken)
    for _ in range(20):
        deliver_due()
        make_due()

    # The first try is made together with others, and repeated alone.
    assert tries == ["", "", *["waiting_internal_error"] * (policy.MAX_FAULTS - 1)]
    assert state_of(first) == ("rejected", "internal_error")
    assert (first.next_attempt_at, stored_attempts(first)) == (None, [])
    assert state_of(second)[0] == "sent"
    incident = Incident.objects.get()
    assert (incident.channel, incident.reason) == (wired, "internal_error")
    assert incident.detail == "ZeroDivisionError"
    assert incidents.headline(incident)
    assert take() == []

    monkeypatch.undo()
    sending.retry_message(first, route="official", user=None)
    deliver_due()
    first.refresh_from_db()
    assert (first.status, first.faults) == ("sent", 0)


def test_a_possibly_sent_message_is_held_after_an_internal_error(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the error is in the code that derives the message's status."""
    message = accept(wired, customer(graph="47"))
    real = runner.attempts.refresh_message_status

    def broken(*args: Any, **kwargs: Any) -> None:
        if graph.sends():
            raise ZeroDivisionError("a bug of ours")
        real(*args, **kwargs)

    monkeypatch.setattr(runner.attempts, "refresh_message_status", broken)
    for _ in range(20):
        deliver_due()
        make_due()

    assert state_of(message) == ("unconfirmed", "internal_error")
    assert [attempt.outcome for attempt in stored_attempts(message)] == ["unknown"]
    assert len(graph.sends()) == 1


def test_a_database_outage_is_not_an_internal_error(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("gone")

    message = accept(wired)
    with monkeypatch.context() as broken:
        broken.setattr(runner, "deliver", away)
        for _ in range(3 * policy.MAX_FAULTS):
            with pytest.raises(OperationalError):
                runner.run(str(message.pk))
    deliver_due()
    message.refresh_from_db()
    assert (message.status, message.faults) == ("sent", 0)
