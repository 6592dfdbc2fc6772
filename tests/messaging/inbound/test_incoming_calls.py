"""Incoming calls: one record per call, regardless of the number and order of its events."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from channels_app.models import Channel
from messaging import selectors
from messaging.inbound import journal, reader
from messaging.live import frames, publisher
from messaging.models import CallAttempt, Contact, Conversation, InboundEvent, Message
from tests.channels_app.providers.evolution.bodies import ANA, LID, body
from tests.channels_app.providers.evolution.recordings import samples
from tests.pages.html import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import User
    from django.test import Client
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static")]

OURS = "5511900000777@s.whatsapp.net"
AT = dt.datetime(2026, 11, 21, 22, tzinfo=dt.UTC)
RECORDED = samples()
RAW = "baileys/call:raw(websocket only)/socket.io"


@pytest.fixture
def phone(make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        name="Oficina",
        kind="baileys",
        phone_number_id="",
        phone_number="+5511900000777",
        instance_name="shop",
    )


def receive(channel: Channel, payload: dict[str, Any]) -> InboundEvent:
    """Receive and read one event."""
    key = uuid.uuid4().hex
    journal.store(source="evolution", source_key=str(channel.pk), dedupe_key=key, payload=payload)
    reader.read_pending("evolution", str(channel.pk))
    event = InboundEvent.objects.get(dedupe_key=key)
    assert (event.state, event.error) == ("done", "")
    return event


def call(status: str, *, seconds: int = 0, **more: Any) -> dict[str, Any]:
    date = (AT + dt.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    data = {"chatId": ANA, "from": ANA, "id": "C1", "date": date, "status": status, **more}
    return body("call", {"isVideo": False, "isGroup": False, **data})


@pytest.mark.parametrize("name", ["baileys/call/socket.io", "baileys/call/webhook"])
def test_the_recorded_call_of_an_unknown_number_creates_a_conversation(
    phone: Channel, name: str
) -> None:
    receive(phone, {**RECORDED[name], "instance": "shop"})
    record = CallAttempt.objects.get()
    assert (record.incoming, record.status, record.call_id) == (
        True,
        "ringing",
        "CALLID1",
    )
    assert (record.phone_number, record.created_at) == ("+5511988887777", AT)
    assert (record.channel, record.conversation.channel) == (phone, phone)
    assert record.conversation.contact.phone_number == "+5511988887777"
    assert record.conversation.unread_count == 1
    assert record.conversation.last_message_at == AT
    # Only a message opens Meta's service window for free text, and there is none.
    assert record.conversation.last_inbound_at is None
    assert not Message.objects.exists()


def test_a_call_of_a_known_contact_uses_the_existing_conversation(phone: Channel) -> None:
    contact = Contact.objects.create(phone_number="+551188887777", name="Ana")
    known = Conversation.objects.create(channel=phone, contact=contact)
    receive(phone, call("offer"))
    assert CallAttempt.objects.get().conversation == known


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (("offer",), "ringing"),
        (("offer", "ringing", "a-word-to-come"), "ringing"),
        (("offer", "ringing", "timeout"), "missed"),
        (("offer", "reject", "terminate"), "rejected"),
        (("offer", "accept", "terminate"), "accepted"),
        (("offer", "terminate"), "ended"),
        (("timeout",), "missed"),
    ],
)
def test_a_call_has_one_record_that_does_not_depend_on_the_order_of_events(
    phone: Channel, statuses: tuple[str, ...], status: str
) -> None:
    events = [call(word, seconds=number) for number, word in enumerate(statuses)]
    for order in itertools.permutations(events):
        for event in (*order, *order):
            receive(phone, event)
        record = CallAttempt.objects.get()
        assert (record.status, record.created_at) == (status, AT)
        assert record.conversation.unread_count == 1
        record.delete()
        Conversation.objects.update(unread_count=0, last_message_at=None)


def test_two_calls_have_two_records(phone: Channel) -> None:
    receive(phone, call("offer"))
    receive(phone, call("offer", id="C2"))
    assert CallAttempt.objects.count() == 2
    assert Conversation.objects.get().unread_count == 2


def test_a_caller_identified_by_id_only_is_recorded(phone: Channel) -> None:
    receive(phone, call("offer", **{"from": LID, "chatId": LID}))
    record = CallAttempt.objects.get()
    assert (record.phone_number, record.conversation.contact.user_id) == ("", LID)
    receive(phone, call("timeout", **{"from": "", "chatId": ""}))
    record.refresh_from_db()
    assert record.status == "missed"


@pytest.mark.parametrize(
    "payload",
    [
        call("offer", isGroup=True),
        call("offer", chatId="120363025246125486@g.us"),
        call("offer", **{"from": "", "chatId": ""}),
        call("offer", **{"from": None, "chatId": 5}),
        call("accept", **{"from": OURS, "chatId": OURS}),
        call("offer", id=""),
        {**RECORDED[RAW], "instance": "shop"},
    ],
    ids=["group", "group chat", "nobody", "no addresses", "own phone", "no id", "raw node"],
)
def test_an_event_without_a_recordable_call_is_only_stored(
    phone: Channel, payload: dict[str, Any]
) -> None:
    assert receive(phone, payload).payload["data"] == payload["data"]
    assert not CallAttempt.objects.exists()
    assert not Contact.objects.exists()


def test_a_time_in_the_future_counts_as_now(phone: Channel) -> None:
    receive(phone, call("offer", date="2999-01-01T00:00:00.000Z"))
    assert CallAttempt.objects.get().created_at <= timezone.now()


# The text in the thread, and the text in the list of conversations.
TEXTS = {
    "pt-br": {
        "offer": ("Ligação de Ana", "Ligação"),
        "timeout": ("Ligação perdida de Ana", "Ligação · perdida"),
        "reject": ("Ligação de Ana, recusada", "Ligação · recusada"),
        "accept": ("Ligação de Ana, atendida", "Ligação · atendida"),
        "terminate": ("Ligação de Ana, encerrada", "Ligação · encerrada"),
    },
    "en": {
        "offer": ("Call from Ana", "Call"),
        "timeout": ("Missed call from Ana", "Call · missed"),
        "reject": ("Call from Ana, declined", "Call · declined"),
        "accept": ("Call from Ana, answered", "Call · answered"),
        "terminate": ("Call from Ana, ended", "Call · ended"),
    },
}


@pytest.mark.parametrize("status", TEXTS["en"])
@pytest.mark.parametrize("language", TEXTS)
def test_open_pages_receive_calls_in_their_language(
    phone: Channel, staff: User, status: str, language: str
) -> None:
    thread, listed = TEXTS[language][status]
    Contact.objects.create(phone_number="+5511988887777", name="Ana")
    before = timezone.now()
    receive(phone, call(status))
    record = CallAttempt.objects.get()
    conversation = str(record.conversation_id)
    view = frames.ConversationView(user=staff, language=language, value=conversation)
    [frame] = frames.catch_up([view], before)
    assert f"<span>{thread}</span>" in frame["html"]
    assert (frame["key"], frame["version"]) == (f"call:{record.pk}", 1)
    inbox = frames.InboxView(user=staff, language=language, value="")
    [row] = frames.catch_up([inbox], before)
    assert parse(row["html"]).one("span", class_="row-snippet").text == listed
    CallAttempt.objects.update(video=True)
    [frame] = frames.frames([view], {"calls": [record.pk]})
    assert ("ídeo" if language == "pt-br" else "ideo call") in frame["html"]


def test_each_change_is_published_to_the_conversation_and_the_list(
    phone: Channel,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    pushed: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        publisher, "publish", lambda group, **changed: pushed.append((group, changed))
    )
    for status, version in (("offer", 1), ("timeout", 2), ("ringing", 2)):
        pushed.clear()
        with django_capture_on_commit_callbacks(execute=True):
            receive(phone, call(status))
        record = CallAttempt.objects.get()
        assert record.version == version
        if status == "ringing":
            assert pushed == []
        else:
            group = publisher.conversation_group(record.conversation_id)
            assert (group, {"calls": record.pk}) in pushed
            assert (publisher.INBOX, {"conversations": record.conversation_id}) in pushed


def test_the_api_lists_incoming_and_outgoing_calls(phone: Channel, api: APIClient) -> None:
    receive(phone, call("timeout", isVideo=True))
    record = CallAttempt.objects.get()
    CallAttempt.objects.create(
        conversation=record.conversation, channel=phone, phone_number="+5511988887777"
    )
    answer = api.get(f"/api/conversations/{record.conversation_id}/calls/")
    outgoing, incoming = answer.json()["results"]
    assert (outgoing["direction"], outgoing["status"]) == ("out", "")
    assert (incoming["direction"], incoming["status"], incoming["video"]) == ("in", "missed", True)
    assert (incoming["created_by"], incoming["phone_number"]) == (None, "+5511988887777")


def test_the_page_and_the_lists_show_an_incoming_call(
    phone: Channel, client: Client, staff: User, settings: Any
) -> None:
    receive(phone, call("timeout"))
    [row] = selectors.with_latest(list(selectors.conversation_list()))
    assert row.latest_call == CallAttempt.objects.get()  # type: ignore[attr-defined]
    client.force_login(staff)
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "en"
    for path in ("/conversations/", "/", f"/conversations/{row.pk}/"):
        page = client.get(path).content.decode()
        assert "Call · missed" in page, path
        assert "No message yet" not in page
    assert "Missed call from +55 11 98888-7777" in page
    # The lists show a later message instead.
    Message.objects.create(
        conversation=row, direction="in", text="Liguei agora", created_at=timezone.now()
    )
    [row] = selectors.with_latest(list(selectors.conversation_list()))
    assert row.latest_call is None  # type: ignore[attr-defined]
