"""The inputs from the field about people and accounts; tests/fixtures/cases has all of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from channels_app.models import Channel, Incident
from channels_app.providers.base import Accepted
from messaging import contacts
from messaging.delivery.statuses import Outcome, Route
from messaging.models import Contact, Conversation, InboundEvent, Message
from tests.messaging import field_cases
from tests.messaging.field_cases import CASES, CUSTOMER, case, receive_cloud, receive_wwebjs
from tests.messaging.support import accept, attempt_of, deliver, trail

if TYPE_CHECKING:
    from rest_framework.test import APIClient

    from tests.conftest import Provider

pytestmark = pytest.mark.django_db


def play(name: str, channel: Channel, api: APIClient) -> list[str]:
    """Receive a case's steps; return the ids of the messages that its REST calls stored."""
    written: dict[str, str] = {"@NUM2@": f"{CUSTOMER[:-1]}9", "@N@": "0001", "@SENT@": ""}
    stored = []
    for step in case(name)["steps"]:
        text = json.dumps(step).replace("@NUM@", CUSTOMER)
        for placeholder, value in written.items():
            text = text.replace(placeholder, value)
        if "REST" not in step:
            receive_cloud([json.loads(text)])
            continue
        _, path, body = json.loads(text)["REST"]
        response = api.post(path, {**body, "channel": channel.pk}, format="json")
        assert response.status_code == 202, response.content
        stored.append(response.json()["id"])
        if "@SENT@" in json.dumps(case(name)):
            message = Message.objects.get(pk=stored[-1])
            deliver(message)
            written["@SENT@"] = message.attempts.get().provider_message_id
    return stored


def texts() -> list[str]:
    [conversation] = Conversation.objects.all()
    return list(conversation.messages.order_by("created_at").values_list("text", flat=True))


def test_every_case_is_loaded_by_a_test() -> None:
    tests = "".join(file.read_text() for file in CASES.parents[1].rglob("test_*.py"))
    tests += (CASES.parents[1] / "messaging" / "field_cases.py").read_text()
    missing = [file.stem for file in CASES.rglob("*.json") if file.stem not in tests]
    assert missing == []


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("address-whatsapp-told-is-refused", ["preciso de ajuda", "pois não"]),
        ("bsuid-customer-cannot-be-answered", ["olá", "oi"]),
        ("other-spelling-of-known-number", ["olá", "respondo"]),
        (
            "phone-and-bsuid-never-joined",
            ["1 só telefone", "2 só BSUID", "3 os dois", "4 só BSUID"],
        ),
        ("system-number-and-id-change", ["antes", "A changed", "sou eu, número novo"]),
    ],
)
def test_one_customer_has_one_conversation(
    channel: Channel, api: APIClient, name: str, read: list[str]
) -> None:
    play(f"official/{name}", channel, api)
    assert texts() == read
    contact = Contact.objects.get(merged_into=None)
    if name == "phone-and-bsuid-never-joined":
        assert (contact.phone_number, contact.user_id) == (f"+{CUSTOMER}", "BR.770001")
    if name == "system-number-and-id-change":
        assert contact.phone_number == f"+{CUSTOMER[:-1]}9"


def test_the_status_of_a_payment_sends_nothing_again(
    wired: Channel, api: APIClient, graph: Provider
) -> None:
    [id_] = play("official/payment-status-is-no-delivery-failure", wired, api)
    message = Message.objects.get(pk=id_)
    assert deliver(message) is None
    assert (trail(message), message.icon) == ([("official", "accepted", "")], "sent")


def test_account_events_are_incidents(channel: Channel, api: APIClient) -> None:
    play("official/account-fields-kept-as-unknown_channel", channel, api)
    assert sorted(Incident.objects.values_list("reason", flat=True)) == [
        "130429", "account_disconnected",
    ]  # fmt: skip
    assert set(InboundEvent.objects.values_list("skipped", flat=True)) == {""}


@pytest.mark.parametrize("name", case("evolution/lid-and-number-never-joined")["cases"])
def test_lid_and_number_of_evolution_are_one(baileys: Channel, name: str) -> None:
    baileys.ignore_messages_sent_outside = False
    baileys.save()
    events = case("evolution/lid-and-number-never-joined")["cases"][name]
    field_cases.receive_evolution(baileys, events)
    assert len(texts()) == 2
    contact = Contact.objects.get(merged_into=None)
    assert contact.phone_number
    assert contact.user_id


def test_lid_and_number_of_wwebjs_are_one(wired: Channel) -> None:
    sent = accept(wired, to="+5511999914047")
    attempt = attempt_of(sent, outcome=Outcome.ACCEPTED, route=Route.WWEBJS)
    answer = Accepted("3EB0", "5511999914047@c.us", lid="999000000000001@lid")
    with transaction.atomic():
        contacts.learn_from_answer(attempt, answer)
    receive_wwebjs(wired, case("wwebjs/lid-and-number-never-joined")["callbacks"])
    assert sorted(texts()) == ["Olá", "resposta"]


def test_an_edit_and_a_deletion_before_their_messages(baileys: Channel) -> None:
    field_cases.receive_evolution(baileys, case("evolution/edit-before-message")["events"])
    edited, deleted = Message.objects.order_by("created_at")
    assert (edited.text, edited.edited_at is not None) == ("depois", True)
    assert deleted.revoked_at is not None


def test_names_of_senders_and_address_books(channel: Channel, baileys: Channel) -> None:
    receive_cloud([case("fixtures/02-sender-only-in-contacts")])
    receive_cloud([case("fixtures/04-username-dropped")])
    both = Contact.objects.order_by("pk").values_list("name", "username", "user_id", "phone_number")
    assert list(both) == [
        ("Sheena Nelson", "sheena", "US.1000939", None),
        ("", "realsheena", "US.3000939", None),
    ]
    event: Any = case("fixtures/18-evo-contacts-upsert-id")
    contacts.conversation_with(baileys, phone_number="+5511900093949")
    field_cases.receive_evolution(baileys, [event])
    assert Contact.objects.get(phone_number="+5511900093949").name == "John Doe"
