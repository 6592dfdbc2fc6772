from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import ApiToken
from tests.pages.html import parse

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(make_user: Callable[..., User]) -> User:
    """A staff user with a password, which only these tests need."""
    return make_user("ana", is_superuser=True, password="pw")


# --- login --------------------------------------------------------------------------------------


def test_logging_in_redirects_to_the_requested_page(client: Client, staff: User) -> None:
    answer = client.post(
        "/accounts/login/", {"username": "ana", "password": "pw", "next": "/channels/"}
    )

    assert answer["Location"] == "/channels/"


def test_a_failed_login_does_not_reveal_which_field_is_wrong(client: Client, staff: User) -> None:
    client.cookies["django_language"] = "en"

    for name in ("ana", "nobody"):
        answer = client.post("/accounts/login/", {"username": name, "password": "x"})
        assert "enter a correct username and password" in parse(answer.content).text
        assert b'value="x"' not in answer.content


def test_too_many_failed_logins_lock_the_account(client: Client, staff: User) -> None:
    for _ in range(8):
        answer = client.post("/accounts/login/", {"username": "ana", "password": "x"})

    assert answer.status_code == 429
    right = client.post("/accounts/login/", {"username": "ana", "password": "pw"})
    assert right.status_code == 429


def test_logging_out_requires_post(staff_client: Client) -> None:
    assert staff_client.get("/accounts/logout/").status_code == 405
    assert staff_client.post("/accounts/logout/")["Location"] == "/accounts/login/"
    assert staff_client.get("/").status_code == 302


def test_the_login_does_not_redirect_to_other_sites(client: Client, staff: User) -> None:
    answer = client.post(
        "/accounts/login/",
        {"username": "ana", "password": "pw", "next": "https://evil.example/"},
    )

    assert answer["Location"] == "/"


# --- language -----------------------------------------------------------------------------------


def test_pages_are_in_portuguese_until_english_is_selected(client: Client) -> None:
    # The browser's language is ignored: it is often English by accident.
    page = client.get("/accounts/login/", headers={"Accept-Language": "en-US"})
    assert parse(page.content).one("html").attributes["lang"] == "pt-BR"
    assert "Entrar" in page.content.decode()

    answer = client.post("/accounts/language/", {"language": "en", "next": "/accounts/login/"})
    assert answer["Location"] == "/accounts/login/"
    page = client.get("/accounts/login/")
    assert parse(page.content).one("html").attributes["lang"] == "en"
    assert "Log in" in page.content.decode()


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", ""])
def test_the_language_switch_does_not_redirect_to_other_sites(client: Client, target: str) -> None:
    answer = client.post("/accounts/language/", {"language": "en", "next": target})

    assert answer["Location"] == "/"


def test_an_unknown_language_changes_nothing(client: Client) -> None:
    answer = client.post("/accounts/language/", {"language": "tlh"})

    assert "django_language" not in answer.cookies


def test_every_page_has_the_language_switch_and_the_logout_button(staff_client: Client) -> None:
    page = parse(staff_client.get("/").content)

    pressed = {
        button.attributes["value"]: button.attributes["aria-pressed"]
        for button in page.all("button", name="language")
    }
    assert pressed == {"pt-br": "false", "en": "true"}
    page.one("form", action="/accounts/logout/", method="post")


# --- keys of the API ----------------------------------------------------------------------------


def test_create_token_prints_a_valid_api_key(
    staff: User, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("create_token", "ana", name="Pedidos")

    key = capsys.readouterr().out.splitlines()[-1]
    token = ApiToken.objects.get()
    assert (token.user, token.name) == (staff, "Pedidos")
    assert key not in (token.digest, token.token_key)
    answer = APIClient().get("/api/channels/", headers={"Authorization": f"Token {key}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("name", "expected"),
    [("nobody", "no user"), ("cliente", "not active staff"), ("ana", "too long")],
)
def test_create_token_reports_errors(
    staff: User, make_user: Callable[..., User], name: str, expected: str
) -> None:
    make_user("cliente", is_staff=False)

    with pytest.raises(CommandError, match=expected):
        call_command("create_token", name, name="x" * 101)
    assert not ApiToken.objects.exists()


def test_the_admin_lists_keys_without_their_text_and_can_only_delete_them(
    staff_client: Client, staff: User
) -> None:
    token, key = ApiToken.objects.create(user=staff, name="Pedidos")
    url = f"/admin/accounts/apitoken/{token.pk}"

    for page in ("/admin/accounts/apitoken/", f"{url}/change/"):
        text = staff_client.get(page).content.decode()
        assert "Pedidos" in text
        # The digest is the row's id, so URLs contain it; it is not displayed.
        assert token.digest not in parse(text).text
        assert key not in text
    assert staff_client.get("/admin/accounts/apitoken/add/").status_code == 403
    assert staff_client.post(f"{url}/change/", {"name": "x"}).status_code == 403
    staff_client.post(f"{url}/delete/", {"post": "yes"})
    assert not ApiToken.objects.exists()
