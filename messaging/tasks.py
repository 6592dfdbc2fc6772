"""The jobs of this app. Each job calls one function; `queue` enqueues them."""

from __future__ import annotations

import datetime as dt
from functools import partial

import procrastinate
import structlog
from django.conf import settings
from procrastinate import jobs
from procrastinate.contrib.django import app

from core.queue import PRIORITY_MONITORING
from messaging import queue, retention
from messaging.delivery import fallback_share, reconcile, runner, sweeper
from messaging.media import files

log = structlog.get_logger(__name__)


class NotDueYet(Exception):
    """The message is waiting; the job must run again at `until`."""

    def __init__(self, until: dt.datetime) -> None:
        super().__init__(f"not before {until.isoformat()}")
        self.until = until


class _DeliveryRetryStrategy(procrastinate.BaseRetryStrategy):
    """Requeue a waiting job at its time; after an error, retry with backoff.

    In both cases the job stays ahead of the later messages of its conversation. `runner.run` and
    the policy decide how often an internal error is retried.
    """

    def get_retry_decision(
        self, *, exception: BaseException, job: jobs.Job
    ) -> procrastinate.RetryDecision | None:
        if isinstance(exception, NotDueYet):
            return procrastinate.RetryDecision(retry_at=exception.until)
        pause = min(60, 2 ** min(job.attempts, 6))
        log.error("delivery job failed; will run again", job=job.id, pause=pause)
        return procrastinate.RetryDecision(retry_in={"seconds": pause})


@app.task(**queue.DELIVER, retry=_DeliveryRetryStrategy(), pass_context=True)
def deliver(context: procrastinate.JobContext, message_id: str) -> None:
    until = runner.run(message_id, is_ours=partial(queue.still_owns_job, context.job))
    if until is not None:
        raise NotDueYet(until)


# No retry: the next try is a job of its own, and the sweep requeues lost files.
@app.task(**queue.FETCH_MEDIA)
def fetch_media(media_id: str) -> None:
    files.fetch(media_id)


# No retry: a message that was not rescheduled still runs at its previous time.
@app.task(**queue.RESCHEDULE_THROTTLED)
def reschedule_throttled(channel_id: int) -> None:
    runner.reschedule_throttled(channel_id)


@app.periodic(cron="* * * * * */5")
@app.task(
    name="messaging.rescue_stalled_jobs",
    queue="care",
    priority=PRIORITY_MONITORING,
    queueing_lock="rescue_stalled_jobs",
    pass_context=True,
)
async def rescue_stalled_jobs(context: procrastinate.JobContext, timestamp: int) -> None:
    """Requeue deliveries of dead workers; delete their other jobs, which a sweep recreates."""
    manager = context.app.job_manager
    stalled = await manager.get_stalled_jobs(
        seconds_since_heartbeat=settings.WORKER_STALLED_SECONDS
    )
    for job in stalled:
        if job.task_name == queue.DELIVER["name"]:
            log.warning("requeued job of stalled worker", job=job.id)
            await manager.retry_job(job)
        else:
            await manager.finish_job(job, jobs.Status.FAILED, delete_job=True)


@app.periodic(cron="* * * * * */10")
@app.task(name="messaging.sweep", queue="care", priority=PRIORITY_MONITORING, queueing_lock="sweep")
def sweep(timestamp: int) -> None:
    """Requeue unfinished messages and pending events that have no job."""
    sweeper.sweep()


@app.periodic(cron="* * * * * */15")
@app.task(
    name="messaging.look_up_unknown",
    queue="care",
    priority=PRIORITY_MONITORING,
    # An unresponsive server must not occupy several worker slots.
    lock="look_up_unknown",
    queueing_lock="look_up_unknown",
)
def look_up_unknown(timestamp: int) -> None:
    """Look up sends with an unknown outcome at the providers that support it."""
    reconcile.look_up_unknown()


@app.periodic(cron="* * * * *")
@app.task(
    name="messaging.watch_rates",
    queue="care",
    priority=PRIORITY_MONITORING,
    queueing_lock="watch_rates",
)
def check_fallback_shares(timestamp: int) -> None:
    """Open and close incidents for unusual shares of fallbacks."""
    fallback_share.check_fallback_shares()


@app.periodic(cron="17 4 * * *")
@app.task(
    name="messaging.forget_old",
    queue="care",
    priority=PRIORITY_MONITORING,
    queueing_lock="forget_old",
)
def delete_expired(timestamp: int) -> None:
    """Delete rows and files whose retention period has ended."""
    retention.delete_expired()
