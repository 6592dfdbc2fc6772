"""wwebjs-api's callbacks: parsing of recorded ones, the endpoint, and their effects."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from aiohttp import web
from django.db import DatabaseError
from django.test import AsyncClient, Client
from hypothesis import given
from hypothesis import strategies as st

from channels_app.models import Channel, CloudCredentials, WwebjsCredentials
from channels_app.providers.events import (
    Event,
    MessageEvent,
    Receipt,
    ReceiptEvent,
    SessionEvent,
    UnsupportedEvent,
)
from channels_app.providers.redaction import digest_of
from channels_app.providers.sessions import State
from channels_app.providers.wwebjs import events as wwebjs_events
from messaging import selectors, webhooks
from messaging.delivery import rate_limits
from messaging.inbound import authentication, raw_files, replay
from messaging.inbound.authentication import Received
from messaging.models import InboundEvent, Message, PendingEvent
from simulators.base import run_in_thread
from tests.channels_app.wwebjs_session.conftest import Server, jobs, session_of
from tests.conftest import WWEBJS_KEY, WWEBJS_SESSION
from tests.messaging.support import accept, deliver, read_events
from tests.simulators.recorded import FOLDER

RECORDED = [
    json.loads(line)["body"] for line in (FOLDER / "webhook_events.jsonl").read_text().splitlines()
]
CUSTOMER = "+5511977776666"


def callback(kind: str, data: Any = None, session: str = WWEBJS_SESSION) -> dict[str, Any]:
    body: dict[str, Any] = {"dataType": kind, "sessionId": session}
    return body if data is None else {**body, "data": data}


def message(
    *, id: Any = None, to: str = "5511988887777@c.us", ours: bool = True, **changes: Any
) -> dict[str, Any]:
    """Return a message in the library's format."""
    other = "5511900000001@c.us"
    return {
        "id": id or {"fromMe": ours, "remote": to, "id": "3EB0AA"},
        "type": "chat",
        "body": "Oi",
        "timestamp": 1795301017,
        "fromMe": ours,
        "from": other if ours else to,
        "to": to if ours else other,
        "_data": {"notifyName": "Paciente"},
        **changes,
    }  # fmt: skip


def read(payload: Any) -> Event:
    (event,) = wwebjs_events.read(payload)
    return event


# -- parsing ---------------------------------------------------------------------------------------


def test_recorded_callbacks_are_parsed_to_events() -> None:
    event_types = [
        type(event).__name__ for payload in RECORDED for event in wwebjs_events.read(payload)
    ]
    assert event_types == [
        "UnsupportedEvent",  # loading_screen
        "UnsupportedEvent",  # authenticated
        "SessionEvent",  # ready
        "MessageEvent",  # message_create, ours
        "ReceiptEvent",
        "UnsupportedEvent",  # message_create, duplicate of `message`
        "MessageEvent",
        "ReceiptEvent",
        "ReceiptEvent",
        "SessionEvent",  # change_state
        "SessionEvent",  # disconnected
        "SessionEvent",  # qr
        *["UnsupportedEvent", "UnsupportedEvent", "SessionEvent"] * 2,
        "SessionEvent",  # qr
    ]


def test_recorded_acks_are_receipts_of_the_short_id() -> None:
    acks = [payload for payload in RECORDED if payload["dataType"] == "message_ack"]
    events = [read(payload) for payload in acks]
    assert [event.receipt for event in events if isinstance(event, ReceiptEvent)] == [
        Receipt.SENT,
        Receipt.READ,
        Receipt.DELIVERED,
    ]
    first = events[0]
    assert isinstance(first, ReceiptEvent)
    assert first.provider_message_id == "3EB00DBCAA58ED49A468E4"
    assert (first.phone_number, first.text) == ("+5511988887777", "hooked")


