"""The listener: keeps every WebSocket-mode session joined and stores its events.

Any number of listener processes share the sessions. A session belongs to the process that holds
its advisory lock. Locks end with their connection, so a dead process's sessions are free at once.

Threads: one for each socket, which only passes events on (instances.listener.socket_client); the
writer, which alone writes events; a few that record join states and fetch missed messages; the
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

from channels_app.incidents.reason_text import encode_failure
from channels_app.providers.evolution.receive_mode import EvolutionFailed
from channels_app.providers.sessions import State
from core.heartbeat_file import Heartbeat
from instances import live, receiving
from instances.connections.probe_requests import request_probe
from instances.listener import locks, registry
from instances.listener.socket_client import Address, SocketClient
from instances.models import ListenerProcess, Mode, WhatsAppSession
from instances.queue import enqueue_resume
from instances.receive_mode import backfill
from messaging.inbound import journal
from messaging.inbound.arrivals import Arrival

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
BATCH = 200
MAX_WAITING = 50_000
# During a transfer, both processes listen to the session for this time.
LINGER_SECONDS = 3.0
DRAIN_SECONDS = 15.0
RECORDERS, FETCHERS = 2, 4
# How long new events wait for earlier, missed ones to be fetched.
ORDER_SECONDS = 5.0
FETCH_RETRY_SECONDS = 5.0
# How often open pages get a new heartbeat; they display minutes.
SHOW_SECONDS = 30.0
# The database or the file storage is unreachable.
_STORAGE_ERRORS = (*receiving.STORAGE_ERRORS, psycopg.OperationalError, psycopg.InterfaceError)


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """A session that should be joined, from the database."""

    session_id: int
    channel_id: int
    address: Address


class BatchWriter:
    """Writes events to the journal in batches, in order of arrival.

    While the database is down, it buffers events and retries. If the buffer is full, the socket
    readers block, and Evolution buffers the rest.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[float, Arrival] | None] = queue.Queue(MAX_WAITING)
        self._writing_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, channel_id: int, payload: Any) -> None:
        """Queue an event, or any other payload (see `inbound.arrivals`)."""
        self._queue.put((time.time(), Arrival(str(channel_id), payload)))

    def put_unreadable(self, channel_id: int, raw: bytes) -> None:
        """Queue the bytes of an unreadable packet."""
        self._queue.put((time.time(), Arrival.from_body(str(channel_id), raw)))

    def written_until(self) -> dt.datetime:
        """Return a time before which every queued event has been stored."""
        now = time.time()
        with self._queue.mutex:
            head = self._queue.queue[0] if self._queue.queue else None
        waiting = [now, self._writing_since or now, head[0] if head else now]
        return dt.datetime.fromtimestamp(min(waiting), tz=dt.UTC)

    def stop(self, timeout: float = DRAIN_SECONDS) -> bool:
        """Write the queue and stop. Return whether it finished within `timeout` seconds."""
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
        """Store them, as stubs if necessary; retry until it succeeds."""
        delay = 0.1
        while batch:
            try:
                journal.receive(receiving.SOURCE, batch)
                return
            except _STORAGE_ERRORS as error:
                log.warning(
                    "database unavailable, events buffered", n=len(batch), error=str(error)[:200]
                )
            except Exception:
                # Even a stub failed: the installation is broken, not the event. Drop nothing.
                log.exception("events cannot be stored", n=len(batch))
            connection.close()
            time.sleep(delay)
            delay = min(delay * 2, 5.0)


