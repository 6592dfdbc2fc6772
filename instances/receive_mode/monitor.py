"""Care of the receive modes that runs by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog
from django.db import connection

from channels_app.providers.evolution.receive_mode import EvolutionFailed
from instances import live
from instances.listener import registry
from instances.models import WhatsAppSession
from instances.receive_mode import backfill, drift, handover

log = structlog.get_logger(__name__)

AT_ONCE = 4


def run_due() -> None:
    """Do what must not wait for long."""
    notice_dead_listeners()
    resume_handovers()
    backfill.enqueue_due()


def notice_dead_listeners() -> None:
    """Tell, also in open pages, that nobody listens to a session any more.

    A listener that ends tells so itself; one that was killed cannot.
    """
    joined = WhatsAppSession.objects.filter(listener_connected=True)
    silent = joined.filter(registry.stale("listener_seen_at")).select_related("channel")
    for session in silent:
        still = silent.filter(pk=session.pk)
        if still.update(listener_connected=False, listener_note=""):
            log.warning("nobody listens any more", instance=session.name)
            live.session_changed(session)


def resume_handovers() -> None:
    """Go on with every handover that is under way."""
    under_way = WhatsAppSession.objects.exclude(switching_to="").order_by("switching_since")
    _for_each(handover.resume, list(under_way.values_list("pk", flat=True)))


def check_receive_modes() -> None:
    """Ask Evolution for every session's modes; what drifted is stored, shown, and repaired where
    the setting says which side is right."""
    _for_each(_check, list(WhatsAppSession.objects.values_list("pk", flat=True)))
    backfill.delete_old()


def look_for_gaps() -> None:
    """Compare the newest messages of the instances whose turn it is with the journal."""
    _for_each(_look, backfill.look_due())


def _look(session_id: int) -> None:
    try:
        backfill.look(session_id)
    except EvolutionFailed as error:
        # The comparison of the receive modes tells that it cannot be asked.
        log.info("newest messages not compared", session=session_id, error=error.kept)


def _check(session_id: int) -> None:
    session = WhatsAppSession.objects.select_related("channel").filter(pk=session_id).first()
    if session is None:
        return
    with contextlib.suppress(handover.SwitchRefused, EvolutionFailed):
        if session.mode is not None or session.switching_to:
            found = handover.inspect_remote(session)
            if found.in_sync is False:
                drift.repair_due(session, found)


def _for_each(function: Callable[[int], None], ids: list[int]) -> None:
    """Call it for each session, a few at a time: one slow Evolution must not hold up the rest."""

    def call(session_id: int) -> None:
        try:
            function(session_id)
        except Exception:
            log.exception("care of a session failed", session=session_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        list(pool.map(call, ids))
