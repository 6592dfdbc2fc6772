"""Socket.IO: namespaces that do not exist yet, global mode, auth, restarts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
import socketio

from .support import KEY, Listener, Receiver, Server, listening, running, wait_until
from .test_webhooks import inject

NUMBER = "5511900000101"


def subscribe(server: Server, *events: str, name: str = "ws1", number: str = NUMBER) -> None:
    server.create(name, number=number)
    server.set_websocket(name, list(events) or ["MESSAGES_UPSERT"])


def test_a_namespace_does_not_exist_before_the_first_event(server: Server) -> None:
    subscribe(server)
    with pytest.raises(socketio.exceptions.ConnectionError, match="/ws1"):
        Listener(server, "/ws1")
    inject(server, "without clients")
    [event] = server.ledger("events", message_id="without clients", event="messages.upsert")
    assert event["sockets"] == [{"namespace": "/ws1", "clients": 0, "created": True}]
    assert event["reached"] == []
    with listening(server, "/ws1") as listener:
        inject(server, "received")
        wait_until(lambda: listener.ids() == ["received"])


def test_the_rejection_message_is_invalid_namespace(server: Server) -> None:
    rejections: list[Any] = []
    client = socketio.Client(reconnection=False)
    client.on("connect_error", rejections.append, namespace="/ghost")
    with pytest.raises(socketio.exceptions.ConnectionError):
        client.connect(server.url, namespaces=["/ghost"], wait_timeout=5)
    assert rejections == [{"message": "Invalid namespace"}]


def test_creating_with_instance_create_subscribed_creates_the_namespace(server: Server) -> None:
    server.create("ws1", websocket={"enabled": True, "events": ["INSTANCE_CREATE"]})
    with listening(server, "/ws1") as listener:
        assert listener.client.connected


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
def test_every_transport_receives_the_payload_without_destination(
    server: Server, transports: list[str]
) -> None:
    subscribe(server)
    inject(server, "lost")
    with listening(server, "/ws1", transports=transports) as listener:
        inject(server, "received")
        [payload] = wait_until(lambda: listener.events("messages.upsert"))
    assert payload["instance"] == "ws1"
    assert payload["apikey"] == "ws1-token"
    assert "destination" not in payload
    assert "sender" not in payload


def test_clients_stay_connected_after_disabling_and_receive_events_after_enabling(
    server: Server,
) -> None:
    subscribe(server)
    inject(server, "lost")
    with listening(server, "/ws1") as listener:
        server.set_websocket("ws1", [], enabled=False)
        inject(server, "missed")
        with listening(server, "/ws1"):
            assert listener.client.connected
        server.set_websocket("ws1", ["MESSAGES_UPSERT"])
        inject(server, "received")
        wait_until(listener.ids)
    assert listener.ids() == ["received"]


def test_deleting_the_instance_notifies_its_listeners_and_leaves_them_connected(
    server: Server,
) -> None:
    subscribe(server, "INSTANCE_DELETE", "REMOVE_INSTANCE", "MESSAGES_UPSERT")
    inject(server, "lost")
    with listening(server, "/ws1") as listener:
        server.call("DELETE", "/instance/delete/ws1")
        wait_until(lambda: len(listener.received) == 2)
        assert {event for event, _ in listener.received} == {"instance.delete", "remove.instance"}
        with listening(server, "/ws1"):
            assert listener.client.connected


def test_global_mode_emits_every_event_on_the_root_namespace() -> None:
    with running(websocket_global_events=True) as server:
        subscribe(server)
        server.create("ws2", number="5511900000102")
        with listening(server, "/") as listener:
            inject(server, "one")
            inject(server, "two", number="5511900000102")
            wait_until(lambda: len(listener.events("messages.upsert")) == 2)
            instances = [payload["instance"] for payload in listener.events("messages.upsert")]
            assert instances == ["ws1", "ws2"]
            assert listener.events("chats.upsert")
            with listening(server, "/ws1") as instance_listener:
                inject(server, "both")
                wait_until(lambda: instance_listener.ids() == ["both"])
        [event] = server.ledger("events", message_id="both", event="messages.upsert")
        assert [entry["namespace"] for entry in event["sockets"]] == ["/", "/ws1"]


def test_the_root_namespace_receives_nothing_without_global_mode(server: Server) -> None:
    subscribe(server)
    inject(server, "lost")
    with listening(server, "/") as root, listening(server, "/ws1") as instance_listener:
        inject(server, "one")
        wait_until(instance_listener.ids)
        assert root.received == []


def test_groups_update_reaches_only_the_root_namespace() -> None:
    with running(websocket_global_events=True) as server:
        subscribe(server, *[])
        server.set_websocket("ws1", [])
        with listening(server, "/") as root:
            server.control("event", instance="ws1", event="groups.update", data=[])
            wait_until(lambda: root.events("groups.update"))
        [event] = server.ledger("events", event="groups.update")
        assert [entry["namespace"] for entry in event["sockets"]] == ["/"]


@pytest.mark.parametrize(
    ("query", "headers", "status", "body"),
    [
        ("EIO=4&transport=polling", {}, 403, "apiKey is required"),
        ("EIO=4&transport=polling&apikey=bad", {}, 403, "Invalid global token"),
        ("EIO=4&transport=polling", {"apikey": "bad"}, 403, "Invalid global token"),
        ("EIO=4&transport=polling", {"Authorization": f"Bearer {KEY}"}, 403, "apiKey is required"),
        (f"EIO=4&transport=polling&apikey={KEY}", {}, 200, None),
        ("EIO=4&transport=polling", {"apikey": KEY}, 200, None),
        ("EIO=4&transport=polling&apikey=ws1-token", {}, 200, None),
        (f"EIO=3&transport=polling&apikey={KEY}", {}, 400, "Unsupported protocol version"),
    ],
)
def test_other_hosts_than_the_allowed_ones_need_a_key(
    query: str, headers: dict[str, str], status: int, body: str | None
) -> None:
    with running(websocket_allowed_hosts="10.255.255.1") as server:
        subscribe(server)
        url = f"{server.url}/socket.io/?{query}"
        answer = requests.get(url, headers=headers, timeout=5)
        assert answer.status_code == status
        if body is not None:
            code = {403: 4, 400: 5}[status]
            assert answer.json() == {"code": code, "message": body}


def test_any_instances_token_may_listen_to_every_namespace() -> None:
    with running(websocket_allowed_hosts="10.255.255.1") as server:
        subscribe(server)
        server.create("other", number="5511900000999")
        inject(server, "lost")
        headers = {"apikey": "other-token"}
        with listening(server, "/ws1", headers=headers) as listener:
            inject(server, "received")
            wait_until(lambda: listener.ids() == ["received"])


def test_the_handshake_contains_the_ping_settings() -> None:
    with running(ping_interval=25.0, ping_timeout=20.0) as server:
        url = f"{server.url}/socket.io/?EIO=4&transport=polling"
        handshake = json.loads(requests.get(url, timeout=5).text[1:])
    assert handshake["pingInterval"] == 25000
    assert handshake["pingTimeout"] == 20000
    assert handshake["maxPayload"] == 1_000_000
    assert handshake["upgrades"] == ["websocket"]


def test_without_websockets_the_responses_are_empty_and_the_path_is_unknown() -> None:
    with running(websocket_enabled=False) as server:
        server.create("ws1")
        path = "/socket.io/?EIO=4&transport=polling"
        answer = server.call("GET", path)
        assert answer.status_code == 404
        assert answer.json()["response"]["message"] == [f"Cannot GET {path}"]
        body = {"websocket": {"enabled": True, "events": []}}
        stored = server.call("POST", "/websocket/set/ws1", body)
        assert (stored.status_code, stored.text) == (201, "")
        found = server.call("GET", "/websocket/find/ws1")
        assert (found.status_code, found.text) == (200, "")


def test_the_socket_is_served_before_the_webhook(server: Server, hook: Receiver) -> None:
    subscribe(server)
    server.set_webhook("ws1", hook.url, ["MESSAGES_UPSERT"])
    inject(server, "lost")
    with listening(server, "/ws1") as listener:
        inject(server, "both")
        wait_until(lambda: "both" in hook.ids() and listener.ids())

        def reached() -> Any:
            """Return both routes once the webhook's response is in the ledger as well."""
            [event] = server.ledger("events", message_id="both", event="messages.upsert")
            return event["reached"] if len(event["reached"]) == 2 else None

        assert wait_until(reached) == ["socket", "webhook"]


