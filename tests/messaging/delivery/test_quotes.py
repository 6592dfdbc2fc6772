"""Replies quote on every route, by an id that its server knows, and never by a wrong one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.utils import timezone

from channels_app.models import Channel, ResolvedNumber
from channels_app.providers.base import Quote
from messaging.delivery import quotes
from messaging.delivery.quotes import Connection, KnownId
from messaging.delivery.statuses import Route
from messaging.models import Message
from simulators.base import only_digits
from simulators.graph.app import make_wamid
from tests.conftest import WWEBJS_SESSION, Provider
from tests.factories import change_channel, update_connection
from tests.messaging.support import accept, customer, deliver, envelope, post, read_events

OWN = "5511900000001"
KEY = "3AADF8441347E8571C10"
WAMID = make_wamid("5511988887777", KEY, from_me=False)
OFFICIAL = Connection(1, Route.OFFICIAL, OWN)
WWEBJS = Connection(1, Route.WWEBJS, OWN)
# The ninth digit of a Brazilian number does not make it another account.
BAILEYS = Connection(2, Route.BAILEYS, "551100000001")
# The official API rejects messages to this customer (131047).
REFUSED = f"+{only_digits(customer(graph='47'))}"
STRANGER = Connection(3, Route.BAILEYS, "5511977770000")


@pytest.mark.parametrize(
    ("ids", "by", "expected"),
    [
        ([KnownId(WAMID, OFFICIAL)], OFFICIAL, Quote(WAMID, from_us=False)),
        ([KnownId(WAMID, OFFICIAL)], WWEBJS, Quote(KEY, from_us=False)),
        ([KnownId(WAMID, OFFICIAL)], BAILEYS, Quote(KEY, from_us=False)),
        # Another number does not know the message.
        ([KnownId(WAMID, OFFICIAL)], STRANGER, None),
        ([KnownId(WAMID, OFFICIAL)], Connection(1, Route.WWEBJS, "5511977770000"), None),
        # It is not certain that the number is the same.
        ([KnownId(WAMID, OFFICIAL)], Connection(1, Route.WWEBJS), None),
        # Some of Meta's ids cannot be parsed; without a key there is no quote.
        ([KnownId("wamid.IN", OFFICIAL)], WWEBJS, None),
        ([KnownId("wamid.IN", OFFICIAL)], OFFICIAL, Quote("wamid.IN", from_us=False)),
        # Meta rejects an id that it did not issue.
        ([KnownId(KEY, WWEBJS)], OFFICIAL, None),
        ([KnownId(KEY, WWEBJS, chat="9@lid")], WWEBJS, Quote(KEY, from_us=False, chat="9@lid")),
        ([KnownId(KEY, WWEBJS)], BAILEYS, Quote(KEY, from_us=False)),
        ([KnownId(KEY, STRANGER)], STRANGER, Quote(KEY, from_us=False)),
        ([KnownId(KEY, STRANGER)], WWEBJS, None),
        # If both are known, each route gets its own.
        ([KnownId(WAMID, OFFICIAL), KnownId("OTHER", WWEBJS)], WWEBJS,
         Quote("OTHER", from_us=False)),
        ([KnownId(KEY, WWEBJS), KnownId(WAMID, OFFICIAL)], OFFICIAL, Quote(WAMID, from_us=False)),
        ([KnownId("", OFFICIAL)], OFFICIAL, None),
        ([], WWEBJS, None),
    ],
)  # fmt: skip
def test_each_connection_quotes_an_id_that_it_knows(
    ids: list[KnownId], by: Connection, expected: Quote | None
) -> None:
    assert quotes.quote(ids, from_us=False, by=by) == expected


# -- over the wire ---------------------------------------------------------------------------------

pytestmark = pytest.mark.django_db


@pytest.fixture
def same_number(wired: Channel) -> Channel:
    """The fallback's session is linked to the official channel's own number."""
    change_channel(wired, phone_number=f"+{OWN}")
    update_connection(wired, "wwebjs", own_number=OWN)
    return wired


def received(channel: Channel, number: str, key: str = KEY, **fields: Any) -> Message:
    """A customer's message received by the official API."""
    first = accept(channel, number)
    return Message.objects.create(
        conversation=first.conversation, direction="in", text="Pode ser às 15h?",
        provider_message_id=make_wamid(number[1:], key, from_me=False),
        created_at=timezone.now(), **fields,
    )  # fmt: skip


def shows(wwebjs: Provider, number: str, *, key: str = KEY, chat: str = "") -> None:
    """Make the session's WhatsApp Web page show the same message."""
    order = {"session": WWEBJS_SESSION, "from": number[1:], "text": "Pode ser às 15h?",
             "key_id": key, "chat": chat, "silent": True}  # fmt: skip
    answer = requests.post(f"{wwebjs.url}/_control/inbound", json=order, timeout=5)
    assert answer.ok, answer.text


