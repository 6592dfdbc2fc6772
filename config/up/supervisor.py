"""`manage.py up`: run all processes on one machine in the foreground.

It starts the engines, prepares the database, then runs the simulators, the worker, the listener
and the web process. It restarts processes that die and stops them in order. The web process loads
during the preparation and waits at the startup barrier. The supervisor loads neither Django nor
the settings, because these read the engines' addresses, which do not exist yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import environ

from config.up.engines import EngineError, Engines, create_secrets
from config.up.processes import Child, child_options, describe_end, forward
from config.up.startup_barrier import StartupBarrier
from messaging import demo_settings

Number = TypeVar("Number", int, float)

BASE_DIR = Path(__file__).resolve().parent.parent.parent
# Two signals closer than this are one request: a process group may deliver one twice.
SAME_REQUEST_SECONDS = 0.5
READY_NOTICE_SECONDS = 60.0
SIMULATORS = ("graph", "wwebjs", "evolution")
# Processes that accept work stop first, those that store it last.
STOP_ORDER = ("web", "listener", "worker", "simulators", "valkey", "postgres")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of this run, from the environment."""

    host: str
    port: int
    public_url: str
    data_dir: Path
    demo: bool
    own_postgres: bool
    own_valkey: bool
    allowed_hosts: list[str]
    # The time that the worker gives its running jobs to finish.
    worker_seconds: float

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def simulator_port(self, name: str) -> int:
        return self.port + 1 + SIMULATORS.index(name)


class StartError(Exception):
    """The product cannot be started; the message is one human-readable line."""


def read_options() -> Options:
    """Read the environment and `.env`. Raises StartError on an invalid value."""
    env = environ.FileAwareEnv()
    environ.Env.read_env(BASE_DIR / ".env")
    port = _number(env.int, "PORT", 8000)
    if not 0 < port <= 65535 - len(SIMULATORS):
        raise StartError(f"PORT must lie between 1 and {65535 - len(SIMULATORS)}, not at {port}.")
    database_url = env.str("DATABASE_URL", default="")
    host = env.str("HOST", default="127.0.0.1")
    public_url = env.str("PUBLIC_URL", default=f"http://127.0.0.1:{port}").rstrip("/")
    return Options(
        host=host,
        port=port,
        public_url=public_url,
        data_dir=Path(env.str("DATA_DIR", default="") or BASE_DIR / ".data").absolute(),
        # Never create demo rows in a user's own database unless requested.
        demo=_parse_demo(env.str("DEMO", default=""), default=not database_url),
        own_postgres=not database_url,
        own_valkey=not env.str("REDIS_URL", default=""),
        allowed_hosts=env.list("ALLOWED_HOSTS", default=[]) or _own_hosts(host, public_url),
        worker_seconds=_number(env.float, "WORKER_SHUTDOWN_SECONDS", 60.0),
    )


def _number(read: Callable[..., Number], name: str, default: Number) -> Number:
    try:
        return read(name, default=default)
    except ValueError:
        raise StartError(f"{name} is no number: {os.environ.get(name)!r}.") from None


def _parse_demo(word: str, *, default: bool) -> bool:
    """Parse DEMO. Raises StartError on any other word, which may be a typo."""
    if not word:
        return default
    if word.lower() in environ.Env.BOOLEAN_TRUE_STRINGS:
        return True
    if word.lower() in ("0", "false", "no", "off", "n"):
        return False
    raise StartError(f"DEMO is neither 1 nor 0: {word!r}.")


def _own_hosts(host: str, public_url: str) -> list[str]:
    """Return the default ALLOWED_HOSTS: the local names and those of HOST and PUBLIC_URL."""
    names = ["127.0.0.1", "localhost", "[::1]", host, urlsplit(public_url).hostname or ""]
    return [name for name in dict.fromkeys(names) if name not in ("", "0.0.0.0", "::", "::1")]  # noqa: S104


