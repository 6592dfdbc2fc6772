"""The jobs of this layer. Each job makes one call into a module.

They are defined here and not in `messaging.tasks`, because code of this layer enqueues them (a page
starts a session, for example), and this layer must not import jobs of a higher one.
"""

from __future__ import annotations

import contextlib

import procrastinate
from django.db import transaction
from procrastinate import exceptions
from procrastinate.contrib.django import app

from core.queue import CARE, defer


def enqueue_begin(channel_id: int, *, restart: bool) -> None:
    """Enqueue the start of a session when the transaction commits. One start at a time."""
    name = f"wwebjs-begin:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(
            begin_session,
            lock=name,
            queueing_lock=name,
            channel_id=channel_id,
            restart=restart,
        )


def enqueue_end(channel_id: int) -> None:
    """Enqueue the end of a session that came up again, when the transaction commits."""
    name = f"wwebjs-end:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(end_session, lock=name, queueing_lock=name, channel_id=channel_id)


def enqueue_probe(channel_id: int) -> None:
    """Enqueue an immediate poll of a session when the transaction commits."""
    name = f"wwebjs-probe:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(probe_session, lock=name, queueing_lock=name, channel_id=channel_id)


def enqueue_test(channel_id: int) -> None:
    """Enqueue a test of a channel's credentials when the transaction commits."""
    name = f"channel-test:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(try_credentials, lock=name, queueing_lock=name, channel_id=channel_id)


def enqueue_alert(incident_id: int, *, what: str, by: str) -> None:
    """Enqueue an alert about an incident when the transaction commits."""
    defer(send_alert, incident_id=incident_id, what=what, by=by)


@app.task(name="channels_app.begin_session", queue="care", priority=CARE)
def begin_session(channel_id: int, restart: bool) -> None:
    from channels_app.connections import wwebjs_session

    wwebjs_session.begin(channel_id, restart=restart)


@app.task(name="channels_app.end_session", queue="care", priority=CARE)
def end_session(channel_id: int) -> None:
    from channels_app.connections import wwebjs_session

    wwebjs_session.end_again(channel_id)


@app.task(name="channels_app.probe_session", queue="care", priority=CARE)
def probe_session(channel_id: int) -> None:
    from channels_app.connections import wwebjs_session

    wwebjs_session.probe(channel_id)


@app.task(name="channels_app.try_credentials", queue="care", priority=CARE)
def try_credentials(channel_id: int) -> None:
    from channels_app.connections import credentials

    credentials.test_primary_route(channel_id)


@app.periodic(cron="* * * * * */2")
@app.task(
    name="channels_app.probe_due_sessions",
    queue="care",
    priority=CARE,
    # Hanging servers must not occupy all workers with waiting rounds.
    lock="probe_due_sessions",
    queueing_lock="probe_due_sessions",
)
def probe_due_sessions(timestamp: int) -> None:
    """Poll the sessions that are due."""
    from channels_app.connections import wwebjs_session

    wwebjs_session.probe_due()


@app.periodic(cron="* * * * * */5")
@app.task(
    name="channels_app.settle_incidents",
    queue="care",
    priority=CARE,
    queueing_lock="settle_incidents",
)
def settle_incidents(timestamp: int) -> None:
    """Alert staff to lasting drops and to their end."""
    from channels_app.incidents import incidents

    incidents.process_due()


@app.task(
    name="channels_app.send_alert",
    queue="care",
    priority=CARE,
    retry=procrastinate.RetryStrategy(max_attempts=6, exponential_wait=4),
)
def send_alert(incident_id: int, what: str, by: str) -> None:
    from channels_app.incidents import incidents

    incidents.send_alert(incident_id, what=what, by=by)
