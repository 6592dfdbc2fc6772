"""What the tests of the receive mode do over and over: wait, switch, listen, kill, look."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import requests
from django.db import connection, connections
from django.utils import translation

from tests.pages.html import parse
from tests.simulators.evolution.support import KEY, Server

if TYPE_CHECKING:
    from rest_framework.response import Response
    from rest_framework.test import APIClient

    from instances.models import WhatsAppSession
    from simulators.evolution.app import EvolutionSimulator
    from simulators.evolution.model import Instance

ROOT = Path(__file__).parent.parent.parent
NAME = "oficina_e9f2ed4d"
OTHER = "filial_0001"
CUSTOMER = "5511988887777"
WAIT_SECONDS = 60.0

__all__ = ["KEY", "NAME", "Evolution", "Server"]


def wait_until(condition: Callable[[], Any], what: str = "", seconds: float = WAIT_SECONDS) -> Any:
    """Return the first true value of the condition."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited in vain: {what or condition}")


class Evolution(Server):
    """The simulated server, with the words of these tests."""

    def __init__(self, url: str, simulator: EvolutionSimulator) -> None:
        super().__init__(url)
        self._simulator = simulator

    def puts_out(self, name: str = NAME) -> None:
        """Disconnect the clients of an instance's namespace, who are no longer counted then.

        Their connections stay.
        """
        sockets = self._simulator.engine.hub.sockets._server
        namespace = f"/{name}"
        loop = self._simulator.client._loop

        async def put_out() -> None:
            for client in list(sockets.manager.rooms.get(namespace, {}).get(None, {})):
                await sockets.disconnect(client, namespace=namespace)

        asyncio.run_coroutine_threadsafe(put_out(), loop).result(5)

    def found(self, name: str = NAME) -> tuple[bool, bool]:
        """Return what is on: webhook, WebSocket."""
        webhook = self.get(f"/webhook/find/{quote(name, safe='')}") or {}
        websocket = self.call("GET", f"/websocket/find/{quote(name, safe='')}")
        row = websocket.json() if websocket.text else None
        return webhook.get("enabled", False), (row or {}).get("enabled", False)

    def instance(self, name: str = NAME) -> Instance:
        """The simulated instance itself."""
        return self._simulator.engine.instances[name]

    def fault(self, path: str, mode: str = "status", **more: Any) -> None:
        self.control("faults", path=path, mode=mode, **more)

    def heal(self) -> None:
        self.call("DELETE", "/_control/faults")

    def writes(self, text: str, name: str = NAME, **more: Any) -> str:
        """A customer writes; returns the message's id."""
        order = {"instance": name, "from": CUSTOMER, "text": text, **more}
        return str(self.control("inbound", **order)["id"])

    def open_namespace(self, name: str = NAME) -> None:
        """Let the instance emit an event by socket, which makes its namespace exist."""
        events = (self.get(f"/websocket/find/{quote(name, safe='')}") or {}).get("events", [])
        if not events:
            self.set_websocket(name, ["CALL"])
        self.control("event", instance=name, event="call", data={}, socket_only=True)
        wait_until(lambda: f"/{name}" in self.books("instances")["namespaces"])
        if not events:
            self.set_websocket(name, [], enabled=False)

    def clients(self, name: str = NAME) -> int:
        return int(self.books("instances")["instances"][name]["clients"])

    def lost(self, event: str = "messages.upsert") -> list[str]:
        """The ids of the messages that reached nobody."""
        return [entry["message_id"] for entry in self.books("events", lost="1", event=event)]

    def restarts(self, downtime: float = 0.0) -> None:
        """Start anew. Its instances stay closed, for their dialling would make the namespaces."""
        self.control("restart", downtime_seconds=downtime, redial=False)

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return self.call("GET", "/").ok
        except requests.RequestException:
            return False


def switch(api: APIClient, to: str, name: str = NAME, **body: Any) -> Response:
    """Ask for a mode by REST."""
    return api.post(
        f"/api/instance-management/enable-{to}/{quote(name, safe='')}", body, format="json"
    )  # type: ignore[return-value]


def state(api: APIClient, name: str = NAME) -> dict[str, Any]:
    answer = api.get(f"/api/instance-management/connection-state/{quote(name, safe='')}")
    assert answer.status_code == 200, answer.data
    return answer.json()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Shown:
    """What the card shows: the badge of each way, where there is one, and what it says below."""

    active: list[str]
    badges: dict[str, str]
    notices: str
    can_switch: bool
    can_cancel: bool


def shown(name: str = NAME) -> Shown:
    """Draw the card as it is now, in English."""
    from instances.models import WhatsAppSession
    from instances.receive_mode import presentation

    session = WhatsAppSession.objects.select_related("channel").get(channel__instance_name=name)
    with translation.override("en"):
        card = parse(presentation.card(session, may_change=True)).one("article", data_session=name)
    ways = card.all("div", data_mode=None)
    buttons = [way.one("button").attributes for way in ways]
    boxes = [box for box in card.all(class_=None) if "notice" in box.attributes["class"].split()]
    return Shown(
        active=[w.attributes["data-mode"] for w in ways if w.attributes["data-active"] == "true"],
        badges={
            way.attributes["data-mode"]: badge.text
            for way in ways
            for badge in way.all("span")
            if "badge" in badge.attributes["class"]
        },
        notices=" ".join(box.text for box in boxes),
        can_switch=not any("disabled" in attributes for attributes in buttons),
        can_cancel=any("/cancel/" in b.attributes["hx-post"] for b in card.all("button")),
    )


