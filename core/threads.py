"""Run code that uses the database in the threads of an asyncio program."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import close_old_connections

T = TypeVar("T")


async def run_in(pool: ThreadPoolExecutor, function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a thread of the pool; its database connection is returned at the end."""

    def run() -> T:
        try:
            return function(*arguments)
        finally:
            with contextlib.suppress(Exception):
                close_old_connections()

    return await asyncio.get_running_loop().run_in_executor(pool, run)
