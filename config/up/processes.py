"""How this product starts a child process: alone in its session, and never outliving its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1


def child_options(
    *, death_signal: int = signal.SIGKILL, user: int | None = None, group: int | None = None
) -> dict[str, Any]:
    """Return the keyword arguments of `subprocess.Popen` for a child of this product.

    The child has its own session, so that Ctrl-C in the terminal reaches the parent only. On Linux
    it gets `death_signal` when its parent dies, `kill -9` included; elsewhere nothing does that.
    Start it from the main thread: Linux takes the death of the starting thread for the parent's.
    """
    options: dict[str, Any] = {"start_new_session": True, "preexec_fn": _dies_with(death_signal)}
    if user is not None:
        options |= {"user": user, "group": group, "extra_groups": []}
    return options


def _dies_with(death_signal: int) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)  # looked up here: nothing may be imported between fork and exec
    parent = os.getpid()

    def before_exec() -> None:
        # After the change of user, which would clear it.
        libc.prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec
