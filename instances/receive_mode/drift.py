"""The repair of a receive mode that drifted, where a setting says which side is right."""

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

ROUTE = Incident.Route.RECEIVE_MODE
CONTESTED = "drift_contested"
EMPTIED = "drift_emptied"
_REMEMBERED = 50


def repair_due(session: WhatsAppSession, found: handover.Found) -> None:
    """Repair what `found` says, unless a person is to decide, or the last try was just now.

    What cannot be repaired now is tried again with the next comparison.
    """
    keep = settings.EVOLUTION_DRIFT_REPAIR
    if keep == "ask" or not found.differs or session.switching_to:
        return
    other_mode = Difference.MODE in found.differs
    if keep == "evolution" and (not other_mode or found.webhook.enabled == found.websocket.enabled):
        # Nothing of what Evolution has can be kept.
        return
    emptied = session.webhook_enabled and found.webhook.enabled and not found.webhook.url
    decision = drift_rules.decide(_changes(session), emptied=emptied, now=timezone.now())
    if decision is Decision.LEAVE:
        _leave_to_a_person(session)
    if decision is not Decision.REPAIR:
        return
    detail = EMPTIED if emptied else handover.drift_code(found.differs)
    try:
        handover.repair(session, keep=keep, user=None, detail=detail)
    except handover.SwitchRefused as error:
        log.warning("receive mode not repaired", instance=session.name, error=str(error))
    else:
        log.warning("receive mode repaired", instance=session.name, keep=keep, reason=detail)


def _changes(session: WhatsAppSession) -> list[Change]:
    changes = session.mode_changes.order_by("-pk")[:_REMEMBERED]
    return [
        Change(
            at=change.started_at,
            automatic=change.source == ReceiveModeChange.Source.REPAIR and change.user_id is None,
            done=change.result == ReceiveModeChange.Result.DONE,
            emptied=change.detail == EMPTIED,
        )
        for change in changes
    ]


def _leave_to_a_person(session: WhatsAppSession) -> None:
    """Say in the incident that it is not repaired any more."""
    with transaction.atomic():
        current = incidents.current(session.channel).filter(route=ROUTE)
        if current.filter(reason=CONTESTED).exists():
            return
        log.error("receive mode is contested", instance=session.name)
        now = timezone.now()
        incidents.open_or_update(session.channel, route=ROUTE, reason=CONTESTED, detail="", at=now)
