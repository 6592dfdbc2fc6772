"""Making a job in the caller's own transaction. Which jobs there are, each floor's `tasks` says."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from procrastinate import manager
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.tasks import Task, configure_task

# Which waiting job is taken first: the higher; of equals, the older. Thousands of messages that
# wait to be sent must not hold up what providers tell of those that went, nor the care that finds
# a dead worker.
CARE: Final = 20
READ: Final = 10
SEND: Final = 0

# In a worker the app itself has connections of its own: what it defers there is not in the
# caller's transaction.
_queue = manager.JobManager(DjangoConnector())


def defer(
    task: Task[..., Any, ...],
    *,
    lock: str | None = None,
    queueing_lock: str | None = None,
    at: dt.datetime | None = None,
    **arguments: Any,
) -> None:
    """Make a job in the present transaction, in whichever process this is; it runs `at` that time.

    The locks are the task's own where none are given. Raises AlreadyEnqueued where one waits with
    the same queueing lock.
    """
    configure_task(
        name=task.name,
        queue=task.queue,
        priority=task.priority,
        job_manager=_queue,
        lock=lock or task.lock,
        queueing_lock=queueing_lock or task.queueing_lock,
        schedule_at=at,
    ).defer(**arguments)
