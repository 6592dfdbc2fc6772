"""Helpers for the messaging tests."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import procrastinate
import time_machine
from django.db.models import F, QuerySet
from procrastinate.contrib.django import app

from channels_app.models import Channel, Connection
from core.queue import Job, defer
from messaging.delivery import accept as sending
from messaging.delivery import first_sends, outbox, runner
from messaging.delivery.sender_loop import SenderLoop
from messaging.inbound import authentication, reader
from messaging.inbound.reader_loop import ReaderLoop
from messaging.models import DeliveryAttempt, InboundEvent, Message
from simulators.base import example_number
from tests.conftest import APP_SECRET, Webhooks

if TYPE_CHECKING:
    from procrastinate.tasks import Task

    from messaging.delivery.statuses import Outcome, Route


def customer(*, graph: str = "00", fallback: str = "00") -> str:
    """Return a number that triggers the two scenarios (simulators/base.py)."""
    return example_number(graph=graph, fallback=fallback)


def accept(channel: Channel, to: str = "+5511988887777", **changes: Any) -> Message:
    """Accept an outgoing text message."""
    return sending.accept_message(
        channel=channel, to=to, user=None, **{"text": "Olá", **changes}
    ).message


def deliver(message: Message) -> dt.datetime | None:
    """Deliver the message as far as possible now; return when it must run again."""
    until = runner.deliver(str(message.pk))
    message.refresh_from_db()
    return until


def deliver_to_the_end(message: Message, clock: time_machine.TimeMachineFixture) -> list[str]:
    """Deliver, skipping each wait. Return the reasons for the waits."""
    waits = []
    while until := deliver(message):
        waits.append(message.decision)
        assert len(waits) < 20
        clock.move_to(until)
    return waits


def stored_attempts(message: Message) -> list[DeliveryAttempt]:
    return list(message.attempts.order_by("number"))


def trail(message: Message) -> list[tuple[str, str, str]]:
    """Return route, outcome and error code of each attempt."""
    return [(a.route, a.outcome, a.error_code) for a in stored_attempts(message)]


def attempt_of(
    message: Message,
    *,
    outcome: Outcome,
    route: Route,
    number: int = 1,
    finished_at: dt.datetime | None = None,
    **changes: Any,
) -> DeliveryAttempt:
    """Create an attempt as a worker left it, on this route of the message's channel."""
    channel = message.conversation.channel
    if route != channel.kind and channel.fallback_channel is not None:
        channel = channel.fallback_channel
    return DeliveryAttempt.objects.create(
        message=message,
        number=number,
        connection=Connection.objects.stored(changes.pop("channel", channel), route),
        outcome=outcome,
        started_at=changes.pop("started_at", message.created_at),
        finished_at=finished_at,
        **changes,
    )


