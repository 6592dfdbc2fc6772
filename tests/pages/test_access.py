"""Every page requires a signed-in staff user with its Django permissions."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, RequestFactory
from django.views.defaults import server_error
from pytest_django.fixtures import Settings

from channels_app.urls import urlpatterns as channel_urls
from messaging.media import files as media
from messaging.models import Conversation, Message
from messaging.urls import urlpatterns as messaging_urls
from tests import files
from tests.pages.html import parse

pytestmark = pytest.mark.django_db

CHANGE_CHANNEL = ("channels_app.view_channel", "channels_app.change_channel")
PAGES = {
    "/": ("messaging.view_message",),
    "/conversations/": ("messaging.view_conversation", "messaging.view_message"),
    "/conversations/new/": ("messaging.view_message", "messaging.add_message"),
    "/messages/{message}/forward/": (
        "messaging.view_conversation",
        "messaging.view_message",
        "messaging.add_message",
    ),
    "/quick-replies/": ("messaging.view_conversation",),
    "/conversations/counts/": ("messaging.view_conversation", "messaging.view_message"),
    "/conversations/{conversation}/": ("messaging.view_conversation", "messaging.view_message"),
    "/contacts/{contact}/": ("messaging.view_contact", "messaging.view_conversation"),
    "/conversations/{conversation}/older/?before={message}": (
        "messaging.view_conversation",
        "messaging.view_message",
    ),
    "/conversations/{conversation}/panel/": (
        "messaging.view_conversation",
        "messaging.view_message",
    ),
    "/conversations/{conversation}/people/": (
        "messaging.view_conversation",
        "messaging.view_message",
    ),
    "/labels/": ("messaging.view_label",),
    "/conversations/{conversation}/newer/?after={message}": (
        "messaging.view_conversation",
        "messaging.view_message",
    ),
    "/conversations/{conversation}/find/": (
        "messaging.view_conversation",
        "messaging.view_message",
    ),
    "/conversations/{conversation}/media/": (
        "messaging.view_conversation",
        "messaging.view_message",
    ),
    "/messages/held/": ("messaging.view_message",),
    "/messages/{message}/": ("messaging.view_message",),
    "/media/{media}/": ("messaging.view_message",),
    "/help/errors/": ("messaging.view_message",),
    "/costs/": ("messaging.view_message",),
    "/channels/": ("channels_app.view_channel",),
    "/channels/new/": ("channels_app.view_channel", "channels_app.add_channel"),
    "/channels/{channel}/": ("channels_app.view_channel",),
    "/channels/{channel}/inbox/": ("channels_app.view_channel",),
    "/channels/{channel}/delete/": ("channels_app.view_channel", "channels_app.delete_channel"),
    "/channels/{channel}/session/dialog/": CHANGE_CHANNEL,
    "/channels/{channel}/session/disconnect/": CHANGE_CHANNEL,
    "/channels/{channel}/session/qr/": CHANGE_CHANNEL,
    "/channels/{channel}/session/install/": CHANGE_CHANNEL,
}
READ_MESSAGES = ("messaging.view_conversation", "messaging.view_message")
ACTIONS = {
    "/conversations/new/": ("messaging.view_message", "messaging.add_message"),
    "/conversations/{conversation}/": (*READ_MESSAGES, "messaging.add_message"),
    "/conversations/{conversation}/seen/": READ_MESSAGES,
    "/contacts/{contact}/": (
        "messaging.view_contact",
        "messaging.view_conversation",
        "messaging.change_contact",
    ),
    "/conversations/{conversation}/ask/": (*READ_MESSAGES, "messaging.add_message"),
    "/conversations/{conversation}/call/": (*READ_MESSAGES, "messaging.call_contact"),
    "/conversations/{conversation}/work/": (*READ_MESSAGES, "messaging.change_conversation"),
    "/conversations/{conversation}/unread/": (*READ_MESSAGES, "messaging.change_conversation"),
    "/conversations/{conversation}/labels/": (*READ_MESSAGES, "messaging.change_conversation"),
    "/conversations/{conversation}/notes/": (
        *READ_MESSAGES,
        "messaging.view_note",
        "messaging.add_note",
    ),
    "/conversations/{conversation}/panel/": (
        *READ_MESSAGES,
        "messaging.view_contact",
        "messaging.change_contact",
    ),
    "/labels/": ("messaging.view_label", "messaging.change_label"),
    "/messages/{message}/retry/": ("messaging.view_message", "messaging.change_message"),
    "/messages/{message}/cancel/": ("messaging.view_message", "messaging.change_message"),
    "/messages/{message}/react/": (*READ_MESSAGES, "messaging.add_message"),
    "/messages/{message}/forward/": (*READ_MESSAGES, "messaging.add_message"),
    "/quick-replies/": ("messaging.view_conversation",),
    "/conversations/{conversation}/verdict/": (*READ_MESSAGES, "messaging.add_message"),
    "/messages/{message}/fetch/": ("messaging.view_message", "messaging.change_message"),
    "/messages/{message}/confirm/": ("messaging.view_message", "messaging.change_message"),
    "/channels/new/": ("channels_app.view_channel", "channels_app.add_channel"),
    "/channels/{channel}/": ("channels_app.view_channel", "channels_app.change_channel"),
    "/channels/{channel}/delete/": ("channels_app.view_channel", "channels_app.delete_channel"),
    "/channels/{channel}/inbox/": CHANGE_CHANNEL,
    "/channels/{channel}/test/": ("channels_app.view_channel", "channels_app.change_channel"),
    "/channels/{channel}/session/connect/": CHANGE_CHANNEL,
    "/channels/{channel}/session/check/": CHANGE_CHANNEL,
    "/channels/{channel}/session/disconnect/": CHANGE_CHANNEL,
    "/channels/{channel}/session/qr/": CHANGE_CHANNEL,
    "/channels/{channel}/session/pairing/": CHANGE_CHANNEL,
    "/channels/{channel}/session/install/": CHANGE_CHANNEL,
}


@pytest.fixture
def address(
    conversation: Conversation,
    make_message: Callable[..., Message],
    settings: Settings,
    tmp_path: Path,
) -> Callable[[str], str]:
    """Fill the placeholders of a page's URL with existing objects."""
    settings.MEDIA_ROOT = tmp_path
    upload = media.store_upload(SimpleUploadedFile("foto.png", files.PNG), user=None)
    message = make_message(conversation)

    def fill(path: str) -> str:
        return path.format(
            conversation=conversation.pk,
            channel=conversation.channel_id,
            contact=conversation.contact_id,
            message=message.pk,
            media=upload.pk,
        )

    return fill


