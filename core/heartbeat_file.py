"""Heartbeat files, for health checks of a process on its own machine.

A process touches its own file each time the database has stored its heartbeat. A fresh file
proves that the process is alive, that its loop runs and that it can reach the database.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path

import structlog
from django.conf import settings

log = structlog.get_logger(__name__)


class Heartbeat:
    """This process's heartbeat file. `kind` is the command's name: "worker" or "listener"."""

    def __init__(self, kind: str) -> None:
        self._path = _directory() / f"{_prefix(kind)}{os.getpid()}"
        self._warned = False

    def give(self) -> None:
        """Touch the file. If it cannot be written, one warning is logged."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        except OSError as error:
            if not self._warned:
                log.warning("heartbeat file cannot be written", error=str(error))
            self._warned = True

    def end(self) -> None:
        """Remove the file: this process is shutting down normally."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def healthcheck(kind: str, *, within: float, pid: int | None = None) -> str:
    """Describe the problem with this machine's processes of this kind; empty if there is none.

    Each process (with `pid`, only that one) must have touched its file within `within` seconds.
    Files of processes that no longer exist are removed.
    """
    ages = {}
    prefix = _prefix(kind)
    for path in _directory().glob(f"{prefix}*"):
        name = path.name.removeprefix(prefix)
        with contextlib.suppress(OSError):
            if not name.isdigit():
                continue
            if not _is_running(int(name)):
                path.unlink()
            elif pid in (None, int(name)):
                ages[int(name)] = time.time() - path.stat().st_mtime
    if not ages:
        return f"no {kind} runs here" if pid is None else f"no {kind} {pid} runs here"
    stale = {number: age for number, age in ages.items() if age > within}
    return ", ".join(
        f"{kind} {number} has had no heartbeat for {age:.0f} s"
        for number, age in sorted(stale.items())
    )


def _directory() -> Path:
    return Path(settings.SIGNS_DIR)


def _prefix(kind: str) -> str:
    # Containers may share the directory, and each of them has a PID 1.
    return f"{kind}-{socket.gethostname()}-"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
