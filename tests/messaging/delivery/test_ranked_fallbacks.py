"""Deliver by a channel with two fallbacks: its wwebjs session, then a Baileys channel."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from channels_app.connections import circuit_breaker
from channels_app.models import Channel, FallbackChoice
from messaging.delivery import runner
from messaging.models import Message
from simulators.evolution.app import SIMULATOR, InstanceSpec, create_app
from simulators.evolution.model import EvolutionSettings
from tests.conftest import Provider, run_in_thread
from tests.factories import change_channel, update_connection
from tests.messaging.support import accept, customer, deliver, deliver_to_the_end, trail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from time_machine import TimeMachineFixture

pytestmark = pytest.mark.django_db

KEY, INSTANCE = "evolution-key", "oficina"


@pytest.fixture
def evolution() -> Iterator[Provider]:
    app = create_app(EvolutionSettings(api_key=KEY, instances=(InstanceSpec(INSTANCE),)))
    with run_in_thread(app) as running:
        yield Provider(running.url, app[SIMULATOR])


@pytest.fixture
def baileys(evolution: Provider, make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        name="Oficina",
        kind="baileys",
        phone_number_id="",
        evolution_url=evolution.url,
        evolution_api_key=KEY,
        instance_name=INSTANCE,
    )


@pytest.fixture
def ranked(wired: Channel, baileys: Channel) -> Channel:
    choices = [FallbackChoice("wwebjs"), FallbackChoice("baileys", baileys)]
    return change_channel(wired, fallbacks=choices)


def sent_by_baileys(evolution: Provider) -> int:
    return len([r for r in evolution.simulator.requests if "/message/send" in r["path"]])


def test_what_the_first_fallback_rejects_is_sent_by_the_second(
    ranked: Channel, wwebjs: Provider, evolution: Provider
) -> None:
    wwebjs.plays("not_on_whatsapp")
    message = accept(ranked, customer(graph="47"))

    assert deliver(message) is None

    assert [step[:2] for step in trail(message)] == [
        ("official", "rejected"),
        ("wwebjs", "rejected"),
        ("baileys", "accepted"),
    ]
    assert (message.route, message.icon) == ("baileys", "globe")
    assert sent_by_baileys(evolution) == 1


def test_what_the_first_fallback_may_have_sent_is_held(
    ranked: Channel, wwebjs: Provider, evolution: Provider, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(timezone.now(), tick=False)
    wwebjs.plays("reset_after")
    message = accept(ranked, customer(graph="47"))

    deliver_to_the_end(message, time_machine)

    assert [step[:2] for step in trail(message)] == [
        ("official", "rejected"),
        ("wwebjs", "unknown"),
    ]
    assert (message.status, message.decision) == ("unconfirmed", "fallback_unconfirmed")
    assert sent_by_baileys(evolution) == 0


def test_the_order_of_the_fallbacks_is_the_channel_s(
    ranked: Channel, baileys: Channel, wwebjs: Provider
) -> None:
    choices = [FallbackChoice("baileys", baileys), FallbackChoice("wwebjs")]
    message = accept(change_channel(ranked, fallbacks=choices), customer(graph="47"))

    deliver(message)

    assert [step[0] for step in trail(message)] == ["official", "baileys"]
    assert wwebjs.sends() == []


def test_a_message_that_waits_for_the_first_fallback_takes_no_slot_of_the_second(
    ranked: Channel, baileys: Channel, graph: Provider, make_channel: Callable[..., Channel]
) -> None:
    other = make_channel(graph_url=graph.url, fallback="baileys", fallback_channel=baileys)
    waiting, message = (accept(one, customer(graph="47")) for one in (ranked, other))
    Message.objects.filter(pk=waiting.pk).update(
        decision="waiting_pace", next_attempt_at=timezone.now() + dt.timedelta(minutes=30)
    )

    assert deliver(message) is None

    assert message.route == "baileys"


@pytest.mark.parametrize("unusable", ["inactive", "breaker"])
def test_a_message_that_no_earlier_fallback_can_send_reserves_a_slot_of_the_later_one(
    unusable: str,
    wired: Channel,
    baileys: Channel,
    graph: Provider,
    make_channel: Callable[..., Channel],
) -> None:
    dead = make_channel(name="Antigo", kind="baileys", instance_name="antigo")
    if unusable == "inactive":
        change_channel(dead, active=False)
    else:
        update_connection(dead, breaker_opened_at=timezone.now(), breaker_code="x")
    change_channel(
        wired, fallbacks=[FallbackChoice("baileys", dead), FallbackChoice("baileys", baileys)]
    )
    change_channel(baileys, fallback_per_minute=1)
    other = make_channel(graph_url=graph.url, fallback="baileys", fallback_channel=baileys)
    waiting, message = (accept(one, customer(graph="47")) for one in (wired, other))
    reserved = timezone.now() + dt.timedelta(minutes=5)
    Message.objects.filter(pk=waiting.pk).update(decision="waiting_pace", next_attempt_at=reserved)

    until = deliver(message)

    assert until is not None
    assert until > reserved


def test_a_lifted_new_chat_block_is_lifted_for_every_fallback(
    ranked: Channel, baileys: Channel, staff: User
) -> None:
    until = timezone.now() + circuit_breaker.NEW_CHATS_STOP
    blocked = [
        update_connection(ranked, "wwebjs", new_chats_stopped_until=until),
        update_connection(baileys, new_chats_stopped_until=until),
    ]

    assert circuit_breaker.lift_new_chat_block(Channel.objects.get(pk=ranked.pk), user=staff)

    for connection in blocked:
        connection.refresh_from_db()
        assert connection.new_chats_stopped_until is None
        assert connection.new_chats_lifted_by == staff


def test_a_changed_limit_reschedules_the_messages_of_channels_that_fall_back_to_it(
    ranked: Channel, baileys: Channel
) -> None:
    message = accept(ranked)
    Message.objects.filter(pk=message.pk).update(
        decision="waiting_pace", next_attempt_at=timezone.now()
    )

    runner.reschedule_throttled(baileys.pk)

    message.refresh_from_db()
    assert (message.decision, message.next_attempt_at) == ("", None)
