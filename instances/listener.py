"""The listener: keeps every session in WebSocket mode joined, and stores what comes.

Any number of listener processes share the sessions. A session belongs to the process that holds
its advisory lock; locks end with their connection, so what a dead process had is free at once.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import os
import queue
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from django.db import DatabaseError, close_old_connections, connection
from django.db.models import Q
from django.utils import timezone
from psycopg_pool import PoolTimeout

from channels_app.providers.evolution_instance import EvolutionFailed, EvolutionInstance
from instances import listeners, live, tasks
from instances.models import ListenerProcess, Mode, WhatsAppSession
from instances.socket_client import Address, SocketClient
from messaging.inbound import evolution, journal
from messaging.models import InboundEvent

log = structlog.get_logger(__name__)

_LOCK_CLASS = 0x4C53_544E
LOOK_SECONDS = 0.5
# The cut of a connection may go unnoticed for Evolution's ping interval and timeout (25 + 20 s).
OVERLAP = dt.timedelta(seconds=60)
GAP_PAGES = 20
GAP_PAGE_SIZE = 100
BATCH = 200
MOST_WAITING = 50_000
_AWAY = (DatabaseError, PoolTimeout, psycopg.Error)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A session that should be joined, as the database has it now."""

    session_id: int
    channel_id: int
    address: Address


