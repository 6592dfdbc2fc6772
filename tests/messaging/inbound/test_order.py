"""The order of messages: by the provider's time, and within a second by arrival."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from django.utils import timezone

from channels_app.models import Channel
from messaging import selectors
from messaging.live.frames import ConversationView
from messaging.models import Conversation, InboundEvent, Message
from tests.messaging import field_cases
from tests.messaging.support import accept

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static")]

SECOND = dt.datetime(2026, 11, 30, 12, 0, 7, tzinfo=dt.UTC)
NUMBER = f"+{field_cases.CUSTOMER}"


def everywhere(api: APIClient, admin_user: User) -> list[str]:
    """Return the texts in the order of the page, which REST and live updates must share."""
    conversation = Conversation.objects.get()
    page = [message.text for message in selectors.message_page(conversation).messages]
    rest = api.get("/api/messages/", {"conversation": conversation.pk}).json()["results"]
    assert [message["text"] for message in reversed(rest)] == page
    live = ConversationView(admin_user, "en", str(conversation.pk))
    ids = list(Message.objects.values_list("pk", flat=True))
    frames = live.frames({"messages": ids})
    texts = {str(message.pk): message.text for message in Message.objects.all()}
    assert [texts[frame["key"].partition(":")[2]] for frame in frames] == page
    assert [frame["sort"] for frame in frames] == sorted(frame["sort"] for frame in frames)
    [row] = selectors.with_latest([conversation])
    assert row.latest.text == page[-1]  # type: ignore[attr-defined]
    older = selectors.message_page(
        conversation, before=selectors.message_page(conversation).messages[-1].pk
    )
    assert [message.text for message in older.messages] == page[:-1]
    return page


def test_messages_of_one_second_are_shown_as_they_arrived(
    channel: Channel, api: APIClient, admin_user: User
) -> None:
    steps = field_cases.case("official/same-second-order")["steps"]
    lines = [f"linha {number}" for number in range(1, 7)]
    with time_machine.travel(SECOND + dt.timedelta(seconds=0.3), tick=False) as clock:
        field_cases.receive_cloud(steps[:3])
        accept(channel, NUMBER, text="nossa")
        clock.shift(0.2)
        field_cases.receive_cloud(steps[3:5])
        accept(channel, NUMBER, text="outra")
        # The last one of the second arrives late, after an answer of the next seconds.
        clock.shift(3)
        accept(channel, NUMBER, text="depois")
        clock.shift(-3)
        field_cases.receive_cloud(steps[5:])
    page = everywhere(api, admin_user)
    assert page == [*lines[:3], "nossa", *lines[3:5], "outra", lines[5], "depois"]


def test_the_order_is_that_of_arrival_on_every_channel(
    baileys: Channel, api: APIClient, admin_user: User
) -> None:
    field_cases.receive_evolution(
        baileys, field_cases.case("evolution/same-second-order")["events"]
    )
    page = everywhere(api, admin_user)
    # The events were sent within a second, and received within another one, perhaps.
    assert page == [f"SEQ {number}" for number in range(8)]


def test_history_takes_its_place_by_time(baileys: Channel) -> None:
    def event(name: str, id_: str, seconds: int) -> dict[str, Any]:
        key = {"remoteJid": "5511988880001@s.whatsapp.net", "fromMe": False, "id": id_}
        message = {"conversation": id_}
        data = {"key": key, "message": message, "messageTimestamp": seconds}
        return {"event": name, "data": data if name == "messages.upsert" else [data]}

    at = int(SECOND.timestamp())
    events = [
        event("messages.upsert", "3A0003", at),
        event("messages.set", "3A0001", at - 60),
        event("messages.set", "3A0002", at - 60),
        event("messages.upsert", "3A0004", at),
    ]
    field_cases.receive_evolution(baileys, events)
    page = selectors.message_page(Conversation.objects.get())
    assert [message.text for message in page.messages] == ["3A0001", "3A0002", "3A0003", "3A0004"]


@pytest.mark.parametrize("provider", ["cloud", "evolution"])
def test_a_time_that_cannot_be_read_is_that_of_the_arrival(
    channel: Channel, baileys: Channel, provider: str
) -> None:
    if provider == "cloud":
        name = "official/time-not-understood-loses-the-message"
        field_cases.receive_cloud(field_cases.case(name)["steps"])
        texts = ["em milissegundos", "sem hora"]
    else:
        field_cases.receive_evolution(
            baileys, field_cases.case("evolution/no-readable-time")["events"]
        )
        texts = ["ms", "zero", "nulo", "iso"]
    page = selectors.message_page(Conversation.objects.get()).messages
    assert [message.text for message in page] == texts
    arrived = InboundEvent.objects.order_by("pk").values_list("received_at", flat=True)
    assert [message.created_at for message in page] == list(arrived)
    assert all(at <= timezone.now() for at in arrived)
