"""The health probes, the language of pages, and responses without a database."""

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

DATABASE_ERRORS = pytest.mark.parametrize(
    "error", [OperationalError("gone"), InterfaceError("closed"), PoolTimeout("none in 5 s")]
)


def raising(error: Exception) -> Any:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    return fail


def test_liveness_needs_no_login(client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_readiness_needs_no_login(client: Client) -> None:
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "database": "up"})


@DATABASE_ERRORS
def test_without_a_database_the_process_is_alive_but_not_ready(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(health, "_query_database", raising(error))
    response = client.get("/readyz")
    assert (response.status_code, response.json()["database"]) == (503, "down")
    assert client.get("/healthz").status_code == 200


@DATABASE_ERRORS
def test_without_a_database_a_page_asks_the_client_to_retry(
    client: Client, staff: User, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    client.force_login(staff)
    monkeypatch.setattr(selectors, "dashboard", raising(error))
    response = client.get("/")
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert "banco de dados" in response.content.decode()


def test_another_error_is_not_reported_as_a_database_error(
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
        # A browser's language is often accidentally English: only an explicit choice counts.
        ("", "en", "pt-br"),
        ("en", "pt-BR", "en"),
        ("pt-br", "en", "pt-br"),
        ("xx", "en", "pt-br"),
    ],
)
def test_pages_use_the_chosen_language(
    client: Client, cookie: str, header: str, language: str
) -> None:
    client.cookies["django_language"] = cookie
    response = client.get("/accounts/login/", headers={"Accept-Language": header})
    assert response["Content-Language"] == language
    assert f'lang="{language}"' in response.content.decode().lower()
