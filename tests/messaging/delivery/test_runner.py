"""A message on its way, over real sockets, to simulated providers."""

from __future__ import annotations

import datetime as dt
import itertools
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from channels_app.models import Channel
from channels_app.providers.base import Accepted, Rejected, Transient
from channels_app.providers.events import Receipt
from messaging.delivery import accept as sending
from messaging.delivery import attempts as outcomes
from messaging.delivery import policy, runner
from messaging.delivery.statuses import Outcome, Route
from messaging.models import DeliveryAttempt, InboundEvent, Message, PendingEvent
from tests.messaging.support import (
    accept,
    attempt_of,
    attempts,
    customer,
    deliver,
    deliver_to_the_end,
    jobs,
    post,
    read_events,
    receive,
    status,
    trail,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from time_machine import TimeMachineFixture

    from tests.conftest import Provider, Webhooks

pytestmark = pytest.mark.django_db


# -- the way out -----------------------------------------------------------------------------------


def test_a_message_goes_out_by_the_official_api(wired: Channel, graph: Provider) -> None:
    message = accept(wired, text="Bom dia")

    assert deliver(message) is None

    assert (message.status, message.route, message.icon) == ("sent", "official", "sent")
    assert (message.error_code, message.decision, message.next_attempt_at) == ("", "", None)
    [attempt] = attempts(message)
    assert attempt.provider_message_id.startswith("wamid.")
    assert attempt.rule == "first"
    assert attempt.finished_at is not None
    assert attempt.started_at <= attempt.finished_at
    [sent] = graph.sends()
    assert sent["text"]["body"] == "Bom dia"
    assert sent["biz_opaque_callback_data"] == f"{message.pk}.1"


def test_what_the_official_api_rejects_goes_out_by_the_fallback(
    wired: Channel, wwebjs: Provider
) -> None:
    message = accept(wired, customer(graph="47"))
    seen = []
    steps = iter(lambda: _one_step(message), None)
    for _ in steps:
        seen.append(message.icon)

    assert seen == ["clock", "rejected", "rejected", "globe"]
    assert (message.status, message.route) == ("sent", "wwebjs")
    assert message.error_code == "131047"
    assert message.error_title
    assert "24 hours" in message.error_detail
    first, second = attempts(message)
    assert (first.route, first.outcome, first.error_code) == ("official", "rejected", "131047")
    assert first.error_detail == message.error_detail
    assert (second.route, second.outcome, second.rule) == ("wwebjs", "accepted", "refused")
    assert second.provider_message_id
    assert [sent["content"] for sent in wwebjs.sends()] == ["Olá"]


def _one_step(message: Message) -> bool | None:
    """Decide, or ask the provider: one of the two transactions of an attempt."""
    running = message.attempts.filter(outcome="started").first()
    if running is None:
        _step, send = runner._decide(str(message.pk))
        more = send is not None
    else:
        running = DeliveryAttempt.objects.select_related(
            "message__conversation__channel", "message__conversation__contact"
        ).get(pk=running.pk)
        again = runner._PendingSend(running, runner._outbound(running.message, running))
        outcomes.record_result(running, runner._send(again))
        more = True
    message.refresh_from_db()
    return True if more else None


ANSWERS_OF_THE_OFFICIAL_API = [
    # scenario, official tries, their outcome, last wait before the fallback
    ("refused_131026", 1, "rejected", None),
    ("refused_131051", 1, "rejected", None),
    ("refused_131053", 1, "rejected", None),
    ("refused_132001", 1, "rejected", None),
    ("refused_131042", 1, "rejected", None),
    ("refused_190", 1, "rejected", None),
    ("refused_10", 1, "rejected", None),
    ("refused_131999", 1, "rejected", None),
    ("refused_131000", 2, "transient", "waiting_retry"),
    ("refused_130429", 2, "transient", "waiting_retry"),
    ("refused_131016", 2, "transient", "waiting_retry"),
    ("refused_4", 2, "transient", "waiting_retry"),
    ("refused_80007", 2, "transient", "waiting_retry"),
    ("unavailable_2", 2, "transient", "waiting_retry"),
    ("reset_before", 1, "unknown", "waiting_confirmation"),
    ("not_json", 1, "unknown", "waiting_confirmation"),
    ("html_502", 1, "unknown", "waiting_confirmation"),
    ("html_200", 1, "unknown", "waiting_confirmation"),
    ("empty", 1, "unknown", "waiting_confirmation"),
    ("error_500", 1, "unknown", "waiting_confirmation"),
]


@pytest.mark.parametrize(("scenario", "tries", "outcome", "wait"), ANSWERS_OF_THE_OFFICIAL_API)
def test_whatever_is_wrong_with_the_official_api_the_message_arrives(
    wired: Channel,
    graph: Provider,
    wwebjs: Provider,
    time_machine: TimeMachineFixture,
    scenario: str,
    tries: int,
    outcome: str,
    wait: str | None,
) -> None:
    graph.plays(scenario, forever=True)
    message = accept(wired)

    waits = deliver_to_the_end(message, time_machine)

    assert waits == ([wait] if wait else [])
    assert (message.status, message.route, message.icon) == ("sent", "wwebjs", "globe")
    *official, last = trail(message)
    assert [attempt[:2] for attempt in official] == [("official", outcome)] * tries
    assert last == ("wwebjs", "accepted", "")
    assert message.error_code == official[0][2] != ""
    assert len(graph.sends()) == tries
    assert len(wwebjs.sends()) == 1


@pytest.mark.parametrize(
    ("scenario", "decision"),
    [
        ("refused_131050", "never_fall_back"),
        ("refused_130403", "never_fall_back"),
        ("refused_131049", "opt_in_only"),
        ("refused_130472", "opt_in_only"),
        ("refused_131031", "opt_in_only"),
        ("refused_131048", "opt_in_only"),
    ],
)
def test_some_refusals_stay_an_x_with_their_reason(
    wired: Channel, graph: Provider, wwebjs: Provider, scenario: str, decision: str
) -> None:
    graph.plays(scenario)
    message = accept(wired)

    assert deliver(message) is None

    assert (message.status, message.icon, message.decision) == ("rejected", "rejected", decision)
    assert message.error_code == scenario.removeprefix("refused_")
    assert message.error_detail
    assert wwebjs.sends() == []
    assert deliver(message) is None
    assert len(graph.sends()) == 1


def test_the_limit_per_customer_waits_and_never_falls_back(
    wired: Channel, graph: Provider, wwebjs: Provider, time_machine: TimeMachineFixture
) -> None:
    graph.plays("refused_131056", forever=True)
    message = accept(wired)

    assert deliver_to_the_end(message, time_machine) == ["waiting_recipient"] * 4

    assert (message.status, message.decision) == ("rejected", "pair_limit")
    assert wwebjs.sends() == []


def test_a_message_waits_as_a_clock_and_goes_out_on_another_try(
    wired: Channel, graph: Provider, time_machine: TimeMachineFixture
) -> None:
    graph.plays("refused_131016", "ok")
    message = accept(wired)

    until = deliver(message)

    assert until == message.next_attempt_at
    assert (message.status, message.icon, message.decision) == ("queued", "clock", "waiting_retry")
    assert message.error_code == "131016"
    version = message.version
    time_machine.move_to(until)
    assert deliver(message) is None
    assert (message.status, message.route, message.icon) == ("sent", "official", "sent")
    assert (message.error_code, message.decision, message.next_attempt_at) == ("", "", None)
    assert message.version > version


def test_a_job_that_comes_too_early_waits_on(wired: Channel, graph: Provider) -> None:
    graph.plays("refused_131016", forever=True)
    message = accept(wired)
    assert deliver(message) == deliver(message)
    assert len(graph.sends()) == 1


def test_a_server_that_is_not_there_is_tried_again_and_then_gone_around(
    wired: Channel, time_machine: TimeMachineFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    wired.graph_url = f"http://127.0.0.1:{port}"
    wired.save()
    message = accept(wired)

    assert deliver_to_the_end(message, time_machine) == ["waiting_retry"]

    assert trail(message) == [
        ("official", "transient", "connection_refused"),
        ("official", "transient", "connection_refused"),
        ("wwebjs", "accepted", ""),
    ]


def test_a_provider_that_does_not_answer_leaves_the_message_unconfirmed(
    wired: Channel, graph: Provider, wwebjs: Provider, time_machine: TimeMachineFixture
) -> None:
    graph.plays("hang_before")
    message = accept(wired)

    until = deliver(message)

    assert (message.status, message.icon, message.route) == ("unconfirmed",) * 2 + ("official",)
    assert (message.decision, message.error_code) == ("waiting_confirmation", "timeout")
    [attempt] = attempts(message)
    assert attempt.finished_at is not None
    assert until == attempt.finished_at + dt.timedelta(seconds=60)
    assert wwebjs.sends() == []
    time_machine.move_to(until)
    assert deliver(message) is None
    assert (message.status, message.route) == ("sent", "wwebjs")


def test_a_channel_may_hold_what_nothing_confirmed(
    wired: Channel, graph: Provider, wwebjs: Provider, time_machine: TimeMachineFixture
) -> None:
    wired.on_unconfirmed = "hold"
    wired.save()
    graph.plays("reset_before")
    message = accept(wired)

    deliver_to_the_end(message, time_machine)

    assert (message.status, message.decision) == ("unconfirmed", "held")
    assert message.next_attempt_at is None
    assert wwebjs.sends() == []


def test_without_a_fallback_a_refusal_stays_an_x(wired: Channel, wwebjs: Provider) -> None:
    wired.fallback = "none"
    wired.save()
    message = accept(wired, customer(graph="47"))
    deliver(message)
    assert (message.status, message.decision) == ("rejected", "no_fallback")
    assert wwebjs.sends() == []


def test_a_fallback_that_was_switched_off_is_not_used(
    wired: Channel, make_channel: Callable[..., Channel]
) -> None:
    wired.fallback = "none"
    wired.fallback_channel = make_channel(kind="baileys", instance_name="oficina")
    wired.save()
    assert runner.rules_of(wired).fallback is None


def test_the_rules_of_a_channel(make_channel: Callable[..., Channel]) -> None:
    baileys = make_channel(kind="baileys", instance_name="oficina")
    rules = runner.rules_of(baileys)
    assert (rules.primary_route, rules.fallback) == (Route.BAILEYS, None)
    official = make_channel(fallback="baileys", fallback_channel=baileys, on_unconfirmed="hold")
    rules = runner.rules_of(official)
    assert (rules.primary_route, rules.fallback) == (Route.OFFICIAL, Route.BAILEYS)
    assert rules.on_unconfirmed == "hold"
    baileys.active = False
    assert runner.rules_of(official).fallback is None


def test_a_message_of_a_channel_that_was_switched_off_is_given_up(
    wired: Channel, graph: Provider
) -> None:
    message = accept(wired)
    wired.active = False
    wired.save()
    assert deliver(message) is None
    assert (message.status, message.decision) == ("rejected", "inactive")
    assert graph.sends() == []


def test_an_old_message_does_not_fall_back(
    wired: Channel, wwebjs: Provider, time_machine: TimeMachineFixture
) -> None:
    message = accept(wired, customer(graph="47"))
    time_machine.move_to(timezone.now() + dt.timedelta(minutes=61))
    deliver(message)
    assert (message.status, message.decision) == ("rejected", "too_old")
    assert wwebjs.sends() == []


def test_a_message_that_was_deleted_is_over(channel: Channel) -> None:
    message = accept(channel)
    Message.objects.all().delete()
    assert runner.deliver(str(message.pk)) is None


def test_a_reply_quotes_the_message_by_the_id_of_the_route(wired: Channel, graph: Provider) -> None:
    first = accept(wired)
    deliver(first)
    reply = accept(wired, reply_to=str(first.pk))
    deliver(reply)
    [attempt] = attempts(first)
    assert graph.sends()[-1]["context"] == {"message_id": attempt.provider_message_id}
    assert "context" not in graph.sends()[0]


def test_a_reply_to_a_received_message_quotes_it_where_its_id_is_known(
    wired: Channel, make_channel: Callable[..., Channel]
) -> None:
    baileys = make_channel(kind="baileys", instance_name="oficina")
    reply = accept(wired)
    reply.reply_to = Message.objects.create(
        conversation=reply.conversation,
        direction="in",
        provider_message_id="wamid.IN",
        created_at=timezone.now(),
    )
    own = attempt_of(reply, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL)
    other = attempt_of(
        reply, outcome=Outcome.ACCEPTED, route=Route.BAILEYS, number=2, channel=baileys
    )
    quote = outcomes.quote(reply, own)
    assert quote is not None
    assert quote.id == "wamid.IN"
    assert outcomes.quote(reply, other) is None


def test_an_error_of_ours_in_the_middle_of_a_send_proves_nothing(
    wired: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise ZeroDivisionError("with a secret in it")

    monkeypatch.setattr("channels_app.providers.cloud.client.request_body", broken)
    message = accept(wired)
    assert deliver(message) is not None
    assert (message.status, message.error_code) == ("unconfirmed", "client_error")
    assert message.error_detail == "ZeroDivisionError"


# -- the fallback fails, too -----------------------------------------------------------------------


@pytest.mark.parametrize("scenario", ["not_on_whatsapp", "ack_error", "invalid_wid"])
def test_what_the_fallback_refuses_stays_an_x(
    wired: Channel, wwebjs: Provider, scenario: str
) -> None:
    wwebjs.plays(scenario, forever=True)
    message = accept(wired, customer(graph="47"))

    assert deliver(message) is None

    assert (message.status, message.route) == ("rejected", "official")
    assert (message.icon, message.decision) == ("rejected", "fallback_refused")
    # Why it all began; the trail tells what the fallback said.
    assert message.error_code == "131047"
    assert [attempt[1] for attempt in trail(message)] == ["rejected", "rejected"]
    assert attempts(message)[1].error_code


@pytest.mark.parametrize(
    "scenario", ["session_not_found", "session_not_connected", "browser_tab_closed", "get_chat"]
)
def test_a_fallback_that_is_down_is_waited_for_and_then_given_up(
    wired: Channel, wwebjs: Provider, time_machine: TimeMachineFixture, scenario: str
) -> None:
    wwebjs.plays(scenario, forever=True)
    message = accept(wired, customer(graph="47"))

    assert deliver_to_the_end(message, time_machine) == ["waiting_fallback"] * 3

    assert (message.status, message.decision) == ("rejected", "fallback_unavailable")
    assert [attempt[:2] for attempt in trail(message)] == [
        ("official", "rejected"),
        *[("wwebjs", "transient")] * 4,
    ]


def test_a_fallback_that_comes_back_takes_the_message(
    wired: Channel, wwebjs: Provider, time_machine: TimeMachineFixture
) -> None:
    wwebjs.plays("session_not_connected", "ok")
    message = accept(wired, customer(graph="47"))
    deliver_to_the_end(message, time_machine)
    assert (message.status, message.icon) == ("sent", "globe")


@pytest.mark.parametrize(
    "scenario",
    ["target_closed_delivered", "minified_lost", "hang_lost", "reset_before", "reset_after",
     "html_502", "html_200", "empty", "not_json"],
)  # fmt: skip
def test_a_fallback_that_proves_nothing_is_held_for_a_person(
    wired: Channel, wwebjs: Provider, scenario: str
) -> None:
    wwebjs.plays(scenario, forever=True)
    message = accept(wired, customer(graph="47"))

    assert deliver(message) is None

    assert (message.status, message.route) == ("unconfirmed", "wwebjs")
    assert (message.icon, message.decision) == ("unconfirmed", "fallback_unconfirmed")
    assert len(wwebjs.sends()) == 1


@pytest.mark.parametrize(
    "scenario",
    ["ok", "bare_delivered", "bare_lost", "dollar_id", "lid_remote", "ninth_digit"],
)
def test_every_success_of_the_fallback_is_a_globe(
    wired: Channel, wwebjs: Provider, scenario: str
) -> None:
    wwebjs.plays(scenario, forever=True)
    message = accept(wired, customer(graph="47"))
    assert deliver(message) is None
    assert message.icon == "globe"


# -- the limit per minute --------------------------------------------------------------------------


def test_the_fallback_keeps_its_limit_per_minute(
    wired: Channel, wwebjs: Provider, time_machine: TimeMachineFixture
) -> None:
    wired.fallback_per_minute = 2
    wired.save()
    first, second, third = (accept(wired, customer(graph="47")) for _ in range(3))
    deliver(first)
    deliver(second)

    until = deliver(third)

    assert until is not None
    assert (third.decision, third.icon) == ("waiting_pace", "rejected")
    free_at = attempts(first)[1].started_at + dt.timedelta(minutes=1)
    # The random part keeps a number that sends at its limit from having a rhythm.
    assert free_at <= until <= free_at + dt.timedelta(seconds=30)
    assert len(wwebjs.sends()) == 2
    time_machine.move_to(until)
    assert deliver(third) is None
    assert third.icon == "globe"


def test_channels_that_fall_back_to_one_number_share_its_limit_per_minute(
    wired: Channel, make_channel: Callable[..., Channel], time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(timezone.now(), tick=False)
    phone = make_channel(
        name="Celular", kind="baileys", evolution_url="http://127.0.0.1:9",
        evolution_api_key="k", instance_name="oficina",
    )  # fmt: skip
    shared = {"fallback": "baileys", "fallback_channel": phone, "fallback_per_minute": 1}
    other = make_channel(name="Outra", **shared)
    Channel.objects.filter(pk=wired.pk).update(**shared)
    attempt = attempt_of(accept(other), outcome=Outcome.ACCEPTED, route=Route.BAILEYS)
    DeliveryAttempt.objects.filter(pk=attempt.pk).update(channel=phone, started_at=timezone.now())
    message = accept(Channel.objects.get(pk=wired.pk), customer(graph="47"))
    assert deliver(message) is not None
    assert (message.decision, message.icon) == ("waiting_pace", "rejected")
    # What the phone's own channel sends is another matter.
    own = attempt_of(accept(phone), outcome=Outcome.ACCEPTED, route=Route.BAILEYS)
    DeliveryAttempt.objects.exclude(pk=own.pk).filter(channel=phone).delete()
    DeliveryAttempt.objects.filter(pk=own.pk).update(started_at=timezone.now())
    deliver(message)
    assert message.decision != "waiting_pace"


def test_the_limit_per_minute_counts_one_channel_only(
    wired: Channel, make_channel: Callable[..., Channel], time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(timezone.now(), tick=False)
    wired.fallback_per_minute = 1
    wired.save()
    other = make_channel(fallback="wwebjs", fallback_per_minute=1)
    attempt_of(
        accept(other),
        outcome=Outcome.ACCEPTED,
        route=Route.WWEBJS,
        started_at=timezone.now(),
    )
    attempt_of(
        accept(wired), outcome=Outcome.ACCEPTED, route=Route.OFFICIAL, started_at=timezone.now()
    )
    message = accept(wired, customer(graph="47"))
    assert deliver(message) is None
    assert message.icon == "globe"


# -- a person asks again ---------------------------------------------------------------------------


def test_a_person_sends_again_by_the_official_api(wired: Channel, graph: Provider) -> None:
    graph.plays("refused_131050")
    message = accept(wired)
    deliver(message)
    version = message.version

    sending.retry_message(message, route="official", user=None)

    message.refresh_from_db()
    assert (message.round, message.round_route, message.decision) == (2, "official", "")
    assert message.version > version
    assert [job.args["message_id"] for job in jobs()] == [str(message.pk)] * 2
    assert deliver(message) is None
    assert (message.status, message.route) == ("sent", "official")
    assert [(a.number, a.round, a.rule) for a in attempts(message)] == [
        (1, 1, "first"),
        (2, 2, "asked"),
    ]


def test_a_person_sends_by_the_fallback(
    wired: Channel, graph: Provider, time_machine: TimeMachineFixture
) -> None:
    graph.plays("reset_before")
    wired.on_unconfirmed = "hold"
    wired.save()
    message = accept(wired)
    deliver_to_the_end(message, time_machine)
    time_machine.move_to(timezone.now() + dt.timedelta(hours=5))

    sending.retry_message(message, route="fallback", user=None)

    assert deliver(message) is None
    assert (message.status, message.route) == ("sent", "wwebjs")
    assert attempts(message)[1].rule == "asked"
    assert len(graph.sends()) == 1


def test_only_what_failed_can_be_sent_again(wired: Channel, graph: Provider) -> None:
    message = accept(wired)
    with pytest.raises(sending.NotRetryable):
        sending.retry_message(message, route="official", user=None)
    deliver(message)
    with pytest.raises(sending.NotRetryable):
        sending.retry_message(message, route="official", user=None)
    received = Message.objects.create(
        conversation=message.conversation, direction="in", created_at=timezone.now()
    )
    with pytest.raises(sending.NotRetryable):
        sending.retry_message(received, route="official", user=None)
    assert message.round == 1


def test_what_is_still_on_its_way_cannot_be_sent_again(wired: Channel, wwebjs: Provider) -> None:
    wwebjs.plays("session_not_connected", forever=True)
    waiting = accept(wired, customer(graph="47"))
    deliver(waiting)
    assert waiting.status == "rejected"
    with pytest.raises(sending.NotRetryable):
        sending.retry_message(waiting, route="official", user=None)


def test_a_second_click_does_not_send_a_second_time(wired: Channel, graph: Provider) -> None:
    graph.plays("refused_131050")
    message = accept(wired)
    deliver(message)
    sending.retry_message(message, route="official", user=None)
    with pytest.raises(sending.NotRetryable):
        sending.retry_message(message, route="official", user=None)


@pytest.mark.parametrize(
    "changes",
    [{"fallback": "none"}, {"fallback": "baileys"}, {"active": False}],
)
def test_a_retry_needs_a_way_that_is_open(
    wired: Channel, make_channel: Callable[..., Channel], changes: dict[str, Any]
) -> None:
    message = accept(wired, customer(graph="49"))
    deliver(message)
    wired.fallback_channel = make_channel(kind="baileys", instance_name="x", active=False)
    for name, value in changes.items():
        setattr(wired, name, value)
    wired.save()
    with pytest.raises(sending.NotRetryable):
        sending.retry_message(message, route="fallback", user=None)


def test_not_even_a_person_goes_around_a_customer_who_stopped_us(
    wired: Channel, graph: Provider, wwebjs: Provider
) -> None:
    message = accept(wired, customer(graph="50"))
    deliver(message)
    assert message.decision == "never_fall_back"
    with pytest.raises(sending.NotRetryable, match=str(policy.reason_text("never_fall_back"))):
        sending.retry_message(message, route="fallback", user=None)
    # Another try by the official API is another question to Meta; whatever comes of it stays there.
    sending.retry_message(message, route="official", user=None)
    graph.plays("refused_131047")
    deliver(message)
    assert message.decision == "never_fall_back"
    assert wwebjs.sends() == []


# -- a worker died ---------------------------------------------------------------------------------


def test_an_attempt_whose_worker_died_is_never_repeated_blindly(
    wired: Channel, graph: Provider, wwebjs: Provider, time_machine: TimeMachineFixture
) -> None:
    message = accept(wired)
    runner._decide(str(message.pk))

    until = deliver(message)

    assert trail(message) == [("official", "unknown", "worker_lost")]
    assert (message.status, message.decision) == ("unconfirmed", "waiting_confirmation")
    assert graph.sends() == []
    time_machine.move_to(until)
    deliver(message)
    assert (message.status, message.route) == ("sent", "wwebjs")
    assert graph.sends() == []


def test_a_fallback_attempt_whose_worker_died_is_held(wired: Channel, wwebjs: Provider) -> None:
    message = accept(wired, customer(graph="47"))
    _, send = runner._decide(str(message.pk))
    assert send is not None
    outcomes.record_result(send.attempt, runner._send(send))
    runner._decide(str(message.pk))

    assert deliver(message) is None

    assert (message.status, message.decision) == ("unconfirmed", "fallback_unconfirmed")
    assert wwebjs.sends() == []


def test_the_answer_of_a_worker_that_was_thought_dead_still_counts(
    wired: Channel, wwebjs: Provider
) -> None:
    message = accept(wired)
    _, send = runner._decide(str(message.pk))
    assert send is not None
    answer = runner._send(send)
    deliver(message)
    assert message.status == "unconfirmed"

    outcomes.record_result(send.attempt, answer)

    message.refresh_from_db()
    assert (message.status, message.decision, message.error_code) == ("sent", "", "")
    assert deliver(message) is None
    assert wwebjs.sends() == []


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_the_same_message_send_it_once(wired: Channel, graph: Provider) -> None:
    graph.plays("slow", forever=True)
    message = accept(wired)
    start = threading.Barrier(2)

    def work() -> None:
        try:
            start.wait(5)
            runner.deliver(str(message.pk))
        finally:
            connection.close()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(10)

    message.refresh_from_db()
    assert len(graph.sends()) == 1
    assert message.status == "sent"


def test_the_answer_is_kept_while_the_database_is_away(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = accept(wired, customer(graph="47"))
    failures = [OperationalError("gone"), OperationalError("still gone")]
    finish = outcomes.record_result

    def write(*args: Any) -> Outcome:
        if failures:
            raise failures.pop()
        return finish(*args)

    monkeypatch.setattr(outcomes, "record_result", write)
    monkeypatch.setattr("messaging.delivery.runner.connection.close", lambda: None)
    monkeypatch.setattr("messaging.delivery.runner.time.sleep", lambda seconds: None)

    assert deliver(message) is None

    assert failures == []
    assert (message.status, message.route) == ("sent", "wwebjs")
    assert len(graph.sends()) == 1


def test_a_database_that_is_away_before_the_send_leaves_no_attempt(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = accept(wired, customer(graph="00"))
    failures = [OperationalError("gone")]
    quote = outcomes.quote

    def read(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return quote(*args)

    monkeypatch.setattr(outcomes, "quote", read)

    with pytest.raises(OperationalError):
        deliver(message)
    assert trail(message) == []

    assert deliver(message) is None
    assert failures == []
    assert message.status == "sent"
    assert len(graph.sends()) == 1


def test_an_answer_that_cannot_be_written_for_long_is_an_error(
    wired: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*args: Any) -> Outcome:
        raise OperationalError("gone")

    monkeypatch.setattr(outcomes, "record_result", write)
    monkeypatch.setattr("messaging.delivery.runner.connection.close", lambda: None)
    monkeypatch.setattr(runner, "DB_RETRY_SECONDS", -1)
    message = accept(wired)
    with pytest.raises(OperationalError):
        deliver(message)
    assert trail(message) == [("official", "started", "")]


# -- what is told afterwards -----------------------------------------------------------------------


def test_the_ticks_follow_by_webhook(wired: Channel, graph: Provider, webhooks: Webhooks) -> None:
    message = accept(wired)
    deliver(message)
    graph.settle()
    assert receive(webhooks) == 3
    message.refresh_from_db()
    assert (message.status, message.icon) == ("read", "read")
    [attempt] = attempts(message)
    assert attempt.receipt == "read"


@pytest.mark.parametrize("scenario", ["scrambled_statuses", "status_first", "delivered_skipped"])
def test_ticks_may_come_in_any_order_twice_and_early(
    wired: Channel, graph: Provider, webhooks: Webhooks, scenario: str
) -> None:
    graph.plays(scenario)
    message = accept(wired)
    deliver(message)
    graph.settle()
    receive(webhooks)
    message.refresh_from_db()
    assert message.status == "read"


@pytest.mark.parametrize("scenario", ["late_131047", "late_131026", "late_131053"])
def test_a_late_failure_falls_back_once(
    wired: Channel, graph: Provider, wwebjs: Provider, webhooks: Webhooks, scenario: str
) -> None:
    graph.plays(scenario)
    message = accept(wired)
    deliver(message)
    assert message.icon == "sent"
    graph.settle()
    queued = len(jobs(task_name="messaging.deliver"))

    arrived = webhooks.take()
    for body, signature in [*arrived, *arrived]:
        webhooks.arrived.put((body, signature))
    receive(webhooks)

    message.refresh_from_db()
    assert (message.status, message.icon) == ("rejected", "rejected")
    assert message.error_code == scenario.removeprefix("late_")
    assert len(jobs(task_name="messaging.deliver")) == queued + 1
    assert deliver(message) is None
    assert (message.status, message.icon) == ("sent", "globe")
    assert deliver(message) is None
    assert len(wwebjs.sends()) == 1


def test_a_late_failure_that_may_pass_is_tried_again_before_the_fallback(
    wired: Channel,
    graph: Provider,
    wwebjs: Provider,
    webhooks: Webhooks,
    time_machine: TimeMachineFixture,
) -> None:
    graph.plays("late_131000", "ok")
    message = accept(wired)
    deliver(message)
    graph.settle()
    receive(webhooks)
    assert deliver_to_the_end(message, time_machine) == ["waiting_retry"]
    assert (message.status, message.route) == ("sent", "official")
    assert wwebjs.sends() == []


def test_a_failure_that_comes_both_ways_falls_back_once(
    wired: Channel, graph: Provider, wwebjs: Provider, webhooks: Webhooks
) -> None:
    graph.plays("refused_twice")
    message = accept(wired)
    deliver(message)
    version = message.version
    graph.settle()
    receive(webhooks)
    assert deliver(message) is None
    assert message.icon == "globe"
    assert len(wwebjs.sends()) == 1
    assert message.version - version <= 1


@pytest.mark.parametrize("order", [["delivered", "failed"], ["failed", "delivered"]])
def test_what_was_delivered_did_not_fail(
    wired: Channel, graph: Provider, wwebjs: Provider, order: list[str]
) -> None:
    graph.plays("silent")
    message = accept(wired)
    deliver(message)
    id_ = attempts(message)[0].provider_message_id
    for told in order:
        errors = [{"code": 131026, "title": "Undeliverable"}] if told == "failed" else None
        post(status(message, told, channel=wired, id=id_, errors=errors))
        read_events()
    message.refresh_from_db()
    assert (message.status, message.error_code) == ("delivered", "")
    assert deliver(message) is None
    assert wwebjs.sends() == []


@pytest.mark.parametrize("is_known", [True, False], ids=["after the answer", "before it"])
@pytest.mark.parametrize("codes", list(itertools.permutations([131026, 131050, None])))
def test_of_several_late_failures_the_one_that_forbids_most_stands(
    wired: Channel,
    graph: Provider,
    wwebjs: Provider,
    codes: tuple[int | None, ...],
    is_known: bool,
) -> None:
    message = accept(wired)
    attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)
    if is_known:
        outcomes.record_result(attempt, Accepted("wamid.1"))
    for code in codes:
        errors = [{"code": code, "title": f"Because of {code}"}] if code else None
        post(status(message, "failed", channel=wired, errors=errors, with_reference=False))
        read_events()
    if not is_known:
        outcomes.record_result(attempt, Accepted("wamid.1"))

    [attempt] = attempts(message)
    assert (attempt.error_code, attempt.error_title) == ("131050", "Because of 131050")
    assert deliver(message) is None
    assert (message.icon, wwebjs.sends()) == ("rejected", [])


@pytest.mark.parametrize("answered_first", [True, False])
@pytest.mark.parametrize("code", [131026, None])
def test_a_late_failure_does_not_lift_what_a_refusal_at_once_forbids(
    wired: Channel, wwebjs: Provider, code: int | None, answered_first: bool
) -> None:
    message = accept(wired)
    attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)

    def late() -> None:
        errors = [{"code": code, "title": "Undeliverable"}] if code else None
        post(status(message, "failed", channel=wired, errors=errors))
        read_events()

    if not answered_first:
        late()
    outcomes.record_result(attempt, Rejected("131050", "Opted out"))
    if answered_first:
        late()
    assert deliver(message) is None
    assert (message.error_code, message.icon) == ("131050", "rejected")
    with pytest.raises(sending.NotRetryable):
        sending.retry_message(message, route="fallback", user=None)
    assert wwebjs.sends() == []


def test_a_late_failure_of_an_old_message_stays_an_x(
    wired: Channel, graph: Provider, wwebjs: Provider, time_machine: TimeMachineFixture
) -> None:
    graph.plays("silent")
    message = accept(wired)
    deliver(message)
    time_machine.move_to(timezone.now() + dt.timedelta(hours=2))
    post(status(message, "failed", channel=wired, errors=[{"code": 131047}]))
    read_events()
    assert deliver(message) is None
    assert (message.status, message.decision) == ("rejected", "too_old")
    assert wwebjs.sends() == []


def test_a_failure_without_a_reason_is_told_as_one(wired: Channel, graph: Provider) -> None:
    graph.plays("silent")
    message = accept(wired)
    deliver(message)
    post(status(message, "failed", channel=wired))
    read_events()
    message.refresh_from_db()
    assert (message.status, message.error_code) == ("rejected", "failed")
    assert message.error_title


def test_a_status_proves_a_send_that_was_not_answered(
    wired: Channel, graph: Provider, wwebjs: Provider, webhooks: Webhooks
) -> None:
    graph.plays("reset_after")
    message = accept(wired)
    deliver(message)
    assert message.status == "unconfirmed"
    graph.settle()

    receive(webhooks)

    message.refresh_from_db()
    assert (message.status, message.route, message.icon) == ("read", "official", "read")
    assert (message.decision, message.next_attempt_at, message.error_code) == ("", None, "")
    assert attempts(message)[0].provider_message_id.startswith("wamid.")
    assert deliver(message) is None
    assert wwebjs.sends() == []


def test_a_status_proves_a_held_message(
    wired: Channel, graph: Provider, time_machine: TimeMachineFixture
) -> None:
    wired.on_unconfirmed = "hold"
    wired.save()
    graph.plays("reset_before")
    message = accept(wired)
    deliver_to_the_end(message, time_machine)
    assert message.decision == "held"
    post(status(message, "delivered", channel=wired))
    read_events()
    message.refresh_from_db()
    assert (message.status, message.decision) == ("delivered", "")


def test_a_status_that_is_faster_than_the_answer_finds_its_attempt_by_reference(
    wired: Channel, graph: Provider
) -> None:
    message = accept(wired)
    _, send = runner._decide(str(message.pk))
    assert send is not None
    post(status(message, "delivered", channel=wired, id="wamid.early"))
    read_events()
    message.refresh_from_db()
    assert message.status == "delivered"

    outcomes.record_result(send.attempt, Accepted("wamid.early"))

    message.refresh_from_db()
    assert message.status == "delivered"
    [attempt] = attempts(message)
    assert (attempt.outcome, attempt.provider_message_id) == ("accepted", "wamid.early")


def test_a_status_that_is_faster_than_the_answer_waits_for_the_id(
    wired: Channel, graph: Provider
) -> None:
    message = accept(wired)
    _, send = runner._decide(str(message.pk))
    assert send is not None
    for told in ("sent", "delivered", "delivered"):
        post(status(message, told, channel=wired, id="wamid.early", with_reference=False))
    read_events()
    message.refresh_from_db()
    assert message.status == "sending"
    assert PendingEvent.objects.count() == 2

    outcomes.record_result(send.attempt, Accepted("wamid.early"))

    message.refresh_from_db()
    assert message.status == "delivered"
    assert not PendingEvent.objects.exists()


def test_a_failure_that_was_faster_than_the_answer_falls_back_in_the_same_run(
    wired: Channel, graph: Provider, wwebjs: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = accept(wired)

    def answer(*args: Any) -> Accepted:
        error = [{"code": 131026, "title": "Undeliverable"}]
        post(
            status(
                message, "failed", channel=wired, id="wamid.x", errors=error, with_reference=False
            )
        )
        read_events()
        return Accepted("wamid.x")

    monkeypatch.setattr("channels_app.providers.cloud.client.CloudProvider.send", answer)

    assert deliver(message) is None

    assert message.icon == "globe"
    assert trail(message)[0] == ("official", "rejected", "131026")


def test_parked_statuses_are_applied_when_another_one_brings_the_id(
    wired: Channel, graph: Provider
) -> None:
    message = accept(wired)
    runner._decide(str(message.pk))
    post(status(message, "read", channel=wired, id="wamid.e", with_reference=False))
    post(status(message, "sent", channel=wired, id="wamid.e"))
    read_events()
    message.refresh_from_db()
    assert message.status == "read"
    assert not PendingEvent.objects.exists()


def test_a_status_of_another_channel_is_not_ours(
    wired: Channel, graph: Provider, make_channel: Callable[..., Channel]
) -> None:
    other = make_channel()
    message = accept(wired)
    deliver(message)
    id_ = attempts(message)[0].provider_message_id
    post(status(message, "read", channel=other, id=id_))
    read_events()
    message.refresh_from_db()
    assert message.status == "sent"
    assert PendingEvent.objects.get().channel == other


@pytest.mark.parametrize("reference", ["", "x", "x.1", "{}", "{}.x", "{}.99", "{}.1.1", "{}.-1"])
def test_a_reference_that_names_nothing_finds_nothing(wired: Channel, reference: str) -> None:
    message = accept(wired)
    attempt_of(message, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL)
    found = outcomes.find(
        channel_id=wired.pk, reference=reference.format(message.pk), provider_message_id="wamid.?"
    )
    assert found is None


def test_telling_again_changes_nothing(wired: Channel, graph: Provider) -> None:
    graph.plays("silent")
    message = accept(wired)
    deliver(message)
    id_ = attempts(message)[0].provider_message_id
    for told in ("read", "sent", "delivered", "read"):
        post(status(message, told, channel=wired, id=id_))
        read_events()
        message.refresh_from_db()
        version = message.version
    post({**status(message, "delivered", channel=wired, id=id_), "once": "more"})
    [attempt] = attempts(message)
    outcomes.record_result(attempt, Accepted(id_))
    read_events()
    assert deliver(message) is None
    assert message.version == version
    assert InboundEvent.objects.filter(state="done").count() == 4


def test_an_answer_after_a_delivery_changes_nothing_but_the_id(wired: Channel) -> None:
    message = accept(wired)
    attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)
    outcomes.record_receipt(attempt, Receipt.DELIVERED)
    outcomes.record_result(attempt, Rejected("131047", "no"))
    message.refresh_from_db()
    assert (message.status, message.error_code) == ("delivered", "")


@pytest.mark.parametrize("answer_first", [True, False])
@pytest.mark.parametrize("receipt", [Receipt.SENT, Receipt.FAILED, Receipt.DELIVERED])
@pytest.mark.parametrize(
    "answer",
    [Accepted("wamid.1"), Rejected("131047", "closed"), Transient("131016", "away")],
)
def test_answer_and_receipt_end_the_same_in_either_order(
    channel: Channel, answer: Any, receipt: Receipt, answer_first: bool
) -> None:
    message = accept(channel)
    attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)
    late = Rejected("131026", "undeliverable") if receipt == Receipt.FAILED else None

    def tell() -> None:
        outcomes.record_receipt(attempt, receipt, provider_message_id="wamid.1", error=late)

    steps = [lambda: outcomes.record_result(attempt, answer), tell]
    for step in steps if answer_first else reversed(steps):
        step()

    attempt.refresh_from_db()
    failed = receipt == Receipt.FAILED
    assert (attempt.outcome, attempt.receipt, attempt.error_code, attempt.provider_message_id) == (
        "rejected" if failed else "accepted",
        receipt,
        "131026" if failed else "",
        "wamid.1",
    )


def test_answer_and_statuses_in_any_order_and_number_leave_the_same_rows(channel: Channel) -> None:
    """By the journal, as Meta posts them: with our reference, with the id alone, and again."""
    failed = [{"code": 131026, "title": "Message undeliverable"}]

    def end(order: tuple[str, ...], repeated: int) -> tuple[object, ...]:
        message = accept(channel)
        attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)
        id_ = f"wamid.{message.pk}"
        for place, told in enumerate([*order, *order[:repeated]]):
            if told == "answer":
                outcomes.record_result(attempt, Accepted(id_))
                continue
            post(
                status(
                    message,
                    told,
                    channel=channel,
                    id=id_,
                    errors=failed if told == "failed" else None,
                    with_reference=place % 2 == 0,
                )
            )
            read_events()
        message.refresh_from_db()
        attempt.refresh_from_db()
        return (
            message.status, message.route, message.icon, message.error_code, message.decision,
            attempt.outcome, attempt.receipt, attempt.error_code,
            attempt.provider_message_id == id_,
        )  # fmt: skip

    for events, expected in (
        (("answer", "sent", "failed"), "rejected"),
        (("answer", "failed", "delivered"), "delivered"),
        (("answer", "sent", "read"), "read"),
    ):
        ends = {
            end(order, repeated)
            for order in itertools.permutations(events)
            for repeated in (0, len(events))
        }
        assert len(ends) == 1
        assert next(iter(ends))[0] == expected


@pytest.mark.django_db(transaction=True)
def test_a_receipt_and_the_answer_at_the_same_moment_find_each_other(channel: Channel) -> None:
    """Neither may look before the other has committed, and both conclude that there is nothing."""
    for round_ in range(10):
        message = accept(channel)
        attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)
        id_ = f"wamid.{round_}"
        start = threading.Barrier(2)

        def answer(
            attempt: DeliveryAttempt = attempt, id_: str = id_, start: threading.Barrier = start
        ) -> None:
            try:
                start.wait(5)
                outcomes.record_result(attempt, Accepted(id_))
            finally:
                connection.close()

        worker = threading.Thread(target=answer)
        worker.start()
        payload = status(message, "delivered", channel=channel, id=id_, with_reference=False)
        post(payload)
        start.wait(5)
        read_events()
        worker.join(10)
        message.refresh_from_db()
        assert message.status == "delivered"
        assert not PendingEvent.objects.exists()
