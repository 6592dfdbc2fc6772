"""An engine that nothing but its registration names sends, receives and is shown like the others.

It is the one of `tests/acme`, which docs/adding-a-provider.md follows.
"""

from __future__ import annotations

import datetime as dt
import importlib
import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from django.test import Client

from channels_app.connections import connection_tests
from channels_app.models import Channel, Connection
from channels_app.providers import engines
from messaging.delivery import reconcile
from messaging.inbound import authentication
from messaging.inbound.authentication import Received
from messaging.models import DeliveryAttempt, InboundEvent, Message
from simulators.base import run_in_thread
from tests.acme import credentials
from tests.acme.credentials import AcmeCredentials
from tests.acme.engine import ACME
from tests.acme.simulator import AcmeSettings, AcmeSimulator
from tests.conftest import Provider
from tests.factories import change_channel
from tests.messaging.support import accept, customer, deliver, make_older, read_events, trail
from tests.simulators.conftest import Receiver, Webhook

pytestmark = pytest.mark.django_db


@dataclass
class Server(Provider):
    """The simulated Acme, and what it posted."""

    receiver: Receiver

    def control(self, path: str, **command: Any) -> Any:
        return requests.post(f"{self.url}/_control/{path}", json=command, timeout=5).json()

    def forward(self, posted: list[Webhook] | None = None) -> None:
        """Deliver the posted events to our webhook, and process them."""
        self.settle()
        channel = Channel.objects.get(kind="acme")
        for webhook in self.receiver.all() if posted is None else posted:
            headers = {name.lower(): value for name, value in webhook.headers.items()}
            result = authentication.receive("acme", channel.pk, webhook.raw, headers)
            assert result == Received.STORED
        read_events()


@pytest.fixture
def acme(servers: ExitStack, monkeypatch: pytest.MonkeyPatch) -> Server:
    # The REST API lists the engines when it is imported; that must not be while this one exists.
    importlib.import_module("config.urls")
    monkeypatch.setitem(engines.ENGINES, ACME.name, ACME)
    receiver = Receiver()
    url = servers.enter_context(run_in_thread(receiver.application())).url
    simulator = AcmeSimulator(AcmeSettings(webhook_url=url))
    app = servers.enter_context(run_in_thread(simulator.application()))
    return Server(app.url, simulator, receiver)


@pytest.fixture
def other(acme: Server, make_channel: Any) -> Channel:
    """A channel of the engine's own kind."""
    channel = make_channel(name="Acme", kind="acme", phone_number="", phone_number_id="")
    credentials.store(channel, AcmeCredentials(acme.url, timeout=1))
    return Channel.objects.get(pk=channel.pk)


@pytest.fixture
def channel(channel: Channel, other: Channel, graph: Provider) -> Channel:
    """An official channel whose fallback is that one."""
    return change_channel(channel, graph_url=graph.url, fallback="acme", fallback_channel=other)


def test_a_rejected_message_goes_out_through_it_and_its_receipts_count(
    channel: Channel, acme: Server
) -> None:
    message = accept(channel, customer(graph="47"))
    assert deliver(message) is None
    assert trail(message) == [("official", "rejected", "131047"), ("acme", "accepted", "")]
    assert (message.status, message.route, message.icon) == ("sent", "acme", "globe")
    [entry] = acme.simulator.book.entries
    attempt = message.attempts.get(number=2)
    assert attempt.provider_message_id == attempt.reserved_id == entry.id
    assert attempt.get_route_display() == "Acme"

    acme.forward()
    message.refresh_from_db()
    assert (message.status, message.icon) == ("read", "globe")


def test_a_customers_message_is_read_from_the_journal_once(channel: Channel, acme: Server) -> None:
    acme.control("inbound", **{"from": "+5511988887777", "text": "Bom dia"})
    received = acme.receiver.all()
    for _twice in range(2):
        acme.forward(received)

    [event] = InboundEvent.objects.all()
    assert (event.source, event.state, event.skipped) == ("acme", "done", "")
    assert "acme-secret-key" not in json.dumps(event.payload)
    message = Message.objects.get()
    assert (message.text, message.direction) == ("Bom dia", "in")
    assert message.conversation.channel.kind == "acme"
    assert message.conversation.contact.phone_number == "+5511988887777"


def test_a_message_written_on_its_phone_has_its_route(channel: Channel, acme: Server) -> None:
    Channel.objects.update(ignore_messages_sent_outside=False)
    acme.control("inbound", **{"from": "+5511988887777", "text": "Já vai", "outgoing": True})
    acme.forward()
    message = Message.objects.get()
    assert (message.sent_outside, message.status, message.route) == (True, "sent", "acme")


def test_an_edit_and_a_deletion_are_applied(channel: Channel, acme: Server) -> None:
    first, second = (
        acme.control("inbound", **{"from": "+5511988887777", "text": text})["id"]
        for text in ("Bom dia", "Oi")
    )
    acme.control("change", id=first, event="edited", text="Boa tarde")
    acme.control("change", id=second, event="deleted")
    acme.forward()
    changed = {message.provider_message_id: message for message in Message.objects.all()}
    assert changed[first].text == "Boa tarde"
    assert changed[second].revoked_at is not None


