"""The listener over real sockets: it joins, preserves order, rejoins and loses nothing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from channels_app.models import Channel, EvolutionCredentials
from channels_app.providers.evolution.receive_mode import EvolutionInstance
from instances.listener import process as listener_module
from instances.listener import registry
from instances.models import ListenerProcess, WhatsAppSession
from instances.receive_mode import backfill, monitor
from messaging.inbound import journal, raw_files
from messaging.live import publisher as messaging_live
from messaging.models import InboundEvent, Message
from tests.factories import create_channel
from tests.instances.support import (
    KEY,
    NAME,
    OTHER,
    Evolution,
    agreed,
    assert_pending,
    joined,
    listener_process,
    listening,
    no_database,
    read,
    shown,
    state,
    switch,
    texts,
    wait_for_listeners,
    wait_until,
)

if TYPE_CHECKING:
    from django.test import Client
    from rest_framework.test import APIClient


@pytest.fixture
def evolution_settings() -> dict[str, Any]:
    # Engine.IO sends whole seconds to its clients.
    return {"ping_interval": 1.0, "ping_timeout": 1.0}


@pytest.fixture
def in_websocket_mode(session: WhatsAppSession, evolution: Evolution) -> WhatsAppSession:
    """A session that was in WebSocket mode before any listener started."""
    from instances.receive_mode.handover import EVENTS

    evolution.set_websocket(NAME, list(EVENTS))
    WhatsAppSession.objects.filter(pk=session.pk).update(websocket_enabled=True)
    session.refresh_from_db()
    return session


def note(session: WhatsAppSession) -> str:
    session.refresh_from_db()
    return session.listener_note


def heartbeat(session: WhatsAppSession) -> dt.datetime:
    session.refresh_from_db()
    assert session.listener_seen_at is not None
    return session.listener_seen_at


def is_left(session: WhatsAppSession) -> bool:
    session.refresh_from_db()
    return not session.listener_connected


def wait_to_catch_up(session: WhatsAppSession) -> None:
    """Wait until everything received so far is recorded as stored."""
    now = timezone.now()

    def caught_up() -> bool:
        session.refresh_from_db()
        return session.caught_up_at is not None and session.caught_up_at > now

    wait_until(caught_up)


@pytest.fixture
def fast_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "HEARTBEAT_SECONDS", 0.1)


# -- joining, order, leaving -----------------------------------------------------------------------


def test_it_stores_events_in_the_order_of_their_arrival(
    by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("flood", instance=NAME, count=300, per_second=3000, prefix="ORDER")
    wait_until(lambda: InboundEvent.objects.count() >= 300, "all are stored")
    ids = [
        payload["data"]["key"]["id"]
        for payload in InboundEvent.objects.order_by("pk").values_list("payload", flat=True)
    ]
    assert ids == [f"ORDER{number:06d}" for number in range(1, 301)]


def test_it_notices_a_change_of_mode_within_a_second(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    assert listener_module.POLL_SECONDS <= 0.5
    assert switch(api, "webhook").status_code == 200
    wait_until(lambda: evolution.clients() == 0, "it leaves")
    wait_until(lambda: is_left(by_websocket))
    # Without a wake-up notification.
    WhatsAppSession.objects.update(webhook_enabled=False, websocket_enabled=True)
    wait_until(lambda: evolution.clients() == 1, "it joins")
    WhatsAppSession.objects.update(websocket_enabled=False)
    wait_until(lambda: evolution.clients() == 0, "it leaves")


def test_a_changed_address_or_key_takes_effect(
    by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    EvolutionCredentials.objects.update(url="http://127.0.0.1:9")
    wait_until(lambda: note(by_websocket) == "unreachable")
    assert evolution.clients() == 0
    EvolutionCredentials.objects.update(url=evolution.url)
    wait_until(joined(by_websocket))


@pytest.mark.parametrize("mode", ["webhook", "websocket"])
def test_an_inactive_channel_still_receives(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution, mode: str
) -> None:
    Channel.objects.update(active=False)
    # Both modes can still be chosen.
    assert switch(api, "webhook").status_code == 200
    if mode == "websocket":
        assert switch(api, "websocket").status_code == 200
    assert agreed(api, evolution) == mode
    with listening(1, beside=1):
        evolution.writes("ainda chega")
        wait_until(lambda: texts() == ["ainda chega"])


def test_the_listener_leaves_a_deleted_channel(
    by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    by_websocket.channel.delete()
    wait_until(lambda: evolution.clients() == 0)


@pytest.mark.usefixtures("fast_heartbeat")
def test_it_writes_a_heartbeat_for_each_session_and_for_itself(
    by_websocket: WhatsAppSession, listener: Any
) -> None:
    first = heartbeat(by_websocket)
    wait_until(lambda: heartbeat(by_websocket) > first)
    process = ListenerProcess.objects.get()
    assert process.name == listener.name
    wait_until(lambda: ListenerProcess.objects.get().seen_at > process.seen_at)


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The session updates pushed to open pages."""
    updates: list[tuple[str, Any]] = []
    publish = messaging_live.publish

    def listen(group: str, **changed: Any) -> None:
        if "sessions" in changed:
            updates.append((group, changed["sessions"]))
        publish(group, **changed)

    monkeypatch.setattr(messaging_live, "publish", listen)
    return updates


