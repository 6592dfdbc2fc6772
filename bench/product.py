"""A complete product for a benchmark: `manage.py up` in a temporary directory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import psycopg
import requests
import websocket

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120


@dataclass(frozen=True)
class Product:
    """Addresses and data directory of a running product."""

    process: subprocess.Popen[bytes]
    port: int
    data_dir: Path
    # Processes that a measurement started beside those of the supervisor.
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def graph(self) -> str:
        return f"http://127.0.0.1:{self.port + 1}"

    @property
    def wwebjs(self) -> str:
        return f"http://127.0.0.1:{self.port + 2}"

    @property
    def evolution(self) -> str:
        return f"http://127.0.0.1:{self.port + 3}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment for other `manage.py` commands on this product."""
        base = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
        return {**base, "PORT": str(self.port), "DATA_DIR": str(self.data_dir)}

    def database(self) -> psycopg.Connection[Any]:
        """Return a new connection to the product's database, in autocommit mode."""
        return psycopg.connect(self.engines()["database_url"], autocommit=True)

    def engines(self) -> dict[str, str]:
        """Return the addresses of the embedded engines."""
        return dict(json.loads((self.data_dir / "engines.json").read_text()))

    def headers(self) -> dict[str, str]:
        """Return the headers of REST requests with a token."""
        return {"Authorization": f"Token {self.token()}"}

    def set(self, simulator: str, **settings: Any) -> None:
        """Change settings of one of the simulators."""
        requests.post(
            f"{simulator}/_control/settings", json=settings, timeout=10
        ).raise_for_status()

    def manage(self, *arguments: str) -> str:
        """Run a management command and return its stdout."""
        return self.python("manage.py", *arguments)

    def python(self, *arguments: str) -> str:
        """Run Python in the product's environment and return its stdout."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT, env=self.environment, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    def token(self) -> str:
        """Return an API token of the demo user."""
        return self._token

    @cached_property
    def _token(self) -> str:
        return self.manage("create_token", "demo", "--name", "bench").strip().splitlines()[-1]


@contextlib.contextmanager
def running(prepared: Path | None = None, **environment: str) -> Iterator[Product]:
    """Start a product with demo data and stop it afterwards. RuntimeError if it does not start.

    With `prepared` it starts from a copy of that data directory, which no product may be using.
    """
    with tempfile.TemporaryDirectory(prefix="alterna-bench-") as directory:
        port = free_port()
        data_dir = Path(directory) / "data"
        if prepared is not None:
            # shutil.copytree would not keep the owner of the database's files.
            subprocess.run(["cp", "-a", str(prepared), str(data_dir)], check=True)
        log = Path(directory) / "log"
        base = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "up"],
                cwd=ROOT,
                env={**base, "PORT": str(port), "DATA_DIR": str(data_dir), **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        product = Product(process, port, data_dir)
        try:
            _wait_until_ready(product, log)
            yield product
        finally:
            process.terminate()
            process.wait(120)  # the worker finishes what it is sending


def _wait_until_ready(product: Product, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if product.process.poll() is not None:
            raise RuntimeError(f"the product ended: {log.read_text()[-2000:]}")
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{product.url}/readyz", timeout=2).ok:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the product did not start: {log.read_text()[-2000:]}")


@contextlib.contextmanager
def another(product: Product, *command: str, **environment: str) -> Iterator[int]:
    """Run one more process of the product; yields its process id.

    `command`: the arguments of Python, like `manage.py worker`.
    """
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**product.environment, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    product.others.append(process)
    try:
        yield process.pid
    finally:
        product.others.remove(process)
        process.terminate()
        process.wait(120)


@contextlib.contextmanager
def another_web(
    product: Product, application: str = "config.asgi:application", **environment: str
) -> Iterator[int]:
    """Run one more ASGI server as `manage.py up` runs it; yields its port, see `wait_for_port`."""
    port = free_port(1)
    command = ["-m", "uvicorn", application, "--host", "127.0.0.1", "--port", str(port)]
    options = ["--lifespan", "off", "--log-level", "warning", "--no-access-log"]
    with another(product, *command, *options, "--no-server-header", **environment):
        yield port


def wait_for_port(port: int, seconds: float = START_SECONDS) -> None:
    """Wait until something accepts connections. RuntimeError if nothing does."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing listens on port {port}") from None
            time.sleep(0.05)
        else:
            return


