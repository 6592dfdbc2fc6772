"""The steps that must not become slower as rows accumulate, each timed in a transaction of its own.

Each step is rolled back, so that it can be repeated and leaves the database as it was. The slowest
SQL statement of a step is reported as well.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test import Client
from django.test.utils import override_settings
from django.urls import reverse
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules
from procrastinate.contrib.django import app
from rest_framework.test import APIClient

from channels_app.models import Channel
from channels_app.providers.base import Accepted
from messaging.delivery import accept, first_sends, outbox, runner
from messaging.inbound import journal, reader
from messaging.models import Conversation, DeliveryAttempt, InboundEvent, Message

Step = Callable[[], object]
_serial = itertools.count()


@dataclass(frozen=True, slots=True)
class Timing:
    """The processor time of a step and of its slowest statement, in milliseconds.

    It is that of this process and of its PostgreSQL backend together, the least of some runs: other
    work on the machine changes it little.
    """

    ms: float
    slowest_ms: float = 0.0
    slowest_sql: str = ""


def measure(runs: int = 7) -> dict[str, Timing]:
    """Time every step on the current rows. With 0 runs the one that fills caches counts."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    storages = settings.STORAGES | {"staticfiles": plain}
    with (
        override_settings(STORAGES=storages, ALLOWED_HOSTS=["*"]),
        _accepting_provider(),
        connection.cursor() as cursor,
    ):
        # All of a statement's work is done by the one backend that is observed.
        cursor.execute("SET max_parallel_workers_per_gather = 0")
        cursor.execute("SELECT pg_backend_pid()")
        clock = partial(_backend_seconds, cursor.fetchone()[0])
        return {name: _timed(step, runs, clock) for name, step in _steps().items()}


