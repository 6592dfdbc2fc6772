"""Requests an immediate probe of an instance after a sign of a problem, or of its end."""

from __future__ import annotations

import datetime as dt

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


def probe_after_no_answer(channel_id: int) -> None:
    """Probe the channel's instance: it did not answer a send."""
    session_id = _session_id(channel_id)
    if session_id is not None:
        request_probe(session_id)


def record_rejection(channel_id: int) -> None:
    """Record that the instance rejected a send because it is not connected, and probe it."""
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


def record_success(channel_id: int) -> None:
    """Record that the instance accepted a send, so its connection is not dead."""
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