def test_media_bytes_arrive_as_binary_attachments(server: Server) -> None:
    server.open_baileys("b1")
    server.set_websocket("b1", ["MESSAGES_UPSERT"])
    server.control("inbound", instance="b1", id="lost")
    wait_until(lambda: "/b1" in server.ledger("instances")["namespaces"])
    with listening(server, "/b1") as listener:
        server.control("inbound", instance="b1", id="I1", kind="image")
        [payload] = wait_until(lambda: listener.events("messages.upsert"))
    image = payload["data"]["message"]["imageMessage"]
    assert isinstance(image["mediaKey"], bytes)
    assert image["fileLength"]["unsigned"] is True


def test_raw_call_nodes_go_to_sockets_only(server: Server, hook: Receiver) -> None:
    server.open_baileys("b1")
    server.set_websocket("b1", ["CALL"])
    server.set_webhook("b1", hook.url, ["CALL"])
    raw = {"event": "CB:call", "packet": {"tag": "call"}}
    for _ in range(2):
        command = {"instance": "b1", "event": "call", "data": raw, "socket_only": True}
        server.control("event", **command)
    server.control("inbound", instance="b1", kind="call", id="C1")
    [body] = wait_until(hook.bodies)
    assert body["data"]["id"] == "C1"
    assert len(server.ledger("events", event="call")) == 3


