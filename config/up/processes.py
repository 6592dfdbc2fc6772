"""The supervisor's child processes: start them safely, monitor, restart and stop them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

PR_SET_PDEATHSIG = 1
FIRST_PAUSE, MAX_PAUSE = 0.5, 30.0
# Seconds. A child that ran this long was healthy: its next restart uses the first pause again.
HEALTHY_AFTER = 20.0
MAX_LINE = 64 * 1024

Say = Callable[[str, str], None]


def child_options(
    *, death_signal: int = signal.SIGKILL, user: int | None = None, group: int | None = None
) -> dict[str, Any]:
    """Return the `subprocess.Popen` keyword arguments for a child process.

    The child has its own session, so that Ctrl-C in the terminal reaches only the parent. On Linux
    the child gets `death_signal` when its parent dies, even by `kill -9`; other systems lack this.
    Start it from the main thread: to Linux, the end of the starting thread is the parent's death.
    """
    options: dict[str, Any] = {
        "start_new_session": True,
        "preexec_fn": _set_death_signal(death_signal),
    }
    if user is not None:
        options |= {"user": user, "group": group, "extra_groups": []}
    return options


def _set_death_signal(death_signal: int) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)  # looked up here: nothing may be imported between fork and exec
    parent = os.getpid()

    def before_exec() -> None:
        # Runs after the change of user, which would clear the setting.
        libc.prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


class Child:
    """One child process that runs until it is stopped.

    Its output goes to `say(name, line)`. If it ends unexpectedly, that is reported and it is
    restarted after a pause (0.5 s, doubling to 30 s).
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        say: Say,
        environment: Mapping[str, str],
        options: Mapping[str, Any] | None = None,
        stop_signal: int = signal.SIGTERM,
        stop_seconds: float = 10.0,
        kill_signal: int = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.deaths = 0
        self._command = command
        self._say = say
        self._environment = environment
        self._options = child_options() if options is None else options
        self._stop_signal = stop_signal
        self._stop_seconds = stop_seconds
        self._kill_signal = kill_signal
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._supervision: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the process and keep it running."""
        self._supervision = asyncio.create_task(self._supervise(), name=self.name)

    async def ready(self, condition: Callable[[], bool]) -> bool:
        """Wait until the condition holds; return False if the process ends first."""
        while not condition():
            if self.deaths:
                return False
            await asyncio.sleep(0.02)
        return True

    async def stop(self, hurry: asyncio.Event) -> None:
        """Stop the process gracefully; kill it if that takes too long or `hurry` is set."""
        self._stopping.set()
        if self._supervision is None:
            return
        if not hurry.is_set():
            self._signal(self._stop_signal)
            hurried = asyncio.create_task(hurry.wait())
            await asyncio.wait(
                {self._supervision, hurried},
                timeout=self._stop_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            hurried.cancel()
        if not self._supervision.done():
            self._signal(self._kill_signal)
            await asyncio.wait({self._supervision}, timeout=self._stop_seconds)
        if not self._supervision.done():
            self._signal(signal.SIGKILL)
        with contextlib.suppress(asyncio.CancelledError):
            await self._supervision

    async def _supervise(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            started = time.monotonic()
            ending = await self._run_once()
            if self._stopping.is_set():
                return
            self.deaths += 1
            if time.monotonic() - started >= HEALTHY_AFTER:
                pause = FIRST_PAUSE
            self._say("up", f"{self.name} {ending}; it is started again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, MAX_PAUSE)

    async def _run_once(self) -> str:
        # Our own pipe: with asyncio's, wait() would also wait for grandchildren that hold it open.
        output, input_of_child = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=input_of_child,
                stderr=input_of_child,
                env=self._environment,
                **self._options,
            )
        except OSError as error:
            os.close(output)
            return f"could not be started: {error}"
        finally:
            os.close(input_of_child)
        self._process = process
        if self._stopping.is_set():  # requested while the process was starting
            self._signal(self._stop_signal)
        async with reading(output) as stream:
            forwarding = asyncio.create_task(forward(stream, self.name, self._say))
            status = await process.wait()
            # Kill the rest of its process group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(forwarding, 1)
        return describe_end(status)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


@contextlib.asynccontextmanager
async def reading(descriptor: int) -> AsyncIterator[asyncio.StreamReader]:
    """Open a pipe for non-blocking reads and close it at the end."""
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb")
    )
    try:
        yield stream
    finally:
        transport.close()


async def forward(stream: asyncio.StreamReader | None, name: str, say: Say) -> None:
    """Pass each line of the stream to `say` until it ends; overlong lines are split."""
    rest = b""
    while stream and (chunk := await stream.read(MAX_LINE)):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE:
            lines.append(rest)
            rest = b""
        for line in lines:
            say(name, line.decode(errors="replace").rstrip("\r"))
    if rest:
        say(name, rest.decode(errors="replace"))


def describe_end(status: int) -> str:
    """Describe how a process ended."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
