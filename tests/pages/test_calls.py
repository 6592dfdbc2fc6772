"""The call button of a conversation: permissions, the redirect, and the recorded call."""

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
from tests.factories import change_channel
from tests.pages.conftest import READER
from tests.pages.html import parse

pytestmark = pytest.mark.django_db

KEY = "wavoip-device-token"
CALLER = (*READER, "messaging.call_contact")


@pytest.fixture
def callable_conversation(
    make_channel: Callable[..., Channel], make_conversation: Any
) -> Conversation:
    """A conversation whose fallback Baileys channel has a Wavoip key."""
    other = make_channel(
        name="Oficina", kind="baileys", phone_number_id="", instance_name="x", calls_api_key=KEY
    )
    channel = make_channel(fallback="baileys", fallback_channel=other)
    found: Conversation = make_conversation(channel, "+5511988887777", "Mariana Alves")
    return found


@pytest.fixture
def caller(make_user: Callable[..., User], client_for: Callable[..., Client]) -> Client:
    """A client of a staff user who may view conversations and call."""
    return client_for(make_user("caio", *CALLER, first_name="Caio", last_name="Lima"))


def page_of(client: Client, conversation: Conversation) -> Any:
    answer = client.get(f"/conversations/{conversation.pk}/")
    assert answer.status_code == 200
    return answer


def has_button(client: Client, conversation: Conversation) -> bool:
    return "Call through Wavoip" in page_of(client, conversation).content.decode()


def call(client: Client, conversation: Conversation) -> Any:
    return client.post(f"/conversations/{conversation.pk}/call/")