def main() -> int:
    """Run the product; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        supervisor = Supervisor(read_options())
        with asyncio.Runner() as runner:
            return runner.run(supervisor.run())
    except (StartError, EngineError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1


class Supervisor:
    """All processes of one run."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "DATA_DIR": str(options.data_dir),
            "PORT": str(options.port),
            "PUBLIC_URL": options.public_url,
            "ALLOWED_HOSTS": ",".join(options.allowed_hosts),
        }
        if options.demo:
            self.environment = self._simulator_addresses() | self.environment
        self._barrier = StartupBarrier()
        self._engines: Engines | None = None
        self._children: list[Child] = []
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stop_requested_at: float | None = None
        self._demo_output: list[str] = []

    async def run(self) -> int:
        """Start, serve until a signal, stop; returns the exit status."""
        started = time.monotonic()
        if self.options.own_postgres or self.options.own_valkey:
            self._engines = Engines(self.options.data_dir)
            self._engines.set_up()
            for path in self._engines.made_traversable:
                self.say(
                    "up", f"PostgreSQL does not run as root: {path} is now traversable (chmod o+x)"
                )
            self.environment |= self._engine_addresses(self._engines)
        else:
            create_secrets(self.options.data_dir)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Under nohup the product must outlive the terminal.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, self._request_stop)
        start = asyncio.create_task(self._start(started))
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                _raise_first(start)
                await stop
            return 0
        finally:
            start.cancel()
            stop.cancel()
            await asyncio.wait({start})
            self._barrier.open()  # waiting processes cannot handle the stop signal
            await self._stop_all()

    # --- starting -------------------------------------------------------------------------------

    async def _start(self, started: float) -> None:
        await self._check_ports()
        engines_running = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._prepare(engines_running))
            group.create_task(self._start_engines(engines_running))
        self._barrier.open()
        self._start_child(
            "worker", self._manage("worker"), stop_seconds=self.options.worker_seconds + 3
        )
        self._start_child("listener", self._manage("listen_evolution"))
        await self._wait_until_web_is_ready()
        await self._welcome(time.monotonic() - started)

    async def _start_engines(self, engines_running: asyncio.Event) -> None:
        engines = self._engines
        if engines is not None:
            await asyncio.sleep(0)  # start the preparation first, because it takes longer
            if self.options.own_postgres and not engines.has_database:
                self.say("up", f"making a database in {engines.postgres_dir}")
                engines.create_database()
            waits: list[tuple[Child, Callable[[], bool]]] = []
            if self.options.own_postgres:
                child = self._start_child(
                    "postgres",
                    engines.postgres_command,
                    options=engines.options(death_signal=signal.SIGINT),
                    stop_signal=signal.SIGINT,
                    kill_signal=signal.SIGQUIT,
                )
                waits.append((child, engines.postgres_is_ready))
            if self.options.own_valkey:
                child = self._start_child(
                    "valkey",
                    engines.valkey_command,
                    options=engines.options(death_signal=signal.SIGTERM),
                )
                waits.append((child, engines.valkey_is_ready))
            for child, is_ready in waits:
                await _wait_for(child, is_ready)
            engines.write_addresses()
        if not self.options.demo:
            engines_running.set()
            return
        simulators = self._start_child(
            "simulators", [sys.executable, "-m", "simulators", *self._simulator_options()]
        )
        engines_running.set()  # the preparation needs no provider
        # As soon as the pages are up, a user may send; the simulators must be ready by then.
        await _wait_for(simulators, self._simulators_are_ready)

    async def _prepare(self, engines_running: asyncio.Event) -> None:
        command = [sys.executable, "-m", "config.up.prepare"]
        if self.options.demo:
            command.append("--demo")
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
            cwd=BASE_DIR,
            **child_options(),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            errors = asyncio.create_task(forward(process.stderr, "prepare", self.say))
            # A failure to load is reported once, not once per process.
            loaded = bool(await process.stdout.readline())
            if loaded:
                await engines_running.wait()
            if loaded and process.returncode is None:
                # Start web now: loading it is the slowest step before the first page.
                self._start_child(
                    "web",
                    self._web_command(),
                    environment=self._barrier.environment(self.environment),
                    options=self._barrier.options({**child_options(), "cwd": BASE_DIR}),
                    stop_seconds=12,
                )
                process.stdin.write(b"go\n")
            await forward(process.stdout, "", lambda _, line: self._demo_output.append(line))
            await errors
            status = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if status:
            raise StartError(f"The preparation {describe_end(status)}; see its lines above.")

    def _engine_addresses(self, engines: Engines) -> dict[str, str]:
        """Return the engines' addresses for children, which start before engines.json exists."""
        addresses = engines.addresses()
        variables = {}
        if self.options.own_postgres:
            variables["DATABASE_URL"] = addresses.database_url
        if self.options.own_valkey:
            variables["REDIS_URL"] = addresses.redis_url
        return variables

    def _start_child(self, name: str, command: list[str], **more: Any) -> Child:
        child = Child(
            name,
            command,
            say=self.say,
            **{
                "environment": self.environment,
                "options": {**child_options(), "cwd": BASE_DIR},
                **more,
            },
        )
        self._children.append(child)
        child.start()
        return child

    def _manage(self, command: str) -> list[str]:
        return [sys.executable, str(BASE_DIR / "manage.py"), command]

    def _web_command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "uvicorn", "config.asgi:application"),
            *("--host", self.options.host, "--port", str(self.options.port)),
            # Django does not support lifespan events, and nothing here may depend on them.
            *("--lifespan", "off", "--timeout-graceful-shutdown", "8"),
            *("--log-level", "warning", "--no-access-log", "--no-server-header"),
        ]

    def _simulator_addresses(self) -> dict[str, str]:
        """Return the variables with which `manage.py demo` finds the simulators."""
        return {
            f"{name.upper()}_SIMULATOR_URL": f"http://127.0.0.1:{self.options.simulator_port(name)}"
            for name in SIMULATORS
        }

    def _simulators_are_ready(self) -> bool:
        return all(_is_listening(self.options.simulator_port(name)) for name in SIMULATORS)

    def _simulator_options(self) -> list[str]:
        options = {
            "host": "127.0.0.1",
            "own-number": demo_settings.OWN_NUMBER.lstrip("+"),
            # A Cloud API number has no phone that could be linked, so the fallback has its own.
            "fallback-number": demo_settings.FALLBACK_NUMBER.lstrip("+"),
            "graph-phone-number-id": demo_settings.PHONE_NUMBER_ID,
            "graph-token": demo_settings.ACCESS_TOKEN,
            "graph-app-secret": demo_settings.APP_SECRET,
            "graph-webhook-url": f"{self.options.url}/api/webhooks/cloud",
            "wwebjs-api-key": demo_settings.WWEBJS_API_KEY,
            "wwebjs-ready-sessions": demo_settings.WWEBJS_SESSION,
            # Real sends take seconds, and a person should see the X before the globe.
            "wwebjs-send-seconds": "0.8",
            "evolution-api-key": demo_settings.EVOLUTION_API_KEY,
            "evolution-ready-instances": demo_settings.INSTANCE,
        }
        for name in SIMULATORS:
            options[f"{name}-port"] = str(self.options.simulator_port(name))
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    async def _check_ports(self) -> None:
        required = [(self.options.host, self.options.port)]
        if self.options.demo:
            required += [("127.0.0.1", self.options.simulator_port(name)) for name in SIMULATORS]
        for host, port in required:
            # The children of an `up` that was just killed may need a moment to exit.
            for retries_left in range(10, -1, -1):
                try:
                    _try_port(host, port)
                    break
                except OSError as error:
                    if not retries_left:
                        raise self._port_error(host, port, error) from error
                await asyncio.sleep(0.1)

    def _port_error(self, host: str, port: int, error: OSError) -> StartError:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        if port != self.options.port:
            reason += f" (PORT is {self.options.port}, the simulators use the next three)"
        return StartError(f"Port {port} on {host} cannot be used: {reason}. Set PORT to another.")

    # --- serving --------------------------------------------------------------------------------

    async def _wait_until_web_is_ready(self) -> None:
        notice_at = time.monotonic() + READY_NOTICE_SECONDS
        while (status := (await self._get(self.options.url + "/readyz"))[0]) != 200:
            if time.monotonic() > notice_at:
                self.say("up", "web is not ready yet; see its lines above")
                notice_at = float("inf")
            # Each error response makes web log one or more lines, so poll slowly.
            await asyncio.sleep(1 if status else 0.05)

    async def _get(self, url: str) -> tuple[int, bytes]:
        """Send a GET to one of our own processes; the status is 0 without a response."""
        parts = urlsplit(url)
        host = self.options.allowed_hosts[0].lstrip(".*") or "127.0.0.1"
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
                writer.write(f"GET {parts.path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                response = await reader.read()
                writer.close()
            head, _, body = response.partition(b"\r\n\r\n")
            return int(head.split()[1]), body
        except (OSError, TimeoutError, ValueError, IndexError):
            return 0, b""

    async def _welcome(self, seconds: float) -> None:
        url = self.options.url
        lines = ["", f"  Pages    {url}/", f"  API      {url}/api/docs/"]
        if self.options.demo:
            lines += [f"  {line}".rstrip() for line in self._demo_output]
            lines += ["", "  Send to one of these numbers and watch the icon:"]
            lines += [f"    {number}  {words}" for number, words in demo_settings.NUMBERS]
            lines += [
                f"    more of them: {self.environment['GRAPH_SIMULATOR_URL']}/_control/scenarios"
            ]
        else:
            lines += ["", f"  Make a login with: {self._shell_command('createsuperuser')}"]
        if self.options.public_url != url:
            lines += ["", f"  Providers and browsers reach it at {self.options.public_url}"]
        for line in [*lines, ""]:
            self.say("up", line)
        self.say("up", f"ready after {seconds:.1f} s: {url}/ (Ctrl-C stops everything)")

    def _shell_command(self, command: str) -> str:
        """Return a command as the user types it, with DATA_DIR if it is not the default."""
        prefix = ""
        if self.options.data_dir != BASE_DIR / ".data":
            prefix = f"DATA_DIR={shlex.quote(str(self.options.data_dir))} "
        return f"{prefix}.venv/bin/python manage.py {command}"

    def say(self, name: str, line: str) -> None:
        """Print a line with the name of its process."""
        # The terminal may be closed; that must not prevent an orderly shutdown.
        with contextlib.suppress(OSError, ValueError):
            print(f"{name:<10} | {line}".rstrip(), flush=True)  # noqa: T201

    # --- stopping -------------------------------------------------------------------------------

    def _request_stop(self) -> None:
        now = time.monotonic()
        if self._stop_requested_at is None:
            self._stop_requested_at = now
            self.say("up", "stopping (once more to hurry)")
            self._stop.set()
        elif now - self._stop_requested_at > SAME_REQUEST_SECONDS:
            self._hurry.set()

    async def _stop_all(self) -> None:
        """Stop the processes in an order that loses no work."""
        for child in sorted(self._children, key=lambda child: STOP_ORDER.index(child.name)):
            await child.stop(self._hurry)
            self.say("up", f"{child.name} has stopped")
        if self._engines is not None:
            self._engines.clean_up()
        if self._stop_requested_at is not None:
            self.say("up", "stopped")


async def _wait_for(child: Child, is_ready: Callable[[], bool]) -> None:
    """Wait until a child is ready. Raises StartError if it ends first."""
    if not await child.ready(is_ready):
        raise StartError(f"{child.name} does not start; see its lines above.")


def _is_listening(port: int) -> bool:
    """Whether something accepts connections on this local port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _try_port(host: str, port: int) -> None:
    """Raise OSError if the port cannot be bound."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen()


def _raise_first(task: asyncio.Task[None]) -> None:
    """Raise the task's exception; for an exception group, its first exception."""
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error