def sign(body: bytes, secret: str = APP_SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def post(payload: Any, secret: str = APP_SECRET) -> authentication.Received:
    """Post a signed payload to Meta's receiver."""
    body = json.dumps(payload).encode()
    return authentication.receive_cloud(body, sign(body, secret))


def read_events() -> None:
    """Process all pending events of the journal."""
    waiting = InboundEvent.objects.filter(state="pending").order_by()
    for source, key in waiting.values_list("source", "source_key").distinct():
        reader.read_pending(source, key)


def receive(webhooks: Webhooks) -> int:
    """Receive and process the simulator's posts. Return their number."""
    arrived = webhooks.take()
    for body, signature in arrived:
        assert authentication.receive_cloud(body, signature) == authentication.Received.STORED
    read_events()
    return len(arrived)


def status(
    message: Message,
    reported: str,
    *,
    channel: Channel,
    number: int = 1,
    id: str = "wamid.1",
    errors: list[Any] | None = None,
    with_reference: bool = True,
) -> dict[str, Any]:
    """Return Meta's payload for one status of an attempt."""
    update: dict[str, Any] = {"id": id, "status": reported, "timestamp": "1751142888"}
    if with_reference:
        update["biz_opaque_callback_data"] = f"{message.pk}.{number}"
    if errors is not None:
        update["errors"] = errors
    return envelope({"statuses": [update]}, channel)


def envelope(
    value: dict[str, Any], channel: Channel | None, field: str = "messages"
) -> dict[str, Any]:
    """Wrap one change in Meta's payload."""
    metadata = {"phone_number_id": channel.phone_number_id} if channel else {}
    return {
        "object": "whatsapp_business_account",
        "entry": [
            {"id": "1", "changes": [{"field": field, "value": {"metadata": metadata, **value}}]}
        ],
    }


def deliver_due() -> None:
    """Deliver what is due, one message after another, until nothing is."""
    worker_id = outbox.register()
    while True:
        taken = first_sends.take(worker_id, new=64, waiting=64)
        first_sends.mark_queued_behind(taken.waits)
        if not taken.ids() and not taken.more_new:
            break
        left, _ = first_sends.record([runner.make(send) for send in taken.sends])
        made = {one.attempt.message_id: one for one in left}
        for message_id in [*taken.others, *made]:
            if message_id not in made or runner.store(made[message_id]):
                runner.run(str(message_id), worker_id)
            outbox.release(str(message_id), worker_id)
    outbox.unregister(worker_id)


def run_jobs(*queues: str, concurrency: int = 1) -> None:
    """Run the due jobs in a real worker of this process until none is left."""
    with app.replace_connector(app.connector.get_worker_connector()):  # type: ignore[attr-defined]
        app.run_worker(
            queues=list(queues),
            wait=False,
            concurrency=concurrency,
            listen_notify=False,
            install_signal_handlers=False,
            delete_jobs=procrastinate.jobs.DeleteJobCondition.SUCCESSFUL,
        )


@contextlib.contextmanager
def running_worker(poll_seconds: float = 5.0, *, care: bool = False) -> Iterator[None]:
    """Deliver messages, read events and run jobs during the test, as a worker does in production.

    `poll_seconds`: how often the loops look for due messages, pending events and due jobs, besides
    notifications of new ones. `care`: whether it also runs periodic maintenance.
    """
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def work() -> None:
        with app.replace_connector(app.connector.get_worker_connector()):  # type: ignore[attr-defined]
            async with app.open_async():
                worker = asyncio.create_task(
                    app.run_worker_async(
                        queues=["care"] if care else ["none"],
                        concurrency=4,
                        fetch_job_polling_interval=poll_seconds,
                        install_signal_handlers=False,
                    )
                )
                await asyncio.gather(
                    ReaderLoop(poll_seconds=poll_seconds).run(stop),
                    SenderLoop(concurrency=4, poll_seconds=poll_seconds).run(stop),
                )
                worker.cancel()
                await asyncio.wait([worker])

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    running = asyncio.run_coroutine_threadsafe(work(), loop)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        running.result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def defer_task(task: Task[..., Any, ...], **arguments: Any) -> None:
    """Defer a periodic task now, with its own locks."""
    job = Job(name=task.name, queue=task.queue, priority=task.priority)
    defer(job, lock=task.lock, queueing_lock=task.queueing_lock, **arguments)


def jobs(**filters: Any) -> list[Any]:
    """Return the queued jobs in order, without the periodic maintenance jobs."""
    from procrastinate.contrib.django.models import ProcrastinateJob

    return list(
        ProcrastinateJob.objects.exclude(queue_name="care").filter(**filters).order_by("id")
    )


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Poll until the condition holds; fail if it does not within `seconds`.

    What it waits for runs in threads of this process, so it rests for as long as it has looked.
    """
    began = time.monotonic()
    deadline = began + seconds
    while not condition():
        looked = time.monotonic()
        assert looked < deadline, "the condition never held"
        time.sleep(max(0.005, looked - began))
        began = time.monotonic()


def make_older(rows: QuerySet[DeliveryAttempt], by: dt.timedelta) -> None:
    """Move the start of the attempts back by this time."""
    rows.update(started_at=F("started_at") - by)
