"""Unresponsive pages, pages that never load, and ended sessions that come up again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.db import connection

from channels_app.connections import monitor, rounds, session_engines, wwebjs_commands
from channels_app.connections.registry import unguarded
from channels_app.connections.session_engines import SessionRefused
from channels_app.models import Channel
from channels_app.providers.base import OutboundMessage, SendError
from channels_app.providers.wwebjs import session as wwebjs_sessions
from channels_app.providers.wwebjs.session import WwebjsSessions
from messaging.delivery.policy import FALLBACK_BACKOFF
from tests.channels_app.wwebjs_session.conftest import Server, jobs, run_starts, session_of, until

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("inline")]
Later = Callable[[float], None]


def run_ends() -> int:
    """Run the enqueued jobs that end sessions. Returns their number."""
    orders = jobs("end_session")
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM procrastinate_jobs WHERE task_name = 'channels_app.end_session'"
        )
    for order in orders:
        wwebjs_commands.end_again(order["channel_id"])
    return len(orders)


def restart_server(server: Server) -> None:
    assert requests.post(f"{server.url}/_control/restart", timeout=5).ok


# -- unresponsive pages ----------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["crash_page", "freeze_page"])
def test_an_unresponsive_page_is_replaced_before_the_second_attempt_of_a_message(
    ready: Channel,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
    action: str,
) -> None:
    """The server's own restart would hang for minutes together with the page."""
    monkeypatch.setattr(wwebjs_sessions, "STATUS_SECONDS", 0.2)
    server.settings.protocol_timeout = 24 * 3600
    server.steer(action)
    began = time.monotonic()
    with pytest.raises(SendError) as raised:
        ready.request_timeout_seconds = 1
        unguarded(ready.wwebjs).send(OutboundMessage("ref", "+5511988887777", text="Oi"))
    with django_capture_on_commit_callbacks(execute=True):
        session_engines.send_failed(ready.wwebjs, raised.value.code)
    # The send triggers a poll, and the first slow response triggers another one at once.
    assert jobs("probe_session") == [{"channel_id": ready.pk}]
    wwebjs_commands.probe(ready.pk)
    due = session_of(ready).next_poll_at
    assert due is not None
    assert (due - session_of(ready).checked_at).total_seconds() < 3  # type: ignore[operator]
    wwebjs_commands.probe(ready.pk)
    assert run_starts() == 1
    assert monitor.state(ready.wwebjs).state == "ready"
    assert time.monotonic() - began < FALLBACK_BACKOFF[0] + FALLBACK_BACKOFF[1]
    ready.request_timeout_seconds = 15
    assert unguarded(ready.wwebjs).send(OutboundMessage("ref", "+5511988887777", text="Oi"))
    assert "/session/restart" not in server.paths()


def test_a_session_lost_by_the_server_is_started_within_the_attempts_of_a_message(
    ready: Channel, server: Server, later: Later
) -> None:
    server.simulator.browsers.close("TESTE")
    with pytest.raises(SendError):
        unguarded(ready.wwebjs).send(OutboundMessage("ref", "+5511988887777", text="Oi"))
    wwebjs_commands.probe(ready.pk)
    waited = 0
    while not jobs("begin_session"):
        later(1)
        waited += 1
        rounds.probe_due("wwebjs")
    assert waited <= 61 < sum(FALLBACK_BACKOFF)