def test_a_restart_disconnects_the_clients_and_drops_the_namespaces(server: Server) -> None:
    subscribe(server)
    inject(server, "lost")
    listener = Listener(server, "/ws1")
    server.control("restart")
    wait_until(lambda: not listener.client.connected)
    assert server.ledger("instances")["namespaces"] == []
    with pytest.raises(socketio.exceptions.ConnectionError):
        Listener(server, "/ws1")
    inject(server, "lost as well")
    with listening(server, "/ws1") as reconnected:
        inject(server, "received")
        wait_until(lambda: reconnected.ids() == ["received"])


def test_a_reconnecting_client_misses_the_first_event_after_a_restart(server: Server) -> None:
    subscribe(server)
    inject(server, "lost")
    got: list[str] = []
    client = socketio.Client(reconnection_delay=0.05, reconnection_delay_max=0.1)
    client.on(
        "messages.upsert",
        lambda payload: got.append(payload["data"]["key"]["id"]),
        namespace="/ws1",
    )
    client.connect(server.url, namespaces=["/ws1"], transports=["websocket"])
    try:
        server.control("restart", downtime_seconds=0.2)
        wait_until(lambda: not client.connected)
        wait_until(lambda: is_up(server))
        inject(server, "missed")
        wait_until(lambda: server.ledger("instances")["instances"]["ws1"]["clients"])
        inject(server, "received")
        wait_until(lambda: got)
    finally:
        client.disconnect()
    assert got == ["received"]


def is_up(server: Server) -> bool:
    try:
        return server.call("GET", "/").ok
    except requests.ConnectionError:
        return False


def test_a_paired_phone_reconnects_after_a_restart_and_creates_its_namespace(
    server: Server,
) -> None:
    server.open_baileys("b1")
    server.set_websocket("b1", ["CONNECTION_UPDATE"])
    server.control("restart")
    wait_until(lambda: server.get("/instance/connectionState/b1")["instance"]["state"] == "open")
    with listening(server, "/b1") as listener:
        assert listener.client.connected


def test_an_unknown_session_or_transport_is_reported_like_engine_io(server: Server) -> None:
    base = f"{server.url}/socket.io/?EIO=4"
    unknown = requests.get(f"{base}&transport=polling&sid=nope", timeout=5)
    assert (unknown.status_code, unknown.json()["code"]) == (400, 1)
    transport = requests.get(f"{base}&transport=pigeon", timeout=5)
    assert (transport.status_code, transport.json()["code"]) == (400, 0)


def test_a_fault_can_reject_the_handshake(server: Server) -> None:
    body = {"code": 4, "message": "Invalid global token"}
    server.control("faults", path="/socket.io", mode="status", status=403, body=body)
    with pytest.raises(socketio.exceptions.ConnectionError):
        Listener(server, "/")
    with listening(server, "/") as listener:
        assert listener.client.connected


def test_message_secrets_are_bytes_on_sockets_and_an_index_in_webhooks(
    server: Server, hook: Receiver
) -> None:
    server.open_baileys("b1")
    server.set_websocket("b1", ["MESSAGES_UPSERT"])
    server.set_webhook("b1", hook.url, ["MESSAGES_UPSERT"])
    server.control("inbound", instance="b1", id="lost")
    wait_until(lambda: "/b1" in server.ledger("instances")["namespaces"])
    with listening(server, "/b1") as listener:
        server.control("inbound", instance="b1", id="T1", kind="text")
        [by_socket] = wait_until(lambda: listener.events("messages.upsert"))
    secret = by_socket["data"]["message"]["messageContextInfo"]["messageSecret"]
    assert isinstance(secret, bytes)
    assert len(secret) == 32
    as_index = {str(index): byte for index, byte in enumerate(secret)}
    wait_until(lambda: "T1" in hook.ids())
    by_webhook = next(body for body in hook.bodies() if body["data"]["key"]["id"] == "T1")
    assert by_webhook["data"]["message"]["messageContextInfo"]["messageSecret"] == as_index
    answer = server.post("/chat/findMessages/b1", {"where": {"key": {"id": "T1"}}})
    [record] = answer["messages"]["records"]
    assert record["message"]["messageContextInfo"]["messageSecret"] == as_index


def test_linking_syncs_history_as_one_event_and_as_records(server: Server, hook: Receiver) -> None:
    server.create("b1", integration="WHATSAPP-BAILEYS")
    server.set_webhook("b1", hook.url, ["MESSAGES_SET", "MESSAGES_UPSERT"])
    server.get("/instance/connect/b1")
    server.control("scan", instance="b1", history=4)
    [body] = wait_until(lambda: hook.bodies("messages.set"))
    assert (body["isLatest"], body["progress"], len(body["data"])) == (True, 100, 4)
    synced = [message["key"]["id"] for message in body["data"]]
    assert hook.bodies("messages.upsert") == []
    records = server.post("/chat/findMessages/b1", {"where": {}})["messages"]["records"]
    assert sorted(record["key"]["id"] for record in records) == synced
    # A reconnection syncs no history.
    server.control("drop", instance="b1", code=428)
    wait_until(lambda: server.get("/instance/connectionState/b1")["instance"]["state"] == "open")
    assert len(hook.bodies("messages.set")) == 1