class SessionWorker:
    """A session held by this process: its socket and its recorded join state."""

    def __init__(
        self,
        spec: SessionSpec,
        writer: BatchWriter,
        *,
        recorders: ThreadPoolExecutor,
        fetchers: ThreadPoolExecutor,
    ) -> None:
        self.spec = spec
        self.caught_up = False
        self.fetch_retry_at = math.inf
        # Another process has the session: we only store its last events.
        self.leaving = False
        self._writer = writer
        self._recorders = recorders
        self._fetchers = fetchers
        self._lock = threading.Lock()
        self._joins = 0
        # Events since the join, buffered while earlier ones are fetched.
        self._buffered: deque[Any] | None = None
        self._buffered_until = math.inf
        self._recording = False
        self._note = ""
        self.client = SocketClient(
            spec.address,
            on_event=self._receive,
            on_change=self._changed,
            on_unreadable=lambda raw: writer.put_unreadable(spec.channel_id, raw),
        )

    def report_state(self) -> None:
        """Schedule recording the socket's state; calls before it runs are merged."""
        with self._lock:
            if self._recording or self.leaving:
                return
            self._recording = True
        _submit(self._recorders, self._record_state)

    def fetch(self) -> None:
        """Schedule fetching missed messages."""
        self.fetch_retry_at = math.inf
        _submit(self._fetchers, self._fetch)

    def flush_events(self) -> None:
        """Store the buffered events."""
        with self._lock:
            self._flush()

    def is_late(self) -> bool:
        """Return whether events were buffered longer than ORDER_SECONDS."""
        return time.monotonic() > self._buffered_until

    def leave(self) -> None:
        """Stop recording states: this process no longer owns the session."""
        self.leaving = True

    def _receive(self, payload: Any) -> None:
        with self._lock:
            if self._buffered is not None:
                self._buffered.append(payload)
                if len(self._buffered) > MAX_WAITING:
                    self._flush()
                return
        self._writer.put(self.spec.channel_id, payload)

    def _flush(self) -> None:
        for payload in self._buffered or ():
            self._writer.put(self.spec.channel_id, payload)
        self._buffered, self._buffered_until = None, math.inf

    def _changed(self, joined: bool, note: str) -> None:
        if joined:
            with self._lock:
                self._joins += 1
                self.caught_up = False
                self._buffered = deque()
                self._buffered_until = time.monotonic() + ORDER_SECONDS
        else:
            self.caught_up = False
        self._note = note
        self.report_state()
        if joined:
            self.fetch()

    def _record_state(self) -> None:
        try:
            close_old_connections()
            with self._lock:
                self._recording = False
            if not self.leaving:
                record_join_state(self.spec.session_id, joined=self.client.joined, note=self._note)
        except _STORAGE_ERRORS as error:
            # The main loop notices the difference and retries.
            log.warning("session state not written", error=str(error)[:200])
        except Exception:
            log.exception("session state not written")
        finally:
            connection.close()

    def _fetch(self) -> None:
        """Store messages missed while not joined before the new ones, each once."""
        joins, done = self._joins, False
        try:
            close_old_connections()
            done = self._fetch_missed()
        except _STORAGE_ERRORS as error:
            log.warning("missed messages not stored", error=str(error)[:200])
        except Exception:
            log.exception("missed messages not stored")
        finally:
            connection.close()
            with self._lock:
                if joins == self._joins:
                    self._flush()
                    self.caught_up = done and self.client.joined
                    if not done:
                        self.fetch_retry_at = time.monotonic() + FETCH_RETRY_SECONDS

    def _fetch_missed(self) -> bool:
        session = WhatsAppSession.objects.select_related("channel__evolution").get(
            pk=self.spec.session_id
        )
        if session.caught_up_at is None:
            # The first join: later fetches start here.
            unset = WhatsAppSession.objects.filter(pk=session.pk, caught_up_at=None)
            unset.update(caught_up_at=timezone.now())
            return True
        try:
            found = backfill.fetch(
                session, since=session.caught_up_at, abandoned=lambda: self.leaving
            )
        except EvolutionFailed as error:
            if not self.leaving:
                log.warning(
                    "missed messages not fetched",
                    instance=session.name,
                    error=encode_failure(error),
                )
                if not error.answered:
                    request_probe(session.pk)
            return False
        # What came since the join waits for these; they are counted once they are stored.
        backfill.store(session, found)
        reason = backfill.Reason.LISTENER
        backfill.record_recovered(
            session, found.messages, reason=reason, since=session.caught_up_at
        )
        if not found.complete:
            # A long gap: the backfill job continues from the oldest.
            backfill.request(session.pk, reason=reason)
        return True


