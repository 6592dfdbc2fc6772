"""`manage.py alive`: the health check of a worker and a listener, with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from core.heartbeat_file import Heartbeat
from tests.config.product import BASE_DIR, MANAGE, eventually

KINDS = {"worker": "worker", "listener": "listen_evolution"}


@pytest.fixture(autouse=True)
def heartbeat_dir(settings: Any, tmp_path: Path) -> Path:
    settings.SIGNS_DIR = tmp_path / "signs"
    return Path(settings.SIGNS_DIR)


def check(kind: str, **options: Any) -> str:
    """Return the problem that the check reports; empty if there is none."""
    out = StringIO()
    try:
        call_command("alive", kind, stdout=out, **options)
    except CommandError as error:
        return str(error)
    assert out.getvalue() == f"{kind} is alive\n"
    return ""


@contextlib.contextmanager
def running(heartbeat_dir: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """A worker and a listener on the test database."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    url = urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))
    more = {"DATABASE_URL": url, "SIGNS_DIR": str(heartbeat_dir), "WORKER_HEARTBEAT_SECONDS": "0.5"}
    processes = {
        kind: subprocess.Popen(
            [*MANAGE, command], cwd=BASE_DIR, env={**os.environ, **more, "LOG_LEVEL": "ERROR"}
        )
        for kind, command in KINDS.items()
    }
    try:
        yield processes
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)


@pytest.mark.django_db(transaction=True)
def test_the_check_follows_a_process_through_suspension_resumption_and_death(
    heartbeat_dir: Path,
) -> None:
    assert check("worker") == "no worker runs here"
    with running(heartbeat_dir) as processes:
        for kind in KINDS:
            eventually(f"{kind} is alive", lambda kind=kind: not check(kind, within=4))
        for process in processes.values():
            process.send_signal(signal.SIGSTOP)
        for kind, process in processes.items():
            problem = eventually(f"{kind} is stale", lambda kind=kind: check(kind, within=4))
            assert problem.startswith(f"{kind} {process.pid} has had no heartbeat for ")
            process.send_signal(signal.SIGCONT)
            eventually(f"{kind} is back", lambda kind=kind: not check(kind, within=4))
        dead = processes["worker"]
        dead.kill()
        dead.wait(10)
        assert check("worker") == "no worker runs here"
        assert check("worker", pid=dead.pid) == f"no worker {dead.pid} runs here"
        assert check("listener") == ""
        orderly = processes["listener"]
        orderly.terminate()
        orderly.wait(30)
        assert list(heartbeat_dir.iterdir()) == []


def test_a_healthy_process_does_not_hide_a_stale_one(heartbeat_dir: Path) -> None:
    heartbeat = Heartbeat("worker")
    heartbeat.give()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        [mine] = heartbeat_dir.iterdir()
        theirs = mine.with_name(mine.name.replace(str(os.getpid()), str(other.pid)))
        theirs.touch()
        os.utime(theirs, (1, 1))
        assert check("worker").startswith(f"worker {other.pid} has had no heartbeat for ")
        assert check("worker", pid=os.getpid()) == ""
        remote = mine.with_name("worker-another-host-1")
        remote.touch()
        os.utime(remote, (1, 1))
    # The file of the dead process is removed; the file of another machine is ignored.
    assert check("worker") == ""
    assert set(heartbeat_dir.iterdir()) == {mine, remote}
    heartbeat.end()
    assert check("worker") == "no worker runs here"


def test_an_unwritable_directory_is_harmless_and_is_logged_once(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    settings.SIGNS_DIR = tmp_path / "file" / "signs"
    heartbeat = Heartbeat("listener")
    heartbeat.give()
    heartbeat.give()
    heartbeat.end()
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "heartbeat file cannot be written" in line]) == 1
    assert check("listener") == "no listener runs here"
