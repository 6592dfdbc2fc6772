"""Change a stored message: edit its text, mark it as deleted, or attach its file."""

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

    The order and repetition of such events do not affect the result. The caller holds a lock on
    the message's row.
    """
    if isinstance(event, EditEvent):
        _edit(message, event)
    elif isinstance(event, RevokeEvent):
        if message.revoked_at is None:
            change(message, revoked_at=_time(event.at))
    elif message.media is None:
        content = {"filename": event.filename}
        media = files.create_pending(channel, message.type, content, stored=event.stored)
        if media is not None:
            change(message, media=media)


def _edit(message: Message, event: EditEvent) -> None:
    if event.at is None and message.text == event.text:
        return
    at = _time(event.at)
    if message.edited_at is None or message.edited_at < at:
        change(message, text=event.text, edited_at=at)


def _time(at: dt.datetime | None) -> dt.datetime:
    """Return the event's time, at most now: a fast clock must not override later events."""
    now = timezone.now()
    return min(at or now, now)


def change(message: Message, **values: Any) -> None:
    """Store new values of a message and publish it. The caller holds a lock on its row."""
    for name, value in values.items():
        setattr(message, name, value)
    message.version += 1
    message.save(update_fields=[*values, "version", "updated_at"])
    publisher.message_changed(message)
