"""The wwebjs-api client, on recorded exchanges and over the wire."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from django.utils import translation

from channels_app.connections.registry import unguarded
from channels_app.providers.base import (
    Accepted,
    ConnectionReport,
    LookupFailed,
    Quote,
    Rejected,
    SendError,
    Transient,
    Unknown,
)
from channels_app.providers.wwebjs.client import (
    WwebjsProvider,
    quoted_ids,
    reaction_body,
    read_answer,
    read_number_id,
    request_body,
)
from channels_app.providers.wwebjs.ids import short_id
from core import http_client
from core.phone_numbers import other_brazilian_form
from simulators.base import RunningApp, run_in_thread
from simulators.wwebjs.app import WwebjsSettings, WwebjsSimulator
from tests import FIXTURES_DIR
from tests.channels_app.conftest import (
    IMPATIENT,
    ORDINARY,
    SESSION,
    WWEBJS_KEY,
    RawServer,
    Script,
    in_english,
    respond,
    text_message,
    with_wwebjs,
)
from tests.simulators.recorded import Exchange

Start = Callable[[Script], RawServer]
CHAT = "5511988887777@c.us"


def recorded(name: str) -> http_client.Answer:
    exchange = Exchange.read(name)
    return http_client.Answer(exchange.status, {}, exchange.body.encode())


def answer(status: int, body: Any) -> http_client.Answer:
    return http_client.Answer(
        status, {}, body if isinstance(body, bytes) else json.dumps(body).encode()
    )


def ending(read: Callable[[], object]) -> SendError:
    with pytest.raises(SendError) as caught:
        read()
    return caught.value


# -- recorded sends -------------------------------------------------------------------------------


def test_a_recorded_success_gives_the_short_id() -> None:
    for name, short in (
        ("314_send_ok", "3EB01C673D3BBEE53C2664"),
        # While another send of the session hangs, and with callbacks enabled.
        ("357_other_send_while_hanging", "3EB07F3D429AFD308EB0EE"),
        ("504_send_hooked", "3EB00DBCAA58ED49A468E4"),
    ):
        assert read_answer(recorded(name), CHAT) == Accepted(short, CHAT)


def test_a_recorded_success_to_a_lid_returns_the_address_used() -> None:
    accepted = read_answer(recorded("321_send_lid"), "100000000000099@lid")
    assert accepted == Accepted("3EB0F62FE5841EB3191F10", "100000000000099@lid")
    # The two addresses belong to one person.
    pair = read_answer(recorded("321_send_lid"), CHAT)
    assert (pair.recipient_id, pair.lid) == (CHAT, "100000000000099@lid")


@pytest.mark.parametrize("name", ["352_lookup_miss", "353_null_chat", "410_dollar1_send"])
def test_a_recorded_success_without_message_is_accepted_without_id(name: str) -> None:
    assert read_answer(recorded(name), CHAT) == Accepted(None, CHAT)


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("005_send_badkey", Rejected, "wrong_key"),
        ("018_send_unknown", Transient, "session_not_found"),
        ("022_bad_name", Rejected, "invalid_session"),
        ("026_start_noid", Rejected, "wrong_address"),
        ("031_bad_json", Rejected, "refused_request"),
        ("032_send_get", Rejected, "wrong_address"),
        ("037_badkey_badjson", Rejected, "refused_request"),
        ("038_too_large", Rejected, "too_large"),
        ("207_send_unpaired", Transient, "session_not_connected"),
        ("302_send_connected_not_ready", Transient, "session_not_ready"),
        ("322_send_no_suffix", Rejected, "invalid_recipient"),
        ("325_send_no_chatid", Rejected, "invalid_recipient"),
        ("326_send_no_contenttype", Rejected, "refused_request"),
        ("330_send_number_content", Unknown, "server_error"),
        ("333_buttons", Rejected, "refused_request"),
        ("338_contact_missing", Rejected, "refused_request"),
        ("344_media_nodata", Rejected, "refused_request"),
        ("345_media_dataurl", Rejected, "refused_request"),
        ("350_not_registered", Rejected, "not_on_whatsapp"),
        ("351_error_unknown", Rejected, "ack_error"),
        ("355_nowait", Unknown, "only_queued"),
        ("354_minified_r", Unknown, "server_error"),
        ("360_hang_never_acked", Unknown, "server_error"),
        ("361_slow200_protocol_timeout", Unknown, "server_error"),
        ("515_after_page_crash_send", Transient, "session_not_ready"),
        ("532_norecover_crash_send", Transient, "session_check_failed"),
        ("623_after_phone_logout_send", Transient, "session_closed"),
        ("635_send_TIMEOUT", Transient, "session_not_connected"),
        # From a route that we do not use; a rate limit on the others looks the same.
        ("640_ratelimit_localcb_3", Transient, "http_429"),
        ("643_badjson_devmode", Rejected, "refused_request"),
    ],
)
def test_each_recorded_failure_has_the_documented_outcome(
    name: str, kind: type[SendError], code: str
) -> None:
    error = ending(lambda: read_answer(recorded(name), CHAT))
    assert (type(error), error.code) == (kind, code)
    assert error.http_status == recorded(name).status


def test_a_message_queued_in_the_browser_is_identified_by_its_id() -> None:
    error = ending(lambda: read_answer(recorded("355_nowait"), CHAT))
    assert isinstance(error, Unknown)
    assert error.provider_message_id == "3EB04984C98259D64077FE"


LISTS: dict[str, Any] = {
    "384_fetchMessages": [
        ("3EB0A203EE46AD8447B4EA", "vcard", "BEGIN:VCARD"),
        ("3EB00F3BF77B5CB705E28C", "text", "Lembrete ref#abc123"),
    ],
    "415_dollar1_newchat_fetch": [],
    "411_dollar1_fetch": "server_error",
    "018_send_unknown": "session_not_found",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_recorded_list_of_messages_shows_which_were_sent(raw_server: Start, name: str) -> None:
    def script(conn: Any, number: int) -> None:
        response = recorded("374_numid_9_kept" if number == 1 else name)
        respond(conn, response.body, status=f"{response.status} X")

    provider = unguarded(with_wwebjs(raw_server(script).url).wwebjs)
    since = dt.datetime(2026, 11, 21, 22, 50, 48, tzinfo=dt.UTC)
    if isinstance(LISTS[name], str):
        with pytest.raises(LookupFailed) as caught:
            provider.sent_messages("+5511999991234", since=since)
        assert (caught.value.code, caught.value.answered) == (LISTS[name], True)
    else:
        sent = provider.sent_messages("+5511999991234", since=since)
        listed = [(message.id, message.type, message.text.split("\n")[0]) for message in sent]
        assert listed == LISTS[name]


# -- other responses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (200, b"", Unknown, "unreadable_answer"),
        (200, b"<html>", Unknown, "unreadable_answer"),
        (200, b'{"success":tr', Unknown, "unreadable_answer"),
        (200, [], Unknown, "unreadable_answer"),
        (200, {}, Unknown, "unreadable_answer"),
        (200, {"success": False}, Unknown, "unreadable_answer"),
        (200, {"success": "true"}, Unknown, "unreadable_answer"),
        (204, {"success": True}, Unknown, "unreadable_answer"),
        (301, b"", Rejected, "wrong_address"),
        (401, b"", Rejected, "http_401"),
        (403, b"<html>", Rejected, "http_403"),
        (404, {"message": "another program"}, Rejected, "wrong_address"),
        (404, {"success": False}, Transient, "session_check_failed"),
        (404, {"success": False, "error": 5}, Transient, "session_check_failed"),
        (404, {"success": False, "error": "session closed"}, Transient, "session_closed"),
        (429, b"", Transient, "http_429"),
        (500, b"", Unknown, "server_error"),
        (500, {"success": False}, Unknown, "server_error"),
        (500, {"success": False, "error": "Error: No LID for user"}, Rejected, "not_on_whatsapp"),
        (500, {"error": "No LID for user\n at x"}, Rejected, "not_on_whatsapp"),
        (500, {"error": "Oops: No LID for user"}, Unknown, "server_error"),
        (500, {"error": "r: Failed to execute 'atob' on 'Window'"}, Unknown, "server_error"),
        (502, {"error": "No LID for user"}, Unknown, "server_error"),
        (502, b"<html>", Unknown, "server_error"),
        (503, b"", Unknown, "server_error"),
    ],
)
def test_each_other_response_is_interpreted_conservatively(
    status: int, body: Any, kind: type[SendError], code: str
) -> None:
    error = ending(lambda: read_answer(answer(status, body), CHAT))
    assert (type(error), error.code) == (kind, code)


def test_only_the_first_line_of_an_error_is_reported_and_never_the_key() -> None:
    body = {"error": f"boom {WWEBJS_KEY}\nObject.x (https://web.whatsapp.com/:1:1)"}
    error = ending(lambda: read_answer(answer(500, body), CHAT, secrets=(WWEBJS_KEY,)))
    assert error.detail == "boom ***"


GET_CHAT = "Cannot read properties of undefined (reading 'getChat')"
BEFORE_THE_SEND: list[tuple[str, type[SendError], str]] = [
    ("No LID for user", Rejected, "not_on_whatsapp"),
    ("wid error: invalid wid", Rejected, "invalid_recipient"),
    (GET_CHAT, Transient, "session_not_ready"),
    ("Cannot read properties of null (reading 'getChat')", Transient, "session_not_ready"),
    ("Cannot read property 'getChat' of undefined", Transient, "session_not_ready"),
    ("Cannot read properties of undefined (reading 'endsWith')", Rejected, "refused_request"),
    ("Failed to execute 'atob' on 'Window': The string is bad.", Rejected, "refused_request"),
]
PREFIXES = [
    "",
    "Error: ",
    "TypeError: ",
    "Evaluation failed: ",
    "Evaluation failed: TypeError: ",
    "Error: Evaluation failed: Error: ",
    "Uncaught Error: ",
    "Uncaught (in promise) TypeError: ",
    "Protocol error (Runtime.callFunctionOn): ",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("text", "kind", "code"), BEFORE_THE_SEND)
def test_a_prefix_does_not_change_the_outcome_of_an_error(
    prefix: str, text: str, kind: type[SendError], code: str
) -> None:
    body = {"success": False, "error": f"{prefix}{text}\n    at pptr://script:2:46"}
    error = ending(lambda: read_answer(answer(500, body), CHAT))
    assert (type(error), error.code) == (kind, code)
    assert error.detail == f"{prefix}{text}"


def test_the_errors_from_the_field() -> None:
    file = FIXTURES_DIR / "cases" / "wwebjs" / "evaluation-failed.json"
    expected = [(Transient, "session_not_ready"), (Rejected, "not_on_whatsapp")]
    for one, outcome in zip(json.loads(file.read_text())["answers"], expected, strict=True):
        response = answer(one["status"], one["body"])
        error = ending(lambda response=response: read_answer(response, CHAT))
        assert (type(error), error.code) == outcome


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    "text",
    [
        "Cannot read properties of undefined (reading 'getChatById')",
        "Cannot read properties of undefined (reading 'serialize')",
        "No LID for user, but sent",
        "r: No LID for user",
        "Target closed",
        "rate-overlimit",
        "r: r",
        "",
    ],
)
def test_an_ambiguous_error_stays_unknown_with_any_prefix(prefix: str, text: str) -> None:
    body = {"success": False, "error": f"{prefix}{text}"}
    error = ending(lambda: read_answer(answer(500, body), CHAT))
    assert (type(error), error.code) == (Unknown, "server_error")


@pytest.mark.parametrize(
    "error_text", ["rate-overlimit", "Evaluation failed: Error: rate-overlimit"]
)
def test_a_rate_limit_is_transient_if_nothing_was_sent(error_text: str) -> None:
    limited = answer(500, {"success": False, "error": error_text})
    for read, status in (
        (read_number_id, 500),
        (lambda response: read_answer(response, CHAT), 404),
    ):
        response = dataclasses.replace(limited, status=status)
        error = ending(lambda read=read, response=response: read(response))
        assert (type(error), error.code) == (Transient, "rate_overlimit")


@pytest.mark.parametrize(
    ("value", "short"),
    [
        ({"id": "3EB0AA", "_serialized": "true_5511@c.us_3EB0BB"}, "3EB0AA"),
        ({"_serialized": "true_5511@c.us_3EB0BB"}, "3EB0BB"),
        ({"$1": "true_5511@c.us_3EB0CC"}, "3EB0CC"),
        ({"_serialized": "true_120@g.us_3EB0DD_100@lid"}, "3EB0DD"),
        ("true_5511@c.us_3EB0EE", "3EB0EE"),
        ("3EB0FF", "3EB0FF"),
        ({}, None),
        ({"id": 5}, None),
        ({"_serialized": "true_x_"}, None),
        (None, None),
        (5, None),
    ],
)
def test_the_short_id_is_parsed_in_every_format(value: object, short: str | None) -> None:
    assert short_id(value) == short


def test_a_message_with_an_unreadable_id_is_accepted_without_one() -> None:
    body = {"success": True, "message": {"ack": 1, "id": []}}
    assert read_answer(answer(200, body), CHAT) == Accepted(None, CHAT)


# -- the look-up ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "chat_id"),
    [
        ("374_numid_9_kept", "5511999991234@c.us"),
        ("375_numid_9_dropped", "553199991234@c.us"),
        ("376_numid_null", None),
    ],
)
def test_recorded_look_ups_return_the_chat_id(name: str, chat_id: str | None) -> None:
    assert read_number_id(recorded(name)) == chat_id


def test_a_look_up_without_the_serialized_id_builds_it() -> None:
    for result in ({"user": "5511", "server": "c.us"}, {"$1": "5511@c.us"}):
        assert read_number_id(answer(200, {"success": True, "result": result})) == "5511@c.us"


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (200, {"success": True}, Transient, "lookup_failed"),
        (200, {"success": True, "result": True}, Transient, "lookup_failed"),
        (200, {"success": False}, Transient, "lookup_failed"),
        (200, b"<html>", Rejected, "wrong_address"),
        (200, b"", Rejected, "wrong_address"),
        (302, b"", Rejected, "wrong_address"),
        (403, {"success": False, "error": "Invalid API key"}, Rejected, "wrong_key"),
        (404, {"success": False, "error": "session_not_found"}, Transient, "session_not_found"),
        (404, b"<html>", Rejected, "wrong_address"),
        (422, {"success": False, "error": "x"}, Rejected, "invalid_session"),
        (429, b"", Transient, "http_429"),
        (500, {"success": False, "error": "r"}, Transient, "lookup_failed"),
        (500, {"error": "wid error: invalid wid"}, Rejected, "invalid_recipient"),
        (502, b"<html>", Transient, "lookup_failed"),
    ],
)
def test_a_failed_look_up_is_never_an_unknown_outcome(
    status: int, body: Any, kind: type[SendError], code: str
) -> None:
    error = ending(lambda: read_number_id(answer(status, body)))
    assert (type(error), error.code) == (kind, code)


@pytest.mark.parametrize(
    ("digits", "other"),
    [
        ("5531999991234", "553199991234"),
        ("553199991234", "5531999991234"),
        ("553131234567", None),  # a landline
        ("5531899991234", None),
        ("16505551234", None),
        ("351912345678", None),
    ],
)
def test_the_other_brazilian_form_is_only_for_mobile_numbers(
    digits: str, other: str | None
) -> None:
    assert other_brazilian_form(digits) == other


# -- requests --------------------------------------------------------------------------------------


def test_a_text_does_not_mark_the_chat_as_read_nor_fetch_links() -> None:
    assert request_body(text_message(quote=Quote("wamid.x", from_us=False))) == {
        "contentType": "string",
        "content": "Olá",
        "options": {"sendSeen": False, "linkPreview": False, "parseVCards": False},
    }
    shown = request_body(text_message(content={"preview_url": True}))
    assert shown["options"]["linkPreview"] is True


@pytest.mark.parametrize(
    ("quote", "lid", "expected"),
    [
        (Quote("3EB0AA", from_us=False), "", [f"false_{CHAT}_3EB0AA"]),
        (Quote("3EB0AA", from_us=True), "", [f"true_{CHAT}_3EB0AA"]),
        # Newer accounts have their chats under the hidden ID.
        (Quote("3EB0AA", from_us=False), "9@lid", ["false_9@lid_3EB0AA", f"false_{CHAT}_3EB0AA"]),
        # The chat that was reported with the message takes precedence.
        (Quote("3EB0AA", from_us=False, chat="7@lid"), "",
         ["false_7@lid_3EB0AA", f"false_{CHAT}_3EB0AA"]),
        (Quote("3EB0AA", from_us=False, chat=CHAT), CHAT, [f"false_{CHAT}_3EB0AA"]),
        # No ID that the page could misparse, and no ID of the Cloud API.
        (Quote("3EB0_AA", from_us=False), "", []),
        (Quote("wamid.AA", from_us=False), "", []),
        (None, "9@lid", []),
    ],
)  # fmt: skip
def test_a_quote_is_looked_for_in_every_chat_that_may_have_it(
    quote: Quote | None, lid: str, expected: list[str]
) -> None:
    assert quoted_ids(quote, chat_id=CHAT, lid=lid) == expected


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"content": {"emoji": "👍"}}, "target_unknown"),
        ({"content": {"emoji": "👍"}, "quote": Quote("wamid.AA", from_us=False)}, "target_unknown"),
        ({"content": {"emoji": 1}, "quote": Quote("3EB0AA", from_us=False)}, "invalid_content"),
    ],
)
def test_a_reaction_needs_a_message_that_the_session_knows(
    fields: dict[str, Any], code: str
) -> None:
    with pytest.raises(Rejected) as caught:
        reaction_body(text_message(type="reaction", **fields))
    assert caught.value.code == code


def test_a_location_has_its_name_in_an_object() -> None:
    content = {"latitude": -23.5, "longitude": -46.6, "name": "Clínica", "address": "Rua X, 1"}
    body = request_body(text_message(type="location", text="", content=content))
    assert (body["contentType"], body["content"]) == (
        "Location",
        {
            "latitude": -23.5,
            "longitude": -46.6,
            "description": {"name": "Clínica", "address": "Rua X, 1"},
        },
    )
    bare = request_body(text_message(type="location", content={"latitude": 1, "longitude": 2}))
    assert bare["content"] == {"latitude": 1, "longitude": 2}


@pytest.mark.parametrize(
    ("name", "phones", "lines"),
    [
        (
            {"formatted_name": "Ana\nda, Loja"},
            [{"phone": "+55 11 97777-6666"}],
            ["N:;Ana da\\, Loja;;;", "FN:Ana da\\, Loja",
             "TEL;type=CELL;waid=5511977776666:+55 11 97777-6666"],
        ),
        (
            None,
            [{"wa_id": "5511977776666"}, {"phone": "11 3333-4444", "wa_id": "551133334444"}],
            ["N:;+5511977776666;;;", "FN:+5511977776666",
             "TEL;type=CELL;waid=5511977776666:+5511977776666",
             "TEL;type=CELL;waid=551133334444:11 3333-4444"],
        ),
    ],
)  # fmt: skip
def test_a_contact_is_sent_as_a_card_with_its_name(
    name: Any, phones: list[dict[str, str]], lines: list[str]
) -> None:
    cards: Any = [{"name": name, "phones": phones}]
    for content in (cards, {"contacts": cards}):
        body = request_body(text_message(type="contacts", text="", content=content))
        assert body["contentType"] == "string"
        assert "parseVCards" not in body["options"]
        card = body["content"].splitlines()
        assert card == ["BEGIN:VCARD", "VERSION:3.0", *lines, "END:VCARD"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"text": ""}, "invalid_content"),
        *(
            ({"type": type_, "content": {"a": 1}}, "unsupported_type")
            for type_ in (
                "template", "interactive", "image", "video", "audio", "document",
                "sticker", "location", "contacts", "anything",
            )
        ),
        ({"type": "contacts", "content": {"contacts": [{}, {}]}}, "unsupported_type"),
        ({"type": "contacts", "content": {"contacts": ["x"]}}, "unsupported_type"),
        ({"type": "contacts", "content": [{"phones": [{"phone": ""}]}]}, "unsupported_type"),
        ({"type": "contacts", "content": [{"phones": ["x"]}]}, "unsupported_type"),
        ({"type": "contacts", "content": [{"phones": [{}, {}]}]}, "unsupported_type"),
    ],
)  # fmt: skip
def test_a_message_not_supported_by_the_server_is_rejected(
    fields: dict[str, Any], code: str
) -> None:
    assert ending(lambda: request_body(text_message(**fields))).code == code


# -- over the wire --------------------------------------------------------------------------------


@dataclasses.dataclass
class Server:
    simulator: WwebjsSimulator
    app: RunningApp

    def provider(self, **fields: Any) -> WwebjsProvider:
        return unguarded(with_wwebjs(self.app.url, **fields).wwebjs)

    def send(self, scenario: str = "ok", **fields: Any) -> Accepted:
        to = self.simulator.example(self.simulator.scenarios[scenario])
        return self.provider(**fields).send(text_message(to))

    def steer(self, action: str) -> None:
        requests.post(
            f"{self.app.url}/_control/sessions/{SESSION}", json={"action": action}, timeout=5
        ).raise_for_status()

    def asked(self) -> list[tuple[str, Any]]:
        return [(request["path"], request["body"]) for request in tuple(self.simulator.requests)]


@pytest.fixture
def server() -> Iterator[Server]:
    simulator = WwebjsSimulator(
        WwebjsSettings(
            api_key=WWEBJS_KEY,
            ready_sessions=(SESSION,),
            send_seconds=0,
            ack_delay=0,
            protocol_timeout=2 * IMPATIENT,
            late_delivery_seconds=0.1,
        )
    )
    with run_in_thread(simulator.application()) as app:
        yield Server(simulator, app)


def test_a_message_is_looked_up_and_then_sent(server: Server) -> None:
    accepted = server.provider().send(text_message(ORDINARY))
    (entry,) = server.simulator.book.entries
    assert (entry.text, entry.delivered) == ("Olá", True)
    assert accepted.provider_message_id
    assert accepted.provider_message_id.startswith("3EB0")
    assert accepted.recipient_id == CHAT
    assert server.asked() == [
        (f"/client/getNumberId/{SESSION}", {"number": "5511988887777"}),
        (
            f"/client/sendMessage/{SESSION}",
            {
                "chatId": CHAT,
                "contentType": "string",
                "content": "Olá",
                "options": {"sendSeen": False, "linkPreview": False, "parseVCards": False},
            },
        ),
    ]
    assert server.simulator.requests[0]["headers"]["x-api-key"] == WWEBJS_KEY


def test_the_message_is_sent_to_the_form_known_to_whatsapp(server: Server) -> None:
    accepted = server.send("ninth_digit")
    assert accepted.recipient_id
    assert len(accepted.recipient_id.split("@")[0]) == 12
    assert server.simulator.book.entries[-1].delivered


def test_a_number_known_only_in_its_other_form_is_found_with_one_more_look_up(
    raw_server: Start,
) -> None:
    results = iter([b"null", b'{"_serialized":"553199991234@c.us"}'])

    def script(conn: Any, number: int) -> None:
        sending = b"" if number > 2 else next(results)
        respond(conn, b'{"success":true%s}' % (b',"result":' + sending if sending else b""))

    http_server = raw_server(script)
    accepted = unguarded(with_wwebjs(http_server.url).wwebjs).send(text_message("+5531999991234"))
    assert accepted == Accepted(None, "553199991234@c.us")
    assert [json.loads(r.body).get("number") for r in http_server.requests] == [
        "5531999991234",
        "553199991234",
        None,
    ]


def test_a_number_unknown_in_both_forms_is_not_on_whatsapp_and_nothing_is_sent(
    server: Server,
) -> None:
    with pytest.raises(Rejected) as caught:
        server.send("not_on_whatsapp")
    assert caught.value.code == "not_on_whatsapp"
    assert [path for path, _ in server.asked()] == [f"/client/getNumberId/{SESSION}"] * 2


def test_a_number_without_another_form_is_looked_up_once(raw_server: Start) -> None:
    http_server = raw_server(lambda conn, n: respond(conn, b'{"success":true,"result":null}'))
    with pytest.raises(Rejected) as caught:
        unguarded(with_wwebjs(http_server.url).wwebjs).send(text_message("+16505551234"))
    assert (caught.value.code, len(http_server.requests)) == ("not_on_whatsapp", 1)


@pytest.mark.parametrize(
    "name",
    [
        "ok", "bare_delivered", "bare_lost", "dollar_id", "lid_remote", "ack_one_only",
        "ninth_digit",
    ],
)  # fmt: skip
def test_a_message_taken_by_the_simulated_server_is_accepted(server: Server, name: str) -> None:
    accepted = server.send(name)
    assert (accepted.provider_message_id is None) is name.startswith("bare")
    if accepted.provider_message_id:
        assert accepted.provider_message_id == server.simulator.book.entries[-1].id.split("_")[-1]


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("ack_error", Rejected, "ack_error"),
        ("queued", Unknown, "only_queued"),
        ("target_closed_delivered", Unknown, "server_error"),
        ("serialize_delivered", Unknown, "server_error"),
        ("get_chat", Transient, "session_not_ready"),
        ("invalid_wid", Rejected, "invalid_recipient"),
        ("minified_lost", Unknown, "server_error"),
        ("hang_lost", Unknown, "timeout"),
        ("hang_delivered", Unknown, "timeout"),
        ("late_delivery", Unknown, "timeout"),
        ("reset_before", Unknown, "connection_broken"),
        ("reset_after", Unknown, "connection_broken"),
        ("html_502", Unknown, "server_error"),
        ("html_200", Unknown, "unreadable_answer"),
        ("empty", Unknown, "unreadable_answer"),
        ("not_json", Unknown, "unreadable_answer"),
        ("session_not_found", Transient, "session_not_found"),
        ("session_not_connected", Transient, "session_not_connected"),
        ("browser_tab_closed", Transient, "session_closed"),
        ("rate_limited_lookup", Transient, "rate_overlimit"),
        ("rate_limited_send", Unknown, "server_error"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "Evaluation failed: Error: "])
def test_each_scenario_of_the_simulated_server_has_the_documented_outcome(
    server: Server, name: str, kind: type[SendError], code: str, prefix: str
) -> None:
    server.simulator.settings.error_prefix = prefix
    with pytest.raises(SendError) as caught:
        server.send(name, request_timeout_seconds=IMPATIENT if code == "timeout" else 3)
    assert (type(caught.value), caught.value.code) == (kind, code)


def test_a_session_check_timeout_is_certainly_not_sent(server: Server) -> None:
    with pytest.raises(Transient) as caught:
        server.send("session_timeout", request_timeout_seconds=5)
    assert caught.value.code == "session_check_failed"
    assert caught.value.detail.startswith("Runtime.callFunctionOn timed out")


def test_a_wrong_key_is_rejected_at_the_look_up(server: Server) -> None:
    with pytest.raises(Rejected) as caught:
        server.send(wwebjs_api_key="wrong")
    assert caught.value.code == "wrong_key"
    assert not server.simulator.book.entries


def test_a_missing_session_is_transient(server: Server) -> None:
    with pytest.raises(Transient) as caught:
        server.send(wwebjs_session_id="other")
    assert caught.value.code == "session_not_found"


def test_a_server_that_refuses_the_connection_is_transient(dead_url: str) -> None:
    with pytest.raises(Transient) as caught:
        unguarded(with_wwebjs(dead_url).wwebjs).send(text_message())
    assert caught.value.code == "connection_refused"


def test_a_server_that_dies_between_look_up_and_send_is_transient(
    raw_server: Start, dead_url: str
) -> None:
    def script(conn: Any, number: int) -> None:
        provider._base = dead_url
        respond(conn, b'{"success":true,"result":{"_serialized":"5511988887777@c.us"}}')

    provider = unguarded(with_wwebjs(raw_server(script).url).wwebjs)
    with pytest.raises(Transient) as caught:
        provider.send(text_message())
    assert caught.value.code == "connection_refused"


def test_an_invalid_address_is_rejected() -> None:
    with pytest.raises(Rejected) as caught:
        unguarded(with_wwebjs("http://[::1").wwebjs).send(text_message())
    assert caught.value.code == "invalid_address"


@pytest.mark.parametrize("failure", ["silent", "reset"])
def test_a_look_up_without_a_response_is_transient(raw_server: Start, failure: str) -> None:
    http_server = raw_server(lambda conn, n: conn.recv(1) if failure == "silent" else "close")
    with pytest.raises(Transient) as caught:
        unguarded(with_wwebjs(http_server.url, request_timeout_seconds=IMPATIENT).wwebjs).send(
            text_message()
        )
    assert caught.value.code == "lookup_failed"


@pytest.mark.parametrize("field", ["wwebjs_url", "wwebjs_session_id"])
def test_a_channel_without_settings_is_rejected(field: str) -> None:
    provider = unguarded(with_wwebjs("http://127.0.0.1:1", **{field: ""}).wwebjs)
    with pytest.raises(Rejected) as caught:
        provider.send(text_message())
    assert caught.value.code == "not_configured"
    assert provider.check().details["state"] == "not_configured"


def test_a_message_without_a_number_is_rejected_without_a_request(server: Server) -> None:
    with pytest.raises(Rejected) as caught:
        server.provider().send(text_message(""))
    assert caught.value.code == "invalid_recipient"
    assert server.asked() == []


def test_a_server_without_a_key_gets_no_header(server: Server) -> None:
    server.simulator.settings.api_key = ""
    server.send(wwebjs_api_key="")
    assert "x-api-key" not in server.simulator.requests[0]["headers"]


def test_the_address_may_have_a_path(server: Server) -> None:
    server.simulator.settings.base_path = "/wa"
    provider = unguarded(with_wwebjs(f"{server.app.url}/wa/").wwebjs)
    assert provider.send(text_message(ORDINARY)).provider_message_id


# -- connection test -------------------------------------------------------------------------------


def check(server: Server, **fields: Any) -> ConnectionReport:
    with translation.override("en"):
        return server.provider(**fields).check()


def test_the_check_reports_ready_and_the_number(server: Server) -> None:
    report = check(server)
    assert report.ok
    assert in_english(report) == "Ready to send as +5511900000001 · Clínica Demo"
    assert report.details == {"state": "ready", "number": "5511900000001", "name": "Clínica Demo"}


@pytest.mark.parametrize(
    ("action", "state", "said"),
    [
        ("unready", "connected", "still loading"),
        ("unlink_by_reload", "qr", "QR code to be scanned"),
        ("lose_link", "starting", "no connection to WhatsApp yet"),
        ("kill_browser", "error", "browser has closed"),
    ],
)
def test_the_check_distinguishes_all_states(
    server: Server, action: str, state: str, said: str
) -> None:
    server.steer(action)
    report = check(server)
    if state == "qr" and report.details["state"] == "starting":
        # The reload passes through OPENING.
        deadline = time.monotonic() + 5
        while (report := check(server)).details["state"] == "starting":
            assert time.monotonic() < deadline
    assert (report.ok, report.details["state"]) == (False, state)
    assert said in in_english(report)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("203_status_unpaired", "qr"),
        ("300_status_pairing", "pairing"),
        ("603_status_idle", "error"),
        ("634_status_TIMEOUT", "starting"),
        ("820_logoutnav_status_0", "starting"),
        ("622_after_phone_logout_status", "error"),
        ("531_norecover_crash_status", "error"),
        ("007_status_unknown", "disconnected"),
        ("500_status_during_autostart", "disconnected"),
        ("511_recover_status_4s", "qr"),
        ("516_after_page_crash_status2", "qr"),
        ("554_status_blank", "disconnected"),
    ],
)
def test_the_check_parses_every_recorded_status(raw_server: Start, name: str, state: str) -> None:
    def script(conn: Any, number: int) -> None:
        respond(conn, recorded("502_sessions_after_autostart" if number == 1 else name).body)

    report = unguarded(with_wwebjs(raw_server(script).url).wwebjs).check()
    assert (report.ok, report.details["state"]) == (False, state)
    assert in_english(report)


def test_the_check_finds_the_session_only_if_it_is_listed(raw_server: Start) -> None:
    body = recorded("542_sessions").body
    asked: list[int] = []

    def script(conn: Any, number: int) -> None:
        asked.append(number)
        respond(conn, body if number == 1 else recorded("007_status_unknown").body)

    provider = unguarded(with_wwebjs(raw_server(script).url, wwebjs_session_id="DUPLO").wwebjs)
    assert provider.check().details["state"] == "disconnected"
    assert len(asked) > 1
    asked.clear()
    provider = unguarded(with_wwebjs(raw_server(script).url, wwebjs_session_id="B2").wwebjs)
    assert provider.check().details["state"] == "disconnected"
    assert len(asked) == 1


def test_the_check_reports_a_session_that_is_not_started(server: Server) -> None:
    report = check(server, wwebjs_session_id="other")
    assert (report.ok, report.details["state"]) == (False, "disconnected")
    assert len(server.asked()) == 1


def test_the_check_reports_a_wrong_key(server: Server) -> None:
    report = check(server, wwebjs_api_key="wrong")
    assert (report.ok, in_english(report)) == (False, "The provider rejected the key")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html>", "200 OK"),
        (b'{"success":true}', "200 OK"),
        (b"[]", "200 OK"),
        (b"<html>", "404 Not Found"),
        (b"", "302 Found"),
    ],
)
def test_the_check_reports_another_server(raw_server: Start, body: bytes, status: str) -> None:
    http_server = raw_server(lambda conn, n: respond(conn, body, status=status))
    with translation.override("en"):
        report = unguarded(with_wwebjs(http_server.url).wwebjs).check()
    assert (report.ok, report.details["state"]) == (False, "error")
    assert in_english(report) == "A different server responds at this address"


def test_the_check_reports_a_server_error(raw_server: Start) -> None:
    http_server = raw_server(lambda conn, n: respond(conn, b"<html>", status="502 Bad Gateway"))
    assert not unguarded(with_wwebjs(http_server.url).wwebjs).check().ok


def test_the_check_reports_an_unreachable_server(dead_url: str) -> None:
    with translation.override("en"):
        report = unguarded(with_wwebjs(dead_url).wwebjs).check()
    assert (report.ok, in_english(report)) == (False, "The server refused the connection")


def test_a_check_of_a_slow_server_ends_in_time(server: Server) -> None:
    # The status of a crashed page takes 181 s; here it never arrives.
    server.simulator.settings.protocol_timeout = 24 * 3600
    server.steer("crash_page")
    assert not check(server, request_timeout_seconds=IMPATIENT).ok


def test_the_check_handles_a_session_without_a_name(raw_server: Start) -> None:
    bodies = [
        b'{"success":true,"result":["TESTE"]}',
        b'{"success":true,"state":"CONNECTED"}',
        b'{"success":true,"sessionInfo":{"wid":5}}',
    ]
    http_server = raw_server(lambda conn, n: respond(conn, bodies[n - 1]))
    report = unguarded(with_wwebjs(http_server.url).wwebjs).check()
    assert report.ok
    assert report.details["number"] == ""
