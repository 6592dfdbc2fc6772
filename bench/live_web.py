"""The web process with another interval of the live sockets' pings: BENCH_PING_SECONDS."""

from __future__ import annotations

import os

from config.asgi import application
from messaging.live import consumer

__all__ = ["application"]

assert hasattr(consumer, "PING_SECONDS")
consumer.PING_SECONDS = float(os.environ["BENCH_PING_SECONDS"])  # type: ignore[assignment]
