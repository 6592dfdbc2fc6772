"""A complete product for a benchmark: `manage.py up` in a temporary directory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests
import websocket

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Product:
    """Addresses and data directory of a running product."""

    process: subprocess.Popen[bytes]
    port: int
    data_dir: Path

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

    def manage(self, *arguments: str) -> str:
        """Run a management command and return its stdout."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    def token(self) -> str:
        """Return a new API token of the demo user."""
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
    used = {"this script": sum(psutil.Process().cpu_times()[:2])}
    for name, process in processes(product):
        with contextlib.suppress(psutil.Error):
            used[name] = used.get(name, 0.0) + sum(process.cpu_times()[:2])
    return used


def processes(product: Product) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the supervisor's descendant processes, each with its kind."""
    for process in psutil.Process(product.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            yield next((word for word in _PROCESSES if word in command), command[:40]), process


_PROCESSES = ("uvicorn", "manage.py worker", "listen_evolution", "simulators", "valkey", "postgres")
