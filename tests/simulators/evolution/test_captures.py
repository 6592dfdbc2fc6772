"""The simulator answers recorded requests like the real server, except for ids and times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .support import (
    KEY,
    Receiver,
    Replay,
    Server,
    capture,
    differences,
    receiver,
    running,
    wait_until,
)

RECORDED_HOOK = "http://127.0.0.1:8099"
RECORDED_BAILEYS_HOOK = "http://127.0.0.1:8095"
GRAPH_ERRORS = {
    "5511999990000": {
        "message": "(#131030) Recipient phone number not in allowed list",
        "type": "OAuthException",
        "code": 131030,
        "error_data": {
            "messaging_product": "whatsapp",
            "details": "Recipient phone number not in allowed list",
        },
        "fbtrace_id": "Axxxxxxxxxx",
    },
    "5511999990001": {
        "message": "Invalid OAuth access token - Cannot parse access token",
        "type": "OAuthException",
        "code": 190,
        "fbtrace_id": "Axxxxxxxxxx",
    },
}

KNOWN = {
    "01": {"fetchInstances global": "the database returns the rows in no fixed order"},
    "02": {"set: url over 500 chars": "the real text quotes minified source"},
    "03": {
        "raw handshake EIO=4&transport=polling": "a new session id",
        "raw handshake EIO=4&transport=polling&apikey=bad": "a new session id",
    },
    "04": {
        "evoS findChats": "the order of chats is not fixed",
        "bizS findChats": "the order of chats is not fixed",
    },
    "08": {
        "findStatusMessage": "the stub of WhatsApp sent more acks",
        "sendText group": "the simulated group has one member",
        "sendMedia image": "pictures are not resized",
        "sendSticker": "stickers are not resized",
        "fetchInstances after logout": "other messages were counted",
    },
    "09": {
        "business send, Graph host unreachable": "the simulator has no Graph API",
        "getBase64FromMediaMessage by message": "BUSINESS inbound is not simulated",
    },
    "10": {},
    "12": {},
}
"""Responses that may differ, with the reason."""


def replayed(
    number: str,
    *,
    between: Callable[[Server, Any], None] = lambda server, entry: None,
    recorded_hook: str = RECORDED_HOOK,
    **changes: Any,
) -> list[str]:
    """Return the differences over a whole capture."""
    found: list[str] = []
    settings = {"ack_delays": (), "server_url": "http://127.0.0.1:8080", **changes}
    with running(**settings) as server, receiver() as hook:
        replay = Replay(server, hook.url, recorded_hook=recorded_hook)
        for entry in capture(number):
            between(server, entry)
            if "request" not in entry:
                continue
            differing = replay.differences(entry)
            if entry["label"] not in KNOWN[number]:
                found += differing
    return found


def test_instances_auth_and_errors_answer_as_recorded() -> None:
    assert replayed("01") == []


def test_webhook_and_websocket_settings_answer_as_recorded() -> None:
    assert replayed("02") == []


def test_websocket_settings_and_raw_handshakes_answer_as_recorded() -> None:
    assert replayed("03") == []


def test_sends_chat_settings_and_calls_answer_as_recorded() -> None:
    assert replayed("04", business_errors=GRAPH_ERRORS) == []


def test_the_baileys_channel_answers_as_recorded() -> None:
    def between(server: Server, entry: Any) -> None:
        label = entry["label"]
        if label == "after scan (open): webhooks" or label == "open again: webhooks":
            server.control("scan", instance="b1", number="5511900000777", name="Fake Bot")
        elif label.startswith("logged out from the phone"):
            server.control("drop", instance="b1", code=401)
        elif label in ("state", "after restart: webhooks"):
            wait_until(lambda: state_of(server, "b1") != "connecting")

    found = replayed(
        "08",
        between=between,
        recorded_hook=RECORDED_BAILEYS_HOOK,
        not_on_whatsapp=("5511900000000",),
        on_whatsapp_cache=("5511988887777",),
    )
    assert found == []


def state_of(server: Server, name: str) -> str:
    instances = server.ledger("instances")["instances"]
    return instances[name]["state"] if name in instances else "gone"


def test_never_connected_and_connecting_instances_answer_as_recorded() -> None:
    assert replayed("09") == []


def test_requests_to_deleted_instances_are_answered_as_recorded() -> None:
    """The name is in use directly after the delete and free a little later."""

    def between(server: Server, entry: Any) -> None:
        if entry["label"].endswith("state later"):
            wait_until(lambda: state_of(server, "race1") == "gone")

    # Long enough to still exist at the next request, even on a busy machine.
    assert replayed("10", between=between, delete_seconds=1.5) == []


def test_an_instance_whose_webhook_fails_is_not_deleted_as_recorded() -> None:
    with running(webhook_initial_seconds=30.0) as server:
        # Nothing listens on port 9 (discard).
        replay = Replay(server, "http://127.0.0.1:9", recorded_hook=RECORDED_HOOK)
        found = []
        for entry in capture("12"):
            if "delw" in str(entry.get("request")):
                found += replay.differences(entry)
    assert found == []


def hooks_after(label: str, number: str) -> list[Any]:
    """Return the recorded deliveries of an entry, oldest first."""
    for entry in capture(number):
        if entry["label"] == label:
            return sorted(entry["delivered"], key=lambda one: one.get("t", 0))
    raise LookupError(label)


@pytest.mark.parametrize(
    ("label", "more"),
    [
        ("byevents on", {"byEvents": True, "base64": True, "events": ["MESSAGES_UPSERT"]}),
        ("with headers", {"headers": {"X-Secret": "s3", "jwt_key": "signing-secret"}}),
        ("re-enabled", {}),
    ],
)
def test_webhooks_arrive_as_recorded(
    server: Server, hook: Receiver, label: str, more: dict[str, Any]
) -> None:
    server.create("wh1", number="5511900000101")
    options = {"events": ["MESSAGES_UPSERT"], **more}
    server.set_webhook("wh1", f"{hook.url}/hook/wh1", **options)
    [injected] = [e for e in capture("02") if e["label"] == f"inject {label}"]
    server.post("/webhook/evolution", injected["request"]["body"])
    [got] = wait_until(lambda: hook.received)
    [recorded] = hooks_after(f"hooks after {label}", "02")
    assert got["path"] == recorded["path"]
    names = {name.lower() for name, _ in recorded["headers"]}
    assert set(got["headers"]) == names
    for name, value in recorded["headers"]:
        if name not in ("Host", "Content-Length", "Authorization"):
            assert got["headers"][name.lower()] == value
    expected = {**recorded["body"], "destination": f"{hook.url}/hook/wh1"}
    assert differences(expected, got["body"]) == []


def test_an_evolution_message_is_followed_by_contact_and_chat_as_recorded(
    server: Server, hook: Receiver
) -> None:
    server.create("wh1", number="5511900000101")
    known = {"numberId": "5511900000101", "messageType": "conversation", "pushName": "Ana"}
    key = {"remoteJid": "5511988887777@s.whatsapp.net", "fromMe": False}
    message = {"conversation": "first"}
    server.post("/webhook/evolution", {**known, "key": {**key, "id": "1"}, "message": message})
    server.set_webhook("wh1", f"{hook.url}/hook/wh1", [])
    [injected] = [e for e in capture("02") if e["label"] == "inject all events"]
    server.post("/webhook/evolution", injected["request"]["body"])
    recorded = hooks_after("hooks after all events", "02")
    wait_until(lambda: len(hook.received) == len(recorded))
    for delivery in recorded:
        [body] = hook.bodies(delivery["body"]["event"])
        expected = {**delivery["body"], "destination": f"{hook.url}/hook/wh1"}
        assert differences(expected, body) == []


INBOUND: dict[str, dict[str, Any]] = {
    "in text: webhooks": {"id": "3A0001", "text": "oi"},
    "in same id again: webhooks": {"id": "3A0001", "text": "oi"},
    "in extendedText + quoted: webhooks": {
        "id": "3A0002",
        "text": "reply",
        "quoted_id": "3EB06D57A7ACD2A4BAD4AA",
        "quoted_participant": "5511900000777@s.whatsapp.net",
        "quoted_text": "hello",
    },
    "in fromMe (sent from the phone): webhooks": {
        "id": "3A0005",
        "text": "from phone",
        "from_me": True,
    },
    "in append (offline/history): webhooks": {"id": "3A0006", "text": "appended"},
    "in lid: webhooks": {"id": "3A0007", "text": "lid", "lid": "99988877766655"},
    "in group: webhooks": {
        "id": "3A0008",
        "text": "group msg",
        "group": "120363025246125486@g.us",
    },
    "in image: webhooks": {"id": "3A0009", "kind": "image", "caption": "foto"},
    "in reaction: webhooks": {
        "id": "3A0011",
        "kind": "reaction",
        "target": "3EB06D57A7ACD2A4BAD4AA",
        "target_jid": "5511988887777@s.whatsapp.net",
    },
    "in location: webhooks": {"id": "3A0012", "kind": "location"},
    "in buttons reply: webhooks": {"id": "3A0019", "kind": "buttons_reply", "text": "Yes"},
    "in list reply: webhooks": {"id": "3A0020", "kind": "list_reply", "text": "R"},
    "in edited (protocolMessage): webhooks": {
        "kind": "edit",
        "target": "3A0001",
        "text": "oi editado",
    },
    "in revoke (protocolMessage type 0): webhooks": {"kind": "revoke", "target": "3A0002"},
    "call offer in (webhook): webhooks": {"kind": "call", "id": "CALLID1"},
}
MEDIA_VALUES = ("url", "directPath", "height", "width", "fileLength", "messageContextInfo")


def without_media_values(payload: Any) -> Any:
    """Return a payload without file-specific values (and one field of WhatsApp itself)."""
    if isinstance(payload, dict):
        return {
            name: without_media_values(value)
            for name, value in payload.items()
            if name not in MEDIA_VALUES
        }
    return payload


def test_inbound_baileys_events_arrive_as_recorded(server: Server, hook: Receiver) -> None:
    server.open_baileys("b1")
    # The senders of the captures were stubs without message secrets.
    server.control("settings", server_url="http://127.0.0.1:8081", message_secrets=False)
    server.set_webhook("b1", f"{hook.url}/hook/b1", [])
    found = []
    for label, command in INBOUND.items():
        hook.received.clear()
        server.control("inbound", instance="b1", timestamp=1795300000, **command)
        recorded = hooks_after(label, "08")
        hook.wait_for(len(recorded))
        for payload in recorded:
            expected = {**payload, "destination": f"{hook.url}/hook/b1"}
            bodies = hook.bodies(payload["event"])
            if not bodies:
                found.append(f"{label}: no {payload['event']}")
                continue
            expected, simulated = without_media_values(expected), without_media_values(bodies[0])
            found += [f"{label}: {text}" for text in differences(expected, simulated)]
    assert found == []


def test_a_send_is_followed_by_the_recorded_events(hook: Receiver) -> None:
    with running(ack_delays=(0.05, 0.1), server_url="http://127.0.0.1:8081") as server:
        server.open_baileys("b1")
        server.set_webhook("b1", f"{hook.url}/hook/b1", [])
        server.post("/message/sendText/b1", {"number": "5511988887777", "text": "hello"})
        recorded = hooks_after("sendText (stub acks 2 then 3): webhooks", "08")
        # The stub had no READ, which is the third ack here.
        wait_until(lambda: len(hook.received) >= len(recorded))
    simulated = hook.bodies()[: len(recorded)]
    assert [body["event"] for body in simulated] == [body["event"] for body in recorded]
    for expected, body in zip(recorded, simulated, strict=True):
        expected = {**expected, "destination": f"{hook.url}/hook/b1"}
        assert differences(expected, body) == []


def test_connecting_and_logging_out_emit_the_recorded_events(
    server: Server, hook: Receiver
) -> None:
    server.control("settings", server_url="http://127.0.0.1:8081")
    webhook = {"url": f"{hook.url}/hook/b1", "events": []}
    server.create("b1", "WHATSAPP-BAILEYS", qrcode=False, webhook=webhook)
    steps: list[tuple[str, Callable[[], Any]]] = [
        (
            "after connect (connecting, qrcode): webhooks",
            lambda: server.get("/instance/connect/b1"),
        ),
        (
            "after scan (open): webhooks",
            lambda: server.control("scan", instance="b1", name="Fake Bot"),
        ),
        (
            "connection lost 428 (reconnects by itself): webhooks",
            lambda: server.control("drop", instance="b1", code=428),
        ),
        (
            "logged out from the phone (401): webhooks",
            lambda: server.control("drop", instance="b1", code=401),
        ),
        (
            "after connect again: webhooks",
            lambda: server.get("/instance/connect/b1"),
        ),
        ("open again: webhooks", lambda: server.control("scan", instance="b1")),
        (
            "after logout by API: webhooks",
            lambda: server.call("DELETE", "/instance/logout/b1"),
        ),
    ]
    wait_until(lambda: hook.received)
    for label, step in steps:
        hook.received.clear()
        step()
        recorded = hooks_after(label, "08")
        hook.wait_for(len(recorded))
        simulated = {(b["event"], str(b["data"])[:60]): b for b in hook.bodies()}
        assert len(simulated) == len(recorded), label
        unmatched = sorted(recorded, key=lambda b: (b["event"], str(b["data"])[:60]))
        for expected, (_, body) in zip(unmatched, sorted(simulated.items()), strict=True):
            expected = {**expected, "destination": f"{hook.url}/hook/b1"}
            assert [
                text for text in differences(expected, body) if "disconnectionObject" not in text
            ] == [], label


def test_fetching_all_instances_returns_each_row_as_recorded() -> None:
    [recorded] = [e for e in capture("01") if e["label"] == "fetchInstances global"]
    with running() as server, receiver() as hook:
        replay = Replay(server, hook.url, recorded_hook=RECORDED_HOOK)
        for entry in capture("01"):
            if entry["label"] == "fetchInstances global":
                break
            if entry["request"]["path"] == "/instance/create" and entry["response"]["status"] < 300:
                replay.differences(entry)
        rows = server.call("GET", "/instance/fetchInstances", key=KEY).json()
    by_name = {row["name"]: row for row in rows}
    for row in recorded["response"]["body"]:
        assert differences(row, by_name[row["name"]]) == []
