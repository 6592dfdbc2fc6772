"""PostgreSQL advisory locks, each on its own connection.

A session lock lives as long as its connection. On a pooled connection it would pass to the
connection's next user. So each holder has its own connection; closing it, or the end of the
process, releases the lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from django.db import connection

# Lock namespaces: the first of a lock's two numbers.
HANDOVER = 0x4D4F_4445
SESSION = 0x4C53_544E
PROCESS = 0x4C50_5243


class LockUnavailable(Exception):
    """Another process holds the lock."""


def connect() -> psycopg.Connection[Any]:
    """Open a connection outside the pool. Raises psycopg.Error.

    TCP keepalives make the server detect a vanished client within seconds.
    """
    parameters: dict[str, Any] = connection.get_connection_params()
    for ours in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(ours, None)
    opened = psycopg.connect(**{"connect_timeout": 5, **parameters}, autocommit=True)
    opened.execute(
        "SELECT set_config('tcp_keepalives_idle', '2', false),"
        " set_config('tcp_keepalives_interval', '1', false),"
        " set_config('tcp_keepalives_count', '2', false)"
    )
    return opened


def try_lock(holder: psycopg.Connection[Any], kind: int, key: int) -> bool:
    """Acquire a lock on this connection if it is free."""
    row = holder.execute("SELECT pg_try_advisory_lock(%s, %s)", [kind, key]).fetchone()
    return bool(row and row[0])


def unlock(holder: psycopg.Connection[Any], kind: int, key: int) -> None:
    holder.execute("SELECT pg_advisory_unlock(%s, %s)", [kind, key])


class Lock:
    """An acquired lock."""

    def __init__(self, holder: psycopg.Connection[Any]) -> None:
        self._holder = holder

    def check(self) -> None:
        """Raise a database error if the lock was lost with its connection."""
        with connection.wrap_database_errors:
            self._holder.execute("SELECT 1")


@contextlib.contextmanager
def held(kind: int, key: int) -> Iterator[Lock]:
    """Hold a lock for the block. Raises LockUnavailable or a Django database error."""
    with connection.wrap_database_errors:
        holder = connect()
    try:
        with connection.wrap_database_errors:
            if not try_lock(holder, kind, key):
                raise LockUnavailable
        try:
            yield Lock(holder)
        finally:
            # The server would release the lock too late when the connection closes.
            with contextlib.suppress(psycopg.Error):
                unlock(holder, kind, key)
    finally:
        holder.close()


def holders(kind: int) -> set[int]:
    """Return the keys of this kind that any process holds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND classid = %s AND objsubid = 2"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            [kind],
        )
        return {key for (key,) in cursor.fetchall()}
