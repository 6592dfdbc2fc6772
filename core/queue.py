"""Declare jobs, and defer them in the caller's transaction.

Each app's `queue` module names its jobs; its `tasks` module implements them.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, TypedDict

from procrastinate import manager
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.tasks import configure_task

# Job priorities: higher runs first, then older. Thousands of messages waiting to be sent must not
# delay the monitoring that detects a dead worker.
PRIORITY_MONITORING: Final = 20
PRIORITY_DELIVERY: Final = 0

# In a worker the procrastinate app has its own connections, so its `defer` would not be part of
# the caller's transaction.
_job_manager = manager.JobManager(DjangoConnector())


class Job(TypedDict):
    """The values to defer a job with. Its task is declared with them (`@app.task(**job)`)."""

    name: str
    queue: str
    priority: int


def defer(
    job: Job,
    *,
    lock: str | None = None,
    queueing_lock: str | None = None,
    at: dt.datetime | None = None,
    **arguments: Any,
) -> None:
    """Defer a job in the current transaction, from any process; `at` schedules it for later.

    Raises AlreadyEnqueued if a waiting job has the same queueing lock.
    """
    configure_task(
        **job,
        job_manager=_job_manager,
        lock=lock,
        queueing_lock=queueing_lock,
        schedule_at=at,
    ).defer(**arguments)
