from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from pytest_django import Settings

from config.checks import check_production_settings, exit_if_not_upgradable, exit_if_unsafe
from tests.config.product import BASE_DIR, manage


def ids() -> list[str | None]:
    return [problem.id for problem in check_production_settings(None)]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ENCRYPTION_KEYS": []}, "alterna.E001"),
        ({"ENCRYPTION_KEYS": [Fernet.generate_key().decode(), "short"]}, "alterna.E002"),
        ({"DEBUG": True, "PUBLIC_URL": "https://alterna.example.com"}, "alterna.E003"),
        ({"SECRET_KEY": "insecure-key-for-development-and-tests-only"}, "alterna.E004"),
        ({"ALLOWED_HOSTS": []}, "alterna.E005"),
    ],
)
def test_each_unsafe_value_is_reported(
    changes: dict[str, Any], problem: str, settings: Settings
) -> None:
    assert ids() == []
    for name, value in changes.items():
        setattr(settings, name, value)
    assert ids() == [problem]
    with pytest.raises(SystemExit, match=problem):
        exit_if_unsafe()


@pytest.mark.django_db
def test_a_database_from_before_the_first_release_is_reported_in_one_line() -> None:
    exit_if_not_upgradable()
    MigrationRecorder(connection).record_applied("channels_app", "0001_squashed_0006_incident_code")
    with pytest.raises(SystemExit) as ended:
        exit_if_not_upgradable()
    assert str(ended.value).startswith(
        "alterna.E006: The database has the migration channels_app.0001_sq"
    )
    assert "\n" not in str(ended.value)
    with pytest.raises(SystemCheckError, match=r"E006"):
        call_command("migrate", check_unapplied=True, verbosity=0, skip_checks=False)


@pytest.fixture
def development(settings: Settings) -> Settings:
    """Settings for Django's development server on the developer's machine."""
    settings.DEBUG = True
    settings.SECRET_KEY = settings.INSECURE_SECRET_KEY
    settings.PUBLIC_URL = "http://127.0.0.1:8000"
    settings.HOST = "127.0.0.1"
    settings.ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", ".localhost"]
    return settings


@pytest.mark.parametrize("database", ["", "localhost", "127.0.0.1", "::1", "/run/postgres"])
def test_debug_is_allowed_on_this_machine(
    database: str, development: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(development.DATABASES["default"], "HOST", database)
    assert ids() == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"PUBLIC_URL": "https://chat.example.com"}, "PUBLIC_URL (chat.example.com)"),
        ({"HOST": "0.0.0.0"}, "HOST (0.0.0.0)"),
        ({"HOST": ""}, "HOST ()"),
        ({"ALLOWED_HOSTS": ["localhost", "chat.example.com"]}, "ALLOWED_HOSTS (chat.example.com)"),
        ({"ALLOWED_HOSTS": ["*"]}, "ALLOWED_HOSTS (*)"),
        ({"ALLOWED_HOSTS": ["192.168.0.7"]}, "ALLOWED_HOSTS (192.168.0.7)"),
    ],
)
def test_debug_and_the_published_key_are_rejected_if_other_machines_are_involved(
    changes: dict[str, Any], named: str, development: Settings
) -> None:
    for name, value in changes.items():
        setattr(development, name, value)
    assert ids() == ["alterna.E003", "alterna.E004"]
    [first, _] = check_production_settings(None)
    assert first.msg == f"DEBUG is on, but this is not this machine: {named}."


@pytest.mark.parametrize("host", ["db.example.com", "localhost,db.example.com", "10.0.0.7"])
def test_debug_is_rejected_with_a_remote_database(
    host: str, development: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(development.DATABASES["default"], "HOST", host)
    assert ids() == ["alterna.E003", "alterna.E004"]


def test_debug_is_rejected_for_a_public_host_name_alone(tmp_path: Path) -> None:
    variables = {"DEBUG": "1", "ALLOWED_HOSTS": "chat.example.com", "SECRET_KEY": "safe"}
    variables |= {"DATABASE_URL": "postgres://db.example.com/x", "REDIS_URL": "redis://localhost:1"}
    result = manage(
        "check", data_dir=tmp_path, ENCRYPTION_KEYS=Fernet.generate_key().decode(), **variables
    )
    assert result.returncode == 1
    assert "DATABASE_URL (db.example.com), ALLOWED_HOSTS (chat.example.com)" in result.stderr


UNSAFE = {"DATABASE_URL": "postgres://nowhere.invalid/x", "SECRET_KEY": "safe"}
ONE_LINE = "alterna.E001: ENCRYPTION_KEYS is empty: the channels' secrets cannot be stored.\n"


def test_the_worker_rejects_an_unsafe_value(tmp_path: Path) -> None:
    result = manage("worker", data_dir=tmp_path, **UNSAFE)
    assert (result.returncode, result.stderr) == (1, ONE_LINE)


def test_the_web_process_rejects_an_unsafe_value(tmp_path: Path) -> None:
    variables = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    result = subprocess.run(
        [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", "0"],
        env=variables | UNSAFE | {"DATA_DIR": str(tmp_path), "ENCRYPTION_KEYS": ""},
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, ONE_LINE)