def test_a_stop_without_a_response_is_still_followed_by_the_start(
    ready: Channel, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(self: WwebjsSessions) -> None:
        server.simulator.browsers.close("TESTE")
        raise wwebjs_sessions.SessionError("timeout")

    server.steer("kill_browser")
    monkeypatch.setattr(WwebjsSessions, "stop", hang)
    monitor.connect(ready.wwebjs)
    run_starts()
    assert monitor.state(ready.wwebjs).state == "ready"


# -- connected, but never ready -------------------------------------------------------------------


def test_a_session_that_never_becomes_ready_opens_an_incident_and_is_restarted(
    attached: Channel, server: Server, later: Later
) -> None:
    server.simulator.browsers.paired.add("TESTE")
    server.settings.never_ready = 2
    monitor.connect(attached.wwebjs)
    run_starts()
    assert monitor.state(attached.wwebjs).code == "syncing"
    later(119)
    assert monitor.state(attached.wwebjs).code == "syncing"
    assert not attached.wwebjs.incidents.exists()
    later(2)
    assert monitor.state(attached.wwebjs).code == "restarting"
    assert attached.wwebjs.incidents.get().reason == "never_ready"
    # Until the job replaces it, the old browser reports the same state.
    later(5)
    assert monitor.state(attached.wwebjs).code == "restarting"
    assert run_starts() == 1
    # The same applies to the second one: it has two minutes, and the next start has its pause.
    assert monitor.state(attached.wwebjs).code == "syncing"
    later(121)
    assert monitor.state(attached.wwebjs).code == "never_ready"
    assert run_starts() == 0
    assert attached.wwebjs.incidents.get().drops == 1
    later(300)
    assert monitor.state(attached.wwebjs).code == "restarting"
    assert run_starts() == 1
    assert monitor.state(attached.wwebjs).state == "ready"
    assert attached.wwebjs.incidents.get().recovered_at is not None


def test_starts_of_a_session_that_never_becomes_ready_are_few(
    ready: Channel, server: Server, later: Later
) -> None:
    server.settings.never_ready = 100
    server.steer("unready")
    starts = 0
    for _ in range(100):  # five hours
        later(180)
        monitor.state(ready.wwebjs)
        starts += run_starts()
    assert starts == 4
    assert ready.wwebjs.incidents.get().drops == 1
    # A person may start it.
    assert monitor.connect(ready.wwebjs).code == "restarting"


# -- codes that cannot be scanned -----------------------------------------------------------------


def test_a_code_without_its_reference_is_not_shown(attached: Channel, server: Server) -> None:
    server.settings.null_qr_seconds = 0.3
    monitor.connect(attached.wwebjs)
    run_starts()
    shown = server.simulator.browsers.sessions["TESTE"].qr
    assert shown is not None
    assert shown.startswith("null,")
    with pytest.raises(SessionRefused) as caught:
        monitor.qr(attached.wwebjs)
    assert caught.value.code == "qr_not_ready"
    assert session_of(attached).qr_digest == ""
    deadline = time.monotonic() + 5
    while server.simulator.browsers.sessions["TESTE"].qr == shown:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert monitor.qr(attached.wwebjs).text.startswith("2@")


# -- ended sessions stay ended ---------------------------------------------------------------------


def test_a_stopped_session_that_comes_up_with_its_server_is_stopped_again(
    ready: Channel, server: Server, later: Later
) -> None:
    wwebjs_commands.disconnect(ready.wwebjs, unlink=False)
    later(60)
    restart_server(server)
    assert server.known == ["TESTE"]
    session_state = monitor.state(ready.wwebjs)
    assert (session_state.state, session_state.code) == ("disconnected", "came_up")
    assert not session_of(ready).keep_connected
    assert run_ends() == 1
    assert (server.known, server.paired) == ([], True)
    later(2)
    assert monitor.state(ready.wwebjs).code == "stopped_again"
    # This can be repeated any number of times.
    later(60)
    restart_server(server)
    monitor.state(ready.wwebjs)
    assert run_ends() == 1
    assert server.known == []
    assert not jobs("begin_session")
    assert monitor.connect(ready.wwebjs).state == "starting"
    run_starts()
    assert monitor.state(ready.wwebjs).state == "ready"
    later(60)
    restart_server(server)
    assert monitor.state(ready.wwebjs).state == "ready"
    assert run_ends() == 0


def test_a_session_that_was_stopped_while_its_server_was_away_is_stopped_when_it_is_back(
    ready: Channel, server: Server, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: WwebjsSessions) -> None:
        raise wwebjs_sessions.SessionError("connection_refused")

    with monkeypatch.context() as patched:
        patched.setattr(WwebjsSessions, "stop", away)
        with pytest.raises(SessionRefused):
            wwebjs_commands.disconnect(ready.wwebjs, unlink=False)
    later(60)
    monitor.state(ready.wwebjs)
    assert run_ends() == 1
    assert server.known == []


def test_unlinking_during_a_start_takes_effect_when_the_start_ends(
    attached: Channel, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.simulator.browsers.paired.add("TESTE")
    server.simulator.browsers.folders.add("TESTE")
    start = WwebjsSessions.start
    meanwhile: list[Any] = []

    def slow_start(self: WwebjsSessions) -> Any:
        meanwhile.append(wwebjs_commands.disconnect(attached.wwebjs))
        meanwhile.append(monitor.state(attached.wwebjs))
        return start(self)

    monitor.connect(attached.wwebjs)
    monkeypatch.setattr(WwebjsSessions, "start", slow_start)
    run_starts()
    assert [session_state.code for session_state in meanwhile] == ["unlinking", "unlinking"]
    assert (server.known, server.paired) == ([], False)
    assert monitor.state(attached.wwebjs).code == "unlinked"


def test_a_session_with_an_unknown_start_outcome_is_unlinked_when_it_comes_up(
    attached: Channel, server: Server, later: Later
) -> None:
    server.simulator.browsers.starting.add("TESTE")
    monitor.connect(attached.wwebjs)
    run_starts()
    assert wwebjs_commands.disconnect(attached.wwebjs).code == "unlinking"
    later(30)
    assert monitor.state(attached.wwebjs).code == "unlinking"
    server.simulator.browsers.starting.discard("TESTE")
    server.steer("make_ready")
    assert monitor.state(attached.wwebjs).code == "unlinking"
    assert run_ends() == 1
    assert (server.known, server.paired) == ([], False)
    later(2)
    assert monitor.state(attached.wwebjs).code == "unlinked"


def test_connecting_cancels_a_pending_unlink(attached: Channel, server: Server) -> None:
    server.simulator.browsers.starting.add("TESTE")
    monitor.connect(attached.wwebjs)
    run_starts()
    wwebjs_commands.disconnect(attached.wwebjs)
    monitor.connect(attached.wwebjs)
    server.steer("make_ready")
    assert until(attached, "ready")
    assert run_ends() == 0
    assert server.paired


def test_a_failed_unlink_is_not_retried_later(
    ready: Channel, server: Server, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: WwebjsSessions) -> bool:
        raise wwebjs_sessions.SessionError("connection_refused")

    with monkeypatch.context() as patched:
        patched.setattr(WwebjsSessions, "terminate", away)
        with pytest.raises(SessionRefused):
            wwebjs_commands.disconnect(ready.wwebjs)
    later(60)
    assert monitor.state(ready.wwebjs).state == "ready"
    assert run_ends() == 0
    assert server.paired
    # The person's request still applies: it is not started again until someone connects it.
    assert not session_of(ready).keep_connected
    server.steer("kill_browser")
    later(60)
    assert monitor.state(ready.wwebjs).code == "session_closed"
    assert run_starts() == 0
    assert not ready.wwebjs.incidents.exists()
    monitor.connect(ready.wwebjs)
    run_starts()
    assert monitor.state(ready.wwebjs).state == "ready"
    assert session_of(ready).keep_connected


@pytest.mark.parametrize("unlink", [False, True])
def test_a_session_used_by_another_channel_is_not_ended(
    ready: Channel, server: Server, later: Later, make_channel: Callable[..., Channel], unlink: bool
) -> None:
    server.simulator.browsers.close("TESTE")
    wwebjs_commands.disconnect(ready.wwebjs, unlink=unlink)
    other = make_channel(
        fallback="wwebjs",
        wwebjs_url=f"{server.url}/",
        wwebjs_api_key=ready.wwebjs_api_key,
        wwebjs_session_id=ready.wwebjs_session_id,
    )
    monitor.connect(other.wwebjs)
    run_starts()
    later(60)
    assert monitor.state(other.wwebjs).state == "ready"
    assert monitor.state(ready.wwebjs).state == "ready"
    assert run_ends() == 0
    assert server.paired


def test_a_session_that_is_ready_only_briefly_is_not_restarted_forever(
    ready: Channel, server: Server, later: Later
) -> None:
    starts = 0
    for _ in range(40):  # six hours of ups and downs
        server.steer("kill_browser")
        later(60)
        monitor.state(ready.wwebjs)
        starts += run_starts()
        later(500)
        monitor.state(ready.wwebjs)
    assert starts == 4
    # A person may, and that counts from 0 again; so does a session that stays ready.
    monitor.connect(ready.wwebjs)
    run_starts()
    assert session_of(ready).recovery_attempts == 1
    assert monitor.state(ready.wwebjs).state == "ready"
    later(601)
    assert monitor.state(ready.wwebjs).state == "ready"
    assert session_of(ready).recovery_attempts == 0
