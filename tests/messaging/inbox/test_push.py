"""Web push: who receives a new message, over a real socket to a push service."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import http_ece
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from py_vapid import Vapid02
from pytest_django.fixtures import Settings

from accounts.models import Team
from channels_app.models import Channel
from config.up.engines import new_push_key
from messaging import contacts
from messaging.inbox import push
from messaging.models import Conversation, Message, PushSubscription

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static")]

SECRET = base64.urlsafe_b64encode(bytes(range(16))).rstrip(b"=").decode()


class PushService:
    """A push service and the browser behind it: it decrypts what it receives."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.answers: dict[str, int] = {}
        self.received: list[tuple[str, dict[str, Any]]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert Vapid02.verify(self.headers["Authorization"])
                assert int(self.headers["TTL"]) > 0
                text = http_ece.decrypt(
                    body, private_key=service.key, auth_secret=bytes(range(16)), version="aes128gcm"
                )
                service.received.append((self.path, json.loads(text)))
                self.send_response(service.answers.get(self.path, 201))
                self.send_header("Retry-After", "120")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def subscription(self, path: str) -> dict[str, Any]:
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return {
            "endpoint": f"http://127.0.0.1:{self.server.server_port}{path}",
            "keys": {"p256dh": base64.urlsafe_b64encode(point).decode(), "auth": SECRET},
        }

    def paths(self) -> list[str]:
        paths = sorted(path for path, _payload in self.received)
        self.received.clear()
        return paths


@pytest.fixture
def service(settings: Settings) -> Iterator[PushService]:
    settings.PUSH_SCHEMES = ("http",)
    settings.VAPID_PRIVATE_KEY = new_push_key()
    made = PushService()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def browser(service: PushService, make_user: Callable[..., User]) -> Callable[..., Client]:
    """Make a user, signed in in a browser that wants pushes at the path of the user's name."""

    def make(name: str, *, rights: tuple[str, ...] = push.RIGHTS, **more: Any) -> Client:
        client = Client()
        client.cookies["django_language"] = "en"
        client.force_login(make_user(name, *rights))
        data = {**service.subscription(f"/{name}"), **more}
        answer = client.post("/notifications/push/", data, content_type="application/json")
        assert answer.status_code == (204 if rights == push.RIGHTS else 403)
        return client

    return make


@pytest.fixture
def conversation(channel: Channel) -> Conversation:
    return contacts.conversation_with(channel, phone_number="+5511988887777", name="Ana")


def push_all() -> int:
    """Take what arrived and run the jobs that are due; return how many pushes were enqueued."""
    enqueued = push.push_arrivals()
    due = ProcrastinateJob.objects.filter(task_name="messaging.send_push", scheduled_at=None)
    for job in due.exclude(status="succeeded"):
        push.send(**job.args)
    due.update(status="succeeded")
    return enqueued


def write(conversation: Conversation, text: str = "Olá") -> Message:
    Conversation.objects.filter(pk=conversation.pk).update(unread_count=1)
    return Message.objects.create(
        conversation=conversation,
        direction=Message.Direction.IN,
        type="text",
        text=text,
        created_at=timezone.now(),
    )


def test_a_message_is_pushed_to_whom_it_concerns_once(
    service: PushService, browser: Callable[..., Client], conversation: Conversation
) -> None:
    for name in ("ana", "bia", "eva"):
        browser(name, private=name == "eva")
    browser("leo", rights=("messaging.view_conversation",))
    team = Team.objects.create(name="Sales")
    team.members.add(User.objects.get(username="bia"))

    def after(**changes: Any) -> list[str]:
        Conversation.objects.filter(pk=conversation.pk).update(**changes)
        write(conversation, "Bom dia")
        push_all()
        first = service.paths()
        assert push_all() == 0
        return first

    write(conversation, "Tudo bem?")
    push_all()
    texts = {path: (one["title"], one["body"], one["url"]) for path, one in service.received}
    url = f"/conversations/{conversation.pk}/"
    assert texts["/ana"] == ("Ana", "Tudo bem?", url)
    assert texts["/eva"] == ("Alterna", "New message", url)
    assert service.paths() == ["/ana", "/bia", "/eva"]
    assert after(team=team) == ["/bia"]
    assert after(assignee=User.objects.get(username="ana")) == ["/ana"]
    # One batch, however many messages, is one push a conversation and few queries.
    Conversation.objects.update(team=None, assignee=None)
    for _ in range(20):
        write(conversation)
    with CaptureQueriesContext(connection) as queries:
        assert push.push_arrivals() == 3
    push_all()
    assert service.paths() == ["/ana", "/bia", "/eva"]
    assert len(queries) <= 20


def test_an_address_ends_with_its_service_its_session_and_its_user(
    service: PushService, browser: Callable[..., Client], conversation: Conversation
) -> None:
    clients = {name: browser(name) for name in ("gone", "out", "off", "changed", "stays")}
    service.answers["/gone"] = 410
    clients["out"].post("/accounts/logout/")
    User.objects.filter(username="off").update(is_active=False)
    changed = User.objects.get(username="changed")
    changed.set_password("another one")
    changed.save()
    write(conversation)
    push_all()
    assert service.paths() == ["/gone", "/stays"]
    assert [one.user.username for one in PushSubscription.objects.all()] == ["stays"]


@pytest.mark.parametrize(("status", "is_tried_again"), [(429, True), (500, True), (400, False)])
def test_a_busy_service_is_asked_again_a_few_times(
    service: PushService,
    browser: Callable[..., Client],
    conversation: Conversation,
    status: int,
    is_tried_again: bool,
) -> None:
    browser("ana")
    service.answers["/ana"] = status
    write(conversation)
    assert push_all() == 1
    tries = 1
    while waiting := ProcrastinateJob.objects.filter(task_name="messaging.send_push"):
        arguments = max((job.args for job in waiting), key=lambda args: int(args["tries"]))
        if arguments["tries"] == tries:
            break
        tries = arguments["tries"]
        push.send(**arguments)
    # A job names the message; its words stay where they are.
    assert set(arguments) == {"subscription_id", "message_id", "tries"}
    assert tries == (push.TRIES if is_tried_again else 1)
    assert PushSubscription.objects.count() == 1


def test_only_a_public_https_address_is_stored_and_a_person_has_a_few(
    service: PushService,
    settings: Settings,
    make_user: Callable[..., User],
    conversation: Conversation,
) -> None:
    user = make_user("ana", *push.RIGHTS)
    good = service.subscription("/x")
    for number in range(push.MAX_PER_USER + 3):
        push.subscribe(
            user, "key", {**good, "endpoint": f"{good['endpoint']}{number}"}, language="en"
        )
    assert PushSubscription.objects.count() == push.MAX_PER_USER
    settings.PUSH_SCHEMES = ("https",)
    for bad in (
        good,
        {**good, "endpoint": "https://a:b@push.example/x"},
        {**good, "endpoint": "https://push.example:22/x"},
        {**good, "endpoint": "https://push.example/x", "keys": {"p256dh": "AAAA", "auth": SECRET}},
        {"endpoint": "https://push.example/x"},
        [],
    ):
        with pytest.raises(ValidationError):
            push.subscribe(user, "key", bad, language="en")
    # An address may be one of the installation's own network: nothing is written to it.
    local = PushSubscription.objects.latest("pk")
    push._send(local, write(conversation), tries=push.TRIES)
    assert service.received == []