def test_a_recorded_message_of_a_customer_is_a_message() -> None:
    (payload,) = [payload for payload in RECORDED if payload["dataType"] == "message"]
    assert read(payload) == MessageEvent(
        channel_key=WWEBJS_SESSION,
        provider_message_id="793795E82A87BDB4457A2D11444C25BB",
        phone_number=CUSTOMER,
        name="Paciente",
        at=dt.datetime.fromtimestamp(1795301018, tz=dt.UTC),
        type="text",
        text="Sim, confirmo",
        chat=f"{CUSTOMER[1:]}@c.us",
    )


def test_a_message_typed_on_the_phone_is_an_outgoing_message() -> None:
    event = read(callback("message_create", {"message": message()}))
    assert isinstance(event, MessageEvent)
    assert (event.outgoing, event.phone_number, event.name) == (True, "+5511988887777", "")


@pytest.mark.parametrize(
    ("ack", "receipt"),
    [
        (-1, Receipt.FAILED),
        (1, Receipt.SENT),
        (2, Receipt.DELIVERED),
        (3, Receipt.READ),
        (4, Receipt.READ),
    ],
)
def test_each_ack_is_a_receipt(ack: int, receipt: Receipt) -> None:
    # The message's own ack lags behind.
    event = read(callback("message_ack", {"message": message(ack=0), "ack": ack}))
    assert isinstance(event, ReceiptEvent)
    assert event.receipt == receipt
    assert (event.failure is not None) is (receipt == Receipt.FAILED)


@pytest.mark.parametrize("ack", [0, 5, None, "2", True, 2.5])
def test_an_ack_without_a_known_status_is_counted(ack: Any) -> None:
    event = read(callback("message_ack", {"message": message(), "ack": ack}))
    assert isinstance(event, UnsupportedEvent)


@pytest.mark.parametrize(
    "id",
    [
        {"id": "3EB0AA"},
        {"$1": "true_5511988887777@c.us_3EB0AA"},
        {"_serialized": "true_5511988887777@c.us_3EB0AA"},
        "true_5511988887777@c.us_3EB0AA",
    ],
)
def test_the_id_is_parsed_in_every_builds_format(id: Any) -> None:
    event = read(callback("message_ack", {"message": message(id=id), "ack": 2}))
    assert isinstance(event, ReceiptEvent)
    assert event.provider_message_id == "3EB0AA"


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("ready", None, ""),
        ("qr", {"qr": "2@x"}, ""),
        ("disconnected", {"reason": "UNPAIRED"}, "UNPAIRED"),
        ("change_state", {"state": "CONFLICT"}, "CONFLICT"),
        ("status", {"msg": "auth failed"}, ""),
        ("disconnected", {"reason": {"odd": 1}}, ""),
    ],
)
def test_session_events_are_reported_with_their_reason(kind: str, data: Any, reason: str) -> None:
    assert read(callback(kind, data)) == SessionEvent(WWEBJS_SESSION, kind, reason)


@pytest.mark.parametrize(
    "sender",
    ["120363000000000000@g.us", "status@broadcast", "1@newsletter", "", "abc@c.us", "@c.us"],
)
def test_groups_status_and_newsletters_are_not_customers(sender: str) -> None:
    event = read(callback("message", {"message": message(ours=False, **{"from": sender})}))
    assert isinstance(event, UnsupportedEvent)


def test_a_customer_with_a_hidden_number_is_identified_by_the_lid() -> None:
    event = read(callback("message", {"message": message(ours=False, to="123456789012345@lid")}))
    assert isinstance(event, MessageEvent)
    assert (event.phone_number, event.user_id) == ("", "123456789012345@lid")


