"""Rounds of probes: which sessions are due, in which order, and how many at a time.

One session of each server is probed first. If it shows that the server is down, the result is
stored for all others that are due without polling them, so a dead server costs one request, not one
for each session.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial

import structlog
from django.db import connection as database
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from channels_app.connections import monitor, observations
from channels_app.connections.session_engines import SessionEngine, engine_for
from channels_app.connections.states import SERVER_SILENT, applies_to_server
from channels_app.models import Connection
from channels_app.providers.sessions import Observation

log = structlog.get_logger(__name__)

PROBES_AT_A_TIME = 8
# A round claims no more probes after this time: other jobs of the queue wait.
ROUND_SECONDS = 10.0

# A step of a round; it returns the steps to run next.
Step = Callable[[], "list[Step]"]


def probe_due(provider: str) -> None:
    """Probe all due sessions, several at a time; a slow one does not delay the others."""
    engine = engine_for(provider)
    engine.before_round()
    _run_round(engine)


def probe_server(provider: str, server: str) -> None:
    """Probe the due sessions of one server: something showed that it may be away.

    What is still due after ROUND_SECONDS is left to `probe_due`.
    """
    _run_round(engine_for(provider), server=server)


def _run_round(engine: SessionEngine, *, server: str = "") -> None:
    deadline, polled = time.monotonic() + ROUND_SECONDS, set[int]()
    while time.monotonic() < deadline and (ids := claim(engine, polled, server=server)):
        polled.update(ids)
        probe_all(engine, ids, polled)


def claim(
    engine: SessionEngine,
    polled: Collection[int] = (),
    *,
    server: str = "",
    at_once: bool = True,
) -> list[int]:
    """Claim due sessions, so that no other worker polls them; immediate requests come first.

    It claims no more than are polled `at_once`: the lease starts with the poll, and outlasts it.
    Sessions already `polled` in this round wait for the next one. `server`: of this server only.
    """
    now = timezone.now()
    with transaction.atomic():
        due = Connection.objects.select_for_update(skip_locked=True, of=("self",)).filter(
            Q(next_poll_at=None) | Q(next_poll_at__lte=now), provider=engine.provider
        )
        due = engine.due(due.exclude(address="")).exclude(pk__in=polled)
        if server:
            due = due.filter(address__startswith=f"{server} ")
        due = due.order_by(F("next_poll_at").asc(nulls_first=True), "pk")
        limit = PROBES_AT_A_TIME if at_once else None
        claimed = list(due.values_list("pk", flat=True)[:limit])
        Connection.objects.filter(pk__in=claimed).update(next_poll_at=now + engine.lease)
    return claimed


def probe_all(engine: SessionEngine, ids: list[int], polled: set[int]) -> None:
    """Probe these sessions, PROBES_AT_A_TIME at once, and add others polled too to `polled`."""
    servers: dict[str, list[int]] = {}
    claimed = Connection.objects.filter(pk__in=ids).in_bulk()
    for connection_id in ids:
        if connection_id in claimed:
            servers.setdefault(claimed[connection_id].server, []).append(connection_id)
    run_steps(
        [partial(_probe_first, engine, server, mine, polled) for server, mine in servers.items()]
    )


def run_steps(steps: list[Step]) -> None:
    """Run the steps and those that they return, PROBES_AT_A_TIME at once."""
    if not steps:
        return
    with ThreadPoolExecutor(max_workers=PROBES_AT_A_TIME) as pool:
        running = {pool.submit(_run, step) for step in steps}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_run, step) for one in done for step in one.result()}


def _run(step: Step) -> list[Step]:
    try:
        return step()
    except Exception as error:
        log.exception("step of a round failed", error=type(error).__name__)
        return []
    finally:
        database.close()


def _probe_first(
    engine: SessionEngine, server: str, ids: list[int], polled: set[int]
) -> list[Step]:
    """Probe one session of a server, or two where the first got no answer."""
    polled_at, rest = timezone.now(), ids[1:]
    observation = _probe(ids[0])
    second = None
    if observation is not None and observation.error_code in SERVER_SILENT and rest:
        second, rest = _probe(rest[0]), rest[1:]
    if observation is not None and applies_to_server(observation, second):
        others = claim(engine, polled, server=server, at_once=False)
        polled.update(others)
        rest += others
        record = partial(_record_for_server, engine, observation, polled_at)
        return [partial(record, other) for other in rest]
    return [partial(_probe_one, other) for other in rest]


def _probe_one(connection_id: int) -> list[Step]:
    _probe(connection_id)
    return []


def _probe(connection_id: int) -> Observation | None:
    """Probe a session. An error in our code must not keep the others of its server from it."""
    try:
        return monitor.probe(connection_id)
    except Exception as error:
        log.exception("probe failed", connection=connection_id, error=type(error).__name__)
        return None


def _record_for_server(
    engine: SessionEngine, observation: Observation, polled_at: dt.datetime, connection_id: int
) -> list[Step]:
    """Store for a session what another one showed about their server."""
    rows = Connection.objects.select_related("channel")
    connection = rows.filter(pk=connection_id).first()
    if connection is not None and engine.is_configured(connection.channel):
        observations.record_observation(connection, observation, polled_at=polled_at)
    return []
