"""Change a stored message: edits, deletions, reactions, votes, and a file that came by itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from channels_app.models import Channel
from channels_app.providers import addresses
from channels_app.providers.events import (
    US,
    EditEvent,
    MediaEvent,
    ReactionEvent,
    RevokeEvent,
    VoteEvent,
)
from messaging.live import publisher
from messaging.media import files
from messaging.models import Conversation, Message

Amendment = EditEvent | RevokeEvent | MediaEvent | ReactionEvent | VoteEvent

# An edit of a text of the same message repeats every few seconds at most.
MAX_EARLIER_TEXTS = 20


def is_allowed(message: Message, event: Amendment) -> bool:
    """Return whether who edited or deleted the message may do so, as far as it is reported.

    Only the author may. In a group its administrators may delete, and no provider says who is one.
    """
    by = event.by if isinstance(event, EditEvent | RevokeEvent) else ""
    is_ours = message.direction == Message.Direction.OUT
    author = addresses.of_answer(str((message.context.get("author") or {}).get("id") or ""))
    by_right_side = (by == US) == is_ours
    if not by or (by_right_side and author is None):
        return True
    chat = message.conversation.contact.user_id or ""
    if isinstance(event, RevokeEvent) and addresses.is_group(chat):
        return True
    other = addresses.of_answer(by)
    # A number and a LID may be one person's.
    same = author is None or other is None or author.kind != other.kind or author.key == other.key
    return by_right_side and same


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
    elif isinstance(event, ReactionEvent):
        _react(message, event)
    elif isinstance(event, VoteEvent):
        votes = _latest_of(message.votes, event, {"chosen": list(event.chosen)})
        if votes is not None:
            change(message, votes=votes)
    elif message.media is not None:
        files.use_stored(message.media, event.stored, filename=event.filename)
    else:
        content = {"filename": event.filename}
        media = files.create_pending(channel, message.type, content, stored=event.stored)
        if media is not None:
            change(message, media=media)


def _edit(message: Message, event: EditEvent) -> None:
    if event.at is None and message.text == event.text:
        return
    at = _time(event.at)
    if message.edited_at is not None and message.edited_at >= at:
        return
    earlier = [*message.earlier_texts, {"text": message.text, "until": at.isoformat()}]
    if message.text == event.text:
        earlier = message.earlier_texts
    content = message.content
    if isinstance(content, dict) and content.get("caption"):
        content = {**content, "caption": event.text}
    change(
        message,
        text=event.text,
        content=content,
        edited_at=at,
        earlier_texts=earlier[-MAX_EARLIER_TEXTS:],
    )


def _react(message: Message, event: ReactionEvent) -> None:
    reactions = _latest_of(message.reactions, event, {"emoji": event.emoji})
    if reactions is None:
        return
    change(message, reactions=reactions)
    is_ours = message.direction == Message.Direction.OUT and not message.sent_outside
    if event.emoji and event.by != US and is_ours and not event.history:
        # By Meta's rules a reaction to a message of ours opens the window, one to a message that
        # was typed on the phone does not.
        conversations = Conversation.objects.filter(pk=message.conversation_id)
        at = _time(event.at)
        conversations.exclude(last_inbound_at__gte=at).update(last_inbound_at=at)


def _latest_of(
    stored: Sequence[Mapping[str, Any]],
    event: ReactionEvent | VoteEvent,
    values: Mapping[str, Any],
) -> list[Mapping[str, Any]] | None:
    """Return the entries with this person's latest one; None if nothing changes.

    An entry that was taken back stays, without a value, so that an older event does not restore it.
    """
    at = _time(event.at)
    own = next((entry for entry in stored if entry["by"] == event.by), None)
    if own is not None:
        same = all(own.get(name) == values[name] for name in values)
        before = parse_datetime(str(own.get("at", "")))
        if same or (before is not None and before > at):
            return None
    entry = {"by": event.by, "name": event.name, "at": at.isoformat(), **values}
    return [*(one for one in stored if one["by"] != event.by), entry]


def _time(at: dt.datetime | None) -> dt.datetime:
    """Return the event's time, at most now: a fast clock must not override later events."""
    now = timezone.now()
    return min(at or now, now)


def change(message: Message, *, announced: bool = True, **values: Any) -> None:
    """Store new values of a message and publish it. The caller holds a lock on its row."""
    for name, value in values.items():
        setattr(message, name, value)
    message.version += 1
    message.save(update_fields=[*values, "version", "updated_at"])
    if announced:
        publisher.message_changed(message)