@pytest.mark.parametrize(
    ("changes", "type", "text", "content"),
    [
        ({"type": "image", "body": "Foto"}, "image", "Foto", {"caption": "Foto"}),
        ({"type": "ptt", "body": ""}, "audio", "", {"voice": True}),
        ({"type": "ptv", "body": ""}, "video", "", {"round": True}),
        ({"type": "call_log", "body": ""}, "call", "", {}),
        ({"type": "a_type_to_come", "body": "Oi"}, "unknown", "Oi", {}),
        ({"type": "ciphertext", "body": ""}, "waiting", "", {}),
        (
            {"type": "document", "body": "a.pdf", "_data": {"filename": "a.pdf"}},
            "document",
            "",
            {"filename": "a.pdf"},
        ),
        (
            {"type": "location", "location": {"latitude": 1.5, "longitude": 2, "x": []}},
            "location",
            "1.5, 2",
            {"latitude": 1.5, "longitude": 2},
        ),
        (
            {"type": None, "location": {"latitude": "1.5", "longitude": "2"}, "body": "AAAA"},
            "location",
            "1.5, 2",
            {"latitude": 1.5, "longitude": 2},
        ),
    ],
)
def test_other_kinds_of_messages(
    changes: dict[str, Any], type: str, text: str, content: dict[str, Any]
) -> None:
    event = read(callback("message", {"message": message(ours=False, **changes)}))
    assert isinstance(event, MessageEvent)
    found = {name: event.content[name] for name in event.content if name != "message_type"}
    assert (event.type, event.text, found) == (type, text, content)


@pytest.mark.parametrize("type", ["e2e_notification", "gp2", "protocol", "revoked"])
def test_a_message_not_from_a_person_is_counted(type: Any) -> None:
    event = read(callback("message", {"message": message(ours=False, type=type)}))
    assert isinstance(event, UnsupportedEvent)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "message",
                    "id",
                    "_data",
                    "ack",
                    "to",
                    "from",
                    "location",
                    "timestamp",
                    "type",
                    "body",
                    "vCards",
                    "reaction",
                    "msgId",
                    "senderId",
                    "vote",
                    "voter",
                    "selectedOptions",
                    "parentMsgKey",
                    "newBody",
                    "quotedMsg",
                    "quotedStanzaID",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
kinds = st.sampled_from(
    [
        *{p["dataType"] for p in RECORDED},
        "message_edit",
        "message_reaction",
        "vote_update",
        "message_revoke_everyone",
        "status",
        "",
    ]
)


@given(data=anything, kind=kinds | anything, session=st.text(max_size=5) | anything)
def test_no_json_raises_and_the_same_fact_has_the_same_key(
    data: Any, kind: Any, session: Any
) -> None:
    payload = {"dataType": kind, "data": data, "sessionId": session}
    assert len(list(wwebjs_events.read(payload))) == 1
    assert list(wwebjs_events.read(data))
    assert wwebjs_events.dedupe_key(payload, arrival="x") == wwebjs_events.dedupe_key(
        payload, arrival="x"
    )


def test_different_facts_have_different_keys() -> None:
    acks = [
        wwebjs_events.dedupe_key(
            callback("message_ack", {"message": message(), "ack": ack}), arrival=a
        )
        for ack, a in ((1, "a"), (1, "b"), (2, "c"))
    ]
    assert acks[0] == acks[1] != acks[2]
    ready = [wwebjs_events.dedupe_key(callback("ready"), arrival=arrival) for arrival in "ab"]
    assert ready[0] != ready[1]
    codes = [
        wwebjs_events.dedupe_key(callback("qr", {"qr": code}), arrival=arrival)
        for code, arrival in (("2@a", "1"), ("2@a", "2"), ("2@b", "3"))
    ]
    assert codes[0] == codes[1] != codes[2]
    assert "2@a" not in codes[0]


# -- the endpoint ----------------------------------------------------------------------------------


def hand_in(channel: Channel, payload: Any, key: str = WWEBJS_KEY) -> Received:
    return authentication.receive_wwebjs(channel.pk, json.dumps(payload).encode(), key)


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", "wrong", WWEBJS_KEY[:-1], WWEBJS_KEY + "x", "é"])
def test_a_wrong_key_is_refused_before_the_body_is_read(attached: Channel, key: str) -> None:
    assert authentication.receive_wwebjs(attached.pk, b"{", key) == Received.BAD_KEY
    assert not InboundEvent.objects.exists()


