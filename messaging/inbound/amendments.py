"""Change a message that is stored already: another text, a deletion, its file."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone

from channels_app.models import Channel
from channels_app.providers.events import EditEvent, MediaEvent, RevokeEvent
from messaging.live import publisher
from messaging.media import files
from messaging.models import Message

Amendment = EditEvent | RevokeEvent | MediaEvent


def apply(message: Message, event: Amendment, *, channel: Channel) -> None:
    """Apply what a provider of `channel` reported about a message.

    The order of such events and their repetition make no difference to the end. The caller holds
    the message's row.
    """
    if isinstance(event, EditEvent):
        _edit(message, event)
    elif isinstance(event, RevokeEvent):
        if message.revoked_at is None:
            change(message, revoked_at=_time(event.at))
    elif message.media is None:
        content = {"filename": event.filename}
        found = files.create_pending(channel, message.type, content, stored=event.stored)
        if found is not None:
            change(message, media=found)


def _edit(message: Message, event: EditEvent) -> None:
    if event.at is None and message.text == event.text:
        return
    at = _time(event.at)
    if message.edited_at is None or message.edited_at < at:
        change(message, text=event.text, edited_at=at)


def _time(at: dt.datetime | None) -> dt.datetime:
    """Return when it happened; a clock that runs ahead must not win over what comes later."""
    now = timezone.now()
    return min(at or now, now)


def change(message: Message, **values: Any) -> None:
    """Store new values of a message and publish it. The caller holds the message's row."""
    for name, value in values.items():
        setattr(message, name, value)
    message.version += 1
    message.save(update_fields=[*values, "version", "updated_at"])
    publisher.message_changed(message)
