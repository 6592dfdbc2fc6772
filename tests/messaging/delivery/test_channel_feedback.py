"""What sending reveals about a route: circuit breaker, health, rate limits, new-chat block."""

from __future__ import annotations

import datetime as dt
import time
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from structlog.testing import capture_logs

from channels_app.connections import circuit_breaker, session_engines
from channels_app.incidents import incidents
from channels_app.models import Channel, Connection
from channels_app.providers import error_codes
from channels_app.providers.base import Accepted, Rejected, Transient
from channels_app.providers.events import Receipt
from messaging import tasks
from messaging.delivery import attempts, channel_feedback, rate_limits, sweeper
from messaging.delivery.statuses import Outcome, Route
from messaging.models import Conversation, DeliveryAttempt, Message
from tests.factories import change_channel, update_connection
from tests.messaging.support import (
    accept,
    attempt_of,
    customer,
    deliver,
    post,
    read_events,
    status,
    stored_attempts,
    trail,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from time_machine import TimeMachineFixture

    from tests.conftest import Provider

pytestmark = pytest.mark.django_db

EXPIRED = [("official", "rejected", "190"), ("wwebjs", "accepted", "")]


def incident_list(channel: Channel) -> list[tuple[str, str, int]]:
    found = incidents.current().filter(connection__channel=channel).select_related("connection")
    return [(incident.subject, incident.reason, incident.drops) for incident in found]


def sent(channel: Channel, **customers: str) -> Message:
    message = accept(Channel.objects.get(pk=channel.pk), customer(**customers))
    deliver(message)
    return message


def test_an_unknown_code_follows_the_status_that_came_with_it(wired: Channel) -> None:
    attempt = attempt_of(accept(wired), outcome=Outcome.REJECTED, route=Route.OFFICIAL)
    channel_feedback.note(attempt, Rejected("424242", "Something new", http_status=400))
    wired.refresh_from_db()
    assert wired.primary.breaker_opened_at is None
    channel_feedback.note(attempt, Rejected("424242", "Something new", http_status=401))
    wired.refresh_from_db()
    assert (wired.primary.breaker_opened_at is not None, wired.primary.breaker_code) == (
        True,
        "424242",
    )


@pytest.mark.parametrize(
    "code", ["session_closed", "session_not_ready", "lookup_failed", "timeout"]
)
def test_a_send_over_a_dead_session_requests_a_check_of_it(
    wired: Channel,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    reported: list[tuple[str, str]] = []

    def record(connection: Connection, code: str) -> None:
        reported.append((connection.provider, code))

    monkeypatch.setattr(session_engines.engine_for("wwebjs"), "send_failed", record)
    attempt = attempt_of(accept(wired), outcome=Outcome.UNKNOWN, route=Route.WWEBJS)
    with django_capture_on_commit_callbacks(execute=True):
        channel_feedback.note(attempt, Transient(code, "the session does not respond"))
    assert reported == [("wwebjs", code)]


@pytest.fixture
def broken(wired: Channel, graph: Provider) -> Channel:
    """A channel whose token has expired, as detected by a first message."""
    graph.plays("refused_190", forever=True)
    assert trail(sent(wired)) == EXPIRED
    wired.refresh_from_db()
    return wired


# -- the circuit breaker ---------------------------------------------------------------------------


def test_a_config_error_opens_the_breaker_and_later_messages_skip_the_official_api(
    broken: Channel, graph: Provider
) -> None:
    for _ in range(3):
        message = sent(broken)
        assert trail(message) == [("wwebjs", "accepted", "")]
        assert (message.icon, stored_attempts(message)[0].rule) == ("globe", "breaker_open")

    assert len(graph.sends()) == 1
    assert (broken.primary.breaker_code, broken.primary.health) == ("190", "failing")
    assert "190" in broken.primary.health_detail
    assert incident_list(broken) == [("official", "190", 1)]


def test_probes_run_one_at_a_time_with_growing_intervals(
    broken: Channel, graph: Provider, time_machine: TimeMachineFixture
) -> None:
    start = timezone.now()
    for minutes, after in ((1, 3), (3, 7), (7, 15), (15, 30), (30, 45)):
        broken.refresh_from_db()
        assert broken.primary.breaker_probe_at is not None
        due = start + dt.timedelta(minutes=minutes)
        assert abs(broken.primary.breaker_probe_at - due) < dt.timedelta(seconds=20)
        time_machine.move_to(broken.primary.breaker_probe_at)
        before = len(graph.sends())
        probe, other = sent(broken), sent(broken)
        assert trail(probe) == EXPIRED
        assert stored_attempts(probe)[0].rule == "probe"
        assert trail(other) == [("wwebjs", "accepted", "")]
        assert len(graph.sends()) == before + 1
        broken.refresh_from_db()
        later = start + dt.timedelta(minutes=after)
        assert abs(broken.primary.breaker_probe_at - later) < dt.timedelta(seconds=20)
    assert len(incident_list(broken)) == 1


def test_an_accepted_probe_closes_the_breaker(
    broken: Channel, graph: Provider, time_machine: TimeMachineFixture
) -> None:
    graph.plays("ok", forever=True)
    time_machine.move_to(timezone.now() + dt.timedelta(seconds=61))

    assert trail(sent(broken)) == [("official", "accepted", "")]

    broken.refresh_from_db()
    assert (broken.primary.breaker_opened_at, broken.primary.breaker_code) == (None, "")
    assert broken.primary.health == "ok"
    assert incident_list(broken) == []
    assert stored_attempts(sent(broken))[0].rule == "first"


def test_only_one_message_claims_a_probe(broken: Channel) -> None:
    later = timezone.now() + dt.timedelta(minutes=5)
    assert circuit_breaker.probe_is_due(broken.primary, later)
    claims = [circuit_breaker.claim_probe(broken.primary, later) for _ in range(3)]
    assert claims == [True, False, False]


def test_a_probe_without_a_time_is_due_and_can_be_claimed(broken: Channel) -> None:
    update_connection(broken, breaker_probe_at=None)
    assert circuit_breaker.probe_is_due(broken.primary, timezone.now())
    claims = [circuit_breaker.claim_probe(broken.primary, timezone.now()) for _ in range(2)]
    assert claims == [True, False]


def test_saving_the_channel_makes_the_next_message_a_probe(
    broken: Channel, graph: Provider
) -> None:
    graph.plays("ok", forever=True)
    broken.access_token = "EAAnew"
    change_channel(broken, access_token="EAAtest-token")
    assert stored_attempts(sent(broken))[0].rule == "probe"


def test_without_a_fallback_every_message_is_rejected_by_the_official_api(
    channel: Channel, graph: Provider
) -> None:
    channel.graph_url = graph.url
    channel.save()
    graph.plays("refused_190", forever=True)
    assert [sent(channel).error_code for _ in range(2)] == ["190", "190"]
    assert len(incident_list(channel)) == 1


def test_a_late_config_error_opens_the_breaker_and_only_a_receipt_closes_it(
    wired: Channel, time_machine: TimeMachineFixture
) -> None:
    message = sent(wired)
    payment = [{"code": 131042, "title": "Business eligibility payment issue"}]
    payload = status(message, "failed", channel=wired, errors=payment)
    post(payload)
    read_events()
    wired.refresh_from_db()
    assert (wired.primary.breaker_code, wired.primary.breaker_late, wired.primary.health) == (
        "131042",
        True,
        "failing",
    )

    time_machine.move_to(timezone.now() + dt.timedelta(seconds=61))
    probe = sent(wired)
    assert trail(probe) == [("official", "accepted", "")]
    wired.refresh_from_db()
    assert wired.primary.breaker_opened_at is not None

    post(
        status(probe, "delivered", channel=wired, id=stored_attempts(probe)[0].provider_message_id)
    )
    read_events()
    wired.refresh_from_db()
    assert wired.primary.breaker_opened_at is None


def test_a_probe_on_a_message_s_second_try_also_closes_the_breaker(
    wired: Channel, graph: Provider, time_machine: TimeMachineFixture
) -> None:
    graph.plays("refused_131016")
    message = accept(wired, customer())
    until = deliver(message)
    assert message.decision == "waiting_retry"
    circuit_breaker.trip(wired.primary, code="131042", late=True)
    wired.refresh_from_db()
    assert wired.primary.breaker_probe_at is not None
    assert until is not None
    time_machine.move_to(max(until, wired.primary.breaker_probe_at))

    message = Message.objects.select_related("conversation__channel").get(pk=message.pk)
    deliver(message)
    assert [(a.outcome, a.rule) for a in stored_attempts(message)] == [
        ("transient", "first"), ("accepted", "probe"),
    ]  # fmt: skip
    id_ = stored_attempts(message)[-1].provider_message_id
    post(status(message, "delivered", channel=wired, id=id_, number=2))
    read_events()
    wired.refresh_from_db()
    assert wired.primary.breaker_opened_at is None


def test_a_fallback_that_rejects_its_key_is_not_used(wired: Channel, wwebjs: Provider) -> None:
    wired.wwebjs_api_key = "wrong"
    wired.save()
    assert trail(sent(wired, graph="47"))[1] == ("wwebjs", "rejected", "wrong_key")
    count = len(wwebjs.simulator.requests)

    message = sent(wired, graph="47")

    assert (message.icon, message.decision) == ("rejected", "fallback_broken")
    assert len(wwebjs.simulator.requests) == count
    assert incident_list(wired) == [("wwebjs", "wrong_key", 1)]


def opened(channel: Channel, route: str, **changes: Any) -> tuple[bool, list[Any]]:
    """Trip the breaker, save the channel; return whether it is open, and the incidents."""
    circuit_breaker.trip(channel.connection(route), code="wrong_key")
    channel = change_channel(Channel.objects.get(pk=channel.pk), **changes)
    is_open = circuit_breaker.is_open(channel.connection(route))
    channel.refresh_from_db()
    assert circuit_breaker.is_open(channel.connection(route)) == is_open
    return is_open, [route for route, *_ in incident_list(channel)]


@pytest.mark.parametrize(
    ("changes", "still"),
    [
        ({"wwebjs_api_key": "another"}, ["wwebjs"]),
        ({"wwebjs_url": "http://127.0.0.1:9"}, []),
        ({"wwebjs_session_id": "another"}, []),
        ({"fallback": "none"}, []),
    ],
)
def test_new_fallback_settings_close_the_fallback_breaker(
    wired: Channel, changes: dict[str, Any], still: list[str]
) -> None:
    # If only the key changed, the incident ends once the session is observed to be ready.
    assert opened(wired, Route.WWEBJS, **changes) == (False, still)


@pytest.mark.parametrize(
    "changes",
    [{"access_token": "EAAnew"}, {"phone_number_id": "2"}, {"graph_url": "http://127.0.0.1:9"}],
)
def test_new_credentials_close_the_official_breaker(
    wired: Channel, changes: dict[str, Any]
) -> None:
    assert opened(wired, Route.OFFICIAL, **changes) == (False, [])


@pytest.mark.parametrize("name", ["evolution_url", "evolution_api_key", "instance_name"])
def test_new_settings_close_a_baileys_channel_s_breaker(
    make_channel: Callable[..., Channel], name: str
) -> None:
    phone = make_channel(
        kind="baileys", phone_number_id="", instance_name="x",
        evolution_url="http://127.0.0.1:9", evolution_api_key="k",
    )  # fmt: skip
    assert opened(phone, Route.BAILEYS, **{name: "http://127.0.0.1:8"})[0] is False


def test_other_changes_leave_a_breaker_open_but_make_a_probe_due(wired: Channel) -> None:
    changes = {"name": "Outro", "app_secret": "another", "confirm_seconds": 5}
    for route in (Route.OFFICIAL, Route.WWEBJS):
        assert opened(wired, route, **changes)[0] is True
        wired.refresh_from_db()
        assert circuit_breaker.probe_is_due(wired.connection(route), timezone.now())


def test_saving_only_other_fields_closes_no_breaker(wired: Channel) -> None:
    circuit_breaker.trip(wired.primary, code="190")
    change_channel(Channel.objects.get(), name="Outro")
    assert circuit_breaker.is_open(Channel.objects.get().primary)
    change_channel(wired, access_token="EAAnew")
    assert not circuit_breaker.is_open(Channel.objects.get().primary)


def test_an_error_of_one_message_opens_no_breaker(wired: Channel) -> None:
    sent(wired, graph="47")
    wired.refresh_from_db()
    assert (wired.primary.breaker_opened_at, incident_list(wired)) == (None, [])


@pytest.mark.parametrize(("digits", "code"), [("31", "131031"), ("48", "131048")])
def test_an_account_restricted_by_meta_is_reported_but_opens_no_breaker(
    wired: Channel, digits: str, code: str
) -> None:
    assert sent(wired, graph=digits).decision == "opt_in_only"
    assert sent(wired, graph=digits).decision == "opt_in_only"
    wired.refresh_from_db()
    assert (wired.primary.breaker_opened_at, wired.primary.health) == (None, "failing")
    assert incident_list(wired) == [("official", code, 1)]
    sent(wired)
    assert incident_list(wired) == []


# -- rejected requests that a person must check ----------------------------------------------------


def test_an_invalid_request_is_reported_once_per_code_and_opens_no_breaker(
    wired: Channel, graph: Provider
) -> None:
    for behavior in ("refused_132001", "refused_132001", "refused_131999"):
        graph.plays(behavior)
        assert trail(sent(wired))[1] == ("wwebjs", "accepted", "")
    wired.refresh_from_db()
    assert (wired.primary.breaker_opened_at, wired.primary.health) == (None, "unknown")
    assert sorted(incident_list(wired)) == [("requests", "131999", 1), ("requests", "132001", 1)]


@pytest.mark.parametrize("outcome", [Rejected, Transient])
def test_an_undocumented_code_opens_an_incident(wired: Channel, outcome: Any) -> None:
    attempt = attempt_of(accept(wired), outcome=Outcome.REJECTED, route=Route.OFFICIAL)
    channel_feedback.note(attempt, outcome("424242", "Something new", http_status=503))
    [incident] = incidents.current(wired.primary)
    assert (incident.subject, incident.code) == ("requests", "424242")
    assert "424242" in incidents.headline(incident)


def test_the_incident_of_rejected_requests_closes_an_hour_after_the_last(
    wired: Channel, graph: Provider, time_machine: TimeMachineFixture
) -> None:
    graph.plays("refused_132001", forever=True)
    sent(wired)
    start = timezone.now()
    for minutes in (40, 80):
        time_machine.move_to(start + dt.timedelta(minutes=minutes))
        sent(wired)
    time_machine.move_to(start + dt.timedelta(minutes=139))
    incidents.process_due()
    assert incident_list(wired) == [("requests", "132001", 3)]
    time_machine.move_to(start + dt.timedelta(minutes=141))
    incidents.process_due()
    [incident] = wired.primary.incidents.all()
    assert incident.closed_at is not None
    sent(wired)
    assert incident_list(wired) == [("requests", "132001", 1)]


@pytest.mark.parametrize("rule", [r for r in error_codes.TABLE.values() if r.alerts_staff], ids=str)
def test_every_alerting_code_opens_an_incident(wired: Channel, rule: error_codes.ErrorRule) -> None:
    attempt = attempt_of(accept(wired), outcome=Outcome.REJECTED, route=Route.OFFICIAL)
    channel_feedback.note(attempt, Rejected(rule.code, "refused"))
    assert [reason for _, reason, _ in incident_list(wired)] == [rule.code]


# -- health ----------------------------------------------------------------------------------------


def test_health_follows_the_results_of_sends(wired: Channel, graph: Provider) -> None:
    wired.graph_url = "http://127.0.0.1:9"
    wired.official_retries = 0
    wired.save()
    sent(wired)
    wired.refresh_from_db()
    assert (wired.primary.health, "connection_refused" in wired.primary.health_detail) == (
        "failing",
        True,
    )

    wired.graph_url = graph.url
    wired.save()
    sent(wired)
    wired.refresh_from_db()
    assert (wired.primary.health, wired.primary.health_detail) == ("ok", "")


def test_a_healthy_route_is_published_only_once(
    wired: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[int] = []
    monkeypatch.setattr(
        "messaging.live.publisher.channel_changed", lambda channel: published.append(channel.pk)
    )
    for _ in range(3):
        sent(wired)
    assert published == [wired.pk]


def test_an_unchanged_route_needs_no_query(wired: Channel, django_assert_num_queries: Any) -> None:
    sent(wired)
    message = sent(wired)
    attempt = stored_attempts(message)[0]
    attempt.connection = Channel.objects.get(pk=wired.pk).primary
    with django_assert_num_queries(0):
        channel_feedback.note(attempt, Accepted("wamid.1"))


def test_an_unknown_code_is_logged(wired: Channel) -> None:
    with capture_logs() as logs:
        sent(wired, graph="99")
    [line] = [line for line in logs if line["event"] == "unknown error code"]
    assert line["code"] == "131999"


# -- opting in -------------------------------------------------------------------------------------


def test_a_channel_that_opts_in_falls_back_on_a_marketing_limit(wired: Channel) -> None:
    assert sent(wired, graph="49").decision == "opt_in_only"
    wired.refresh_from_db()
    wired.fallback_despite_limits = True
    wired.save()
    message = sent(wired, graph="49")
    assert (message.icon, stored_attempts(message)[1].rule) == ("globe", "opted_in")
    assert sent(wired, graph="50").decision == "never_fall_back"


# -- limits ----------------------------------------------------------------------------------------


def test_the_throughput_limit_holds_and_each_message_has_its_slot(
    wired: Channel, graph: Provider
) -> None:
    wired.messages_per_second = 3
    wired.save()
    waiting = deque()
    # All are accepted before the first is sent: the slower this loop, the fewer have to wait.
    accepted = [
        accept(Channel.objects.get(pk=wired.pk), f"+55119888800{number:02}") for number in range(8)
    ]
    for message in accepted:
        if until := deliver(message):
            assert (message.icon, message.decision) == ("clock", "waiting_throughput")
            assert message.next_attempt_at == until
            waiting.append((until, message))
    slots = [until for until, _ in waiting]
    assert len(slots) >= 2  # 5, unless this loop took more than a second
    third = dt.timedelta(seconds=0.32)
    assert all(later - first > third for first, later in pairwise(slots))
    while waiting:
        until, message = waiting.popleft()
        time.sleep(max(0.0, (until - timezone.now()).total_seconds()))
        if again := deliver(message):
            waiting.appendleft((again, message))
    assert [request["method"] for request in graph.simulator.requests].count("POST") == 8
    times = sorted(DeliveryAttempt.objects.values_list("started_at", flat=True))
    second = dt.timedelta(seconds=1)
    assert all(later - first >= second for first, later in zip(times, times[3:], strict=False))


def test_messages_behind_a_waiting_one_show_that_they_wait(wired: Channel, graph: Provider) -> None:
    graph.plays("refused_131016")
    first, before = accept(wired), accept(wired)
    elsewhere = accept(wired, customer())
    until = deliver(first)
    after = accept(wired)
    for behind in (before, after):
        behind.refresh_from_db()
        assert (behind.icon, behind.decision, behind.next_attempt_at) == (
            "clock", "waiting_turn", until,
        )  # fmt: skip
    elsewhere.refresh_from_db()
    assert elsewhere.decision == ""
    assert before.version > after.version

    assert deliver(before) is None
    assert (before.status, before.decision, before.next_attempt_at) == ("sent", "", None)


def test_fallback_slots_are_assigned_in_sequence(wired: Channel) -> None:
    wired.fallback_per_minute = 4
    wired.save()
    messages = [accept(wired, customer(graph="47")) for _ in range(4)]
    assert [deliver(message) for message in messages] == [None] * 4
    elsewhere = [customer(graph="47").replace("+55 11", f"+55 {area}") for area in (12, 13, 14)]
    waiting = [accept(wired, number) for number in elsewhere]
    slots = [deliver(message) for message in waiting]
    assert [message.decision for message in waiting] == ["waiting_pace"] * 3
    assert all(b - a >= dt.timedelta(seconds=7.5) for a, b in pairwise(slots) if a and b)
    assert slots[0] is not None
    assert slots[0] - timezone.now() < dt.timedelta(seconds=76)


def test_a_customer_gets_45_messages_and_the_next_one_waits(wired: Channel) -> None:
    now = timezone.now()
    for _ in range(45):
        earlier = accept(wired)
        rate_limits.record_start(
            attempt_of(earlier, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL, started_at=now)
        )
    message = accept(wired)

    until = deliver(message)

    assert until is not None
    assert dt.timedelta(seconds=3) < until - now <= dt.timedelta(seconds=6)
    assert (message.icon, message.decision) == ("clock", "waiting_recipient")
    assert message.next_attempt_at == until


def test_throttled_messages_are_rescheduled_when_the_limits_change(
    wired: Channel, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a job: saving the channel locks no message and does not wait."""
    monkeypatch.setattr(rate_limits.random, "random", lambda: 0.5)
    wired.fallback_per_minute = 1
    wired.save()
    numbers = [customer(graph="47").replace("+55 11", f"+55 {area}") for area in (11, 12, 13)]
    messages = [accept(wired, number) for number in numbers]
    slots = [deliver(message) for message in messages]
    assert slots[0] is None
    assert slots[2] is not None
    assert slots[2] - timezone.now() > dt.timedelta(seconds=100)

    wired.fallback_per_minute = 60
    with (
        CaptureQueriesContext(connection) as queries,
        django_capture_on_commit_callbacks(execute=True),
    ):
        change_channel(wired)
        change_channel(wired)
    assert not [query for query in queries if "messaging_message" in query["sql"]]
    [job] = ProcrastinateJob.objects.filter(task_name="messaging.reschedule_throttled")
    tasks.reschedule_throttled(**job.args)

    for message in messages[1:]:
        message.refresh_from_db()
        assert (message.decision, message.next_attempt_at) == ("", None)
        fresh = Message.objects.select_related("conversation__channel").get(pk=message.pk)
        assert deliver(fresh) is None
        assert fresh.icon == "globe"


def test_a_message_without_a_slot_in_time_fails_immediately(wired: Channel) -> None:
    wired.fallback_per_minute, wired.fallback_max_age_minutes = 1, 1
    wired.save()
    numbers = [customer(graph="47").replace("+55 11", f"+55 {area}") for area in (11, 12)]
    first, second = [accept(wired, number) for number in numbers]
    deliver(first)
    assert deliver(second) is None
    assert (first.icon, second.icon, second.decision) == ("globe", "rejected", "fallback_full")


def test_new_chats_have_a_daily_limit(wired: Channel) -> None:
    wired.fallback_new_chats_per_day = 1
    wired.save()
    first, second = (f"+55 11 98{digit}99-9947" for digit in "12")
    for number in (first, first):
        message = accept(wired, number)
        attempt_of(message, outcome=Outcome.REJECTED, route=Route.OFFICIAL, error_code="131047")
        deliver(message)
        assert message.icon == "globe"
    message = accept(wired, second)
    attempt_of(message, outcome=Outcome.REJECTED, route=Route.OFFICIAL, error_code="131047")
    deliver(message)
    assert (message.icon, message.decision) == ("rejected", "new_chat_limit")

    message.conversation.last_inbound_at = timezone.now()
    message.conversation.save()
    message = accept(wired, second)
    attempt_of(message, outcome=Outcome.REJECTED, route=Route.OFFICIAL, error_code="131047")
    deliver(message)
    assert message.icon == "globe"


def rejected_by_the_api(channel: Channel, number: str) -> Message:
    """A message that the official API has rejected and the fallback handles next."""
    message = accept(channel, number)
    attempt_of(message, outcome=Outcome.REJECTED, route=Route.OFFICIAL, error_code="131047")
    deliver(message)
    return message


def test_messages_certainly_not_sent_do_not_count_for_the_daily_limit(
    wired: Channel, wwebjs: Provider
) -> None:
    wired.fallback_new_chats_per_day = 1
    wired.save()
    down, other = (f"+55 11 98{digit}99-9947" for digit in "12")
    wwebjs.plays("session_not_connected")
    message = rejected_by_the_api(wired, down)
    assert (message.decision, stored_attempts(message)[-1].outcome) == (
        "waiting_fallback",
        "transient",
    )

    assert rejected_by_the_api(wired, other).icon == "globe"


def test_a_message_s_own_attempt_does_not_count_against_it(
    wired: Channel, wwebjs: Provider
) -> None:
    wired.fallback_new_chats_per_day = 1
    wired.save()
    wwebjs.plays("reset_after")
    message = rejected_by_the_api(wired, "+55 11 98199-9947")
    assert message.decision == "fallback_unconfirmed"
    assert rejected_by_the_api(wired, "+55 11 98199-9947").icon == "globe"
    assert rejected_by_the_api(wired, "+55 11 98299-9947").decision == "new_chat_limit"


def test_a_customer_contacted_last_week_is_not_new(wired: Channel) -> None:
    wired.fallback_new_chats_per_day = 1
    wired.save()
    known, new = (f"+55 11 98{digit}99-9947" for digit in "12")
    last_week = timezone.now() - dt.timedelta(days=7)
    attempt_of(
        accept(wired, known), outcome=Outcome.ACCEPTED, route=Route.WWEBJS, started_at=last_week
    )
    assert rejected_by_the_api(wired, known).icon == "globe"
    assert rejected_by_the_api(wired, new).icon == "globe"


def test_fallback_slots_have_random_intervals(wired: Channel) -> None:
    wired.fallback_per_minute = 10
    wired.save()
    areas = [n for n in range(11, 36) if n % 10 and n not in (23, 25, 26, 29)]
    numbers = [f"+55 {area} 98199-9947" for area in areas]
    slots = [rejected_by_the_api(wired, number).next_attempt_at for number in numbers][10:]
    steps = [b - a for a, b in pairwise(slots) if a and b]
    assert len(set(steps)) == len(steps) > 5
    assert all(dt.timedelta(seconds=3) <= step <= dt.timedelta(seconds=9) for step in steps)


def test_two_channels_that_share_a_session_share_its_limits(
    wired: Channel, make_channel: Callable[..., Channel]
) -> None:
    shared = {
        name: getattr(wired, name)
        for name in ("fallback", "wwebjs_url", "wwebjs_api_key", "wwebjs_session_id")
    }
    other = make_channel(fallback_per_minute=2, fallback_new_chats_per_day=3, **shared)
    elsewhere = make_channel(**{**shared, "wwebjs_session_id": "another"})
    now = timezone.now()

    def used(channel: Channel, number: str) -> None:
        attempt_of(
            accept(channel, number), outcome=Outcome.ACCEPTED, route=Route.WWEBJS, started_at=now
        )

    def refused() -> Message:
        message = accept(other, "+5511977776666")
        attempt_of(message, outcome=Outcome.REJECTED, route=Route.OFFICIAL, error_code="131047")
        deliver(message)
        return message

    for number in ("+5511988880001", "+5511988880002", "+5511988880003"):
        used(elsewhere, number)
    used(wired, "+5511988880001")
    assert refused().icon == "globe"
    assert refused().decision == "waiting_pace"
    other.fallback_per_minute = 20
    other.save()
    used(wired, "+5511988880002")
    message = accept(other, "+5511977775555")
    attempt_of(message, outcome=Outcome.REJECTED, route=Route.OFFICIAL, error_code="131047")
    deliver(message)
    assert message.decision == "new_chat_limit"


@pytest.mark.parametrize("wrote_to", ["official", "baileys", ""])
def test_a_baileys_number_knows_only_customers_who_wrote_to_it(
    make_channel: Callable[..., Channel], wrote_to: str
) -> None:
    baileys = make_channel(kind="baileys", instance_name="vendas", phone_number_id="")
    official = make_channel(
        fallback="baileys", fallback_channel=baileys, fallback_new_chats_per_day=0
    )
    message = accept(official)
    contact = message.conversation.contact
    if wrote_to:
        channel = baileys if wrote_to == "baileys" else official
        Conversation.objects.update_or_create(
            channel=channel, contact=contact, defaults={"last_inbound_at": timezone.now()}
        )
    attempt_of(message, outcome=Outcome.REJECTED, route=Route.OFFICIAL, error_code="131047")

    deliver(message)

    known = wrote_to == "baileys"
    assert [a.route for a in stored_attempts(message)[1:]] == (["baileys"] if known else [])
    assert (message.decision == "new_chat_limit") is not known


def test_rejected_first_messages_block_new_chats_for_a_day(
    wired: Channel, time_machine: TimeMachineFixture, make_channel: Callable[..., Channel]
) -> None:
    numbers = [f"+55 11 9{digit}111-2222" for digit in (7, 8, 9)]
    for number in numbers[:2]:
        message = accept(wired, number)
        attempt_of(message, outcome=Outcome.REJECTED, route=Route.OFFICIAL, error_code="131047")
        deliver(message)
        attempts.record_receipt(
            stored_attempts(message)[1], Receipt.FAILED, error=Rejected("ack_error", "refused")
        )
    wired.refresh_from_db()
    assert wired.wwebjs.new_chats_stopped_until is not None
    assert incident_list(wired) == [("new_chats", "ack_error", 1)]

    message = accept(wired, numbers[2])
    attempt_of(message, outcome=Outcome.REJECTED, route=Route.OFFICIAL, error_code="131047")
    deliver(message)
    assert message.decision == "new_chats_stopped"

    time_machine.move_to(timezone.now() + dt.timedelta(hours=25))
    sweeper.sweep()
    wired.refresh_from_db()
    assert wired.wwebjs.new_chats_stopped_until is None
    assert incident_list(wired) == []
