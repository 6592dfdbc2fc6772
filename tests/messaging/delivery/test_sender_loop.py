"""A worker process delivers messages as soon as they are due."""

from __future__ import annotations

import datetime as dt
import threading
from typing import TYPE_CHECKING

import pytest
from django.db import OperationalError
from django.utils import timezone

from messaging.delivery import first_sends, runner
from messaging.models import DeliveryWorker, Message
from tests.messaging.support import (
    accept,
    customer,
    deliver_due,
    post,
    running_worker,
    status,
    stored_attempts,
    wait_until,
)

if TYPE_CHECKING:
    from channels_app.models import Channel
    from tests.conftest import Provider

pytestmark = pytest.mark.django_db(transaction=True)

# Polling interval for tests in which only notifications may wake the worker.
NEVER = 24 * 3600.0


def count(**state: str) -> int:
    return Message.objects.filter(**state).count()


def test_a_message_is_sent_and_the_next_one_follows_without_a_poll(
    wired: Channel, graph: Provider
) -> None:
    graph.plays("slow", forever=True)
    before = accept(wired)
    with running_worker(poll_seconds=NEVER):
        wait_until(lambda: count(status="sent") == 1)
        first, second = accept(wired), accept(wired)
        wait_until(lambda: count(status="sent") == 3)
    done = stored_attempts(first)[0].finished_at
    assert done is not None
    assert stored_attempts(second)[0].started_at >= done
    assert stored_attempts(before)[0].outcome == "accepted"
    assert not DeliveryWorker.objects.exists()
    assert not Message.objects.filter(claimed_by__isnull=False).exists()


def test_many_messages_are_sent_and_fall_back_each_once(
    wired: Channel, graph: Provider, wwebjs: Provider
) -> None:
    wired.fallback_per_minute = 1000
    wired.fallback_new_chats_per_day = 1000
    wired.save()
    with running_worker(poll_seconds=NEVER):
        for _ in range(20):
            accept(wired, customer())
            accept(wired, customer(graph="47"))
        wait_until(lambda: count(status="sent") == 40, seconds=30)
    assert (count(route="official"), count(route="wwebjs")) == (20, 20)
    assert len(graph.sends()) == 40
    assert len(wwebjs.sends()) == 20


def test_a_rejection_is_stored_while_the_fallbacks_of_others_take_all_threads(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fast = runner.run, threading.Event()

    def slow(message_id: str, worker_id: int | None = None) -> dt.datetime | None:
        assert fast.wait(30)
        return real(message_id, worker_id)

    monkeypatch.setattr(runner, "run", slow)
    with running_worker(poll_seconds=NEVER):
        try:
            for area in range(11, 17):
                accept(wired, customer(graph="47").replace("+55 11", f"+55 {area}"))
            wait_until(lambda: count(error_code="131047") == 6)
        finally:
            fast.set()


def test_a_waiting_message_is_sent_when_its_time_has_come(wired: Channel, graph: Provider) -> None:
    message = accept(wired)
    until = timezone.now() + dt.timedelta(seconds=0.3)
    Message.objects.update(decision="waiting_pace", next_attempt_at=until)
    with running_worker(poll_seconds=0.05):
        wait_until(lambda: count(status="sent"))
    assert stored_attempts(message)[0].started_at >= until


def test_a_proof_of_delivery_wakes_the_worker(wired: Channel, graph: Provider) -> None:
    graph.plays("reset_after", "ok")
    first = accept(wired)
    accept(wired)
    with running_worker(poll_seconds=NEVER):
        wait_until(lambda: count(decision="waiting_turn"))
        wait_until(lambda: not Message.objects.filter(claimed_by__isnull=False).exists())
        post(status(first, "delivered", channel=wired))
        wait_until(lambda: count(status="sent"))


def test_results_that_cannot_be_stored_together_are_stored_one_by_one(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(made: object) -> None:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(first_sends, "record", broken)
    with running_worker(poll_seconds=NEVER):
        accept(wired)
        wait_until(lambda: count(status="sent"))
    assert len(graph.sends()) == 1


def test_a_delivery_that_the_database_interrupted_is_resumed(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch, settings: object
) -> None:
    settings.WORKER_HEARTBEAT_SECONDS = 0.05  # type: ignore[attr-defined]
    first = accept(wired)
    deliver_due()
    real, failures = runner.deliver, [OperationalError("gone")]

    def away(*args: object, **kwargs: object) -> object:
        if failures:
            raise failures.pop()
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "deliver", away)
    # A reply is not delivered together with others.
    message = accept(wired, reply_to=str(first.pk))
    with running_worker(poll_seconds=NEVER):
        wait_until(lambda: count(status="sent") == 2)
    assert failures == []
    assert len(stored_attempts(message)) == 1


def test_a_worker_without_a_lease_registers_again(
    wired: Channel, graph: Provider, settings: object
) -> None:
    settings.WORKER_HEARTBEAT_SECONDS = 0.05  # type: ignore[attr-defined]
    with running_worker(poll_seconds=NEVER):
        accept(wired)
        wait_until(lambda: count(status="sent"))
        [before] = DeliveryWorker.objects.all()
        before.delete()
        accept(wired)
        wait_until(lambda: count(status="sent") == 2)
        wait_until(lambda: DeliveryWorker.objects.exclude(pk=before.pk).exists())
