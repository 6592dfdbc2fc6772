"""Helpers of the receive-mode tests: wait, switch, listen, kill, inspect."""

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
    """Wait for the condition and return its first true value.

    What it waits for runs in threads of this process, so it rests for as long as it has looked.
    """
    deadline = time.monotonic() + seconds
    while (began := time.monotonic()) < deadline:
        if value := condition():
            return value
        time.sleep(max(0.01, time.monotonic() - began))
    raise AssertionError(f"timed out: {what or condition}")


class Evolution(Server):
    """The simulated server with the operations of these tests."""

    def __init__(self, url: str, simulator: EvolutionSimulator) -> None:
        super().__init__(url)
        self._simulator = simulator

    def disconnect_clients(self, name: str = NAME) -> None:
        """Disconnect the clients from an instance's namespace, so they are no longer counted.

        Their connections stay open.
        """
        sockets = self._simulator.engine.hub.sockets._server
        namespace = f"/{name}"
        loop = self._simulator.client._loop

        async def disconnect() -> None:
            for client in list(sockets.manager.rooms.get(namespace, {}).get(None, {})):
                await sockets.disconnect(client, namespace=namespace)

        asyncio.run_coroutine_threadsafe(disconnect(), loop).result(5)

    def enabled_modes(self, name: str = NAME) -> tuple[bool, bool]:
        """Return whether webhook and WebSocket are enabled."""
        webhook = self.get(f"/webhook/find/{quote(name, safe='')}") or {}
        websocket = self.call("GET", f"/websocket/find/{quote(name, safe='')}")
        row = websocket.json() if websocket.text else None
        return webhook.get("enabled", False), (row or {}).get("enabled", False)

    def instance(self, name: str = NAME) -> Instance:
        """The simulated instance itself."""
        return self._simulator.engine.instances[name]

    def fault(self, path: str, mode: str = "status", **more: Any) -> None:
        self.control("faults", path=path, mode=mode, **more)

    def clear_faults(self) -> None:
        self.call("DELETE", "/_control/faults")

    def writes(self, text: str, name: str = NAME, **more: Any) -> str:
        """Let a customer write; return the message id."""
        order = {"instance": name, "from": CUSTOMER, "text": text, **more}
        return str(self.control("inbound", **order)["id"])

    def open_namespace(self, name: str = NAME) -> None:
        """Let the instance emit an event by socket, which creates its namespace."""
        events = (self.get(f"/websocket/find/{quote(name, safe='')}") or {}).get("events", [])
        if not events:
            self.set_websocket(name, ["CALL"])
        self.control("event", instance=name, event="call", data={}, socket_only=True)
        wait_until(lambda: f"/{name}" in self.ledger("instances")["namespaces"])
        if not events:
            self.set_websocket(name, [], enabled=False)

    def clients(self, name: str = NAME) -> int:
        return int(self.ledger("instances")["instances"][name]["clients"])

    def undelivered(self, event: str = "messages.upsert") -> list[str]:
        """Return the ids of the messages that no receiver got."""
        return [entry["message_id"] for entry in self.ledger("events", lost="1", event=event)]

    def restart(self, downtime: float = 0.0) -> None:
        """Restart. The instances stay closed: connecting would create their namespaces."""
        self.control("restart", downtime_seconds=downtime, redial=False)

    def is_up(self) -> bool:
        """Return whether the server answers."""
        try:
            return self.call("GET", "/").ok
        except requests.RequestException:
            return False


def switch(api: APIClient, to: str, name: str = NAME, **body: Any) -> Response:
    """Request a mode by REST."""
    return api.post(
        f"/api/instance-management/enable-{to}/{quote(name, safe='')}", body, format="json"
    )  # type: ignore[return-value]


def state(api: APIClient, name: str = NAME) -> dict[str, Any]:
    answer = api.get(f"/api/instance-management/connection-state/{quote(name, safe='')}")
    assert answer.status_code == 200, answer.data
    return answer.json()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Shown:
    """The content of the card: the badge of each mode, if any, and the notices."""

    active: list[str]
    badges: dict[str, str]
    notices: str
    can_switch: bool
    can_cancel: bool