def test_all_pages_are_covered_by_these_tests() -> None:
    names = {pattern.name for pattern in [*messaging_urls, *channel_urls]}

    assert names == {
        "dashboard", "conversations", "new", "conversation", "older", "seen", "retry",
        "held", "message", "confirm", "errors", "call", "fetch", "media", "contact",
        "ask_for_number", "costs", "cancel", "verdict", "counts", "contact_picture",
        "find", "newer", "jump", "gallery", "contact_gallery", "notifications", "push",
        "manifest", "service_worker", "offline",  # for everybody
        "react", "forward", "quick_replies", "delete_quick_reply",
        "work", "unread", "people", "note", "label", "panel", "labels", "inbox",
        "templates", "send_template", "check_template",  # tests/pages/test_message_templates.py
        "list", "detail", "delete", "test",
        "connect", "check", "disconnect", "qr_dialog", "qr", "pairing", "install",
        "confirm_number", "lift_block",
    }  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_an_anonymous_visitor_is_redirected_to_the_login(
    page: str, address: Callable[[str], str], client: Client
) -> None:
    answer = client.get(address(page))

    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/login/?next=/")


def test_a_fragment_request_without_a_session_redirects_the_page_to_the_login(
    address: Callable[[str], str], client: Client
) -> None:
    answer = client.get(
        address("/conversations/{conversation}/older/"),
        headers={
            "HX-Request": "true",
            "HX-Current-URL": f"http://testserver{address('/conversations/{conversation}/')}",
        },
    )

    assert answer.status_code == 401
    assert answer["HX-Redirect"] == address("/accounts/login/?next=/conversations/{conversation}/")


