"""Signs of life of a process, for whoever watches it on its own machine.

A process touches a file of its own each time that the database has taken its heartbeat: a fresh
file says that this very process lives, that its loop turns and that it reaches the database.
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
    """The file of this process. `kind` is the command's name: "worker" or "listener"."""

    def __init__(self, kind: str) -> None:
        self._path = _directory() / f"{_prefix(kind)}{os.getpid()}"
        self._said = False

    def give(self) -> None:
        """Say that all is well now. A file that cannot be written is told in the log once."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        except OSError as error:
            if not self._said:
                log.warning("no sign of life can be left", error=str(error))
            self._said = True

    def end(self) -> None:
        """This process ends in order."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def trouble(kind: str, *, within: float, pid: int | None = None) -> str:
    """Say what is wrong with the processes of this kind on this machine; empty if nothing.

    Each must have given a sign within so many seconds, or the one with this `pid`. Files of
    processes that are gone are removed.
    """
    ages = {}
    prefix = _prefix(kind)
    for path in _directory().glob(f"{prefix}*"):
        name = path.name.removeprefix(prefix)
        with contextlib.suppress(OSError):
            if not name.isdigit():
                continue
            if not _lives(int(name)):
                path.unlink()
            elif pid in (None, int(name)):
                ages[int(name)] = time.time() - path.stat().st_mtime
    if not ages:
        return f"no {kind} runs here" if pid is None else f"no {kind} {pid} runs here"
    silent = {number: age for number, age in ages.items() if age > within}
    return ", ".join(
        f"{kind} {number} gave no sign of life for {age:.0f} s"
        for number, age in sorted(silent.items())
    )


def _directory() -> Path:
    return Path(settings.SIGNS_DIR)


def _prefix(kind: str) -> str:
    # Containers may share the directory, and each has a process 1.
    return f"{kind}-{socket.gethostname()}-"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
