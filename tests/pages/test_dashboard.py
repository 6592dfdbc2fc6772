from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client

from messaging.models import Conversation, InboundEvent, Message
from tests.pages.html import parse

pytestmark = pytest.mark.django_db


def test_the_dashboard_shows_the_figures_of_the_day(
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


def test_a_message_that_needs_attention_links_to_its_bubble(
    staff_client: Client, conversation: Conversation, make_message: Callable[..., Message]
) -> None:
    make_message(conversation, status="rejected", decision="")  # not final yet
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


def test_an_empty_attention_list_shows_a_text(
    staff_client: Client, conversation: Conversation
) -> None:
    assert "Nothing needs your attention." in parse(staff_client.get("/").content).text


def test_the_sections_depend_on_the_permissions(
    make_user: Callable[..., User],
    client_for: Callable[[User], Client],
    conversation: Conversation,
) -> None:
    page = parse(client_for(make_user("leo", "messaging.view_message")).get("/").content)

    assert not page.all("section", aria_labelledby="channels")
    assert not page.all("section", aria_labelledby="latest")
    assert not page.all("a", href="/channels/")


def test_failed_events_are_counted_for_users_who_may_view_them(
    staff_client: Client, reader: Client, conversation: Conversation
) -> None:
    def event(name: str, **fields: str) -> None:
        InboundEvent.objects.create(
            source="evolution", source_key="1", dedupe_key=name, payload={}, **fields
        )

    assert b"Received events" not in staff_client.get("/").content
    event("a", state="set_aside", error="KeyError: 'x'")
    event("b", state="done", skipped="event:something.new")
    event("c", state="done", skipped="event:something.new, group")
    event("d", state="done", skipped="group")
    event("g", state="done", skipped="status:payment:failed")
    event("e", state="done")
    event("f", state="done", skipped="unknown_channel")

    section = parse(staff_client.get("/").content).one("section", aria_labelledby="journal")
    assert "1 event could not be processed and is marked as failed." in section.text
    assert "3 events of types that this version does not support were stored." in section.text
    kinds = [kind.attributes["data-skipped"] for kind in section.all("code", data_skipped=None)]
    assert kinds == ["event:something.new", "status:payment:failed", "group"]
    assert "1 event for a number or session without a channel was stored." in section.text
    aside, unknown, unowned = (link.attributes["href"] for link in section.all("a"))
    assert b"1 inbound event" in staff_client.get(unowned).content
    assert b"1 inbound event" in staff_client.get(aside).content
    page = staff_client.get(unknown).content.decode()
    assert "5 inbound events" in page
    for choice in ("Any kind (5)", "event:something.new (1)", "group (1)"):
        assert choice in page
    assert b"1 inbound event" in staff_client.get(f"{aside.split('?')[0]}?skipped=group").content
    assert b"Received events" not in reader.get("/").content