def _submit(pool: ThreadPoolExecutor, work: Callable[[], None]) -> None:
    # After shutdown the pool rejects work.
    with contextlib.suppress(RuntimeError):
        pool.submit(work)


def record_join_state(session_id: int, *, joined: bool, note: str) -> None:
    """Record that a session was joined or left, and resume a waiting handover."""
    session = WhatsAppSession.objects.loaded(pk=session_id)
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
    # A broken socket may be the first sign that the server or the instance is down; a join, that
    # they are back.
    if changed and (note or (joined and session.connection.state != State.READY)):
        request_probe(session_id, is_back=joined)
    if joined and session.switching_to == Mode.WEBSOCKET:
        enqueue_resume(session_id)


class Listener:
    """The loop of one process."""

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._held: dict[int, SessionWorker] = {}
        # Workers given to another process, and until when they still listen.
        self._leaving: list[tuple[float, SessionWorker]] = []
        self._writer = BatchWriter()
        self._recorders = ThreadPoolExecutor(RECORDERS, thread_name_prefix="listener-records")
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="listener-fetches")
        self._process_id = 0
        self._heartbeat = Heartbeat("listener")
        self._heartbeat_at = self._shown_at = -math.inf
        self._stopping = False

    def stop(self) -> None:
        """Stop the loop; safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Hold sessions until stopped; wait while the database is down."""
        self._writer.start()
        delay = 0.2
        while not self._stopping:
            try:
                with locks.connect() as holder:
                    delay = 0.2
                    self._hold(holder)
                    self._transfer(holder)
            except _STORAGE_ERRORS as error:
                # The sockets stay joined, and the writer buffers their events.
                log.warning("database unavailable", error=str(error)[:200])
                connection.close()
                time.sleep(delay)
                delay = min(delay * 2, 2.0)
        self._end()

    def _hold(self, holder: psycopg.Connection[Any]) -> None:
        self._register(holder)
        for session_id in list(self._held):
            # The locks ended with the last connection; another process may hold them.
            if not locks.try_lock(holder, locks.SESSION, session_id):
                self._linger(session_id)
        while not self._stopping:
            close_old_connections()
            self._write_heartbeat()
            self._reconcile(holder)
            for _ in holder.notifies(timeout=POLL_SECONDS, stop_after=1):
                break

    def _register(self, holder: psycopg.Connection[Any]) -> None:
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
        """Leave obsolete sessions, then take free ones, up to a fair share."""
        wanted = wanted_session_specs()
        self._stop_leaving()
        for session_id in [id_ for id_ in self._held if id_ not in wanted]:
            worker = self._held.pop(session_id)
            worker.leave()
            worker.client.stop()
            record_join_state(session_id, joined=False, note="")
            locks.unlock(holder, locks.SESSION, session_id)
        for session_id, worker in self._held.items():
            spec, recorded = wanted[session_id]
            if worker.is_late():
                worker.flush_events()
            if spec != worker.spec:
                worker.leave()
                worker.client.stop()
                self._take(spec)
            elif recorded != worker.client.joined:
                worker.report_state()
            elif worker.fetch_retry_at < time.monotonic():
                worker.fetch()
        share = math.ceil(len(wanted) / max(1, registry.running()))
        if surplus := list(self._held)[share:]:
            self._release(surplus, holder)
            return
        for session_id, (spec, _) in wanted.items():
            if len(self._held) >= share:
                break
            if session_id not in self._held and locks.try_lock(holder, locks.SESSION, session_id):
                self._take(spec)

    def _take(self, spec: SessionSpec) -> None:
        worker = self._held[spec.session_id] = SessionWorker(
            spec, self._writer, recorders=self._recorders, fetchers=self._fetchers
        )
        worker.client.start()

    def _release(self, session_ids: Iterable[int], holder: psycopg.Connection[Any]) -> None:
        """Release these sessions to other processes."""
        for session_id in session_ids:
            self._linger(session_id)
            record_join_state(session_id, joined=False, note="")
            locks.unlock(holder, locks.SESSION, session_id)
        registry.wake()

    def _linger(self, session_id: int) -> None:
        """Keep listening until the session's new process has joined."""
        worker = self._held.pop(session_id)
        worker.leave()
        self._leaving.append((time.monotonic() + LINGER_SECONDS, worker))

    def _stop_leaving(self, *, everything: bool = False) -> None:
        now = time.monotonic()
        for until, worker in self._leaving:
            if everything or until < now:
                worker.client.stop()
        self._leaving = [
            (until, worker) for until, worker in self._leaving if not everything and until >= now
        ]

    def _write_heartbeat(self) -> None:
        """Write the heartbeat of this process and of its joined sessions."""
        if time.monotonic() - self._heartbeat_at < registry.HEARTBEAT_SECONDS:
            return
        self._heartbeat_at = time.monotonic()
        now, stored = timezone.now(), self._writer.written_until()
        # Only sessions that are caught up now advance to the stored time.
        joined = [id_ for id_, worker in self._held.items() if worker.client.joined]
        caught_up = [id_ for id_ in joined if self._held[id_].caught_up]
        ListenerProcess.objects.filter(pk=self._process_id).update(seen_at=now)
        sessions = WhatsAppSession.objects
        sessions.filter(pk__in=joined).update(listener_seen_at=now)
        sessions.filter(pk__in=caught_up).update(caught_up_at=stored)
        self._heartbeat.give()
        if time.monotonic() - self._shown_at > SHOW_SECONDS:
            self._shown_at = time.monotonic()
            for session_id in joined:
                live.session_beat(session_id)

    def _transfer(self, holder: psycopg.Connection[Any]) -> None:
        """Give the sessions to other processes, if any, and listen until they have joined."""
        ListenerProcess.objects.filter(pk=self._process_id).delete()
        locks.unlock(holder, locks.PROCESS, self._process_id)
        mine = list(self._held)
        has_others = registry.running() > 0
        self._release(mine, holder)
        until = time.monotonic() + (LINGER_SECONDS if has_others else 0)
        joined = WhatsAppSession.objects.filter(pk__in=mine, listener_connected=True)
        while time.monotonic() < until and joined.count() < len(mine):
            time.sleep(0.1)

    def _end(self) -> None:
        self._heartbeat.end()
        every = [*self._held.values(), *(worker for _, worker in self._leaving)]
        for worker in every:
            worker.leave()
            worker.client.stop()
        until = time.monotonic() + 5.0
        for worker in every:
            worker.client.wait(max(0.0, until - time.monotonic()))
        for pool in (self._recorders, self._fetchers):
            pool.shutdown(cancel_futures=True)
        for worker in every:
            worker.flush_events()
        if not self._writer.stop():
            log.error("events not stored before shutdown; the next listener fetches the messages")
        with contextlib.suppress(*_STORAGE_ERRORS):
            ListenerProcess.objects.filter(pk=self._process_id).delete()
        connection.close()


def wanted_session_specs() -> dict[int, tuple[SessionSpec, bool]]:
    """Return the sessions that are, or are about to be, in WebSocket mode, by id.

    An inactive channel does not send, but still receives.

    The second item of each pair is the recorded join state.
    """
    sessions = (
        WhatsAppSession.objects.select_related("channel__evolution")
        .filter(Q(websocket_enabled=True) | Q(switching_to=Mode.WEBSOCKET))
        .only(
            *("global_events", "listener_connected", "channel__evolution__url"),
            *("channel__evolution__api_key", "channel__evolution__instance_name"),
        )
        .order_by("pk")
    )
    return {
        session.pk: (
            SessionSpec(
                session_id=session.pk,
                channel_id=session.channel_id,
                address=Address(
                    url=session.credentials.url,
                    key=session.credentials.api_key,
                    instance=session.name,
                    shared=session.global_events,
                ),
            ),
            session.listener_connected,
        )
        for session in sessions
    }