@pytest.mark.usefixtures("fast_heartbeat")
def test_open_pages_are_notified_of_the_heartbeat(
    by_websocket: WhatsAppSession, pushed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "SHOW_SECONDS", 0.1)
    wait_until(lambda: pushed.count(("instances", by_websocket.pk)) >= 2)


def test_open_pages_are_notified_that_a_killed_listener_is_gone(
    session: WhatsAppSession, pushed: list[Any]
) -> None:
    WhatsAppSession.objects.update(
        websocket_enabled=True,
        listener_connected=True,
        listener_seen_at=timezone.now() - registry.FRESH,
    )
    monitor.run_due()
    assert is_left(session)
    assert pushed == [("instances", session.pk)]
    # A live one is not changed.
    WhatsAppSession.objects.update(listener_connected=True, listener_seen_at=timezone.now())
    monitor.run_due()
    assert not is_left(session)
    assert len(pushed) == 1


@pytest.mark.usefixtures("listener")
def test_it_holds_several_sessions(session: WhatsAppSession, evolution: Evolution) -> None:
    from instances.receive_mode.handover import EVENTS

    create_channel(
        name="Filial",
        kind="baileys",
        evolution_url=evolution.url,
        evolution_api_key=KEY,
        instance_name=OTHER,
    )
    for name in (NAME, OTHER):
        evolution.set_websocket(name, list(EVENTS))
        evolution.open_namespace(name)
    WhatsAppSession.objects.update(websocket_enabled=True)
    wait_until(lambda: evolution.clients() == evolution.clients(OTHER) == 1)
    evolution.writes("para a oficina")
    evolution.control("inbound", instance=OTHER, text="para a filial")
    wait_until(lambda: sorted(texts()) == ["para a filial", "para a oficina"])
    channels = Message.objects.values_list(
        "conversation__channel__evolution__instance_name", "text"
    )
    assert set(channels) == {(NAME, "para a oficina"), (OTHER, "para a filial")}


# -- obstacles to joining --------------------------------------------------------------------------


@pytest.mark.usefixtures("listener")
def test_it_requests_the_namespace_until_it_exists(
    in_websocket_mode: WhatsAppSession, evolution: Evolution
) -> None:
    wait_until(lambda: note(in_websocket_mode) == "socket_not_open")
    evolution.open_namespace()
    wait_until(joined(in_websocket_mode))
    assert note(in_websocket_mode) == ""


