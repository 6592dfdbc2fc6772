"""The jobs of this app. Each job calls one function; `queue` enqueues them."""

from __future__ import annotations

import procrastinate
from procrastinate.contrib.django import app

from channels_app.connections import rounds
from channels_app.models import Provider
from core.queue import PRIORITY_MONITORING
from instances import queue
from instances.connections import evolution
from instances.receive_mode import backfill as backfills
from instances.receive_mode import handover
from instances.receive_mode import monitor as receive_mode_monitor


@app.task(**queue.PROBE_SERVER)
def probe_server(url: str) -> None:
    rounds.probe_server(Provider.BAILEYS, url)


@app.task(**queue.PROBE_CONNECTION)
def probe_connection(session_id: int) -> None:
    evolution.probe(session_id)


@app.periodic(cron="* * * * * */2")
@app.task(
    name="instances.probe_due_connections",
    queue="care",
    priority=PRIORITY_MONITORING,
    # Hanging servers must not occupy the workers with concurrent rounds.
    lock="probe_due_connections",
    queueing_lock="probe_due_connections",
)
def probe_due_connections(timestamp: int) -> None:
    """Probe the due instances."""
    rounds.probe_due(Provider.BAILEYS)


@app.task(
    **queue.CONFIGURE,
    retry=procrastinate.RetryStrategy(max_attempts=13, exponential_wait=2),
)
def configure(session_id: int) -> None:
    handover.configure_default(session_id)


@app.task(**queue.RESUME_HANDOVER)
def resume_handover(session_id: int) -> None:
    handover.resume(session_id)


@app.task(**queue.BACKFILL)
def backfill(session_id: int) -> None:
    # A failed fetch stays due in the session row and is retried.
    backfills.run(session_id)


@app.periodic(cron="* * * * * */5")
@app.task(
    name="instances.look_for_gaps",
    queue="care",
    priority=PRIORITY_MONITORING,
    lock="look_for_gaps",
    queueing_lock="look_for_gaps",
)
def look_for_gaps(timestamp: int) -> None:
    """Compare the newest messages of the due instances with the journal."""
    receive_mode_monitor.look_for_gaps()


@app.periodic(cron="* * * * * */2")
@app.task(
    name="instances.resume_handovers",
    queue="care",
    priority=PRIORITY_MONITORING,
    queueing_lock="resume_handovers",
)
def resume_handovers(timestamp: int) -> None:
    """Resume handovers that wait or whose process died, detect dead listeners, and enqueue due
    gaps."""
    receive_mode_monitor.run_due()


@app.periodic(cron="* * * * * 30")
@app.task(
    name="instances.check_receive_modes",
    queue="care",
    priority=PRIORITY_MONITORING,
    lock="check_receive_modes",
    queueing_lock="check_receive_modes",
)
def check_receive_modes(timestamp: int) -> None:
    """Compare every session with Evolution's settings."""
    receive_mode_monitor.check_receive_modes()
