"""Repairs a drifted receive mode if a setting says which side is right."""

from __future__ import annotations

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from channels_app.incidents import incidents
from channels_app.models import Incident
from instances.models import Difference, ReceiveModeChange, WhatsAppSession
from instances.receive_mode import drift_rules, handover
from instances.receive_mode.drift_rules import Change, Decision

log = structlog.get_logger(__name__)

KIND = Incident.Kind.RECEIVE_MODE
CONTESTED = "drift_contested"
EMPTIED = "drift_emptied"
_MAX_CHANGES = 50


def repair_due(session: WhatsAppSession, remote: handover.RemoteState) -> None:
    """Repair the drift in `remote`, unless a user must decide or the last attempt was too recent.

    A failed repair is retried with the next check.
    """
    keep = settings.EVOLUTION_DRIFT_REPAIR
    if keep == "ask" or not remote.differs or session.switching_to:
        return
    other_mode = Difference.MODE in remote.differs
    if keep == "evolution" and (
        not other_mode or remote.webhook.enabled == remote.websocket.enabled
    ):
        # There is no Evolution setting to keep.
        return
    emptied = session.webhook_enabled and remote.webhook.enabled and not remote.webhook.url
    decision = drift_rules.decide(_changes(session), emptied=emptied, now=timezone.now())
    if decision is Decision.LEAVE:
        _stop_repairing(session)
    if decision is not Decision.REPAIR:
        return
    detail = EMPTIED if emptied else handover.drift_code(remote.differs)
    try:
        handover.repair(session, keep=keep, user=None, detail=detail)
    except handover.SwitchRefused as error:
        log.warning("receive mode not repaired", instance=session.name, error=str(error))
    else:
        log.warning("receive mode repaired", instance=session.name, keep=keep, reason=detail)


def _changes(session: WhatsAppSession) -> list[Change]:
    changes = session.mode_changes.order_by("-pk")[:_MAX_CHANGES]
    return [
        Change(
            at=change.started_at,
            automatic=change.source == ReceiveModeChange.Source.REPAIR and change.user_id is None,
            done=change.result == ReceiveModeChange.Result.DONE,
            emptied=change.detail == EMPTIED,
        )
        for change in changes
    ]


def _stop_repairing(session: WhatsAppSession) -> None:
    """Record in the incident that automatic repair has stopped."""
    with transaction.atomic():
        current = incidents.current(session.connection).filter(kind=KIND)
        if current.filter(reason=CONTESTED).exists():
            return
        log.error("receive mode is contested", instance=session.name)
        now = timezone.now()
        incidents.open_or_update(session.connection, kind=KIND, reason=CONTESTED, detail="", at=now)
