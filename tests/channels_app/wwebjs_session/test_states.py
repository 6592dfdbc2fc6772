"""Parsing of recorded responses, and the rules that follow from a state. No network."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from django.utils import translation

from channels_app.connections.recovery import RECOVERY_PAUSES, RecoveryAction, RecoveryContext
from channels_app.connections.states import (
    FAST_POLL_SECONDS,
    POLL_SECONDS,
    SENTENCES,
    drop_reason,
    next_poll_delay,
)
from channels_app.connections.wwebjs_recovery import recovery_action_for
from channels_app.incidents.reason_text import describe, field_for_code
from channels_app.providers import redaction
from channels_app.providers.events import UnsupportedEvent
from channels_app.providers.evolution import events as evolution_events
from channels_app.providers.evolution.instance import read_link
from channels_app.providers.sessions import DerivedState, State
from channels_app.providers.wwebjs.session import (
    SessionError,
    StartOutcome,
    read_class_info,
    read_end,
    read_pairing_code,
    read_qr,
    read_start,
    read_status,
)
from channels_app.providers.wwebjs.states import Observation, derive
from core import http_client
from tests.simulators.recorded import FOLDER, Exchange

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)


def recorded(name: str) -> http_client.Answer:
    exchange = Exchange.read(name)
    return http_client.Answer(exchange.status, {}, exchange.body.encode())


def derived_from(name: str, *, info: str = "", starting: bool = False) -> tuple[str, str]:
    """Return the state and reason of a recorded status and class info."""
    try:
        observation = read_status(recorded(name))
        if info:
            observation = read_class_info(recorded(info), observation)
    except SessionError as error:
        observation = Observation(error_code=error.code, detail=error.detail)
    derived = derive(observation, starting=starting)
    return derived.state.value, derived.code


STATUSES = {
    "003_status_nokey": ("error", "wrong_key"),
    "004_status_badkey": ("error", "wrong_key"),
    "006_key_in_query": ("error", "wrong_key"),
    "007_status_unknown": ("disconnected", "not_started"),
    "022_bad_name": ("error", "invalid_session"),
    "023_bad_name2": ("error", "invalid_session"),
    "024_bad_name3": ("error", "invalid_session"),
    "025_name_underscore_status": ("disconnected", "not_started"),
    "026_start_noid": ("error", "wrong_address"),
    "027_start_post": ("error", "wrong_address"),
    "035_status_trailing": ("disconnected", "not_started"),
    "101_status_after_failed": ("disconnected", "not_started"),
    "201_status_during_start": ("disconnected", "not_started"),
    "203_status_unpaired": ("qr", "waiting_for_scan"),
    "300_status_pairing": ("pairing", "pairing"),
    "301_status_connected_not_ready": ("connected", "syncing"),
    "310_status_ready": ("connected", "syncing"),
    "356_status_while_hanging": ("connected", "syncing"),
    "401_status_stopped": ("disconnected", "not_started"),
    "403_status_right_after": ("connected", "syncing"),
    "500_status_during_autostart": ("disconnected", "not_started"),
    "501_status_after_autostart": ("connected", "syncing"),
    # With RECOVER_SESSIONS: gone, restored without its login, and linked again.
    "510_recover_status_0": ("disconnected", "not_started"),
    "511_recover_status_4s": ("qr", "waiting_for_scan"),
    "513_status": ("connected", "syncing"),
    # The page has crashed but the status does not show it; then it is reloaded.
    "514_after_page_crash_status": ("connected", "syncing"),
    "516_after_page_crash_status2": ("qr", "waiting_for_scan"),
    "530_status": ("connected", "syncing"),
    "531_norecover_crash_status": ("error", "session_check_failed"),
    "543_status": ("qr", "waiting_for_scan"),
    "545_status": ("disconnected", "not_started"),
    "551_status_while_start_stuck": ("disconnected", "not_started"),
    "554_status_blank": ("disconnected", "not_started"),
    "603_status_idle": ("error", "qr_expired"),
    "605_status": ("connected", "syncing"),
    "611_status": ("disconnected", "not_started"),
    "621_status": ("connected", "syncing"),
    "622_after_phone_logout_status": ("error", "session_closed"),
    "624_after_phone_logout_status2": ("error", "session_closed"),
    "626_status": ("disconnected", "not_started"),
    "628_conflict_status": ("error", "session_closed"),
    "630_status": ("disconnected", "not_started"),
    "632_status": ("connected", "syncing"),
    "634_status_TIMEOUT": ("starting", "opening"),
    "636_status": ("connected", "syncing"),
    "801_status": ("connected", "syncing"),
    "820_logoutnav_status_0": ("starting", "opening"),
    "821_logoutnav_status_2s": ("qr", "waiting_for_scan"),
    "825_rescan_status": ("connected", "syncing"),
}


@pytest.mark.parametrize(("name", "derived"), STATUSES.items())
def test_each_recorded_status_is_a_state(name: str, derived: tuple[str, str]) -> None:
    assert derived_from(name) == derived


def test_every_recorded_status_is_covered() -> None:
    statuses = {
        path.stem for path in FOLDER.glob("*.txt") if "/session/status/" in path.read_text()[:60]
    }
    assert statuses - set(STATUSES) == set()


@pytest.mark.parametrize(
    ("info", "state"),
    [
        ("304_classinfo_not_ready", "connected"),
        ("315_classinfo_ready", "ready"),
        ("404_classinfo", "ready"),
        ("020_getClassInfo_unknown", "disconnected"),
        ("210_classinfo_unpaired", "starting"),
        ("824_classinfo", "starting"),
    ],
)
def test_a_connected_session_is_ready_once_it_has_session_info(info: str, state: str) -> None:
    assert derived_from("310_status_ready", info=info)[0] == state


def test_a_ready_session_reports_its_number_and_name() -> None:
    observation = read_class_info(recorded("315_classinfo_ready"), Observation(connected=True))
    assert (observation.own_number, observation.name) == ("5511900000001", "Fake Clinica")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("008_qr_unknown", False),
        ("202_qr_during_start", False),
        ("204_qr", True),
        ("303_qr_connected_not_ready", True),
        ("311_qr_ready", False),
        ("512_recover_qr", True),
        ("601_qr_a", True),
        ("602_qr_b", True),
        ("604_qr_idle", True),
        ("612_qr", False),
        ("822_logoutnav_qr", True),
        ("827_rescan_qr", False),
    ],
)
def test_a_recorded_qr_response_contains_a_code_or_none(name: str, shown: bool) -> None:
    assert read_qr(recorded(name)).startswith("2@") is shown


def test_a_replaced_code_is_a_different_code() -> None:
    assert read_qr(recorded("601_qr_a")) != read_qr(recorded("602_qr_b"))


@pytest.mark.parametrize(
    "name",
    [
        "201_status_during_start",
        "007_status_unknown",
        "500_status_during_autostart",
        "551_status_while_start_stuck",
    ],
)
def test_an_unknown_session_is_not_an_error_during_a_start(name: str) -> None:
    assert derived_from(name, starting=True) == ("starting", "starting")


@pytest.mark.parametrize(
    "name",
    ["622_after_phone_logout_status", "603_status_idle", "531_norecover_crash_status"],
)
def test_a_session_being_restarted_counts_as_starting(name: str) -> None:
    assert derived_from(name, starting=True) == ("starting", "restarting")


def test_a_requested_start_does_not_hide_a_wrong_key() -> None:
    assert derived_from("004_status_badkey", starting=True) == ("error", "wrong_key")


def test_an_unknown_state_is_reported_unchanged() -> None:
    assert derive(Observation(socket="TOS_BLOCK")) == DerivedState(
        State.ERROR, "refused_by_whatsapp", "TOS_BLOCK"
    )
    assert describe("refused_by_whatsapp", "TOS_BLOCK").endswith("session: TOS_BLOCK")


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, b"<html>", "wrong_address"),
        (200, b"[]", "wrong_address"),
        (200, b'{"success":true}', "wrong_address"),
        (200, b'{"success":"true","message":"x"}', "wrong_address"),
        (302, b"", "wrong_address"),
        (404, b"<html>", "wrong_address"),
        (401, b"<html>", "http_401"),
        (403, b"<html>", "http_403"),
        (403, b"{}", "wrong_key"),
        (502, b"<html>", "http_502"),
        (500, b'{"success":false,"error":"boom\\n at x"}', "http_500"),
    ],
)
def test_a_response_without_a_state_has_its_own_code(status: int, body: bytes, code: str) -> None:
    with pytest.raises(SessionError) as caught:
        read_status(http_client.Answer(status, {}, body))
    assert caught.value.code == code
    assert "at x" not in caught.value.detail


# -- starts and ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("200_start_fake", StartOutcome.UP),
        ("402_start_restore", StartOutcome.UP),
        ("600_start_B2", StartOutcome.UP),
        ("620_start", StartOutcome.UP),
        ("627_stop_zombie_prep", StartOutcome.UP),
        ("631_start_after_stop", StartOutcome.UP),
        ("319_restart", StartOutcome.UP),
        ("800_restart_connected", StartOutcome.UP),
        ("206_start_again", StartOutcome.EXISTS),
        ("313_start_ready", StartOutcome.EXISTS),
        ("541_concurrent_start_b", StartOutcome.BUSY),
        ("100_start_nonet", StartOutcome.FAILED),
        ("103_start_again", StartOutcome.FAILED),
        ("550_start_socket_stuck_opening", StartOutcome.FAILED),
        ("553_start_blank_page_auth_timeout", StartOutcome.FAILED),
    ],
)
def test_each_recorded_start_has_its_outcome(name: str, end: StartOutcome) -> None:
    assert read_start(recorded(name)).outcome == end


def test_a_failed_start_says_why() -> None:
    observation = read_start(recorded("100_start_nonet")).detail
    assert observation == "net::ERR_NAME_NOT_RESOLVED at https://web.whatsapp.com/"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("004_status_badkey", "wrong_key"),
        ("022_bad_name", "invalid_session"),
        ("026_start_noid", "wrong_address"),
    ],
)
def test_a_start_that_never_began_is_not_a_failed_start(name: str, code: str) -> None:
    with pytest.raises(SessionError) as caught:
        read_start(recorded(name))
    assert caught.value.code == code


@pytest.mark.parametrize("status", [502, 504])
def test_a_proxy_timeout_leaves_the_outcome_open(status: int) -> None:
    answer = http_client.Answer(status, {}, b"<html>Gateway</html>")
    assert read_start(answer).outcome == StartOutcome.NO_ANSWER


@pytest.mark.parametrize(
    ("name", "ended"),
    [
        ("010_stop_unknown", True),
        ("400_stop", True),
        ("629_stop_zombie", True),
        ("544_terminate_unpaired", True),
        ("610_terminate_connected", True),
        ("625_terminate_zombie", True),
        ("012_terminate_unknown", False),
        ("552_terminate_while_start_stuck", False),
    ],
)
def test_each_recorded_end_is_parsed(name: str, ended: bool) -> None:
    assert read_end(recorded(name)) is ended


def test_a_recorded_pairing_code_is_parsed() -> None:
    assert read_pairing_code(recorded("211_pairing")) == "ABCDFCB7"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("212_pairing_bad", "invalid_recipient"),
        ("213_pairing_nobody", "invalid_recipient"),
        ("013_pair_unknown", "session_not_found"),
    ],
)
def test_a_recorded_rejection_of_a_pairing_code_has_its_reason(name: str, code: str) -> None:
    with pytest.raises(SessionError) as caught:
        read_pairing_code(recorded(name))
    assert caught.value.code == code


# -- reason texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "field"),
    [
        ("wrong_key", "wwebjs_api_key"),
        ("invalid_session", "wwebjs_session_id"),
        ("dns_failed", "wwebjs_url"),
        ("connection_refused", "wwebjs_url"),
        ("timeout", "wwebjs_url"),
        ("wrong_address", "wwebjs_url"),
        ("tls_failed", "wwebjs_url"),
        ("session_closed", ""),
        ("ready", ""),
    ],
)
def test_each_problem_names_the_setting_that_causes_it(code: str, field: str) -> None:
    assert field_for_code(code) == field


def test_each_problem_has_its_own_sentence() -> None:
    codes = ["wrong_key", "wrong_address", "connection_refused", "dns_failed", "timeout"]
    codes += [*SENTENCES, "session_closed", "session_check_failed", "invalid_session"]
    with translation.override("pt-br"):
        sentences = [describe(code) for code in codes]
    assert len(set(sentences)) == len(codes)
    assert not any("Unknown error" in text for text in sentences)


def test_a_drop_is_explained_by_the_callback_reason() -> None:
    closed = DerivedState(State.ERROR, "session_closed")
    assert drop_reason(closed, "UNPAIRED") == "unlinked_on_phone"
    assert drop_reason(closed, "CONFLICT") == "conflict"
    assert drop_reason(closed, "NAVIGATION") == "session_closed"
    assert drop_reason(closed) == "session_closed"


# -- when to poll again ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.STARTING, State.QR, State.PAIRING, State.CONNECTED])
def test_a_temporary_state_is_polled_fast_for_a_limited_time(state: State) -> None:
    def pause(minutes: int) -> float:
        lasting = dt.timedelta(minutes=minutes)
        return next_poll_delay(state, keep_connected=True, lasting=lasting, chance=0.5)

    assert pause(0) == FAST_POLL_SECONDS
    assert pause(20) == POLL_SECONDS


def test_a_stable_state_is_polled_once_a_minute_with_jitter() -> None:
    def pause(chance: float) -> float:
        lasting = dt.timedelta(hours=5)
        return next_poll_delay(State.READY, keep_connected=True, lasting=lasting, chance=chance)

    assert pause(0.0) == pytest.approx(48)
    assert pause(1.0) == pytest.approx(72)


def test_a_dropped_session_is_polled_more_often_for_a_while() -> None:
    def pause(keep_connected: bool, minutes: int) -> float:
        lasting = dt.timedelta(minutes=minutes)
        return next_poll_delay(
            State.ERROR, keep_connected=keep_connected, lasting=lasting, chance=0.5
        )

    assert pause(True, 1) == 10
    assert pause(True, 30) == 60
    assert pause(False, 1) == 60


# -- recovery --------------------------------------------------------------------------------------

CLOSED = DerivedState(State.ERROR, "session_closed")
HANGING = DerivedState(State.ERROR, "session_check_failed")
GONE = DerivedState(State.DISCONNECTED, "not_started")


def test_a_session_without_its_browser_is_restarted_at_once() -> None:
    assert (
        recovery_action_for(CLOSED, RecoveryContext(keep_connected=True), now=NOW)
        == RecoveryAction.RESTART
    )


def test_a_session_that_nobody_connected_is_not_started() -> None:
    for derived in (CLOSED, HANGING, GONE):
        context = RecoveryContext(
            keep_connected=False, slow_checks=9, missing_since=NOW - dt.timedelta(days=1)
        )
        assert recovery_action_for(derived, context, now=NOW) == RecoveryAction.NONE


def test_a_session_connected_but_not_ready_is_restarted_after_two_minutes() -> None:
    def derived(seconds: int, *, ready: bool = False) -> str:
        observation = Observation(connected=True, ready=ready)
        return derive(observation, syncing_for=dt.timedelta(seconds=seconds)).code

    assert (derived(119), derived(120), derived(10**6, ready=True)) == (
        "syncing",
        "never_ready",
        "ready",
    )
    stuck = DerivedState(State.ERROR, "never_ready")

    def action(attempts: int, seconds: int) -> RecoveryAction:
        context = RecoveryContext(
            keep_connected=True, attempts=attempts, attempted_at=NOW - dt.timedelta(seconds=seconds)
        )
        return recovery_action_for(stuck, context, now=NOW)

    assert [action(0, 0), action(1, 120)] == [RecoveryAction.RESTART] * 2
    assert [action(2, 299), action(2, 300)] == [RecoveryAction.NONE, RecoveryAction.RESTART]
    assert [action(3, 1799), action(3, 1800)] == [RecoveryAction.NONE, RecoveryAction.RESTART]
    assert action(4, 10**6) == RecoveryAction.NONE


@pytest.mark.parametrize("text", ["null,AA,BB,CC,1", "undefined,AA,BB", "NULL,x", "", "x" * 2001])
def test_a_code_that_cannot_be_scanned_is_ignored(text: str) -> None:
    body = json.dumps({"success": True, "qr": text}).encode()
    assert read_qr(http_client.Answer(200, {}, body)) == ""
    assert read_link({"code": text}).qr == ""
    event = {"event": "qrcode.updated", "instance": "x", "data": {"qrcode": {"code": text}}}
    if text:
        stored = redaction.from_evolution(event)
        for given in (event, stored):
            [skipped] = evolution_events.read(given)
            assert skipped == UnsupportedEvent("x", "qrcode.updated:empty")
        assert redaction.from_evolution(stored) == stored


def test_one_slow_response_is_not_a_hanging_page() -> None:
    assert (
        recovery_action_for(HANGING, RecoveryContext(keep_connected=True, slow_checks=1), now=NOW)
        == RecoveryAction.NONE
    )
    assert (
        recovery_action_for(HANGING, RecoveryContext(keep_connected=True, slow_checks=2), now=NOW)
        == RecoveryAction.RESTART
    )


def test_a_server_has_time_to_restore_its_sessions() -> None:
    def action(seconds: int) -> RecoveryAction:
        context = RecoveryContext(
            keep_connected=True, missing_since=NOW - dt.timedelta(seconds=seconds)
        )
        return recovery_action_for(GONE, context, now=NOW)

    assert action(30) == RecoveryAction.NONE
    assert action(60) == RecoveryAction.START


def test_an_expired_code_and_an_unreachable_server_need_no_recovery() -> None:
    for code in ("qr_expired", "connection_refused", "wrong_key"):
        assert (
            recovery_action_for(
                DerivedState(State.ERROR, code), RecoveryContext(keep_connected=True), now=NOW
            )
            == RecoveryAction.NONE
        )


def test_each_automatic_start_waits_longer_until_only_a_person_may_start() -> None:
    for attempts, pause in enumerate(RECOVERY_PAUSES):
        attempted_at = NOW - dt.timedelta(seconds=pause)
        early = RecoveryContext(
            keep_connected=True,
            attempts=attempts,
            attempted_at=attempted_at + dt.timedelta(seconds=1),
        )
        due = RecoveryContext(keep_connected=True, attempts=attempts, attempted_at=attempted_at)
        assert recovery_action_for(CLOSED, early, now=NOW) == RecoveryAction.NONE
        assert recovery_action_for(CLOSED, due, now=NOW) == RecoveryAction.RESTART
    over = RecoveryContext(
        keep_connected=True, attempts=len(RECOVERY_PAUSES), attempted_at=NOW - dt.timedelta(days=9)
    )
    assert recovery_action_for(CLOSED, over, now=NOW) == RecoveryAction.NONE
