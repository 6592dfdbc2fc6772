"""The Evolution API client, on recorded exchanges and over the wire."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from django.utils import translation

from channels_app.providers.base import Accepted, Quote, Rejected, SendError, Transient, Unknown
from channels_app.providers.evolution.client import (
    EvolutionProvider,
    object_request,
    read_answer,
    request_body,
)
from channels_app.providers.evolution.errors import error_message
from core import http_client
from simulators.base import RunningApp, run_in_thread
from simulators.evolution.app import EvolutionSimulator
from simulators.evolution.model import EvolutionSettings, InstanceSpec
from tests import FIXTURES_DIR
from tests.channels_app.conftest import (
    EVOLUTION_KEY,
    IMPATIENT,
    INSTANCE,
    ORDINARY,
    RawServer,
    Script,
    baileys,
    in_english,
    respond,
    text_message,
)
from tests.factories import evolution_provider

Start = Callable[[Script], RawServer]
FOLDER = FIXTURES_DIR / "evolution"
SENDS = "04_send_chat_settings_call"
BAILEYS = "08_baileys_channel_with_stubbed_whatsapp_socket"
EXTRAS = "09_extras"


def exchanges(file: str) -> list[dict[str, Any]]:
    items = json.loads((FOLDER / f"{file}.json").read_text())
    return [item for item in items if "response" in item]


def recorded(file: str, label: str) -> http_client.Answer:
    matching = next(item for item in exchanges(file) if item["label"] == label)
    return answer(matching["response"]["status"], matching["response"]["body"])


def answer(status: int, body: Any) -> http_client.Answer:
    return http_client.Answer(
        status, {}, body if isinstance(body, bytes) else json.dumps(body).encode()
    )


def ending(status_answer: http_client.Answer, **options: Any) -> SendError:
    with pytest.raises(SendError) as caught:
        read_answer(status_answer, **options)
    return caught.value


# -- recorded -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [SENDS, BAILEYS, EXTRAS])
def test_every_recorded_send_with_a_key_is_accepted_with_its_id(file: str) -> None:
    matching = [
        item
        for item in exchanges(file)
        if item["request"]["path"].startswith("/message/sendText")
        and "key" in (item["response"]["body"] or {})
    ]
    assert matching
    for item in matching:
        body = item["response"]["body"]
        assert read_answer(answer(item["response"]["status"], body)) == Accepted(
            body["key"]["id"], body["key"]["remoteJid"]
        )


def test_no_recorded_error_is_accepted() -> None:
    refused = [
        item
        for file in (SENDS, BAILEYS, EXTRAS, "01_instances_auth_errors")
        for item in exchanges(file)
        if item["response"]["status"] >= 400
    ]
    assert len(refused) > 40
    for item in refused:
        error = ending(answer(item["response"]["status"], item["response"]["body"]))
        assert error.code


@pytest.mark.parametrize(
    ("file", "label", "kind", "code", "detail"),
    [
        (BAILEYS, "sendText not on WhatsApp", Rejected, "not_on_whatsapp",
         "5511900000000: not on WhatsApp"),
        (BAILEYS, "send while close", Transient, "instance_not_connected",
         "TypeError: Cannot read properties of undefined (reading 'sendMessage')"),
        (BAILEYS, "send while connecting", Transient, "instance_not_connected",
         "Error: Connection Closed"),
        (BAILEYS, "send after logged out", Transient, "instance_not_connected",
         "Error: Connection Closed"),
        (BAILEYS, "sendTemplate", Unknown, "server_error",
         "Method not available in the Baileys service"),
        (EXTRAS, "baileys never connected: sendText, number not in the onWhatsapp cache", Transient,
         "instance_not_connected", "Cannot read properties of undefined (reading 'onWhatsApp')"),
        (EXTRAS, "baileys connecting: sendText", Transient, "instance_not_connected",
         "Connection Closed"),
        (EXTRAS, "business send, Graph host unreachable", Unknown, "server_error",
         "TypeError: Cannot read properties of undefined (reading 'message')"),
        (SENDS, "evoS sendText v1 body", Rejected, "refused_request",
         'instance requires property "text"'),
        (SENDS, "evoS sendText number as int", Rejected, "refused_request", "Invalid format"),
        (SENDS, "evoS sendSticker", Rejected, "refused_request",
         "Method not available on Evolution Channel"),
        (SENDS, "send on unknown instance", Rejected, "instance_missing",
         'The "ghost" instance does not exist'),
        (SENDS, "send with wrong key", Rejected, "wrong_key", "Unauthorized"),
        (SENDS, "bizS sendText not allowed recipient (graph 400 with error_data)", Rejected,
         "131030", "(#131030) Recipient phone number not in allowed list"),
        (SENDS, "bizS sendText bad token (graph 401 without error_data)", Rejected, "190",
         "Invalid OAuth access token - Cannot parse access token"),
        ("01_instances_auth_errors", "unknown route", Rejected, "wrong_address",
         "Cannot GET /nope/x"),
        ("01_instances_auth_errors", "create: duplicate name", Rejected, "http_403",
         'This name "evo1" is already in use.'),
    ],
)  # fmt: skip
def test_each_recorded_failure_has_the_documented_outcome(
    file: str, label: str, kind: type[SendError], code: str, detail: str
) -> None:
    error = ending(recorded(file, label))
    assert (type(error), error.code, error.detail) == (kind, code, detail)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"response": {"message": ["one"]}}, "one"),
        ({"response": {"message": [["one", "two"]]}}, "one; two"),
        ({"response": {"message": "one"}}, "one"),
        ({"response": {"message": [{"jid": "5@s", "exists": False, "number": "5"}]}},
         "5: not on WhatsApp"),
        ({"response": {"message": [{"jid": "5@s", "exists": False}]}}, "5@s: not on WhatsApp"),
        ({"status": 400, "message": ["unwrapped"]}, "unwrapped"),
        ({"error": "service not activated"}, "service not activated"),
        ({"response": {"message": [{"exists": True}]}, "error": "Bad Request"}, "Bad Request"),
        ({"response": {"message": 5}}, ""),
        ({}, ""),
        ([], ""),
        (None, ""),
    ],
)  # fmt: skip
def test_the_text_of_an_error_is_found_in_every_format(body: object, text: str) -> None:
    assert error_message(body) == text


# -- other responses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (201, b"", Unknown, "unreadable_answer"),
        (201, b'{"key":{"id":', Unknown, "unreadable_answer"),
        (200, b"<html>", Unknown, "unreadable_answer"),
        (201, {}, Unknown, "unreadable_answer"),
        (201, {"key": {}}, Unknown, "unreadable_answer"),
        (201, {"key": {"id": ""}}, Unknown, "unreadable_answer"),
        (201, {"key": "3EB0"}, Unknown, "unreadable_answer"),
        (201, {"code": True}, Unknown, "unreadable_answer"),
        (302, b"", Rejected, "wrong_address"),
        (400, b"<html>", Rejected, "wrong_address"),
        (400, {}, Unknown, "server_error"),
        (400, {"response": {"message": ["PrismaClientKnownRequestError: x"]}}, Unknown,
         "server_error"),
        (400, {"response": {"message": ["Error: Timed Out"]}}, Unknown, "server_error"),
        (400, {"response": {"message": ["Error: Connection Closed by peer"]}}, Unknown,
         "server_error"),
        (403, {"response": {"message": ["Forbidden"]}}, Rejected, "http_403"),
        (404, b"<html>", Rejected, "wrong_address"),
        (413, b"<html>", Rejected, "too_large"),
        (429, b"", Transient, "http_429"),
        (500, b"", Unknown, "server_error"),
        (500, {"response": {"message": "Cannot read properties of null (reading 'onWhatsApp')"}},
         Transient, "instance_not_connected"),
        (500, {"response": {"message": "Timed Out"}}, Unknown, "server_error"),
        (502, {"response": {"message": "Connection Closed"}}, Unknown, "server_error"),
        (503, {"error": "service not activated", "code": "LICENSE_REQUIRED"}, Rejected,
         "license_required"),
        (503, b"<html>", Unknown, "server_error"),
    ],
)  # fmt: skip
def test_each_other_response_is_interpreted_conservatively(
    status: int, body: Any, kind: type[SendError], code: str
) -> None:
    error = ending(answer(status, body))
    assert (type(error), error.code, error.http_status) == (kind, code, status)


def test_the_key_is_not_revealed() -> None:
    body = {"response": {"message": f"bad key {EVOLUTION_KEY}"}}
    assert ending(answer(401, body), secrets=(EVOLUTION_KEY,)).detail == "bad key ***"


# -- requests --------------------------------------------------------------------------------------


def test_a_text_has_the_documented_format() -> None:
    assert request_body(text_message("+55 (11) 98888-7777")) == {
        "number": "5511988887777",
        "text": "Olá",
        "linkPreview": False,
    }


def test_only_whatsapps_own_ids_are_quoted() -> None:
    key = {"id": "3EB0AA", "remoteJid": "5511988887777@s.whatsapp.net", "fromMe": True}
    quote = Quote("3EB0AA", from_us=True, text="Olá")
    # With the content, the server quotes also what it has not stored.
    quoted = {"key": key, "message": {"conversation": "Olá"}}
    assert request_body(text_message(quote=quote))["quoted"] == quoted
    # In a group only the server knows who wrote it.
    to_group = text_message("120363025246125486@g.us", quote=quote)
    assert request_body(to_group)["quoted"] == {"key": {"id": "3EB0AA"}}
    assert "quoted" not in request_body(text_message(quote=Quote("wamid.AA", from_us=False)))


def test_a_location_always_has_the_required_name_and_address() -> None:
    place = {"latitude": -23.5, "longitude": -46.65}
    path, body = object_request(text_message(type="location", text="", content=place))
    assert path == "/message/sendLocation/{instance}"
    assert body == {
        "number": "5511988887777",
        **place,
        "name": "-23.500000, -46.650000",
        "address": "-23.500000, -46.650000",
    }
    location = {**place, "name": "Oficina", "address": "Rua A, 1"}
    _, body = object_request(text_message(type="location", text="", content=location))
    assert (body["name"], body["address"]) == ("Oficina", "Rua A, 1")
    _, body = object_request(
        text_message(type="location", text="", content={**place, "address": "Rua A, 1"})
    )
    assert (body["name"], body["address"]) == ("Rua A, 1", "Rua A, 1")


def test_each_number_of_a_contact_is_a_card() -> None:
    ana = {
        "name": {"formatted_name": "Ana Lima", "first_name": "Ana"},
        "org": {"company": "Oficina"},
        "emails": [{"email": "ana@example.org"}],
        "phones": [
            {"phone": "+55 11 98888-7777", "wa_id": "5511988887777"},
            {"phone": "+55 11 3333-4444"},
            {"phone": "+55 11 3333-4444"},
        ],
    }
    bob = {"name": {"first_name": "Bob"}, "phones": [{"wa_id": "5511977776666"}]}
    more = {"organization": "Oficina", "email": "ana@example.org"}
    cards = [
        {"fullName": "Ana Lima", "phoneNumber": "+55 11 98888-7777", "wuid": "5511988887777"},
        {"fullName": "Ana Lima", "phoneNumber": "+55 11 3333-4444", "wuid": "551133334444"},
    ]
    for content in ([ana, bob], {"contacts": [ana, bob]}):
        path, body = object_request(text_message(type="contacts", text="", content=content))
        assert path == "/message/sendContact/{instance}"
        assert body["contact"] == [
            *({**card, **more} for card in cards),
            {"fullName": "Bob", "phoneNumber": "5511977776666", "wuid": "5511977776666"},
        ]


@pytest.mark.parametrize(
    ("type_", "content", "code"),
    [
        ("location", {"latitude": 1}, "invalid_content"),
        ("location", {"latitude": 91, "longitude": 1}, "invalid_content"),
        ("location", None, "invalid_content"),
        ("contacts", [], "invalid_content"),
        ("contacts", [{"name": {"formatted_name": "Ana"}}], "unsupported_type"),
        ("contacts", [{"name": "Ana", "phones": [{"phone": "190"}]}], "unsupported_type"),
        ("contacts", ["x"], "unsupported_type"),
    ],
)
def test_an_object_not_supported_by_evolution_is_rejected(
    type_: str, content: Any, code: str
) -> None:
    with pytest.raises(Rejected) as caught:
        object_request(text_message(type=type_, text="", content=content))
    assert caught.value.code == code


def test_locations_and_contacts_reach_the_customer(server: Server) -> None:
    place = {"latitude": -23.5, "longitude": -46.65}
    card = [{"name": {"formatted_name": "Ana"}, "phones": [{"phone": "+55 11 98888-7777"}]}]
    to = server.simulator.example(server.simulator.scenarios["ok"])
    for type_, content in (("location", place), ("contacts", card)):
        message = text_message(to, type=type_, text="", content=content)
        assert server.provider().send(message).provider_message_id
    sent = [entry.route for entry in server.simulator.engine.books.sent]
    assert sent == ["sendlocation", "sendcontact"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"to": ""}, "invalid_recipient"),
        ({"text": ""}, "invalid_content"),
        ({"type": "image", "content": {"link": "x"}}, "unsupported_type"),
        ({"type": "template", "content": {"name": "x"}}, "unsupported_type"),
    ],
)
def test_an_unsendable_message_is_rejected(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(Rejected) as caught:
        request_body(text_message(**fields))
    assert caught.value.code == code


# -- over the wire --------------------------------------------------------------------------------


@dataclasses.dataclass
class Server:
    simulator: EvolutionSimulator
    app: RunningApp

    def provider(self, **fields: Any) -> EvolutionProvider:
        return evolution_provider(baileys(self.app.url, **fields))

    def send(self, scenario: str = "ok", **fields: Any) -> Accepted:
        to = self.simulator.example(self.simulator.scenarios[scenario])
        return self.provider(**fields).send(text_message(to))


@pytest.fixture
def server() -> Iterator[Server]:
    simulator = EvolutionSimulator(
        EvolutionSettings(
            api_key=EVOLUTION_KEY,
            instances=(InstanceSpec(INSTANCE), InstanceSpec("new", open=False)),
            ack_delays=(),
            slow_seconds=0.1,
        )
    )
    with run_in_thread(simulator.application()) as app:
        yield Server(simulator, app)


def test_a_message_is_sent_to_the_instance(server: Server) -> None:
    accepted = server.provider().send(text_message(ORDINARY))
    (entry,) = server.simulator.book.entries
    assert (entry.id, entry.text, entry.sender) == (accepted.provider_message_id, "Olá", INSTANCE)
    assert accepted.recipient_id == "5511988887777@s.whatsapp.net"
    (request,) = server.simulator.requests
    assert request["path"] == f"/message/sendText/{INSTANCE}"
    assert request["headers"]["apikey"] == EVOLUTION_KEY


@pytest.mark.parametrize(
    "name", ["ok", "pending_lost", "ack_error", "ack_one_only", "ninth_digit", "slow"]
)
def test_a_message_taken_by_the_simulated_server_is_accepted(server: Server, name: str) -> None:
    assert server.send(name).provider_message_id


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("not_on_whatsapp", Rejected, "not_on_whatsapp"),
        ("error_delivered", Unknown, "server_error"),
        ("error_lost", Unknown, "server_error"),
        ("hang_lost", Unknown, "timeout"),
        ("hang_delivered", Unknown, "timeout"),
        ("reset_before", Unknown, "connection_broken"),
        ("reset_after", Unknown, "connection_broken"),
        ("html_502", Unknown, "server_error"),
        ("html_200", Unknown, "unreadable_answer"),
        ("empty", Unknown, "unreadable_answer"),
        ("not_json", Unknown, "unreadable_answer"),
        ("closed", Transient, "instance_not_connected"),
        ("closed_cached", Transient, "instance_not_connected"),
    ],
)
def test_each_scenario_of_the_simulated_server_has_the_documented_outcome(
    server: Server, name: str, kind: type[SendError], code: str
) -> None:
    with pytest.raises(SendError) as caught:
        server.send(name, request_timeout_seconds=IMPATIENT if code == "timeout" else 3)
    assert (type(caught.value), caught.value.code) == (kind, code)


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        ({"evolution_api_key": "wrong"}, Rejected, "wrong_key"),
        ({"instance_name": "ghost"}, Rejected, "instance_missing"),
        ({"instance_name": "new"}, Transient, "instance_not_connected"),
        ({"instance_name": ""}, Rejected, "not_configured"),
        ({"evolution_api_key": ""}, Rejected, "not_configured"),
        ({"evolution_url": ""}, Rejected, "not_configured"),
        ({"evolution_url": "http://[::1"}, Rejected, "invalid_address"),
    ],
)
def test_each_wrong_setting_has_its_own_code(
    server: Server, fields: dict[str, Any], kind: type[SendError], code: str
) -> None:
    with pytest.raises(SendError) as caught:
        server.send(**fields)
    assert (type(caught.value), caught.value.code) == (kind, code)


def test_a_server_that_refuses_the_connection_is_transient(dead_url: str) -> None:
    with pytest.raises(Transient) as caught:
        evolution_provider(baileys(dead_url)).send(text_message())
    assert caught.value.code == "connection_refused"


# -- connection test -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "ok", "said"),
    [
        ({}, True, "Connected to WhatsApp."),
        ({"instance_name": "new"}, False, "Not connected: link the phone by QR code."),
        ({"instance_name": "ghost"}, False, "The instance does not exist"),
        ({"evolution_api_key": "wrong"}, False, "The provider rejected the key"),
        ({"instance_name": ""}, False, "The connection is not configured"),
    ],
)
def test_the_check_reports_the_problem(
    server: Server, fields: dict[str, Any], ok: bool, said: str
) -> None:
    with translation.override("en"):
        report = server.provider(**fields).check()
    assert (report.ok, in_english(report)) == (ok, said)


def test_the_check_reports_a_connecting_instance(server: Server) -> None:
    requests.get(
        f"{server.app.url}/instance/connect/new", headers={"apikey": EVOLUTION_KEY}, timeout=10
    ).raise_for_status()
    report = server.provider(instance_name="new").check()
    assert (report.ok, report.details["state"]) == (False, "connecting")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"<html>", "200 OK", "different server"),
        (b'{"instance":{"state":5}}', "200 OK", "different server"),
        (b'{"instance":{"state":"refused"}}', "200 OK", "refused"),
        (b'{"code":"LICENSE_REQUIRED"}', "503 No", "license"),
        (b"<html>", "404 No", "different server"),
        (b"<html>", "502 No", "failed"),
        (b"", "302 Found", "different server"),
    ],
)
def test_the_check_handles_any_response(
    raw_server: Start, body: bytes, status: str, said: str
) -> None:
    http_server = raw_server(lambda conn, n: respond(conn, body, status=status))
    with translation.override("en"):
        report = evolution_provider(baileys(http_server.url)).check()
    assert not report.ok
    assert said in in_english(report)


def test_the_check_reports_an_unreachable_server(dead_url: str) -> None:
    with translation.override("en"):
        report = evolution_provider(baileys(dead_url)).check()
    assert (report.ok, in_english(report)) == (False, "The server refused the connection")
