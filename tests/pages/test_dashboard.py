from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client

from messaging.models import Conversation, Message
from tests.pages.html import parse

pytestmark = pytest.mark.django_db


def test_the_figures_of_the_day(
    staff_client: Client, conversation: Conversation, make_message: Callable[..., Message]
) -> None:
    for fields in (
        {"status": "sent"},
        {"status": "read", "route": "wwebjs"},
        {"status": "queued", "route": None},
        {"status": "sending"},
        {"status": "rejected"},
        {"status": "unconfirmed"},
        {"status": "unconfirmed", "minutes_ago": 3 * 24 * 60},
        {"direction": "in", "route": None},
    ):
        make_message(conversation, **fields)

    page = parse(staff_client.get("/").content)

    figures = {
        tile.attributes["data-tile"]: tile.one(class_="tile-number").text
        for tile in page.all(data_tile=None)
    }
    assert figures == {
        "sent": "1", "delivered": "0", "read": "1", "fallback": "1", "waiting": "2",
        "rejected": "1", "unconfirmed": "1",
    }  # fmt: skip


def test_a_message_that_needs_a_person_leads_to_its_bubble(
    staff_client: Client, conversation: Conversation, make_message: Callable[..., Message]
) -> None:
    make_message(conversation, status="rejected", decision="")  # still on its way
    stuck = make_message(
        conversation, status="rejected", decision="no_fallback", error_code="131026", text="Oi?"
    )

    page = parse(staff_client.get("/").content)

    links = [row.attributes["href"] for row in page.one("section", aria_labelledby="attention")
             .all("a", class_="row")]  # fmt: skip
    assert links == [f"/conversations/{conversation.pk}/#message-{stuck.pk}"]
    assert "Message undeliverable (131026)" in page.text
    bubbles = parse(staff_client.get(links[0].split("#")[0]).content)
    assert bubbles.all("article", id=f"message-{stuck.pk}")


def test_nothing_to_do_is_said_in_words(staff_client: Client, conversation: Conversation) -> None:
    assert "Nothing waits for you." in parse(staff_client.get("/").content).text


def test_the_parts_follow_the_permissions(
    make_user: Callable[..., User],
    client_for: Callable[[User], Client],
    conversation: Conversation,
) -> None:
    page = parse(client_for(make_user("leo", "messaging.view_message")).get("/").content)

    assert not page.all("section", aria_labelledby="channels")
    assert not page.all("section", aria_labelledby="latest")
    assert not page.all("a", href="/channels/")