@pytest.mark.django_db
def test_a_channel_without_a_key_or_session_accepts_no_callback(
    attached: Channel, channel: Channel
) -> None:
    assert hand_in(channel, callback("ready"), "") == Received.BAD_KEY
    assert authentication.receive_wwebjs(4711, b"{}", WWEBJS_KEY) == Received.BAD_KEY
    WwebjsCredentials.objects.filter(pk=attached.pk).update(api_key="")
    assert hand_in(attached, callback("ready"), "") == Received.BAD_KEY


@pytest.mark.django_db
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_a_body_that_is_not_a_json_object_is_stored_as_bytes(
    attached: Channel, body: bytes, settings: Any, tmp_path: Any
) -> None:
    settings.MEDIA_ROOT = tmp_path
    assert authentication.receive_wwebjs(attached.pk, body, WWEBJS_KEY) == Received.STORED
    stub = InboundEvent.objects.get()
    assert (stub.state, stub.source_key) == ("set_aside", str(attached.pk))
    assert raw_files.read(stub.raw_file) == body


@pytest.mark.django_db
def test_a_callback_is_stored_once(attached: Channel) -> None:
    for _ in range(2):
        ack = callback("message_ack", {"message": message(), "ack": 1})
        assert hand_in(attached, ack) == Received.STORED
    stored = InboundEvent.objects.get()
    assert (stored.source, stored.source_key) == ("wwebjs", str(attached.pk))


@pytest.mark.django_db
def test_codes_that_link_a_phone_are_not_stored(attached: Channel) -> None:
    for kind, name in (("qr", "qr"), ("code", "code")):
        assert hand_in(attached, callback(kind, {name: "2@secret"})) == Received.STORED
    stored_data = [event.payload["data"] for event in InboundEvent.objects.order_by("id")]
    assert stored_data == [{"qr": f"sha256:{digest_of('2@secret')}"}, {"code": "withheld"}]
    read_events()
    assert not InboundEvent.objects.exclude(state="done").exists()


@pytest.mark.django_db
def test_a_callback_is_assigned_to_the_channel_of_its_session(
    attached: Channel, server: Server, make_channel: Callable[..., Channel]
) -> None:
    fields = {"fallback": "wwebjs", "wwebjs_url": server.url}
    other = make_channel(wwebjs_api_key=WWEBJS_KEY, wwebjs_session_id="OTHER", **fields)
    make_channel(wwebjs_api_key="another-key", wwebjs_session_id="THIRD", **fields)
    assert hand_in(attached, callback("ready", session="OTHER")) == Received.STORED
    assert InboundEvent.objects.get().source_key == str(other.pk)
    for session in ("THIRD", "NOBODY", ""):
        assert hand_in(attached, callback("ready", session=session)) == Received.OTHER_SESSION
    assert InboundEvent.objects.filter(source_key=str(other.pk)).count() == 1


@pytest.mark.django_db
def test_an_event_of_an_unknown_session_is_shown_and_processed_once_a_channel_has_it(
    attached: Channel, server: Server, make_channel: Callable[..., Channel]
) -> None:
    body = callback("message", {"message": message(ours=False, to="5511977776666@c.us")})
    body["sessionId"] = "LATER"
    for _ in range(2):
        assert hand_in(attached, body) == Received.OTHER_SESSION
    # The same message of another unknown session is another event.
    assert hand_in(attached, {**body, "sessionId": "NOBODY"}) == Received.OTHER_SESSION
    read_events()
    stored = InboundEvent.objects.filter(source_key=str(attached.pk))
    assert [(event.state, event.skipped) for event in stored] == [("done", "unknown_channel")] * 2
    assert selectors.dashboard().skipped.of_no_channel == 2
    assert not Message.objects.exists()

    later = make_channel(
        fallback="wwebjs",
        wwebjs_url=f"{server.url}/",
        wwebjs_api_key=WWEBJS_KEY,
        wwebjs_session_id="LATER",
    )
    assert replay.replay(skipped="unknown_channel") == (1, 1)
    received = Message.objects.get()
    assert (received.text, received.conversation.channel) == ("Oi", later)
    assert selectors.dashboard().skipped.of_no_channel == 1