@contextlib.contextmanager
def paused(product: Product, kind: str) -> Iterator[None]:
    """Stop all processes of a kind by SIGSTOP and let them continue afterwards."""
    stopped = [process for name, process in processes(product) if name == kind]
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            process.send_signal(signal.SIGCONT)


def free_port(count: int = 4) -> int:
    """Return the first of `count` consecutive free ports.

    They are below the kernel's ephemeral ports (32768 and up on Linux), because an outgoing
    connection could take one of those before the process that is to listen there starts.
    """
    while True:
        port = random.randrange(10_000, 32_768 - count)
        with contextlib.ExitStack() as stack:
            try:
                for number in range(port, port + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
        return port


def login(product: Product) -> str:
    """Log in as the demo user and return the cookies as a header."""
    http = requests.Session()
    http.get(f"{product.url}/accounts/login/", timeout=20)
    form = {
        "username": "demo",
        "password": "alterna-demo",
        "csrfmiddlewaretoken": http.cookies["csrftoken"],
    }
    http.post(f"{product.url}/accounts/login/", data=form, timeout=20).raise_for_status()
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in http.cookies)


def open_page(product: Product, cookies: str, *, conversation: int) -> websocket.WebSocket:
    """Open the live WebSocket of a conversation's page and wait until it is ready."""
    page = websocket.create_connection(
        f"ws://127.0.0.1:{product.port}/ws/live/?conversation={conversation}",
        cookie=cookies, origin=product.url, timeout=20,
    )  # fmt: skip
    wait_for_frame(page, "ready", "")
    return page


def wait_for_frame(page: websocket.WebSocket, key: str, text: str) -> float:
    """Wait for a frame of this key or kind with this text; return its arrival time."""
    while True:
        frame = json.loads(page.recv())
        if key in (frame.get("key"), frame["kind"]) and text in frame.get("html", ""):
            return time.time()


def percentiles(title: str, seconds: Sequence[float]) -> None:
    """Print the median, the 99th percentile and the maximum in milliseconds."""
    ordered = sorted(seconds)
    p50 = statistics.median(ordered)
    p99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    print(
        f"{title:<58} p50 {p50 * 1000:7.1f} ms   p99 {p99 * 1000:7.1f} ms"
        f"   max {ordered[-1] * 1000:7.1f} ms   n {len(ordered)}"
    )


def memory(product: Product) -> None:
    """Print the resident memory of each process."""
    for name, process in processes(product):
        with contextlib.suppress(psutil.Error):
            if "postgres:" not in " ".join(process.cmdline()):
                print(f"memory of {name:<48} {process.memory_info().rss / 2**20:7.1f} MB")


def cpu_seconds(product: Product) -> dict[str, float]:
    """Return the CPU time used so far per kind of process, including this script."""
    used = {SCRIPT: sum(psutil.Process().cpu_times()[:2])}
    for name, process in processes(product):
        with contextlib.suppress(psutil.Error):
            # With that of ended children: PostgreSQL's backends come and go.
            used[name] = used.get(name, 0.0) + sum(process.cpu_times()[:4])
    return used


def cpu_between(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return the CPU time per kind of process between two calls of `cpu_seconds`."""
    return {name: max(0.0, seconds - before.get(name, 0.0)) for name, seconds in after.items()}


def of_product(seconds: dict[str, float]) -> float:
    """Return the sum without the simulators and this script."""
    return sum(used for name, used in seconds.items() if name not in (SCRIPT, "simulators"))


def processes(product: Product) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the supervisor's descendant processes and `product.others`, each with its kind."""
    found = psutil.Process(product.process.pid).children(recursive=True)
    for other in product.others:
        with contextlib.suppress(psutil.Error):
            started = psutil.Process(other.pid)
            found += [started, *started.children(recursive=True)]
    for process in found:
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            yield next((word for word in _PROCESSES if word in command), command[:40]), process


SCRIPT = "this script"
_PROCESSES = ("uvicorn", "manage.py worker", "listen_evolution", "simulators", "valkey", "postgres")
