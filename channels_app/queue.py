"""Names the jobs of this app and enqueues them. The jobs themselves are in `tasks`."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Final

from django.db import transaction
from procrastinate import exceptions

from core.queue import PRIORITY_MONITORING, Job, defer

BEGIN_SESSION: Final = Job(
    name="channels_app.begin_session", queue="care", priority=PRIORITY_MONITORING
)
END_SESSION: Final = Job(
    name="channels_app.end_session", queue="care", priority=PRIORITY_MONITORING
)
PROBE_SESSION: Final = Job(
    name="channels_app.probe_session", queue="care", priority=PRIORITY_MONITORING
)
TRY_CREDENTIALS: Final = Job(
    name="channels_app.try_credentials", queue="care", priority=PRIORITY_MONITORING
)
SYNC_TEMPLATES: Final = Job(
    name="channels_app.sync_templates", queue="care", priority=PRIORITY_MONITORING
)
SEND_ALERT: Final = Job(name="channels_app.send_alert", queue="care", priority=PRIORITY_MONITORING)


def enqueue_begin(channel_id: int, *, restart: bool) -> None:
    """Enqueue the start of a session when the transaction commits. One start at a time."""
    name = f"wwebjs-begin:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(
            BEGIN_SESSION,
            lock=name,
            queueing_lock=name,
            channel_id=channel_id,
            restart=restart,
        )


def enqueue_end(channel_id: int) -> None:
    """Enqueue the end of a session that came up again, when the transaction commits."""
    name = f"wwebjs-end:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(END_SESSION, lock=name, queueing_lock=name, channel_id=channel_id)


def enqueue_probe(channel_id: int) -> None:
    """Enqueue an immediate poll of a session when the transaction commits."""
    name = f"wwebjs-probe:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(PROBE_SESSION, lock=name, queueing_lock=name, channel_id=channel_id)


def enqueue_test(channel_id: int) -> None:
    """Enqueue a test of a channel's credentials when the transaction commits."""
    name = f"channel-test:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(TRY_CREDENTIALS, lock=name, queueing_lock=name, channel_id=channel_id)


def enqueue_template_sync(account: str, *, why: str = "", at: dt.datetime | None = None) -> None:
    """Enqueue the synchronization of an account's templates when the transaction commits.

    One that is queued already for the same reason is not repeated; another one may be due sooner.
    """
    name = f"templates:{account}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(SYNC_TEMPLATES, queueing_lock=f"{name}:{why}", at=at, account=account)


def enqueue_alert(incident_id: int, *, what: str, by: str) -> None:
    """Enqueue an alert about an incident when the transaction commits."""
    defer(SEND_ALERT, incident_id=incident_id, what=what, by=by)
