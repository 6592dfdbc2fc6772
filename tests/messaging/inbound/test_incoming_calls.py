"""Calls from customers: one note each, whatever is told of it and in whatever order."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from channels_app.models import Channel
from messaging import selectors
from messaging.inbound import journal
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


def tell(channel: Channel, payload: dict[str, Any]) -> InboundEvent:
    """An event comes, and is read."""
    key = uuid.uuid4().hex
    journal.store(source="evolution", source_key=str(channel.pk), dedupe_key=key, payload=payload)
    journal.read_pending("evolution", str(channel.pk))
    event = InboundEvent.objects.get(dedupe_key=key)
    assert (event.state, event.error) == ("done", "")
    return event


def call(status: str, *, seconds: int = 0, **more: Any) -> dict[str, Any]:
    date = (AT + dt.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    data = {"chatId": ANA, "from": ANA, "id": "C1", "date": date, "status": status, **more}
    return body("call", {"isVideo": False, "isGroup": False, **data})


@pytest.mark.parametrize("name", ["baileys/call/socket.io", "baileys/call/webhook"])
def test_the_recorded_call_of_somebody_unknown_makes_a_conversation(
    phone: Channel, name: str
) -> None:
    tell(phone, {**RECORDED[name], "instance": "shop"})
    noted = CallAttempt.objects.get()
    assert (noted.incoming, noted.status, noted.call_id) == (True, "ringing", "CALLID1")
    assert (noted.phone_number, noted.created_at) == ("+5511988887777", AT)
    assert (noted.channel, noted.conversation.channel) == (phone, phone)
    assert noted.conversation.contact.phone_number == "+5511988887777"
    assert noted.conversation.unread_count == 1
    assert noted.conversation.last_message_at == AT
    # Meta's window for free text opens by a message, and nothing was written here.
    assert noted.conversation.last_inbound_at is None
    assert not Message.objects.exists()


def test_a_known_customers_call_is_in_the_conversation_that_is_there(phone: Channel) -> None:
    contact = Contact.objects.create(phone_number="+551188887777", name="Ana")
    known = Conversation.objects.create(channel=phone, contact=contact)
    tell(phone, call("offer"))
    assert CallAttempt.objects.get().conversation == known


@pytest.mark.parametrize(
    ("told", "status"),
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
def test_a_call_has_one_note_that_ends_the_same_in_any_order(
    phone: Channel, told: tuple[str, ...], status: str
) -> None:
    events = [call(word, seconds=number) for number, word in enumerate(told)]
    for story in itertools.permutations(events):
        for event in (*story, *story):
            tell(phone, event)
        noted = CallAttempt.objects.get()
        assert (noted.status, noted.created_at) == (status, AT)
        assert noted.conversation.unread_count == 1
        noted.delete()
        Conversation.objects.update(unread_count=0)


def test_two_calls_have_two_notes(phone: Channel) -> None:
    tell(phone, call("offer"))
    tell(phone, call("offer", id="C2"))
    assert CallAttempt.objects.count() == 2
    assert Conversation.objects.get().unread_count == 2


def test_a_caller_known_by_an_id_only_is_noted_as_one_who_writes_would_be(phone: Channel) -> None:
    tell(phone, call("offer", **{"from": LID, "chatId": LID}))
    noted = CallAttempt.objects.get()
    assert (noted.phone_number, noted.conversation.contact.user_id) == ("", LID)
    tell(phone, call("timeout", **{"from": "", "chatId": ""}))
    noted.refresh_from_db()
    assert noted.status == "missed"


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
def test_what_cannot_be_noted_is_kept_without_a_note(
    phone: Channel, payload: dict[str, Any]
) -> None:
    assert tell(phone, payload).payload["data"] == payload["data"]
    assert not CallAttempt.objects.exists()
    assert not Contact.objects.exists()


def test_a_time_to_come_counts_as_now(phone: Channel) -> None:
    tell(phone, call("offer", date="2999-01-01T00:00:00.000Z"))
    assert CallAttempt.objects.get().created_at <= timezone.now()


# In the thread, and in the list of conversations.
WORDS = {
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
        "terminate": ("Call from Ana, over", "Call · over"),
    },
}


@pytest.mark.parametrize("status", WORDS["en"])
@pytest.mark.parametrize("language", WORDS)
def test_open_windows_are_told_in_their_language(
    phone: Channel, staff: User, status: str, language: str
) -> None:
    thread, listed = WORDS[language][status]
    Contact.objects.create(phone_number="+5511988887777", name="Ana")
    before = timezone.now()
    tell(phone, call(status))
    noted = CallAttempt.objects.get()
    conversation = str(noted.conversation_id)
    view = frames.ConversationView(user=staff, language=language, value=conversation)
    [frame] = frames.catch_up([view], before)
    assert f"<span>{thread}</span>" in frame["html"]
    assert (frame["key"], frame["version"]) == (f"call:{noted.pk}", 1)
    inbox = frames.InboxView(user=staff, language=language, value="")
    [row] = frames.catch_up([inbox], before)
    assert parse(row["html"]).one("span", class_="row-snippet").text == listed
    CallAttempt.objects.update(video=True)
    [frame] = frames.frames([view], {"calls": [noted.pk]})
    assert ("ídeo" if language == "pt-br" else "ideo call") in frame["html"]


def test_each_change_is_told_to_the_conversation_and_to_the_list(
    phone: Channel,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    pushed: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        publisher._pushes, "add", lambda group, changed: pushed.append((group, changed))
    )
    for status, version in (("offer", 1), ("timeout", 2), ("ringing", 2)):
        pushed.clear()
        with django_capture_on_commit_callbacks(execute=True):
            tell(phone, call(status))
        noted = CallAttempt.objects.get()
        assert noted.version == version
        if status == "ringing":
            assert pushed == []
        else:
            group = publisher.conversation_group(noted.conversation_id)
            assert (group, {"calls": noted.pk}) in pushed
            assert (publisher.INBOX, {"conversations": noted.conversation_id}) in pushed


def test_programs_read_incoming_calls_beside_those_begun_here(
    phone: Channel, api: APIClient
) -> None:
    tell(phone, call("timeout", isVideo=True))
    noted = CallAttempt.objects.get()
    CallAttempt.objects.create(
        conversation=noted.conversation, channel=phone, phone_number="+5511988887777"
    )
    answer = api.get(f"/api/conversations/{noted.conversation_id}/calls/")
    out, came = answer.json()["results"]
    assert (out["direction"], out["status"]) == ("out", "")
    assert (came["direction"], came["status"], came["video"]) == ("in", "missed", True)
    assert (came["created_by"], came["phone_number"]) == (None, "+5511988887777")


def test_the_page_and_the_lists_show_the_call(
    phone: Channel, client: Client, staff: User, settings: Any
) -> None:
    tell(phone, call("timeout"))
    [row] = selectors.with_latest(list(selectors.conversation_list()))
    assert row.latest_call == CallAttempt.objects.get()  # type: ignore[attr-defined]
    client.force_login(staff)
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "en"
    for path in ("/conversations/", "/", f"/conversations/{row.pk}/"):
        page = client.get(path).content.decode()
        assert "Call · missed" in page, path
        assert "No message yet" not in page
    assert "Missed call from +55 11 98888-7777" in page
    # What was written since is what the lists show.
    Message.objects.create(
        conversation=row, direction="in", text="Liguei agora", created_at=timezone.now()
    )
    [row] = selectors.with_latest(list(selectors.conversation_list()))
    assert row.latest_call is None  # type: ignore[attr-defined]
