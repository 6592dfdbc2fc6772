from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from config.up import processes, supervisor
from config.up.processes import Child, child_options, describe_end, forward
from config.up.startup_barrier import StartupBarrier
from config.up.supervisor import Options, StartError, read_options
from tests.config.product import manage


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Options]:
    """Read the options from the given variables only."""
    monkeypatch.setattr("environ.Env.read_env", lambda path: None)

    def read(**names: str) -> Options:
        for name in ("PORT", "HOST", "DATA_DIR", "PUBLIC_URL", "DEMO", "ALLOWED_HOSTS"):
            monkeypatch.delenv(name, raising=False)
        for name in ("DATABASE_URL", "REDIS_URL"):
            monkeypatch.setenv(name, "")
        for name, value in names.items():
            monkeypatch.setenv(name, value)
        return read_options()

    return read


def test_without_any_variable_the_demo_runs_on_port_8000(clean: Callable[..., Options]) -> None:
    options = clean()
    assert (options.url, options.demo) == ("http://127.0.0.1:8000", True)
    assert options.data_dir == supervisor.BASE_DIR / ".data"
    assert options.own_postgres
    assert options.own_valkey
    assert [options.simulator_port(name) for name in supervisor.SIMULATORS] == [8001, 8002, 8003]


def test_demo_data_is_not_created_in_an_external_database_by_default(
    clean: Callable[..., Options],
) -> None:
    options = clean(DATABASE_URL="postgres://db/alterna")
    assert (options.own_postgres, options.demo) == (False, False)
    assert clean(DATABASE_URL="postgres://db/alterna", DEMO="1").demo


def test_an_ambiguous_demo_value_is_rejected(
    clean: Callable[..., Options],
) -> None:
    assert [clean(DEMO=word).demo for word in ("1", "yes", "True", "0", "no", "FALSE")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    with pytest.raises(StartError, match=r"DEMO is neither 1 nor 0: 'maybe'\."):
        clean(DEMO="maybe")


def test_its_public_host_name_is_allowed(clean: Callable[..., Options]) -> None:
    options = clean(PUBLIC_URL="https://alterna.example.com/", HOST="0.0.0.0")
    assert options.public_url == "https://alterna.example.com"
    assert options.url == "http://127.0.0.1:8000"
    assert options.allowed_hosts == ["127.0.0.1", "localhost", "[::1]", "alterna.example.com"]
    assert clean(ALLOWED_HOSTS="a.example.com").allowed_hosts == ["a.example.com"]


@pytest.mark.parametrize("port", ["abc", "0", "65534", "-1"])
def test_an_invalid_port_is_rejected(port: str, clean: Callable[..., Options]) -> None:
    with pytest.raises(StartError, match=r"^PORT .*\.$"):
        clean(PORT=port)


def test_an_invalid_port_is_reported_in_one_line(tmp_path: Path) -> None:
    result = manage("up", data_dir=tmp_path, PORT="abc")
    assert (result.returncode, result.stderr) == (1, "PORT is no number: 'abc'.\n")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the condition, which other processes change."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether this process exists and has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class SupervisedChild:
    """A supervised child process and its output."""

    def __init__(self, script: str, **more: Any) -> None:
        self.output: list[tuple[str, str]] = []
        self.child = Child(
            "web",
            [sys.executable, "-u", "-c", script],
            say=lambda name, line: self.output.append((name, line)),
            **{"environment": dict(os.environ), **more},
        )
        self.child.start()

    async def wait_for(self, line: tuple[str, str]) -> None:
        await until(lambda: line in self.output)


async def test_a_child_that_ends_is_restarted_after_increasing_pauses() -> None:
    supervised = SupervisedChild("print('hello')")
    await supervised.wait_for(("up", "web ended with status 0; it is started again in 1 s"))
    assert supervised.output[:3] == [
        ("web", "hello"),
        ("up", "web ended with status 0; it is started again in 0.5 s"),
        ("web", "hello"),
    ]
    await supervised.child.stop(asyncio.Event())


async def test_a_child_that_was_healthy_restarts_after_the_first_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "HEALTHY_AFTER", 0.0)
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.01)
    supervised = SupervisedChild("print('hello')")
    await until(lambda: supervised.child.deaths >= 3)
    await supervised.child.stop(asyncio.Event())
    pauses = {line for name, line in supervised.output if name == "up"}
    assert pauses == {"web ended with status 0; it is started again in 0.01 s"}


