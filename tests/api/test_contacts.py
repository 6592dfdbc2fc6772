"""REST: contacts, their addresses, merging and splitting, and who can be reached."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from channels_app.models import Channel
from messaging import contacts
from messaging.models import Contact, Conversation, Message

if TYPE_CHECKING:
    from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db

NUMBER, USER_ID, LID = "+5511988887777", "BR.77", "222000000000001@lid"


def conversation(channel: Channel, **addresses: Any) -> Conversation:
    made = contacts.conversation_with(channel, **addresses)
    Conversation.objects.filter(pk=made.pk).update(last_inbound_at=timezone.now())
    return made


def test_contacts_are_merged_renamed_and_split(api: APIClient, channel: Channel) -> None:
    first = conversation(channel, phone_number=NUMBER, name="Ana")
    second = conversation(channel, user_id=USER_ID, username="ana")
    message = Message.objects.create(
        conversation=second, direction="in", text="oi", created_at=timezone.now()
    )
    url = f"/api/contacts/{first.contact_id}/"
    merged = api.post(f"{url}merge/", {"with": second.contact_id}, format="json")
    assert merged.status_code == 200, merged.json()
    assert merged.json() == {
        "id": first.contact_id,
        "name": "Ana",
        "phone_number": NUMBER,
        "user_id": USER_ID,
        "username": "ana",
        "addresses": [
            {"kind": "phone", "value": NUMBER},
            {"kind": "user_id", "value": USER_ID},
        ],
        "custom_fields": {},
    }
    assert [row["id"] for row in api.get("/api/contacts/").json()["results"]] == [first.contact_id]
    # The merged one is found under the one that remains; so is its conversation.
    assert api.get(f"/api/contacts/{second.contact_id}/").json()["id"] == first.contact_id
    sent = api.post("/api/messages/", {"conversation": second.pk, "text": "oi"}, format="json")
    assert (sent.status_code, sent.json()["conversation"]) == (202, first.pk)
    again = api.post(f"{url}merge/", {"with": second.contact_id}, format="json")
    assert again.status_code == 400
    assert "with" in again.json()

    assert api.patch(url, {"name": "Dona Ana"}, format="json").json()["name"] == "Dona Ana"
    assert Contact.objects.get(pk=first.contact_id).named_by_staff
    assert api.patch(url, {"name": ""}, format="json").json()["name"] == "Ana"
    assert not Contact.objects.get(pk=first.contact_id).named_by_staff

    wrong = api.post(f"{url}split/", {"address": LID}, format="json")
    assert (wrong.status_code, list(wrong.json())[:1]) == (400, ["address"])
    split = api.post(f"{url}split/", {"address": USER_ID}, format="json")
    assert (split.status_code, split.json()["id"]) == (201, second.contact_id)
    message.refresh_from_db()
    assert message.conversation == second


@pytest.mark.parametrize(
    ("addresses", "fallback", "reachable"),
    [
        ({"phone_number": NUMBER}, "wwebjs", (True, True, "")),
        ({"phone_number": NUMBER}, "none", (True, False, "")),
        ({"user_id": USER_ID}, "none", (True, False, "")),
        ({"user_id": USER_ID}, "wwebjs", (True, False, "number is hidden")),
        ({"user_id": LID}, "wwebjs", (False, True, "does not know this customer")),
        ({"user_id": LID}, "none", (False, False, "no address of this customer")),
    ],
)
def test_a_conversation_says_which_routes_reach_the_customer(
    api: APIClient,
    make_channel: Callable[..., Channel],
    addresses: dict[str, str],
    fallback: str,
    reachable: tuple[bool, bool, str],
) -> None:
    session = {
        "wwebjs_url": "http://127.0.0.1:9",
        "wwebjs_api_key": "k",
        "wwebjs_session_id": "s",
    }
    channel = make_channel(fallback=fallback, **(session if fallback == "wwebjs" else {}))
    made = conversation(channel, **addresses)
    found = api.get(f"/api/conversations/{made.pk}/").json()["reachable"]
    assert (found["official"], found["fallback"]) == reachable[:2]
    assert reachable[2] in found["why"]
    assert bool(found["why"]) == bool(reachable[2])


def test_a_message_needs_a_recipient_or_a_conversation_of_its_channel(
    api: APIClient, channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    made = conversation(channel, user_id=USER_ID)
    for wrong, field in (
        ({}, "channel"),
        ({"channel": channel.pk}, "to"),
        ({"conversation": made.pk, "to": NUMBER}, "to"),
        ({"conversation": made.pk, "channel": make_channel().pk}, "conversation"),
        ({"conversation": 0}, "conversation"),
    ):
        answer = api.post("/api/messages/", {"text": "oi", **wrong}, format="json")
        assert answer.status_code == 400
        assert field in answer.json(), wrong
    sent = api.post("/api/messages/", {"conversation": made.pk, "text": "oi"}, format="json")
    assert (sent.status_code, sent.json()["to"]) == (202, USER_ID)
    found = api.get("/api/messages/", {"to": USER_ID}).json()["results"]
    assert [row["id"] for row in found] == [sent.json()["id"]]
    assert made.created_at < timezone.now() + dt.timedelta(seconds=1)
