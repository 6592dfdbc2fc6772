"""Connect, scan, pair, disconnect: over real sockets, against the simulated server."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from channels_app.channels import save_channel
from channels_app.connections import monitor, rounds, wwebjs, wwebjs_commands
from channels_app.connections.session_engines import SessionRefused
from channels_app.models import Channel, WwebjsCredentials
from channels_app.providers.wwebjs.session import WwebjsSessions
from channels_app.providers.wwebjs.states import derive
from tests.channels_app.wwebjs_session.conftest import (
    Replay,
    Server,
    jobs,
    run_starts,
    session_of,
    until,
)
from tests.conftest import WWEBJS_SESSION

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("inline")]


def refusal(call: Any) -> SessionRefused:
    with pytest.raises(SessionRefused) as caught:
        call()
    return caught.value


# -- the complete lifecycle ------------------------------------------------------------------------


def test_from_connect_by_qr_to_ready_and_back(attached: Channel, server: Server) -> None:
    assert monitor.state(attached.wwebjs).state == "disconnected"

    assert monitor.connect(attached.wwebjs).state == "starting"
    assert run_starts() == 1
    assert monitor.state(attached.wwebjs).state == "qr"

    code = monitor.qr(attached.wwebjs)
    assert code.text == server.simulator.browsers.sessions[WWEBJS_SESSION].qr
    assert code.svg.startswith("<svg")
    assert code.age_seconds >= 0

    server.steer("scan")
    session_state = until(attached, "ready")
    assert session_state.own_number == "5511900000001"
    assert session_state.since is not None

    ended = wwebjs_commands.disconnect(attached.wwebjs)
    assert (ended.state, ended.code) == ("disconnected", "unlinked")
    assert (server.known, server.paired) == ([], False)
    assert monitor.state(attached.wwebjs).code == "unlinked"
    assert not attached.wwebjs.incidents.exists()


def test_stopping_preserves_the_login_so_that_connecting_needs_no_code(
    ready: Channel, server: Server
) -> None:
    ended = wwebjs_commands.disconnect(ready.wwebjs, unlink=False)
    assert (ended.state, ended.code) == ("disconnected", "stopped")
    assert (server.known, server.paired) == ([], True)

    assert monitor.connect(ready.wwebjs).state == "starting"
    run_starts()
    assert monitor.state(ready.wwebjs).state == "ready"


def test_each_step_between_code_and_ready_is_a_state(attached: Channel, server: Server) -> None:
    server.settings.pairing_seconds = 24 * 3600
    monitor.connect(attached.wwebjs)
    run_starts()
    server.steer("scan")
    assert monitor.state(attached.wwebjs).state == "pairing"
    server.steer("regain_link")
    assert monitor.state(attached.wwebjs).state == "connected"
    server.steer("make_ready")
    assert monitor.state(attached.wwebjs).state == "ready"


# -- settings -------------------------------------------------------------------------------------


def test_a_channel_without_the_settings_has_no_session(channel: Channel) -> None:
    assert monitor.state(channel.wwebjs).state == "not_configured"
    assert monitor.stored_state(channel.wwebjs).state == "not_configured"
    calls = (
        monitor.connect,
        wwebjs_commands.disconnect,
        monitor.qr,
        lambda connection: monitor.pairing_code(connection, "+5511900000001"),
    )
    for call in calls:
        refused = refusal(lambda call=call: call(channel.wwebjs))
        assert (refused.code, refused.status) == ("not_configured", 409)


def test_saved_settings_are_checked_automatically(attached: Channel, server: Server) -> None:
    attached.refresh_from_db()
    assert (attached.wwebjs.state, attached.wwebjs.state_code) == ("disconnected", "unchecked")
    rounds.probe_due("wwebjs")
    attached.refresh_from_db()
    assert attached.wwebjs.state_code == "not_started"


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"wwebjs_api_key": "wrong"}, "wrong_key", "wwebjs_api_key"),
        ({"wwebjs_url": "http://127.0.0.1:9"}, "connection_refused", "wwebjs_url"),
        ({"wwebjs_url": "http://wwebjs.invalid"}, "dns_failed", "wwebjs_url"),
    ],
)
def test_a_problem_with_a_setting_names_its_field(
    attached: Channel, changes: dict[str, str], code: str, field: str
) -> None:
    for name, value in changes.items():
        setattr(attached, name, value)
    save_channel(attached)
    session_state = monitor.state(attached.wwebjs)
    assert (session_state.state, session_state.code, session_state.field) == ("error", code, field)
    for call in (monitor.connect, monitor.qr):
        refused = refusal(lambda call=call: call(attached.wwebjs))
        assert (refused.code, refused.status, refused.field) == (code, 502, field)
        assert str(refused)
    assert not jobs("begin_session")


def test_an_html_page_instead_of_json_means_a_wrong_address(
    attached: Channel, server: Server
) -> None:
    attached.wwebjs_url = f"{server.url}/other"
    save_channel(attached)
    session_state = monitor.state(attached.wwebjs)
    assert (session_state.code, session_state.field) == ("wrong_address", "wwebjs_url")


def test_corrected_settings_are_polled_again_and_stale_observations_are_ignored(
    attached: Channel, server: Server
) -> None:
    attached.wwebjs_api_key = "wrong"
    save_channel(attached)
    stale = Channel.objects.select_related("wwebjs_api").get(pk=attached.pk)
    assert monitor.state(attached.wwebjs).code == "wrong_key"
    attached.wwebjs_api_key = server.settings.api_key
    save_channel(attached)
    assert session_of(attached).next_poll_at is None
    # A probe that started before the save returns after it.
    assert monitor.state(stale.wwebjs).code == "wrong_key"
    assert session_of(attached).next_poll_at is None
    rounds.probe_due("wwebjs")
    attached.refresh_from_db()
    assert attached.wwebjs.state_code == "not_started"


def test_changing_the_fallback_ends_the_monitoring(ready: Channel) -> None:
    ready.fallback = "none"
    save_channel(ready)
    ready.refresh_from_db()
    assert ready.wwebjs.state == "not_configured"
    assert monitor.stored_state(ready.wwebjs).state == "not_configured"
    rounds.probe_due("wwebjs")


def test_saving_a_stale_form_does_not_overwrite_the_state(
    attached: Channel, server: Server
) -> None:
    old = Channel.objects.get(pk=attached.pk)
    server.steer("make_ready")
    monitor.state(attached.wwebjs)
    old.name = "Another name"
    save_channel(old)
    attached.refresh_from_db()
    assert (attached.wwebjs.state, attached.name) == ("ready", "Another name")


# -- starting -------------------------------------------------------------------------------------


def test_a_session_is_starting_during_a_start(attached: Channel, server: Server) -> None:
    monitor.connect(attached.wwebjs)
    assert monitor.state(attached.wwebjs).code == "starting"
    refused = refusal(lambda: monitor.qr(attached.wwebjs))
    assert (refused.code, refused.status) == ("qr_not_ready", 409)


def test_a_start_in_progress_is_not_requested_again(attached: Channel, server: Server) -> None:
    monitor.connect(attached.wwebjs)
    monitor.connect(attached.wwebjs)
    assert run_starts() == 1
    assert server.paths().count("/session/start") == 1


def test_a_running_session_is_not_started(ready: Channel, server: Server) -> None:
    assert monitor.connect(ready.wwebjs).state == "ready"
    assert run_starts() == 0


@pytest.mark.parametrize(
    ("failure", "said"),
    [("network", "net::ERR_NAME_NOT_RESOLVED"), ("blank", "could not be started"),
     ("stuck", "timed out")],
)  # fmt: skip
def test_a_failed_start_is_recorded_and_only_a_person_repeats_it(
    attached: Channel, server: Server, failure: str, said: str
) -> None:
    server.settings.start_failure = failure
    monitor.connect(attached.wwebjs)
    run_starts()
    for _ in range(3):
        session_state = monitor.state(attached.wwebjs)
        assert (session_state.state, session_state.code) == ("error", "start_failed")
        assert said in session_state.detail
    assert not jobs("begin_session")

    server.settings.start_failure = ""
    assert monitor.connect(attached.wwebjs).state == "starting"
    run_starts()
    assert monitor.state(attached.wwebjs).state == "qr"


def test_a_start_by_another_client_is_awaited(attached: Channel, server: Server) -> None:
    server.simulator.browsers.starting.add(WWEBJS_SESSION)
    monitor.connect(attached.wwebjs)
    run_starts()
    assert monitor.state(attached.wwebjs).state == "starting"
    server.steer("make_ready")
    assert monitor.state(attached.wwebjs).state == "ready"


def test_a_start_without_an_outcome_is_abandoned(
    attached: Channel, server: Server, later: Callable[[float], None]
) -> None:
    server.simulator.browsers.starting.add(WWEBJS_SESSION)
    monitor.connect(attached.wwebjs)
    run_starts()
    later(wwebjs.START_WINDOW.total_seconds() + 1)
    session_state = monitor.state(attached.wwebjs)
    assert (session_state.state, session_state.code) == ("error", "start_no_answer")
    assert monitor.state(attached.wwebjs).code == "start_no_answer"


def test_a_server_that_went_down_before_the_start_left_no_browser_behind(
    attached: Channel, server: Server
) -> None:
    monitor.connect(attached.wwebjs)
    WwebjsCredentials.objects.filter(pk=attached.pk).update(url="http://127.0.0.1:9")
    run_starts()
    attached.refresh_from_db()
    assert (attached.wwebjs.state, attached.wwebjs.state_code) == ("error", "connection_refused")
    assert session_of(attached).local_reason == ""


def test_a_session_ended_during_its_start_is_stopped_again(
    attached: Channel, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = WwebjsSessions.start

    def slow_start(self: WwebjsSessions) -> Any:
        end = start(self)
        wwebjs_commands.disconnect(attached.wwebjs, unlink=False)
        server.steer("make_ready")  # as if it had just come up
        return end

    monitor.connect(attached.wwebjs)
    monkeypatch.setattr(WwebjsSessions, "start", slow_start)
    run_starts()
    assert server.known == []
    assert monitor.state(attached.wwebjs).state == "disconnected"


# -- restarting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["kill_browser", "unlink", "conflict"])
def test_connect_restarts_a_session_that_has_lost_its_browser(
    ready: Channel, server: Server, action: str
) -> None:
    server.steer(action)
    assert monitor.connect(ready.wwebjs).state == "starting"
    run_starts()
    begun = [path for path in server.paths() if path in ("/session/stop", "/session/start")]
    assert begun == ["/session/stop", "/session/start"]
    assert "/session/restart" not in server.paths()
    assert monitor.state(ready.wwebjs).state == ("qr" if action == "unlink" else "ready")


def test_starting_an_existing_session_without_a_browser_restarts_it(
    attached: Channel, server: Server
) -> None:
    monitor.connect(attached.wwebjs)
    server.steer("make_ready")
    server.steer("kill_browser")
    run_starts()
    assert monitor.state(attached.wwebjs).state == "ready"


def test_restarting_a_session_that_has_disappeared_starts_it(
    ready: Channel, server: Server
) -> None:
    server.steer("kill_browser")
    monitor.connect(ready.wwebjs)
    server.simulator.browsers.close(WWEBJS_SESSION)
    run_starts()
    assert monitor.state(ready.wwebjs).state == "ready"


def test_a_connect_request_restarts_a_session_without_a_link_for_long(
    ready: Channel, server: Server, later: Callable[[float], None]
) -> None:
    server.steer("lose_link")
    assert monitor.connect(ready.wwebjs).code == "opening"
    assert run_starts() == 0
    later(61)
    monitor.connect(ready.wwebjs)
    assert run_starts() == 1
    assert monitor.state(ready.wwebjs).state == "ready"


def test_an_expired_code_is_replaced_and_never_shown(attached: Channel, server: Server) -> None:
    monitor.connect(attached.wwebjs)
    run_starts()
    dead = monitor.qr(attached.wwebjs).text
    server.steer("expire_qr")
    assert monitor.state(attached.wwebjs).code == "qr_expired"

    assert refusal(lambda: monitor.qr(attached.wwebjs)).code == "qr_not_ready"
    assert refusal(lambda: monitor.qr(attached.wwebjs)).code == "qr_not_ready"
    assert run_starts() == 1
    assert monitor.qr(attached.wwebjs).text != dead


def test_a_code_still_served_after_the_scan_is_not_shown(attached: Channel, server: Server) -> None:
    server.settings.sync_seconds = 60
    monitor.connect(attached.wwebjs)
    run_starts()
    server.steer("scan")
    until(attached, "connected")
    assert server.simulator.browsers.sessions[WWEBJS_SESSION].qr
    assert refusal(lambda: monitor.qr(attached.wwebjs)).code == "qr_not_ready"


def test_a_new_code_has_a_new_age(
    attached: Channel, server: Server, later: Callable[[float], None]
) -> None:
    monitor.connect(attached.wwebjs)
    run_starts()
    first = monitor.qr(attached.wwebjs)
    later(15)
    assert monitor.qr(attached.wwebjs).age_seconds >= 15
    server.steer("rotate_qr")
    second = monitor.qr(attached.wwebjs)
    assert second.text != first.text
    assert second.age_seconds < 5


def test_the_svg_is_self_contained_and_scales() -> None:
    svg = monitor.draw("2@" + "A" * 230)
    assert 'viewBox="0 0 ' in svg
    assert not re.search(r"<svg[^>]*(width|height|style)=", svg)
    assert "<?xml" not in svg


# -- pairing by code ------------------------------------------------------------------------------


def test_a_phone_can_be_linked_by_a_code(attached: Channel, server: Server) -> None:
    monitor.connect(attached.wwebjs)
    run_starts()
    assert re.fullmatch(
        "ABCD[0-9A-F]{4}", monitor.pairing_code(attached.wwebjs, "+55 (11) 90000-0001")
    )
    asked = [r for r in server.simulator.requests if "requestPairingCode" in str(r["path"])]
    assert asked[0]["body"] == {"phoneNumber": "5511900000001", "showNotification": True}


@pytest.mark.parametrize("number", ["", "abc", "123", "+55 11 9x", "0" * 12])
def test_an_invalid_phone_number_is_rejected_with_its_field(attached: Channel, number: str) -> None:
    refused = refusal(lambda: monitor.pairing_code(attached.wwebjs, number))
    assert (refused.code, refused.status, refused.field) == ("invalid_number", 400, "phone_number")


def test_a_session_not_waiting_for_a_phone_returns_no_code(ready: Channel) -> None:
    refused = refusal(lambda: monitor.pairing_code(ready.wwebjs, "+5511900000001"))
    assert (refused.code, refused.status) == ("qr_not_ready", 409)


# -- stopping and unlinking ------------------------------------------------------------------------


def test_unlinking_a_session_that_is_not_running_reports_it(
    attached: Channel, server: Server
) -> None:
    ended = wwebjs_commands.disconnect(attached.wwebjs)
    assert (ended.state, ended.code) == ("disconnected", "not_running")
    assert "linked devices" in ended.detail


def test_an_unreachable_server_does_not_disconnect(ready: Channel) -> None:
    WwebjsCredentials.objects.filter(pk=ready.pk).update(url="http://127.0.0.1:9")
    ready.refresh_from_db()
    refused = refusal(lambda: wwebjs_commands.disconnect(ready.wwebjs))
    assert (refused.status, refused.field) == (502, "wwebjs_url")
    assert not session_of(ready).keep_connected


@pytest.mark.parametrize("action", ["kill_browser", "crash_page"])
def test_a_broken_session_can_be_unlinked(ready: Channel, server: Server, action: str) -> None:
    server.steer(action)
    assert wwebjs_commands.disconnect(ready.wwebjs).code == "unlinked"
    assert server.known == []


# -- timeouts --------------------------------------------------------------------------------------


def test_a_hanging_page_does_not_block_us_and_differs_from_a_hanging_server(
    ready: Channel, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels_app.providers.wwebjs.session.STATUS_SECONDS", 0.3)
    server.settings.protocol_timeout = 24 * 3600
    server.steer("crash_page")
    session_state = monitor.state(ready.wwebjs)
    assert (session_state.state, session_state.code, session_state.field) == (
        "error",
        "session_check_failed",
        "",
    )


@pytest.mark.parametrize(
    ("names", "state"),
    [
        ({"status": "310_status_ready", "info": "315_classinfo_ready"}, "ready"),
        ({"status": "301_status_connected_not_ready", "info": "304_classinfo_not_ready"},
         "connected"),
        ({"status": "203_status_unpaired", "qr": "204_qr"}, "qr"),
        ({"status": "300_status_pairing"}, "pairing"),
        ({"status": "603_status_idle"}, "error"),
        ({"status": "622_after_phone_logout_status"}, "error"),
        ({"status": "007_status_unknown"}, "disconnected"),
        ({"status": "004_status_badkey"}, "error"),
        ({"status": "820_logoutnav_status_0"}, "starting"),
        ({"status": "821_logoutnav_status_2s", "qr": "822_logoutnav_qr"}, "qr"),
    ],
)  # fmt: skip
def test_the_client_reads_recorded_exchanges_over_the_wire(
    replay: Replay, names: dict[str, str], state: str
) -> None:
    observation = WwebjsSessions(replay.plays(**names)).poll()
    assert derive(observation).state == state
    assert bool(observation.qr) is (state == "qr")
    assert len(replay.asked) == len(names)


def test_the_client_starts_and_ends_sessions_as_recorded(replay: Replay) -> None:
    credentials = replay.plays(
        start="100_start_nonet",
        stop="400_stop",
        terminate="610_terminate_connected",
        pairing="211_pairing",
    )
    client = WwebjsSessions(credentials)
    assert client.start().outcome.value == "failed"
    client.stop()
    assert client.terminate()
    assert client.pairing_code("5511999999999") == "ABCDFCB7"
