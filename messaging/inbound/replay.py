"""Read again what was set aside, or what an earlier version did not know."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from messaging.inbound import apply, journal
from messaging.models import InboundEvent

ANY = "any"


def replay(*, source: str = "", ids: Sequence[int] = (), skipped: str = "") -> tuple[int, int]:
    """Read the events that were set aside once more, oldest first; all, or those that are named.

    With `skipped` those instead that were read without that kind of what is in them, or without
    `ANY`. Returns how many could be read now, whole where that was asked, and how many could not.
    """
    chosen = InboundEvent.objects.filter(state=InboundEvent.State.SET_ASIDE)
    if skipped:
        chosen = InboundEvent.objects.filter(state=InboundEvent.State.DONE).exclude(skipped="")
        if skipped != ANY:
            chosen = chosen.filter(skipped__contains=skipped)
    if source:
        chosen = chosen.filter(source=source)
    if ids:
        chosen = chosen.filter(pk__in=ids)
    done = again = 0
    for event_id in list(chosen.order_by("pk").values_list("pk", flat=True)):
        with transaction.atomic():
            event = chosen.select_for_update().filter(pk=event_id).first()
            if event is None:
                continue  # somebody else replays them, too
            channels = apply.channels_of(event.source, event.source_key)
            journal.read_one(event, channels)
            event.save(update_fields=journal.READ_FIELDS)
        if event.state == InboundEvent.State.DONE and not (skipped and event.skipped):
            done += 1
        else:
            again += 1
    return done, again
