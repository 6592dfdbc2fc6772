"""Behavior that differs in Evolution 2.4 (docs/providers/evolution.md §8, §10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from simulators.evolution.app import InstanceSpec

from .support import Server, receiver, running

NAME = "loja"
TO = "5511988887777"


@pytest.fixture
def new_server() -> Iterator[Server]:
    with running(version="2.4.0", instances=(InstanceSpec(NAME),)) as server:
        yield server


def send(server: Server, message_id: str) -> Any:
    body = {"number": TO, "text": "oi", "messageId": message_id}
    return server.post(f"/message/sendText/{NAME}", body)


def test_the_caller_may_set_the_id_and_a_phone_shows_it_once(new_server: Server) -> None:
    for _ in range(2):
        assert send(new_server, "3EB0AAAAAAAAAAAAAAAAAA")["key"]["id"] == "3EB0AAAAAAAAAAAAAAAAAA"
    assert [entry["delivered"] for entry in new_server.ledger("sent")] == [True, False]


def test_an_older_server_generates_its_own_id() -> None:
    with running(instances=(InstanceSpec(NAME),)) as server:
        assert send(server, "3EB0AAAAAAAAAAAAAAAAAA")["key"]["id"] != "3EB0AAAAAAAAAAAAAAAAAA"


def test_a_closed_instance_can_be_logged_out_again(new_server: Server) -> None:
    for _ in range(2):
        assert new_server.call("DELETE", f"/instance/logout/{NAME}").status_code == 200


def test_a_close_with_408_does_not_reconnect(new_server: Server) -> None:
    new_server.control("drop", instance=NAME, code=408)
    answer = new_server.get(f"/instance/connectionState/{NAME}")
    assert answer["instance"]["state"] == "close"
    [row] = new_server.get(f"/instance/fetchInstances?instanceName={NAME}")
    assert row["disconnectionReasonCode"] == 408


def test_without_a_license_only_the_welcome_route_answers() -> None:
    with running(version="2.4.0", licensed=False, instances=(InstanceSpec(NAME),)) as server:
        assert server.get("/")["version"] == "2.4.0"
        answer = server.call("GET", f"/instance/connectionState/{NAME}")
        assert (answer.status_code, answer.json()["code"]) == (503, "LICENSE_REQUIRED")


def test_stored_messages_have_their_lid_and_texts_lose_their_quote(
    new_server: Server,
) -> None:
    with receiver() as hook:
        new_server.set_webhook(NAME, hook.url, ["MESSAGES_UPSERT"])
        command = {"instance": NAME, "lid": "123456789", "from": TO, "quoted_id": "3A1"}
        new_server.control("inbound", **command)
        hook.wait_for(1)
    [entry] = hook.received
    event = entry["body"]
    assert entry["headers"]["x-instance-name"] == NAME
    key = event["data"]["key"]
    assert (key["remoteJid"], key["remoteJidAlt"]) == (f"{TO}@s.whatsapp.net", "123456789@lid")
    # Instead of the quote, it contains the context that every message has.
    assert event["data"]["contextInfo"] == event["data"]["message"]["messageContextInfo"]
    assert "stanzaId" not in event["data"]["contextInfo"]
    [row] = new_server.post(f"/chat/findMessages/{NAME}", {"where": {}})["messages"]["records"]
    assert row["key"]["remoteJid"] == "123456789@lid"


def test_a_stuck_dial_continues_until_a_restart() -> None:
    with running(stuck_dialing=True, instances=(InstanceSpec(NAME, open=False),)) as server:
        assert server.get(f"/instance/connect/{NAME}") == {"count": 0}
        server.control("settings", stuck_dialing=False)
        assert server.get(f"/instance/connect/{NAME}") == {"count": 0}
        server.post(f"/instance/restart/{NAME}", {})
        assert server.get(f"/instance/connect/{NAME}")["code"]
