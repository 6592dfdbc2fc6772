"""Run a transaction again that lost a deadlock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError, connection, transaction
from psycopg.errors import DeadlockDetected

T = TypeVar("T")

TRIES = 3


def run_atomic(operation: Callable[[], T]) -> T:
    """Call `operation` in a transaction; again, a few times, if PostgreSQL ends it for a deadlock.

    `operation` is repeated from its start, so it must have no effect but in the database. Within a
    transaction of the caller's nothing is repeated, because a deadlock ends the whole of it.
    """
    tries = 1 if connection.in_atomic_block else TRIES
    while True:
        try:
            with transaction.atomic():
                return operation()
        except OperationalError as error:
            tries -= 1
            if not tries or not isinstance(error.__cause__, DeadlockDetected):
                raise
