"""Mark a conversation as read, here and for the customer."""

from __future__ import annotations

import datetime as dt

import structlog
from django.utils import timezone

from channels_app.connections import registry
from channels_app.providers.base import MarksRead, SendError
from messaging import contacts, queue, selectors
from messaging.delivery import quotes
from messaging.models import Conversation, Message

log = structlog.get_logger(__name__)

# Providers take no older messages (docs/providers/cloud.md §1.2).
MAX_AGE = dt.timedelta(days=30)
MAX_MESSAGES = 50


def mark_read(conversation: Conversation, *, typing: bool = False) -> None:
    """Mark the conversation as read, and have a job tell the customer's phone.

    With `typing` the customer also sees that we are writing, for some seconds.
    """
    count = min(max(conversation.unread_count, 1), MAX_MESSAGES)
    selectors.mark_read(conversation)
    queue.enqueue_reading(conversation.pk, count=count, typing=typing)


def tell_provider(conversation_id: int, *, count: int, typing: bool) -> None:
    """Mark the latest received messages as read at the provider that brought the last of them.

    A failure is logged only: nothing depends on it, and the next reading repeats it.
    """
    conversation = Conversation.objects.filter(pk=conversation_id).first()
    if conversation is None:
        return
    received = conversation.messages.filter(
        direction=Message.Direction.IN, created_at__gte=timezone.now() - MAX_AGE
    ).exclude(provider_message_id="")
    ids = list(received.values_list("provider_message_id", flat=True)[:count])
    if not ids:
        return
    channel = conversation.channel
    route = quotes.source_route(ids[0], channel.kind)
    same_route = [id_ for id_ in ids if quotes.source_route(id_, channel.kind) == route]
    connection = channel.connection(route)
    if connection.pk is None:
        return
    # One whose linked number is not confirmed does nothing.
    provider = registry.provider_for(connection)
    if not isinstance(provider, MarksRead):
        return
    to = contacts.address_for(conversation, route)
    try:
        provider.mark_read(to, same_route[::-1], typing=typing)
    except SendError as error:
        log.info("messages were not marked as read", route=route, code=error.code)
