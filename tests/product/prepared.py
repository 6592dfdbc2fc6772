"""A data directory as the first start of a product with demo data leaves it.

Preparing one takes longer than most tests of this package, so all products of a test run start
from a copy. tests/config/test_up.py tests the first start.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

from bench.product import ROOT
from config.up.engines import Engines, wait_until


def prepared_data() -> Path:
    """Return the directory, which nobody may change. The first process that needs it makes it."""
    directory = Path(os.environ["TEST_RUN_DIR"])
    prepared = directory / "prepared"
    with (directory / "prepared.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not prepared.exists():
            unfinished = directory / "unfinished"
            _prepare(unfinished)
            unfinished.rename(prepared)
    return prepared


def _prepare(data_dir: Path) -> None:
    engines = Engines(data_dir, durable=False)
    engines.set_up()
    engines.create_database()
    postgres = subprocess.Popen(
        engines.postgres_command, **engines.options(death_signal=signal.SIGINT)
    )
    try:
        assert wait_until(engines.postgres_is_ready, postgres)
        # Each start writes its own addresses of the simulators.
        simulators = dict.fromkeys(
            (f"{name}_SIMULATOR_URL" for name in ("GRAPH", "WWEBJS", "EVOLUTION")),
            "http://127.0.0.1:9",
        )
        subprocess.run(
            [sys.executable, "-m", "config.up.prepare", "--demo"],
            cwd=ROOT,
            env={
                **os.environ,
                **simulators,
                "DATABASE_URL": engines.addresses().database_url,
                "DATA_DIR": str(data_dir),
            },
            input="go\n",
            text=True,
            capture_output=True,
            check=True,
        )
    finally:
        postgres.send_signal(signal.SIGINT)
        postgres.wait(30)
