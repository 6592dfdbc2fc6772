"""The contact's page, and what a conversation says about an unreachable customer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from channels_app.models import Channel
from channels_app.providers.evolution import events as evolution_events
from core import http_client
from messaging import contacts, pictures
from messaging.inbound import handlers
from messaging.models import Contact, ContactMerge, Conversation, Message

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static")]

NUMBER, USER_ID, LID = "+5511988887777", "BR.77", "222000000000001@lid"


def conversation(channel: Channel, **addresses: Any) -> Conversation:
    made = contacts.conversation_with(channel, **addresses)
    Conversation.objects.filter(pk=made.pk).update(last_inbound_at=timezone.now())
    return made


def test_contacts_are_joined_and_separated_on_the_page(
    admin_client: Client, channel: Channel
) -> None:
    first = conversation(channel, phone_number=NUMBER, name="Ana")
    second = conversation(channel, user_id=USER_ID)
    url = f"/contacts/{first.contact_id}/"
    assert "+55 11 98888-7777" in admin_client.get(url).content.decode()
    unknown = admin_client.post(url, {"with": "+5511977776666"})
    assert unknown.status_code == 400
    assert admin_client.post(url, {"with": USER_ID}).status_code == 302
    assert USER_ID in admin_client.get(url).content.decode()
    for old, new in (
        (f"/contacts/{second.contact_id}/", url),
        (f"/conversations/{second.pk}/", f"/conversations/{first.pk}/"),
    ):
        assert admin_client.get(old).headers["Location"] == new
    [merge] = ContactMerge.objects.all()
    assert admin_client.post(url, {"undo": merge.pk}).status_code == 302
    assert Conversation.objects.filter(pk=second.pk, contact=second.contact_id).exists()
    admin_client.post(url, {"name": "Dona Ana"})
    assert Contact.objects.get(pk=first.contact_id).name == "Dona Ana"
    contacts.conversation_with(channel, phone_number=NUMBER, user_id=LID)
    address = first.contact.addresses.get(key=LID)
    assert admin_client.post(url, {"split": address.pk}).status_code == 302
    assert Contact.objects.get(user_id=LID).pk != first.contact_id


def test_an_unreachable_customer_is_named_before_anything_is_typed(
    admin_client: Client, channel: Channel
) -> None:
    made = conversation(channel, user_id=LID)
    page = admin_client.get(f"/conversations/{made.pk}/").content.decode()
    assert "não tem um endereço deste cliente" in page
    assert page.count("disabled") >= 3


def test_a_customer_with_a_hidden_number_is_asked_for_it(
    admin_client: Client, wired: Channel
) -> None:
    made = conversation(wired, user_id=USER_ID)
    page = admin_client.get(f"/conversations/{made.pk}/").content.decode()
    assert "Pedir o número de telefone" in page
    admin_client.post(f"/conversations/{made.pk}/ask/")
    question = Message.objects.get()
    assert (question.type, question.content["type"]) == ("interactive", "request_contact_info")
    assert question.content["action"] == {"name": "request_contact_info"}


def test_a_profile_picture_is_fetched_by_a_job_when_it_is_another_one(
    admin_client: Client,
    channel: Channel,
    make_channel: Callable[..., Channel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    baileys = make_channel(
        name="Oficina", kind="baileys", phone_number_id="", phone_number="+5511900000777",
        instance_name="shop",
    )  # fmt: skip
    fetched: list[str] = []

    def request(method: str, base: str, *rest: Any, **options: Any) -> http_client.Answer:
        fetched.append(base)
        return http_client.Answer(200, {}, b"\x89PNG\r\n\x1a\nrest")

    monkeypatch.setattr(http_client, "request", request)
    contact = conversation(channel, phone_number=NUMBER, name="Ana").contact
    url = f"/contacts/{contact.pk}/picture/"
    assert admin_client.get(url).status_code == 404
    address = "https://pps.whatsapp.net/v/t61/1_n.jpg?oe="
    for reported in (f"{address}1", f"{address}2", "https://example.com/1.jpg"):
        data = {"remoteJid": f"{NUMBER[1:]}@s.whatsapp.net", "profilePicUrl": reported}
        payload = {"event": "contacts.update", "instance": "", "data": [data]}
        with transaction.atomic():
            handlers.apply_events(evolution_events.read(payload), {"": baileys})
        for job in ProcrastinateJob.objects.filter(task_name="messaging.fetch_picture"):
            pictures.fetch(**job.args)
        ProcrastinateJob.objects.all().delete()
        if reported != "https://example.com/1.jpg":
            picture = admin_client.get(url)
            assert (picture.status_code, picture["Content-Type"]) == (200, "image/png")
            assert url in admin_client.get(f"/contacts/{contact.pk}/").content.decode()
    # What changes in the address is no other picture, and no other host is asked.
    assert fetched == [f"{address}1"]
    assert admin_client.get(url).status_code == 404
    contact.refresh_from_db()
    assert contact.name == "Ana"