def latest(wwebjs: Provider) -> dict[str, Any]:
    """Return the message that the session sent last, as the page stores it."""
    chats = wwebjs.simulator._chats[WWEBJS_SESSION]  # type: ignore[attr-defined]
    ours = [message for chat in chats.values() for message in chat if message["fromMe"]]
    last: dict[str, Any] = ours[-1]
    return last


def test_a_reply_by_the_fallback_quotes_a_message_from_the_official_api(
    same_number: Channel, graph: Provider, wwebjs: Provider
) -> None:
    number = REFUSED
    shows(wwebjs, number)
    reply = accept(same_number, number, reply_to=str(received(same_number, number).pk))
    deliver(reply)
    assert reply.route == "wwebjs"
    sent = latest(wwebjs)
    assert sent["hasQuotedMsg"] is True
    assert sent["_data"]["quotedStanzaID"] == KEY


def test_a_reply_to_a_message_unknown_to_the_page_is_sent_without_a_quote(
    same_number: Channel, graph: Provider, wwebjs: Provider
) -> None:
    number = REFUSED
    reply = accept(same_number, number, reply_to=str(received(same_number, number).pk))
    deliver(reply)
    assert reply.status in ("sent", "delivered")
    assert latest(wwebjs)["hasQuotedMsg"] is False


def test_a_fallback_on_another_number_quotes_nothing(
    same_number: Channel, graph: Provider, wwebjs: Provider
) -> None:
    update_connection(same_number, "wwebjs", own_number="5511977770000")
    number = REFUSED
    shows(wwebjs, number)
    reply = accept(same_number, number, reply_to=str(received(same_number, number).pk))
    deliver(reply)
    assert "quotedMessageId" not in wwebjs.sends()[-1]["options"]


def test_a_quote_uses_the_lid_of_an_earlier_response(
    same_number: Channel, graph: Provider, wwebjs: Provider
) -> None:
    number = REFUSED
    lid = f"1{number[1:]}@lid"
    wwebjs.plays("lid_remote", to=number[1:])
    deliver(accept(same_number, number))
    assert ResolvedNumber.objects.get().lid == lid
    shows(wwebjs, number, chat=lid)
    reply = accept(same_number, number, reply_to=str(received(same_number, number).pk))
    deliver(reply)
    assert wwebjs.sends()[-1]["options"]["quotedMessageId"] == f"false_{lid}_{KEY}"
    assert latest(wwebjs)["hasQuotedMsg"] is True


def test_a_message_sent_by_the_fallback_can_be_quoted_by_it_and_by_the_customer(
    same_number: Channel, graph: Provider, wwebjs: Provider
) -> None:
    number = REFUSED
    first = accept(same_number, number)
    deliver(first)
    key = first.attempts.get(connection__provider="wwebjs").provider_message_id
    reply = accept(same_number, number, reply_to=str(first.pk))
    deliver(reply)
    assert latest(wwebjs)["_data"]["quotedStanzaID"] == key
    # Meta's id for it differs, but contains the same key.
    answer = {"from": number[1:], "id": "wamid.ANSWER", "timestamp": "1751142888", "type": "text",
              "text": {"body": "Sim"}, "context": {"id": make_wamid(number[1:], key)}}  # fmt: skip
    post(envelope({"messages": [answer]}, same_number))
    read_events()
    assert Message.objects.get(direction="in").reply_to == first


def test_an_official_reply_to_a_session_message_has_no_quote(
    same_number: Channel, graph: Provider
) -> None:
    message = received(same_number, "+5511988887777")
    Message.objects.filter(pk=message.pk).update(provider_message_id=KEY)
    reply = accept(same_number, reply_to=str(message.pk))
    deliver(reply)
    assert reply.route == "official"
    assert "context" not in graph.sends()[-1]


def test_a_baileys_fallback_on_the_same_number_quotes_the_key(
    same_number: Channel, make_channel: Callable[..., Channel]
) -> None:
    from messaging.delivery import attempts
    from messaging.delivery.statuses import Outcome
    from tests.messaging.support import attempt_of

    other = make_channel(kind="baileys", instance_name="oficina", phone_number=f"+{OWN}")
    reply = accept(same_number)
    reply.reply_to = received(same_number, "+5511988887777")
    attempt = attempt_of(reply, outcome=Outcome.STARTED, route=Route.BAILEYS, channel=other)
    assert attempts.quote(reply, attempt) == Quote(KEY, from_us=False, text="Pode ser às 15h?")
