"""Startup barrier: the loaded web process waits here until the database is ready.

Loading takes most of its startup time and needs no database. The barrier is a pipe that is never
written to; it opens when the supervisor closes its end. So a restarted process does not wait, and
no process waits for a supervisor that has exited.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

VARIABLE = "START_GATE"


class StartupBarrier:
    """The supervisor's end of the barrier. `open` may be called more than once."""

    def __init__(self) -> None:
        self._read_end, write_end = os.pipe()
        self._write_end: int | None = write_end

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Add the variable that passes the barrier's file descriptor to a child."""
        return {**environment, VARIABLE: str(self._read_end)}

    def options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Add the `subprocess.Popen` argument that lets a child inherit the barrier."""
        return {**options, "pass_fds": (self._read_end,)}

    def open(self) -> None:
        """Release all waiting processes and all that start later."""
        if self._write_end is not None:
            os.close(self._write_end)
            self._write_end = None


def wait() -> None:
    """In a child: wait until the barrier is open. Returns at once without a supervisor."""
    if descriptor := os.environ.pop(VARIABLE, ""):
        with os.fdopen(int(descriptor), "rb") as barrier:
            barrier.read()