@pytest.mark.parametrize("page", PAGES)
def test_staff_without_the_permission_get_an_explanation(
    page: str,
    address: Callable[[str], str],
    make_user: Callable[..., User],
    client_for: Callable[[User], Client],
) -> None:
    answer = client_for(make_user("leo")).get(address(page))

    assert answer.status_code == 403
    assert "Ask an administrator" in parse(answer.content).text


@pytest.mark.parametrize("page", PAGES)
def test_permissions_without_staff_status_are_not_enough(
    page: str,
    address: Callable[[str], str],
    make_user: Callable[..., User],
    client_for: Callable[[User], Client],
) -> None:
    visitor = make_user("leo", *PAGES[page], is_staff=False)

    assert client_for(visitor).get(address(page)).status_code == 403


@pytest.mark.parametrize("page", PAGES)
def test_the_permissions_of_a_page_grant_access(
    page: str,
    address: Callable[[str], str],
    make_user: Callable[..., User],
    client_for: Callable[[User], Client],
) -> None:
    answer = client_for(make_user("leo", *PAGES[page])).get(address(page))

    assert answer.status_code == 200


@pytest.mark.parametrize("page", ACTIONS)
def test_each_permission_of_an_action_is_required(
    page: str,
    address: Callable[[str], str],
    make_user: Callable[..., User],
    client_for: Callable[[User], Client],
) -> None:
    for missing in ACTIONS[page]:
        some = [permission for permission in ACTIONS[page] if permission != missing]
        staff_client = client_for(make_user(uuid.uuid4().hex, *some))

        assert staff_client.post(address(page)).status_code == 403, missing


@pytest.mark.parametrize("page", ACTIONS)
def test_every_action_requires_the_csrf_token(
    page: str, address: Callable[[str], str], staff: User
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.cookies["django_language"] = "en"
    client.force_login(staff)

    answer = client.post(address(page))

    assert answer.status_code == 403
    assert "open too long" in parse(answer.content).text


@pytest.mark.parametrize(
    ("permission", "page"),
    [
        ("channels_app.view_channel", "/channels/"),
        ("instances.view_whatsappsession", "/instances/"),
    ],
)
def test_staff_without_access_to_messages_start_on_another_page(
    permission: str,
    page: str,
    make_user: Callable[..., User],
    client_for: Callable[[User], Client],
) -> None:
    client = client_for(make_user("leo", permission))

    assert client.get("/")["Location"] == page
    links = parse(client.get(page).content).all("a", href=None)
    targets = {link.attributes["href"] for link in links}
    assert page in targets
    assert "/conversations/" not in targets


def test_actions_without_permission_are_not_shown(
    reader: Client,
    address: Callable[[str], str],
    make_message: Callable[..., Message],
    conversation: Conversation,
) -> None:
    make_message(conversation, status="rejected", decision="no_fallback")
    text = "".join(
        reader.get(address(page)).content.decode()
        for page in ("/", "/channels/", "/conversations/", "/conversations/{conversation}/")
    )
    page = reader.get(address("/channels/{channel}/")).content
    form = parse(page)

    for offer in ("/conversations/new/", "/channels/new/", "/retry/", "/test/", "<textarea"):
        assert offer not in text
    assert b"/delete/" not in page
    assert not form.all("button", class_="button button-primary")
    assert all("disabled" in box.attributes for box in form.all("input", name="name"))


def test_an_unknown_url_shows_the_not_found_page(client: Client) -> None:
    client.cookies["django_language"] = "en"

    answer = client.get("/nowhere/")

    assert answer.status_code == 404
    assert "Page not found" in parse(answer.content).text


def test_the_server_error_page_needs_no_database(rf: RequestFactory) -> None:
    answer = server_error(rf.get("/"))

    assert answer.status_code == 500
    assert b"data-toasts" in answer.content
