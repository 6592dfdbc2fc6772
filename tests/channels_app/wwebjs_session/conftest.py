"""A simulated wwebjs-api controlled by the test, an attached channel, and recorded responses."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from aiohttp import web
from django.utils import timezone, translation
from time_machine import TimeMachineFixture

from channels_app.connections import monitor, rounds, wwebjs_commands
from channels_app.connections.session_engines import SessionState
from channels_app.models import Channel, Connection, WwebjsCredentials
from simulators.base import run_in_thread
from simulators.wwebjs.app import WwebjsSettings, WwebjsSimulator
from tests.conftest import WWEBJS_KEY, WWEBJS_SESSION
from tests.simulators.recorded import Exchange


@pytest.fixture(autouse=True)
def in_english() -> Iterator[None]:
    with translation.override("en"):
        yield


@pytest.fixture
def later(time_machine: TimeMachineFixture) -> Callable[[float], None]:
    """Advance the clock by this many seconds."""

    def travel(seconds: float) -> None:
        time_machine.move_to(timezone.now() + dt.timedelta(seconds=seconds), tick=True)

    return travel


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run probes in the test's own thread, inside its transaction."""

    def run(steps: list[rounds.Step]) -> None:
        for step in steps:
            run(step())

    monkeypatch.setattr(rounds, "run_steps", run)


@dataclass
class Server:
    """The simulated server, without delays unless a test configures them."""

    url: str
    simulator: WwebjsSimulator

    @property
    def settings(self) -> WwebjsSettings:
        return self.simulator.settings

    def steer(self, action: str) -> None:
        answer = requests.post(
            f"{self.url}/_control/sessions/{WWEBJS_SESSION}", json={"action": action}, timeout=5
        )
        assert answer.ok, answer.text

    def paths(self) -> list[str]:
        """Return the requested routes, without the session's name."""
        return [
            str(request["path"]).removesuffix(f"/{WWEBJS_SESSION}")
            for request in list(self.simulator.requests)
        ]

    def forget(self) -> None:
        """Clear the recorded requests."""
        self.simulator.requests.clear()

    @property
    def known(self) -> list[str]:
        return list(self.simulator.browsers.sessions)

    @property
    def paired(self) -> bool:
        return WWEBJS_SESSION in self.simulator.browsers.paired


@pytest.fixture
def server(servers: ExitStack) -> Server:
    simulator = WwebjsSimulator(
        WwebjsSettings(
            api_key=WWEBJS_KEY,
            start_seconds=0.0,
            blank_seconds=0.0,
            pairing_seconds=0.0,
            sync_seconds=0.0,
            qr_seconds=60.0,
            send_seconds=0.0,
            ack_delay=0.0,
            protocol_timeout=0.2,
            late_delivery_seconds=0.0,
        )
    )
    running = servers.enter_context(run_in_thread(simulator.application()))
    return Server(running.url, simulator)


@pytest.fixture
def attached(make_channel: Callable[..., Channel], server: Server) -> Channel:
    """An official channel whose fallback is the server's session, which is not started."""
    return make_channel(
        linked=False,
        fallback="wwebjs",
        wwebjs_url=server.url,
        wwebjs_api_key=WWEBJS_KEY,
        wwebjs_session_id=WWEBJS_SESSION,
    )


@pytest.fixture
def ready(attached: Channel, server: Server) -> Channel:
    """The same channel, linked and observed to be ready."""
    server.steer("make_ready")
    assert monitor.state(attached.wwebjs).state == "ready"
    server.forget()
    return attached


@dataclass
class Replay:
    """Responds to each route with a recorded exchange; ignores the session's name."""

    url: str = ""
    answers: dict[str, Exchange] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def application(self) -> web.Application:
        async def answer(request: web.Request) -> web.Response:
            route = request.path.rpartition("/")[0]
            self.asked.append(route)
            exchange = self.answers[route]
            return web.Response(
                status=exchange.status,
                body=exchange.body.encode(),
                content_type=exchange.content_type,
            )

        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", answer)
        return app

    def plays(self, **names: str) -> WwebjsCredentials:
        """Respond with these recordings; return credentials that are not stored."""
        routes = {
            "status": "/session/status",
            "info": "/client/getClassInfo",
            "qr": "/session/qr",
            "start": "/session/start",
            "stop": "/session/stop",
            "terminate": "/session/terminate",
            "pairing": "/session/requestPairingCode",
        }
        self.answers = {routes[route]: Exchange.read(name) for route, name in names.items()}
        return WwebjsCredentials(url=self.url, api_key="suaapikey", session_id="TESTE")


@pytest.fixture
def replay(servers: ExitStack) -> Replay:
    replay = Replay()
    replay.url = servers.enter_context(run_in_thread(replay.application())).url
    return replay


def run_starts() -> int:
    """Run the enqueued jobs that start sessions. Returns their number."""
    from procrastinate.contrib.django.models import ProcrastinateJob

    waiting = ProcrastinateJob.objects.filter(
        task_name="channels_app.begin_session", status="todo"
    ).order_by("id")
    orders = [dict(job.args) for job in waiting]
    with _connection() as cursor:
        cursor.execute(
            "DELETE FROM procrastinate_jobs WHERE task_name = 'channels_app.begin_session'"
        )
    for order in orders:
        wwebjs_commands.begin(order["channel_id"], restart=order["restart"])
    return len(orders)


def jobs(task: str) -> list[dict[str, Any]]:
    """Return the arguments of the enqueued jobs of one task."""
    from procrastinate.contrib.django.models import ProcrastinateJob

    enqueued = ProcrastinateJob.objects.filter(task_name=f"channels_app.{task}", status="todo")
    return [dict(job.args) for job in enqueued.order_by("id")]


def _connection() -> Any:
    from django.db import connection

    return connection.cursor()


def session_of(channel: Channel) -> Connection:
    return Connection.objects.get(channel=channel, provider="wwebjs")


def until(channel: Channel, state: str, seconds: float = 5.0) -> SessionState:
    """Poll until the session is in this state."""
    deadline = time.monotonic() + seconds
    while (current := monitor.state(channel.wwebjs)).state != state:
        assert time.monotonic() < deadline, current
    return current
