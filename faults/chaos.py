"""Kill processes of a product at random, from a seed, and keep a second worker running."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

import psutil

from bench.product import ROOT, Product

TARGETS = ("worker", "second worker", "uvicorn", "postgres", "valkey")


class SecondWorker:
    """An additional worker, restarted whenever it ends."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _supervise(self) -> None:
        environment = {**self._product.environment, **PACE}
        while not self._ended.is_set():
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "worker"],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._process.wait()
            self._ended.wait(0.5)

    def kill(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def stop(self) -> None:
        self._ended.set()
        self.kill(signal.SIGTERM)
        self._thread.join(40)
        self.kill(signal.SIGKILL)


# Settings with which a dead worker is detected quickly.
PACE = {"WORKER_HEARTBEAT_SECONDS": "0.5", "WORKER_STALLED_SECONDS": "3"}


class Chaos:
    """Kills one process after another until it is stopped; `kills` counts them."""

    def __init__(
        self, product: Product, second: SecondWorker, *, seed: int, every: float,
        max_kills: int | None, say: Callable[[str], object],
        others: Mapping[str, Callable[[random.Random], object]] | None = None,
    ) -> None:  # fmt: skip
        """`others` maps the names of further targets to functions that kill them."""
        self._others = others or {}
        self._targets = (*TARGETS, *self._others)
        self.kills: Counter[str] = Counter()
        self._product, self._second, self._say = product, second, say
        self._rng = random.Random(seed * 7919)
        self._every, self._max_kills = every, max_kills
        self._ended = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop killing; with a fixed number of kills, after the last one."""
        if self._max_kills is None:
            self._ended.set()
        self._thread.join(30 + 2 * self._every * (self._max_kills or 0))
        if self._failure is not None:
            raise RuntimeError("the kills ended early") from self._failure
        if self._max_kills is not None and sum(self.kills.values()) < self._max_kills:
            raise RuntimeError(f"only {sum(self.kills.values())} of {self._max_kills} kills")

    def _run(self) -> None:
        try:
            self._kill_in_turn()
        except Exception as error:
            self._failure = error

    def _kill_in_turn(self) -> None:
        order: list[str] = []
        began = time.monotonic()
        while self._max_kills is None or sum(self.kills.values()) < self._max_kills:
            # Each target once before any repeats, so that short runs include all of them.
            order = order or self._rng.sample(self._targets, len(self._targets))
            if self._ended.wait(self._every * self._rng.uniform(0.5, 1.5)):
                return
            target = order.pop()
            gracefully = self._rng.random() < 0.25
            if self._kill(target, signal.SIGTERM if gracefully and "worker" in target else None):
                self.kills[target] += 1
                self._say(f"{time.monotonic() - began:6.1f} s  killed: {target}")

    def _kill(self, target: str, number: int | None) -> bool:
        number = number or signal.SIGKILL
        if target == "second worker":
            self._second.kill(number)
            return True
        if target in self._others:
            self._others[target](self._rng)
            return True
        processes = postmasters(self._product) if target == "postgres" else children(
            self._product, {"valkey": "valkey.sock"}.get(target, target)
        )  # fmt: skip
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
        return bool(processes)


def children(product: Product, word: str) -> list[psutil.Process]:
    """Return the supervisor's descendants with an argument that ends with this word."""
    try:
        running = psutil.Process(product.process.pid).children(recursive=True)
    except psutil.Error:
        return []
    return [p for p in running if any(part.endswith(word) for part in _command(p)[:4])]


def postmasters(product: Product) -> list[psutil.Process]:
    """Return the product's PostgreSQL, by the data directory in its command line."""
    return [
        process
        for process in psutil.process_iter()
        if str(product.data_dir) in (line := " ".join(_command(process))) and "bin/postgres" in line
    ]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
