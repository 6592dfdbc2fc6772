"""Understand a text that answers a message with options.

A route without buttons sends them as numbered lines, and a template with its quick replies as its
text (`delivery.downgrade`).
"""

from __future__ import annotations

import datetime as dt

from django.db.models import Q

from channels_app.models import Channel
from messaging import choices, template_bubbles, words
from messaging.choices import Option
from messaging.delivery.statuses import Outcome, Status
from messaging.models import Message

# A later text is no answer, unless it quotes the message. A number is none, either, if we wrote
# since, or if one was chosen already: it may be the answer to another question.
ANSWERED_WITHIN = dt.timedelta(days=7)


# Most templates have no quick replies: so many messages are looked at for options.
_LOOKED_AT = 5


def note_choice(channel: Channel, message: Message) -> None:
    """Note in a received text which option it names, of our latest message with some. Not saved.

    A fallback on another number has its answers in another conversation with the customer.
    """
    if message.direction != Message.Direction.IN or message.type != "text":
        return
    if not 0 < len(message.text) <= choices.MAX_ANSWER:
        return
    offered = Message.objects.filter(
        conversation__contact=message.conversation.contact_id,
        direction=Message.Direction.OUT,
        type__in=["interactive", "template"],
        created_at__lte=message.created_at,
        attempts__outcome=Outcome.ACCEPTED,
        attempts__connection__channel=channel.pk,
        attempts__sent_type__gt="",
    )
    if message.reply_to_id is not None:
        offered = offered.filter(pk=message.reply_to_id)
    else:
        offered = offered.filter(created_at__gte=message.created_at - ANSWERED_WITHIN)
    newest = offered.only("type", "content", "context").order_by("-created_at")[:_LOOKED_AT]
    latest, options = next(
        ((one, options) for one in newest if (options := _options(one))), (None, ())
    )
    if latest is None:
        return
    is_number = choices.is_number(message.text)
    option = choices.chosen(message.text, options)
    if option is None or (is_number and latest.type == "template"):
        return
    is_quoted = message.reply_to_id is not None
    if is_quoted or not is_number or _is_open(latest, message):
        chosen = {"message": str(latest.pk), "id": option.id, "title": option.title}
        message.context = {**message.context, "chosen": chosen}


def _options(offered: Message) -> tuple[Option, ...]:
    if offered.type == "template":
        shown = offered.context.get(template_bubbles.KEY)
        return choices.quick_replies(shown, offered.content)
    return choices.options(offered.content)


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
