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
from config.up.gate import Gate
from config.up.processes import Child, child_options, describe_end, forward
from config.up.supervisor import Options, StartError, read_options
from tests.config.product import manage


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Options]:
    """Read the options out of the given variables and nothing else."""
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


def test_without_any_variable_it_is_the_demo_on_port_8000(clean: Callable[..., Options]) -> None:
    options = clean()
    assert (options.url, options.demo) == ("http://127.0.0.1:8000", True)
    assert options.data_dir == supervisor.BASE_DIR / ".data"
    assert options.own_postgres
    assert options.own_valkey
    assert [options.simulator_port(name) for name in supervisor.SIMULATORS] == [8001, 8002, 8003]


def test_in_somebodys_own_database_no_demo_is_made_unasked(clean: Callable[..., Options]) -> None:
    options = clean(DATABASE_URL="postgres://db/alterna")
    assert (options.own_postgres, options.demo) == (False, False)
    assert clean(DATABASE_URL="postgres://db/alterna", DEMO="1").demo


def test_a_demo_wish_that_is_neither_yes_nor_no_is_not_guessed(
    clean: Callable[..., Options],
) -> None:
    assert [clean(DEMO=word).demo for word in ("1", "yes", "True", "0", "no", "FALSE")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    with pytest.raises(StartError, match=r"DEMO is neither 1 nor 0: 'maybe'\."):
        clean(DEMO="maybe")


def test_it_answers_to_its_public_name(clean: Callable[..., Options]) -> None:
    options = clean(PUBLIC_URL="https://alterna.example.com/", HOST="0.0.0.0")
    assert options.public_url == "https://alterna.example.com"
    assert options.url == "http://127.0.0.1:8000"
    assert options.allowed_hosts == ["127.0.0.1", "localhost", "[::1]", "alterna.example.com"]
    assert clean(ALLOWED_HOSTS="a.example.com").allowed_hosts == ["a.example.com"]


@pytest.mark.parametrize("port", ["abc", "0", "65534", "-1"])
def test_a_senseless_port_is_refused(port: str, clean: Callable[..., Options]) -> None:
    with pytest.raises(StartError, match=r"^PORT .*\.$"):
        clean(PORT=port)


def test_a_senseless_port_gives_one_line(tmp_path: Path) -> None:
    answer = manage("up", data_dir=tmp_path, PORT="abc")
    assert (answer.returncode, answer.stderr) == (1, "PORT is no number: 'abc'.\n")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the condition, which changes by what other processes do."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def runs(pid: int) -> bool:
    """Say whether there is such a process that has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Watched:
    """A child under the supervision of a test, and what was said about it."""

    def __init__(self, script: str, **more: Any) -> None:
        self.said: list[tuple[str, str]] = []
        self.child = Child(
            "web",
            [sys.executable, "-u", "-c", script],
            say=lambda name, line: self.said.append((name, line)),
            **{"environment": dict(os.environ), **more},
        )
        self.child.start()

    async def wait_for(self, line: tuple[str, str]) -> None:
        await until(lambda: line in self.said)


async def test_a_child_that_ends_is_started_again_after_growing_pauses() -> None:
    watched = Watched("print('hello')")
    await watched.wait_for(("up", "web ended with status 0; it is started again in 1 s"))
    assert watched.said[:3] == [
        ("web", "hello"),
        ("up", "web ended with status 0; it is started again in 0.5 s"),
        ("web", "hello"),
    ]
    await watched.child.stop(asyncio.Event())


async def test_a_child_that_was_well_starts_again_with_the_first_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "WELL_AFTER", 0.0)
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.01)
    watched = Watched("print('hello')")
    await until(lambda: watched.child.deaths >= 3)
    await watched.child.stop(asyncio.Event())
    pauses = {line for name, line in watched.said if name == "up"}
    assert pauses == {"web ended with status 0; it is started again in 0.01 s"}


async def test_a_program_that_is_not_there_is_said() -> None:
    watched = Watched("")
    await watched.child.stop(asyncio.Event())
    missing = Child(
        "web",
        ["/nowhere/program"],
        say=lambda name, line: watched.said.append((name, line)),
        environment={},
    )
    missing.start()
    assert not await missing.ready(lambda: False)
    await missing.stop(asyncio.Event())
    assert "could not be started" in watched.said[-1][1]


STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print('no'))
print('ready')
while True:
    time.sleep(1)
"""


async def test_a_stubborn_child_is_killed_after_its_time() -> None:
    watched = Watched(STUBBORN, stop_seconds=0.5)
    await watched.wait_for(("web", "ready"))
    await watched.child.stop(asyncio.Event())
    assert watched.said == [("web", "ready"), ("web", "no")]


async def test_in_a_hurry_nobody_is_asked_twice() -> None:
    watched = Watched(STUBBORN, stop_seconds=24 * 3600)
    await watched.wait_for(("web", "ready"))
    hurry = asyncio.Event()
    stopping = asyncio.create_task(watched.child.stop(hurry))
    await watched.wait_for(("web", "no"))
    hurry.set()
    await stopping
    assert watched.said == [("web", "ready"), ("web", "no")]


async def test_what_a_child_has_started_goes_with_it() -> None:
    watched = Watched(
        "import subprocess, time; print(subprocess.Popen(['sleep', '99']).pid); time.sleep(99)"
    )
    await until(lambda: bool(watched.said))
    await watched.child.stop(asyncio.Event())
    grandchild = int(watched.said[0][1])
    await until(lambda: not runs(grandchild))


async def test_lines_are_forwarded_whole_and_overlong_ones_in_pieces() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"one\r\nt\xc3")
    stream.feed_data(b"\xa9l\n\xff\n" + b"x" * 100_000 + b"\nlast")
    stream.feed_eof()
    said: list[str] = []
    await forward(stream, "web", lambda _, line: said.append(line))
    assert said[:3] == ["one", "tél", "\ufffd"]
    assert "".join(said[3:-1]) == "x" * 100_000
    assert said[-1] == "last"
    await forward(None, "web", lambda _, line: said.append(line))


def test_the_end_of_a_process_is_said_in_words() -> None:
    assert describe_end(3) == "ended with status 3"
    assert describe_end(-signal.SIGKILL) == "was ended by SIGKILL"
    assert describe_end(-250) == "was ended by signal 250"


# -- the gate --------------------------------------------------------------------------------------

AT_THE_GATE = """
from config.up import gate
print('loaded')
gate.wait()
print('through')
"""


async def test_a_child_waits_at_the_gate_and_one_that_comes_later_does_not() -> None:
    gate = Gate()
    watched = Watched(
        AT_THE_GATE, environment=gate.environment(os.environ), options=gate.options(child_options())
    )
    await watched.wait_for(("web", "loaded"))
    assert ("web", "through") not in watched.said
    gate.open()
    gate.open()
    await until(lambda: watched.said.count(("web", "through")) == 2)
    assert watched.child.deaths
    await watched.child.stop(asyncio.Event())


async def test_a_process_that_nobody_supervises_finds_no_gate() -> None:
    watched = Watched(AT_THE_GATE)
    await watched.wait_for(("web", "through"))
    await watched.child.stop(asyncio.Event())
