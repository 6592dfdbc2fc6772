"""The running listener processes and how to wake them."""

from __future__ import annotations

import datetime as dt

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from instances.listener import locks
from instances.models import ListenerProcess

# PostgreSQL notification channel: sessions changed, reload them now.
WAKE_CHANNEL = "alterna_sessions"
HEARTBEAT_SECONDS = 2.0
FRESH = dt.timedelta(seconds=8)


def is_fresh(seen_at: dt.datetime | None) -> bool:
    """Return whether a heartbeat is recent enough."""
    return seen_at is not None and timezone.now() - seen_at < FRESH


def stale(field: str) -> Q:
    """Return the negation of `is_fresh` for a query."""
    return Q(**{f"{field}__isnull": True}) | Q(**{f"{field}__lte": timezone.now() - FRESH})


def running() -> int:
    """Return the number of live listener processes.

    Each holds a lock that ends with it; one that holds the lock without a heartbeat hangs.
    """
    fresh = ListenerProcess.objects.filter(seen_at__gt=timezone.now() - FRESH)
    return len(locks.holders(locks.PROCESS).intersection(fresh.values_list("pk", flat=True)))


def is_running() -> bool:
    """Return whether at least one listener process is alive."""
    return running() > 0


def wake() -> None:
    """Make every listener reload the sessions when the current transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [WAKE_CHANNEL])
