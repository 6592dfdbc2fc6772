"""Probes in concurrent threads, as the workers run them."""

from __future__ import annotations

import asyncio
import datetime as dt
import queue
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from aiohttp import web
from django.db import connection
from django.utils import timezone
from procrastinate.tasks import Task

from channels_app import tasks as channel_tasks
from channels_app.connections import monitor, rounds
from channels_app.models import Channel, Connection
from channels_app.providers.sessions import Observation
from core import http_client
from instances import tasks
from simulators.base import run_in_thread
from tests.channels_app.wwebjs_session.conftest import Server
from tests.conftest import WWEBJS_KEY

DEAD = "http://127.0.0.1:9"

pytestmark = pytest.mark.django_db(transaction=True)


def work() -> None:
    """Run the periodic job as a worker thread does."""
    rounds.probe_due("wwebjs")
    connection.close()


def test_a_slow_server_does_not_delay_others(
    make_channel: Callable[..., Channel], server: Server, servers: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    release = threading.Event()

    async def hang(request: web.Request) -> web.Response:
        await asyncio.to_thread(release.wait, 10)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", hang)
    slow_url = servers.enter_context(run_in_thread(app)).url
    monkeypatch.setattr("channels_app.providers.wwebjs.session.STATUS_SECONDS", 3.0)
    fields = {"fallback": "wwebjs", "wwebjs_api_key": WWEBJS_KEY}
    slow = make_channel(wwebjs_url=slow_url, wwebjs_session_id="slow", **fields)
    quick = [
        make_channel(wwebjs_url=server.url, wwebjs_session_id=f"quick-{number}", **fields)
        for number in range(3)
    ]
    probing = threading.Thread(target=work)
    probing.start()
    try:
        deadline = time.monotonic() + 2.5
        wanted = [channel.pk for channel in quick]
        done = Connection.objects.filter(
            channel__in=wanted, provider="wwebjs", state_code="not_started"
        )
        while done.count() < len(quick):
            assert time.monotonic() < deadline
        slow.refresh_from_db()
        assert slow.wwebjs.state_code == "unchecked"
    finally:
        release.set()
        probing.join(10)
    slow.refresh_from_db()
    assert slow.wwebjs.state == "error"


def test_two_workers_do_not_poll_the_same_session(
    attached: Channel, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: queue.Queue[int] = queue.Queue()

    def note(_engine: object, ids: list[int], _polled: set[int]) -> None:
        for connection_id in ids:
            asked.put(connection_id)

    monkeypatch.setattr(rounds, "probe_all", note)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(10)
    assert asked.qsize() == 1


def test_immediate_requests_come_first_and_the_lease_starts_with_the_poll(
    make_channel: Callable[..., Channel], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if many hang, none is claimed before its turn, and each is polled once per round."""
    monkeypatch.setattr(rounds, "PROBES_AT_A_TIME", 2)
    fields = {"fallback": "wwebjs", "wwebjs_api_key": WWEBJS_KEY, "wwebjs_url": server.url}
    made = [
        make_channel(wwebjs_session_id=f"session-{number}", **fields).wwebjs.pk
        for number in range(5)
    ]
    now, sessions = timezone.now(), Connection.objects.filter(provider="wwebjs").order_by("pk")
    for number, session in enumerate(sessions):
        session.next_poll_at = None if number == 4 else now - dt.timedelta(minutes=5 - number)
        session.save()
    claims: list[list[int]] = []

    def note(_engine: object, ids: list[int], _polled: set[int]) -> None:
        claims.append(ids)
        claimed = sessions.filter(next_poll_at__gt=timezone.now()).count()
        assert claimed <= 2 * len(claims)
        sessions.filter(pk__in=ids).update(next_poll_at=None)  # requested again meanwhile

    monkeypatch.setattr(rounds, "probe_all", note)
    rounds.probe_due("wwebjs")
    assert claims == [[made[4], made[0]], [made[1], made[2]], [made[3]]]


def test_a_probe_that_fails_does_not_keep_the_others_of_its_server_from_theirs(
    make_channel: Callable[..., Channel], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"fallback": "wwebjs", "wwebjs_api_key": WWEBJS_KEY, "wwebjs_url": server.url}
    made = [
        make_channel(wwebjs_session_id=f"session-{number}", **fields).wwebjs.pk
        for number in range(3)
    ]
    probe = monitor.probe

    def fail_first(connection_id: int) -> Observation | None:
        assert connection_id != made[0]
        return probe(connection_id)

    monkeypatch.setattr(monitor, "probe", fail_first)
    rounds.probe_due("wwebjs")
    polled = Connection.objects.filter(pk__in=made, state_code="not_started")
    assert set(polled.values_list("pk", flat=True)) == set(made[1:])


def test_one_request_shows_that_a_server_is_down_for_all_its_sessions(
    make_channel: Callable[..., Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"fallback": "wwebjs", "wwebjs_api_key": WWEBJS_KEY, "wwebjs_url": DEAD}
    for number in range(20):
        make_channel(wwebjs_session_id=f"session-{number}", **fields)
    requested: list[str] = []
    request = http_client.request

    def counted(method: str, base: str, path: str = "", **options: Any) -> http_client.Answer:
        requested.append(path)
        return request(method, base, path, **options)

    monkeypatch.setattr(http_client, "request", counted)
    rounds.probe_due("wwebjs")
    assert len(requested) == 1
    codes = Connection.objects.filter(provider="wwebjs").values_list("state_code", flat=True)
    assert list(codes) == ["connection_refused"] * 20


@pytest.mark.parametrize("task", [channel_tasks.probe_due_sessions, tasks.probe_due_connections])
def test_a_round_occupies_one_worker_slot(task: Task[..., None, ...]) -> None:
    assert task.lock == task.queueing_lock == task.name.partition(".")[2]


def test_an_observation_requested_earlier_but_received_later_is_ignored(
    make_channel: Callable[..., Channel], servers: ExitStack
) -> None:
    asked, release = threading.Event(), threading.Event()
    questions: list[str] = []

    async def status(request: web.Request) -> web.Response:
        questions.append(request.path)
        if len(questions) > 1:
            body_json = {"success": False, "state": "OPENING", "message": "session_not_connected"}
            return web.json_response(body_json)
        asked.set()
        await asyncio.to_thread(release.wait, 10)
        return web.json_response({"success": False, "state": None, "message": "browser tab closed"})

    app = web.Application()
    app.router.add_get("/{tail:.*}", status)
    channel = make_channel(
        fallback="wwebjs",
        wwebjs_url=servers.enter_context(run_in_thread(app)).url,
        wwebjs_api_key=WWEBJS_KEY,
        wwebjs_session_id="TESTE",
    )

    earlier = threading.Thread(target=work)
    earlier.start()
    try:
        assert asked.wait(5)
        assert monitor.state(channel.wwebjs).code == "opening"
        newest = channel.wwebjs.checked_at
    finally:
        release.set()
        earlier.join(10)
    channel.refresh_from_db()
    assert len(questions) == 2
    assert (channel.wwebjs.state_code, channel.wwebjs.checked_at) == ("opening", newest)

    # A later observation is stored again.
    questions.clear()
    assert monitor.state(channel.wwebjs).code == "session_closed"
