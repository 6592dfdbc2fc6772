"""Unknown sends by a session, looked up at the provider that can tell.

wwebjs-api lists a chat's messages, Evolution those of an instance: what stands there with an ack of
WhatsApp's server was sent. Texts are known by their words, files by their caption or a document by
its name; a file without either may be any file and is not looked up. A message whose id we chose
is looked for by that id first (contracts/evolution-api.md §10). What does not stand there proves
nothing, so the message goes on being held for a person.
(Meta's `message_history` would be the like for the official API; what it answers is not verified,
contracts/cloud-api.md §1.4, so nothing is built on it.)
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from django.db.models import Q
from django.utils import timezone

from channels_app.providers.base import SendError
from channels_app.providers.events import MessageEvent, Receipt, ReceiptEvent
from channels_app.providers.evolution import events as evolution_events
from channels_app.providers.evolution.receive_mode import EvolutionFailed, EvolutionInstance
from channels_app.providers.wwebjs.client import WwebjsProvider
from core import http_client, phone_numbers
from messaging.delivery import attempts as outcomes
from messaging.delivery.statuses import Outcome, Route
from messaging.models import DeliveryAttempt, Message

# Meanwhile the send may still be under way; after that nobody expects it any more.
FIRST_AFTER, LAST_AFTER = dt.timedelta(seconds=5), dt.timedelta(minutes=15)
# A run asks no longer than this: its place in the worker is wanted for messages, too.
RUN_SECONDS = 10.0
# Messages of an instance that one look-up reads.
LATEST = 50
# The server counts whole seconds, by its own clock.
CLOCKS_DIFFER = dt.timedelta(seconds=5)

log = structlog.get_logger(__name__)


def look_up_unknown() -> None:
    """Ask wwebjs-api and Evolution for the messages whose send nobody heard the end of.

    One run at a time. It ends after RUN_SECONDS, the question then under way excepted, and asks a
    server that gave no answer no second time.
    """
    now = timezone.now()
    unknown = DeliveryAttempt.objects.filter(
        outcome=Outcome.UNKNOWN,
        route__in=_FINDERS,
        started_at__range=(now - LAST_AFTER, now - FIRST_AFTER),
    ).select_related("channel", "message__conversation__contact", "message__media")
    known = [
        (attempt, words)
        for attempt in unknown
        if (words := _words(attempt.message)) is not None or attempt.reserved_id
    ]
    # In any order: those that are not found must not keep the later ones from being asked for.
    random.shuffle(known)
    silent: set[int] = set()
    deadline = time.monotonic() + RUN_SECONDS
    for attempt, words in known:
        if time.monotonic() > deadline:
            break
        if attempt.channel_id not in silent and not _look_up(attempt, words):
            silent.add(attempt.channel_id)


@dataclass(frozen=True, slots=True)
class _Words:
    """What a message is known by. A name counts where there is no text."""

    type: str
    text: str
    filename: str = ""

    def are_of(self, *, type_: str, text: str, filename: str) -> bool:
        named = bool(self.text) or filename == self.filename
        return type_ == self.type and text == self.text and named

    @property
    def attempts(self) -> Q:
        found = outcomes.matching_content(self.type, self.text, self.filename)
        assert found is not None
        return found


def _words(message: Message) -> _Words | None:
    """Return what the message is known by, None where it might be any other."""
    content = message.content if isinstance(message.content, dict) else {}
    text = message.text or content.get("caption") or ""
    name = content.get("filename") or (message.media.filename if message.media else "")
    if outcomes.matching_content(message.type, text, name) is None:
        return None
    return _Words(message.type, text, name)


def _look_up(attempt: DeliveryAttempt, words: _Words | None) -> bool:
    """Look for one send; returns whether the server answered."""
    message = attempt.message
    try:
        if attempt.reserved_id and _is_found_by_id(attempt):
            return True
        if words is None:
            return True
        since = attempt.started_at - CLOCKS_DIFFER
        found = _FINDERS[Route(attempt.route)](attempt, words, since)
    except (SendError, http_client.RequestFailed, EvolutionFailed) as error:
        log.info("look-up of an unknown send failed", error=type(error).__name__)
        if isinstance(error, EvolutionFailed):
            return error.answered
        # An error that was answered may be about this one chat (contracts/wwebjs-api.md §3).
        return isinstance(error, SendError)
    if attempt.provider_message_id:
        # Named by the session's own event: it stands there by that name or not at all.
        if attempt.provider_message_id in found:
            outcomes.record_receipt(attempt, Receipt.SENT)
        return True
    taken = set(
        DeliveryAttempt.objects.filter(
            channel=attempt.channel_id, provider_message_id__in=found
        ).values_list("provider_message_id", flat=True)
    )
    free = [id_ for id_ in found if id_ not in taken]
    if len(free) > _others_without_id(attempt, words):
        log.info("look-up found an unknown send", message=str(message.pk))
        outcomes.record_receipt(attempt, Receipt.SENT, provider_message_id=free[0])
    return True


def _is_found_by_id(attempt: DeliveryAttempt) -> bool:
    """Whether the server has a message of the id that we chose; what it tells of it is recorded."""
    record = EvolutionInstance(attempt.channel).message(attempt.reserved_id)
    if record is None:
        return False
    receipts = _receipts_of(record, attempt.channel.instance_name)
    taken = bool(receipts & _TAKEN) and Receipt.FAILED not in receipts
    log.info("look-up by id found a send", message=str(attempt.message_id), taken=taken)
    outcomes.record_receipt(
        attempt,
        Receipt.SENT if taken else Receipt.NONE,
        provider_message_id=attempt.reserved_id,
    )
    return True


def _receipts_of(record: dict[str, Any], instance: str) -> set[Receipt]:
    told = [
        event
        for word in evolution_events.statuses_of(record, instance)
        for event in evolution_events.read(word)
    ]
    return {event.receipt for event in told if isinstance(event, ReceiptEvent)}


def _others_without_id(attempt: DeliveryAttempt, words: _Words) -> int:
    """How many sends of the same words were taken, or may be, whose ids are not known either.

    As many of the messages that were found are theirs.
    """
    return (
        DeliveryAttempt.objects.filter(
            words.attempts,
            channel=attempt.channel_id,
            route=attempt.route,
            provider_message_id="",
            outcome__in=(Outcome.STARTED, Outcome.ACCEPTED),
            message__conversation=attempt.message.conversation_id,
            started_at__gte=attempt.started_at,
        )
        .exclude(pk=attempt.pk)
        .count()
    )


def _by_wwebjs(attempt: DeliveryAttempt, words: _Words, since: dt.datetime) -> list[str]:
    number = attempt.message.conversation.contact.phone_number or ""
    sent = WwebjsProvider(attempt.channel).sent_messages(number, since=since)
    return [m.id for m in sent if words.are_of(type_=m.type, text=m.text, filename=m.filename)]


def _by_evolution(attempt: DeliveryAttempt, words: _Words, since: dt.datetime) -> list[str]:
    """The ids, oldest first, of the latest messages that are this one and that WhatsApp took."""
    name = attempt.channel.instance_name
    number = phone_numbers.spellings(attempt.message.conversation.contact.phone_number or "")
    found = []
    for record in EvolutionInstance(attempt.channel).messages(page=1, size=LATEST):
        sent = next(iter(evolution_events.read(evolution_events.as_event(name, record))), None)
        if (
            isinstance(sent, MessageEvent)
            and sent.outgoing
            and words.are_of(
                type_=sent.type, text=sent.text, filename=str(sent.content.get("filename") or "")
            )
            and sent.phone_number in number
            and sent.at >= since
        ):
            receipts = _receipts_of(record, name)
            if receipts & _TAKEN and Receipt.FAILED not in receipts:
                found.append(sent.provider_message_id)
    return found[::-1]


_TAKEN = {Receipt.SENT, Receipt.DELIVERED, Receipt.READ}
_FINDERS: dict[Route, Callable[[DeliveryAttempt, _Words, dt.datetime], list[str]]] = {
    Route.WWEBJS: _by_wwebjs,
    Route.BAILEYS: _by_evolution,
}
