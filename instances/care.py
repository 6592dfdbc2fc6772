"""Care of the receive modes that runs by itself."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

from django.db import connection

from instances import receive_mode
from instances.models import WhatsAppSession


def resume_handovers() -> None:
    """Go on with every handover that is under way."""
    under_way = WhatsAppSession.objects.exclude(switching_to="").order_by("switching_since")
    _for_each(receive_mode.resume, list(under_way.values_list("pk", flat=True)))


def check_receive_modes() -> None:
    """Ask Evolution for every session's modes; what drifted is stored, shown and logged."""
    sessions = WhatsAppSession.objects.filter(channel__active=True)
    _for_each(_check, list(sessions.values_list("pk", flat=True)))


def _check(session_id: int) -> None:
    session = WhatsAppSession.objects.select_related("channel").filter(pk=session_id).first()
    if session is not None and (session.mode is not None or session.switching_to):
        with contextlib.suppress(receive_mode.SwitchRefused):
            receive_mode.find(session)


def _for_each(function, ids: list[int]) -> None:  # type: ignore[no-untyped-def]
    """Call it for each session, a few at a time: one slow Evolution must not hold up the rest."""

    def call(session_id: int) -> None:
        try:
            function(session_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(call, ids))