def still_pending(api: APIClient, evolution: Evolution) -> None:
    """Look that all say: WebSocket waits for its socket, and the webhook is on meanwhile."""
    found = state(api)
    assert (found["webhookEnabled"], found["websocketEnabled"]) == (True, False)
    assert (found["switching"]["to"], found["switching"]["phase"]) == ("websocket", "joining")
    assert found["inSync"] is True, found
    assert evolution.found() == (True, True)
    card = shown()
    assert card.active == ["webhook"]
    assert card.badges == {"webhook": "Active", "websocket": "waiting for the socket to open"}
    assert "Waiting for Evolution to open the socket" in card.notices
    assert (card.can_switch, card.can_cancel) == (False, True)


def agreed(api: APIClient, evolution: Evolution) -> str:
    """Return the one active mode; database, Evolution, API and card must say the same."""
    found = state(api)
    assert found["switching"] is None, found
    assert found["inSync"] is True, found
    both = (found["webhookEnabled"], found["websocketEnabled"])
    theirs = (found["evolution"]["webhookEnabled"], found["evolution"]["websocketEnabled"])
    assert both == theirs == evolution.found()
    assert sum(both) == 1
    mode = "webhook" if found["webhookEnabled"] else "websocket"
    assert shown() == Shown([mode], {mode: "Active"}, "", can_switch=True, can_cancel=False)
    return mode


def read() -> None:
    """Read all that is in the journal, as a worker would."""
    from messaging.inbound import journal
    from messaging.models import InboundEvent

    pending = InboundEvent.objects.filter(state=InboundEvent.State.PENDING).order_by()
    for source, key in set(pending.values_list("source", "source_key")):
        journal.read_pending(source, key)


def texts() -> list[str]:
    """Read, and return the customers' messages in the order in which they were stored."""
    from messaging.models import InboundEvent, Message

    read()
    aside = InboundEvent.objects.filter(state=InboundEvent.State.SET_ASIDE)
    assert list(aside.values_list("error", flat=True)) == []
    # Message ids are random; created_at has only seconds. The journal's order is the true one.
    ids = [
        payload["data"]["key"]["id"]
        for payload in InboundEvent.objects.order_by("pk").values_list("payload", flat=True)
        if payload["event"] == "messages.upsert"
    ]
    by_id = dict(Message.objects.values_list("provider_message_id", "text"))
    return [by_id[id_] for id_ in dict.fromkeys(ids) if id_ in by_id]


@contextlib.contextmanager
def listening(count: int = 1, *, beside: int = 0) -> Iterator[list[Any]]:
    """Listeners in threads of this process; they end, and all their threads with them.

    `beside`: how many others run already.
    """
    from instances.listener import registry
    from instances.listener.process import Listener

    before = set(threading.enumerate())
    made = [Listener() for _ in range(count)]
    threads = [threading.Thread(target=one.run, name=f"listener-{i}") for i, one in enumerate(made)]
    for thread in threads:
        thread.start()
    try:
        wait_for_listeners(count + beside)
        yield made
    finally:
        for one in made:
            one.stop()
        registry.wake()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        if not beside:
            wait_until(lambda: not _threads(before), "its threads end")


def _threads(before: set[threading.Thread]) -> list[threading.Thread]:
    named = ("socket-", "journal-writer", "listener-")
    new = [thread for thread in threading.enumerate() if thread not in before]
    return [thread for thread in new if thread.name.startswith(named)]


def wait_for_listeners(count: int) -> None:
    from instances.listener import registry

    wait_until(lambda: registry.running() == count, f"{count} listeners run")


def joined(session: WhatsAppSession) -> Any:
    """A condition: the session is told to be joined, and has caught up."""

    def condition() -> bool:
        session.refresh_from_db()
        return session.listener_connected

    return condition


@contextlib.contextmanager
def listener_process() -> Iterator[subprocess.Popen[bytes]]:
    """`manage.py listen_evolution` on the test database."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    url = urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))
    process = subprocess.Popen(
        [sys.executable, "manage.py", "listen_evolution"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "LOG_LEVEL": "WARNING"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait(10)


@contextlib.contextmanager
def no_database() -> Iterator[None]:
    """PostgreSQL takes nobody in, and has put everybody out."""
    settings = connection.settings_dict
    name = settings["NAME"]
    parts = urlsplit(os.environ["DATABASE_URL"])
    connections.close_all()
    # Whoever asks for a connection need not wait long to hear that there is none.
    pool = connections["default"].pool  # type: ignore[attr-defined]
    pool.timeout = 0.3
    with psycopg.connect(urlunsplit(parts._replace(path="/postgres")), autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        try:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
            yield
        finally:
            admin.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
    # Each connection that the pool still has would fail once.
    connections.close_all()
    connections["default"].close_pool()  # type: ignore[attr-defined]
