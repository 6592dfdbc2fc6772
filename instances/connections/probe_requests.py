"""Requests an immediate probe of an instance after a sign of a problem."""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from channels_app.models import Connection, Provider
from channels_app.providers.sessions import State
from instances import queue
from instances.connections.states import SERVER_AWAY, SERVER_SILENT

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
        row = (
            rows.filter(Q() if is_back else ~known_down)
            .values_list("channel__evolution__url", "checked_at")
            .first()
        )
        if row is None:
            return
        url, checked_at = row
        if checked_at is not None and checked_at > now - MIN_PROBE_INTERVAL:
            # The periodic job picks it up.
            rows.update(next_poll_at=now + MIN_PROBE_INTERVAL)
            return
        rows.update(next_poll_at=None)
        queue.enqueue_server_probe(url)
