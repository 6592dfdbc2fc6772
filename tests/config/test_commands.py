from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command

from config.engines import unreachable_reason
from tests.config.product import manage


def no_engines(data_dir: Path) -> str:
    return (
        f"No engines run for the data directory {data_dir}: start them with `make run` or"
        " `manage.py up`, or set DATABASE_URL.\n"
    )


def test_new_encryption_key_prints_a_fernet_key() -> None:
    out = StringIO()
    call_command("new_encryption_key", stdout=out)
    Fernet(out.getvalue().strip())


@pytest.mark.parametrize("command", ["migrate", "worker", "createsuperuser", "unheard_of"])
def test_a_command_without_engines_fails_with_one_line(command: str, tmp_path: Path) -> None:
    result = manage(command, data_dir=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", no_engines(tmp_path))


def test_a_stale_engine_address_gives_the_same_line(tmp_path: Path) -> None:
    address = f"postgres://postgres@/alterna?host={tmp_path}"
    (tmp_path / "engines.json").write_text(
        f'{{"database_url": "{address}", "redis_url": "unix://{tmp_path}/valkey.sock"}}'
    )
    result = manage("migrate", data_dir=tmp_path)
    assert (result.returncode, result.stderr) == (1, no_engines(tmp_path))


@pytest.mark.parametrize("arguments", [["help"], ["migrate", "--help"], ["up", "--help"]])
def test_help_needs_no_engines(arguments: list[str], tmp_path: Path) -> None:
    result = manage(*arguments, data_dir=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_makemigrations_needs_no_engines_and_prints_no_warnings(tmp_path: Path) -> None:
    keys = {"SECRET_KEY": "x", "ENCRYPTION_KEYS": Fernet.generate_key().decode()}
    result = manage("makemigrations", "--check", "--dry-run", data_dir=tmp_path, **keys)
    assert (result.returncode, result.stderr) == (0, "")


def test_no_engines_are_required_with_an_own_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://db.example.com/alterna")
    assert unreachable_reason(tmp_path) is None
    monkeypatch.delenv("DATABASE_URL")
    assert unreachable_reason(tmp_path) is not None
    monkeypatch.setenv("DATABASE_URL_FILE", "/run/secrets/database_url")
    assert unreachable_reason(tmp_path) is None
