"""The listener: keeps every session in WebSocket mode joined, and stores what comes.

Any number of listener processes share the sessions. A session belongs to the process that holds
its advisory lock; locks end with their connection, so what a dead process had is free at once.

Threads: one a socket, which only hands things over (instances.listener.socket_client); the
writer, which alone writes events; a few that tell what was joined and fetch what was missed; the
main loop.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import os
import queue
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from django.db import close_old_connections, connection
from django.db.models import Q
from django.utils import timezone

from channels_app.connections.states import State
from channels_app.providers.evolution.receive_mode import EvolutionFailed
from core.heartbeat_file import Heartbeat
from instances import live, receiving, tasks
from instances.connections.probe_requests import request_probe
from instances.listener import locks, registry
from instances.listener.socket_client import Address, SocketClient
from instances.models import ListenerProcess, Mode, WhatsAppSession
from instances.receive_mode import backfill
from messaging.inbound import journal
from messaging.inbound.arrivals import Arrival

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
BATCH = 200
MOST_WAITING = 50_000
# A session that changes hands is heard by both processes for a moment.
LINGER_SECONDS = 3.0
DRAIN_SECONDS = 15.0
TELLERS, FETCHERS = 2, 4
# How long events wait for the fetching of what came before them.
ORDER_SECONDS = 5.0
FETCH_AGAIN_SECONDS = 5.0
# How often open pages show a new sign of life; they tell minutes.
SHOW_SECONDS = 30.0
# The database, or the place of the files, cannot be reached now.
_AWAY = (*receiving.AWAY, psycopg.OperationalError, psycopg.InterfaceError)


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """A session that should be joined, as the database has it now."""

    session_id: int
    channel_id: int
    address: Address


class BatchWriter:
    """Writes events to the journal in the order of their arrival, in batches.

    While the database is away it keeps them and tries again; when too many wait, readers of the
    sockets wait, too, and Evolution keeps the rest in its own buffers.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[float, Arrival] | None] = queue.Queue(MOST_WAITING)
        self._writing_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, channel_id: int, payload: Any) -> None:
        """Have an event stored, or whatever came in its place (`inbound.arrivals`)."""
        self._queue.put((time.time(), Arrival(str(channel_id), payload)))

    def put_unreadable(self, channel_id: int, raw: bytes) -> None:
        """Have the bytes of a packet stored that is no event."""
        self._queue.put((time.time(), Arrival.from_body(str(channel_id), raw)))

    def written_until(self) -> dt.datetime:
        """Return a time before which every event that was put has been stored."""
        now = time.time()
        with self._queue.mutex:
            head = self._queue.queue[0] if self._queue.queue else None
        waiting = [now, self._writing_since or now, head[0] if head else now]
        return dt.datetime.fromtimestamp(min(waiting), tz=dt.UTC)

    def stop(self, timeout: float = DRAIN_SECONDS) -> bool:
        """Write what waits, then end. Returns whether all was written in time (seconds)."""
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        last = False
        while not last:
            first = self._queue.get()
            self._writing_since = first[0] if first else None
            batch = [first]
            with contextlib.suppress(queue.Empty):
                while len(batch) < BATCH:
                    batch.append(self._queue.get_nowait())
            last = None in batch
            self._store([item[1] for item in batch if item is not None])
            self._writing_since = None
        connection.close()

    def _store(self, batch: list[Arrival]) -> None:
        """Store them, as stubs where need be; wait as long as it takes."""
        pause = 0.1
        while batch:
            try:
                journal.receive(receiving.SOURCE, batch)
                return
            except _AWAY as error:
                log.warning("events wait for the database", n=len(batch), error=str(error)[:200])
            except Exception:
                # Not even as a stub: the installation is at fault, not the event. None is dropped.
                log.exception("events cannot be stored", n=len(batch))
            connection.close()
            time.sleep(pause)
            pause = min(pause * 2, 5.0)