async def test_a_missing_program_is_reported() -> None:
    supervised = SupervisedChild("")
    await supervised.child.stop(asyncio.Event())
    missing = Child(
        "web",
        ["/nowhere/program"],
        say=lambda name, line: supervised.output.append((name, line)),
        environment={},
    )
    missing.start()
    assert not await missing.ready(lambda: False)
    await missing.stop(asyncio.Event())
    assert "could not be started" in supervised.output[-1][1]


UNRESPONSIVE = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print('no'))
print('ready')
while True:
    time.sleep(1)
"""


async def test_an_unresponsive_child_is_killed_after_its_grace_period() -> None:
    supervised = SupervisedChild(UNRESPONSIVE, stop_seconds=0.5)
    await supervised.wait_for(("web", "ready"))
    await supervised.child.stop(asyncio.Event())
    assert supervised.output == [("web", "ready"), ("web", "no")]


async def test_a_forced_stop_kills_a_child_without_a_second_request() -> None:
    supervised = SupervisedChild(UNRESPONSIVE, stop_seconds=24 * 3600)
    await supervised.wait_for(("web", "ready"))
    hurry = asyncio.Event()
    stopping = asyncio.create_task(supervised.child.stop(hurry))
    await supervised.wait_for(("web", "no"))
    hurry.set()
    await stopping
    assert supervised.output == [("web", "ready"), ("web", "no")]


async def test_a_grandchild_is_killed_with_its_parent() -> None:
    supervised = SupervisedChild(
        "import subprocess, time; print(subprocess.Popen(['sleep', '99']).pid); time.sleep(99)"
    )
    await until(lambda: bool(supervised.output))
    await supervised.child.stop(asyncio.Event())
    grandchild = int(supervised.output[0][1])
    await until(lambda: not is_running(grandchild))


async def test_lines_are_forwarded_whole_and_overlong_ones_are_split() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"one\r\nt\xc3")
    stream.feed_data(b"\xa9l\n\xff\n" + b"x" * 100_000 + b"\nlast")
    stream.feed_eof()
    output: list[str] = []
    await forward(stream, "web", lambda _, line: output.append(line))
    assert output[:3] == ["one", "tél", "\ufffd"]
    assert "".join(output[3:-1]) == "x" * 100_000
    assert output[-1] == "last"
    await forward(None, "web", lambda _, line: output.append(line))


def test_the_end_of_a_process_is_described() -> None:
    assert describe_end(3) == "ended with status 3"
    assert describe_end(-signal.SIGKILL) == "was ended by SIGKILL"
    assert describe_end(-250) == "was ended by signal 250"


# -- the startup barrier ---------------------------------------------------------------------------

AT_THE_BARRIER = """
from config.up import startup_barrier
print('loaded')
startup_barrier.wait()
print('through')
"""


async def test_a_child_waits_at_the_barrier_and_a_later_one_does_not() -> None:
    barrier = StartupBarrier()
    supervised = SupervisedChild(
        AT_THE_BARRIER,
        environment=barrier.environment(os.environ),
        options=barrier.options(child_options()),
    )
    await supervised.wait_for(("web", "loaded"))
    assert ("web", "through") not in supervised.output
    barrier.open()
    barrier.open()
    await until(lambda: supervised.output.count(("web", "through")) == 2)
    assert supervised.child.deaths
    await supervised.child.stop(asyncio.Event())


async def test_an_unsupervised_process_does_not_wait_at_the_barrier() -> None:
    supervised = SupervisedChild(AT_THE_BARRIER)
    await supervised.wait_for(("web", "through"))
    await supervised.child.stop(asyncio.Event())
