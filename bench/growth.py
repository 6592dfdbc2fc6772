"""Whether anything becomes slower as messages accumulate: the same at 10 thousand and 1 million.

`python -m bench.growth [--sizes 10000,1000000] [--runs 7] [--keep DIRECTORY]` fills a database of
its own, times every step at both sizes and prints a table. `measure` returns the results.
With `--keep` the database stays in that directory and is used again: run it before and after a
change.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.results import Goal, Result, result
from config.up.engines import Engines, new_encryption_key, wait_until

ROOT = Path(__file__).resolve().parent.parent
SIZES, SHORT_SIZES = (10_000, 1_000_000), (200, 2_000)
MAX_RATIO = 1.3
MAX_STATEMENT_MS = 50.0
# Below this a difference is the noise of the machine.
NOISE_MS = 2.0

# By the name of a step: {"ms", "slowest_ms", "slowest_sql"}.
Timings = dict[str, dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.growth")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--at", choices=["fill", "measure"], help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    if options.at:
        print(json.dumps(_in_this_process(options.at, sizes[0], options.runs)))
        return
    timings = time_steps(sizes, runs=options.runs, directory=options.keep)
    if options.json:
        options.json.write_text(json.dumps(timings, indent=1))
    for line in table(timings):
        print(line)


def measure(*, short: bool = False) -> list[Result]:
    """Measure at both sizes, and judge. It takes about ten minutes; the short form, one."""
    return judge(time_steps(SHORT_SIZES, runs=1) if short else time_steps(SIZES, runs=7))


def time_steps(
    sizes: Sequence[int], *, runs: int, directory: Path | None = None
) -> dict[int, Timings]:
    """Fill a database and time every step at each of the sizes, which must rise."""
    measured: dict[int, Timings] = {}
    with _engines(directory) as environment:
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity=0"],
            cwd=ROOT, env=environment, check=True,
        )  # fmt: skip
        for size in sizes:
            for action in ("fill", "measure"):
                done = subprocess.run(
                    [sys.executable, "-m", "bench.growth", "--at", action, "--sizes", str(size),
                     "--runs", str(runs)],
                    cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
            measured[size] = json.loads(done.stdout.splitlines()[-1])
    return measured


def judge(measured: dict[int, Timings]) -> list[Result]:
    """Return each step at the largest size beside the smallest, and each job's slowest statement.

    Pure. A difference that is noise of the machine misses no goal.
    """
    small, large = measured[min(measured)], measured[max(measured)]
    found: list[Result] = []
    for name, timing in large.items():
        goal = Goal(round(1 / MAX_RATIO, 2), of="ratio", at_least=True)
        before = small[name]["ms"]
        step = result(
            f"growth: {name}", timing["ms"], "ms", goal, yardstick=before, less_is_better=True
        )
        is_noise = timing["ms"] - before < NOISE_MS
        found.append(replace(step, met=True) if is_noise else step)
    for name, timing in large.items():
        if name.startswith("job: "):
            slowest = timing["slowest_ms"]
            goal = Goal(MAX_STATEMENT_MS)
            found.append(result(f"growth: slowest statement, {name}", slowest, "ms", goal))
    return found


def table(measured: dict[int, Timings]) -> Iterator[str]:
    """Yield the lines of a table for people."""
    sizes = sorted(measured)
    yield f"{'':<42}" + "".join(f"{size:>12,}" for size in sizes) + "   ratio  slowest statement"
    for name, timing in measured[sizes[-1]].items():
        figures = "".join(f"{measured[size][name]['ms']:>9.1f} ms" for size in sizes)
        ratio = timing["ms"] / measured[sizes[0]][name]["ms"]
        sql = " ".join(timing["slowest_sql"].split())[:60]
        yield f"{name:<42}{figures} {ratio:>7.2f} {timing['slowest_ms']:>7.1f} ms  {sql}"
    missed = [step.name for step in judge(measured) if not step.met]
    yield f"goals missed: {len(missed)}"
    yield from (f"  {name}" for name in missed)


def _in_this_process(action: str, size: int, runs: int) -> Timings:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    logging.disable()
    from dataclasses import asdict

    from bench import growth_rows, growth_steps

    if action == "fill":
        growth_rows.fill(size)
        return {}
    return {name: asdict(timing) for name, timing in growth_steps.measure(runs).items()}


@contextlib.contextmanager
def _engines(directory: Path | None) -> Iterator[dict[str, str]]:
    """Run PostgreSQL and Valkey in the directory; yield the environment for their clients."""
    with contextlib.ExitStack() as stack:
        if directory is None:
            # PostgreSQL's user must be able to reach it.
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="growth-")))
        engines = Engines(directory, durable=False)
        engines.set_up()
        if not engines.has_database:
            engines.create_database()
        for command, is_ready, stop_signal in (
            (engines.postgres_command, engines.postgres_is_ready, signal.SIGINT),
            (engines.valkey_command, engines.valkey_is_ready, signal.SIGTERM),
        ):
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, **engines.options(death_signal=stop_signal)
            )
            stack.callback(process.wait, 60)
            stack.callback(process.send_signal, stop_signal)
            if not wait_until(is_ready, process):
                raise RuntimeError(f"{command[0]} ended with {process.returncode}")
        keys = directory / "encryption-keys"
        if not keys.exists():
            keys.write_text(new_encryption_key())
        addresses = engines.addresses()
        yield os.environ | {
            "DATABASE_URL": addresses.database_url,
            "REDIS_URL": addresses.redis_url,
            "DATA_DIR": str(directory),
            "SECRET_KEY": "bench",
            "ENCRYPTION_KEYS": keys.read_text(),
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }


if __name__ == "__main__":
    main()