class Writer:
    """Writes events to the journal in the order of their arrival, in batches.

    While the database is away it keeps them and tries again; when too many wait, readers of the
    sockets wait, too, and Evolution keeps the rest in its own buffers.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[journal.Raw | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, raw: journal.Raw) -> None:
        self._queue.put(raw)

    def stop(self, timeout: float = 15.0) -> None:
        """Write what waits, then end."""
        self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        last = False
        while not last:
            batch = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < BATCH:
                    batch.append(self._queue.get_nowait())
            last = None in batch
            self._write([raw for raw in batch if raw is not None])
        connection.close()

    def _write(self, batch: list[journal.Raw]) -> None:
        pause = 0.1
        while batch:
            try:
                journal.store_all(InboundEvent.Source.EVOLUTION, batch)
            except _AWAY as error:
                log.warning("events wait for the database", n=len(batch), error=str(error)[:200])
                connection.close()
                time.sleep(pause)
                pause = min(pause * 2, 5.0)
            else:
                return


class Held:
    """A session that this process holds: its socket, and what is told about it."""

    def __init__(self, wanted: Wanted, writer: Writer) -> None:
        self.wanted = wanted
        self._writer = writer
        self.client = SocketClient(wanted.address, on_event=self._store, on_change=self._told)

    def _store(self, payload: dict[str, Any]) -> None:
        self._writer.put(
            journal.Raw(
                source_key=str(self.wanted.channel_id),
                dedupe_key=evolution.dedupe_key(payload),
                payload=payload,
            )
        )

    def _told(self, joined: bool, note: str) -> None:
        try:
            close_old_connections()
            tell(self.wanted.session_id, joined=joined, note=note)
            if joined:
                self._fetch_missed()
        except _AWAY as error:
            log.warning("session state not written", error=str(error)[:200])
        finally:
            connection.close()

    def _fetch_missed(self) -> None:
        """Store what came while nobody listened: bounded, oldest first, each message once."""
        session = WhatsAppSession.objects.select_related("channel").get(pk=self.wanted.session_id)
        if session.caught_up_at is None:
            return
        since = session.caught_up_at - OVERLAP
        try:
            records = missed_records(EvolutionInstance(session.channel), since=since)
        except EvolutionFailed as error:
            log.warning("missed messages not fetched", instance=session.name, error=str(error))
            return
        for record in records:
            self._store(evolution.as_event(session.name, record))
            for payload in evolution.statuses_of(record, session.name):
                self._store(payload)
        if records:
            log.info("missed messages fetched", instance=session.name, n=len(records))


def missed_records(instance: EvolutionInstance, *, since: dt.datetime) -> list[dict[str, Any]]:
    """Return the stored messages since a time, oldest first. Raises EvolutionFailed."""
    found: list[dict[str, Any]] = []
    for page in range(1, GAP_PAGES + 1):
        records = instance.messages(page=page, size=GAP_PAGE_SIZE)
        recent = [record for record in records if _timestamp(record) >= since.timestamp()]
        found += recent
        if len(recent) < len(records) or len(records) < GAP_PAGE_SIZE:
            break
    else:
        log.warning("more was missed than is fetched", limit=GAP_PAGES * GAP_PAGE_SIZE)
    return found[::-1]


def _timestamp(record: dict[str, Any]) -> float:
    try:
        return float(record.get("messageTimestamp") or 0)
    except (TypeError, ValueError):
        return 0.0


def tell(session_id: int, *, joined: bool, note: str) -> None:
    """Write down that a session was joined or left, and let a waiting handover go on."""
    now = timezone.now()
    values: dict[str, Any] = {"listener_connected": joined, "listener_note": note[:200]}
    if joined:
        values["listener_seen_at"] = now
    session = WhatsAppSession.objects.select_related("channel").get(pk=session_id)
    changed = any(getattr(session, name) != value for name, value in values.items())
    WhatsAppSession.objects.filter(pk=session_id).update(**values)
    if changed:
        live.session_changed(session)
        log.info(
            "socket joined" if joined else "socket not joined", instance=session.name, note=note
        )
    if joined and session.switching_to == Mode.WEBSOCKET:
        tasks.enqueue_resume(session_id)


class Listener:
    """The loop of one process."""

    def __init__(self, *, most: int | None = None) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._most = most
        self._held: dict[int, Held] = {}
        self._writer = Writer()
        self._beat_at = 0.0
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Hold sessions until stopped; wait for the database where it is away."""
        self._writer.start()
        pause = 0.5
        while not self._stopping.is_set():
            try:
                with self._connect() as locks:
                    pause = 0.5
                    self._hold(locks)
            except _AWAY as error:
                log.warning("the database is away; sessions are left", error=str(error)[:200])
                self._drop(list(self._held))
                connection.close()
                self._stopping.wait(pause)
                pause = min(pause * 2, 10.0)
        self._drop(list(self._held))
        self._writer.stop()
        with contextlib.suppress(*_AWAY):
            ListenerProcess.objects.filter(name=self.name).delete()
        connection.close()

    def _connect(self) -> psycopg.Connection[Any]:
        """A connection of its own: its life is the life of the locks."""
        connection.ensure_connection()
        assert connection.connection is not None
        info = connection.connection.info
        locks = psycopg.connect(info.dsn, password=info.password or None, autocommit=True)
        locks.execute(f"LISTEN {listeners.WAKE_CHANNEL}")
        return locks

    def _hold(self, locks: psycopg.Connection[Any]) -> None:
        ListenerProcess.objects.update_or_create(
            name=self.name, defaults={"started_at": timezone.now(), "seen_at": timezone.now()}
        )
        self._beat_at = 0.0
        while not self._stopping.is_set():
            close_old_connections()
            self._reconcile(locks)
            self._beat()
            for _ in locks.notifies(timeout=LOOK_SECONDS, stop_after=1):
                break

    def _reconcile(self, locks: psycopg.Connection[Any]) -> None:
        """Leave what is not wanted any more, then take what nobody holds, up to a fair share."""
        wanted = {item.session_id: item for item in wanted_sessions()}
        gone = [id_ for id_, held in self._held.items() if wanted.get(id_) != held.wanted]
        self._drop(gone, locks)
        share = self._share(len(wanted))
        self._drop(list(self._held)[share:], locks)
        for session_id, item in wanted.items():
            if len(self._held) >= share:
                break
            if session_id not in self._held and _try_lock(locks, session_id):
                held = self._held[session_id] = Held(item, self._writer)
                held.client.start()

    def _share(self, wanted: int) -> int:
        fresh = timezone.now() - listeners.FRESH
        processes = max(1, ListenerProcess.objects.filter(seen_at__gt=fresh).count())
        share = math.ceil(wanted / processes)
        return share if self._most is None else min(share, self._most)

    def _beat(self) -> None:
        """Say that this process lives, and which of its sessions are joined."""
        if time.monotonic() - self._beat_at < listeners.HEARTBEAT_SECONDS:
            return
        self._beat_at = time.monotonic()
        now = timezone.now()
        ListenerProcess.objects.filter(name=self.name).update(seen_at=now)
        joined = [id_ for id_, held in self._held.items() if held.client.joined]
        WhatsAppSession.objects.filter(pk__in=joined).update(listener_seen_at=now, caught_up_at=now)

    def _drop(
        self, session_ids: Iterable[int], locks: psycopg.Connection[Any] | None = None
    ) -> None:
        dropped = [(id_, self._held.pop(id_)) for id_ in session_ids]
        stoppers = [threading.Thread(target=held.client.stop) for _, held in dropped]
        for thread in stoppers:
            thread.start()
        for thread in stoppers:
            thread.join()
        for session_id, _ in dropped:
            if locks is not None:
                tell(session_id, joined=False, note="")
                locks.execute("SELECT pg_advisory_unlock(%s, %s)", [_LOCK_CLASS, session_id])


def wanted_sessions() -> list[Wanted]:
    """Return the sessions that are, or are about to be, in WebSocket mode."""
    sessions = (
        WhatsAppSession.objects.select_related("channel")
        .filter(Q(websocket_enabled=True) | Q(switching_to=Mode.WEBSOCKET), channel__active=True)
        .order_by("pk")
    )
    return [
        Wanted(
            session_id=session.pk,
            channel_id=session.channel_id,
            address=Address(
                url=session.channel.evolution_url,
                key=session.channel.evolution_api_key,
                instance=session.name,
                shared=session.global_events,
            ),
        )
        for session in sessions
    ]


def _try_lock(locks: psycopg.Connection[Any], session_id: int) -> bool:
    row = locks.execute("SELECT pg_try_advisory_lock(%s, %s)", [_LOCK_CLASS, session_id]).fetchone()
    return bool(row and row[0])
