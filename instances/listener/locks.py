"""Advisory locks of PostgreSQL, on connections of their own.

A session lock lives as long as its connection. On one of the pool's it would outlive a process'
interest in it, and be given away with the connection; so each holder has its own, and closing it,
or dying, frees the lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from django.db import connection

# Names of what is locked: the first of the two numbers of a lock.
HANDOVER = 0x4D4F_4445
SESSION = 0x4C53_544E
PROCESS = 0x4C50_5243


class LockUnavailable(Exception):
    """Somebody else holds the lock."""


def connect() -> psycopg.Connection[Any]:
    """Open a connection outside of the pool. Raises psycopg.Error.

    The server is told to notice a machine that went away without a word within seconds.
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
    """Take a lock for this connection if it is free."""
    row = holder.execute("SELECT pg_try_advisory_lock(%s, %s)", [kind, key]).fetchone()
    return bool(row and row[0])


def unlock(holder: psycopg.Connection[Any], kind: int, key: int) -> None:
    holder.execute("SELECT pg_advisory_unlock(%s, %s)", [kind, key])


class Lock:
    """A lock that is held."""

    def __init__(self, holder: psycopg.Connection[Any]) -> None:
        self._holder = holder

    def check(self) -> None:
        """Raise a database error where the lock was lost with its connection."""
        with connection.wrap_database_errors:
            self._holder.execute("SELECT 1")


@contextlib.contextmanager
def held(kind: int, key: int) -> Iterator[Lock]:
    """Hold a lock for the block. Raises Taken, or a database error of Django's."""
    with connection.wrap_database_errors:
        holder = connect()
    try:
        with connection.wrap_database_errors:
            if not try_lock(holder, kind, key):
                raise LockUnavailable
        try:
            yield Lock(holder)
        finally:
            # The server notices the end of a connection a little later, too late for the next one.
            with contextlib.suppress(psycopg.Error):
                unlock(holder, kind, key)
    finally:
        holder.close()


def holders(kind: int) -> set[int]:
    """Return the keys of this kind that are locked by anybody."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND classid = %s AND objsubid = 2"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            [kind],
        )
        return {key for (key,) in cursor.fetchall()}
