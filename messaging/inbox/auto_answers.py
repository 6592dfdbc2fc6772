"""Send the greetings and out-of-hours answers of the channels. A job of its own does it.

1. Find the conversations with a new message on channels that answer: a few queries for all.
2. Ask `answer_rules` about each.
3. In one transaction: note the answer of the day, and accept it as an ordinary message.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import structlog
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Max, Q
from django.utils import timezone

from channels_app import opening_hours
from channels_app.models import Channel
from channels_app.providers import addresses
from messaging import contacts, control
from messaging.delivery import accept
from messaging.inbox import answer_rules
from messaging.inbox.answer_rules import Texts, Waiting
from messaging.models import AutomaticAnswer, Conversation, Message

log = structlog.get_logger(__name__)

# An answer that comes later than this surprises more than it helps: no worker was running.
NEW_FOR: Final = dt.timedelta(minutes=15)
BATCH: Final = 200


def answer_new_messages() -> int:
    """Answer the customers who have just written; return the number of answers."""
    now = timezone.now()
    channels = {
        channel.pk: channel
        for channel in Channel.objects.filter(~Q(greeting="") | ~Q(away_message=""), active=True)
    }
    if not channels:
        return 0
    # The index of the list has them first.
    recent = Conversation.objects.select_related("contact").filter(
        last_message_at__gte=now - NEW_FOR,
        last_inbound_at__gte=now - NEW_FOR,
        channel__in=channels,
    )
    waiting = list(recent.order_by("-last_message_at")[:BATCH])
    outgoing = _last_outgoing(waiting, since=now - answer_rules.NO_GREETING_AFTER)
    answered = _answered(waiting, channels, now=now)
    sent = 0
    for conversation in waiting:
        assert conversation.last_inbound_at is not None
        channel = channels[conversation.channel_id]
        texts = _texts(channel)
        kind = answer_rules.answer(
            texts,
            Waiting(
                last_inbound_at=conversation.last_inbound_at,
                last_outgoing_at=outgoing.get(conversation.pk),
                is_group=addresses.is_group(conversation.contact.user_id or ""),
                is_elsewhere=bool(control.holder(conversation)),
                answered=answered.get(conversation.pk, ()),
            ),
            now=now,
        )
        if kind is not None:
            day = opening_hours.local_day(now, texts.time_zone)
            sent += _send(conversation, kind, _text(texts, kind), day=day)
    return sent


def _texts(channel: Channel) -> Texts:
    return Texts(
        greeting=channel.greeting,
        away=channel.away_message,
        hours=channel.opening_hours,
        time_zone=channel.local_time_zone,
    )


def _text(texts: Texts, kind: str) -> str:
    return texts.greeting if kind == answer_rules.GREETING else texts.away


def _last_outgoing(waiting: list[Conversation], *, since: dt.datetime) -> dict[int, dt.datetime]:
    sent = Message.objects.filter(
        conversation__in=waiting, direction=Message.Direction.OUT, created_at__gte=since
    )
    # A scheduled message has a time in the future.
    sent = sent.filter(created_at__lte=timezone.now())
    # An automatic answer is no person's.
    sent = sent.exclude(
        pk__in=AutomaticAnswer.objects.filter(conversation__in=waiting).values("message")
    )
    latest = sent.order_by().values_list("conversation").annotate(at=Max("created_at"))
    return dict(latest)


def _answered(
    waiting: list[Conversation], channels: dict[int, Channel], *, now: dt.datetime
) -> dict[int, set[str]]:
    days = {pk: opening_hours.local_day(now, one.local_time_zone) for pk, one in channels.items()}
    channel_of = {one.pk: one.channel_id for one in waiting}
    found: dict[int, set[str]] = {}
    rows = AutomaticAnswer.objects.filter(conversation__in=waiting, day__in=set(days.values()))
    for pk, kind, day in rows.values_list("conversation", "kind", "day"):
        if day == days[channel_of[pk]]:
            found.setdefault(pk, set()).add(kind)
    return found


def _send(conversation: Conversation, kind: str, text: str, *, day: dt.date) -> bool:
    """Send the answer unless another process was faster; return whether it was accepted."""
    try:
        with transaction.atomic():
            locked = contacts.lock_conversation(conversation)
            noted: Any = AutomaticAnswer.objects.create(
                conversation=conversation, kind=kind, day=day
            )
            accepted = accept.accept_message(conversation=locked, user=None, text=text)
            AutomaticAnswer.objects.filter(pk=noted.pk).update(message=accepted.message)
            # What a person writes answers the customer; this does not.
            Conversation.objects.filter(pk=locked.pk).update(unread_count=locked.unread_count)
    except IntegrityError:
        return False
    except ValidationError as error:
        log.warning("automatic answer refused", conversation=conversation.pk, errors=str(error))
        return False
    return True
