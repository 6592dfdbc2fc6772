"""REST: permissions, and the format of errors."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection
from django.test import Client
from psycopg_pool import PoolTimeout
from rest_framework.test import APIClient

from accounts.models import ApiToken
from messaging.delivery import accept as sending
from messaging.media import files as media
from messaging.models import Message
from tests import files
from tests.messaging.support import accept

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import User

    from channels_app.models import Channel

pytestmark = pytest.mark.django_db

ROUTES = [
    ("get", "/api/channels/"),
    ("post", "/api/channels/"),
    ("get", "/api/channels/{channel}/"),
    ("patch", "/api/channels/{channel}/"),
    ("delete", "/api/channels/{channel}/"),
    ("get", "/api/messages/"),
    ("post", "/api/messages/"),
    ("get", "/api/messages/{message}/"),
    ("post", "/api/messages/{message}/retry/"),
    ("get", "/api/conversations/"),
    ("get", "/api/conversations/{conversation}/"),
    ("patch", "/api/conversations/{conversation}/"),
    ("get", "/api/conversations/{conversation}/draft/"),
    ("get", "/api/labels/"),
    ("get", "/api/teams/"),
    ("get", "/api/quick-replies/"),
    ("post", "/api/conversations/{conversation}/read/"),
    ("post", "/api/media/"),
    ("get", "/api/media/{media}/"),
    ("get", "/api/media/{media}/content/"),
]
PERMISSIONS = {
    ("get", "/api/channels/"): "channels_app.view_channel",
    ("post", "/api/channels/"): "channels_app.add_channel",
    ("get", "/api/channels/{channel}/"): "channels_app.view_channel",
    ("patch", "/api/channels/{channel}/"): "channels_app.change_channel",
    ("delete", "/api/channels/{channel}/"): "channels_app.delete_channel",
    ("get", "/api/messages/"): "messaging.view_message",
    ("post", "/api/messages/"): "messaging.add_message",
    ("get", "/api/messages/{message}/"): "messaging.view_message",
    ("post", "/api/messages/{message}/retry/"): "messaging.change_message",
    ("get", "/api/conversations/"): "messaging.view_conversation",
    ("get", "/api/conversations/{conversation}/"): "messaging.view_conversation",
    ("patch", "/api/conversations/{conversation}/"): "messaging.change_conversation",
    ("get", "/api/conversations/{conversation}/draft/"): "messaging.view_conversation",
    ("get", "/api/labels/"): "messaging.view_label",
    ("get", "/api/teams/"): "accounts.view_team",
    ("get", "/api/quick-replies/"): "messaging.view_conversation",
    # The customer sees it.
    ("post", "/api/conversations/{conversation}/read/"): "messaging.add_message",
    ("post", "/api/media/"): "messaging.add_message",
    ("get", "/api/media/{media}/"): "messaging.view_message",
    ("get", "/api/media/{media}/content/"): "messaging.view_message",
}
EVERY_ROUTE = pytest.mark.parametrize(("method", "path"), ROUTES)


@pytest.fixture
def call(channel: Channel, settings: Any, tmp_path: Path) -> Callable[..., Any]:
    """Call a route with the ids of existing objects."""
    message = accept(channel)
    settings.MEDIA_ROOT = tmp_path
    upload = media.store_upload(SimpleUploadedFile("foto.png", files.PNG), user=None)

    def request(client: Any, method: str, path: str, **options: Any) -> Any:
        path = path.format(
            channel=channel.pk,
            message=message.pk,
            conversation=message.conversation_id,
            media=upload.pk,
        )
        return getattr(client, method)(path, {}, format="json", **options)

    return request


def assert_problem(response: Any, status: int, code: str) -> None:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    assert set(response.json()) == {"detail", "code"}
    assert response.json()["code"] == code
    assert response.json()["detail"]


@EVERY_ROUTE
def test_every_route_requires_a_login(call: Callable[..., Any], method: str, path: str) -> None:
    response = call(APIClient(), method, path)
    assert_problem(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"] == "Token"


@pytest.mark.parametrize(
    "header",
    ["Token", "Token x", "Token a b", "Token alt_" + "0" * 60, "Token é", "Bearer x", "Basic eDp5"],
)
def test_a_bad_token_is_401(call: Callable[..., Any], header: str) -> None:
    response = call(APIClient(), "get", "/api/messages/", headers={"Authorization": header})
    assert response.status_code == 401
    assert set(response.json()) == {"detail", "code"}


@EVERY_ROUTE
def test_users_who_are_not_staff_are_rejected(
    call: Callable[..., Any],
    make_user: Callable[..., User],
    client_of: Callable[..., APIClient],
    method: str,
    path: str,
) -> None:
    client = client_of(make_user("caio", is_staff=False, is_superuser=True))
    assert_problem(call(client, method, path), 403, "permission_denied")


@EVERY_ROUTE
def test_each_route_requires_the_permission_of_its_action(
    call: Callable[..., Any],
    make_user: Callable[..., User],
    client_of: Callable[..., APIClient],
    method: str,
    path: str,
) -> None:
    required = PERMISSIONS[method, path]
    others = sorted(set(PERMISSIONS.values()) - {required})
    assert_problem(
        call(client_of(make_user("dani", *others)), method, path), 403, "permission_denied"
    )
    assert call(client_of(make_user("eva", required)), method, path).status_code not in (401, 403)


def test_an_inactive_user_is_rejected(
    call: Callable[..., Any], staff: User, api: APIClient
) -> None:
    staff.is_active = False
    staff.save()
    assert call(api, "get", "/api/messages/").status_code == 401


def test_a_token_is_stored_as_a_digest_only(
    staff: User, client_of: Callable[..., APIClient]
) -> None:
    _, key = ApiToken.objects.create(user=staff, name="CRM")
    assert key.startswith("alt_")
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(t)::text FROM accounts_apitoken t")
        [(row,)] = cursor.fetchall()
    assert key not in row
    assert key[-40:] not in row
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
    assert client.get("/api/messages/").status_code == 200


def test_a_revoked_token_is_rejected(api: APIClient) -> None:
    assert api.get("/api/messages/").status_code == 200
    ApiToken.objects.all().delete()
    assert api.get("/api/messages/").status_code == 401


# -- session authentication ------------------------------------------------------------------------


def test_an_expired_token_is_rejected(staff: User) -> None:
    client = APIClient()
    for hours, status in ((1, 200), (-1, 401)):
        _, key = ApiToken.objects.create(user=staff, expiry=dt.timedelta(hours=hours))
        client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
        assert client.get("/api/channels/").status_code == status


def test_a_signed_in_page_can_read_and_needs_its_csrf_token_to_write(
    staff: User, channel: Channel
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    assert client.get("/api/messages/").status_code == 200
    body = {"channel": channel.pk, "to": "+5511988887777", "text": "Olá"}
    response = client.post("/api/messages/", body, content_type="application/json")
    assert_problem(response, 403, "permission_denied")
    assert not Message.objects.exists()

    token = client.cookies["csrftoken"] = "x" * 32
    response = client.post(
        "/api/messages/", body, content_type="application/json", headers={"X-CSRFToken": token}
    )
    assert response.status_code == 202
    assert Message.objects.get().created_by == staff


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/nothing/", "/api/", "/api/messages/x/y/"])
def test_an_unknown_url_is_404(api: APIClient, path: str) -> None:
    assert_problem(api.get(path), 404, "not_found")


def test_an_unhandled_exception_is_500_without_its_details(
    api: APIClient, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**request: Any) -> None:
        raise ZeroDivisionError("SECRET")

    monkeypatch.setattr(sending, "accept_message", broken)
    api.raise_request_exception = False
    body = {"channel": channel.pk, "to": "+5511988887777", "text": "x"}
    response = api.post("/api/messages/", body, format="json")
    assert_problem(response, 500, "server_error")
    assert b"SECRET" not in response.content


def test_an_unknown_host_is_400(api: APIClient) -> None:
    assert_problem(api.get("/api/messages/", headers={"Host": "evil.example"}), 400, "bad_request")


@pytest.mark.parametrize("error", [OperationalError("gone"), PoolTimeout("no connection in 5 s")])
def test_without_a_database_the_response_is_503(
    api: APIClient, channel: Channel, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def unreachable(**request: Any) -> None:
        raise error

    monkeypatch.setattr(sending, "accept_message", unreachable)
    body = {"channel": channel.pk, "to": "+5511988887777", "text": "x"}
    response = api.post("/api/messages/", body, format="json")
    assert_problem(response, 503, "unavailable")
    assert response["Retry-After"] == "5"


@pytest.mark.parametrize("client", [APIClient(), APIClient(HTTP_AUTHORIZATION="Token alt_x")])
def test_a_login_that_cannot_be_verified_without_the_database_is_503(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: Any, **options: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr("django.db.backends.base.base.BaseDatabaseWrapper.cursor", unreachable)
    client.cookies["sessionid"] = "x" * 32
    assert_problem(client.get("/api/messages/"), 503, "unavailable")


def test_programs_choose_their_language_by_header(
    api: APIClient, staff: User, channel: Channel
) -> None:
    _, key = ApiToken.objects.create(user=staff)
    api.credentials(HTTP_AUTHORIZATION=f"Token {key}")
    body = {"channel": channel.pk, "to": "+5511988887777", "text": ""}
    errors = {
        language: api.post(
            "/api/messages/", body, format="json", headers={"Accept-Language": language}
        ).json()["text"]
        for language in ("en", "pt-BR", "fr")
    }
    assert errors["en"] == ["Enter a text."]
    assert errors["pt-BR"] == errors["fr"] != errors["en"]


def test_a_cross_site_request_is_rejected_in_the_readers_language(staff: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(staff)
    response = browser.post("/api/messages/", "{}", content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (403, "permission_denied")
    assert response.json()["detail"] == "O token CSRF está ausente ou é de outra sessão."
