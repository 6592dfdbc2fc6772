"""The Cloud API client: its requests, and the interpretation of responses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.utils import translation

from channels_app.providers import error_codes
from channels_app.providers.base import Accepted, Quote, Rejected, SendError, Transient, Unknown
from channels_app.providers.cloud.client import read_answer, request_body
from core import http_client
from simulators.base import RunningApp, run_in_thread
from simulators.graph.app import GraphNumber, GraphSettings, GraphSimulator
from tests.channels_app.conftest import (
    IMPATIENT,
    NUMBER_ID,
    ORDINARY,
    TOKEN,
    RawServer,
    Script,
    in_english,
    official,
    respond,
    text_message,
)
from tests.factories import cloud_provider

Start = Callable[[Script], RawServer]


# -- requests --------------------------------------------------------------------------------------


def test_a_text_has_the_documented_format() -> None:
    assert request_body(text_message(quote=Quote("wamid.q", from_us=False))) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+5511988887777",
        "type": "text",
        "text": {"body": "Olá", "preview_url": False},
        "context": {"message_id": "wamid.q"},
        "biz_opaque_callback_data": "m1.1",
    }


def test_a_link_is_previewed_only_on_request() -> None:
    body = request_body(text_message(content={"preview_url": True}))
    assert body["text"] == {"body": "Olá", "preview_url": True}


@pytest.mark.parametrize("to", ["5511988887777", "+55 (11) 98888-7777", "+5511988887777"])
def test_the_number_always_has_a_plus_sign(to: str) -> None:
    assert request_body(text_message(to))["to"] == "+5511988887777"


@pytest.mark.parametrize(
    ("type_", "content"),
    [
        ("image", {"id": "1", "caption": "c"}),
        ("video", {"link": "https://a.example/v.mp4"}),
        ("audio", {"id": "1", "voice": True}),
        ("document", {"id": "1", "filename": "a.pdf"}),
        ("sticker", {"id": "1"}),
        ("location", {"latitude": 37.75, "longitude": -122.42, "name": "HQ"}),
        ("template", {"name": "hello_world", "language": {"code": "en_US"}}),
        ("interactive", {"type": "button", "body": {"text": "?"}, "action": {"buttons": []}}),
    ],
)
def test_every_other_type_is_the_object_named_after_it(type_: str, content: dict[str, Any]) -> None:
    body = request_body(
        text_message(type=type_, text="", content=content, quote=Quote("wamid.q", from_us=False))
    )
    assert (body["type"], body[type_], "text" in body) == (type_, content, False)
    assert body["context"] == {"message_id": "wamid.q"}


def test_contacts_may_be_a_bare_list_or_in_an_object() -> None:
    cards = [{"name": {"formatted_name": "John"}}]
    for content in (cards, {"contacts": cards}):
        message = text_message(type="contacts", text="", content=content)
        assert request_body(message)["contacts"] == cards


def test_empty_optional_texts_of_an_interactive_message_are_left_out() -> None:
    row = {"id": "1", "title": "a"}
    content = {
        "type": "list",
        "body": {"type": "text", "text": "?"},
        "footer": {"text": ""},
        "action": {"button": "b", "sections": [
            {"title": "", "rows": [{**row, "description": ""}]}]},
    }  # fmt: skip
    assert request_body(text_message(type="interactive", content=content))["interactive"] == {
        "type": "list",
        "body": {"text": "?"},
        "action": {"button": "b", "sections": [{"rows": [row]}]},
    }
    assert content["footer"] == {"text": ""}


def test_a_reaction_contains_its_own_message_id() -> None:
    content = {"message_id": "wamid.q", "emoji": "😀"}
    body = request_body(
        text_message(type="reaction", content=content, quote=Quote("wamid.other", from_us=False))
    )
    assert body["reaction"] == content
    assert "context" not in body


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"to": ""}, "invalid_recipient"),
        ({"to": "+"}, "invalid_recipient"),
        ({"text": ""}, "invalid_content"),
        ({"type": "image", "content": {}}, "invalid_content"),
        ({"type": "image", "content": ["x"]}, "invalid_content"),
        ({"type": "contacts", "content": {"contacts": []}}, "invalid_content"),
        ({"type": "contacts", "content": {"contacts": "x"}}, "invalid_content"),
        ({"type": "poll", "content": {"a": 1}}, "unsupported_type"),
        ({"type": "messaging_product"}, "unsupported_type"),
    ],
)
def test_an_unsendable_message_is_rejected_before_any_request(
    fields: dict[str, Any], code: str
) -> None:
    with pytest.raises(Rejected) as caught:
        request_body(text_message(**fields))
    assert caught.value.code == code


# -- interpreting responses ------------------------------------------------------------------------


def answer(status: int, body: Any) -> http_client.Answer:
    return http_client.Answer(
        status, {}, body if isinstance(body, bytes) else json.dumps(body).encode()
    )


def ending(status: int, body: Any, **options: Any) -> SendError:
    with pytest.raises(SendError) as caught:
        read_answer(answer(status, body), **options)
    return caught.value


def test_an_id_is_acceptance() -> None:
    body = {
        "messaging_product": "whatsapp",
        "contacts": [{"input": "+16505551234", "wa_id": "16505551234"}],
        "messages": [{"id": "wamid.HBg", "message_status": "accepted"}],
    }
    assert read_answer(answer(200, body)) == Accepted("wamid.HBg", "16505551234")


@pytest.mark.parametrize("contacts", [None, [], ["x"], [{}], [{"wa_id": 5}], {}])
def test_acceptance_does_not_need_the_contact(contacts: Any) -> None:
    body = {"messages": [{"id": "wamid.a"}], "contacts": contacts}
    assert read_answer(answer(200, body)) == Accepted("wamid.a", None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!DOCTYPE html><html></html>",
        b'{"messages":[{"id":"wam',
        {},
        [],
        {"messages": []},
        {"messages": {}},
        {"messages": ["wamid"]},
        {"messages": [{}]},
        {"messages": [{"id": ""}]},
        {"messages": [{"id": 5}]},
        {"messages": [{"id": "a\x00b"}]},
        {"success": True},
        {"error": "something"},
        {"error": {"message": "no code"}},
    ],
)
def test_a_success_without_a_readable_id_is_unknown(body: Any) -> None:
    error = ending(200, body)
    assert isinstance(error, Unknown)
    assert error.code == "unreadable_answer"


def test_a_rejection_has_code_title_and_details() -> None:
    error = ending(
        400,
        {
            "error": {
                "message": "(#131047) Re-engagement message",
                "type": "OAuthException",
                "code": 131047,
                "error_data": {"messaging_product": "whatsapp", "details": "More than 24 hours"},
                "fbtrace_id": "A",
            }
        },
    )
    assert isinstance(error, Rejected)
    assert (error.code, error.detail, error.http_status) == ("131047", "More than 24 hours", 400)
    assert error.title == "More than 24 hours since the customer's last message"


@pytest.mark.parametrize("code", [1, 2, 4, 80007, 130429, 131000, 131016, 131056, 131057, 133004])
@pytest.mark.parametrize("status", [400, 500])
def test_a_temporary_error_is_transient_with_any_status(code: int, status: int) -> None:
    error = ending(status, {"error": {"message": "m", "code": code}})
    assert isinstance(error, Transient)
    assert (error.code, error.detail) == (str(code), "m")


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500])
def test_a_permanent_error_is_rejected_with_any_status(status: int) -> None:
    error = ending(status, {"error": {"message": "m", "code": 190}})
    assert isinstance(error, Rejected)
    assert error.code == "190"


@pytest.mark.parametrize(
    ("extra", "status", "kind"),
    [
        ({"is_transient": True}, 400, Transient),
        ({"is_transient": False}, 500, Rejected),
        ({"is_transient": "yes"}, 400, Rejected),
        ({}, 500, Transient),
        ({}, 400, Rejected),
    ],
)
def test_an_unknown_code_has_metas_title(
    extra: dict[str, Any], status: int, kind: type[SendError]
) -> None:
    error = ending(status, {"error": {"message": "(#131999) New trouble", "code": 131999, **extra}})
    assert type(error) is kind
    assert (error.code, error.title) == ("131999", "New trouble")


def test_a_code_written_as_text_is_accepted() -> None:
    assert ending(400, {"error": {"code": "131047"}}).code == "131047"


def test_an_unknown_code_without_message_still_has_a_title() -> None:
    assert "131999" in ending(400, {"error": {"code": 131999, "message": 5}}).title


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (301, Rejected, "http_301"),
        (400, Rejected, "http_400"),
        (404, Rejected, "http_404"),
        (429, Transient, "http_429"),
        (500, Unknown, "server_error"),
        (502, Unknown, "server_error"),
        (503, Unknown, "server_error"),
    ],
)
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", {"message": "gateway"}, {"error": {"code": True}}, {"error": {"code": "x"}}],
)
def test_without_a_readable_code_the_status_class_decides(
    status: int, kind: type[SendError], code: str, body: Any
) -> None:
    error = ending(status, body)
    assert type(error) is kind
    assert (error.code, error.http_status) == (code, status)


def test_a_token_quoted_by_meta_is_not_revealed() -> None:
    error = ending(
        401,
        {"error": {"message": f"Malformed access token {TOKEN}", "code": 190}},
        secrets=(TOKEN,),
    )
    assert error.detail == "Malformed access token ***"
    assert TOKEN not in f"{error.title} {error} {error!r}"


# -- over the wire --------------------------------------------------------------------------------


@dataclasses.dataclass
class Graph:
    simulator: GraphSimulator
    app: RunningApp

    def send(self, scenario: str = "ok", **fields: Any) -> Accepted:
        to = self.simulator.example(self.simulator.scenarios[scenario])
        return cloud_provider(official(self.app.url)).send(text_message(to, **fields))


@pytest.fixture
def graph() -> Iterator[Graph]:
    number = GraphNumber(NUMBER_ID, token=TOKEN)
    simulator = GraphSimulator(
        GraphSettings(numbers={NUMBER_ID: number}, status_delay=0, slow_seconds=0.1)
    )
    with run_in_thread(simulator.application()) as app:
        yield Graph(simulator, app)


def test_a_message_is_accepted_and_arrives_with_our_reference(graph: Graph) -> None:
    accepted = graph.send()
    (entry,) = graph.simulator.book.entries
    assert accepted.provider_message_id == entry.id
    assert accepted.recipient_id == entry.to
    assert (entry.text, entry.reference) == ("Olá", "m1.1")
    (request,) = graph.simulator.requests
    assert request["path"] == f"/v25.0/{NUMBER_ID}/messages"
    assert request["headers"]["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "name", [name for name in GraphSimulator.scenarios if name.startswith("refused_1")]
)
def test_every_refusal_of_the_simulated_graph_is_classified_by_its_code(
    graph: Graph, name: str
) -> None:
    code = name.removeprefix("refused_")
    with pytest.raises(SendError) as caught:
        graph.send(name)
    transient = error_codes.lookup(code, None, caught.value.http_status).transient
    assert type(caught.value) is (Transient if transient else Rejected)
    assert caught.value.code == code
    assert not graph.simulator.book.entries


@pytest.mark.parametrize("name", ["unavailable_2", "refused_4", "refused_80007"])
def test_an_outage_or_a_rate_limit_is_transient(graph: Graph, name: str) -> None:
    with pytest.raises(Transient):
        graph.send(name)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("hang_before", "timeout"),
        ("hang_after", "timeout"),
        ("reset_before", "connection_broken"),
        ("reset_after", "connection_broken"),
        ("not_json", "unreadable_answer"),
        ("html_200", "unreadable_answer"),
        ("empty", "unreadable_answer"),
        ("html_502", "server_error"),
        ("error_500", "server_error"),
    ],
)
def test_an_ambiguous_response_is_unknown(graph: Graph, name: str, code: str) -> None:
    patience = IMPATIENT if code == "timeout" else 3
    channel = official(graph.app.url, request_timeout_seconds=patience)
    to = graph.simulator.example(graph.simulator.scenarios[name])
    with pytest.raises(Unknown) as caught:
        cloud_provider(channel).send(text_message(to))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, scenario in GraphSimulator.scenarios.items()
        if scenario.answer in {"accepted", "slow", "after_statuses"} and not scenario.refusal
    ],
)
def test_a_message_that_fails_later_is_accepted_first(graph: Graph, name: str) -> None:
    assert graph.send(name).provider_message_id


def test_a_wrong_token_is_rejected_as_190(graph: Graph) -> None:
    with pytest.raises(Rejected) as caught:
        cloud_provider(official(graph.app.url, access_token="other")).send(text_message())
    assert caught.value.code == "190"


def test_a_server_that_refuses_the_connection_is_transient(dead_url: str) -> None:
    with pytest.raises(Transient) as caught:
        cloud_provider(official(dead_url)).send(text_message())
    assert caught.value.code == "connection_refused"


def test_an_address_or_token_that_cannot_be_used_is_rejected() -> None:
    for channel in (official("http://[::1"), official("http://127.0.0.1:9", access_token="a\nb")):
        with pytest.raises(Rejected) as caught:
            cloud_provider(channel).send(text_message())
        assert caught.value.code == "invalid_address"


@pytest.mark.parametrize("field", ["phone_number_id", "access_token"])
def test_a_channel_without_settings_is_rejected(field: str) -> None:
    provider = cloud_provider(official(**{field: ""}))
    with pytest.raises(Rejected) as caught:
        provider.send(text_message())
    assert caught.value.code == "not_configured"
    assert not provider.check().ok


def test_the_answer_must_be_complete_before_the_channels_timeout(raw_server: Start) -> None:
    server = raw_server(lambda conn, n: conn.recv(1))
    with pytest.raises(Unknown) as caught:
        cloud_provider(official(server.url, request_timeout_seconds=IMPATIENT)).send(text_message())
    assert caught.value.code == "timeout"


def test_neither_metas_text_nor_ours_reveals_the_token(raw_server: Start) -> None:
    body = json.dumps({"error": {"code": 190, "message": f"Bad token {TOKEN}"}}).encode()
    server = raw_server(lambda conn, n: respond(conn, body, status="401 No"))
    provider = cloud_provider(official(server.url))
    with pytest.raises(Rejected) as caught:
        provider.send(text_message())
    report = provider.check()
    assert TOKEN not in f"{caught.value} {caught.value.detail} {report} {provider!r}"


# -- connection test -------------------------------------------------------------------------------


def test_the_check_reports_the_number_and_coexistence(graph: Graph) -> None:
    with translation.override("en"):
        report = cloud_provider(official(graph.app.url)).check()
    assert report.ok
    assert in_english(report) == (
        "+55 11 90000-0001 · Clínica Demo · coexistence with the app; the fallback can use the"
        " same number"
    )
    assert report.details["coexistence"] == "yes"
    assert report.details["quality_rating"] == "GREEN"


def test_the_check_reports_a_cloud_only_number(graph: Graph) -> None:
    graph.simulator.settings.numbers[NUMBER_ID].is_on_biz_app = False
    with translation.override("en"):
        report = cloud_provider(official(graph.app.url)).check()
    assert report.ok
    assert report.details["coexistence"] == "no"
    assert "from another number" in in_english(report)


def test_a_response_without_the_field_leaves_coexistence_unknown(raw_server: Start) -> None:
    server = raw_server(lambda conn, n: respond(conn, b'{"display_phone_number":"+55 11"}'))
    report = cloud_provider(official(server.url)).check()
    assert (report.ok, report.code) == (True, "number_answers")
    assert report.details["coexistence"] == "unknown"


def test_the_check_reports_metas_error(graph: Graph) -> None:
    with translation.override("en"):
        report = cloud_provider(official(graph.app.url, access_token="other")).check()
    assert (report.ok, report.details["code"]) == (False, "190")
    assert in_english(report).startswith("The access token is malformed: enter all of it again")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"<html>", "200 OK", "could not be read"),
        (b"{}", "200 OK", "different server"),
        (b"<html>", "502 Bad", "failed"),
        (b"<html>", "404 No", "404"),
        (b'{"error":{"code":131999,"message":"(#131999) New trouble"}}', "400 No", "New trouble"),
    ],
)
def test_the_check_handles_any_response(
    raw_server: Start, body: bytes, status: str, said: str
) -> None:
    server = raw_server(lambda conn, n: respond(conn, body, status=status))
    with translation.override("en"):
        report = cloud_provider(official(server.url)).check()
    assert not report.ok
    assert said in in_english(report)


def test_the_check_reports_an_unreachable_server(dead_url: str) -> None:
    with translation.override("en"):
        report = cloud_provider(official(dead_url)).check()
    assert (report.ok, in_english(report)) == (False, "The server refused the connection")


def test_the_check_shows_a_number_without_a_name(raw_server: Start) -> None:
    body = b'{"display_phone_number":"+55 11 90000-0001"}'
    server = raw_server(lambda conn, n: respond(conn, body))
    report = cloud_provider(official(server.url)).check()
    assert report.ok
    assert report.details["verified_name"] == ""


def test_a_plain_e164_number_is_used_unchanged(graph: Graph) -> None:
    cloud_provider(official(graph.app.url)).send(text_message(ORDINARY))
    assert graph.simulator.requests[0]["body"]["to"] == ORDINARY
