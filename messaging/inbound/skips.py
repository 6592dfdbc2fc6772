"""What of an event had no effect, by kind, as the journal lists it (`InboundEvent.skipped`)."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from messaging.models import InboundEvent

log = structlog.get_logger(__name__)

# The length of `InboundEvent.skipped`.
MAX_LENGTH = 200
_SEPARATOR = ", "


def listed(kinds: Iterable[str]) -> str:
    """Return a list of kinds as it is stored: each once, as many as there is room for."""
    names = sorted(set(kinds))
    while len(text := _SEPARATOR.join(names)) > MAX_LENGTH:
        names.pop()
    return text


def joined(*lists: str) -> str:
    """Return one list with the kinds of several."""
    return listed(kind for one in lists for kind in one.split(_SEPARATOR) if kind)


def note(event_id: int, kind: str) -> None:
    """Add a kind to those that were skipped of an event which was read earlier.

    The caller holds a transaction. Whoever has the row locked is reading it again, and counts
    everything itself.
    """
    rows = InboundEvent.objects.select_for_update(skip_locked=True).filter(pk=event_id)
    event = rows.only("skipped").first()
    if event is None:
        log.warning("skipped a part of an event that is not stored", kind=kind)
        return
    event.skipped = joined(event.skipped, kind)
    event.save(update_fields=["skipped"])
