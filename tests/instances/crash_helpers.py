"""Runs switches in processes that kill themselves: `python -m tests.instances.crash_helpers`.

Each input line names a session, a mode and a moment. A child process runs the switch and kills
itself with SIGKILL at that moment, without cleanup. The output line reports how it ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

KILLED, DONE, REFUSED = "killed", "done", "refused"


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def counted(function: Callable[..., Any], number: int, *, after: bool) -> Callable[..., Any]:
    """Wrap the function so that its n-th call kills the process, before or after it runs."""
    count = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == number and not after:
            die()
        answer = function(*args, **kwargs)
        if count == number:
            die()
        return answer

    return call


def switch(session_id: int, to: str, moment: str, number: int) -> None:
    from channels_app.providers.evolution.receive_mode import EvolutionInstance
    from instances.models import WhatsAppSession
    from instances.receive_mode import handover

    after, _, what = moment.partition("-")
    owner: Any = {"write": handover, "request": EvolutionInstance, "end": handover}[what]
    name = {"write": "_write", "request": "_call", "end": "_finish"}[what]
    setattr(owner, name, counted(getattr(owner, name), number, after=after == "after"))
    session = WhatsAppSession.objects.select_related("channel").get(pk=session_id)
    if to == "first":
        handover.configure_default(session_id)
    elif to == "webhook":
        handover.enable_webhook(session, base64=True, source="api", user=None)
    else:
        handover.enable_websocket(session, source="api", user=None)


def main() -> None:
    import django

    django.setup()
    # Import once what every child needs.
    import psycopg_pool  # noqa: F401
    from django.utils.translation import gettext

    from instances.receive_mode.handover import SwitchRefused

    gettext("done")

    for line in sys.stdin:
        session_id, to, moment, number = line.split()
        child = os.fork()
        if not child:
            code = 2
            with contextlib.suppress(SwitchRefused):
                switch(int(session_id), to, moment, int(number))
                code = 0
            os._exit(code)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        ends = {-signal.SIGKILL: KILLED, 0: DONE, 2: REFUSED}
        print(ends.get(code, f"failed: {code}"), flush=True)


@contextlib.contextmanager
def killer(public_url: str) -> Iterator[Callable[[int, str, str, int], str]]:
    """Yield a function that runs a switch, kills it and returns how it ended."""
    from django.db import connection

    parts = urlsplit(os.environ["DATABASE_URL"])
    url = urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.instances.crash_helpers"],
        env={
            **os.environ,
            "DATABASE_URL": url,
            "PUBLIC_URL": public_url,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "LOG_LEVEL": "ERROR",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def kill(session_id: int, to: str, moment: str, number: int) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{session_id} {to} {moment} {number}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    try:
        yield kill
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


if __name__ == "__main__":
    main()
