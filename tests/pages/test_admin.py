"""Django's admin: what happened can be looked at there, and not changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from messaging.models import Conversation, InboundEvent, Message

pytestmark = pytest.mark.django_db
LISTS = ("contact", "conversation", "message", "deliveryattempt", "inboundevent")


@pytest.fixture
def history(conversation: Conversation, make_message: Callable[..., Message]) -> Message:
    InboundEvent.objects.create(
        source="cloud", source_key="1", dedupe_key="k1", payload={"object": "x"}
    )
    return make_message(conversation, attempts=[{"outcome": "accepted"}])


@pytest.mark.parametrize("model", LISTS)
def test_lists_open_search_and_offer_no_change(
    staff_client: Client, history: Message, model: str
) -> None:
    url = f"/admin/messaging/{model}/"

    assert staff_client.get(url, {"q": "11"}).status_code == 200
    assert staff_client.get(f"{url}add/").status_code == 403
    assert b"delete_selected" not in staff_client.get(url).content


def test_a_message_shows_its_attempts_and_cannot_be_changed(
    staff_client: Client, history: Message
) -> None:
    url = f"/admin/messaging/message/{history.pk}"

    page = staff_client.get(f"{url}/change/")

    assert page.status_code == 200
    assert b"attempts-0" in page.content
    assert b'name="_save"' not in page.content
    assert staff_client.post(f"{url}/change/", {"text": "x"}).status_code == 403
    assert staff_client.post(f"{url}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("page", ["/admin/", "/admin/messaging/message/"])
def test_the_admin_has_nothing_inline_that_the_policy_forbids(
    staff_client: Client, history: Message, page: str
) -> None:
    text = staff_client.get(page).content.decode()

    assert " style=" not in text
    assert "<style" not in text
    assert " onclick=" not in text
