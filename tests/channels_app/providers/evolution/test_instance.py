"""The lifecycle client of an instance, on recorded exchanges: its requests and results."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from channels_app.incidents.reason_text import describe_failure
from channels_app.models import EvolutionCredentials
from channels_app.providers.evolution.instance import (
    EvolutionLifecycle,
    Link,
    Row,
    digits_of,
    picture_address,
    read_link,
    read_row,
)
from channels_app.providers.evolution.receive_mode import EvolutionFailed
from simulators.base import run_in_thread
from tests import FIXTURES_DIR

FOLDER = FIXTURES_DIR / "evolution"
AUTH = "01_instances_auth_errors"
BAILEYS = "08_baileys_channel_with_stubbed_whatsapp_socket"
EXTRAS = "09_extras"
RACES = "10_races_and_misc"
DELETES = "12_delete_waits_for_webhook"


def exchange(file: str, label: str, nth: int = 0) -> dict[str, Any]:
    items = json.loads((FOLDER / f"{file}.json").read_text())
    matching = [item for item in items if item["label"] == label and "response" in item]
    return matching[nth]  # type: ignore[no-any-return]


class Replay:
    """Responds with one recorded exchange, and stores the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.response: dict[str, Any] = {}
        self.asked: list[tuple[str, str, Any, str | None]] = []

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        body = json.loads(text) if text else None
        self.asked.append((request.method, request.raw_path, body, request.headers.get("apikey")))
        body = self.response["body"]
        return web.Response(
            status=self.response["status"],
            text="" if body is None else json.dumps(body),
            content_type=self.response["content_type"].partition(";")[0],
        )


@pytest.fixture
def replay() -> Iterator[Replay]:
    server = Replay()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    with run_in_thread(app) as running:
        server.url = running.url
        yield server


def client_of(replay: Replay, recorded: dict[str, Any], name: str) -> EvolutionLifecycle:
    replay.response = recorded["response"]
    key = recorded["request"]["headers"].get("apikey", "testkey")
    return EvolutionLifecycle(EvolutionCredentials(url=replay.url, api_key=key, instance_name=name))


def asked_as(replay: Replay, recorded: dict[str, Any]) -> None:
    """Assert that the client made only the recorded request."""
    [(method, path, _, key)] = replay.asked
    request = recorded["request"]
    assert (method, path) == (request["method"], request["path"])
    assert key == request["headers"]["apikey"]


QR = Link(qr="2@ZmFrZS1yZWYtMC0xNzk1MzAxOTA0MzIw,noiseKey=,identityKey=,advSecret=")
Use = Callable[[EvolutionLifecycle], Any]


@pytest.mark.parametrize(
    ("file", "label", "name", "use", "result"),
    [
        (BAILEYS, "state", "b1", EvolutionLifecycle.state, "close"),
        (BAILEYS, "state open", "b1", EvolutionLifecycle.state, "open"),
        (BAILEYS, "connect", "b1", EvolutionLifecycle.connect, QR),
        (BAILEYS, "connect again while connecting", "b1", EvolutionLifecycle.connect, QR),
        (BAILEYS, "connect while open", "b1", EvolutionLifecycle.connect, Link(is_open=True)),
        (BAILEYS, "restart while close", "b1", EvolutionLifecycle.restart, False),
        (BAILEYS, "restart while open", "b1", EvolutionLifecycle.restart, True),
        (BAILEYS, "logout while close", "b1", EvolutionLifecycle.log_out, False),
        (BAILEYS, "logout by API", "b1", EvolutionLifecycle.log_out, True),
        (EXTRAS, "baileys connecting: logout", "bY", EvolutionLifecycle.log_out, True),
        (BAILEYS, "delete while open", "b1", EvolutionLifecycle.delete, None),
        (DELETES, "delete after disabling", "delw", EvolutionLifecycle.delete, None),
        (AUTH, "connect after logout", "evo6", EvolutionLifecycle.connect, Link()),
    ],
)
def test_recorded_requests_are_sent_and_responses_parsed(
    replay: Replay, file: str, label: str, name: str, use: Use, result: Any
) -> None:
    recorded = exchange(file, label)
    assert use(client_of(replay, recorded, name)) == result
    asked_as(replay, recorded)


def test_a_number_requests_a_pairing_code(replay: Replay) -> None:
    recorded = exchange(BAILEYS, "connect with number: pairing code")
    link = client_of(replay, recorded, "b1").connect(number="5511900000777")
    assert link.pairing_code == "ABCD1234"
    assert link.qr.startswith("2@")
    asked_as(replay, recorded)

    # The server returns none while it is already connecting.
    replay.asked.clear()
    recorded = exchange(BAILEYS, "connect with number (pairing code), already connecting")
    assert client_of(replay, recorded, "b1").connect(number="5511900000777") == QR