@pytest.mark.django_db(transaction=True)
def test_its_webhook_stores_only_what_the_engine_authenticates(other: Channel) -> None:
    def post(path: str, key: str) -> tuple[int, str]:
        headers = {"X-Acme-Key": key}
        url = f"/api/webhooks/{path}"
        answer = Client().post(url, b"{}", content_type="application/json", headers=headers)
        return answer.status_code, answer.json()["code"]

    key = "acme-secret-key"
    assert post(f"acme/{other.pk}", "other") == (401, "not_authenticated")
    assert post(f"acme/{other.pk + 1}", key) == (401, "not_authenticated")
    assert post(f"nobody/{other.pk}", key) == (404, "unknown_source")
    # It has a receiver of its own.
    assert post(f"cloud/{other.pk}", key) == (404, "unknown_source")
    assert InboundEvent.objects.count() == 0
    assert post(f"acme/{other.pk}", key) == (200, "stored")
    assert InboundEvent.objects.get().source == "acme"


def test_an_unknown_send_is_looked_up(channel: Channel, acme: Server) -> None:
    message = accept(channel, customer(graph="47", fallback="24"))
    deliver(message)
    assert trail(message)[1] == ("acme", "unknown", "connection_broken")
    make_older(DeliveryAttempt.objects.all(), reconcile.MIN_AGE + dt.timedelta(seconds=1))
    reconcile.look_up_unknown()
    message.refresh_from_db()
    assert (message.status, message.route) == ("sent", "acme")


def test_a_receipt_proves_an_unknown_send_by_the_id_that_we_chose(
    channel: Channel, other: Channel
) -> None:
    message = accept(channel, customer(graph="47", fallback="23"))
    deliver(message)
    attempt = message.attempts.get(number=2)
    assert (attempt.outcome, attempt.provider_message_id) == ("unknown", "")
    event = {"event": "status", "line": "line-1", "seq": 1, "status": "delivered"}
    body = json.dumps({**event, "id": attempt.reserved_id}).encode()
    headers = {"x-acme-key": "acme-secret-key"}
    assert authentication.receive("acme", other.pk, body, headers) == Received.STORED
    read_events()
    message.refresh_from_db()
    assert (message.status, message.route) == ("delivered", "acme")


def test_its_number_must_be_known_before_it_sends(channel: Channel, other: Channel) -> None:
    Connection.objects.filter(channel=other).update(
        linked_number="", confirmed_number="5511900000777"
    )
    message = accept(channel, customer(graph="47"))
    assert deliver(message) is not None
    assert trail(message)[1] == ("acme", "transient", "number_unknown")


def test_a_connection_test_names_it(channel: Channel, acme: Server) -> None:
    results = connection_tests.test_connection(channel)
    assert [(label, report.ok) for label, report in results][1] == ("Fallback: Acme", True)


def test_pages_and_rest_show_it(
    channel: Channel, acme: Server, client: Client, api: Any, staff: Any, plain_static: None
) -> None:
    message = accept(channel, customer(graph="47"))
    deliver(message)
    body = api.get(f"/api/messages/{message.pk}/").json()
    assert (body["route"], body["icon"]) == ("acme", "globe")
    assert [attempt["route"] for attempt in body["attempts"]] == ["official", "acme"]
    client.force_login(staff)
    page = client.get(f"/conversations/{message.conversation_id}/").content.decode()
    assert "Acme" in page
    assert "Fallback: Acme, " in client.get("/").content.decode()
    assert "Acme line" in client.get("/channels/").content.decode()
    body = api.get(f"/api/channels/{channel.pk}/").json()
    assert body["fallbacks"] == [{"kind": "acme", "channel": channel.fallback_channel.pk}]


def test_a_channel_of_its_kind_is_created_and_becomes_a_fallback(
    channel: Channel, acme: Server, client: Client, api: Any, staff: Any, plain_static: None
) -> None:
    client.force_login(staff)
    kinds = client.get("/channels/new/?kind=acme").content.decode()
    assert "A line at Acme. It can serve as a fallback." in kinds
    data = {"name": "Second", "active": "on", "request_timeout_seconds": "15"}
    client.post("/channels/new/?kind=acme", data)
    second = Channel.objects.get(name="Second")
    assert (second.kind, second.get_kind_display()) == ("acme", "Acme line")

    assert "Acme: Second" in client.get(f"/channels/{channel.pk}/").content.decode()
    ranked = [{"kind": "acme", "channel": second.pk}, {"kind": "baileys", "channel": second.pk}]
    url = f"/api/channels/{channel.pk}/"
    refused = api.patch(url, {"fallbacks": ranked}, format="json")
    assert refused.json() == {"fallbacks": ["Choose an active Baileys channel."]}
    accepted = api.patch(url, {"fallbacks": ranked[:1]}, format="json")
    assert (accepted.status_code, accepted.json()["fallback"]) == (200, "acme")
