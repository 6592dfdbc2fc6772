"""Read again what was set aside."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from messaging.inbound import apply, journal
from messaging.models import InboundEvent


def replay(*, source: str = "", ids: Sequence[int] = ()) -> tuple[int, int]:
    """Read the events that were set aside once more, oldest first; all, or those that are named.

    Returns how many could be read now, and how many were set aside again.
    """
    aside = InboundEvent.objects.filter(state=InboundEvent.State.SET_ASIDE)
    if source:
        aside = aside.filter(source=source)
    if ids:
        aside = aside.filter(pk__in=ids)
    done = again = 0
    for event_id in list(aside.order_by("pk").values_list("pk", flat=True)):
        with transaction.atomic():
            event = aside.select_for_update().filter(pk=event_id).first()
            if event is None:
                continue  # somebody else replays them, too
            channels = apply.channels_of(event.source, event.source_key)
            journal.read_one(event, channels)
            event.save(update_fields=journal.READ_FIELDS)
        if event.state == InboundEvent.State.DONE:
            done += 1
        else:
            again += 1
    return done, again