def shown(name: str = NAME) -> Shown:
    """Render the current card in English."""
    from instances.models import WhatsAppSession
    from instances.receive_mode import presentation

    session = WhatsAppSession.objects.select_related("channel").get(
        channel__evolution__instance_name=name
    )
    with translation.override("en"):
        card = parse(presentation.card(session, may_change=True)).one("article", data_session=name)
    rows = card.all("div", data_mode=None)
    buttons = [row.one("button").attributes for row in rows]
    boxes = [box for box in card.all(class_=None) if "notice" in box.attributes["class"].split()]
    return Shown(
        active=[r.attributes["data-mode"] for r in rows if r.attributes["data-active"] == "true"],
        badges={
            row.attributes["data-mode"]: badge.text
            for row in rows
            for badge in row.all("span")
            if "badge" in badge.attributes["class"]
        },
        notices=" ".join(box.text for box in boxes),
        can_switch=not any("disabled" in attributes for attributes in buttons),
        can_cancel=any("/cancel/" in b.attributes["hx-post"] for b in card.all("button")),
    )


def assert_pending(api: APIClient, evolution: Evolution) -> None:
    """Assert that WebSocket waits for its socket everywhere, with the webhook still on."""
    found = state(api)
    assert (found["webhookEnabled"], found["websocketEnabled"]) == (True, False)
    assert (found["switching"]["to"], found["switching"]["phase"]) == ("websocket", "joining")
    assert found["inSync"] is True, found
    assert evolution.enabled_modes() == (True, True)
    card = shown()
    assert card.active == ["webhook"]
    assert card.badges == {"webhook": "Active", "websocket": "waiting for the socket to open"}
    assert "Waiting for Evolution to open the socket" in card.notices
    assert (card.can_switch, card.can_cancel) == (False, True)


def agreed(api: APIClient, evolution: Evolution) -> str:
    """Return the active mode; assert that database, Evolution, API and card agree."""
    found = state(api)
    assert found["switching"] is None, found
    assert found["inSync"] is True, found
    both = (found["webhookEnabled"], found["websocketEnabled"])
    theirs = (found["evolution"]["webhookEnabled"], found["evolution"]["websocketEnabled"])
    assert both == theirs == evolution.enabled_modes()
    assert sum(both) == 1
    mode = "webhook" if found["webhookEnabled"] else "websocket"
    assert shown() == Shown([mode], {mode: "Active"}, "", can_switch=True, can_cancel=False)
    return mode


def read() -> None:
    """Process the whole journal like a worker."""
    from messaging.inbound import reader
    from messaging.models import InboundEvent

    pending = InboundEvent.objects.filter(state=InboundEvent.State.PENDING).order_by()
    for source, key in set(pending.values_list("source", "source_key")):
        reader.read_pending(source, key)


def texts() -> list[str]:
    """Process the journal and return the customers' messages in stored order."""
    from messaging.models import InboundEvent, Message

    read()
    aside = InboundEvent.objects.filter(state=InboundEvent.State.SET_ASIDE)
    assert list(aside.values_list("error", flat=True)) == []
    # Message ids are random and created_at has only seconds, so use the journal's order.
    ids = [
        payload["data"]["key"]["id"]
        for payload in InboundEvent.objects.order_by("pk").values_list("payload", flat=True)
        if payload["event"] == "messages.upsert"
    ]
    by_id = dict(Message.objects.values_list("provider_message_id", "text"))
    return [by_id[id_] for id_ in dict.fromkeys(ids) if id_ in by_id]


@contextlib.contextmanager
def listening(count: int = 1, *, beside: int = 0) -> Iterator[list[Any]]:
    """Run listeners in threads of this process; all their threads end with the block.

    `beside`: the number of listeners already running.
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
            wait_until(lambda: not _threads(before), "its threads have ended")


def _threads(before: set[threading.Thread]) -> list[threading.Thread]:
    named = ("socket-", "journal-writer", "listener-")
    new = [thread for thread in threading.enumerate() if thread not in before]
    return [thread for thread in new if thread.name.startswith(named)]


def wait_for_listeners(count: int) -> None:
    from instances.listener import registry

    wait_until(lambda: registry.running() == count, f"{count} listeners run")


def joined(session: WhatsAppSession) -> Any:
    """Return a condition: the session is recorded as joined."""

    def condition() -> bool:
        session.refresh_from_db()
        return session.listener_connected

    return condition


@contextlib.contextmanager
def listener_process() -> Iterator[subprocess.Popen[bytes]]:
    """Run `manage.py listen_evolution` on the test database."""
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
    """Make PostgreSQL reject new connections and close the existing ones."""
    settings = connection.settings_dict
    name = settings["NAME"]
    parts = urlsplit(os.environ["DATABASE_URL"])
    connections.close_all()
    # Requests for a connection fail quickly.
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
    # Each connection left in the pool would fail once.
    connections.close_all()
    connections["default"].close_pool()  # type: ignore[attr-defined]
