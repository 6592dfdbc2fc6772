"""The jobs of this app. Each job makes one call into a module; `queue` enqueues them."""

from __future__ import annotations

import procrastinate
from procrastinate.contrib.django import app

from channels_app import message_templates, queue
from channels_app.connections import connection_tests, rounds, wwebjs_commands
from channels_app.incidents import incidents
from channels_app.models import Provider
from core.queue import PRIORITY_MONITORING


@app.task(**queue.BEGIN_SESSION)
def begin_session(channel_id: int, restart: bool) -> None:
    wwebjs_commands.begin(channel_id, restart=restart)


@app.task(**queue.END_SESSION)
def end_session(channel_id: int) -> None:
    wwebjs_commands.end_again(channel_id)


@app.task(**queue.PROBE_SESSION)
def probe_session(channel_id: int) -> None:
    wwebjs_commands.probe(channel_id)


@app.task(**queue.TRY_CREDENTIALS)
def try_credentials(channel_id: int) -> None:
    connection_tests.test_primary_route(channel_id)


# No retry: `sync_due_templates` repeats what failed.
@app.task(**queue.SYNC_TEMPLATES)
def sync_templates(account: str) -> None:
    message_templates.synchronize_account(account)


@app.periodic(cron="*/5 * * * *")
@app.task(
    name="channels_app.sync_due_templates",
    queue="care",
    priority=PRIORITY_MONITORING,
    queueing_lock="sync_due_templates",
)
def sync_due_templates(timestamp: int) -> None:
    """Synchronize the templates of each account once a day, and again after a failure."""
    message_templates.enqueue_due()


@app.periodic(cron="* * * * * */2")
@app.task(
    name="channels_app.probe_due_sessions",
    queue="care",
    priority=PRIORITY_MONITORING,
    # Hanging servers must not occupy all workers with waiting rounds.
    lock="probe_due_sessions",
    queueing_lock="probe_due_sessions",
)
def probe_due_sessions(timestamp: int) -> None:
    """Poll the sessions that are due."""
    rounds.probe_due(Provider.WWEBJS)


@app.periodic(cron="* * * * * */5")
@app.task(
    name="channels_app.settle_incidents",
    queue="care",
    priority=PRIORITY_MONITORING,
    queueing_lock="settle_incidents",
)
def settle_incidents(timestamp: int) -> None:
    """Alert staff to lasting drops and to their end."""
    incidents.process_due()


@app.task(
    **queue.SEND_ALERT,
    retry=procrastinate.RetryStrategy(max_attempts=6, exponential_wait=4),
)
def send_alert(incident_id: int, what: str, by: str) -> None:
    incidents.send_alert(incident_id, what=what, by=by)