def test_a_call_is_recorded_and_redirects_to_wavoip(
    caller: Client, callable_conversation: Conversation, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = call(caller, callable_conversation)

    assert answer.status_code == 303
    assert answer["Location"].startswith(f"https://app.wavoip.com/call?token={KEY}&phone=55119")
    assert answer["Referrer-Policy"] == "no-referrer"
    assert answer["Cache-Control"] == "no-store"
    assert not answer.content
    assert KEY not in caplog.text
    [record] = CallAttempt.objects.all()
    assert (record.conversation, record.phone_number) == (callable_conversation, "+5511988887777")
    assert record.channel.name == "Oficina"
    assert record.created_by is not None
    assert record.created_by.username == "caio"
    # No message: there is nothing to deliver, and the conversation list is unchanged.
    assert not Message.objects.exists()


def test_the_button_requires_the_permission_and_no_page_contains_the_key(
    caller: Client, reader: Client, callable_conversation: Conversation
) -> None:
    assert has_button(caller, callable_conversation)
    assert not has_button(reader, callable_conversation)
    call(caller, callable_conversation)
    for page in (
        f"/conversations/{callable_conversation.pk}/",
        "/conversations/",
        "/",
        "/channels/",
        f"/channels/{callable_conversation.channel.fallback_channel.pk}/",
    ):
        answer = caller.get(page)
        assert answer.status_code == 200
        assert KEY not in answer.content.decode()


def test_only_the_conversation_page_allows_its_form_to_redirect_to_wavoip(
    caller: Client, callable_conversation: Conversation
) -> None:
    def policy(answer: Any) -> str:
        directives = answer["Content-Security-Policy"].split(";")
        return next(d.strip() for d in directives if d.strip().startswith("form-action"))

    assert (
        policy(page_of(caller, callable_conversation))
        == "form-action 'self' https://app.wavoip.com"
    )
    assert policy(caller.get("/conversations/")) == "form-action 'self'"
    Channel.objects.update(calls_api_key="")
    assert policy(page_of(caller, callable_conversation)) == "form-action 'self'"


def test_calling_requires_the_permission(
    reader: Client, callable_conversation: Conversation
) -> None:
    answer = call(reader, callable_conversation)
    assert answer.status_code == 403
    assert KEY not in str(answer.headers)
    assert not CallAttempt.objects.exists()


def test_the_call_permission_alone_does_not_grant_access_to_conversations(
    make_user: Callable[..., User],
    client_for: Callable[..., Client],
    callable_conversation: Conversation,
) -> None:
    client = client_for(make_user("zeca", "messaging.call_contact"))
    assert call(client, callable_conversation).status_code == 403


def test_a_call_is_a_post_that_requires_the_csrf_token(
    callable_conversation: Conversation, make_user: Callable[..., User]
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("caio", *CALLER))
    assert call(client, callable_conversation).status_code == 403
    assert client.get(f"/conversations/{callable_conversation.pk}/call/").status_code == 405
    assert not CallAttempt.objects.exists()


def test_a_contact_without_a_number_cannot_be_called(
    caller: Client, callable_conversation: Conversation
) -> None:
    Contact.objects.update(phone_number=None, user_id="BR.123")
    assert not has_button(caller, callable_conversation)
    answer = call(caller, callable_conversation)
    assert answer.status_code == 409
    assert "This contact has no phone number." in answer.content.decode()
    assert not CallAttempt.objects.exists()


def test_a_key_that_was_cleared_meanwhile_is_reported_in_the_popup(
    caller: Client, callable_conversation: Conversation
) -> None:
    Channel.objects.update(calls_api_key="")
    assert not has_button(caller, callable_conversation)
    answer = call(caller, callable_conversation)
    assert answer.status_code == 409
    assert "No active channel of this conversation has a Wavoip key." in answer.content.decode()


def test_calls_are_shown_between_the_messages_by_time(
    caller: Client, callable_conversation: Conversation, make_message: Callable[..., Message]
) -> None:
    make_message(callable_conversation, minutes_ago=10, text="antes")
    call(caller, callable_conversation)
    CallAttempt.objects.update(created_at=timezone.now() - dt.timedelta(minutes=5))
    make_message(callable_conversation, minutes_ago=1, text="depois")

    page = parse(page_of(caller, callable_conversation).content)
    list_ = page.one("div", **{"data-live-list": "message call note"})
    stamps = [item.attributes["data-sort"] for item in list_.all(**{"data-sort": None})]
    assert len(stamps) == 3
    assert stamps == sorted(stamps)
    assert "Caio Lima started a call through Wavoip on “Oficina”" in list_.text


def test_each_call_is_on_exactly_one_page_of_a_long_conversation(
    callable_conversation: Conversation, make_message: Callable[..., Message], staff: User
) -> None:
    for number in range(12):
        at = timezone.now() - dt.timedelta(minutes=number)
        make_message(callable_conversation, minutes_ago=number)
        for moment in (at, at - dt.timedelta(seconds=30)):
            CallAttempt.objects.create(
                conversation=callable_conversation,
                channel=callable_conversation.channel,
                phone_number="+5511988887777",
                created_by=staff,
                created_at=moment,
            )
    pages = [selectors.message_page(callable_conversation, limit=5)]
    while pages[-1].has_older:
        before = pages[-1].messages[0].pk
        pages.append(selectors.message_page(callable_conversation, before=before, limit=5))

    entries = [entry for page in reversed(pages) for entry in page.entries]
    assert len(entries) == 36
    assert len({(type(entry), entry.pk) for entry in entries}) == 36
    assert [e.created_at for e in entries] == sorted(e.created_at for e in entries)


def test_open_pages_receive_calls_and_reconnected_pages_catch_up(
    caller: Client, callable_conversation: Conversation, staff: User
) -> None:
    before = timezone.now()
    call(caller, callable_conversation)
    record = CallAttempt.objects.get()
    view = frames.ConversationView(
        user=staff, language="pt-br", value=str(callable_conversation.pk)
    )

    [frame] = frames.frames([view], {"calls": {record.pk}})
    assert (frame["kind"], frame["key"]) == ("call", f"call:{record.pk}")
    assert "Caio Lima iniciou uma ligação pelo Wavoip em “Oficina”" in frame["html"]
    assert frames.catch_up([view], before) == [frame]
    assert frames.catch_up([view], timezone.now() + dt.timedelta(minutes=1)) == []


def test_the_api_lists_the_calls_of_a_conversation(
    caller: Client, callable_conversation: Conversation, api: Any
) -> None:
    call(caller, callable_conversation)
    record = CallAttempt.objects.get()
    answer = api.get(f"/api/conversations/{callable_conversation.pk}/calls/")
    [found] = answer.json()["results"]
    assert {**found, "created_at": None, "updated_at": None} == {
        "id": record.pk,
        "channel": record.channel_id,
        "direction": "out",
        "phone_number": "+5511988887777",
        "status": "",
        "video": False,
        "created_by": record.created_by_id,
        "created_at": None,
        "updated_at": None,
    }
    assert KEY not in answer.content.decode()


def test_a_channel_with_calls_cannot_be_deleted(
    caller: Client, callable_conversation: Conversation
) -> None:
    call(caller, callable_conversation)
    change_channel(callable_conversation.channel, fallback="none")
    with pytest.raises(ProtectedError):
        Channel.objects.get(name="Oficina").delete()
