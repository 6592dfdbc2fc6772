"""Accepted, rejected, transient or unknown: never blurred, by no engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import translation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels_app.incidents import reason_text
from channels_app.providers import engines, error_codes
from channels_app.providers.addresses import Kind
from channels_app.providers.base import (
    Accepted,
    ConnectionReport,
    MarksRead,
    Quote,
    SendError,
)
from core import http_client
from messaging.content import TYPES
from tests.channels_app.conftest import IMPATIENT, ORDINARY, RawServer, Script, respond
from tests.channels_app.providers.conformance.adapter import (
    Adapter,
    Numbers,
    outbound_file,
    outcome_of,
)
from tests.channels_app.providers.conformance.conftest import ADAPTERS

Start = Callable[[Script], RawServer]
ADDRESSES = {
    Kind.USER_ID: "BR.77001",
    Kind.PARENT_USER_ID: "BR.ENT.9",
    Kind.LID: "222000000000001@lid",
    Kind.GROUP: "120363025246125486@g.us",
}


def test_every_engine_is_in_the_suite() -> None:
    assert [adapter.engine for adapter in ADAPTERS] == list(engines.ENGINES.values())


# -- accepted --------------------------------------------------------------------------------------


def test_a_message_is_accepted_once_under_the_id_of_the_provider(adapter: Adapter) -> None:
    outcome, id_ = adapter.send("ok")
    (entry,) = adapter.simulator.book.entries
    assert (outcome, id_) == ("accepted", entry.id)
    assert (entry.text, entry.delivered) == ("Olá", True)
    assert len(adapter.sends()) == 1


def test_an_acceptance_without_an_id_counts_only_where_that_is_declared(adapter: Adapter) -> None:
    status, body = adapter.without_id
    answer = http_client.Answer(status, {}, json.dumps(body).encode())
    outcome = outcome_of(lambda: adapter.read_answer(answer))
    may_omit = adapter.engine.capabilities.may_omit_id
    assert outcome == (("accepted", "") if may_omit else ("unknown", "unreadable_answer"))


def test_only_a_success_accepts_whatever_its_body_says(adapter: Adapter) -> None:
    expected, body = adapter.with_id
    raw = json.dumps(body).encode()

    def outcome(status: int) -> str:
        answer = http_client.Answer(status, {}, raw)
        return outcome_of(lambda: adapter.read_answer(answer))[0]

    assert outcome(expected) == "accepted"
    assert not [status for status in range(300, 600) if outcome(status) == "accepted"]


def test_an_id_of_ours_is_reported_as_taken_only_where_we_may_choose_one(adapter: Adapter) -> None:
    ours = adapter.engine.reserve_id("text", {})
    assert adapter.engine.reserve_id("text", {}) != ours or not ours
    accepted = adapter.provider().send(adapter.message(message_id=ours))
    assert accepted.took_our_id is (True if ours else None)
    assert not ours or accepted.provider_message_id == ours


@pytest.mark.parametrize("type_", [*TYPES, "voice note", "poll"])
def test_a_type_is_sent_if_it_is_declared_and_else_rejected_without_a_request(
    adapter: Adapter, type_: str
) -> None:
    message = adapter.message(type_)
    if type_ == "voice note":
        type_ = "audio"
        message = adapter.message(type_, content={"voice": True})
    if type_ == "reaction":
        target = adapter.customer_writes("Olá")
        message = adapter.message(type_, to=ORDINARY, quote=Quote(target, from_us=False))
    outcome, detail = outcome_of(lambda: adapter.provider().send(message))
    if type_ in adapter.engine.capabilities.types:
        assert adapter.engine.capabilities.takes(type_, message.content)
        assert (outcome, len(adapter.simulator.book.entries)) == ("accepted", 1), detail
        assert adapter.simulator.book.entries[0].delivered
    else:
        assert (outcome, detail) == ("rejected", "unsupported_type")
        assert adapter.sends() == []


def test_a_reply_quotes_the_message(adapter: Adapter) -> None:
    provider = adapter.provider()
    provider.send(adapter.message())
    target = Quote(adapter.customer_writes("Olá"), from_us=False, text="Olá")
    accepted = provider.send(adapter.message(to=ORDINARY, quote=target))
    assert [adapter.quoted_id(body) for body in adapter.sends()] == ["", target.id]
    assert not accepted.unquoted


def test_a_reply_to_a_message_that_the_server_does_not_have_still_quotes_it_or_says_so(
    adapter: Adapter,
) -> None:
    missing = Quote(adapter.quote.id, from_us=False, text="Que horas abrem?")
    accepted = adapter.provider().send(adapter.message(quote=missing))
    assert len(adapter.simulator.book.entries) == 1
    assert accepted.unquoted is not adapter.quotes_anything


@pytest.mark.parametrize("typing", [False, True])
def test_messages_are_marked_as_read_where_that_is_declared(adapter: Adapter, typing: bool) -> None:
    provider = adapter.provider()
    assert isinstance(provider, MarksRead) is adapter.engine.capabilities.marks_read
    if isinstance(provider, MarksRead):
        ids = [adapter.customer_writes(text) for text in ("Olá", "Tudo bem?")]
        provider.mark_read(ORDINARY, ids, typing=typing)
        asked = [request["body"] for request in adapter.simulator.requests if request["body"]]
        assert asked[-len(adapter.marking(ids, typing=typing)) :] == adapter.marking(
            ids, typing=typing
        )
        # It marks nothing for another's key, and says why.
        wrong, code = adapter.wrong_key
        with pytest.raises(SendError) as caught:
            adapter.provider(**wrong).mark_read(ORDINARY, ids, typing=False)  # type: ignore[attr-defined]
        assert caught.value.code == code


# -- certainly not sent ----------------------------------------------------------------------------


def test_every_refusal_of_the_server_is_rejected_with_a_stable_code(adapter: Adapter) -> None:
    expected = {name: ("rejected", code) for name, code in adapter.rejected.items()}
    assert {name: adapter.send(name) for name in expected} == expected
    assert not any(entry.delivered for entry in adapter.simulator.book.entries)


def test_what_may_succeed_later_is_transient(adapter: Adapter) -> None:
    expected = {name: ("transient", code) for name, code in adapter.transient.items()}
    assert {name: adapter.send(name) for name in expected} == expected
    assert adapter.simulator.book.entries == []


def test_wrong_settings_are_rejected_with_the_code_of_the_field(adapter: Adapter) -> None:
    wrong, code = adapter.wrong_key
    assert adapter.send("ok", **wrong) == ("rejected", code)
    for name in adapter.required:
        assert adapter.send("ok", **{name: ""}) == ("rejected", "not_configured")
    assert adapter.send("ok", **{adapter.address: "http://[::1"}) == ("rejected", "invalid_address")
    message = adapter.message(to="")
    assert outcome_of(lambda: adapter.provider().send(message)) == ("rejected", "invalid_recipient")
    message = adapter.message(text="")
    assert outcome_of(lambda: adapter.provider().send(message)) == ("rejected", "invalid_content")
    assert adapter.simulator.book.entries == []


def test_a_server_that_is_not_reached_is_transient(adapter: Adapter, dead_url: str) -> None:
    assert adapter.send("ok", **{adapter.address: dead_url}) == ("transient", "connection_refused")
    nowhere = "http://no-such-host.invalid"
    assert adapter.send("ok", **{adapter.address: nowhere}) == ("transient", "dns_failed")


def test_a_request_that_was_one_too_many_is_transient(adapter: Adapter, raw_server: Start) -> None:
    server = raw_server(lambda conn, n: respond(conn, b"", status="429 Too Many Requests"))
    assert adapter.send("ok", **{adapter.address: server.url}) == ("transient", "http_429")


def test_a_file_that_cannot_be_read_is_not_sent(adapter: Adapter) -> None:
    def missing() -> Any:
        raise FileNotFoundError

    def unreadable() -> Any:
        raise OSError

    for open_, expected in (
        (missing, ("rejected", "file_missing")),
        (unreadable, ("transient", "file_unreadable")),
    ):
        message = adapter.message("image", file=outbound_file("image/png", b"x", open=open_))
        assert outcome_of(lambda message=message: adapter.provider().send(message)) == expected
    assert adapter.sends() == []


# -- may have been sent ----------------------------------------------------------------------------


def test_a_timeout_or_a_broken_answer_is_unknown_whether_it_was_sent_or_not(
    adapter: Adapter,
) -> None:
    expected = {name: ("unknown", code) for name, code in adapter.unknown.items()}
    sent = {
        name: adapter.send(name, timeout=IMPATIENT if code == "timeout" else 3)
        for name, (_, code) in expected.items()
    }
    assert sent == expected
    assert {code for _, code in expected.values()} >= {
        "timeout",
        "connection_broken",
        "server_error",
        "unreadable_answer",
    }
    # Both kinds occur, and the client cannot tell them apart.
    assert len(adapter.simulator.book.entries) not in (0, len(expected))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(status=st.integers(200, 599), body=st.binary(max_size=30) | json_values)
def test_every_answer_has_one_of_the_four_outcomes(
    adapter: Adapter, status: int, body: Any
) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = http_client.Answer(status, {}, raw)
    outcome, code = outcome_of(lambda: adapter.read_answer(answer))
    assert outcome != "accepted" or status < 300
    if outcome != "accepted":
        assert 0 < len(code) <= 64
    if answer.json_object() is None and (status < 300 or status >= 500):
        assert outcome == "unknown"


# -- what errors say -------------------------------------------------------------------------------


def test_every_code_has_a_sentence(adapter: Adapter) -> None:
    for codes in (adapter.rejected, adapter.transient, adapter.unknown):
        for code in codes.values():
            assert error_codes.lookup(code).known, code


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422, 500, 503])
def test_no_error_contains_a_secret(adapter: Adapter, raw_server: Start, status: int) -> None:
    [secret] = adapter.secrets
    text = f"the key {secret} is wrong"
    bodies = [
        dict.fromkeys(("error", "message", "detail", "status", "state"), text),
        {"success": False, "error": text, "message": text},
        {"error": {"message": text, "code": 190, "error_data": {"details": text}}},
        {"response": {"message": [text]}, "error": text},
        {"error": "bad_key", "detail": text},
    ]
    for body in bodies:
        answer = json.dumps(body).encode()

        def script(conn: Any, number: int, answer: bytes = answer) -> None:
            first = number == 1 and adapter.look_up is not None
            sent = adapter.look_up if first and adapter.look_up is not None else answer
            respond(conn, sent, status="200 OK" if first else f"{status} X")

        provider = adapter.provider(**{adapter.address: raw_server(script).url})
        with pytest.raises(SendError) as caught:
            provider.send(adapter.message())
        error, report = caught.value, provider.check()
        for shown in (error, repr(error), error.title, error.detail, report, repr(provider)):
            assert secret not in str(shown)


# -- the connection test ---------------------------------------------------------------------------


def test_the_check_reports_that_it_works_or_why_not(adapter: Adapter, dead_url: str) -> None:
    assert adapter.provider().check().ok
    wrong, code = adapter.wrong_key
    reports = {
        code: adapter.provider(**wrong).check(),
        "not_configured": adapter.provider(**{adapter.required[0]: ""}).check(),
        "connection_refused": adapter.provider(**{adapter.address: dead_url}).check(),
        "invalid_address": adapter.provider(**{adapter.address: "http://[::1"}).check(),
    }
    assert {name: (report.ok, report.code) for name, report in reports.items()} == {
        name: (False, name) for name in reports
    }
    with translation.override("en"):
        sentences = {reason_text.summary(report) for report in reports.values()}
    assert len(sentences) == len(reports)
    assert not sentences & reports.keys()


@pytest.mark.parametrize("status", [200, 302, 404, 500])
@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b'{"error":5,"state":[]}'])
def test_the_check_never_raises(
    adapter: Adapter, raw_server: Start, status: int, body: bytes
) -> None:
    server = raw_server(lambda conn, n: respond(conn, body, status=f"{status} X"))
    report = adapter.provider(**{adapter.address: server.url}).check()
    assert isinstance(report, ConnectionReport)
    assert (report.ok, bool(report.code)) == (False, True)


# -- look-ups of numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(ADDRESSES))
def test_an_address_is_sent_to_if_its_kind_is_declared_and_else_reaches_nobody(
    adapter: Adapter, kind: Kind
) -> None:
    outcome = outcome_of(lambda: adapter.provider().send(adapter.message(to=ADDRESSES[kind])))
    reached = [entry.to for entry in adapter.simulator.book.entries if entry.delivered]
    if kind in adapter.engine.capabilities.address_kinds:
        assert outcome[0] == "accepted"
        assert len(reached) == 1
    else:
        assert outcome[0] == "rejected"
        assert reached == []


def test_a_number_is_looked_up_once_where_the_engine_needs_its_address(adapter: Adapter) -> None:
    numbers = Numbers()
    requests = []
    for _ in range(2):
        provider = adapter.provider(numbers=numbers)
        assert isinstance(provider.send(adapter.message()), Accepted)
        requests.append(len(adapter.simulator.requests) - sum(requests))
    looks_up = adapter.engine.capabilities.looks_up_numbers
    assert requests == ([2, 1] if looks_up else [1, 1])
    assert bool(numbers.known) is looks_up


def test_a_look_up_without_a_response_has_sent_nothing(adapter: Adapter, raw_server: Start) -> None:
    if not adapter.engine.capabilities.looks_up_numbers:
        pytest.skip("sends without a look-up")
    server = raw_server(lambda conn, n: "close")
    outcome = adapter.send("ok", **{adapter.address: server.url}, timeout=1)
    assert outcome == ("transient", "lookup_failed")
