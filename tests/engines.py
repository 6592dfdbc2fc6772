"""A pytest plugin that starts real engines for each test run, in a temporary directory.

It acts on import, before Django's settings are loaded. If DATABASE_URL and REDIS_URL are set, it
uses those. Each pytest-xdist worker has its own engines: live updates of one worker must not reach
the pages of another. The workers have the controller's keys, and its directory as TEST_RUN_DIR.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from config.up.engines import Engines, new_encryption_key, wait_until


def start() -> None:
    """Start the engines and set the environment for the settings; clean up at exit."""
    directory = new_directory()
    processes: list[tuple[subprocess.Popen[bytes], int]] = []
    owner = os.getpid()

    def stop() -> None:
        if os.getpid() != owner:
            return  # a process that a test forked
        for process, stop_signal in reversed(processes):
            process.send_signal(stop_signal)
        for process, _ in processes:
            process.wait(30)

    atexit.register(stop)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that atexit handlers run
    engines = Engines(directory, durable=False)
    engines.set_up()
    engines.create_database()
    for command, is_ready, stop_signal in (
        (engines.postgres_command, engines.postgres_is_ready, signal.SIGQUIT),
        (engines.valkey_command, engines.valkey_is_ready, signal.SIGKILL),
    ):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, **engines.options(death_signal=stop_signal)
        )
        processes.append((process, stop_signal))
        if not wait_until(is_ready, process):
            raise SystemExit(f"{command[0]} ended with {process.returncode}")
    addresses = engines.addresses()
    os.environ["TEST_ENGINES"] = "own"
    os.environ["DATABASE_URL"] = addresses.database_url
    os.environ["REDIS_URL"] = addresses.redis_url
    os.environ["DATA_DIR"] = str(directory)
    os.environ["SECRET_KEY"] = "for-tests-only"
    if not _shared:
        os.environ["ENCRYPTION_KEYS"] = new_encryption_key()


def new_directory() -> Path:
    """Create a temporary directory and remove it at exit."""
    directory, owner = Path(tempfile.mkdtemp(prefix="alterna-test-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a process that a test forked
            shutil.rmtree(directory, ignore_errors=True)

    atexit.register(remove)
    return directory


_given = "DATABASE_URL" in os.environ and "REDIS_URL" in os.environ
_shared = "PYTEST_XDIST_WORKER" in os.environ and os.environ.get("TEST_ENGINES") == "own"
if not _given or _shared:
    start()
# Tests start hundreds of processes, and each would compile all our modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "TEST_RUN_DIR" not in os.environ:
    os.environ["TEST_RUN_DIR"] = str(new_directory())
os.environ.setdefault("SECRET_KEY", "for-tests-only")
os.environ.setdefault("ENCRYPTION_KEYS", new_encryption_key())