def test_the_row_contains_the_account_and_the_last_disconnection_reason(replay: Replay) -> None:
    recorded = exchange(BAILEYS, "fetchInstances")
    linked = client_of(replay, recorded, "b1").row()
    assert linked == Row(
        name="b1",
        integration="WHATSAPP-BAILEYS",
        own_number="5511900000777",
        profile_name="Fake Bot",
        picture_url="https://pps.whatsapp.net/v/t61.24694-24/fake.jpg",
    )
    asked_as(replay, recorded)

    ended = client_of(replay, exchange(BAILEYS, "fetchInstances after logout"), "b1").row()
    assert (ended.ended_with, ended.own_number) == (401, "5511900000777")
    assert ended.ended_at == dt.datetime(2026, 11, 21, 22, 59, 31, 400000, tzinfo=dt.UTC)

    evolution = client_of(replay, exchange(AUTH, "fetchInstances instanceName"), "evo1").row()
    assert not evolution.is_baileys


def test_an_instance_is_created_without_connecting(replay: Replay) -> None:
    client_of(replay, exchange(EXTRAS, "baileys: create"), "bX").create()
    [(method, path, body, _)] = replay.asked
    assert (method, path) == ("POST", "/instance/create")
    assert body == {"instanceName": "bX", "integration": "WHATSAPP-BAILEYS", "qrcode": False}


@pytest.mark.parametrize(
    ("file", "label", "name", "use", "code", "reason"),
    [
        (
            AUTH, "wrong key, unknown instance", "ghost",
            EvolutionLifecycle.state, "instance_missing", "instance_missing",
        ),
        (
            AUTH, "state with other instance key", "evo2",
            EvolutionLifecycle.state, "wrong_key", "wrong_key",
        ),
        (
            AUTH, "fetchInstances unknown", "ghost",
            EvolutionLifecycle.row, "instance_missing", "instance_missing",
        ),
        (
            AUTH, "fetchInstances with instance key, other name", "evo2",
            EvolutionLifecycle.row, "wrong_key", "wrong_key",
        ),
        (
            AUTH, "create: duplicate name", "evo1",
            EvolutionLifecycle.create, "refused", "name_taken",
        ),
        (
            RACES, "0 create right after delete", "race1",
            EvolutionLifecycle.create, "refused", "name_taken",
        ),
        (
            AUTH, "create with instance key", "evoX",
            EvolutionLifecycle.create, "wrong_key", "key_cannot_create",
        ),
        (
            AUTH, "create: no integration", "noint",
            EvolutionLifecycle.create, "refused", "refused_request",
        ),
        (
            AUTH, "delete again", "evo3",
            EvolutionLifecycle.delete, "instance_missing", "instance_missing",
        ),
        (
            AUTH, "restart PUT (v1)", "evo1",
            EvolutionLifecycle.restart, "wrong_address", "wrong_address",
        ),
    ],
)  # fmt: skip
def test_a_recorded_rejection_has_its_code(
    replay: Replay, file: str, label: str, name: str, use: Use, code: str, reason: str
) -> None:
    with pytest.raises(EvolutionFailed) as caught:
        use(client_of(replay, exchange(file, label), name))
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert describe_failure(caught.value)


def test_a_server_without_a_license_is_reported(replay: Replay) -> None:
    body = {"error": "service not activated", "code": "LICENSE_REQUIRED", "register_url": "x"}
    replay.response = {"status": 503, "content_type": "application/json", "body": body}
    credentials = EvolutionCredentials(url=replay.url, api_key="k", instance_name="b1")
    with pytest.raises(EvolutionFailed) as caught:
        EvolutionLifecycle(credentials).state()
    assert caught.value.reason == "license_required"


@pytest.mark.parametrize(
    "answer", [None, [], "x", {}, {"code": 7}, {"code": "x" * 2001}, {"pairingCode": ["a"]}]
)
def test_a_response_without_a_code_yields_none(answer: Any) -> None:
    assert read_link(answer) == Link()


@pytest.mark.parametrize("answer", [None, [], {}, [{"name": "other"}], ["x"], {"name": 1}])
def test_a_row_of_another_instance_is_ignored(answer: Any) -> None:
    with pytest.raises(EvolutionFailed) as caught:
        read_row(answer, "b1")
    assert caught.value.code == "instance_missing"


def test_the_named_one_of_two_instances_with_one_key_is_returned() -> None:
    rows = exchange(RACES, "fetchInstances by that token")["response"]["body"]
    assert [row["name"] for row in rows] == ["tok1", "tok2"]
    assert read_row(rows, "tok2").name == "tok2"


def test_a_number_is_parsed_from_a_jid_with_a_device() -> None:
    assert digits_of("5511900000777:12@s.whatsapp.net") == "5511900000777"


@pytest.mark.parametrize(
    "url",
    [None, 7, "http://pps.whatsapp.net/x", "javascript:x", "https://a b", "https://" + "x" * 500],
)
def test_only_a_plain_https_address_is_accepted_as_a_picture(url: Any) -> None:
    assert picture_address(url) == ""