class SessionWorker:
    """A session that this process holds: its socket, and what is told about it."""

    def __init__(
        self,
        wanted: SessionSpec,
        writer: BatchWriter,
        *,
        tellers: ThreadPoolExecutor,
        fetchers: ThreadPoolExecutor,
    ) -> None:
        self.wanted = wanted
        self.caught_up = False
        self.fetch_again_at = math.inf
        # In other hands already: only its last events are still wanted from us.
        self.leaving = False
        self._writer = writer
        self._tellers = tellers
        self._fetchers = fetchers
        self._gate = threading.Lock()
        self._joins = 0
        # Events since the join, while what came before it is fetched.
        self._waiting: deque[Any] | None = None
        self._waiting_until = math.inf
        self._telling = False
        self._note = ""
        self.client = SocketClient(
            wanted.address,
            on_event=self._receive,
            on_change=self._changed,
            on_unreadable=lambda raw: writer.put_unreadable(wanted.channel_id, raw),
        )

    def report_state(self) -> None:
        """Write down the state of the socket, soon; once for many calls."""
        with self._gate:
            if self._telling or self.leaving:
                return
            self._telling = True
        _submit(self._tellers, self._tell)

    def fetch(self) -> None:
        """Fetch what was missed, soon."""
        self.fetch_again_at = math.inf
        _submit(self._fetchers, self._fetch)

    def let_events_go(self) -> None:
        """Store what waits for the fetching of what came before it."""
        with self._gate:
            self._let_go()

    def is_late(self) -> bool:
        """Whether events have waited long enough for what came before them."""
        return time.monotonic() > self._waiting_until

    def leave(self) -> None:
        """Another process, or nobody, has this session now: nothing is told of it any more."""
        self.leaving = True

    def _receive(self, payload: Any) -> None:
        with self._gate:
            if self._waiting is not None:
                self._waiting.append(payload)
                if len(self._waiting) > MOST_WAITING:
                    self._let_go()
                return
        self._writer.put(self.wanted.channel_id, payload)

    def _let_go(self) -> None:
        for payload in self._waiting or ():
            self._writer.put(self.wanted.channel_id, payload)
        self._waiting, self._waiting_until = None, math.inf

    def _changed(self, joined: bool, note: str) -> None:
        if joined:
            with self._gate:
                self._joins += 1
                self.caught_up = False
                self._waiting = deque()
                self._waiting_until = time.monotonic() + ORDER_SECONDS
        else:
            self.caught_up = False
        self._note = note
        self.report_state()
        if joined:
            self.fetch()

    def _tell(self) -> None:
        try:
            close_old_connections()
            with self._gate:
                self._telling = False
            if not self.leaving:
                record_join_state(
                    self.wanted.session_id, joined=self.client.joined, note=self._note
                )
        except _AWAY as error:
            # The main loop sees that it is not told, and asks again.
            log.warning("session state not written", error=str(error)[:200])
        except Exception:
            log.exception("session state not written")
        finally:
            connection.close()

    def _fetch(self) -> None:
        """Store what came while nobody listened, before what comes now: each message once."""
        joins, done = self._joins, False
        try:
            close_old_connections()
            done = self._fetch_missed()
        except _AWAY as error:
            log.warning("missed messages not stored", error=str(error)[:200])
        except Exception:
            log.exception("missed messages not stored")
        finally:
            connection.close()
            with self._gate:
                if joins == self._joins:
                    self._let_go()
                    self.caught_up = done and self.client.joined
                    if not done:
                        self.fetch_again_at = time.monotonic() + FETCH_AGAIN_SECONDS

    def _fetch_missed(self) -> bool:
        session = WhatsAppSession.objects.select_related("channel").get(pk=self.wanted.session_id)
        if session.caught_up_at is None:
            # Heard for the first time; whoever comes after us fetches from here.
            never = WhatsAppSession.objects.filter(pk=session.pk, caught_up_at=None)
            never.update(caught_up_at=timezone.now())
            return True
        try:
            found = backfill.fetch(
                session, since=session.caught_up_at, abandoned=lambda: self.leaving
            )
        except EvolutionFailed as error:
            if not self.leaving:
                log.warning("missed messages not fetched", instance=session.name, error=error.kept)
                if not error.answered:
                    request_probe(session.pk)
            return False
        # What came since the join waits for these; they are counted once they are stored.
        backfill.store(session, found)
        reason = backfill.Reason.LISTENER
        backfill.note_recovered(session, found.messages, reason=reason, since=session.caught_up_at)
        if not found.complete:
            # A long gap: the job goes on from the oldest.
            backfill.request(session.pk, reason=reason)
        return True


def _submit(pool: ThreadPoolExecutor, work: Callable[[], None]) -> None:
    # After the end nobody is told any more.
    with contextlib.suppress(RuntimeError):
        pool.submit(work)


