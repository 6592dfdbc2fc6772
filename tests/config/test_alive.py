"""`manage.py alive`: the health check of a worker and of a listener, tried on real processes."""

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
def signs(settings: Any, tmp_path: Path) -> Path:
    settings.SIGNS_DIR = tmp_path / "signs"
    return Path(settings.SIGNS_DIR)


def ask(kind: str, **options: Any) -> str:
    """What the check says: empty if all is well."""
    out = StringIO()
    try:
        call_command("alive", kind, stdout=out, **options)
    except CommandError as error:
        return str(error)
    assert out.getvalue() == f"{kind} lives\n"
    return ""


@contextlib.contextmanager
def running(signs: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """A worker and a listener on the test database."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    url = urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))
    more = {"DATABASE_URL": url, "SIGNS_DIR": str(signs), "WORKER_HEARTBEAT_SECONDS": "0.5"}
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
def test_the_check_follows_the_very_process_through_freezing_thawing_and_death(
    signs: Path,
) -> None:
    assert ask("worker") == "no worker runs here"
    with running(signs) as processes:
        for kind in KINDS:
            eventually(f"{kind} lives", lambda kind=kind: not ask(kind, within=4))
        for process in processes.values():
            process.send_signal(signal.SIGSTOP)
        for kind, process in processes.items():
            said = eventually(f"{kind} is silent", lambda kind=kind: ask(kind, within=4))
            assert said.startswith(f"{kind} {process.pid} gave no sign of life for ")
            process.send_signal(signal.SIGCONT)
            eventually(f"{kind} is back", lambda kind=kind: not ask(kind, within=4))
        dead = processes["worker"]
        dead.kill()
        dead.wait(10)
        assert ask("worker") == "no worker runs here"
        assert ask("worker", pid=dead.pid) == f"no worker {dead.pid} runs here"
        assert ask("listener") == ""
        orderly = processes["listener"]
        orderly.terminate()
        orderly.wait(30)
        assert list(signs.iterdir()) == []


def test_a_process_that_lives_does_not_hide_one_that_is_silent(signs: Path) -> None:
    sign = Heartbeat("worker")
    sign.give()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        [mine] = signs.iterdir()
        theirs = mine.with_name(mine.name.replace(str(os.getpid()), str(other.pid)))
        theirs.touch()
        os.utime(theirs, (1, 1))
        assert ask("worker").startswith(f"worker {other.pid} gave no sign of life for ")
        assert ask("worker", pid=os.getpid()) == ""
        elsewhere = mine.with_name("worker-another-host-1")
        elsewhere.touch()
        os.utime(elsewhere, (1, 1))
    # Gone, its file is nobody's; that of another machine is not ours to judge.
    assert ask("worker") == ""
    assert set(signs.iterdir()) == {mine, elsewhere}
    sign.end()
    assert ask("worker") == "no worker runs here"


def test_a_directory_that_cannot_be_written_stops_nothing_and_is_told_once(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    settings.SIGNS_DIR = tmp_path / "file" / "signs"
    sign = Heartbeat("listener")
    sign.give()
    sign.give()
    sign.end()
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "no sign of life can be left" in line]) == 1
    assert ask("listener") == "no listener runs here"
