"""Change a stored message: edits, deletions, reactions, votes, and a file that came by itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
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
from messaging import contacts
from messaging.inbound import skips
from messaging.live import publisher
from messaging.media import files
from messaging.models import Contact, ContactAddress, Conversation, Message

Amendment = EditEvent | RevokeEvent | MediaEvent | ReactionEvent | VoteEvent

# How a change is counted that only the author of the message may make.
NOT_THE_AUTHOR = "change:not_the_author"

# An edit of a text of the same message repeats every few seconds at most.
MAX_EARLIER_TEXTS = 20


def is_allowed(message: Message, event: Amendment) -> bool:
    """Return whether who edited or deleted the message may do so, as far as it is reported.

    Only the author may. In a group its administrators may delete, and no provider says who is one.
    """
    by = event.by if isinstance(event, EditEvent | RevokeEvent) else ""
    if not by:
        return True
    is_ours = message.direction == Message.Direction.OUT
    by_right_side = (by == US) == is_ours
    if _is_in_group(message):
        author = str((message.context.get("author") or {}).get("id") or "")
        return isinstance(event, RevokeEvent) or (by_right_side and _may_be_one(author, by))
    return by_right_side and (is_ours or _may_be(message.conversation.contact, by))


def apply_waiting(message: Message, events: Iterable[Amendment], *, channel: Channel) -> None:
    """Apply the changes that came before their message; see `apply`.

    A refused one is counted on the row of the journal that reported it.
    """
    for event in events:
        if is_allowed(message, event):
            apply(message, event, channel=channel)
        elif isinstance(event, EditEvent | RevokeEvent):
            skips.note(event.reported_in, NOT_THE_AUTHOR)


def _is_in_group(message: Message) -> bool:
    return addresses.is_group(message.conversation.contact.user_id or "")


def _may_be_one(one: str, other: str) -> bool:
    """Return whether two reported addresses may be one person's, such as a number and a LID."""
    first, second = addresses.of_answer(one), addresses.of_answer(other)
    if first is None or second is None or first.kind != second.kind:
        return True
    return first.key == second.key


def _may_be(contact: Contact, by: str) -> bool:
    """Return whether a reported address is the contact's, or one that may turn out to be."""
    address = addresses.of_answer(by)
    if address is None:
        return True
    if owners := contacts.ids_with([address]):
        return contact.pk in owners
    # Somebody with another address of the same kind is somebody else.
    shown = addresses.named(phone_number=contact.phone_number or "", user_id=contact.user_id or "")
    return not (
        any(one.kind == address.kind for one in shown)
        or contact.addresses.filter(kind=address.kind).exists()
    )


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
        votes = _latest_of(message, message.votes, event, {"chosen": list(event.chosen)})
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
    reactions = _latest_of(message, message.reactions, event, {"emoji": event.emoji})
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
    message: Message,
    stored: Sequence[Mapping[str, Any]],
    event: ReactionEvent | VoteEvent,
    values: Mapping[str, Any],
) -> list[Mapping[str, Any]] | None:
    """Return the entries with this person's latest one; None if nothing changes.

    An entry that was taken back stays, without a value, so that an older event does not restore it.
    """
    at = _time(event.at)
    aliases = _aliases(message, stored, event.by)
    own = [entry for entry in stored if entry["by"] in aliases]
    if own:
        latest = max(own, key=_time_of)
        same = all(latest.get(name) == values[name] for name in values)
        if len(own) == 1 and (same or _time_of(latest) > at):
            return None
        if same or _time_of(latest) > at:
            # Reported under two addresses, before they were known to be one person's.
            return [*(one for one in stored if one not in own), latest]
    entry = {"by": event.by, "name": event.name, "at": at.isoformat(), **values}
    return [*(one for one in stored if one not in own), entry]


def _aliases(message: Message, stored: Sequence[Mapping[str, Any]], by: str) -> set[str]:
    """Return those of the addresses in the entries that name the same person as `by`.

    In a conversation with one customer whoever is not us is the customer. No query unless it is a
    group.
    """
    others = {str(entry["by"]) for entry in stored} - {by, US}
    if by == US or not others:
        return {by}
    if not _is_in_group(message):
        return others | {by}
    keys = {one: found.key for one in (by, *others) if (found := addresses.of_answer(one))}
    owned = ContactAddress.objects.filter(key__in=set(keys.values()))
    owners = dict(owned.values_list("key", "contact"))
    person = owners.get(keys.get(by, ""), by)
    return {by} | {one for one in others if owners.get(keys.get(one, "")) == person}


def _time_of(entry: Mapping[str, Any]) -> dt.datetime:
    return parse_datetime(str(entry.get("at", ""))) or dt.datetime.min.replace(tzinfo=dt.UTC)


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
