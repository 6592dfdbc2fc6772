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
from dataclasses import dataclass

import structlog
from django.db.models import Q
from django.utils import timezone

from channels_app.connections import registry
from channels_app.providers import engines
from channels_app.providers.base import Capabilities, FindsById, ListsSent, LookupFailed
from channels_app.providers.events import Receipt
from messaging import contacts
from messaging.delivery import attempts
from messaging.delivery.statuses import Outcome
from messaging.models import DeliveryAttempt

# Before MIN_AGE the send may still be in progress; after MAX_AGE a lookup is of no use.
MIN_AGE, MAX_AGE = dt.timedelta(seconds=5), dt.timedelta(minutes=15)
# Maximum duration of a run: messages need its worker slot, too.
RUN_SECONDS = 10.0
# The server has its own clock, with a resolution of one second.
CLOCK_SKEW = dt.timedelta(seconds=5)

log = structlog.get_logger(__name__)


def _has_lookup(engine: Capabilities) -> bool:
    return engine.lists_sent or engine.finds_by_id


def look_up_unknown() -> None:
    """Look up messages with an unknown outcome at the providers that can tell.

    Only one run at a time. It ends RUN_SECONDS after its start, plus the request in progress, and
    does not call a server again that did not respond.
    """
    now = timezone.now()
    unknown = DeliveryAttempt.objects.filter(
        outcome=Outcome.UNKNOWN,
        connection__provider__in=engines.names_with(_has_lookup),
        started_at__range=(now - MAX_AGE, now - MIN_AGE),
    ).select_related(
        "connection__channel",
        "message__conversation__contact",
        "message__conversation__channel__cloud",
        "message__media",
    )
    candidates = [
        (attempt, fingerprint)
        for attempt in unknown
        if (fingerprint := _fingerprint(attempt)) is not None or attempt.reserved_id
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
    def matching(self) -> Q:
        content = attempts.matching_content(self.type, self.text, self.filename)
        assert content is not None
        return content


def _fingerprint(attempt: DeliveryAttempt) -> _Fingerprint | None:
    """Return what identifies the message as it was sent, None if it is ambiguous."""
    message = attempt.message
    content = message.content if isinstance(message.content, dict) else {}
    type_, text = message.type, message.text or content.get("caption") or ""
    if attempt.sent_type:
        type_, text = attempt.sent_type, attempt.sent_text
    name = content.get("filename") or (message.media.filename if message.media else "")
    if attempts.matching_content(type_, text, name) is None:
        return None
    return _Fingerprint(type_, text, name)


def _look_up(attempt: DeliveryAttempt, fingerprint: _Fingerprint | None) -> bool:
    """Look up one send. Return whether the server responded."""
    message = attempt.message
    try:
        if attempt.reserved_id and _find_by_id(attempt):
            return True
        if fingerprint is None:
            return True
        since = attempt.started_at - CLOCK_SKEW
        ids = _search(attempt, fingerprint, since)
    except LookupFailed as error:
        log.info("lookup of an unknown send failed", code=error.code)
        return error.answered
    if attempt.provider_message_id:
        # The session's own event reported the id: the message is listed under it or not at all.
        if attempt.provider_message_id in ids:
            attempts.record_receipt(attempt, Receipt.SENT)
        return True
    assigned = set(
        DeliveryAttempt.objects.filter(
            connection__channel=attempt.connection.channel_id, provider_message_id__in=ids
        ).values_list("provider_message_id", flat=True)
    )
    unassigned = [id_ for id_ in ids if id_ not in assigned]
    if len(unassigned) > _count_others_without_id(attempt, fingerprint):
        log.info("lookup found an unknown send", message=str(message.pk))
        attempts.record_receipt(attempt, Receipt.SENT, provider_message_id=unassigned[0])
    return True


def _find_by_id(attempt: DeliveryAttempt) -> bool:
    """Return whether the server has a message with the id that we chose, and record its receipt."""
    provider = registry.unguarded(attempt.connection)
    receipt = provider.find_sent(attempt.reserved_id) if isinstance(provider, FindsById) else None
    if receipt is None:
        return False
    log.info("lookup by id found a send", message=str(attempt.message_id), receipt=receipt.value)
    attempts.record_receipt(attempt, receipt, provider_message_id=attempt.reserved_id)
    return True


def _search(attempt: DeliveryAttempt, fingerprint: _Fingerprint, since: dt.datetime) -> list[str]:
    """Return the ids, oldest first, of the matching messages that WhatsApp accepted since then."""
    provider = registry.unguarded(attempt.connection)
    if not isinstance(provider, ListsSent):
        return []
    to = contacts.address_for(attempt.message.conversation, attempt.connection.provider)
    return [
        sent.id
        for sent in provider.sent_messages(to, since=since)
        if fingerprint.matches(type_=sent.type, text=sent.text, filename=sent.filename)
    ]


def _count_others_without_id(attempt: DeliveryAttempt, fingerprint: _Fingerprint) -> int:
    """Count the other sends of the same content that were, or may be, accepted without an id.

    That many of the listed messages belong to them.
    """
    return (
        DeliveryAttempt.objects.filter(
            fingerprint.matching,
            connection=attempt.connection_id,
            provider_message_id="",
            outcome__in=(Outcome.STARTED, Outcome.ACCEPTED),
            message__conversation=attempt.message.conversation_id,
            started_at__gte=attempt.started_at,
        )
        .exclude(pk=attempt.pk)
        .count()
    )
