"""Deliver a message over real sockets to simulated providers."""

from __future__ import annotations

import datetime as dt
import itertools
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from channels_app.connections import registry
from channels_app.models import Channel, Connection
from channels_app.providers.base import Accepted, Rejected, Transient
from channels_app.providers.events import Receipt
from core.fields import UndecryptableError
from messaging.delivery import accept as sending
from messaging.delivery import attempts, policy, runner
from messaging.delivery.statuses import Outcome, Route
from messaging.models import DeliveryAttempt, InboundEvent, Message, PendingEvent
from tests.factories import change_channel
from tests.messaging.support import (
    accept,
    attempt_of,
    customer,
    deliver,
    deliver_due,
    deliver_to_the_end,
    post,
    read_events,
    receive,
    status,
    stored_attempts,
    trail,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from time_machine import TimeMachineFixture

    from tests.conftest import Provider, Webhooks

pytestmark = pytest.mark.django_db


# -- delivery --------------------------------------------------------------------------------------


def test_a_message_is_sent_by_the_official_api(wired: Channel, graph: Provider) -> None:
    message = accept(wired, text="Bom dia")

    assert deliver(message) is None

    assert (message.status, message.route, message.icon) == ("sent", "official", "sent")
    assert (message.error_code, message.decision, message.next_attempt_at) == ("", "", None)
    [attempt] = stored_attempts(message)
    assert attempt.provider_message_id.startswith("wamid.")
    assert attempt.rule == "first"
    assert attempt.finished_at is not None
    assert attempt.started_at <= attempt.finished_at
    [sent] = graph.sends()
    assert sent["text"]["body"] == "Bom dia"
    assert sent["biz_opaque_callback_data"] == f"{message.pk}.1"


def test_a_message_rejected_by_the_official_api_is_sent_by_the_fallback(
    wired: Channel, wwebjs: Provider
) -> None:
    message = accept(wired, customer(graph="47"))
    icons = []
    steps = iter(lambda: _one_step(message), None)
    for _ in steps:
        icons.append(message.icon)

    assert icons == ["clock", "rejected", "rejected", "globe"]
    assert (message.status, message.route) == ("sent", "wwebjs")
    assert message.error_code == "131047"
    assert message.error_title
    assert "24 hours" in message.error_detail
    first, second = stored_attempts(message)
    assert (first.route, first.outcome, first.error_code) == ("official", "rejected", "131047")
    assert first.error_detail == message.error_detail
    assert (second.route, second.outcome, second.rule) == ("wwebjs", "accepted", "refused")
    assert second.provider_message_id
    assert [sent["content"] for sent in wwebjs.sends()] == ["Olá"]


def _one_step(message: Message) -> bool | None:
    """Decide, or call the provider: one of the two transactions of an attempt."""
    running = message.attempts.filter(outcome="started").first()
    if running is None:
        _step, send = runner._decide(str(message.pk))
        more = send is not None
    else:
        running = DeliveryAttempt.objects.select_related(
            "message__conversation__channel", "message__conversation__contact"
        ).get(pk=running.pk)
        outbound = runner.outbound(running.message, running)
        provider = registry.provider_for(running.connection)
        again = runner.PendingSend(running, outbound, provider)
        attempts.record_result(running, runner.make(again).result)
        more = True
    message.refresh_from_db()
    return True if more else None


OFFICIAL_RESPONSES = [
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


@pytest.mark.parametrize(("scenario", "tries", "outcome", "wait"), OFFICIAL_RESPONSES)
def test_the_message_arrives_despite_any_official_api_failure(
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
def test_some_rejections_stay_an_x_with_their_reason(
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


def test_the_per_customer_limit_waits_and_never_falls_back(
    wired: Channel, graph: Provider, wwebjs: Provider, time_machine: TimeMachineFixture
) -> None:
    graph.plays("refused_131056", forever=True)
    message = accept(wired)

    assert deliver_to_the_end(message, time_machine) == ["waiting_recipient"] * 4

    assert (message.status, message.decision) == ("rejected", "pair_limit")
    assert wwebjs.sends() == []


def test_a_waiting_message_shows_a_clock_and_is_sent_on_retry(
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


def test_a_job_that_runs_too_early_keeps_waiting(wired: Channel, graph: Provider) -> None:
    graph.plays("refused_131016", forever=True)
    message = accept(wired)
    assert deliver(message) == deliver(message)
    assert len(graph.sends()) == 1


def test_an_unreachable_server_is_retried_and_then_falls_back(
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


def test_a_provider_that_does_not_respond_leaves_the_message_unconfirmed(
    wired: Channel, graph: Provider, wwebjs: Provider, time_machine: TimeMachineFixture
) -> None:
    graph.plays("hang_before")
    message = accept(wired)

    until = deliver(message)

    assert (message.status, message.icon, message.route) == ("unconfirmed",) * 2 + ("official",)
    assert (message.decision, message.error_code) == ("waiting_confirmation", "timeout")
    [attempt] = stored_attempts(message)
    assert attempt.finished_at is not None
    assert until == attempt.finished_at + dt.timedelta(seconds=60)
    assert wwebjs.sends() == []
    time_machine.move_to(until)
    assert deliver(message) is None
    assert (message.status, message.route) == ("sent", "wwebjs")


def test_a_channel_may_hold_unconfirmed_messages(
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


def test_without_a_fallback_a_rejection_stays_an_x(wired: Channel, wwebjs: Provider) -> None:
    wired.fallback = "none"
    wired.save()
    message = accept(wired, customer(graph="47"))
    deliver(message)
    assert (message.status, message.decision) == ("rejected", "no_fallback")
    assert wwebjs.sends() == []


def test_a_disabled_fallback_is_not_used(
    wired: Channel, make_channel: Callable[..., Channel]
) -> None:
    wired.fallback = "none"
    wired.fallback_channel = make_channel(kind="baileys", instance_name="oficina")
    wired.save()
    assert runner.rules_of(wired).fallbacks == ()


def test_the_rules_of_a_channel(make_channel: Callable[..., Channel]) -> None:
    baileys = make_channel(kind="baileys", instance_name="oficina")
    rules = runner.rules_of(baileys)
    assert (rules.primary.route, rules.fallbacks) == (Route.BAILEYS, ())
    official = make_channel(fallback="baileys", fallback_channel=baileys, on_unconfirmed="hold")
    rules = runner.rules_of(official)
    assert rules.primary.route == Route.OFFICIAL
    assert [sender.route for sender in rules.fallbacks] == [Route.BAILEYS]
    assert rules.on_unconfirmed == "hold"
    change_channel(baileys, active=False)
    official.refresh_from_db()
    assert runner.rules_of(official).fallbacks == ()


@pytest.mark.parametrize("error", [UndecryptableError(), OperationalError()])
def test_a_send_whose_credentials_cannot_be_read_is_not_in_doubt(
    error: Exception, wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Connection) -> None:
        raise error

    message = accept(wired)
    with monkeypatch.context() as broken:
        broken.setattr("messaging.delivery.runner.registry.provider_for", fail)
        with suppress(OperationalError):
            assert runner.run(str(message.pk)) is not None, "it is tried again"
    assert not message.attempts.exists()
    assert graph.sends() == []
    assert deliver(message) is None
    assert message.status == "sent"


def test_nothing_is_read_between_the_commit_of_an_attempt_and_its_send(
    wired: Channel, graph: Provider, django_assert_num_queries: Any
) -> None:
    _step, send = runner._decide(str(accept(wired).pk))
    assert send is not None
    with django_assert_num_queries(0):
        runner.make(send)
    assert len(graph.sends()) == 1


def test_a_message_of_an_inactive_channel_fails(wired: Channel, graph: Provider) -> None:
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


def test_a_deleted_message_is_finished(channel: Channel) -> None:
    message = accept(channel)
    Message.objects.all().delete()
    assert runner.deliver(str(message.pk)) is None


def test_a_reply_quotes_the_message_by_the_id_of_the_route(wired: Channel, graph: Provider) -> None:
    first = accept(wired)
    deliver(first)
    reply = accept(wired, reply_to=str(first.pk))
    deliver(reply)
    [attempt] = stored_attempts(first)
    assert graph.sends()[-1]["context"] == {"message_id": attempt.provider_message_id}
    assert "context" not in graph.sends()[0]


def test_a_reply_quotes_a_received_message_only_if_its_id_is_known(
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
    quote = attempts.quote(reply, own)
    assert quote is not None
    assert quote.id == "wamid.IN"
    assert attempts.quote(reply, other) is None


def test_an_internal_error_during_a_send_leaves_it_unconfirmed(
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
def test_a_rejection_by_the_fallback_stays_an_x(
    wired: Channel, wwebjs: Provider, scenario: str
) -> None:
    wwebjs.plays(scenario, forever=True)
    message = accept(wired, customer(graph="47"))

    assert deliver(message) is None

    assert (message.status, message.route) == ("rejected", "official")
    assert (message.icon, message.decision) == ("rejected", "fallback_refused")
    # The first cause; the attempt history has the fallback's error.
    assert message.error_code == "131047"
    assert [attempt[1] for attempt in trail(message)] == ["rejected", "rejected"]
    assert stored_attempts(message)[1].error_code


@pytest.mark.parametrize(
    "scenario", ["session_not_found", "session_not_connected", "browser_tab_closed", "get_chat"]
)
def test_a_fallback_that_stays_down_is_retried_and_then_fails(
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


def test_a_fallback_that_recovers_sends_the_message(
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
def test_an_unconfirmed_fallback_is_held_for_a_person(
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
def test_every_successful_fallback_shows_a_globe(
    wired: Channel, wwebjs: Provider, scenario: str
) -> None:
    wwebjs.plays(scenario, forever=True)
    message = accept(wired, customer(graph="47"))
    assert deliver(message) is None
    assert message.icon == "globe"


# -- the per-minute limit --------------------------------------------------------------------------


def test_the_fallback_respects_its_per_minute_limit(
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
    free_at = stored_attempts(first)[1].started_at + dt.timedelta(minutes=1)
    # The random part prevents a regular rhythm when a number sends at its limit.
    assert free_at <= until <= free_at + dt.timedelta(seconds=30)
    assert len(wwebjs.sends()) == 2
    time_machine.move_to(until)
    assert deliver(third) is None
    assert third.icon == "globe"


def test_a_decision_reads_the_connections_of_both_channels_with_one_query(
    make_channel: Callable[..., Channel],
) -> None:
    phone = make_channel(
        name="Celular", kind="baileys", evolution_url="http://127.0.0.1:9",
        evolution_api_key="k", instance_name="oficina",
    )  # fmt: skip
    message = accept(make_channel(name="Outra", fallback="baileys", fallback_channel=phone))
    with CaptureQueriesContext(connection) as queries:
        runner._decide(str(message.pk))
    assert len([q for q in queries if 'FROM "channels_app_connection"' in q["sql"]]) == 1


def test_channels_that_fall_back_to_one_number_share_its_per_minute_limit(
    wired: Channel, make_channel: Callable[..., Channel], time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(timezone.now(), tick=False)
    phone = make_channel(
        name="Celular", kind="baileys", evolution_url="http://127.0.0.1:9",
        evolution_api_key="k", instance_name="oficina",
    )  # fmt: skip
    shared = {"fallback": "baileys", "fallback_channel": phone, "fallback_per_minute": 1}
    other = make_channel(name="Outra", **shared)
    change_channel(wired, **shared)
    attempt = attempt_of(accept(other), outcome=Outcome.ACCEPTED, route=Route.BAILEYS)
    assert attempt.connection == phone.primary
    DeliveryAttempt.objects.filter(pk=attempt.pk).update(started_at=timezone.now())
    message = accept(Channel.objects.get(pk=wired.pk), customer(graph="47"))
    assert deliver(message) is not None
    assert (message.decision, message.icon) == ("waiting_pace", "rejected")
    # Messages of the phone's own channel do not count.
    own = attempt_of(accept(phone), outcome=Outcome.ACCEPTED, route=Route.BAILEYS)
    DeliveryAttempt.objects.exclude(pk=own.pk).filter(connection=phone.primary).delete()
    DeliveryAttempt.objects.filter(pk=own.pk).update(started_at=timezone.now())
    deliver(message)
    assert message.decision != "waiting_pace"


def test_the_per_minute_limit_counts_one_channel_only(
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


# -- manual retries --------------------------------------------------------------------------------


def test_a_person_retries_by_the_official_api(wired: Channel, graph: Provider) -> None:
    graph.plays("refused_130403")
    message = accept(wired)
    deliver(message)
    version = message.version

    sending.retry_message(message, route="official", user=None)

    message.refresh_from_db()
    assert (message.round, message.round_route, message.decision) == (2, "official", "")
    assert message.version > version
    deliver_due()
    message.refresh_from_db()
    assert (message.status, message.route) == ("sent", "official")
    assert [(a.number, a.round, a.rule) for a in stored_attempts(message)] == [
        (1, 1, "first"),
        (2, 2, "asked"),
    ]


def test_a_person_retries_by_the_fallback(
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
    assert stored_attempts(message)[1].rule == "asked"
    assert len(graph.sends()) == 1


def test_only_failed_messages_can_be_retried(wired: Channel, graph: Provider) -> None:
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


def test_a_message_still_being_sent_cannot_be_retried(wired: Channel, wwebjs: Provider) -> None:
    wwebjs.plays("session_not_connected", forever=True)
    waiting = accept(wired, customer(graph="47"))
    deliver(waiting)
    assert waiting.status == "rejected"
    with pytest.raises(sending.NotRetryable):
        sending.retry_message(waiting, route="official", user=None)


def test_a_second_click_does_not_retry_twice(wired: Channel, graph: Provider) -> None:
    graph.plays("refused_130403")
    message = accept(wired)
    deliver(message)
    sending.retry_message(message, route="official", user=None)
    with pytest.raises(sending.NotRetryable):
        sending.retry_message(message, route="official", user=None)


@pytest.mark.parametrize(
    "changes",
    [{"fallback": "none"}, {"fallback": "baileys"}, {"active": False}],
)
def test_a_retry_needs_a_usable_route(
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


@pytest.mark.parametrize(("code", "reason"), [("50", "opted_out"), ("03", "never_fall_back")])
def test_a_person_cannot_override_what_forbids_the_fallback(
    wired: Channel, graph: Provider, wwebjs: Provider, code: str, reason: str
) -> None:
    message = accept(wired, customer(graph=code))
    deliver(message)
    assert message.decision == "never_fall_back"
    with pytest.raises(sending.NotRetryable, match=str(policy.reason_text(reason))):
        sending.retry_message(message, route="fallback", user=None)
    if reason == "opted_out":
        # The official API would only refuse it again.
        with pytest.raises(sending.NotRetryable, match=str(policy.reason_text(reason))):
            sending.retry_message(message, route="official", user=None)
        return
    # Retrying by the official API is allowed; the fallback stays forbidden whatever the result.
    sending.retry_message(message, route="official", user=None)
    graph.plays("refused_131047")
    deliver(message)
    assert message.decision == "never_fall_back"
    assert wwebjs.sends() == []


# -- dead workers ----------------------------------------------------------------------------------


def test_an_attempt_of_a_dead_worker_is_never_repeated_blindly(
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


def test_a_fallback_attempt_of_a_dead_worker_is_held(wired: Channel, wwebjs: Provider) -> None:
    message = accept(wired, customer(graph="47"))
    _, send = runner._decide(str(message.pk))
    assert send is not None
    attempts.record_result(send.attempt, runner.make(send).result)
    runner._decide(str(message.pk))

    assert deliver(message) is None

    assert (message.status, message.decision) == ("unconfirmed", "fallback_unconfirmed")
    assert wwebjs.sends() == []


def test_the_result_of_a_worker_considered_dead_still_counts(
    wired: Channel, wwebjs: Provider
) -> None:
    message = accept(wired)
    _, send = runner._decide(str(message.pk))
    assert send is not None
    answer = runner.make(send).result
    deliver(message)
    assert message.status == "unconfirmed"

    attempts.record_result(send.attempt, answer)

    message.refresh_from_db()
    assert (message.status, message.decision, message.error_code) == ("sent", "", "")
    assert deliver(message) is None
    assert wwebjs.sends() == []


@pytest.mark.django_db(transaction=True)
def test_two_workers_on_one_message_send_it_once(wired: Channel, graph: Provider) -> None:
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


def test_the_response_is_stored_after_a_database_outage(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = accept(wired, customer(graph="47"))
    failures = [OperationalError("gone"), OperationalError("still gone")]
    finish = attempts.record_result

    def write(*args: Any) -> Outcome:
        if failures:
            raise failures.pop()
        return finish(*args)

    monkeypatch.setattr(attempts, "record_result", write)
    monkeypatch.setattr("messaging.delivery.runner.connection.close", lambda: None)
    monkeypatch.setattr("messaging.delivery.runner.time.sleep", lambda seconds: None)

    assert deliver(message) is None

    assert failures == []
    assert (message.status, message.route) == ("sent", "wwebjs")
    assert len(graph.sends()) == 1


def test_a_database_outage_before_the_send_leaves_no_attempt(
    wired: Channel, graph: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = accept(wired, customer(graph="00"))
    failures = [OperationalError("gone")]
    quote = attempts.quote

    def read(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return quote(*args)

    monkeypatch.setattr(attempts, "quote", read)

    with pytest.raises(OperationalError):
        deliver(message)
    assert trail(message) == []

    assert deliver(message) is None
    assert failures == []
    assert message.status == "sent"
    assert len(graph.sends()) == 1


def test_a_response_that_cannot_be_stored_in_time_raises(
    wired: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*args: Any) -> Outcome:
        raise OperationalError("gone")

    monkeypatch.setattr(attempts, "record_result", write)
    monkeypatch.setattr("messaging.delivery.runner.connection.close", lambda: None)
    monkeypatch.setattr(runner, "DB_RETRY_SECONDS", -1)
    message = accept(wired)
    with pytest.raises(OperationalError):
        deliver(message)
    assert trail(message) == [("official", "started", "")]


# -- receipts --------------------------------------------------------------------------------------


def test_receipts_arrive_by_webhook(wired: Channel, graph: Provider, webhooks: Webhooks) -> None:
    message = accept(wired)
    deliver(message)
    graph.settle()
    assert receive(webhooks) == 3
    message.refresh_from_db()
    assert (message.status, message.icon) == ("read", "read")
    [attempt] = stored_attempts(message)
    assert attempt.receipt == "read"


@pytest.mark.parametrize("scenario", ["scrambled_statuses", "status_first", "delivered_skipped"])
def test_receipts_may_arrive_in_any_order_twice_and_early(
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
    arrived = webhooks.take()
    for body, signature in [*arrived, *arrived]:
        webhooks.arrived.put((body, signature))
    receive(webhooks)

    message.refresh_from_db()
    assert (message.status, message.icon) == ("rejected", "rejected")
    assert message.error_code == scenario.removeprefix("late_")
    assert message.decision == "", "it is due"
    assert deliver(message) is None
    assert (message.status, message.icon) == ("sent", "globe")
    assert deliver(message) is None
    assert len(wwebjs.sends()) == 1


def test_a_transient_late_failure_is_retried_before_the_fallback(
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


def test_a_failure_reported_by_response_and_webhook_falls_back_once(
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
def test_a_delivery_overrides_a_failure(
    wired: Channel, graph: Provider, wwebjs: Provider, order: list[str]
) -> None:
    graph.plays("silent")
    message = accept(wired)
    deliver(message)
    id_ = stored_attempts(message)[0].provider_message_id
    for reported in order:
        errors = [{"code": 131026, "title": "Undeliverable"}] if reported == "failed" else None
        post(status(message, reported, channel=wired, id=id_, errors=errors))
        read_events()
    message.refresh_from_db()
    assert (message.status, message.error_code) == ("delivered", "")
    assert deliver(message) is None
    assert wwebjs.sends() == []


@pytest.mark.parametrize("is_known", [True, False], ids=["after the answer", "before it"])
@pytest.mark.parametrize("codes", list(itertools.permutations([131026, 131050, None])))
def test_the_most_restrictive_of_several_late_failures_wins(
    wired: Channel,
    graph: Provider,
    wwebjs: Provider,
    codes: tuple[int | None, ...],
    is_known: bool,
) -> None:
    message = accept(wired)
    attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)
    if is_known:
        attempts.record_result(attempt, Accepted("wamid.1"))
    for code in codes:
        errors = [{"code": code, "title": f"Because of {code}"}] if code else None
        post(status(message, "failed", channel=wired, errors=errors, with_reference=False))
        read_events()
    if not is_known:
        attempts.record_result(attempt, Accepted("wamid.1"))

    [attempt] = stored_attempts(message)
    assert (attempt.error_code, attempt.error_title) == ("131050", "Because of 131050")
    assert deliver(message) is None
    assert (message.icon, wwebjs.sends()) == ("rejected", [])


@pytest.mark.parametrize("answered_first", [True, False])
@pytest.mark.parametrize("code", [131026, None])
def test_a_late_failure_does_not_relax_an_immediate_rejection(
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
    attempts.record_result(attempt, Rejected("131050", "Opted out"))
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


def test_a_failure_without_a_reason_has_a_generic_error(wired: Channel, graph: Provider) -> None:
    graph.plays("silent")
    message = accept(wired)
    deliver(message)
    post(status(message, "failed", channel=wired))
    read_events()
    message.refresh_from_db()
    assert (message.status, message.error_code) == ("rejected", "failed")
    assert message.error_title


def test_a_status_proves_a_send_without_a_response(
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
    assert stored_attempts(message)[0].provider_message_id.startswith("wamid.")
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


def test_a_status_before_the_response_finds_its_attempt_by_reference(
    wired: Channel, graph: Provider
) -> None:
    message = accept(wired)
    _, send = runner._decide(str(message.pk))
    assert send is not None
    post(status(message, "delivered", channel=wired, id="wamid.early"))
    read_events()
    message.refresh_from_db()
    assert message.status == "delivered"

    attempts.record_result(send.attempt, Accepted("wamid.early"))

    message.refresh_from_db()
    assert message.status == "delivered"
    [attempt] = stored_attempts(message)
    assert (attempt.outcome, attempt.provider_message_id) == ("accepted", "wamid.early")


def test_a_status_before_the_response_waits_for_the_id(wired: Channel, graph: Provider) -> None:
    message = accept(wired)
    _, send = runner._decide(str(message.pk))
    assert send is not None
    for reported in ("sent", "delivered", "delivered"):
        post(status(message, reported, channel=wired, id="wamid.early", with_reference=False))
    read_events()
    message.refresh_from_db()
    assert message.status == "sending"
    assert PendingEvent.objects.count() == 2

    attempts.record_result(send.attempt, Accepted("wamid.early"))

    message.refresh_from_db()
    assert message.status == "delivered"
    assert not PendingEvent.objects.exists()


def test_a_failure_before_the_response_falls_back_in_the_same_run(
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


def test_pending_statuses_are_applied_when_another_one_has_the_id(
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


def test_a_status_of_another_channel_is_not_applied(
    wired: Channel, graph: Provider, make_channel: Callable[..., Channel]
) -> None:
    other = make_channel()
    message = accept(wired)
    deliver(message)
    id_ = stored_attempts(message)[0].provider_message_id
    post(status(message, "read", channel=other, id=id_))
    read_events()
    message.refresh_from_db()
    assert message.status == "sent"
    assert PendingEvent.objects.get().channel == other


@pytest.mark.parametrize("reference", ["", "x", "x.1", "{}", "{}.x", "{}.99", "{}.1.1", "{}.-1"])
def test_an_invalid_reference_finds_no_attempt(wired: Channel, reference: str) -> None:
    message = accept(wired)
    attempt_of(message, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL)
    found = attempts.find(
        channel_id=wired.pk, reference=reference.format(message.pk), provider_message_id="wamid.?"
    )
    assert found is None


def test_repeated_statuses_change_nothing(wired: Channel, graph: Provider) -> None:
    graph.plays("silent")
    message = accept(wired)
    deliver(message)
    id_ = stored_attempts(message)[0].provider_message_id
    for reported in ("read", "sent", "delivered", "read"):
        post(status(message, reported, channel=wired, id=id_))
        read_events()
        message.refresh_from_db()
        version = message.version
    post({**status(message, "delivered", channel=wired, id=id_), "once": "more"})
    [attempt] = stored_attempts(message)
    attempts.record_result(attempt, Accepted(id_))
    read_events()
    assert deliver(message) is None
    assert message.version == version
    assert InboundEvent.objects.filter(state="done").count() == 4


def test_a_response_after_a_delivery_changes_only_the_id(wired: Channel) -> None:
    message = accept(wired)
    attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)
    attempts.record_receipt(attempt, Receipt.DELIVERED)
    attempts.record_result(attempt, Rejected("131047", "no"))
    message.refresh_from_db()
    assert (message.status, message.error_code) == ("delivered", "")


@pytest.mark.parametrize("answer_first", [True, False])
@pytest.mark.parametrize("receipt", [Receipt.SENT, Receipt.FAILED, Receipt.DELIVERED])
@pytest.mark.parametrize(
    "answer",
    [Accepted("wamid.1"), Rejected("131047", "closed"), Transient("131016", "away")],
)
def test_response_and_receipt_give_the_same_result_in_either_order(
    channel: Channel, answer: Any, receipt: Receipt, answer_first: bool
) -> None:
    message = accept(channel)
    attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)
    late = Rejected("131026", "undeliverable") if receipt == Receipt.FAILED else None

    def report() -> None:
        attempts.record_receipt(attempt, receipt, provider_message_id="wamid.1", error=late)

    steps = [lambda: attempts.record_result(attempt, answer), report]
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


def test_response_and_statuses_in_any_order_and_number_leave_the_same_rows(
    channel: Channel,
) -> None:
    """Through the journal, as Meta posts them: with our reference, by id only, and repeated."""
    failed = [{"code": 131026, "title": "Message undeliverable"}]

    def end(order: tuple[str, ...], repeated: int) -> tuple[object, ...]:
        message = accept(channel)
        attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)
        id_ = f"wamid.{message.pk}"
        for position, event in enumerate([*order, *order[:repeated]]):
            if event == "answer":
                attempts.record_result(attempt, Accepted(id_))
                continue
            post(
                status(
                    message,
                    event,
                    channel=channel,
                    id=id_,
                    errors=failed if event == "failed" else None,
                    with_reference=position % 2 == 0,
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
def test_a_concurrent_receipt_and_response_find_each_other(channel: Channel) -> None:
    """Each must see the other's commit; otherwise both would conclude that there is nothing."""
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
                attempts.record_result(attempt, Accepted(id_))
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