@pytest.mark.usefixtures("listener")
def test_a_wrong_key_is_reported_and_retried(
    in_websocket_mode: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.open_namespace()
    wait_until(joined(in_websocket_mode))
    evolution.control("settings", websocket_allowed_hosts="10.0.0.1")
    EvolutionCredentials.objects.update(api_key="wrong")
    wait_until(lambda: note(in_websocket_mode) == "wrong_key")
    evolution.control("settings", api_key="wrong")
    wait_until(joined(in_websocket_mode))


@pytest.mark.usefixtures("listener")
def test_it_rejoins_after_a_restart_of_evolution_and_fetches_missed_messages(
    in_websocket_mode: WhatsAppSession, evolution: Evolution, fast_heartbeat: None
) -> None:
    evolution.open_namespace()
    wait_until(joined(in_websocket_mode))
    evolution.writes("antes")
    wait_until(lambda: texts() == ["antes"])
    wait_to_catch_up(in_websocket_mode)
    evolution.restart(0.3)
    wait_until(lambda: is_left(in_websocket_mode))
    wait_until(lambda: note(in_websocket_mode) == "socket_not_open")
    # The first event creates the namespace and reaches no client.
    first = evolution.writes("durante")
    assert first in evolution.undelivered()
    wait_until(joined(in_websocket_mode))
    evolution.writes("depois")
    wait_until(lambda: texts() == ["antes", "durante", "depois"])
    assert Message.objects.count() == 3


@pytest.mark.usefixtures("listener")
def test_after_a_gap_it_stores_missed_messages_once_in_order_and_before_new_ones(
    in_websocket_mode: WhatsAppSession, evolution: Evolution, fast_heartbeat: None
) -> None:
    evolution.open_namespace()
    wait_until(joined(in_websocket_mode))
    wait_to_catch_up(in_websocket_mode)
    evolution.fault("/socket.io", mode="status", status=502, times=1000)
    evolution.fault("/chat/findMessages", mode="slow", seconds=0.5)
    evolution.restart()
    wait_until(lambda: is_left(in_websocket_mode))
    now = int(time.time())
    missed = [f"perdida {n:03d}" for n in range(120)]  # more than one page
    for n, text in enumerate(missed):
        evolution.writes(text, timestamp=now - 300 + n if n < 3 else now)
    WhatsAppSession.objects.update(caught_up_at=timezone.now() - dt.timedelta(minutes=6))
    id_ = evolution.writes("lida")
    evolution.control("ack", instance=NAME, id=id_, status="READ")
    evolution.call("DELETE", "/_control/faults")
    evolution.fault("/chat/findMessages", mode="slow", seconds=0.5)
    wait_until(lambda: evolution.clients() == 1)
    evolution.writes("ao vivo")
    wait_until(lambda: texts()[-1:] == ["ao vivo"])
    assert texts() == [*missed, "lida", "ao vivo"]
    assert Message.objects.count() == 122
    kinds = [event["event"] for event in InboundEvent.objects.values_list("payload", flat=True)]
    assert "messages.update" in kinds


@pytest.fixture
def caught_up_session(
    in_websocket_mode: WhatsAppSession, evolution: Evolution, fast_heartbeat: None, listener: Any
) -> WhatsAppSession:
    """A session that is joined and has caught up."""
    evolution.open_namespace()
    wait_until(joined(in_websocket_mode))
    wait_to_catch_up(in_websocket_mode)
    return in_websocket_mode


def restart_and_wait(session: WhatsAppSession, evolution: Evolution) -> None:
    """Restart Evolution; the listener waits for the namespace."""
    evolution.restart(0.3)
    wait_until(lambda: is_left(session))
    wait_until(lambda: note(session) == "socket_not_open")


def test_messages_that_waited_at_whatsapp_are_fetched_despite_their_old_time(
    caught_up_session: WhatsAppSession, evolution: Evolution
) -> None:
    now = int(time.time())
    restart_and_wait(caught_up_session, evolution)
    # More than one page, hours old, although our socket was joined all the time.
    old = [f"velha {n:02d}" for n in range(60)]
    for n, text in enumerate(old):
        evolution.writes(text, timestamp=now - 5 * 3600 + 60 * n)
    wait_until(joined(caught_up_session))
    evolution.writes("depois")
    wait_until(lambda: "depois" in texts())
    wait_until(lambda: len(texts()) == 61)
    assert texts() == [*old, "depois"]


def statuses() -> list[str]:
    payloads = InboundEvent.objects.order_by("pk").values_list("payload", flat=True)
    return [p["data"]["status"] for p in payloads if p["event"] == "messages.update"]


def test_a_status_of_a_known_message_in_the_gap_is_fetched_once(
    caught_up_session: WhatsAppSession, evolution: Evolution
) -> None:
    id_ = evolution.writes("de antes", timestamp=int(time.time()) - 600)
    wait_until(lambda: texts() == ["de antes"])
    evolution.control("ack", instance=NAME, id=id_, status="DELIVERY_ACK")
    wait_until(lambda: statuses() == ["DELIVERY_ACK"])
    wait_to_catch_up(caught_up_session)
    for _ in range(2):
        restart_and_wait(caught_up_session, evolution)
        evolution.control("ack", instance=NAME, id=id_, status="READ")
        evolution.open_namespace()
        wait_until(joined(caught_up_session))
        wait_to_catch_up(caught_up_session)
        assert statuses() == ["DELIVERY_ACK", "READ"]
    assert texts() == ["de antes"]


def test_the_history_of_an_instance_taken_over_is_not_fetched(
    caught_up_session: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("inbound", instance=NAME, text="de outro programa", emit=False)
    wait_to_catch_up(caught_up_session)
    restart_and_wait(caught_up_session, evolution)
    # Pretend that all this happened an hour later.
    WhatsAppSession.objects.update(caught_up_at=timezone.now() + dt.timedelta(hours=1))
    evolution.open_namespace()
    wait_until(joined(caught_up_session))
    evolution.writes("de agora")
    wait_until(lambda: "de agora" in texts())
    assert texts() == ["de agora"]


def fetches(evolution: Evolution) -> int:
    return sum("/chat/findMessages" in request["path"] for request in evolution.ledger("requests"))


@pytest.mark.usefixtures("listener")
def test_a_failed_fetch_is_retried_and_does_not_delay_new_messages(
    in_websocket_mode: WhatsAppSession,
    evolution: Evolution,
    fast_heartbeat: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener_module, "FETCH_RETRY_SECONDS", 0.2)
    evolution.open_namespace()
    wait_until(joined(in_websocket_mode))
    wait_to_catch_up(in_websocket_mode)
    evolution.restart()
    wait_until(lambda: is_left(in_websocket_mode))
    evolution.fault("/chat/findMessages", times=1000)
    evolution.writes("perdida")
    wait_until(joined(in_websocket_mode))
    in_websocket_mode.refresh_from_db()
    caught_up_at = in_websocket_mode.caught_up_at
    evolution.writes("ao vivo")
    wait_until(lambda: texts() == ["ao vivo"])
    tried = fetches(evolution)
    wait_until(lambda: fetches(evolution) > tried + 1, "it is retried and fails")
    in_websocket_mode.refresh_from_db()
    assert in_websocket_mode.caught_up_at == caught_up_at, "missed messages would be lost"
    evolution.clear_faults()
    wait_until(lambda: sorted(texts()) == ["ao vivo", "perdida"])


def test_it_rejoins_after_the_server_disconnects_it_from_the_namespace(
    by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.disconnect_clients()
    wait_until(lambda: evolution.clients() == 1)
    evolution.writes("de volta")
    wait_until(lambda: texts() == ["de volta"])


class Proxy:
    """Forwards TCP until it is frozen; then connections stay open but silent."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._flowing = threading.Event()
        self._flowing.set()
        self._frozen: set[int] = set()
        self.connections = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Freeze the open connections; new ones work."""
        self._frozen = set(range(1, self.connections + 1))

    def close(self) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                server = socket.create_connection(self._target)
                self._open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._forward, args=(*pair, self.connections), daemon=True
                    ).start()

    def _forward(self, source: socket.socket, target: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if number not in self._frozen:
                    target.sendall(data)
        if number not in self._frozen:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)


@pytest.mark.usefixtures("fast_heartbeat")
def test_it_leaves_a_frozen_peer_after_a_late_ping(
    by_websocket: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "FETCH_RETRY_SECONDS", 0.2)
    # A reused connection may be frozen, too.
    monkeypatch.setitem(EvolutionInstance.__init__.__kwdefaults__, "timeout", 1.0)  # type: ignore[arg-type]
    proxy = Proxy(evolution.url)
    EvolutionCredentials.objects.update(url=proxy.url)
    wait_until(lambda: proxy.connections >= 1)
    wait_until(joined(by_websocket))
    wait_to_catch_up(by_websocket)
    proxy.freeze()
    evolution.writes("no gelo")
    wait_until(lambda: texts() == ["no gelo"], "it is missed and fetched")
    proxy.close()


# -- several processes -----------------------------------------------------------------------------


def create_sessions(evolution: Evolution, count: int) -> list[str]:
    """Create sessions in WebSocket mode with open namespaces."""
    from instances.receive_mode.handover import EVENTS

    names = [f"loja_{n}" for n in range(count)]
    for name in names:
        evolution.create(name)
        evolution.set_websocket(name, list(EVENTS))
        evolution.open_namespace(name)
        create_channel(
            name=name,
            kind="baileys",
            evolution_url=evolution.url,
            evolution_api_key=KEY,
            instance_name=name,
        )
    WhatsAppSession.objects.filter(channel__evolution__instance_name__in=names).update(
        websocket_enabled=True
    )
    return names


def all_joined(evolution: Evolution, names: list[str]) -> bool:
    instances = evolution.ledger("instances")["instances"]
    return all(instances[name]["clients"] == 1 for name in names)


@pytest.mark.usefixtures("session")
def test_two_processes_share_the_sessions(evolution: Evolution) -> None:
    names = create_sessions(evolution, 6)
    with listening(1) as [first]:
        wait_until(lambda: all_joined(evolution, names))
        assert len(first._held) == 6
        with listening(1, beside=1) as [second]:
            wait_until(lambda: len(first._held) == len(second._held) == 3)
            wait_until(lambda: all_joined(evolution, names))
            connected = WhatsAppSession.objects.filter(listener_connected=True)
            wait_until(lambda: connected.count() == 6)
        wait_until(lambda: len(first._held) == 6)
        wait_until(lambda: all_joined(evolution, names))


def test_a_transferred_session_loses_and_duplicates_nothing(
    by_websocket: WhatsAppSession, evolution: Evolution, listener: Any
) -> None:
    evolution.control("flood", instance=NAME, count=120, per_second=100, prefix="HANDS")
    with listening(1, beside=1) as [second]:
        wait_until(lambda: InboundEvent.objects.count() >= 40)
        listener.stop()
        wait_until(lambda: second._held, "the other process has it")
        wait_until(lambda: evolution.ledger("floods")[-1]["done"])
        wait_until(lambda: len(stored()) == 120)
    assert Message.objects.count() == 120


def test_the_sessions_of_a_killed_process_move_to_the_other(
    session: WhatsAppSession, evolution: Evolution, fast_heartbeat: None
) -> None:
    names = create_sessions(evolution, 4)
    with listener_process() as process:
        wait_for_listeners(1)
        wait_until(lambda: all_joined(evolution, names))
        with listening(1, beside=1) as [survivor]:
            wait_until(lambda: len(survivor._held) == 2)
            wait_until(lambda: all_joined(evolution, names))
            connected = WhatsAppSession.objects.filter(listener_connected=True)
            wait_until(lambda: connected.count() == 4)
            process.kill()
            process.wait()
            for name in names:
                evolution.control("inbound", instance=name, text=f"para {name}")
            wait_until(lambda: len(survivor._held) == 4)
            wait_until(lambda: all_joined(evolution, names))
            evolution.control("inbound", instance=names[0], text="depois")
            expected = sorted([*(f"para {name}" for name in names), "depois"])
            wait_until(lambda: sorted(stored()) == expected)


def stored() -> list[str]:
    read()
    return list(Message.objects.values_list("text", flat=True))


def test_sigterm_stores_all_received_events(
    in_websocket_mode: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.open_namespace()
    with listener_process() as process:
        wait_until(joined(in_websocket_mode))
        evolution.control("flood", instance=NAME, count=400, per_second=4000, prefix="DRAIN")
        wait_until(lambda: InboundEvent.objects.exists())
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert is_left(in_websocket_mode)
    assert ListenerProcess.objects.count() == 0
    reached = [e for e in evolution.ledger("events") if "socket" in e["reached"]]
    ids = {
        payload["data"]["key"]["id"]
        for payload in InboundEvent.objects.values_list("payload", flat=True)
        if payload["event"] == "messages.upsert"
    }
    sent = {e["message_id"] for e in reached if e["event"] == "messages.upsert"}
    # Events sent to a closing socket are lost; they are fetched at the next start.
    with listening():
        wait_until(lambda: stored_ids() >= sent)
    assert ids


def stored_ids() -> set[str]:
    return {
        payload["data"]["key"]["id"]
        for payload in InboundEvent.objects.values_list("payload", flat=True)
        if payload["event"] == "messages.upsert"
    }


def test_a_listener_killed_during_a_switch_leaves_one_mode_or_a_pending_switch(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution, impatient: None
) -> None:
    with listener_process() as process:
        wait_for_listeners(1)
        assert switch(api, "websocket").status_code == 202
        process.kill()
        process.wait()
    evolution.open_namespace()
    monitor.resume_handovers()
    assert_pending(api, evolution)
    evolution.writes("pelo webhook")
    wait_until(lambda: texts() == ["pelo webhook"])
    with listening():
        wait_until(joined(by_webhook))
        monitor.resume_handovers()
        assert agreed(api, evolution) == "websocket"


# -- the database is down --------------------------------------------------------------------------


def test_events_wait_while_postgresql_is_down_and_none_is_lost(
    by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("flood", instance=NAME, count=100, per_second=100, prefix="AWAY")
    with no_database():
        wait_until(lambda: len(evolution.ledger("events")) > 50, "events arrive meanwhile")
        assert evolution.clients() == 1, "it stays joined"
        evolution.control("event", instance=NAME, event="call", data={"id": "C1"})
    wait_until(lambda: InboundEvent.objects.count() >= 101)
    assert Message.objects.count() == 0
    assert len(texts()) == 100
    wait_until(lambda: registry.running() == 1)
    wait_until(joined(by_websocket))


def test_an_unstorable_event_does_not_block_the_others(
    by_websocket: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_all = journal.store_all

    def picky(source: str, events: Any) -> None:
        if any("veneno" in str(getattr(event, "payload", "")) for event in events):
            raise ValueError("not this one")
        store_all(source, events)

    monkeypatch.setattr(journal, "store_all", picky)
    for text in ("um", "veneno", "dois"):
        evolution.writes(text)
    stub = InboundEvent.objects.filter(state="set_aside", error="ValueError")
    wait_until(lambda: stub.exists())
    stored = Message.objects.values_list("text", flat=True)
    wait_until(lambda: read() or set(stored.all()) == {"um", "dois"})


def test_the_writer_retries_until_the_database_accepts_the_event(
    by_websocket: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_all, failures = journal.store_all, [3]

    def flaky(source: str, events: Any) -> None:
        if failures[0]:
            failures[0] -= 1
            raise OperationalError("away")
        store_all(source, events)

    monkeypatch.setattr(journal, "store_all", flaky)
    evolution.writes("insistente")
    wait_until(lambda: texts() == ["insistente"])


def test_its_threads_return_their_connections(
    by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    for n in range(5):
        evolution.writes(f"mensagem {n}")
    wait_until(lambda: len(texts()) == 5)
    pool = connection.pool
    assert pool is not None
    wait_until(
        lambda: pool.get_stats()["pool_size"] - pool.get_stats()["pool_available"] <= 3,
        "only the test, the writer and the loop keep one",
    )


# -- global mode -----------------------------------------------------------------------------------


@pytest.fixture
def global_events_session(by_webhook: WhatsAppSession, listener: Any, impatient: None) -> Any:
    WhatsAppSession.objects.update(global_events=True)
    return by_webhook


def test_in_global_mode_the_first_event_of_any_instance_completes_the_switch(
    api: APIClient, global_events_session: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("settings", websocket_global_events=True)
    assert switch(api, "websocket").status_code == 202
    wait_until(lambda: note(global_events_session) == "socket_unproven")
    assert "any other instance on its server" in shown().notices
    evolution.writes("de outra", OTHER)
    wait_until(joined(global_events_session))
    monitor.resume_handovers()
    assert agreed(api, evolution) == "websocket"
    evolution.writes("nossa")
    evolution.writes("nossa também")
    # Once each, although the instance's own namespace is open, too.
    wait_until(lambda: texts() == ["nossa", "nossa também"])
    names = {event["instance"] for event in InboundEvent.objects.values_list("payload", flat=True)}
    assert names == {NAME}


def test_a_wrong_global_mode_setting_loses_no_message(
    api: APIClient, global_events_session: WhatsAppSession, evolution: Evolution
) -> None:
    assert switch(api, "websocket").status_code == 202
    wait_until(lambda: note(global_events_session) == "socket_unproven")
    evolution.writes("de outra", OTHER)
    monitor.resume_handovers()
    assert agreed_or_pending(api) == "pending"
    evolution.writes("pelo webhook")
    wait_until(joined(global_events_session), "its own namespace is open")
    monitor.resume_handovers()
    assert agreed(api, evolution) == "websocket"
    evolution.writes("pelo socket")
    wait_until(lambda: texts() == ["pelo webhook", "pelo socket"])
    evolution.restart(0.3)
    wait_until(lambda: is_left(global_events_session))
    wait_until(lambda: note(global_events_session) == "socket_unproven")
    evolution.writes("para ninguém")
    wait_until(lambda: texts()[2:] == ["para ninguém"], "it is fetched")
    wait_until(joined(global_events_session))


def agreed_or_pending(api: APIClient) -> str:
    current = state(api)
    return "pending" if current["switching"] else "agreed"


def test_staff_can_set_that_a_server_is_in_global_mode(
    by_websocket: WhatsAppSession, evolution: Evolution, admin_client: Client, plain_static: None
) -> None:
    evolution.control("settings", websocket_global_events=True)
    address = f"/admin/instances/whatsappsession/{by_websocket.pk}/change/"
    page = admin_client.get(address).content.decode()
    assert by_websocket.webhook_secret not in page
    answer = admin_client.post(address, {"global_events": "on", "websocket_enabled": ""})
    assert answer.status_code == 302
    by_websocket.refresh_from_db()
    assert (by_websocket.global_events, by_websocket.websocket_enabled) == (True, True)
    # It also joins the root.
    wait_until(lambda: evolution.ledger("instances")["root_clients"] == 1)
    wait_until(joined(by_websocket))
    evolution.writes("uma vez só")
    evolution.writes("e a outra")
    wait_until(lambda: texts() == ["uma vez só", "e a outra"])


# -- bytes and payloads that are not events --------------------------------------------------------


def test_messages_with_bytes_arrive_once_by_both_transports(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    """Most real messages hold bytes, sent as attachments (docs/providers/evolution.md §10.1)."""
    kinds = ("text", "image", "video", "location", "audio", "document", "sticker")
    for kind in kinds:
        evolution.control("inbound", instance=NAME, kind=kind, id=f"S-{kind}", text=kind)
    sent = [f"S-{kind}" for kind in kinds]
    wait_until(lambda: read() or Message.objects.count() == len(kinds), "all are messages")
    by_id = dict(Message.objects.values_list("provider_message_id", "type"))
    assert by_id == dict(zip(sent, kinds, strict=True))
    assert not InboundEvent.objects.filter(state="set_aside").exists()
    stored = InboundEvent.objects.get(payload__data__key__id="S-image").payload["data"]["message"]
    assert len(base64.b64decode(stored["messageContextInfo"]["messageSecret"])) == 32
    assert base64.b64decode(stored["imageMessage"]["jpegThumbnail"]).startswith(b"\xff\xd8")
    location = Message.objects.get(type="location").content
    assert (location["latitude"], location["longitude"]) == (-23.5, -46.6)
    # The same events by webhook and as records are stored once.
    assert switch(api, "webhook").status_code == 200
    for entry in evolution.ledger("events", event="messages.upsert", payload="1"):
        evolution.control("event", instance=NAME, event="messages.upsert", data=entry["data"])
    evolution.writes("last", id="W-last")
    wait_until(lambda: read() or Message.objects.filter(provider_message_id="W-last").exists())
    assert Message.objects.count() == len(kinds) + 1
    since = timezone.now() - dt.timedelta(hours=1)
    assert backfill.fetch(by_websocket, since=since).arrivals == []


def test_a_non_event_is_stored_as_a_stub_and_the_next_events_arrive(
    by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    sockets = evolution._simulator.engine.hub.sockets._server
    loop = evolution._simulator.client._loop
    namespace = f"/{NAME}"

    def emit(*arguments: Any) -> None:
        sent = sockets.emit(arguments[0], arguments[1], namespace=namespace)
        asyncio.run_coroutine_threadsafe(sent, loop).result(5)

    def send_packets(*packets: str | bytes) -> None:
        async def send() -> None:
            for sid in list(sockets.eio.sockets):
                for packet in packets:
                    await sockets.eio.send(sid, packet)

        asyncio.run_coroutine_threadsafe(send(), loop).result(5)

    emit("messages.upsert", "text")
    emit("messages.upsert", {"event": "messages.upsert", "data": {}})
    emit("messages.upsert", b"\x01")
    emit("messages.upsert", ({"instance": NAME}, "two"))
    send_packets(f'51-{namespace},["x",{{"_placeholder":true,"num":7}}]', b"\x01")
    send_packets(f'2{namespace},["x",{{broken')
    send_packets(f'2{namespace},["x",' + "[" * 100_000)
    stubs = InboundEvent.objects.filter(state="set_aside")
    wait_until(lambda: stubs.count() == 7, "all are stubs")
    evolution.writes("still here")
    wait_until(lambda: texts_without_stubs() == ["still here"])
    raws = [raw_files.read(name) for name in stubs.values_list("raw_file", flat=True)]
    assert sum(b"broken" in raw for raw in raws) == 1


def texts_without_stubs() -> list[str]:
    read()
    return list(Message.objects.values_list("text", flat=True))
