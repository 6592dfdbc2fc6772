"""The phone at the top of a conversation: who sees it, what a click does, what is noted."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import ProtectedError
from django.test import Client
from django.utils import timezone

from channels_app.models import Channel
from messaging import selectors
from messaging.live import frames
from messaging.models import CallAttempt, Contact, Conversation, Message
from tests.pages.conftest import READER
from tests.pages.html import parse

pytestmark = pytest.mark.django_db

KEY = "wavoip-device-token"
CALLER = (*READER, "messaging.call_contact")


@pytest.fixture
def callable_one(make_channel: Callable[..., Channel], make_conversation: Any) -> Conversation:
    """A conversation whose fallback Baileys channel has a key."""
    other = make_channel(
        name="Oficina", kind="baileys", phone_number_id="", instance_name="x", calls_api_key=KEY
    )
    channel = make_channel(fallback="baileys", fallback_channel=other)
    found: Conversation = make_conversation(channel, "+5511988887777", "Mariana Alves")
    return found


@pytest.fixture
def caller(make_user: Callable[..., User], client_for: Callable[..., Client]) -> Client:
    """The client of staff who may look and call."""
    return client_for(make_user("caio", *CALLER, first_name="Caio", last_name="Lima"))


def page_of(client: Client, conversation: Conversation) -> Any:
    answer = client.get(f"/conversations/{conversation.pk}/")
    assert answer.status_code == 200
    return answer


def has_button(client: Client, conversation: Conversation) -> bool:
    return "Call through Wavoip" in page_of(client, conversation).content.decode()


def call(client: Client, conversation: Conversation) -> Any:
    return client.post(f"/conversations/{conversation.pk}/call/")


def test_a_click_notes_the_call_and_leads_to_wavoip(
    caller: Client, callable_one: Conversation, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = call(caller, callable_one)

    assert answer.status_code == 303
    assert answer["Location"].startswith(f"https://app.wavoip.com/call?token={KEY}&phone=55119")
    assert answer["Referrer-Policy"] == "no-referrer"
    assert answer["Cache-Control"] == "no-store"
    assert not answer.content
    assert KEY not in caplog.text
    [noted] = CallAttempt.objects.all()
    assert (noted.conversation, noted.phone_number) == (callable_one, "+5511988887777")
    assert noted.channel.name == "Oficina"
    assert noted.created_by is not None
    assert noted.created_by.username == "caio"
    # No message: there is nothing to deliver, and the list of conversations stays as it was.
    assert not Message.objects.exists()


def test_the_button_is_for_those_who_may_call_and_the_key_is_in_no_page(
    caller: Client, reader: Client, callable_one: Conversation
) -> None:
    assert has_button(caller, callable_one)
    assert not has_button(reader, callable_one)
    call(caller, callable_one)
    for page in (
        f"/conversations/{callable_one.pk}/",
        "/conversations/",
        "/",
        "/channels/",
        f"/channels/{callable_one.channel.fallback_channel_id}/",
    ):
        answer = caller.get(page)
        assert answer.status_code == 200
        assert KEY not in answer.content.decode()


def test_the_conversation_lets_its_form_follow_to_wavoip_and_no_other_page_does(
    caller: Client, callable_one: Conversation
) -> None:
    def policy(answer: Any) -> str:
        directives = answer["Content-Security-Policy"].split(";")
        return next(d.strip() for d in directives if d.strip().startswith("form-action"))

    assert policy(page_of(caller, callable_one)) == "form-action 'self' https://app.wavoip.com"
    assert policy(caller.get("/conversations/")) == "form-action 'self'"
    Channel.objects.update(calls_api_key="")
    assert policy(page_of(caller, callable_one)) == "form-action 'self'"


def test_without_the_permission_nobody_calls(reader: Client, callable_one: Conversation) -> None:
    answer = call(reader, callable_one)
    assert answer.status_code == 403
    assert KEY not in str(answer.headers)
    assert not CallAttempt.objects.exists()


def test_the_permission_alone_opens_no_conversation(
    make_user: Callable[..., User], client_for: Callable[..., Client], callable_one: Conversation
) -> None:
    client = client_for(make_user("zeca", "messaging.call_contact"))
    assert call(client, callable_one).status_code == 403


def test_a_call_is_a_post_that_no_other_site_can_make(
    callable_one: Conversation, make_user: Callable[..., User]
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("caio", *CALLER))
    assert call(client, callable_one).status_code == 403
    assert client.get(f"/conversations/{callable_one.pk}/call/").status_code == 405
    assert not CallAttempt.objects.exists()


def test_a_contact_without_a_number_is_not_called(
    caller: Client, callable_one: Conversation
) -> None:
    Contact.objects.update(phone_number=None, user_id="BR.123")
    assert not has_button(caller, callable_one)
    answer = call(caller, callable_one)
    assert answer.status_code == 409
    assert "This contact has no phone number." in answer.content.decode()
    assert not CallAttempt.objects.exists()


def test_a_key_that_was_cleared_meanwhile_is_said_in_the_small_window(
    caller: Client, callable_one: Conversation
) -> None:
    Channel.objects.update(calls_api_key="")
    assert not has_button(caller, callable_one)
    answer = call(caller, callable_one)
    assert answer.status_code == 409
    assert "No active channel of this conversation has a Wavoip key." in answer.content.decode()


def test_calls_stand_between_the_messages_by_their_time(
    caller: Client, callable_one: Conversation, make_message: Callable[..., Message]
) -> None:
    make_message(callable_one, minutes_ago=10, text="antes")
    call(caller, callable_one)
    CallAttempt.objects.update(created_at=timezone.now() - dt.timedelta(minutes=5))
    make_message(callable_one, minutes_ago=1, text="depois")

    page = parse(page_of(caller, callable_one).content)
    list_ = page.one("div", **{"data-live-list": "message call"})
    stamps = [item.attributes["data-sort"] for item in list_.all(**{"data-sort": None})]
    assert len(stamps) == 3
    assert stamps == sorted(stamps)
    assert "Caio Lima opened a call through Wavoip, by “Oficina”" in list_.text


def test_each_call_is_on_exactly_one_page_of_a_long_conversation(
    callable_one: Conversation, make_message: Callable[..., Message], staff: User
) -> None:
    for number in range(12):
        at = timezone.now() - dt.timedelta(minutes=number)
        make_message(callable_one, minutes_ago=number)
        for moment in (at, at - dt.timedelta(seconds=30)):
            CallAttempt.objects.create(
                conversation=callable_one,
                channel=callable_one.channel,
                phone_number="+5511988887777",
                created_by=staff,
                created_at=moment,
            )
    pages = [selectors.message_page(callable_one, limit=5)]
    while pages[-1].has_older:
        before = pages[-1].messages[0].pk
        pages.append(selectors.message_page(callable_one, before=before, limit=5))

    entries = [entry for page in reversed(pages) for entry in page.entries]
    assert len(entries) == 36
    assert len({(type(entry), entry.pk) for entry in entries}) == 36
    assert [e.created_at for e in entries] == sorted(e.created_at for e in entries)


def test_open_windows_are_told_and_those_that_were_away_catch_up(
    caller: Client, callable_one: Conversation, staff: User
) -> None:
    before = timezone.now()
    call(caller, callable_one)
    noted = CallAttempt.objects.get()
    view = frames.ConversationView(user=staff, language="pt-br", value=str(callable_one.pk))

    [frame] = frames.frames([view], {"calls": {noted.pk}})
    assert (frame["kind"], frame["key"]) == ("call", f"call:{noted.pk}")
    assert "Caio Lima abriu uma ligação pelo Wavoip, por “Oficina”" in frame["html"]
    assert frames.catch_up([view], before) == [frame]
    assert frames.catch_up([view], timezone.now() + dt.timedelta(minutes=1)) == []


def test_programs_read_the_calls_of_a_conversation(
    caller: Client, callable_one: Conversation, api: Any
) -> None:
    call(caller, callable_one)
    noted = CallAttempt.objects.get()
    answer = api.get(f"/api/conversations/{callable_one.pk}/calls/")
    [found] = answer.json()["results"]
    assert {**found, "created_at": None, "updated_at": None} == {
        "id": noted.pk,
        "channel": noted.channel_id,
        "direction": "out",
        "phone_number": "+5511988887777",
        "status": "",
        "video": False,
        "created_by": noted.created_by_id,
        "created_at": None,
        "updated_at": None,
    }
    assert KEY not in answer.content.decode()


def test_a_channel_that_calls_went_by_is_kept(caller: Client, callable_one: Conversation) -> None:
    call(caller, callable_one)
    Channel.objects.update(fallback="none", fallback_channel=None)
    with pytest.raises(ProtectedError):
        Channel.objects.get(name="Oficina").delete()
