"""The jobs of this floor. A job makes one call inward.

They stand here and not in `messaging.tasks`, because what asks for them does: a session is started
by a page of this floor, and a job of a floor above could not be named from here.
"""

from __future__ import annotations

import contextlib

import procrastinate
from django.db import transaction
from procrastinate import exceptions
from procrastinate.contrib.django import app

from core.queue import CARE, defer


def enqueue_begin(channel_id: int, *, restart: bool) -> None:
    """Have a session started, once the present transaction commits. One start at a time."""
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
    """Have a session ended that came up although a person ended it, once this commits."""
    name = f"wwebjs-end:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(end_session, lock=name, queueing_lock=name, channel_id=channel_id)


def enqueue_probe(channel_id: int) -> None:
    """Have a session asked for its state now, once the present transaction commits."""
    name = f"wwebjs-probe:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(probe_session, lock=name, queueing_lock=name, channel_id=channel_id)


def enqueue_test(channel_id: int) -> None:
    """Have a channel's credentials tried, once the present transaction commits."""
    name = f"channel-test:{channel_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(try_credentials, lock=name, queueing_lock=name, channel_id=channel_id)


def enqueue_alert(incident_id: int, *, what: str, by: str) -> None:
    """Have staff told of an incident, once the present transaction commits."""
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
    # Servers that hang must not fill the workers with rounds that wait for them.
    lock="probe_due_sessions",
    queueing_lock="probe_due_sessions",
)
def probe_due_sessions(timestamp: int) -> None:
    """Ask the sessions whose time has come."""
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
    """Tell staff of drops that last, and of their end."""
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