@pytest.mark.django_db
def test_two_spellings_of_an_address_are_the_same_server(
    attached: Channel, server: Server, make_channel: Callable[..., Channel]
) -> None:
    other = make_channel(
        fallback="wwebjs",
        wwebjs_url=f"{server.url.replace('http:', 'HTTP:')}//",
        wwebjs_api_key=WWEBJS_KEY,
        wwebjs_session_id="OTHER",
    )
    assert hand_in(attached, callback("ready", session="OTHER")) == Received.STORED
    assert InboundEvent.objects.get().source_key == str(other.pk)
    # One session: its limits are shared by all channels.
    third = make_channel(
        fallback="wwebjs",
        wwebjs_url=f"{server.url}/./",
        wwebjs_api_key=WWEBJS_KEY,
        wwebjs_session_id=WWEBJS_SESSION,
    )
    assert rate_limits._Session.of(third.wwebjs).connections == (
        attached.wwebjs.pk,
        third.wwebjs.pk,
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("slash", ["", "/"])
async def test_the_endpoint_responds_as_the_contract_specifies(
    attached: Channel,
    async_client: AsyncClient,
    slash: str,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    tmp_path: Any,
) -> None:
    settings.MEDIA_ROOT = tmp_path

    async def post(body: str, key: str) -> tuple[int, str]:
        answer = await async_client.post(
            f"/api/webhooks/wwebjs/{attached.pk}{slash}",
            body,
            content_type="application/json",
            headers={"x-api-key": key},
        )
        return answer.status_code, answer.json()["code"]

    assert await post(json.dumps(callback("ready")), WWEBJS_KEY) == (200, "stored")
    assert await post(json.dumps(callback("ready")), "wrong") == (401, "bad_key")
    assert await post("{", WWEBJS_KEY) == (200, "stored")
    monkeypatch.setattr(webhooks.WwebjsWebhook, "max_bytes", 10)
    assert await post(json.dumps(callback("ready")), WWEBJS_KEY) == (413, "too_large")
    monkeypatch.setattr(webhooks.WwebjsWebhook, "max_bytes", 1000)

    def away(*_: Any) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr("messaging.inbound.journal.receive", away)
    assert await post(json.dumps(callback("ready")), WWEBJS_KEY) == (503, "unavailable")


@pytest.mark.django_db
def test_the_endpoint_accepts_only_post(client: Client) -> None:
    assert client.get("/api/webhooks/wwebjs/1").status_code == 405


# -- effects ---------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_callback_triggers_an_immediate_poll(ready: Channel, server: Server) -> None:
    from channels_app.connections import wwebjs_commands

    server.steer("unlink")
    hand_in(ready, callback("disconnected", {"reason": "UNPAIRED"}))
    read_events()
    assert jobs("probe_session") == [{"channel_id": ready.pk}]
    assert session_of(ready).next_poll_at is None
    wwebjs_commands.probe(ready.pk)
    ready.refresh_from_db()
    assert ready.wwebjs.state == State.STARTING
    assert ready.wwebjs.last_drop_reason == "unlinked_on_phone"


@pytest.fixture
def posting(
    server: Server, servers: ExitStack, attached: Channel
) -> list[tuple[dict[str, Any], str]]:
    """Collect the callbacks of the simulated server, with their keys."""
    posted: list[tuple[dict[str, Any], str]] = []

    async def receive(request: web.Request) -> web.Response:
        posted.append((await request.json(), request.headers["x-api-key"]))
        return web.Response()

    app = web.Application()
    app.router.add_post("/{tail:.*}", receive)
    server.settings.webhook_url = servers.enter_context(run_in_thread(app)).url
    return posted


def sent_by_fallback(channel: Channel, graph: Any, server: Server, text: str = "Olá") -> Message:
    """Return a text that the official API rejected and wwebjs accepted."""
    import requests

    CloudCredentials.objects.filter(pk=channel.pk).update(graph_url=graph.url)
    graph.plays("refused_131047")
    sent = accept(Channel.objects.get(pk=channel.pk), text=text)
    deliver(sent)
    assert requests.post(f"{server.url}/_control/settle", timeout=15).ok
    return sent


def take_all(channel: Channel, posted: list[tuple[dict[str, Any], str]]) -> None:
    for body, key in posted:
        assert hand_in(channel, body, key) == Received.STORED
    posted.clear()
    read_events()


@pytest.mark.django_db
@pytest.mark.parametrize("dollar_ids", [False, True])
def test_a_fallback_message_shows_its_receipts(
    ready: Channel, server: Server, graph: Any, posting: list[tuple[dict[str, Any], str]],
    dollar_ids: bool,
) -> None:  # fmt: skip
    """Also on current WhatsApp Web, which returns no ID for a send."""
    server.settings.dollar_ids = dollar_ids
    sent = sent_by_fallback(ready, graph, server)
    attempt = sent.attempts.get(connection__provider="wwebjs")
    assert (attempt.outcome, attempt.provider_message_id == "") == ("accepted", dollar_ids)
    assert sent.status == "sent"
    take_all(ready, posting)
    sent.refresh_from_db()
    attempt.refresh_from_db()
    assert (sent.status, sent.icon) == ("read", "globe")
    assert attempt.provider_message_id.startswith("3EB0")
    assert not PendingEvent.objects.exists()
    assert Message.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("dollar_ids", [False, True])
@pytest.mark.parametrize("ignored", [True, False])
def test_a_fallback_message_of_another_number_is_repeated_only_if_the_option_is_set(
    ready: Channel, server: Server, graph: Any, posting: list[tuple[dict[str, Any], str]],
    ignored: bool, dollar_ids: bool,
) -> None:  # fmt: skip
    server.settings.dollar_ids = dollar_ids
    Channel.objects.filter(pk=ready.pk).update(
        ignore_messages_sent_outside=ignored, phone_number="+55 21 3333-0000"
    )
    ready.refresh_from_db()
    sent = sent_by_fallback(ready, graph, server)
    take_all(ready, posting)
    echoes = Message.objects.filter(sent_outside=True)
    assert [echo.echo_of for echo in echoes] == ([] if ignored else [sent])


@pytest.mark.django_db
def test_two_equal_texts_get_their_own_receipts(
    ready: Channel, server: Server, graph: Any, posting: list[tuple[dict[str, Any], str]]
) -> None:
    server.settings.dollar_ids = True
    both = [sent_by_fallback(ready, graph, server), sent_by_fallback(ready, graph, server)]
    take_all(ready, posting)
    ids = set()
    for sent in both:
        sent.refresh_from_db()
        assert sent.status == "read"
        ids.add(sent.attempts.get(connection__provider="wwebjs").provider_message_id)
    assert len(ids) == 2


@pytest.mark.django_db
def test_an_ack_proves_a_send_without_a_response(
    ready: Channel, server: Server, graph: Any, posting: list[tuple[dict[str, Any], str]]
) -> None:
    import requests

    script = {"scenarios": ["serialize_delivered"]}
    requests.post(f"{server.url}/_control/script", json=script, timeout=5)
    sent = sent_by_fallback(ready, graph, server)
    assert sent.status == "unconfirmed"
    take_all(ready, posting)
    sent.refresh_from_db()
    assert (sent.status, sent.icon) == ("read", "globe")


@pytest.mark.django_db
def test_a_message_queued_in_the_browser_is_unconfirmed_until_the_server_accepts_it(
    ready: Channel, server: Server, graph: Any, posting: list[tuple[dict[str, Any], str]]
) -> None:
    import requests

    script = {"scenarios": ["queued"]}
    requests.post(f"{server.url}/_control/script", json=script, timeout=5)
    sent = sent_by_fallback(ready, graph, server)
    attempt = sent.attempts.get(connection__provider="wwebjs")
    assert (attempt.outcome, attempt.error_code) == ("unknown", "only_queued")
    assert (sent.status, attempt.provider_message_id[:4]) == ("unconfirmed", "3EB0")
    # Its ID is known: it is not matched by text.
    acks = [body for body, _key in posting if body["dataType"] == "message_ack"]
    acks.sort(key=lambda body: body["data"]["ack"])
    for number, body in enumerate(acks):
        body["data"]["message"]["body"] = ""
        hand_in(ready, body)
        read_events()
        sent.refresh_from_db()
        assert sent.status == ("sent", "delivered", "read")[number]
    assert sent.icon == "globe"


@pytest.mark.django_db
def test_an_ack_of_another_text_proves_nothing(
    ready: Channel, server: Server, graph: Any, posting: list[tuple[dict[str, Any], str]]
) -> None:
    server.settings.dollar_ids = True
    sent = sent_by_fallback(ready, graph, server)
    at = sent.created_at.timestamp()
    differing: tuple[dict[str, Any], ...] = (
        {"body": "Outro texto"},
        {"to": "5511955554444@c.us"},
        {"timestamp": int(at) + 3600},
    )
    for changes in differing:
        other = message(**{"body": "Olá", "timestamp": int(at), **changes})
        hand_in(ready, callback("message_ack", {"message": other, "ack": 3}))
        InboundEvent.objects.update(dedupe_key="read")
        read_events()
        InboundEvent.objects.all().delete()
    sent.refresh_from_db()
    assert sent.status == "sent"


@pytest.mark.django_db
def test_a_late_rejection_is_reported(
    ready: Channel, server: Server, graph: Any, posting: list[tuple[dict[str, Any], str]]
) -> None:
    sent = sent_by_fallback(ready, graph, server)
    own_id = sent.attempts.get(connection__provider="wwebjs").provider_message_id
    body = callback("message_ack", {"message": message(id={"id": own_id}), "ack": -1})
    hand_in(ready, body)
    read_events()
    attempt = sent.attempts.get(connection__provider="wwebjs")
    assert (attempt.outcome, attempt.error_code) == ("rejected", "ack_error")


@pytest.mark.django_db
def test_a_customers_message_appears_in_the_conversation(ready: Channel) -> None:
    body = callback("message", {"message": message(ours=False, to="5511977776666@c.us")})
    hand_in(ready, body)
    hand_in(ready, body)
    read_events()
    received = Message.objects.get()
    assert (received.direction, received.text) == ("in", "Oi")
    assert received.conversation.contact.phone_number == CUSTOMER
    assert received.conversation.contact.name == "Paciente"


@pytest.mark.django_db
@pytest.mark.parametrize("ignored", [True, False])
def test_messages_typed_on_the_phone_follow_the_option(ready: Channel, ignored: bool) -> None:
    Channel.objects.filter(pk=ready.pk).update(ignore_messages_sent_outside=ignored)
    hand_in(ready, callback("message_create", {"message": message()}))
    read_events()
    assert Message.objects.filter(sent_outside=True).exists() is not ignored


@pytest.mark.django_db
def test_unknown_callbacks_are_stored_and_counted(ready: Channel) -> None:
    hand_in(ready, callback("group_join", {"notification": {}}))
    read_events()
    assert InboundEvent.objects.get().state == "done"
