"""The simulator compared with recorded exchanges with the real server."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable

import pytest
import requests

from tests.simulators.conftest import API_KEY, Wwebjs, wait_until
from tests.simulators.recorded import Exchange, stripped

NO_SESSION = [
    "001_ping_nokey",
    "002_ping_badkey",
    "003_status_nokey",
    "004_status_badkey",
    "005_send_badkey",
    "006_key_in_query",
    "007_status_unknown",
    "008_qr_unknown",
    "009_qrimg_unknown",
    "010_stop_unknown",
    "011_restart_unknown",
    "012_terminate_unknown",
    "013_pair_unknown",
    "014_shot_unknown",
    "015_getsessions_empty",
    "016_terminateInactive",
    "017_terminateAll",
    "018_send_unknown",
    "019_getState_unknown",
    "020_getClassInfo_unknown",
    "021_isreg_unknown",
    "022_bad_name",
    "023_bad_name2",
    "024_bad_name3",
    "025_name_underscore_status",
    "026_start_noid",
    "027_start_post",
    "028_404",
    "029_docs",
    "030_localcb",
    "031_bad_json",
    "032_send_get",
    "033_health",
    "034_dashboard",
    "035_status_trailing",
    "036_ucase",
    "037_badkey_badjson",
]
UNPAIRED = [
    "203_status_unpaired",
    "204_qr",
    "205_qr_image",
    "206_start_again",
    "207_send_unpaired",
    "208_getState_unpaired",
    "209_sessions",
    "210_classinfo_unpaired",
    "211_pairing",
    "212_pairing_bad",
    "213_pairing_nobody",
    "214_screenshot",
]
CONNECTED_NOT_READY = [
    "301_status_connected_not_ready",
    "302_send_connected_not_ready",
    "303_qr_connected_not_ready",
    "304_classinfo_not_ready",
]
READY = [
    "310_status_ready",
    "311_qr_ready",
    "312_qrimg_ready",
    "313_start_ready",
    "314_send_ok",
    "315_classinfo_ready",
    "316_getState_ready",
    "319_restart",
    "320_send_group",
    "321_send_lid",
    "322_send_no_suffix",
    "323_send_plus",
    "324_send_s_whatsapp",
    "325_send_no_chatid",
    "326_send_no_contenttype",
    "327_send_bad_contenttype",
    "328_send_no_content",
    "329_send_empty",
    "330_send_number_content",
    "331_send_nobody",
    "332_send_textplain",
    "333_buttons",
    "334_list",
    "335_location",
    "336_location_obj",
    "337_contact",
    "338_contact_missing",
    "339_poll",
    "340_poll_noopts",
    "341_media",
    "342_media_string_opt",
    "343_media_bad",
    "344_media_nodata",
    "345_media_dataurl",
    "346_mediaurl_unreach",
    "347_mediaurl_notstring",
    "349_nonobject_options",
    "355_nowait",
    "370_isreg_yes",
    "372_isreg_missing",
    "373_isreg_int",
    "374_numid_9_kept",
    "375_numid_9_dropped",
    "377_numid_fmt",
    "378_numid_lid",
    "380_sendSeen",
    "381_presence",
    "382_typing",
    "386_formatted",
    "387_runMethod",
    "388_runMethod_bad",
    "392_messageClassInfo_missing",
    "400_stop",
    "415_dollar1_newchat_fetch",
    "702_link_preview_default",
    "703_link_preview_off",
    "802_send",
]
# The recorded page used its own numbers for these scenarios.
SCRIPTED = {
    "350_not_registered": ("5511900000000", "not_on_whatsapp"),
    "351_error_unknown": ("5511900000003", "ack_error"),
    "352_lookup_miss": ("5511900000004", "bare_delivered"),
    "353_null_chat": ("5511900000005", "bare_lost"),
    "354_minified_r": ("5511900000007", "minified_lost"),
    "360_hang_never_acked": ("5511900000001", "hang_lost"),
    "361_slow200_protocol_timeout": ("5511900000002", "late_delivery"),
    "371_isreg_no": ("5511999990000", "not_on_whatsapp"),
    "376_numid_null": ("5531999990000", "not_on_whatsapp"),
    "379_lidphone": ("5511999990000", "not_on_whatsapp"),
}
DOLLAR_BUILD = ["411_dollar1_fetch", "413_dollar1_classinfo", "414_dollar1_getchats"]


@pytest.mark.parametrize("name", NO_SESSION)
def test_requests_without_a_session_are_answered_as_recorded(
    name: str, start_wwebjs: Callable[..., Wwebjs]
) -> None:
    Exchange.read(name).check(start_wwebjs().url)


def test_a_body_that_is_too_large_is_413_html(start_wwebjs: Callable[..., Wwebjs]) -> None:
    recorded = Exchange.read("038_too_large")
    server = start_wwebjs(max_attachment_size=1000)
    body = {"chatId": "5511999999999@c.us", "contentType": "string", "content": "x" * 1_001_000}
    answer = server.post("/client/sendMessage/TESTE", body)

    assert answer.status_code == recorded.status == 413
    assert answer.text.strip() == recorded.body


@pytest.mark.parametrize("name", UNPAIRED)
def test_requests_to_an_unpaired_session_are_answered_as_recorded(
    name: str, start_wwebjs: Callable[..., Wwebjs]
) -> None:
    server = start_wwebjs()
    Exchange.read("200_start_fake").check(server.url)

    Exchange.read(name).check(server.url)


def test_a_scanned_code_starts_the_pairing_as_recorded(start_wwebjs: Callable[..., Wwebjs]) -> None:
    server = start_wwebjs(pairing_seconds=30.0)
    server.get("/session/start/TESTE")
    server.act("scan")

    Exchange.read("300_status_pairing").check(server.url)


@pytest.mark.parametrize("name", CONNECTED_NOT_READY)
def test_requests_to_a_connected_session_that_is_not_ready_are_answered_as_recorded(
    name: str, start_wwebjs: Callable[..., Wwebjs]
) -> None:
    server = start_wwebjs(sync_seconds=30.0)
    server.get("/session/start/TESTE")
    server.act("scan")
    wait_until(lambda: server.status()["success"])

    Exchange.read(name).check(server.url)


@pytest.mark.parametrize("name", READY)
def test_requests_to_a_ready_session_are_answered_as_recorded(name: str, web_js: Wwebjs) -> None:
    Exchange.read(name).check(web_js.url)


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_scenario_is_answered_as_recorded(name: str, web_js: Wwebjs) -> None:
    recipient, scenario = SCRIPTED[name]
    web_js.control("script", {"recipient": recipient, "scenarios": [scenario]})

    Exchange.read(name).check(web_js.url)


def test_a_missing_page_is_delivered_as_a_document(web_js: Wwebjs) -> None:
    recorded = Exchange.read("348_mediaurl_404")
    here = recorded.payload.replace("http://127.0.0.1:3500", web_js.url)

    dataclasses.replace(recorded, payload=here).check(web_js.url)


def test_sent_messages_can_be_fetched_in_the_recorded_shape(web_js: Wwebjs) -> None:
    Exchange.read("337_contact").check(web_js.url)
    web_js.settle()
    recorded = Exchange.read("384_fetchMessages")
    query = json.loads(recorded.payload)
    query["searchOptions"]["since"] = 0
    answer = web_js.post("/chat/fetchMessages/TESTE", query).json()
    shown = json.loads(recorded.body)["messages"][0]
    (message,) = answer["messages"]
    for known in (shown, message):
        known["ack"] = known["_data"]["ack"] = 0

    assert stripped(message) == stripped(shown)


def test_a_message_is_found_only_by_its_short_id(web_js: Wwebjs) -> None:
    key = web_js.send("+5511988887777").json()["message"]["id"]
    web_js.settle()
    query = {"chatId": "5511988887777@c.us", "messageId": key["id"]}
    shape = json.loads(Exchange.read("391_messageClassInfo").body)["message"]
    found = web_js.post("/message/getClassInfo/TESTE", query).json()["message"]
    not_found = web_js.post(
        "/message/getClassInfo/TESTE", {**query, "messageId": key["_serialized"]}
    )

    assert list(found) == list(shape)
    assert list(found["_data"]) == list(shape["_data"])
    assert not_found.status_code == 500
    assert not_found.json() == json.loads(Exchange.read("391b_messageClassInfo_by_serialized").body)


@pytest.mark.parametrize("name", DOLLAR_BUILD)
def test_a_build_with_dollar_ids_cannot_read_chats_as_recorded(
    name: str, start_wwebjs: Callable[..., Wwebjs]
) -> None:
    server = start_wwebjs(ready_sessions=("TESTE",), dollar_ids=True)
    Exchange.read("410_dollar1_send").check(server.url)
    Exchange.read("412_dollar1_nowait").check(server.url)

    Exchange.read(name).check(server.url)


def test_a_build_with_dollar_ids_still_finds_a_known_id(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(ready_sessions=("TESTE",))
    key = server.send("+5511988887777").json()["message"]["id"]
    server.control("settings", {"dollar_ids": True})
    recorded = json.loads(Exchange.read("417_dollar1_getmessagebyid").body)
    query = {"method": "getMessageById", "options": key["_serialized"]}
    found = server.post("/client/runMethod/TESTE", query).json()

    assert list(found["data"]) == list(recorded["data"])


def test_a_failed_start_leaves_no_session_as_recorded(start_wwebjs: Callable[..., Wwebjs]) -> None:
    server = start_wwebjs(start_failure="network")

    for name in ("100_start_nonet", "101_status_after_failed", "102_sessions_after_failed"):
        Exchange.read(name).check(server.url)


@pytest.mark.parametrize(
    ("failure", "name"),
    [("blank", "553_start_blank_page_auth_timeout"), ("stuck", "550_start_socket_stuck_opening")],
)
def test_a_start_can_fail_slowly_as_recorded(
    failure: str, name: str, start_wwebjs: Callable[..., Wwebjs]
) -> None:
    Exchange.read(name).check(start_wwebjs(start_failure=failure).url)


def test_a_running_start_has_no_session_and_allows_no_second_start(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(start_seconds=2.0)
    first = threading.Thread(
        target=Exchange.read("540_concurrent_start_a").check, args=[server.url]
    )
    first.start()
    wait_until(lambda: server.control_get("sessions")["starting"])

    Exchange.read("541_concurrent_start_b").check(server.url)
    during = dataclasses.replace(
        Exchange.read("201_status_during_start"), path="/session/status/DUPLO"
    )
    during.check(server.url)
    first.join()
    for name in ("543_status", "544_terminate_unpaired", "545_status"):
        Exchange.read(name).check(server.url)


def test_stop_keeps_the_pairing_as_recorded(web_js: Wwebjs) -> None:
    for name in ("400_stop", "401_status_stopped", "402_start_restore", "403_status_right_after"):
        Exchange.read(name).check(web_js.url)
    Exchange.read("404_classinfo").check(web_js.url)


def test_terminate_ends_the_pairing_as_recorded(start_wwebjs: Callable[..., Wwebjs]) -> None:
    server = start_wwebjs(ready_sessions=("B2",))

    for name in ("610_terminate_connected", "611_status", "612_qr"):
        Exchange.read(name).check(server.url)


def test_an_expired_code_stays_visible_as_recorded(start_wwebjs: Callable[..., Wwebjs]) -> None:
    server = start_wwebjs()
    Exchange.read("600_start_B2").check(server.url)
    first = server.get("/session/qr/B2").json()["qr"]
    server.act("rotate_qr", "B2")
    last = server.get("/session/qr/B2").json()["qr"]
    server.act("expire_qr", "B2")

    Exchange.read("603_status_idle").check(server.url)
    Exchange.read("604_qr_idle").check(server.url)
    assert server.get("/session/qr/B2").json()["qr"] == last != first


def test_a_session_unlinked_on_the_phone_is_a_zombie_as_recorded(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(ready_sessions=("Z1",))
    server.act("unlink", "Z1")

    for name in (
        "622_after_phone_logout_status",
        "623_after_phone_logout_send",
        "624_after_phone_logout_status2",
        "625_terminate_zombie",
        "626_status",
    ):
        Exchange.read(name).check(server.url)


def test_a_conflict_leaves_a_zombie_that_keeps_its_pairing_as_recorded(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(ready_sessions=("Z1",))
    server.act("conflict", "Z1")

    for name in (
        "628_conflict_status",
        "629_stop_zombie",
        "630_status",
        "631_start_after_stop",
        "632_status",
    ):
        Exchange.read(name).check(server.url)


def test_a_lost_link_is_a_timeout_and_recovers_as_recorded(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(ready_sessions=("Z1",))
    server.act("lose_link", "Z1")
    Exchange.read("634_status_TIMEOUT").check(server.url)
    Exchange.read("635_send_TIMEOUT").check(server.url)
    server.act("regain_link", "Z1")

    Exchange.read("636_status").check(server.url)


def test_a_crashed_page_answers_after_the_protocol_timeout_as_recorded(web_js: Wwebjs) -> None:
    web_js.act("crash_page")

    Exchange.read("531_norecover_crash_status").check(web_js.url)
    Exchange.read("532_norecover_crash_send").check(web_js.url)


def test_an_unlink_by_reload_shows_a_new_code_automatically_as_recorded(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(ready_sessions=("TESTE",), pairing_seconds=1.5)
    server.act("unlink_by_reload")
    Exchange.read("820_logoutnav_status_0").check(server.url)
    server.settle()

    for name in ("821_logoutnav_status_2s", "822_logoutnav_qr", "823_logoutnav_send"):
        Exchange.read(name).check(server.url)
    Exchange.read("824_classinfo").check(server.url)
    server.act("scan")
    server.settle()
    for name in ("825_rescan_status", "826_rescan_send", "827_rescan_qr"):
        Exchange.read(name).check(server.url)


def test_a_base_path_applies_to_all_routes_as_recorded(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(base_path="/wa")

    Exchange.read("520_basepath_root_ping").check(server.url)
    Exchange.read("521_basepath_start").check(server.url)
    assert requests.get(f"{server.url}/wa/ping", timeout=5).json()["message"] == "pong"


def test_a_restart_keeps_the_pairing_as_recorded(web_js: Wwebjs) -> None:
    for name in ("800_restart_connected", "801_status", "802_send"):
        Exchange.read(name).check(web_js.url)


def test_the_recorded_key_is_the_required_key() -> None:
    assert Exchange.read("310_status_ready").headers == {"x-api-key": API_KEY}
