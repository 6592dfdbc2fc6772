from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from channels_app.models import Channel
from messaging.models import Contact, Conversation, DeliveryAttempt, Message

READER = (
    "messaging.view_conversation",
    "messaging.view_message",
    "channels_app.view_channel",
)


@pytest.fixture(autouse=True)
def static_files_as_they_are(settings: Settings) -> None:
    """Without the manifest that `collectstatic` makes."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    settings.STATIC_ROOT.mkdir(exist_ok=True)
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick


@pytest.fixture
def client_for() -> Callable[[User], Client]:
    """Make clients in which a user is logged in, in English."""

    def make(user: User, language: str = "en") -> Client:
        client = Client()
        client.cookies["django_language"] = language
        client.force_login(user)
        return client

    return make


@pytest.fixture
def staff_client(staff: User, client_for: Callable[[User], Client]) -> Client:
    """the client of staff who may do everything."""
    return client_for(staff)


@pytest.fixture
def reader(make_user: Callable[..., User], client_for: Callable[[User], Client]) -> Client:
    """the client of staff who may look, but change nothing."""
    return client_for(make_user("leo", *READER))


@pytest.fixture
def make_conversation() -> Callable[..., Conversation]:
    def make(channel: Channel, number: str = "+5511999990000", name: str = "") -> Conversation:
        contact = Contact.objects.create(phone_number=number, name=name)
        return Conversation.objects.create(
            channel=channel, contact=contact, last_message_at=timezone.now()
        )

    return make


@pytest.fixture
def conversation(channel: Channel, make_conversation: Callable[..., Conversation]) -> Conversation:
    return make_conversation(channel, name="Mariana Alves")


@pytest.fixture
def make_message() -> Callable[..., Message]:
    """Make messages; `attempts` are the fields of their delivery attempts."""

    def make(conversation: Conversation, *, minutes_ago: float = 0, **fields: Any) -> Message:
        attempts = fields.pop("attempts", [])
        at = timezone.now() - dt.timedelta(minutes=minutes_ago)
        if fields.get("direction") == "in":
            fields.setdefault("status", "")
        message = Message.objects.create(
            conversation=conversation,
            **{"direction": "out", "status": "sent", "route": "official", "text": "Oi",
               "created_at": at, "round_started_at": at, **fields},
        )  # fmt: skip
        for number, attempt in enumerate(attempts, 1):
            DeliveryAttempt.objects.create(
                message=message,
                number=number,
                started_at=at,
                **{"route": "official", "channel": conversation.channel, "finished_at": at,
                   **attempt},
            )  # fmt: skip
        return message

    return make
