"""Start `manage.py up` for a test, in its own directory and on a free port."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests

from bench.product import free_port

BASE_DIR = Path(__file__).resolve().parent.parent.parent
MANAGE = [sys.executable, str(BASE_DIR / "manage.py")]
# Set for the tests themselves, but not in an installation. Empty, not absent, so that a
# developer's .env does not set them.
UNSET_VARIABLES = ["DATABASE_URL", "REDIS_URL", "ALLOWED_HOSTS"]
TEST_VARIABLES = ["SECRET_KEY", "ENCRYPTION_KEYS", "DATA_DIR", "STATIC_ROOT", "PUBLIC_URL", "DEBUG"]
PATIENCE = 90.0

T = TypeVar("T")


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """Return the environment of a user who set only DATA_DIR, DEMO=0 and `more`."""
    base = {name: value for name, value in os.environ.items() if name not in TEST_VARIABLES}
    return (
        base | dict.fromkeys(UNSET_VARIABLES, "") | {"DATA_DIR": str(data_dir), "DEMO": "0"} | more
    )


def eventually(what: str, condition: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Return the condition's first truthy result; fail if there is none in time."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return result


def manage(*command: str, data_dir: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a management command as a user would, with this data directory."""
    variables = environment(data_dir, **more)
    variables = {
        name: value for name, value in variables.items() if value or name not in UNSET_VARIABLES
    }
    return subprocess.run(
        [*MANAGE, *command],
        env=variables,
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Product:
    """One running `manage.py up`."""

    def __init__(self, data_dir: Path, **more: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*MANAGE, "up"],
            env=environment(data_dir, PORT=str(self.port), **more),
            cwd=BASE_DIR,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, *, times: int = 1) -> None:
        """Wait until the output contains the pattern `times` times."""

        def is_present() -> bool:
            assert self.process.poll() is None or self._reader.is_alive(), self.output
            return len(re.findall(pattern, self.output)) >= times

        self.eventually(f"{pattern!r} in the output", is_present)

    def eventually(self, what: str, condition: Callable[[], T], seconds: float = PATIENCE) -> T:
        """Like the function, but a failure shows the product's output."""
        try:
            return eventually(what, condition, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}") from None

    def wait_until_ready(self) -> None:
        self.wait_for(r"ready after")

    def is_ready(self) -> bool:
        """Whether the product can serve requests now."""
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def processes(self) -> list[psutil.Process]:
        """Return all descendants of the supervisor."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, word: str) -> psutil.Process:
        """Return the supervisor's child with this word in its command line."""
        for process in psutil.Process(self.process.pid).children():
            if any(word in part for part in process.cmdline()):
                return process
        raise AssertionError(f"no {word} among {self.processes()}")

    def addresses(self) -> dict[str, Any]:
        return dict(json.loads((self.data_dir / "engines.json").read_text()))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal, read all output, and return the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def clean_up(self) -> None:
        """Kill all processes, whatever the test has done."""
        if self.process.poll() is None:
            descendants = self.processes()
            self.process.kill()
            self.process.wait()
            for process in descendants:
                if process.is_running():
                    process.kill()


@contextmanager
def running(data_dir: Path, **more: str) -> Iterator[Product]:
    """Run a product; it is ready at the start and removed at the end."""
    product = Product(data_dir, **more)
    try:
        product.wait_until_ready()
        yield product
    finally:
        product.clean_up()
