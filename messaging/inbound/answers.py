"""Understand a text that answers a message with numbered options.

A route without buttons sends them as numbered lines (`delivery.downgrade`).
"""

from __future__ import annotations

import datetime as dt

from django.db.models import Q

from channels_app.models import Channel
from messaging import choices, words
from messaging.delivery.statuses import Outcome, Status
from messaging.models import Message

# A later text is no answer, unless it quotes the message. A number is none, either, if we wrote
# since, or if one was chosen already: it may be the answer to another question.
ANSWERED_WITHIN = dt.timedelta(days=7)


def note_choice(channel: Channel, message: Message) -> None:
    """Note in a received text which option it names, of our latest numbered message. Not saved.

    A fallback on another number has its answers in another conversation with the customer.
    """
    if message.direction != Message.Direction.IN or message.type != "text":
        return
    if not 0 < len(message.text) <= choices.MAX_ANSWER:
        return
    offered = Message.objects.filter(
        conversation__contact=message.conversation.contact_id,
        direction=Message.Direction.OUT,
        type="interactive",
        created_at__lte=message.created_at,
        attempts__outcome=Outcome.ACCEPTED,
        attempts__connection__channel=channel.pk,
        attempts__sent_type__gt="",
    )
    if message.reply_to_id is not None:
        offered = offered.filter(pk=message.reply_to_id)
    else:
        offered = offered.filter(created_at__gte=message.created_at - ANSWERED_WITHIN)
    latest = offered.only("content").order_by("-created_at").first()
    if latest is None:
        return
    option = choices.chosen(message.text, choices.options(latest.content))
    if option is None:
        return
    is_quoted = message.reply_to_id is not None
    if is_quoted or not choices.is_number(message.text) or _is_open(latest, message):
        chosen = {"message": str(latest.pk), "id": option.id, "title": option.title}
        message.context = {**message.context, "chosen": chosen}


def _is_open(offered: Message, answer: Message) -> bool:
    """Return whether a number can only mean this message: nothing was asked or chosen since."""
    since = Message.objects.filter(
        conversation__contact=answer.conversation.contact_id,
        created_at__gte=offered.created_at,
        created_at__lte=answer.created_at,
    ).exclude(pk=offered.pk)
    wrote = since.filter(direction=Message.Direction.OUT).exclude(
        Q(type__in=words.OPEN_NO_WINDOW) | Q(status=Status.REJECTED)
    )
    chose = since.filter(context__chosen__message=str(offered.pk))
    return not wrote.exists() and not chose.exists()
