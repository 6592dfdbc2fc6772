"""Send the greetings and out-of-hours answers of the channels. A job of its own does it.

1. Find the conversations with a new message on channels that answer: a few queries for many.
2. Ask `answer_rules` about each.
3. In one transaction, under the conversation's lock: ask again, note the answer of the day, and
   accept it as an ordinary message.
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
from messaging.delivery.schedule import Times
from messaging.inbox import answer_rules
from messaging.inbox.answer_rules import Texts, Waiting
from messaging.models import AutomaticAnswer, Conversation, Message

log = structlog.get_logger(__name__)

# An answer that comes later than this surprises more than it helps: no worker was running.
NEW_FOR: Final = dt.timedelta(minutes=15)
# So many conversations are decided with the same queries.
BATCH: Final = 200
# The key in `Message.context` by which an automatic answer is known, with its kind.
CONTEXT_KEY: Final = "automatic"


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
    ids = list(recent.order_by("-last_message_at").values_list("pk", flat=True))
    sent = 0
    for start in range(0, len(ids), BATCH):
        waiting = list(recent.filter(pk__in=ids[start : start + BATCH]))
        for conversation, kind in _due(waiting, channels, now=now):
            sent += _send(conversation, kind, channels[conversation.channel_id], now=now)
    return sent


def _due(
    waiting: list[Conversation], channels: dict[int, Channel], *, now: dt.datetime
) -> list[tuple[Conversation, str]]:
    """Return the conversations to answer now, and with what. A few queries for all."""
    outgoing = _last_outgoing(waiting, since=now - answer_rules.NO_GREETING_AFTER)
    answered = _answered(waiting, channels, now=now)
    latest = _latest_answers(waiting)
    due = []
    for conversation in waiting:
        assert conversation.last_inbound_at is not None
        kind = answer_rules.answer(
            _texts(channels[conversation.channel_id]),
            Waiting(
                last_inbound_at=conversation.last_inbound_at,
                last_outgoing_at=outgoing.get(conversation.pk),
                is_group=addresses.is_group(conversation.contact.user_id or ""),
                is_elsewhere=bool(control.holder(conversation)),
                answered=answered.get(conversation.pk, ()),
                answered_at=latest.get(conversation.pk),
            ),
            now=now,
        )
        if kind is not None:
            due.append((conversation, kind))
    return due


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
    answers = AutomaticAnswer.objects.filter(conversation__in=waiting, message__isnull=False)
    sent = sent.exclude(pk__in=answers.values("message"))
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


def _latest_answers(waiting: list[Conversation]) -> dict[int, dt.datetime]:
    rows = AutomaticAnswer.objects.filter(conversation__in=waiting).order_by()
    return dict(rows.values_list("conversation").annotate(at=Max("created_at")))


def _send(conversation: Conversation, kind: str, channel: Channel, *, now: dt.datetime) -> bool:
    """Send the answer, unless somebody was faster; return whether it was accepted."""
    texts = _texts(channel)
    day = opening_hours.local_day(now, texts.time_zone)
    try:
        with transaction.atomic():
            locked = contacts.lock_conversation(conversation)
            if locked.last_inbound_at is None:
                return False
            if _due([locked], {channel.pk: channel}, now=now) != [(locked, kind)]:
                # Somebody has answered since, or another process.
                return False
            noted: Any = AutomaticAnswer.objects.create(conversation=locked, kind=kind, day=day)
            accepted = accept.accept_message(
                conversation=locked,
                user=None,
                text=_text(texts, kind),
                # Whatever delays it, it is not sent when it surprises.
                times=Times(deliver_by=now + NEW_FOR),
            )
            Message.objects.filter(pk=accepted.message.pk).update(
                context={CONTEXT_KEY: kind},
                # Nobody has to know that it was not delivered in time.
                deadline_check_at=None,
            )
            AutomaticAnswer.objects.filter(pk=noted.pk).update(message=accepted.message)
            # What a person writes answers the customer; this does not.
            Conversation.objects.filter(pk=locked.pk).update(unread_count=locked.unread_count)
    except IntegrityError:
        return False
    except ValidationError as error:
        log.warning("automatic answer refused", conversation=conversation.pk, errors=str(error))
        return False
    return True
