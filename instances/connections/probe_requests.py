"""Requests an immediate probe of an instance after a sign of a problem, or of its end."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from channels_app.connections import records
from channels_app.connections.states import SERVER_AWAY, SERVER_SILENT
from channels_app.models import Connection, Provider
from channels_app.providers.sessions import State
from instances import queue
from instances.models import WhatsAppSession

# Minimum time between two requested probes of an instance.
MIN_PROBE_INTERVAL = dt.timedelta(seconds=1)


def request_probe(session_id: int, *, is_back: bool = False) -> None:
    """Probe the instance now: its socket broke, or one of our calls failed.

    This is cheap and safe to call for every failure. Requests for instances of one server share a
    job. If the server is known not to answer, the regular schedule applies unless the caller has
    a sign that it `is_back`.
    """
    now = timezone.now()
    known_down = Q(state=State.ERROR, state_code__in=SERVER_AWAY | SERVER_SILENT)
    rows = Connection.objects.filter(
        channel__session=session_id, channel__active=True, provider=Provider.BAILEYS
    )
    with transaction.atomic():
        row = rows.filter(Q() if is_back else ~known_down).first()
        if row is None:
            return
        if row.checked_at is not None and row.checked_at > now - MIN_PROBE_INTERVAL:
            # The periodic job picks it up.
            rows.update(next_poll_at=now + MIN_PROBE_INTERVAL)
            return
        rows.update(next_poll_at=None)
        queue.enqueue_server_probe(row.server)


def record_rejection(connection: Connection, code: str, **kwargs: Any) -> None:
    """Signal receiver: a send failed because the instance is not connected or did not answer.

    If its state is open nevertheless, the connection behind it is dead
    (docs/providers/evolution.md §4, issues 1398 and 2403), or the server is down.
    """
    if connection.provider == Provider.BAILEYS:
        react = _record_rejection if code == "instance_not_connected" else _probe_after_no_answer
        # Run after the message's lock is released.
        transaction.on_commit(partial(react, connection.channel_id), robust=True)


def record_success(connection: Connection, **kwargs: Any) -> None:
    """Signal receiver: a send succeeded after failures, so the connection works."""
    if connection.provider == Provider.BAILEYS:
        transaction.on_commit(partial(_record_success, connection.channel_id), robust=True)


def _probe_after_no_answer(channel_id: int) -> None:
    session_id = _session_id(channel_id)
    if session_id is not None:
        request_probe(session_id)


def _record_rejection(channel_id: int) -> None:
    with transaction.atomic():
        row = Connection.objects.lock(channel_id, Provider.BAILEYS)
        session_id = _session_id(channel_id)
        if row is None or session_id is None:
            return
        is_open = row.server_state == Connection.ServerState.OPEN
        if is_open and row.dead_since is None:
            row.dead_since = timezone.now()
        row.next_poll_at = None
        row.save()
        queue.enqueue_probe(session_id)


def _record_success(channel_id: int) -> None:
    dead = Connection.objects.filter(
        channel=channel_id, provider=Provider.BAILEYS, dead_since__isnull=False
    )
    session_id = _session_id(channel_id)
    if session_id is not None and (row := dead.first()) is not None:
        records.command(row, dead_since=None)
        queue.enqueue_probe(session_id)


def _session_id(channel_id: int) -> int | None:
    rows = WhatsAppSession.objects.filter(channel=channel_id)
    return rows.values_list("pk", flat=True).first()
