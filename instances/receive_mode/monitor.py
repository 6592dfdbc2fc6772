"""Periodic checks of the receive modes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog
from django.db import connection

from channels_app.incidents.reason_text import encode_failure
from channels_app.providers.evolution.receive_mode import EvolutionFailed
from instances import live
from instances.listener import registry
from instances.models import WhatsAppSession
from instances.receive_mode import backfill, drift, handover

log = structlog.get_logger(__name__)

MAX_PARALLEL = 4


def run_due() -> None:
    """Run the frequent checks."""
    notice_dead_listeners()
    resume_handovers()
    backfill.enqueue_due()


def notice_dead_listeners() -> None:
    """Mark sessions without a live listener as not joined, and update open pages.

    A listener that exits reports it; a killed one cannot.
    """
    joined = WhatsAppSession.objects.filter(listener_connected=True)
    silent = joined.filter(registry.stale("listener_seen_at")).select_related("channel__evolution")
    for session in silent:
        still = silent.filter(pk=session.pk)
        if still.update(listener_connected=False, listener_note=""):
            log.warning("listener lost", instance=session.name)
            live.session_changed(session)


def resume_handovers() -> None:
    """Continue every running handover."""
    running = WhatsAppSession.objects.exclude(switching_to="").order_by("switching_since")
    _for_each(handover.resume, list(running.values_list("pk", flat=True)))


def check_receive_modes() -> None:
    """Inspect every session's mode on Evolution, store and show drift, and repair it if the
    setting says which side is right."""
    _for_each(_check_receive_mode, list(WhatsAppSession.objects.values_list("pk", flat=True)))
    backfill.delete_old()


def look_for_gaps() -> None:
    """Compare the newest messages of the due instances with the journal."""
    _for_each(_check_newest, backfill.claim_due_checks())


def _check_newest(session_id: int) -> None:
    try:
        backfill.check_newest(session_id)
    except EvolutionFailed as error:
        # The receive-mode check reports that the instance is unreachable.
        log.info("newest messages not compared", session=session_id, error=encode_failure(error))


def _check_receive_mode(session_id: int) -> None:
    session = WhatsAppSession.objects.loaded(pk=session_id)
    if session is None:
        return
    with contextlib.suppress(handover.SwitchRefused, EvolutionFailed):
        if session.mode is not None or session.switching_to:
            remote = handover.inspect_remote(session)
            if remote.in_sync is False:
                drift.repair_due(session, remote)


def _for_each(function: Callable[[int], None], ids: list[int]) -> None:
    """Call it for each session, a few in parallel: one slow server must not block the others."""

    def call(session_id: int) -> None:
        try:
            function(session_id)
        except Exception:
            log.exception("periodic check of a session failed", session=session_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=MAX_PARALLEL) as pool:
        list(pool.map(call, ids))
