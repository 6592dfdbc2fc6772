"""Defer jobs in the caller's transaction. The jobs themselves are in each app's `tasks` module."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from procrastinate import manager
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.tasks import Task, configure_task

# Job priorities: higher runs first, then older. Thousands of messages waiting to be sent must not
# delay the providers' events about sent ones, nor the monitoring that detects a dead worker.
CARE: Final = 20
READ: Final = 10
SEND: Final = 0

# In a worker the procrastinate app has its own connections, so its `defer` would not be part of
# the caller's transaction.
_job_manager = manager.JobManager(DjangoConnector())


def defer(
    task: Task[..., Any, ...],
    *,
    lock: str | None = None,
    queueing_lock: str | None = None,
    at: dt.datetime | None = None,
    **arguments: Any,
) -> None:
    """Defer a job in the current transaction, from any process; `at` schedules it for later.

    The locks default to the task's own. Raises AlreadyEnqueued if a waiting job has the same
    queueing lock.
    """
    configure_task(
        name=task.name,
        queue=task.queue,
        priority=task.priority,
        job_manager=_job_manager,
        lock=lock or task.lock,
        queueing_lock=queueing_lock or task.queueing_lock,
        schedule_at=at,
    ).defer(**arguments)
