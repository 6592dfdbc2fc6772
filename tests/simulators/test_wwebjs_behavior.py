"""Behavior beyond the recorded exchanges: deliveries, faults, callbacks, the control API."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from simulators.wwebjs.tables import PROTOCOL_TIMEOUT, SCENARIOS
from tests.simulators.conftest import API_KEY, ORDINARY, Graph, Receiver, Wwebjs, wait_until

EXAMPLES = {name: f"+551199999{scenario.digits}47" for name, scenario in SCENARIOS.items()}


@pytest.fixture
def start_with_callbacks(
    start_wwebjs: Callable[..., Wwebjs], receiver: Receiver
) -> Callable[..., Wwebjs]:
    def start(**changes: Any) -> Wwebjs:
        return start_wwebjs(webhook_url=receiver.url, **changes)

    return start


def kinds(receiver: Receiver) -> list[str]:
    return [webhook.json["dataType"] for webhook in receiver.all()]


def test_a_number_that_graph_rejects_is_delivered(web_js: Wwebjs) -> None:
    answer = web_js.send("+55 11 99999-0047", "Lembrete")
    web_js.settle()

    assert answer.json()["message"]["ack"] == 1
    assert web_js.ledger()["delivered_by_text"] == {"Lembrete": 1}


@pytest.mark.parametrize(
    ("name", "status", "delivered"),
    [
        ("ok", 200, 1),
        ("bare_delivered", 200, 1),
        ("bare_lost", 200, 0),
        ("ack_error", 200, 0),
        ("dollar_id", 200, 1),
        ("lid_remote", 200, 1),
        ("not_on_whatsapp", 500, 0),
        ("ack_one_only", 200, 0),
        ("queued", 200, 1),
        ("target_closed_delivered", 500, 1),
        ("serialize_delivered", 500, 1),
        ("get_chat", 500, 0),
        ("invalid_wid", 500, 0),
        ("minified_lost", 500, 0),
        ("hang_lost", 500, 0),
        ("hang_delivered", 500, 1),
        ("late_delivery", 500, 1),
        ("html_502", 502, 0),
        ("html_200", 200, 0),
        ("empty", 200, 1),
        ("not_json", 200, 1),
        ("session_not_found", 404, 0),
        ("session_not_connected", 404, 0),
        ("browser_tab_closed", 404, 0),
        ("session_timeout", 404, 0),
    ],
)
def test_the_answer_does_not_imply_the_delivery(
    web_js: Wwebjs, name: str, status: int, delivered: int
) -> None:
    answer = web_js.send(EXAMPLES[name])
    web_js.settle()

    assert answer.status_code == status
    assert web_js.ledger()["delivered"] == delivered


@pytest.mark.parametrize(("name", "delivered"), [("reset_before", 0), ("reset_after", 1)])
def test_a_request_with_a_reset_connection_may_be_delivered(
    web_js: Wwebjs, name: str, delivered: int
) -> None:
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        web_js.send(EXAMPLES[name])

    assert web_js.ledger()["delivered"] == delivered


def test_a_client_timeout_does_not_stop_the_delivery(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(ready_sessions=("TESTE",), protocol_timeout=30.0)
    with pytest.raises(requests.ReadTimeout):
        server.send(EXAMPLES["hang_delivered"], timeout=0.5)

    assert server.ledger()["delivered"] == 1


def test_a_late_delivery_follows_the_error(start_wwebjs: Callable[..., Wwebjs]) -> None:
    server = start_wwebjs(ready_sessions=("TESTE",), late_delivery_seconds=600.0)
    answer = server.send(EXAMPLES["late_delivery"])

    assert answer.json() == {"success": False, "error": PROTOCOL_TIMEOUT}
    assert server.ledger()["delivered"] == 0


def test_a_rejected_message_reports_success_with_ack_minus_one(web_js: Wwebjs) -> None:
    body = web_js.send(EXAMPLES["ack_error"]).json()

    assert body["success"] is True
    assert body["message"]["ack"] == -1
    assert body["message"]["_data"]["isSendFailure"] is True


def test_an_id_can_have_the_key_dollar_one(web_js: Wwebjs) -> None:
    key = web_js.send(EXAMPLES["dollar_id"]).json()["message"]["id"]

    assert "_serialized" not in key
    assert key["$1"] == f"true_{key['remote']}_{key['id']}"


def test_the_answer_can_contain_an_lid(web_js: Wwebjs) -> None:
    message = web_js.send(EXAMPLES["lid_remote"]).json()["message"]

    assert message["to"] == message["id"]["remote"]
    assert message["to"].endswith("@lid")


def test_only_the_form_without_the_ninth_digit_receives_the_message(web_js: Wwebjs) -> None:
    number = EXAMPLES["ninth_digit"].lstrip("+")
    known = web_js.post("/client/getNumberId/TESTE", {"number": number}).json()["result"]
    web_js.send(number, "com nove")
    web_js.send(known["user"], "sem nove")
    web_js.settle()

    assert known["user"] == number[:4] + number[5:]
    assert web_js.ledger()["delivered_by_text"] == {"sem nove": 1}


def test_a_number_without_whatsapp_is_reported_by_lookup_and_send(web_js: Wwebjs) -> None:
    number = EXAMPLES["not_on_whatsapp"].lstrip("+")
    known = web_js.post("/client/getNumberId/TESTE", {"number": number}).json()
    answer = web_js.send(number)

    assert known == {"success": True, "result": None}
    assert answer.json() == {"success": False, "error": "No LID for user"}


def test_a_sent_reference_can_be_found(web_js: Wwebjs) -> None:
    web_js.send(EXAMPLES["target_closed_delivered"], "Lembrete ref#1")
    web_js.send(ORDINARY, "outra conversa")
    web_js.settle()
    query = {"chatId": "5511999991047@c.us", "searchOptions": {"fromMe": True, "limit": 20}}
    messages = web_js.post("/chat/fetchMessages/TESTE", query).json()["messages"]

    assert [(m["body"], m["ack"]) for m in messages] == [("Lembrete ref#1", 3)]


def test_fetching_can_be_limited_by_sender_time_and_count(web_js: Wwebjs) -> None:
    for text in ("um", "dois", "três"):
        web_js.send(ORDINARY, text)
    web_js.control("inbound", {"from": ORDINARY, "text": "resposta"})

    def bodies(**search: Any) -> list[str]:
        query = {"chatId": "5511988887777@c.us", "searchOptions": search}
        answer = web_js.post("/chat/fetchMessages/TESTE", query).json()
        return [message["body"] for message in answer["messages"]]

    assert bodies() == ["um", "dois", "três", "resposta"]
    assert bodies(fromMe=True, limit=2) == ["dois", "três"]
    assert bodies(fromMe=False) == ["resposta"]
    assert bodies(since=4_000_000_000) == []


def test_a_send_before_the_page_is_ready_is_500_and_not_delivered(web_js: Wwebjs) -> None:
    web_js.act("unready")
    answer = web_js.send()

    assert answer.status_code == 500
    assert "getChat" in answer.json()["error"]
    assert web_js.ledger()["messages"] == []


def test_codes_are_renewed_and_then_expire(start_wwebjs: Callable[..., Wwebjs]) -> None:
    server = start_wwebjs(qr_seconds=0.01, qr_count=2)
    server.get("/session/start/TESTE")
    wait_until(lambda: server.status()["state"] == "UNPAIRED_IDLE")
    expired = server.get("/session/qr/TESTE").json()["qr"]
    server.get("/session/restart/TESTE")

    assert server.get("/session/qr/TESTE").json()["qr"] != expired


@pytest.mark.parametrize("action", ["crash_page", "freeze_page"])
def test_an_unresponsive_page_blocks_a_restart_but_not_stop_and_start(
    start_wwebjs: Callable[..., Wwebjs], action: str
) -> None:
    server = start_wwebjs(ready_sessions=("TESTE",), protocol_timeout=0.4)
    server.act(action)
    started_at = time.monotonic()
    answer = server.get("/session/restart/TESTE")
    assert time.monotonic() - started_at >= 0.4
    assert answer.status_code == 500
    assert server.status()["message"] == PROTOCOL_TIMEOUT
    server.post("/_control/settings", {"protocol_timeout": 60})
    server.get("/session/stop/TESTE")
    server.get("/session/start/TESTE")
    assert server.status()["message"] == "session_connected"
    assert time.monotonic() - started_at < 5


def test_sessions_with_a_folder_start_with_the_server(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(ready_sessions=("A", "B", "C"))
    server.get("/session/stop/A")
    server.get("/session/terminate/B")
    server.post("/_control/restart", {})
    assert server.get("/session/getSessions").json()["result"] == ["A", "C"]
    assert server.control_get("sessions")["paired"] == ["A", "C"]


def test_a_session_may_stay_connected_without_being_ready(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(ready_sessions=("TESTE",), never_ready=1)
    for ready in (False, True):
        server.get("/session/stop/TESTE")
        server.get("/session/start/TESTE")
        assert server.status()["message"] == "session_connected"
        info = server.get("/client/getClassInfo/TESTE").json()
        assert ("sessionInfo" in info) is ready


def test_the_first_code_may_lack_its_reference(start_wwebjs: Callable[..., Wwebjs]) -> None:
    server = start_wwebjs(null_qr_seconds=0.3)
    server.get("/session/start/TESTE")
    assert server.get("/session/qr/TESTE").json()["qr"].startswith("null,")
    wait_until(lambda: server.get("/session/qr/TESTE").json()["qr"].startswith("2@"))


def test_sessions_restart_after_a_server_downtime(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(start_seconds=0.01)
    server.act("make_ready")
    assert server.status()["state"] == "CONNECTED"
    server.post("/_control/restart", {"downtime_seconds": 0.3})
    with pytest.raises(requests.ConnectionError):
        server.status()

    def is_up_again() -> bool:
        try:
            return server.status()["state"] == "CONNECTED"
        except requests.ConnectionError:
            return False

    wait_until(is_up_again)


def test_an_expired_code_cannot_be_scanned(start_wwebjs: Callable[..., Wwebjs]) -> None:
    server = start_wwebjs()
    server.get("/session/start/TESTE")
    server.act("expire_qr")

    assert server.post("/_control/sessions/TESTE", {"action": "scan"}).status_code == 400


def test_a_stop_cancels_the_pairing(start_wwebjs: Callable[..., Wwebjs]) -> None:
    server = start_wwebjs(pairing_seconds=1.5)
    server.get("/session/start/TESTE")
    server.act("scan")
    server.get("/session/stop/TESTE")
    server.settle()

    assert server.status()["message"] == "session_not_found"
    assert server.control_get("sessions")["paired"] == []


def test_terminate_inactive_deletes_the_logins_of_disconnected_sessions(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(ready_sessions=("A", "B"))
    server.act("lose_link", "B")
    server.get("/session/terminateInactive")

    assert server.control_get("sessions")["paired"] == ["A"]


def test_a_killed_browser_restarts_when_recovery_is_enabled(
    start_wwebjs: Callable[..., Wwebjs],
) -> None:
    server = start_wwebjs(ready_sessions=("TESTE",), recover_sessions=True, start_seconds=1.5)
    server.act("kill_browser")
    after_kill = server.status()
    server.settle()

    assert after_kill["message"] == "session_not_found"
    assert server.status()["state"] == "CONNECTED"


def test_a_killed_browser_stays_a_zombie_without_recovery(web_js: Wwebjs) -> None:
    web_js.act("kill_browser")

    assert web_js.status()["message"] == "browser tab closed"
    assert web_js.get("/client/getState/TESTE").status_code == 500
    assert web_js.get("/session/getSessions").json()["result"] == ["TESTE"]


def test_a_scanned_session_posts_its_callbacks(
    start_with_callbacks: Callable[..., Wwebjs], receiver: Receiver
) -> None:
    server = start_with_callbacks()
    server.get("/session/start/TESTE")
    qr = receiver.next()
    server.act("scan")
    server.settle()

    assert qr.json["dataType"] == "qr"
    assert qr.json["data"] == {"qr": server.control_get("webhooks")[0]["body"]["data"]["qr"]}
    assert qr.headers["x-api-key"] == API_KEY
    rest = receiver.all()
    assert {w.json["dataType"] for w in rest} == {"loading_screen", "authenticated", "ready"}
    assert all("data" not in w.json for w in rest if w.json["dataType"] == "ready")


def test_a_sent_message_is_followed_by_its_acks(
    start_with_callbacks: Callable[..., Wwebjs], receiver: Receiver
) -> None:
    server = start_with_callbacks(ready_sessions=("TESTE",), ack_delay=0.3)
    server.settle()
    receiver.all()
    server.send()
    server.settle()
    events = [webhook.json for webhook in receiver.all()]

    assert [event["dataType"] for event in events] == ["message_create"] + ["message_ack"] * 3
    assert [event["data"]["ack"] for event in events[1:]] == [1, 2, 3]
    assert events[0]["data"]["message"]["ack"] == 0
    assert events[0]["sessionId"] == "TESTE"


def test_callbacks_can_be_disabled_and_are_not_retried(
    start_with_callbacks: Callable[..., Wwebjs], receiver: Receiver
) -> None:
    server = start_with_callbacks(
        ready_sessions=("TESTE",),
        disabled_callbacks=("message_ack", "loading_screen", "authenticated", "ready"),
    )
    receiver.answers = [500]
    server.send()
    server.settle()

    assert kinds(receiver) == ["message_create"]


def test_an_unlink_reports_its_reason(
    start_with_callbacks: Callable[..., Wwebjs], receiver: Receiver
) -> None:
    server = start_with_callbacks(ready_sessions=("TESTE",))
    server.settle()
    receiver.all()
    server.act("unlink")
    server.settle()
    reasons = {w.json["dataType"]: w.json["data"] for w in receiver.all()}

    assert reasons == {
        "change_state": {"state": "UNPAIRED"},
        "disconnected": {"reason": "UNPAIRED"},
    }


def test_a_customer_message_posts_callbacks(
    start_with_callbacks: Callable[..., Wwebjs], receiver: Receiver
) -> None:
    server = start_with_callbacks(ready_sessions=("TESTE",))
    server.settle()
    receiver.all()
    server.control("inbound", {"from": ORDINARY, "text": "Sim", "name": "Ana"})
    server.settle()
    events = {webhook.json["dataType"]: webhook.json for webhook in receiver.all()}

    assert set(events) == {"message_create", "message"}
    assert events["message"]["data"]["message"]["from"] == "5511988887777@c.us"
    assert events["message"]["data"]["message"]["fromMe"] is False


def test_graph_echoes_messages_of_a_companion(
    meta: Graph, receiver: Receiver, start_wwebjs: Callable[..., Wwebjs]
) -> None:
    server = start_wwebjs(ready_sessions=("TESTE",), echo_url=f"{meta.url}/_control/echo")
    key = server.send().json()["message"]["id"]["id"]
    echo = receiver.next().json["entry"][0]["changes"][0]["value"]["message_echoes"][0]

    assert echo["text"] == {"body": "Oi"}
    assert meta.control_get("requests") == []
    assert key


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("sessions/TESTE", {"action": "dance"}),
        ("sessions/OTHER", {"action": "unlink"}),
        ("inbound", {"session": "OTHER", "from": ORDINARY}),
    ],
)
def test_an_invalid_control_request_is_rejected(
    web_js: Wwebjs, path: str, body: dict[str, str]
) -> None:
    assert web_js.post(f"/_control/{path}", body).status_code == 400
