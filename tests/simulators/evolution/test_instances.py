"""Lifecycle of instances, faults, and the rest of the control API."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from simulators.base import run_in_thread
from simulators.evolution.app import EvolutionSettings, InstanceSpec, create_app

from .support import KEY, Receiver, Server, body_of, running, wait_until


def state(server: Server, name: str = "b1") -> str:
    """Return the state of an instance, or the status of the error."""
    answer = server.call("GET", f"/instance/connectionState/{name}")
    return str(answer.json()["instance"]["state"]) if answer.ok else str(answer.status_code)


def test_the_settings_may_define_an_open_instance() -> None:
    spec = InstanceSpec(
        name="loja",
        token="loja-token",
        number="5511912345678",
        webhook={"enabled": True, "url": "http://127.0.0.1:9/x", "events": []},
    )
    with run_in_thread(create_app(EvolutionSettings(api_key=KEY, instances=(spec,)))) as app:
        server = Server(app.url)
        assert state(server, "loja") == "open"
        [row] = server.get("/instance/fetchInstances?instanceName=loja")
        assert row["ownerJid"] == "5511912345678@s.whatsapp.net"
        assert row["token"] == "loja-token"
        assert len(server.get("/webhook/find/loja")["events"]) == 31


def test_connect_shows_a_qr_and_a_scan_opens_the_instance(server: Server) -> None:
    server.create("b1", "WHATSAPP-BAILEYS")
    assert state(server) == "close"
    shown = server.get("/instance/connect/b1")
    assert shown["base64"].startswith("data:image/png;base64,")
    assert (shown["count"], shown["pairingCode"]) == (1, None)
    assert server.get("/instance/connect/b1")["code"] == shown["code"]
    assert state(server) == "connecting"
    server.control("scan", instance="b1")
    assert state(server) == "open"
    assert server.get("/instance/connect/b1") == {
        "instance": {"instanceName": "b1", "state": "open"}
    }


def test_connect_with_a_number_returns_a_pairing_code(server: Server) -> None:
    server.create("b1", "WHATSAPP-BAILEYS")
    shown = server.get("/instance/connect/b1?number=5511900000777")
    assert len(shown["pairingCode"]) == 8


def test_the_qr_is_renewed_until_its_limit_and_then_refused(hook: Receiver) -> None:
    with running(qr_seconds=0.05, qr_limit=2) as server:
        webhook = {"url": hook.url, "events": ["QRCODE_UPDATED", "CONNECTION_UPDATE"]}
        server.create("b1", "WHATSAPP-BAILEYS", webhook=webhook)
        server.get("/instance/connect/b1")
        hook.wait_for(5)
        assert state(server) == "close"
    codes = [body["data"] for body in hook.bodies("qrcode.updated")]
    assert len({data["qrcode"]["code"] for data in codes if "qrcode" in data}) == 2
    assert {"message": "QR code limit reached, please login again", "statusCode": 500} in codes
    states = {body["data"]["state"] for body in hook.bodies("connection.update")}
    assert states == {"connecting", "refused"}


def test_a_demo_phone_scans_automatically() -> None:
    with running(auto_scan_seconds=0.05) as server:
        server.create("b1", "WHATSAPP-BAILEYS", qrcode=True)
        wait_until(lambda: state(server) == "open")


@pytest.mark.parametrize("code", [428, 515])
def test_a_lost_connection_is_dialed_again_without_a_close(
    server: Server, hook: Receiver, code: int
) -> None:
    server.open_baileys("b1")
    server.set_webhook("b1", hook.url, ["CONNECTION_UPDATE", "STATUS_INSTANCE"])
    server.control("drop", instance="b1", code=code)
    hook.wait_for(2)
    states = [body["data"]["state"] for body in hook.bodies("connection.update")]
    assert sorted(states) == ["connecting", "open"]


def test_a_logout_from_the_phone_closes_the_instance_and_needs_a_new_qr(server: Server) -> None:
    server.open_baileys("b1")
    server.control("drop", instance="b1", code=401)
    assert state(server) == "close"
    [row] = server.get("/instance/fetchInstances")
    assert row["disconnectionReasonCode"] == 401
    assert "code" in server.get("/instance/connect/b1")


def test_a_deleted_instance_exists_until_its_webhook_has_answered(
    server: Server, hook: Receiver
) -> None:
    server.create("e1")
    server.set_webhook("e1", hook.url, [])
    with hook.delayed_answers():
        assert server.call("DELETE", "/instance/delete/e1").ok
        assert state(server, "e1") == "close"
    wait_until(lambda: state(server, "e1") == "404")
    assert {"instance.delete", "remove.instance"} <= {body["event"] for body in hook.bodies()}


def test_a_restart_restores_an_instance_with_a_pending_deletion() -> None:
    with running(webhook_initial_seconds=30.0) as server:
        server.create("e1")
        server.set_webhook("e1", "http://127.0.0.1:9/nobody", [])
        server.call("DELETE", "/instance/delete/e1")
        server.control("restart")
        assert state(server, "e1") == "open"


def test_a_failed_creation_creates_no_instance(server: Server) -> None:
    body = {"instanceName": "e1", "integration": "EVOLUTION", "webhook": {"url": "http://x"}}
    assert server.call("POST", "/instance/create", body).status_code == 400
    assert state(server, "e1") == "404"


def test_an_instance_token_gives_access_only_to_its_instance(server: Server) -> None:
    server.create("one")
    server.create("two")
    path = "/instance/connectionState"
    assert server.call("GET", f"{path}/one", key="one-token").status_code == 200
    assert server.call("GET", f"{path}/two", key="one-token").status_code == 401
    assert server.call("GET", f"{path}/ghost", key=None).status_code == 404
    assert server.call("POST", "/instance/create", {}, key="one-token").status_code == 401
    assert server.call("GET", f"{path}/ONE").status_code == 404
    assert server.call("GET", f"{path.upper()}/one/").status_code == 200


FAULTS: list[tuple[dict[str, Any], int, Any]] = [
    (
        {"mode": "status", "status": 401},
        401,
        {"status": 401, "error": "Unauthorized", "response": {"message": "Unauthorized"}},
    ),
    ({"mode": "status", "status": 500, "body": {"any": "thing"}}, 500, {"any": "thing"}),
    ({"mode": "garbage"}, 200, '{"status": "SUCC'),
    ({"mode": "empty", "status": 201}, 201, ""),
]


@pytest.mark.parametrize(("fault", "status", "body"), FAULTS)
def test_faults_apply_to_the_next_requests_of_a_route(
    server: Server, fault: dict[str, Any], status: int, body: Any
) -> None:
    server.create("e1")
    server.control("faults", path="/webhook/find", times=2, **fault)
    for _ in range(2):
        answer = server.call("GET", "/webhook/find/e1")
        assert (answer.status_code, body_of(answer)) == (status, body)
    assert server.get("/webhook/find/e1") is None


def test_a_fault_may_reset_hang_or_delay_a_request(server: Server) -> None:
    server.create("e1")
    server.control("faults", path="/webhook/find", mode="reset")
    with pytest.raises(requests.ConnectionError):
        server.call("GET", "/webhook/find/e1")
    server.control("faults", path="/webhook/find", mode="hang")
    with pytest.raises(requests.ReadTimeout):
        server.call("GET", "/webhook/find/e1", timeout=0.5)
    server.control("faults", path="/webhook/find", mode="slow", seconds=0.05)
    assert server.get("/webhook/find/e1") is None


def test_a_fault_may_apply_after_the_request_was_processed(server: Server) -> None:
    server.create("e1")
    server.control("faults", path="/webhook/set", method="POST", mode="reset", after=True)
    body = {"webhook": {"enabled": True, "url": "http://x", "events": ["CALL"]}}
    with pytest.raises(requests.ConnectionError):
        server.call("POST", "/webhook/set/e1", body)
    assert server.get("/webhook/find/e1")["events"] == ["CALL"]


def test_a_fault_may_skip_requests_and_apply_to_one_instance(server: Server) -> None:
    for name in ("one", "two"):
        server.create(name)
    fault = {"path": "/webhook/find", "mode": "status", "status": 503, "instance": "two"}
    server.control("faults", skip=1, **fault)
    path = "/webhook/find"
    statuses = [server.call("GET", f"{path}/{name}").status_code for name in ("one", "two", "two")]
    assert statuses == [200, 200, 503]
    assert server.call("DELETE", "/_control/faults").ok
    assert server.ledger("faults") == []


def test_a_restart_resets_pending_requests_and_rejects_others_while_down(server: Server) -> None:
    server.create("e1")
    server.control("restart", downtime_seconds=1.5)
    with pytest.raises(requests.ConnectionError):
        server.call("GET", "/webhook/find/e1")

    def answers() -> bool:
        try:
            return server.call("GET", "/webhook/find/e1").ok
        except requests.ConnectionError:
            return False

    wait_until(answers)


def test_recorded_requests_have_method_path_and_body(server: Server) -> None:
    server.create("e1")
    server.set_websocket("e1", ["CALL"])
    last = server.ledger("requests")[-1]
    assert (last["method"], last["path"]) == ("POST", "/websocket/set/e1")
    assert last["body"] == {"websocket": {"enabled": True, "events": ["CALL"]}}
    assert server.call("DELETE", "/_control/requests").ok
    assert server.ledger("requests") == []


def test_the_event_ledger_can_be_queried(server: Server) -> None:
    server.open_baileys("b1")
    server.control("settings", message_secrets=False)
    for number in range(3):
        server.control("inbound", instance="b1", id=f"M{number}", text=str(number))
    wait_until(lambda: server.ledger("events", message_id="M2"))
    [first, *rest] = server.ledger("events", event="messages.upsert", payload="1")
    assert first["data"]["message"] == {"conversation": "0"}
    after = server.ledger("events", event="messages.upsert", after=str(first["id"]))
    assert [entry["message_id"] for entry in after] == [e["message_id"] for e in rest]
    assert len(server.ledger("events", limit="1")) == 1
    assert server.call("DELETE", "/_control/events").ok
    assert server.ledger("events") == []


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("scan", {"instance": "ghost"}),
        ("scan", {"instance": "b1"}),
        ("drop", {"instance": "e1"}),
        ("faults", {"path": "/x"}),
        ("faults", {"path": "/x", "mode": "fire"}),
        ("inbound", {"instance": "b1", "kind": "smell"}),
        ("inbound", {"instance": "b1", "kind": "edit"}),
        ("event", {"instance": "b1"}),
        ("flood", {"instance": "b1", "count": 0, "per_second": 1}),
        ("settings", {"instances": []}),
        ("settings", {"ack_delays": "fast"}),
        ("settings", {"nonsense": 1}),
    ],
)
def test_invalid_control_requests_are_rejected(
    server: Server, endpoint: str, body: dict[str, Any]
) -> None:
    server.open_baileys("b1")
    server.create("e1")
    answer = server.call("POST", f"/_control/{endpoint}", body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_settings_can_be_changed_at_run_time(server: Server) -> None:
    changes = {"ack_delays": [0.5, 1], "webhook_not_retried": [404], "websocket_enabled": False}
    changed = server.control("settings", **changes)
    assert changed["ack_delays"] == [0.5, 1.0]
    assert changed["webhook_not_retried"] == [404]
    assert changed["websocket_enabled"] is False
