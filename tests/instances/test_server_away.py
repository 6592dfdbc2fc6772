"""A crashed Evolution sends no event: our own broken sockets and calls detect it."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from channels_app.connections import monitor, rounds
from channels_app.connections.session_engines import engine_for
from channels_app.models import Channel, Connection, EvolutionCredentials, Incident
from channels_app.providers.base import Transient, Unknown
from channels_app.providers.sessions import State
from core import http_client
from instances import queue
from instances.connections import evolution as engine
from instances.connections.probe_requests import request_probe
from instances.connections.states import Observation
from instances.models import WhatsAppSession
from instances.receive_mode import handover
from messaging.delivery import channel_feedback
from messaging.models import DeliveryAttempt
from tests.instances.support import KEY, Evolution, joined, wait_until
from tests.messaging.support import accept

DEAD = "http://127.0.0.1:9"
FLEET = 5 * rounds.PROBES_AT_A_TIME


@pytest.fixture
def immediate_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the job of a server probe on commit, in the same thread."""

    def run(url: str) -> None:
        transaction.on_commit(lambda: rounds.probe_server("baileys", url))

    monkeypatch.setattr(queue, "enqueue_server_probe", run)


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of all outgoing requests."""
    paths: list[str] = []
    request = http_client.request

    def counted(method: str, base: str, path: str = "", **options: Any) -> http_client.Answer:
        paths.append(path)
        return request(method, base, path, **options)

    monkeypatch.setattr(http_client, "request", counted)
    return paths


def fresh(session: WhatsAppSession) -> WhatsAppSession:
    session.refresh_from_db()
    return session


def move(url: str) -> None:
    """Let all instances be on this server."""
    EvolutionCredentials.objects.update(url=url)
    for connection in Connection.objects.select_related("channel"):
        connection.address = engine_for("baileys").address(connection.channel)
        connection.save(update_fields=["address"])


def make_ready_earlier(**values: Any) -> None:
    """Make all sessions ready, probed a while ago and not due."""
    now = timezone.now()
    Connection.objects.update(
        state=State.READY,
        state_code="ready",
        serving=True,
        keep_connected=True,
        server_state="open",
        last_ready_at=now,
        checked_at=now - dt.timedelta(seconds=20),
        next_poll_at=now + dt.timedelta(seconds=60),
        **values,
    )


@pytest.mark.usefixtures("immediate_jobs")
def test_a_server_crash_in_websocket_mode_is_detected_immediately(
    by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    wait_until(joined(by_websocket))
    engine.probe(by_websocket.pk)
    assert fresh(by_websocket).connection.state == "ready"
    make_ready_earlier()

    evolution.restart(downtime=3.0)

    crashed = time.monotonic()
    wait_until(lambda: fresh(by_websocket).connection.state == "error", seconds=5)
    assert time.monotonic() - crashed < 2.5
    assert by_websocket.connection.server_state == "unknown"
    assert by_websocket.connection.state_code in ("connection_broken", "connection_refused")
    assert Incident.objects.get().reason == by_websocket.connection.state_code
    # When it is back, the socket detects it first.
    wait_until(evolution.is_up)
    evolution.open_namespace()
    wait_until(joined(by_websocket))
    wait_until(lambda: fresh(by_websocket).connection.state != "error", seconds=15)


@pytest.mark.parametrize("failure", [Transient("connection_refused", "x"), Unknown("timeout", "x")])
@pytest.mark.usefixtures("immediate_jobs")
def test_a_send_without_an_answer_triggers_an_immediate_probe(
    session: WhatsAppSession, monkeypatch: pytest.MonkeyPatch, failure: Any
) -> None:
    move(DEAD)
    make_ready_earlier()
    channel_feedback.note(
        DeliveryAttempt(connection=session.connection, message=accept(session.channel)), failure
    )
    assert (fresh(session).connection.state, session.connection.state_code) == (
        "error",
        "connection_refused",
    )


@pytest.mark.usefixtures("immediate_jobs")
def test_a_receive_mode_check_without_an_answer_triggers_a_probe(
    by_webhook: WhatsAppSession,
) -> None:
    move(DEAD)
    make_ready_earlier()
    by_webhook.channel.refresh_from_db()
    with pytest.raises(handover.SwitchRefused):
        handover.inspect_remote(by_webhook)
    assert fresh(by_webhook).connection.state == "error"


def test_a_recently_probed_instance_is_probed_a_second_later(session: WhatsAppSession) -> None:
    make_ready_earlier()
    Connection.objects.update(checked_at=timezone.now())
    request_probe(session.pk)
    assert rounds.claim(engine_for("baileys")) == []
    Connection.objects.update(next_poll_at=timezone.now())
    assert rounds.claim(engine_for("baileys")) == [session.connection.pk]


@pytest.fixture
def fleet(session: WhatsAppSession) -> Callable[[str], None]:
    """FLEET instances on one server, many more than are polled at once, and one more."""

    def make(url: str) -> None:
        channels = Channel.objects.bulk_create(
            Channel(name=f"Loja {n}", kind="baileys") for n in range(FLEET)
        )
        EvolutionCredentials.objects.bulk_create(
            EvolutionCredentials(channel=channel, url=url, api_key=KEY, instance_name=f"loja_{n}")
            for n, channel in enumerate(channels)
        )
        for channel in channels:
            WhatsAppSession.objects.create(channel=channel)  # it makes its secret
        Connection.objects.bulk_create(
            Connection(channel=channel, provider=channel.kind) for channel in channels
        )
        move(url)
        make_ready_earlier()

    return make


def test_one_probe_of_a_dead_server_updates_all_its_instances(
    fleet: Callable[[str], None], requested: list[str]
) -> None:
    fleet(DEAD)
    enqueued: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "enqueue_server_probe", enqueued.append)
        for pk in WhatsAppSession.objects.values_list("pk", flat=True):
            request_probe(pk)
    assert set(enqueued) == {DEAD}
    rounds.probe_server("baileys", DEAD)
    assert len(requested) == 1
    stored = set(Connection.objects.values_list("state", "state_code", "server_state"))
    assert stored == {("error", "connection_refused", "unknown")}
    # They keep their own schedule, spread over some seconds; requests do not speed it up.
    assert Connection.objects.values("next_poll_at").distinct().count() > FLEET // 2
    enqueued.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "enqueue_server_probe", enqueued.append)
        for pk in WhatsAppSession.objects.values_list("pk", flat=True)[:5]:
            request_probe(pk)
    assert enqueued == []
    assert not Connection.objects.filter(next_poll_at=None).exists()


def test_a_server_silent_for_one_instance_is_probed_for_a_second(
    fleet: Callable[[str], None],
    evolution: Evolution,
    requested: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet(evolution.url)
    monkeypatch.setattr(engine, "ASK_SECONDS", 0.8)
    monkeypatch.setattr(rounds, "ROUND_SECONDS", 120.0)
    Connection.objects.update(next_poll_at=None)
    evolution.fault("/instance/connectionState", "hang", seconds=3, times=1)
    rounds.probe_server("baileys", evolution.url)
    states = Connection.objects.values_list("state_code", flat=True)
    assert set(states) == {"instance_gone", "timeout"}
    assert list(states).count("timeout") == 1
    # If it is silent for two, all count as silent.
    make_ready_earlier()
    Connection.objects.update(next_poll_at=None)
    evolution.fault("/instance/connectionState", "hang", seconds=3, times=500)
    requested.clear()
    rounds.probe_server("baileys", evolution.url)
    assert len(requested) == 2
    assert set(Connection.objects.values_list("state_code", flat=True)) == {"timeout"}


def test_instances_of_a_server_are_claimed_only_while_they_are_probed(
    fleet: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(DEAD)
    probed: set[int] = set()
    claimed_at_once: list[int] = []

    def probe(pk: int) -> Observation:
        leased = Connection.objects.filter(
            next_poll_at__gt=timezone.now() + engine_for("baileys").lease / 2
        )
        claimed_at_once.append(leased.count())
        probed.add(pk)
        rested = timezone.now() + dt.timedelta(seconds=30)
        Connection.objects.filter(pk=pk).update(next_poll_at=rested)
        return Observation(connection="close")

    monkeypatch.setattr(monitor, "probe", probe)
    monkeypatch.setattr(rounds, "ROUND_SECONDS", 120.0)
    Connection.objects.update(next_poll_at=None)
    rounds.probe_server("baileys", DEAD)
    assert len(probed) == FLEET + 1
    assert max(claimed_at_once) <= rounds.PROBES_AT_A_TIME
    # One job does not occupy its worker for all instances: the others stay due.
    probed.clear()
    Connection.objects.update(next_poll_at=None)
    monkeypatch.setattr(rounds, "ROUND_SECONDS", 0.01)
    rounds.probe_server("baileys", DEAD)
    assert 0 < len(probed) < FLEET + 1
    assert Connection.objects.filter(next_poll_at=None).count() == FLEET + 1 - len(probed)


def test_a_probe_requested_during_another_probe_is_made_afterwards(
    session: WhatsAppSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request comes after the server has answered, before the answer is stored."""
    engine.probe(session.pk)
    make_ready_earlier(number_checked_at=timezone.now())
    poll = engine_for("baileys").poll

    def poll_and_break(connection: Connection, **options: Any) -> Any:
        observation = poll(connection, **options)
        request_probe(connection.channel.session.pk)
        return observation

    with monkeypatch.context() as patched:
        patched.setattr(engine_for("baileys"), "poll", poll_and_break)
        engine.probe(session.pk)
    move(DEAD)
    rounds.probe_server("baileys", DEAD)
    assert fresh(session).connection.state_code == "connection_refused"
    # An ordinary probe is followed by a pause.
    assert session.connection.next_poll_at is not None
