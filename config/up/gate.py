"""The gate at which the web process waits, loaded, until the database is prepared.

Loading is most of its start and needs no database. The gate is a pipe that nothing is written to:
it is open once the supervisor has closed its end. So a process that is started again finds it open,
and none waits for a supervisor that has gone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

VARIABLE = "START_GATE"


class Gate:
    """The supervisor's side. It may be opened more than once."""

    def __init__(self) -> None:
        self._for_children, end = os.pipe()
        self._end: int | None = end

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return these variables with the one by which a child finds the gate."""
        return {**environment, VARIABLE: str(self._for_children)}

    def options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return these arguments of `subprocess.Popen` with the one that hands the gate on."""
        return {**options, "pass_fds": (self._for_children,)}

    def open(self) -> None:
        """Let all go on that wait, and all that come later."""
        if self._end is not None:
            os.close(self._end)
            self._end = None


def wait() -> None:
    """Wait, as a child, until the gate is open; where the supervisor did not start us, go on."""
    if descriptor := os.environ.pop(VARIABLE, ""):
        with os.fdopen(int(descriptor), "rb") as gate:
            gate.read()
