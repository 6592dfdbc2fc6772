from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pytest_django import Settings

from config.checks import production_is_safe, refuse_unsafe
from tests.config.product import BASE_DIR, manage


def ids() -> list[str | None]:
    return [problem.id for problem in production_is_safe(None)]


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
def test_each_unsafe_value_is_named(
    changes: dict[str, Any], problem: str, settings: Settings
) -> None:
    assert ids() == []
    for name, value in changes.items():
        setattr(settings, name, value)
    assert ids() == [problem]
    with pytest.raises(SystemExit, match=problem):
        refuse_unsafe()


def test_debug_is_fine_on_this_machine(settings: Settings) -> None:
    settings.DEBUG = True
    settings.SECRET_KEY = settings.INSECURE_SECRET_KEY
    settings.PUBLIC_URL = "http://127.0.0.1:8000"
    assert ids() == []


UNSAFE = {"DATABASE_URL": "postgres://nowhere.invalid/x", "SECRET_KEY": "safe"}
ONE_LINE = "alterna.E001: ENCRYPTION_KEYS is empty: the channels' secrets cannot be stored.\n"


def test_the_worker_refuses_an_unsafe_value(tmp_path: Path) -> None:
    answer = manage("worker", data_dir=tmp_path, **UNSAFE)
    assert (answer.returncode, answer.stderr) == (1, ONE_LINE)


def test_the_web_process_refuses_an_unsafe_value(tmp_path: Path) -> None:
    names = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    answer = subprocess.run(
        [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", "0"],
        env=names | UNSAFE | {"DATA_DIR": str(tmp_path), "ENCRYPTION_KEYS": ""},
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (1, ONE_LINE)
