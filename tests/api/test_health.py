"""The probes, and what every page does about language and a database that is away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import InterfaceError, OperationalError
from psycopg_pool import PoolTimeout

from config import health
from messaging import selectors

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static")]

AWAY = pytest.mark.parametrize(
    "error", [OperationalError("gone"), InterfaceError("closed"), PoolTimeout("none in 5 s")]
)


def raising(error: Exception) -> Any:
    def away(*args: Any, **options: Any) -> None:
        raise error

    return away


def test_a_living_process_says_so_to_anybody(client: Client) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_process_that_can_serve_says_so_to_anybody(client: Client) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "database": "up"})


@AWAY
def test_without_a_database_it_lives_but_cannot_serve(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(health, "_query_database", raising(error))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["database"]) == (503, "down")
    assert client.get("/healthz").status_code == 200


@AWAY
def test_without_a_database_a_page_asks_for_patience(
    client: Client, staff: User, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    client.force_login(staff)
    monkeypatch.setattr(selectors, "dashboard", raising(error))
    answer = client.get("/")
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert "banco de dados" in answer.content.decode()


def test_another_error_is_not_taken_for_the_database(
    client: Client, staff: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(staff)
    client.raise_request_exception = False
    monkeypatch.setattr(selectors, "dashboard", raising(ZeroDivisionError()))
    assert client.get("/").status_code == 500


@pytest.mark.parametrize(
    ("cookie", "header", "language"),
    [
        ("", "", "pt-br"),
        # A browser's setting is often English by accident: only a choice counts.
        ("", "en", "pt-br"),
        ("en", "pt-BR", "en"),
        ("pt-br", "en", "pt-br"),
        ("xx", "en", "pt-br"),
    ],
)
def test_pages_speak_the_language_that_was_chosen(
    client: Client, cookie: str, header: str, language: str
) -> None:
    client.cookies["django_language"] = cookie
    answer = client.get("/accounts/login/", headers={"Accept-Language": header})
    assert answer["Content-Language"] == language
    assert f'lang="{language}"' in answer.content.decode().lower()
