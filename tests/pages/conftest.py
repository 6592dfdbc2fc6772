from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.template.loader import render_to_string
from django.test import Client
from django.utils import timezone, translation
from playwright.sync_api import Browser, BrowserContext, Page, WebSocketRoute, sync_playwright
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from channels_app.models import Channel, Connection
from messaging import contacts, selectors
from messaging.models import Conversation, DeliveryAttempt, Message
from tests.chromium import CHROMIUM

NO_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
READER = (
    "messaging.view_conversation",
    "messaging.view_message",
    "channels_app.view_channel",
)


@pytest.fixture(autouse=True)
def static_files_as_they_are(settings: Settings) -> None:
    """Serve static files without the manifest of `collectstatic`."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    settings.STATIC_ROOT.mkdir(exist_ok=True)
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast


@pytest.fixture
def client_for() -> Callable[[User], Client]:
    """Create clients with a signed-in user, in English."""

    def make(user: User, language: str = "en") -> Client:
        client = Client()
        client.cookies["django_language"] = language
        client.force_login(user)
        return client

    return make


@pytest.fixture
def staff_client(staff: User, client_for: Callable[[User], Client]) -> Client:
    """A client of a staff user with all permissions."""
    return client_for(staff)


@pytest.fixture
def reader(make_user: Callable[..., User], client_for: Callable[[User], Client]) -> Client:
    """A client of a staff user who may view but not change anything."""
    return client_for(make_user("leo", *READER))


@pytest.fixture
def make_conversation() -> Callable[..., Conversation]:
    def make(channel: Channel, number: str = "+5511999990000", name: str = "") -> Conversation:
        made = contacts.conversation_with(channel, phone_number=number, name=name)
        made.last_message_at = timezone.now()
        made.save()
        return made

    return make


@pytest.fixture
def conversation(channel: Channel, make_conversation: Callable[..., Conversation]) -> Conversation:
    return make_conversation(channel, name="Mariana Alves")


@pytest.fixture
def make_message() -> Callable[..., Message]:
    """Create messages. `attempts` are the fields of their delivery attempts, and their route."""

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
            attempt = {"route": "official", "channel": conversation.channel, **attempt}
            connection = Connection.objects.stored(attempt.pop("channel"), attempt.pop("route"))
            DeliveryAttempt.objects.create(
                message=message,
                number=number,
                started_at=at,
                connection=connection,
                **{"finished_at": at, **attempt},
            )
        return message

    return make


# --- in a browser ---------------------------------------------------------------------------------


class Sockets:
    """The server's side of every socket that the page opens."""

    def __init__(self) -> None:
        self.opened: list[WebSocketRoute] = []
        self.accepts = True
        self.greeting: list[str] = []

    def __call__(self, socket: WebSocketRoute) -> None:
        self.opened.append(socket)
        if self.accepts:
            for frame in self.greeting:
                socket.send(frame)
            socket.send(json.dumps({"kind": "ready", "at": "2026-01-01T00:00:00+00:00"}))
        else:
            socket.close(code=4000)

    def send(self, frame: dict[str, Any]) -> None:
        """Send a frame on the conversation socket that was opened last."""
        [*_, socket] = [socket for socket in self.opened if "conversation=" in socket.url]
        socket.send(json.dumps(frame))

    def show(self, message: Message, version: int) -> None:
        """Send a message as the consumer does."""
        with translation.override("en"):
            html = render_to_string(
                "messaging/_message.html",
                {"message": selectors.messages().get(pk=message.pk), "may_retry": True},
            )
        self.send(
            {"kind": "message", "key": f"message:{message.pk}", "version": version, "html": html}
        )


@pytest.fixture
def sockets() -> Sockets:
    return Sockets()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright runs an event loop in this thread, in which the tests use the database.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def profile(chromium: Browser, live_server: LiveServer) -> Iterator[BrowserContext]:
    """A profile of the browser, which keeps the static files from test to test.

    A test that changes its clock needs one of its own.
    """
    context = chromium.new_context(base_url=live_server.url, service_workers="block")
    yield context
    context.close()


@pytest.fixture
def page(
    profile: BrowserContext,
    live_server: LiveServer,
    staff: User,
    sockets: Sockets,
    client_for: Callable[[User], Any],
) -> Iterator[Page]:
    """A page of a staff user, in English. The test fails if the browser reports any error."""
    cookies = {
        "sessionid": client_for(staff).cookies["sessionid"].value,
        "django_language": "en",
    }
    profile.clear_cookies()
    profile.add_cookies(
        [{"name": name, "value": value, "url": live_server.url} for name, value in cookies.items()]
    )
    page = profile.new_page()
    page.route_web_socket(re.compile("/ws/live/"), sockets)
    page.set_default_timeout(10_000)
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    # The next test would find what this one has stored.
    stored = {"origin": live_server.url, "storageTypes": "local_storage"}
    profile.new_cdp_session(page).send("Storage.clearDataForOrigin", stored)
    for opened in profile.pages:
        opened.close()
    answers = re.compile(
        "Failed to load resource|^htmx:|Response Status Error|WebSocket connection"
    )
    assert not [text for text in complaints if not answers.search(text)]