def record_join_state(session_id: int, *, joined: bool, note: str) -> None:
    """Write down that a session was joined or left, and let a waiting handover go on."""
    session = WhatsAppSession.objects.select_related("channel").filter(pk=session_id).first()
    if session is None:
        return
    values: dict[str, Any] = {"listener_connected": joined, "listener_note": note[:200]}
    changed = any(getattr(session, name) != value for name, value in values.items())
    if joined:
        values["listener_seen_at"] = timezone.now()
    WhatsAppSession.objects.filter(pk=session_id).update(**values)
    if changed:
        live.session_changed(session)
        log.info(
            "socket joined" if joined else "socket not joined", instance=session.name, note=note
        )
    # A socket that broke may be the first sign that the server, or the instance, is gone; one that
    # was joined, that they are back.
    if changed and (note or (joined and session.state != State.READY)):
        request_probe(session_id, is_back=joined)
    if joined and session.switching_to == Mode.WEBSOCKET:
        tasks.enqueue_resume(session_id)


class Listener:
    """The loop of one process."""

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._held: dict[int, SessionWorker] = {}
        # Given to another process, and still heard for a moment: until when.
        self._leaving: list[tuple[float, SessionWorker]] = []
        self._writer = BatchWriter()
        self._tellers = ThreadPoolExecutor(TELLERS, thread_name_prefix="listener-tells")
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="listener-fetches")
        self._process_id = 0
        self._sign = Heartbeat("listener")
        self._beat_at = self._shown_at = -math.inf
        self._stopping = False

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Hold sessions until stopped; wait for the database where it is away."""
        self._writer.start()
        pause = 0.2
        while not self._stopping:
            try:
                with locks.connect() as holder:
                    pause = 0.2
                    self._hold(holder)
                    self._hand_over(holder)
            except _AWAY as error:
                # The sockets stay joined meanwhile, and the writer keeps what they bring.
                log.warning("the database is away", error=str(error)[:200])
                connection.close()
                time.sleep(pause)
                pause = min(pause * 2, 2.0)
        self._end()

    def _hold(self, holder: psycopg.Connection[Any]) -> None:
        self._sign_in(holder)
        for session_id in list(self._held):
            # The locks went with the last connection; somebody else may have been faster.
            if not locks.try_lock(holder, locks.SESSION, session_id):
                self._linger(session_id)
        while not self._stopping:
            close_old_connections()
            self._beat()
            self._reconcile(holder)
            for _ in holder.notifies(timeout=LOOK_SECONDS, stop_after=1):
                break

    def _sign_in(self, holder: psycopg.Connection[Any]) -> None:
        holder.execute(f"LISTEN {registry.WAKE_CHANNEL}")
        now = timezone.now()
        ListenerProcess.objects.filter(seen_at__lt=now - dt.timedelta(hours=1)).delete()
        process, _ = ListenerProcess.objects.update_or_create(
            name=self.name,
            defaults={"seen_at": now},
            create_defaults={"started_at": now, "seen_at": now},
        )
        self._process_id = process.pk
        locks.try_lock(holder, locks.PROCESS, process.pk)

    def _reconcile(self, holder: psycopg.Connection[Any]) -> None:
        """Leave what is not wanted any more, then take what nobody holds, up to a fair share."""
        wanted = wanted_session_specs()
        self._stop_leaving()
        for session_id in [id_ for id_ in self._held if id_ not in wanted]:
            held = self._held.pop(session_id)
            held.leave()
            held.client.stop()
            record_join_state(session_id, joined=False, note="")
            locks.unlock(holder, locks.SESSION, session_id)
        for session_id, held in self._held.items():
            item, told = wanted[session_id]
            if held.is_late():
                held.let_events_go()
            if item != held.wanted:
                held.leave()
                held.client.stop()
                self._take(item)
            elif told != held.client.joined:
                held.report_state()
            elif held.fetch_again_at < time.monotonic():
                held.fetch()
        share = math.ceil(len(wanted) / max(1, registry.running()))
        if surplus := list(self._held)[share:]:
            self._give_away(surplus, holder)
            return
        for session_id, (item, _) in wanted.items():
            if len(self._held) >= share:
                break
            if session_id not in self._held and locks.try_lock(holder, locks.SESSION, session_id):
                self._take(item)

    def _take(self, item: SessionSpec) -> None:
        held = self._held[item.session_id] = SessionWorker(
            item, self._writer, tellers=self._tellers, fetchers=self._fetchers
        )
        held.client.start()

    def _give_away(self, session_ids: Iterable[int], holder: psycopg.Connection[Any]) -> None:
        """Let other processes have these sessions."""
        for session_id in session_ids:
            self._linger(session_id)
            record_join_state(session_id, joined=False, note="")
            locks.unlock(holder, locks.SESSION, session_id)
        registry.wake()

    def _linger(self, session_id: int) -> None:
        """Go on listening until the other process, which has the session now, has joined."""
        held = self._held.pop(session_id)
        held.leave()
        self._leaving.append((time.monotonic() + LINGER_SECONDS, held))

    def _stop_leaving(self, *, all_of_them: bool = False) -> None:
        now = time.monotonic()
        for until, held in self._leaving:
            if all_of_them or until < now:
                held.client.stop()
        self._leaving = [(u, h) for u, h in self._leaving if not all_of_them and u >= now]

    def _beat(self) -> None:
        """Say that this process lives, and which of its sessions are joined."""
        if time.monotonic() - self._beat_at < registry.HEARTBEAT_SECONDS:
            return
        self._beat_at = time.monotonic()
        now, stored = timezone.now(), self._writer.written_until()
        # First which are whole, then what is stored: what is not whole by now is not counted.
        joined = [id_ for id_, held in self._held.items() if held.client.joined]
        whole = [id_ for id_ in joined if self._held[id_].caught_up]
        ListenerProcess.objects.filter(pk=self._process_id).update(seen_at=now)
        sessions = WhatsAppSession.objects
        sessions.filter(pk__in=joined).update(listener_seen_at=now)
        sessions.filter(pk__in=whole).update(caught_up_at=stored)
        self._sign.give()
        if time.monotonic() - self._shown_at > SHOW_SECONDS:
            self._shown_at = time.monotonic()
            for session_id in joined:
                live.session_beat(session_id)

    def _hand_over(self, holder: psycopg.Connection[Any]) -> None:
        """Give the sessions to the other processes, if there are any, and listen until they do."""
        ListenerProcess.objects.filter(pk=self._process_id).delete()
        locks.unlock(holder, locks.PROCESS, self._process_id)
        mine = list(self._held)
        somebody = registry.running() > 0
        self._give_away(mine, holder)
        until = time.monotonic() + (LINGER_SECONDS if somebody else 0)
        told = WhatsAppSession.objects.filter(pk__in=mine, listener_connected=True)
        while time.monotonic() < until and told.count() < len(mine):
            time.sleep(0.1)

    def _end(self) -> None:
        self._sign.end()
        every = [*self._held.values(), *(held for _, held in self._leaving)]
        for held in every:
            held.leave()
            held.client.stop()
        until = time.monotonic() + 5.0
        for held in every:
            held.client.wait(max(0.0, until - time.monotonic()))
        for pool in (self._tellers, self._fetchers):
            pool.shutdown(cancel_futures=True)
        for held in every:
            held.let_events_go()
        if not self._writer.stop():
            log.error("events were not stored in time; the next listener fetches the messages")
        with contextlib.suppress(*_AWAY):
            ListenerProcess.objects.filter(pk=self._process_id).delete()
        connection.close()


def wanted_session_specs() -> dict[int, tuple[SessionSpec, bool]]:
    """Return the sessions that are, or are about to be, in WebSocket mode, by their id.

    A channel that is not active sends nothing, and goes on receiving.

    The second of each pair says whether the session is told to be joined.
    """
    sessions = (
        WhatsAppSession.objects.select_related("channel")
        .filter(Q(websocket_enabled=True) | Q(switching_to=Mode.WEBSOCKET))
        .only(
            *("global_events", "listener_connected", "channel__evolution_url"),
            *("channel__evolution_api_key", "channel__instance_name"),
        )
        .order_by("pk")
    )
    return {
        session.pk: (
            SessionSpec(
                session_id=session.pk,
                channel_id=session.channel_id,
                address=Address(
                    url=session.channel.evolution_url,
                    key=session.channel.evolution_api_key,
                    instance=session.name,
                    shared=session.global_events,
                ),
            ),
            session.listener_connected,
        )
        for session in sessions
    }
