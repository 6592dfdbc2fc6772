"""The jobs of the receive mode and connections. Each job calls one function."""

from __future__ import annotations

import contextlib
import hashlib

import procrastinate
from django.db import transaction
from procrastinate import exceptions
from procrastinate.contrib.django import app

from core.queue import CARE, defer


def enqueue_resume(session_id: int) -> None:
    """Enqueue one check of a waiting handover."""
    name = f"handover:{session_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(resume_handover, queueing_lock=name, session_id=session_id)


def enqueue_configure(session_id: int) -> None:
    """Enqueue the webhook configuration of a session without a mode, after commit.

    If Evolution fails, the job is retried with growing delays for some hours.
    """
    defer(configure, session_id=session_id)


def enqueue_backfill(session_id: int) -> None:
    """Enqueue the fetch of a due gap, after commit; one at a time."""
    name = f"backfill:{session_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(backfill, lock=name, queueing_lock=name, session_id=session_id)


def enqueue_probe(session_id: int) -> None:
    """Enqueue an immediate probe of an instance, after commit."""
    name = f"instance-probe:{session_id}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(probe_connection, lock=name, queueing_lock=name, session_id=session_id)


def enqueue_server_probe(url: str) -> None:
    """Enqueue the due probes of a server's instances, after commit.

    Concurrent requests share one job.
    """
    name = f"server-probe:{hashlib.sha256(url.encode()).hexdigest()[:32]}"
    with contextlib.suppress(exceptions.AlreadyEnqueued), transaction.atomic():
        defer(probe_server, lock=name, queueing_lock=name, url=url)


@app.task(name="instances.probe_server", queue="care", priority=CARE)
def probe_server(url: str) -> None:
    from instances.connections import monitor

    monitor.probe_server(url)


@app.task(name="instances.probe_connection", queue="care", priority=CARE)
def probe_connection(session_id: int) -> None:
    from instances.connections import monitor

    monitor.probe(session_id)


@app.periodic(cron="* * * * * */2")
@app.task(
    name="instances.probe_due_connections",
    queue="care",
    priority=CARE,
    # Hanging servers must not occupy the workers with concurrent rounds.
    lock="probe_due_connections",
    queueing_lock="probe_due_connections",
)
def probe_due_connections(timestamp: int) -> None:
    """Probe the due instances."""
    from instances.connections import monitor

    monitor.probe_due()


@app.task(
    name="instances.configure",
    queue="care",
    priority=CARE,
    retry=procrastinate.RetryStrategy(max_attempts=13, exponential_wait=2),
)
def configure(session_id: int) -> None:
    from instances.receive_mode import handover

    handover.configure_default(session_id)


@app.task(name="instances.resume_handover", queue="care", priority=CARE)
def resume_handover(session_id: int) -> None:
    from instances.receive_mode import handover

    handover.resume(session_id)


@app.task(name="instances.backfill", queue="care", priority=CARE)
def backfill(session_id: int) -> None:
    # A failed fetch stays due in the session row and is retried.
    from instances.receive_mode import backfill as backfills

    backfills.run(session_id)


@app.periodic(cron="* * * * * */5")
@app.task(
    name="instances.look_for_gaps",
    queue="care",
    priority=CARE,
    lock="look_for_gaps",
    queueing_lock="look_for_gaps",
)
def look_for_gaps(timestamp: int) -> None:
    """Compare the newest messages of the due instances with the journal."""
    from instances.receive_mode import monitor

    monitor.look_for_gaps()


@app.periodic(cron="* * * * * */2")
@app.task(
    name="instances.resume_handovers", queue="care", priority=CARE, queueing_lock="resume_handovers"
)
def resume_handovers(timestamp: int) -> None:
    """Resume handovers that wait or whose process died, detect dead listeners, and enqueue due
    gaps."""
    from instances.receive_mode import monitor

    monitor.run_due()


@app.periodic(cron="* * * * * 30")
@app.task(
    name="instances.check_receive_modes",
    queue="care",
    priority=CARE,
    lock="check_receive_modes",
    queueing_lock="check_receive_modes",
)
def check_receive_modes(timestamp: int) -> None:
    """Compare every session with Evolution's settings."""
    from instances.receive_mode import monitor

    monitor.check_receive_modes()
