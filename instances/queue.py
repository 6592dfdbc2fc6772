"""Names the jobs of this app and enqueues them. The jobs themselves are in `tasks`."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Final

from django.db import transaction
from procrastinate import exceptions

from core.queue import PRIORITY_MONITORING, Job, defer

RESUME_HANDOVER: Final = Job(
    name="instances.resume_handover", queue="care", priority=PRIORITY_MONITORING
)
CONFIGURE: Final = Job(name="instances.configure", queue="care", priority=PRIORITY_MONITORING)
BACKFILL: Final = Job(name="instances.backfill", queue="care", priority=PRIORITY_MONITORING)
PROBE_CONNECTION: Final = Job(
    name="instances.probe_connection", queue="care", priority=PRIORITY_MONITORING
)
PROBE_SERVER: Final = Job(name="instances.probe_server", queue="care", priority=PRIORITY_MONITORING)


def enqueue_resume(session_id: int) -> None:
    """Enqueue one check of a waiting handover."""
    name = f"handover:{session_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(RESUME_HANDOVER, queueing_lock=name, session_id=session_id)


def enqueue_configure(session_id: int) -> None:
    """Enqueue the webhook configuration of a session without a mode, after commit.

    If Evolution fails, the job is retried with growing delays for some hours.
    """
    defer(CONFIGURE, session_id=session_id)


def enqueue_backfill(session_id: int) -> None:
    """Enqueue the fetch of a due gap, after commit; one at a time."""
    name = f"backfill:{session_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(BACKFILL, lock=name, queueing_lock=name, session_id=session_id)


def enqueue_probe(session_id: int) -> None:
    """Enqueue an immediate probe of an instance, after commit."""
    name = f"instance-probe:{session_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(PROBE_CONNECTION, lock=name, queueing_lock=name, session_id=session_id)


def enqueue_server_probe(url: str) -> None:
    """Enqueue the due probes of a server's instances, after commit.

    Concurrent requests share one job.
    """
    name = f"server-probe:{hashlib.sha256(url.encode()).hexdigest()[:32]}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(PROBE_SERVER, lock=name, queueing_lock=name, url=url)
