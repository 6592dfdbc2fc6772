"""Our own ids for messages sent through an instance (2.4)."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from channels_app.models import Channel, Connection
from messaging.delivery import reconcile
from tests.instances.support import read, wait_until
from tests.messaging.support import accept, deliver, make_older

if TYPE_CHECKING:
    from instances.models import WhatsAppSession
    from messaging.models import DeliveryAttempt, Message
    from tests.instances.support import Evolution


@pytest.fixture
def evolution_settings() -> dict[str, Any]:
    return {"version": "2.4.0"}


@pytest.fixture
def quick(channel: Channel) -> Channel:
    channel.request_timeout_seconds, channel.confirm_seconds = 1, 0
    channel.save()
    return channel


def send(channel: Channel, evolution: Evolution, *scenarios: str, text: str = "Olá") -> Message:
    evolution.control("script", scenarios=list(scenarios))
    message = accept(channel, text=text)
    deliver(message)
    return message


def stored_attempts(message: Message) -> list[DeliveryAttempt]:
    return list(message.attempts.order_by("number"))


def test_message_ids_are_trusted_only_if_the_answer_contains_ours(
    quick: Channel, evolution: Evolution
) -> None:
    [attempt] = stored_attempts(send(quick, evolution, "ok"))
    assert attempt.provider_message_id == attempt.reserved_id != ""
    assert Connection.objects.get().takes_message_ids
    # An older server ignores the id.
    evolution.control("settings", version="2.3.7")
    [attempt] = stored_attempts(send(quick, evolution, "ok"))
    assert attempt.provider_message_id not in ("", attempt.reserved_id)
    assert not Connection.objects.get().takes_message_ids


@pytest.mark.parametrize("scenario", ["hang_delivered", "reset_after", "hang_lost", "reset_before"])
def test_an_unknown_outcome_is_retried_with_the_same_id_and_arrives_once(
    quick: Channel, evolution: Evolution, scenario: str
) -> None:
    send(quick, evolution, "ok", text="proves it")
    message = send(quick, evolution, scenario, "ok")
    first, second = stored_attempts(message)
    assert (first.outcome, second.outcome, second.rule) == ("unknown", "accepted", "repeat")
    assert first.reserved_id == second.reserved_id == second.provider_message_id
    delivered = [
        entry["message_id"]
        for entry in evolution.ledger("sent")
        if entry["delivered"] and entry["body"]["text"] == message.text
    ]
    assert delivered == [first.reserved_id]


def test_without_trusted_ids_an_unknown_outcome_is_held_for_staff(
    quick: Channel, evolution: Evolution
) -> None:
    message = send(quick, evolution, "hang_delivered", "ok")
    [attempt] = stored_attempts(message)
    assert (attempt.outcome, message.decision) == ("unknown", "held")


def test_repeated_unknown_outcomes_are_held_too(quick: Channel, evolution: Evolution) -> None:
    send(quick, evolution, "ok")
    message = send(quick, evolution, *["hang_lost"] * 5, text="never")
    assert [a.outcome for a in stored_attempts(message)] == ["unknown"] * 3
    assert message.decision == "held"


@pytest.mark.parametrize("route", ["sendText"])
def test_an_ack_identifies_a_send_without_an_answer(
    quick: Channel, by_webhook: WhatsAppSession, evolution: Evolution, route: str
) -> None:
    message = send(quick, evolution, "reset_after")

    def confirmed() -> bool:
        read()
        message.refresh_from_db()
        return message.status in ("delivered", "read")

    wait_until(confirmed)
    [attempt] = stored_attempts(message)
    assert (attempt.outcome, attempt.provider_message_id) == ("accepted", attempt.reserved_id)


def test_a_lookup_uses_the_id_and_needs_no_text(quick: Channel, evolution: Evolution) -> None:
    message = send(quick, evolution, "reset_after")
    type(message).objects.filter(pk=message.pk).update(text="words that stand nowhere")
    make_older(message.attempts.all(), dt.timedelta(seconds=6))

    def confirmed() -> bool:
        reconcile.look_up_unknown()
        message.refresh_from_db()
        return message.status == "sent"

    wait_until(confirmed)
    [attempt] = stored_attempts(message)
    assert attempt.provider_message_id == attempt.reserved_id
    assert attempt.started_at < timezone.now()
