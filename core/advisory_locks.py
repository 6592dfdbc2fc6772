"""PostgreSQL's advisory locks by name, each held until the end of the transaction."""

from __future__ import annotations

from collections.abc import Collection

from django.db import connection


def lock(name: str) -> None:
    """Wait for the lock with this name, and hold it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])


def try_lock(names: Collection[str]) -> set[str]:
    """Hold those of these locks that are free, and return their names. Waits for none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM unnest(%s::text[]) AS name"
            " WHERE pg_try_advisory_xact_lock(hashtextextended(name, 0))",
            [list(names)],
        )
        return {name for (name,) in cursor.fetchall()}
