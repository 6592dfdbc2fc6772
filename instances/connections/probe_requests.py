"""Asking for an immediate probe of an instance, wherever a sign of trouble is met."""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from channels_app.connections.states import State
from channels_app.models import Channel
from instances import tasks
from instances.connections.states import SERVER_AWAY, SERVER_SILENT
from instances.models import WhatsAppSession

# An instance that was asked so shortly ago is not asked again before this has passed.
ASKED_JUST_NOW = dt.timedelta(seconds=1)


def request_probe(session_id: int, *, is_back: bool = False) -> None:
    """Have the instance asked for its state now: its socket broke, or a call of ours failed.

    Cheap, and safe to call for every failure: requests for the instances of one server become one
    job, and an instance whose server is known not to answer keeps its own pace, unless there is a
    sign that it `is_back`.
    """
    now = timezone.now()
    known = Q(state=State.ERROR, state_code__in=SERVER_AWAY | SERVER_SILENT)
    doubted = WhatsAppSession.objects.filter(
        Q() if is_back else ~known,
        pk=session_id,
        channel__active=True,
        channel__kind=Channel.Kind.BAILEYS,
    )
    with transaction.atomic():
        found = doubted.values_list("channel__evolution_url", "checked_at").first()
        if found is None:
            return
        url, checked_at = found
        if checked_at is not None and checked_at > now - ASKED_JUST_NOW:
            # Not lost: the periodic job takes it up.
            WhatsAppSession.objects.filter(pk=session_id).update(probe_at=now + ASKED_JUST_NOW)
            return
        WhatsAppSession.objects.filter(pk=session_id).update(probe_at=None)
        tasks.enqueue_server_probe(url)
