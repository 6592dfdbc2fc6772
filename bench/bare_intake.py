"""The yardstick of webhook intake: an ASGI application that stores each body by one INSERT."""

from __future__ import annotations

import os
from typing import Any

from psycopg_pool import AsyncConnectionPool

_pool: list[AsyncConnectionPool] = []


async def application(scope: Any, receive: Any, send: Any) -> None:
    if not _pool:
        pool = AsyncConnectionPool(
            os.environ["BARE_DATABASE_URL"], min_size=10, max_size=10, open=False,
            kwargs={"autocommit": True},
        )  # fmt: skip
        _pool.append(pool)
        await pool.open(wait=True)
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    async with _pool[0].connection() as connection:
        await connection.execute("INSERT INTO bench_bare (body) VALUES (%s)", [body.decode()])
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
