"""Sending through Baileys: scenarios by digits, acks, connection errors, media, chat routes."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
import requests

from simulators.base import example_number, only_digits
from simulators.evolution.app import SCENARIOS, describe

from .support import Receiver, Server, listening, running, wait_until

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4"
    "2mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def phone(server: Server) -> Server:
    """Return the server with an open Baileys instance b1."""
    server.open_baileys("b1")
    return server


def number_of(scenario: str) -> str:
    return only_digits(example_number(fallback=SCENARIOS[scenario].digits))


def send(server: Server, number: str, text: str = "oi", **options: Any) -> requests.Response:
    body = {"number": number, "text": text}
    return server.call("POST", "/message/sendText/b1", body, **options)


def sent(server: Server) -> Any:
    """Return the only entry in the ledger of sends."""
    [only] = server.ledger("sent")
    return only


def test_every_scenario_has_unique_digits_and_an_example() -> None:
    digits = [scenario.digits for scenario in SCENARIOS.values()]
    assert len(set(digits)) == len(digits)
    assert all(len(pair) == 2 and pair.isdigit() for pair in digits)
    assert len(describe()) == len(SCENARIOS)


def test_a_number_without_a_scenario_is_delivered_and_read(phone: Server) -> None:
    answer = send(phone, "+55 (11) 98888-7777")
    assert answer.status_code == 201
    body = answer.json()
    assert body["status"] == "PENDING"
    assert body["key"]["remoteJid"] == "5511988887777@s.whatsapp.net"
    wait_until(lambda: len(sent(phone)["acks"]) == 3)
    assert sent(phone)["acks"] == ["SERVER_ACK", "DELIVERY_ACK", "READ"]
    statuses = phone.post("/chat/findStatusMessage/b1", {"where": {"id": body["key"]["id"]}})
    assert [row["status"] for row in statuses] == ["SERVER_ACK", "DELIVERY_ACK", "READ"]
    assert phone.ledger("book")["delivered_by_text"] == {"oi": 1}


@pytest.mark.parametrize(
    ("scenario", "status", "message"),
    [
        ("closed", 500, "Connection Closed"),
        ("closed_cached", 400, ["Error: Connection Closed"]),
        ("error_lost", 500, "Cannot read properties of undefined (reading 'id')"),
        ("error_delivered", 500, "Cannot read properties of undefined (reading 'id')"),
    ],
)
def test_scenarios_that_answer_with_an_error(
    phone: Server, scenario: str, status: int, message: Any
) -> None:
    answer = send(phone, number_of(scenario))
    assert answer.status_code == status
    assert answer.json()["response"]["message"] == message
    assert sent(phone)["delivered"] is SCENARIOS[scenario].delivered


def test_a_number_that_is_not_on_whatsapp(phone: Server) -> None:
    number = number_of("not_on_whatsapp")
    answer = send(phone, number)
    assert answer.status_code == 400
    assert answer.json()["response"]["message"] == [
        {"jid": f"{number}@s.whatsapp.net", "exists": False, "number": number}
    ]
    looked_up = phone.post("/chat/whatsappNumbers/b1", {"numbers": [number, "5511988887777"]})
    assert [row["exists"] for row in looked_up] == [False, True]


@pytest.mark.parametrize("scenario", ["hang_lost", "hang_delivered"])
def test_scenarios_that_never_answer(phone: Server, scenario: str) -> None:
    with pytest.raises(requests.ReadTimeout):
        send(phone, number_of(scenario), timeout=0.5)
    assert sent(phone)["delivered"] is SCENARIOS[scenario].delivered


@pytest.mark.parametrize("scenario", ["reset_before", "reset_after"])
def test_scenarios_that_reset_the_connection(phone: Server, scenario: str) -> None:
    with pytest.raises(requests.ConnectionError):
        send(phone, number_of(scenario))
    assert sent(phone)["delivered"] is SCENARIOS[scenario].delivered


@pytest.mark.parametrize(
    ("scenario", "status", "start"),
    [
        ("html_502", 502, "<html>"),
        ("html_200", 200, "<html>"),
        ("empty", 201, ""),
        ("not_json", 201, '{"key":'),
    ],
)
def test_scenarios_that_answer_with_an_unreadable_body(
    phone: Server, scenario: str, status: int, start: str
) -> None:
    answer = send(phone, number_of(scenario))
    assert answer.status_code == status
    assert answer.text.startswith(start)
    with pytest.raises(ValueError):
        answer.json()
    assert sent(phone)["delivered"] is SCENARIOS[scenario].delivered


@pytest.mark.parametrize(
    ("scenario", "acks"),
    [("ack_error", ["ERROR"]), ("ack_one_only", ["SERVER_ACK"]), ("pending_lost", [])],
)
def test_scenarios_that_are_accepted_and_fail_later(
    phone: Server, scenario: str, acks: list[str]
) -> None:
    answer = send(phone, number_of(scenario))
    assert answer.json()["status"] == "PENDING"
    wait_until(lambda: sent(phone)["acks"] == acks)
    assert sent(phone)["delivered"] is False


def test_the_acks_arrive_before_a_slow_answer(phone: Server, hook: Receiver) -> None:
    phone.set_webhook("b1", hook.url, ["MESSAGES_UPDATE"])
    started = time.monotonic()
    answer = send(phone, number_of("slow"))
    assert time.monotonic() - started >= 0.3
    statuses = {body["data"]["keyId"] for body in hook.bodies("messages.update")}
    assert statuses == {answer.json()["key"]["id"]}


def test_the_ninth_digit_may_be_missing_in_the_answer(phone: Server) -> None:
    number = number_of("ninth_digit")
    jid = send(phone, number).json()["key"]["remoteJid"]
    assert jid == f"{number[:4]}{number[5:]}@s.whatsapp.net"
    # Area codes 31 and above are always registered without it.
    assert send(phone, "5531988887777").json()["key"]["remoteJid"].startswith("553188887777@")


def test_a_script_overrides_the_digits_for_one_recipient(phone: Server) -> None:
    phone.control("script", scenarios=["closed"], recipient="5511988887777")
    assert send(phone, "5511977776666").status_code == 201
    assert send(phone, "5511988887777").status_code == 500
    assert send(phone, "5511988887777").status_code == 201


def test_errors_depend_on_the_socket_state_and_on_known_numbers(server: Server) -> None:
    server.create("b1", "WHATSAPP-BAILEYS")
    assert send(server, "5511911110000").json()["response"]["message"] == (
        "Cannot read properties of undefined (reading 'onWhatsApp')"
    )
    server.get("/instance/connect/b1")
    assert send(server, "5511911110000").json()["response"]["message"] == "Connection Closed"
    server.control("scan", instance="b1")
    assert send(server, "5511911110000").status_code == 201
    server.control("drop", instance="b1", code=401)
    closed = send(server, "5511911110000")
    assert closed.status_code == 400
    assert closed.json()["response"]["message"] == ["Error: Connection Closed"]


def test_a_zombie_reports_open_and_cannot_send(phone: Server) -> None:
    phone.control("drop", instance="b1", zombie=True)
    state = phone.get("/instance/connectionState/b1")
    assert state["instance"]["state"] == "open"
    assert send(phone, "5511911112222").status_code == 500


def test_sending_through_the_api_emits_send_message_and_not_upsert(
    phone: Server, hook: Receiver
) -> None:
    phone.set_webhook("b1", hook.url, ["MESSAGES_UPSERT", "SEND_MESSAGE"])
    answer = send(phone, "5511988887777").json()
    phone.control("inbound", instance="b1", id="END")
    hook.wait_for(2)
    assert hook.bodies("send.message")[0]["data"] == answer
    assert [body["data"]["key"]["id"] for body in hook.bodies("messages.upsert")] == ["END"]


def test_a_sent_picture_can_be_fetched(phone: Server) -> None:
    body = {"number": "5511988887777", "mediatype": "image", "media": PNG, "caption": "c"}
    answer = phone.post("/message/sendMedia/b1", body)
    fetched = phone.post(
        "/chat/getBase64FromMediaMessage/b1", {"message": {"key": {"id": answer["key"]["id"]}}}
    )
    assert fetched["base64"] == PNG
    assert fetched["mediaType"] == "imageMessage"
    assert fetched["caption"] == "c"


def test_an_inbound_picture_can_be_fetched(phone: Server) -> None:
    content = base64.b64encode(b"x" * 100_000).decode()
    command = {"kind": "image", "id": "I1", "base64": content}
    phone.control("inbound", instance="b1", **command)
    wait_until(lambda: phone.ledger("events", message_id="I1"))
    body = {"message": {"key": {"id": "I1"}}}
    assert phone.post("/chat/getBase64FromMediaMessage/b1", body)["base64"] == content
    unknown = phone.call(
        "POST", "/chat/getBase64FromMediaMessage/b1", {"message": {"key": {"id": "no"}}}
    )
    assert unknown.status_code == 400


@pytest.mark.parametrize(
    ("media", "accepted"),
    [
        (PNG, True),
        ("https://example.com/a.png", True),
        ("http://127.0.0.1:9000/a.png", True),
        ("http://localhost:8000/a.png", False),
        ("http://minio:9000/a.png", False),
        (f"data:image/png;base64,{PNG}", False),
    ],
)
def test_media_must_be_raw_base64_or_a_url_with_a_dot(
    phone: Server, media: str, accepted: bool
) -> None:
    body = {"number": "5511988887777", "mediatype": "image", "media": media}
    answer = phone.call("POST", "/message/sendMedia/b1", body)
    assert (answer.status_code == 201) is accepted
    if not accepted:
        message = answer.json()["response"]["message"]
        assert message == ["Owned media must be a url or base64"]


def test_messages_are_returned_in_pages_newest_first(phone: Server) -> None:
    for number in range(5):
        command = {"id": f"M{number}", "timestamp": 1_795_300_000 + number}
        phone.control("inbound", instance="b1", **command)
    where = {"key": {"remoteJid": "5511988887777@s.whatsapp.net"}}
    query = {"where": where, "page": 2, "offset": 2}

    def found() -> Any:
        messages = phone.post("/chat/findMessages/b1", query)["messages"]
        return messages if messages["total"] == 5 else None

    messages = wait_until(found)
    assert (messages["pages"], messages["currentPage"]) == (3, 2)
    assert [record["key"]["id"] for record in messages["records"]] == ["M2", "M1"]


def test_messages_are_filtered_by_time_only_with_both_bounds(phone: Server) -> None:
    for number, second in enumerate((100, 200, 300)):
        command = {"id": f"M{number}", "timestamp": second}
        phone.control("inbound", instance="b1", **command)
    wait_until(lambda: len(phone.ledger("events", event="messages.upsert")) == 3)

    def ids(window: dict[str, str]) -> list[str]:
        body = {"where": {"messageTimestamp": window}}
        records = phone.post("/chat/findMessages/b1", body)["messages"]["records"]
        return [record["key"]["id"] for record in records]

    window = {"gte": "1970-01-01T00:02:30.000Z", "lte": "1970-01-01T00:04:00Z"}
    assert ids(window) == ["M1"]
    assert ids({"gte": window["gte"]}) == ["M2", "M1", "M0"]


def test_a_message_that_was_never_emitted_can_be_found(phone: Server, hook: Receiver) -> None:
    phone.set_webhook("b1", hook.url, ["MESSAGES_UPSERT"])
    phone.control("inbound", instance="b1", id="GAP", emit=False)
    phone.control("inbound", instance="b1", id="END")
    wait_until(lambda: hook.ids() == ["END"])
    records = phone.post("/chat/findMessages/b1")["messages"]["records"]
    assert {record["key"]["id"] for record in records} == {"GAP", "END"}


def test_editing_and_deleting_own_messages_emit_their_events(phone: Server, hook: Receiver) -> None:
    key = send(phone, "5511988887777").json()["key"]
    phone.set_webhook("b1", hook.url, ["SEND_MESSAGE_UPDATE", "MESSAGES_DELETE"])
    edit = {"number": "5511988887777", "key": key, "text": "edited"}
    assert phone.call("POST", "/chat/updateMessage/b1", edit).status_code == 200
    deleted = phone.call("DELETE", "/chat/deleteMessageForEveryone/b1", key)
    assert deleted.status_code == 201
    hook.wait_for(2)
    [update] = hook.bodies("send.message.update")
    [delete] = hook.bodies("messages.delete")
    assert update["data"]["type"] == 14
    assert delete["data"]["key"]["id"] == key["id"]
    assert delete["data"]["id"] != key["id"]


def test_an_update_without_status_is_reported_as_server_ack_even_after_read(
    phone: Server, hook: Receiver
) -> None:
    phone.control("settings", ack_delays=[])
    key = send(phone, "5511988887777").json()["key"]
    phone.set_webhook("b1", hook.url, ["MESSAGES_UPDATE"])
    for status in ("READ", None):
        phone.control("ack", instance="b1", id=key["id"], status=status)
        hook.wait_for(1 if status else 2)
    phone.control("ack", instance="b1", id="unknown", status="READ")
    statuses = [body["data"]["status"] for body in hook.bodies()]
    assert statuses == ["READ", "SERVER_ACK"]


def test_rejected_calls_are_answered_with_the_configured_text(
    phone: Server, hook: Receiver
) -> None:
    flags = dict.fromkeys(
        ("groupsIgnore", "alwaysOnline", "readMessages", "readStatus", "syncFullHistory"), False
    )
    phone.post("/settings/set/b1", {"rejectCall": True, "msgCall": "no calls", **flags})
    phone.set_webhook("b1", hook.url, ["CALL", "MESSAGES_UPSERT"])
    phone.control("inbound", instance="b1", kind="call")
    hook.wait_for(2)
    assert hook.bodies("call")[0]["data"]["status"] == "offer"
    reply = hook.bodies("messages.upsert")[0]["data"]
    assert reply["key"]["fromMe"] is True
    assert reply["message"] == {"conversation": "no calls"}


def test_a_revoke_is_an_edited_event_and_a_delete_is_not(phone: Server, hook: Receiver) -> None:
    phone.set_webhook("b1", hook.url, ["MESSAGES_EDITED", "MESSAGES_DELETE"])
    phone.control("inbound", instance="b1", kind="revoke", target="M1")
    phone.control("inbound", instance="b1", kind="delete", target="M1")
    hook.wait_for(2)
    assert hook.bodies("messages.edited")[0]["data"]["type"] == "REVOKE"
    assert hook.bodies("messages.delete")[0]["data"]["status"] == "DELETED"


def test_a_business_instance_answers_graph_errors_with_201(server: Server) -> None:
    server.create("biz", "WHATSAPP-BUSINESS", number="100000000000001", token="EAAtok")
    body = {"number": number_of("not_on_whatsapp"), "text": "x"}
    answer = server.call("POST", "/message/sendText/biz", body)
    assert answer.status_code == 201
    assert answer.json()["code"] == 131030
    assert "key" not in answer.json()


def test_a_flood_respects_its_rate_and_loses_nothing(phone: Server) -> None:
    phone.set_websocket("b1", ["MESSAGES_UPSERT"])
    phone.control("inbound", instance="b1", id="lost")
    wait_until(lambda: phone.ledger("instances")["namespaces"])
    with listening(phone, "/b1") as listener:
        started = time.monotonic()
        phone.control("flood", instance="b1", count=200, per_second=400, prefix="F")
        wait_until(lambda: len(listener.received) == 200)
        # Never faster than requested; how much slower depends on the machine.
        assert time.monotonic() - started > 0.4
        # The client runs a thread for each message, so the order may change.
        assert sorted(listener.ids()) == [f"F{number:06d}" for number in range(1, 201)]
        [flood] = phone.ledger("floods")
        assert flood["done"] is True


def test_a_delay_blocks_the_call(phone: Server) -> None:
    started = time.monotonic()
    body = {"number": "5511988887777", "text": "typed", "delay": 150}
    phone.post("/message/sendText/b1", body)
    assert time.monotonic() - started >= 0.15


def test_2_3_6_leaves_the_lid_in_remote_jid() -> None:
    for version, server_part in (("2.3.6", "@lid"), ("2.3.7", "@s.whatsapp.net")):
        with running(version=version) as server:
            server.open_baileys("b1")
            ids = server.control("inbound", instance="b1", lid="123456789012345")
        assert ids["key"]["remoteJid"].endswith(server_part)