def _backend_seconds(pid: int) -> float:
    """Return the processor time of a PostgreSQL backend; without Linux, the time of day."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return time.perf_counter()


def _timed(step: Step, runs: int, clock: Callable[[], float]) -> Timing:
    seconds: list[float] = []
    slowest: list[tuple[float, str]] = []
    for run in range(runs + 1):
        statements: list[tuple[float, str]] = []
        with transaction.atomic(), _statements(statements, clock):
            began = time.process_time() + clock()
            step()
            took = time.process_time() + clock() - began
            transaction.set_rollback(True)
        if run or not runs:  # the first one fills caches
            seconds.append(took)
            slowest.append(max(statements, default=(0.0, "")))
    least = min(slowest)
    return Timing(min(seconds) * 1000, least[0] * 1000, least[1])


@contextmanager
def _statements(found: list[tuple[float, str]], clock: Callable[[], float]) -> Iterator[None]:
    """Collect the duration of each SQL statement."""

    def execute(call: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        began = clock()
        try:
            return call(sql, params, many, context)
        finally:
            found.append((clock() - began, str(sql)))

    with connection.execute_wrapper(execute):
        yield


@contextmanager
def _accepting_provider() -> Iterator[None]:
    provider = SimpleNamespace(send=lambda message: Accepted(f"wamid.bench{next(_serial)}"))
    with patch("channels_app.connections.registry.provider_for", lambda connection: provider):
        yield


def _steps() -> dict[str, Step]:
    return {**_delivery(), **_pages(), **_rest(), **_periodic_jobs()}


def _delivery() -> dict[str, Step]:
    channel = Channel.objects.earliest("pk")
    customer = Conversation.objects.filter(channel=channel).select_related("contact").latest("pk")
    sent = DeliveryAttempt.objects.filter(connection=channel.primary.pk, receipt="delivered")
    attempt = sent.order_by("-started_at")[0]
    source = str(channel.pk)
    worker_id = outbox.register()

    def send() -> None:
        accept.accept_message(
            channel=channel, to=customer.contact.phone_number or "", user=None, text="Hello"
        )
        taken = first_sends.take(worker_id, new=64, waiting=8)
        first_sends.record([runner.make(send) for send in taken.sends])
        outbox.renew(worker_id)

    def status() -> None:
        update = {
            "id": attempt.provider_message_id,
            "status": "read",
            "timestamp": "1751142888",
            "biz_opaque_callback_data": f"{attempt.message_id}.{attempt.number}",
        }
        _receive({"statuses": [update]})

    def message() -> None:
        text = {
            "from": (customer.contact.phone_number or "")[1:],
            "id": f"wamid.{uuid.uuid4()}",
            "timestamp": str(int(time.time())),
            "type": "text",
            "text": {"body": "Hello"},
        }
        _receive({"messages": [text]})

    def _receive(value: dict[str, Any]) -> None:
        metadata = {"phone_number_id": channel.phone_number_id}
        changes = [{"field": "messages", "value": {"metadata": metadata, **value}}]
        payload = {
            "object": "whatsapp_business_account",
            "entry": [{"id": "1", "changes": changes}],
        }
        journal.store(
            source="cloud", source_key=source, dedupe_key=str(uuid.uuid4()), payload=payload
        )
        reader.read_pending("cloud", source)
        assert not InboundEvent.objects.filter(state="set_aside", received_at__gte=began).exists()

    began = timezone.now()
    return {"send a message": send, "apply a status": status, "receive a message": message}


def _pages() -> dict[str, Step]:
    client = Client()
    client.force_login(get_user_model().objects.get(username="bench"))
    busiest = _busiest()
    newest = list(busiest.messages.order_by("-created_at")[:41])
    contact = Conversation.objects.order_by("-pk")[3].contact
    last_page = -(-Conversation.objects.count() // 50)
    older = reverse("messaging:older", args=[busiest.pk])
    addresses = {
        "inbox": "/conversations/",
        "inbox, last page": f"/conversations/?page={last_page}",
        "inbox of a channel": f"/conversations/?channel={busiest.channel_id}",
        "inbox, needs review": "/conversations/?attention=on",
        "search by name": f"/conversations/?search={contact.name.split()[-1]}",
        "search by common name": "/conversations/?search=ana",
        "search by number": f"/conversations/?search={(contact.phone_number or '')[-8:]}",
        "search by two letters": "/conversations/?search=an",
        "search without result": "/conversations/?search=nobody",
        "conversation": f"/conversations/{busiest.pk}/",
        "older messages": f"{older}?before={newest[-1].pk}",
        "a message": f"/messages/{newest[0].pk}/",
        "dashboard": "/",
        "held messages": "/messages/held/",
    }

    def get(address: str) -> None:
        response = client.get(address)
        assert response.status_code == 200, (address, response.status_code)

    return {f"page: {name}": partial(get, address) for name, address in addresses.items()}


def _rest() -> dict[str, Step]:
    client = APIClient()
    client.force_authenticate(get_user_model().objects.get(username="bench"))
    busiest = _busiest()
    named = Message.objects.exclude(client_reference="").latest("created_at")
    contact = Conversation.objects.order_by("-pk")[3].contact
    second = client.get("/api/messages/").json()["next"]
    queries = {
        "messages": "/api/messages/",
        "messages, second page": second,
        "messages?channel": f"/api/messages/?channel={busiest.channel_id}",
        "messages?conversation": f"/api/messages/?conversation={busiest.pk}",
        "messages?to": f"/api/messages/?to=%2B{(contact.phone_number or '')[1:]}",
        "messages?client_reference": f"/api/messages/?client_reference={named.client_reference}",
        **{
            f"messages?status={status}": f"/api/messages/?status={status}"
            for status in Message.Status.values
        },
        **{
            f"messages?route={route}": f"/api/messages/?route={route}"
            for route in ("official", "wwebjs", "baileys")
        },
        **{
            f"messages?direction={direction}": f"/api/messages/?direction={direction}"
            for direction in Message.Direction.values
        },
        "conversations": "/api/conversations/",
        "conversations?channel": f"/api/conversations/?channel={busiest.channel_id}",
        "conversations?search": f"/api/conversations/?search={contact.name.split()[-1]}",
        "conversations?assignee": "/api/conversations/?assignee=none&status=open",
        "conversations?unread": "/api/conversations/?unread=true",
        "calls": f"/api/conversations/{busiest.pk}/calls/",
        "search, word of every message": "/api/search/?q=orders",
        "search, word of one message": f"/api/search/?q={named.client_reference}",
        "search without result": "/api/search/?q=nobody",
    }

    def get(address: str) -> None:
        response = client.get(address)
        assert response.status_code == 200, (address, response.content)

    return {f"REST: {name}": partial(get, address) for name, address in queries.items()}


def _periodic_jobs() -> dict[str, Step]:
    autodiscover_modules("tasks")
    steps: dict[str, Step] = {}
    for periodic in app.periodic_registry.periodic_tasks.values():
        task = periodic.task
        arguments: dict[str, Any] = {"timestamp": 0}
        if task.pass_context:
            arguments["context"] = SimpleNamespace(app=app, job=None)
        function = async_to_sync(task.func) if iscoroutinefunction(task.func) else task.func
        steps[f"job: {task.name}"] = partial(function, **arguments)
    return steps


def _busiest() -> Conversation:
    # Conversations with low numbers have the most messages (growth_rows).
    return Conversation.objects.order_by("pk")[0]
