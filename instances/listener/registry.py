"""Which listener processes run, and how to wake them."""

from __future__ import annotations

import datetime as dt

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from instances.listener import locks
from instances.models import ListenerProcess

# PostgreSQL notification: sessions changed, look at them now.
WAKE_CHANNEL = "alterna_sessions"
HEARTBEAT_SECONDS = 2.0
FRESH = dt.timedelta(seconds=8)


def is_fresh(seen_at: dt.datetime | None) -> bool:
    """Whether a sign of life is recent enough to be believed."""
    return seen_at is not None and timezone.now() - seen_at < FRESH


def stale(field: str) -> Q:
    """The opposite of `is_fresh`, for a query."""
    return Q(**{f"{field}__isnull": True}) | Q(**{f"{field}__lte": timezone.now() - FRESH})


def running() -> int:
    """Return how many listener processes live.

    Each holds a lock, which ends with it; one that holds it and gives no sign of life hangs.
    """
    fresh = ListenerProcess.objects.filter(seen_at__gt=timezone.now() - FRESH)
    return len(locks.holders(locks.PROCESS).intersection(fresh.values_list("pk", flat=True)))


def is_running() -> bool:
    """Whether at least one listener process lives."""
    return running() > 0


def wake() -> None:
    """Have every listener look at the sessions at once, after the present transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [WAKE_CHANNEL])
