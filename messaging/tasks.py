"""The jobs of this app. Each job calls one function; `queue` enqueues them."""

from __future__ import annotations

import procrastinate
import structlog
from django.conf import settings
from procrastinate import jobs
from procrastinate.contrib.django import app

from core.queue import PRIORITY_DELIVERY, PRIORITY_MONITORING
from messaging import costs, pictures, queue, reading, retention
from messaging.delivery import deadlines, fallback_share, reconcile, runner, sweeper
from messaging.inbox import auto_answers, push, work
from messaging.media import files

log = structlog.get_logger(__name__)


# No retry: the next try is a job of its own, and the sweep requeues lost files.
@app.task(**queue.FETCH_MEDIA)
def fetch_media(media_id: str) -> None:
    files.fetch(media_id)


# No retry: the next message reports it again.
@app.task(**queue.FETCH_PICTURE)
def fetch_picture(contact: int, url: str) -> None:
    pictures.fetch(contact, url)


# No retry: nothing depends on it, and later it would be out of date.
@app.task(**queue.MARK_READ)
def mark_read(conversation_id: int, count: int, typing: bool) -> None:
    reading.tell_provider(conversation_id, count=count, typing=typing)


# No retry: a message that was not rescheduled still runs at its previous time.
@app.task(**queue.RESCHEDULE_THROTTLED)
def reschedule_throttled(channel_id: int) -> None:
    runner.reschedule_throttled(channel_id)


# No retry: it defers its own, which ends.
@app.task(**queue.SEND_PUSH)
def send_push(subscription_id: int, message_id: str, tries: int) -> None:
    push.send(subscription_id, message_id, tries)


@app.periodic(cron="* * * * * */3")
@app.task(
    name="messaging.push",
    queue="care",
    priority=PRIORITY_DELIVERY,
    queueing_lock="push",
    lock="push",
)
def push_arrivals(timestamp: int) -> None:
    """Push the messages that arrived to the browsers of those whom they concern."""
    push.push_arrivals()


@app.periodic(cron="* * * * * */5")
@app.task(
    name="messaging.rescue_stalled_jobs",
    queue="care",
    priority=PRIORITY_MONITORING,
    queueing_lock="rescue_stalled_jobs",
    pass_context=True,
)
async def rescue_stalled_jobs(context: procrastinate.JobContext, timestamp: int) -> None:
    """Delete the jobs of dead workers. Each is recreated by a sweep or runs again by its clock."""
    manager = context.app.job_manager
    stalled = await manager.get_stalled_jobs(
        seconds_since_heartbeat=settings.WORKER_STALLED_SECONDS
    )
    for job in stalled:
        await manager.finish_job(job, jobs.Status.FAILED, delete_job=True)


@app.periodic(cron="* * * * * */10")
@app.task(name="messaging.sweep", queue="care", priority=PRIORITY_MONITORING, queueing_lock="sweep")
def sweep(timestamp: int) -> None:
    """Queue the download of awaited files without a job, and end new-chat blocks."""
    sweeper.sweep()


@app.periodic(cron="* * * * * */10")
@app.task(
    name="messaging.wake_snoozed",
    queue="care",
    priority=PRIORITY_MONITORING,
    queueing_lock="wake_snoozed",
)
def wake_snoozed(timestamp: int) -> None:
    """Open the snoozed conversations whose time has come."""
    work.wake_snoozed()


@app.periodic(cron="* * * * * */10")
@app.task(
    name="messaging.answer_automatically",
    queue="care",
    priority=PRIORITY_MONITORING,
    lock="answer_automatically",
    queueing_lock="answer_automatically",
)
def answer_automatically(timestamp: int) -> None:
    """Send the greetings and out-of-hours answers of the channels that have them."""
    auto_answers.answer_new_messages()


@app.periodic(cron="* * * * * */5")
@app.task(
    name="messaging.check_deadlines",
    queue="care",
    priority=PRIORITY_MONITORING,
    lock="check_deadlines",
    queueing_lock="check_deadlines",
)
def check_deadlines(timestamp: int) -> None:
    """Answer the deadlines of messages that have passed."""
    deadlines.check()


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


@app.periodic(cron="*/10 * * * *")
@app.task(
    name="messaging.count_service_messages",
    queue="care",
    priority=PRIORITY_MONITORING,
    lock="count_service_messages",
    queueing_lock="count_service_messages",
)
def count_service_messages(timestamp: int) -> None:
    """Count the free messages that each official number has used this month."""
    costs.count_service_messages()


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
