"""Look up sends with an unknown outcome at providers that list their messages.

wwebjs-api lists a chat's messages, Evolution an instance's: a listed message with an ack from
WhatsApp's server was sent. Texts are identified by their content, files by their caption, documents
also by their name; any other file is ambiguous and not looked up. A message with an id of ours is
first looked up by that id (docs/providers/evolution.md §10). A missing message proves nothing, so
the message stays held for a person. (Meta's `message_history` would do this for the official API;
its response is not verified, docs/providers/cloud.md §1.4, so it is not used.)
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

from channels_app.connections.registry import wwebjs_provider
from channels_app.models import EvolutionCredentials
from channels_app.providers.base import SendError
from channels_app.providers.events import MessageEvent, Receipt, ReceiptEvent
from channels_app.providers.evolution import events as evolution_events
from channels_app.providers.evolution.receive_mode import EvolutionFailed, EvolutionInstance
from core import http_client, phone_numbers
from messaging.delivery import attempts as outcomes
from messaging.delivery.statuses import Outcome, Route
from messaging.models import DeliveryAttempt, Message

# Before MIN_AGE the send may still be in progress; after MAX_AGE a lookup is of no use.
MIN_AGE, MAX_AGE = dt.timedelta(seconds=5), dt.timedelta(minutes=15)
# Maximum duration of a run: messages need its worker slot, too.
RUN_SECONDS = 10.0
# Number of an instance's messages that one lookup reads.
PAGE_SIZE = 50
# The server has its own clock, with a resolution of one second.
CLOCK_SKEW = dt.timedelta(seconds=5)

log = structlog.get_logger(__name__)


def look_up_unknown() -> None:
    """Look up messages with an unknown outcome at wwebjs-api and Evolution.

    Only one run at a time. It ends RUN_SECONDS after its start, plus the request in progress, and
    does not call a server again that did not respond.
    """
    now = timezone.now()
    unknown = DeliveryAttempt.objects.filter(
        outcome=Outcome.UNKNOWN,
        connection__provider__in=_FINDERS,
        started_at__range=(now - MAX_AGE, now - MIN_AGE),
    ).select_related("connection__channel", "message__conversation__contact", "message__media")
    candidates = [
        (attempt, fingerprint)
        for attempt in unknown
        if (fingerprint := _fingerprint(attempt.message)) is not None or attempt.reserved_id
    ]
    # Random order, so that messages that are not found do not block later ones.
    random.shuffle(candidates)
    unresponsive: set[int] = set()
    deadline = time.monotonic() + RUN_SECONDS
    for attempt, fingerprint in candidates:
        if time.monotonic() > deadline:
            break
        if attempt.connection_id not in unresponsive and not _look_up(attempt, fingerprint):
            unresponsive.add(attempt.connection_id)


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """What identifies a message. The file name counts only without a text."""

    type: str
    text: str
    filename: str = ""

    def matches(self, *, type_: str, text: str, filename: str) -> bool:
        same_name = bool(self.text) or filename == self.filename
        return type_ == self.type and text == self.text and same_name

    @property
    def attempts(self) -> Q:
        matching = outcomes.matching_content(self.type, self.text, self.filename)
        assert matching is not None
        return matching


def _fingerprint(message: Message) -> _Fingerprint | None:
    """Return what identifies the message, None if it is ambiguous."""
    content = message.content if isinstance(message.content, dict) else {}
    text = message.text or content.get("caption") or ""
    name = content.get("filename") or (message.media.filename if message.media else "")
    if outcomes.matching_content(message.type, text, name) is None:
        return None
    return _Fingerprint(message.type, text, name)


def _look_up(attempt: DeliveryAttempt, fingerprint: _Fingerprint | None) -> bool:
    """Look up one send. Return whether the server responded."""
    message = attempt.message
    try:
        if attempt.reserved_id and _find_by_id(attempt):
            return True
        if fingerprint is None:
            return True
        since = attempt.started_at - CLOCK_SKEW
        ids = _FINDERS[Route(attempt.route)](attempt, fingerprint, since)
    except (SendError, http_client.RequestFailed, EvolutionFailed) as error:
        log.info("lookup of an unknown send failed", error=type(error).__name__)
        if isinstance(error, EvolutionFailed):
            return error.answered
        # An error response may concern only this chat (docs/providers/wwebjs.md §3).
        return isinstance(error, SendError)
    if attempt.provider_message_id:
        # The session's own event reported the id: the message is listed under it or not at all.
        if attempt.provider_message_id in ids:
            outcomes.record_receipt(attempt, Receipt.SENT)
        return True
    assigned = set(
        DeliveryAttempt.objects.filter(
            connection__channel=attempt.connection.channel_id, provider_message_id__in=ids
        ).values_list("provider_message_id", flat=True)
    )
    unassigned = [id_ for id_ in ids if id_ not in assigned]
    if len(unassigned) > _count_others_without_id(attempt, fingerprint):
        log.info("lookup found an unknown send", message=str(message.pk))
        outcomes.record_receipt(attempt, Receipt.SENT, provider_message_id=unassigned[0])
    return True


def _find_by_id(attempt: DeliveryAttempt) -> bool:
    """Return whether the server has a message with the id that we chose, and record its receipt."""
    record = _evolution(attempt).message(attempt.reserved_id)
    if record is None:
        return False
    receipts = _receipts_of(record, attempt.connection.channel.instance_name)
    accepted = bool(receipts & _ACCEPTED_RECEIPTS) and Receipt.FAILED not in receipts
    log.info("lookup by id found a send", message=str(attempt.message_id), taken=accepted)
    outcomes.record_receipt(
        attempt,
        Receipt.SENT if accepted else Receipt.NONE,
        provider_message_id=attempt.reserved_id,
    )
    return True


def _receipts_of(record: dict[str, Any], instance: str) -> set[Receipt]:
    events = [
        event
        for status in evolution_events.statuses_of(record, instance)
        for event in evolution_events.read(status)
    ]
    return {event.receipt for event in events if isinstance(event, ReceiptEvent)}


def _count_others_without_id(attempt: DeliveryAttempt, fingerprint: _Fingerprint) -> int:
    """Count the other sends of the same content that were, or may be, accepted without an id.

    That many of the listed messages belong to them.
    """
    return (
        DeliveryAttempt.objects.filter(
            fingerprint.attempts,
            connection=attempt.connection_id,
            provider_message_id="",
            outcome__in=(Outcome.STARTED, Outcome.ACCEPTED),
            message__conversation=attempt.message.conversation_id,
            started_at__gte=attempt.started_at,
        )
        .exclude(pk=attempt.pk)
        .count()
    )


def _search_wwebjs(
    attempt: DeliveryAttempt, fingerprint: _Fingerprint, since: dt.datetime
) -> list[str]:
    number = attempt.message.conversation.contact.phone_number or ""
    sent = wwebjs_provider(attempt.connection).sent_messages(number, since=since)
    return [
        m.id for m in sent if fingerprint.matches(type_=m.type, text=m.text, filename=m.filename)
    ]


def _evolution(attempt: DeliveryAttempt) -> EvolutionInstance:
    return EvolutionInstance(attempt.connection.channel.credentials(EvolutionCredentials))


def _search_evolution(
    attempt: DeliveryAttempt, fingerprint: _Fingerprint, since: dt.datetime
) -> list[str]:
    """Return the ids, oldest first, of the latest matching messages that WhatsApp accepted."""
    name = attempt.connection.channel.instance_name
    number = phone_numbers.spellings(attempt.message.conversation.contact.phone_number or "")
    ids = []
    for record in _evolution(attempt).messages(page=1, size=PAGE_SIZE):
        sent = next(iter(evolution_events.read(evolution_events.as_event(name, record))), None)
        if (
            isinstance(sent, MessageEvent)
            and sent.outgoing
            and fingerprint.matches(
                type_=sent.type, text=sent.text, filename=str(sent.content.get("filename") or "")
            )
            and sent.phone_number in number
            and sent.at >= since
        ):
            receipts = _receipts_of(record, name)
            if receipts & _ACCEPTED_RECEIPTS and Receipt.FAILED not in receipts:
                ids.append(sent.provider_message_id)
    return ids[::-1]


_ACCEPTED_RECEIPTS = {Receipt.SENT, Receipt.DELIVERED, Receipt.READ}
_FINDERS: dict[Route, Callable[[DeliveryAttempt, _Fingerprint, dt.datetime], list[str]]] = {
    Route.WWEBJS: _search_wwebjs,
    Route.BAILEYS: _search_evolution,
}
