"""Write down what became of an attempt, and what the message therefore is.

Everything that ends an attempt or tells more about it passes here: the worker's own result, a
receipt by webhook, a worker that died. The message's row is locked first, always.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.utils import timezone
from django.utils.translation import gettext_noop

from channels_app.models import Channel
from channels_app.providers.base import Accepted, Quote, Rejected, SendError, Unknown
from channels_app.providers.cloud.events import web_message_id
from channels_app.providers.error_codes import NO_REASON
from channels_app.providers.events import Receipt
from channels_app.providers.evolution.client import RESERVED_PREFIX
from core import phone_numbers
from messaging import tasks
from messaging.content import MEDIA_TYPES
from messaging.delivery import channel_feedback, policy, quotes, statuses
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import amendments, pending_events
from messaging.live import publisher
from messaging.models import Conversation, DeliveryAttempt, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# Some provider has the message: nothing is decided or waited for any more.
TAKEN = (statuses.Status.SENT, statuses.Status.DELIVERED, statuses.Status.READ)
# How far the send may lie from the time that the ack's message tells.
_UNNAMED_BEFORE, _UNNAMED_AFTER = dt.timedelta(minutes=10), dt.timedelta(seconds=10)

WITHOUT_CAPTION = ~Q(message__content__has_key="caption") | Q(message__content__caption="")
# Of several sends of the same words, a sign of one says nothing yet of one that may not have left.
TAKEN_FIRST = (ExpressionWrapper(Q(outcome=Outcome.UNKNOWN), BooleanField()), "started_at")


def reference(attempt: DeliveryAttempt) -> str:
    """Return what names this attempt to a provider that echoes it back."""
    return f"{attempt.message_id}.{attempt.number}"


def find(*, channel_id: int, reference: str, provider_message_id: str) -> DeliveryAttempt | None:
    """Return the attempt of this channel that a provider's event names, by reference or by id.

    The caller holds a transaction. Where None is returned, no worker can learn the id before it
    ends: an event that it stores as pending will be found.
    """
    if attempt := _find_by_reference(reference, channel_id=channel_id):
        return attempt
    pending_events.lock_id(channel_id, provider_message_id)
    of_channel = DeliveryAttempt.objects.filter(channel_id=channel_id).order_by("-id")
    if named := of_channel.filter(provider_message_id=provider_message_id).first():
        return named
    if not provider_message_id.startswith(RESERVED_PREFIX):
        return None
    # The answer of the send has not come yet, or never will.
    return of_channel.filter(reserved_id=provider_message_id, provider_message_id="").first()


def find_unnamed(
    *, channel_id: int, phone_number: str, text: str, at: dt.datetime
) -> DeliveryAttempt | None:
    """Return the attempt that a wwebjs ack speaks of although its answer told no id.

    That is the server's normal answer on today's WhatsApp Web (contracts/wwebjs-api.md §3), and
    what is left of an answer that never came. The oldest with this text to this number is meant,
    of those that were not taken for certain the last; where the number is hidden, the only one
    with this text.
    """
    candidates = DeliveryAttempt.objects.filter(
        channel_id=channel_id,
        route=Route.WWEBJS,
        provider_message_id="",
        outcome__in=(Outcome.STARTED, Outcome.ACCEPTED, Outcome.UNKNOWN),
        message__type="text",
        message__text=text,
        started_at__range=(at - _UNNAMED_BEFORE, at + _UNNAMED_AFTER),
    ).order_by(*TAKEN_FIRST)
    if phone_number:
        spellings = phone_numbers.spellings(phone_number)
        sent_there = candidates.filter(message__conversation__contact__phone_number__in=spellings)
        return sent_there.first()
    found = list(candidates[:2])
    return found[0] if len(found) == 1 else None


def matching_content(type_: str, text: str, filename: str = "") -> Q | None:
    """Return what selects the attempts of messages with these words, or None where there are none.

    A file is known by its caption, a document by its name as well; any other file without words
    may be any file.
    """
    if type_ == "text":
        return Q(message__type=type_, message__text=text) if text else None
    if type_ not in MEDIA_TYPES:
        return None
    if text:
        return Q(message__type=type_, message__content__caption=text)
    if type_ == "document" and filename:
        same = Q(message__content__filename=filename) | Q(message__media__filename=filename)
        return Q(same, WITHOUT_CAPTION, message__type=type_)
    return None


def _find_by_reference(text: str, *, channel_id: int) -> DeliveryAttempt | None:
    message, _, number = text.partition(".")
    try:
        found = DeliveryAttempt.objects.filter(
            message_id=uuid.UUID(message), number=int(number), channel_id=channel_id
        )
    except ValueError:
        return None
    return found.order_by().first()


def _would_repeat(attempt: DeliveryAttempt) -> bool:
    """Whether a send by this route would go by the same account, which knows the attempt's id."""
    channel = attempt.message.conversation.channel
    if channel.kind == Channel.Kind.OFFICIAL:
        same = channel.fallback_channel_id == attempt.channel_id
    else:
        same = channel.pk == attempt.channel_id
    return same and attempt.channel.takes_message_ids


def facts(attempts: Sequence[DeliveryAttempt]) -> list[policy.AttemptFacts]:
    """Return a message's attempts as the policy sees them."""
    # Only then it matters, and is worth the query.
    in_doubt = any(attempt.outcome == Outcome.UNKNOWN for attempt in attempts)
    return [
        policy.AttemptFacts(
            round=attempt.round,
            route=Route(attempt.route),
            outcome=Outcome(attempt.outcome),
            error_code=attempt.error_code,
            finished_at=attempt.finished_at,
            repeatable=in_doubt and bool(attempt.reserved_id) and _would_repeat(attempt),
        )
        for attempt in attempts
    ]


def quote(message: Message, attempt: DeliveryAttempt) -> Quote | None:
    """Return what the message quotes, as this attempt's provider knows it; None without a quote."""
    quoted = message.reply_to
    if quoted is None:
        return None
    own = message.conversation.channel
    # A person's own echo of a message carries the id of the other side.
    told = [quoted, *quoted.echoes.all()] if quoted.direction == Message.Direction.OUT else [quoted]
    ids = [
        quotes.KnownId(
            one.provider_message_id,
            by=_connection(own, quotes.source_route(one.provider_message_id, own.kind)),
            chat=one.provider_chat,
        )
        for one in told
        if one.conversation_id == message.conversation_id
    ]
    ids += [
        quotes.KnownId(sent.provider_message_id, by=_connection(sent.channel, Route(sent.route)))
        for sent in quoted.attempts.select_related("channel").order_by("number")
        if sent.outcome in (Outcome.ACCEPTED, Outcome.UNKNOWN)
    ]
    from_us = quoted.direction == Message.Direction.OUT
    by = _connection(attempt.channel, Route(attempt.route))
    return quotes.quote(ids, from_us=from_us, by=by)


def _connection(channel: Channel, route: Route) -> quotes.Connection:
    number = channel.wwebjs_own_number if route == Route.WWEBJS else channel.phone_number
    return quotes.Connection(channel.pk, route, re.sub(r"\D", "", number))


def record_result(attempt: DeliveryAttempt, result: Accepted | SendError) -> Outcome:
    """Write the provider's answer to an attempt, and what the message is now.

    Returns the attempt's outcome, which receipts that were faster than the answer have a part in.
    Doing it again changes nothing.
    """
    with transaction.atomic():
        if isinstance(result, Accepted | Unknown):
            _lock_id(attempt, result.provider_message_id or "")
        attempts, attempt = _locked(attempt)
        before = _known(attempt)
        if isinstance(result, Accepted):
            answer = Outcome.ACCEPTED
        else:
            answer = Outcome(result.outcome)
            if attempt.receipt != Receipt.FAILED or not statuses.late_error_overrides(
                attempt.error_code, known=result.code, outcome=answer
            ):
                _set_error(attempt, code=result.code, title=result.title, detail=result.detail)
        if before.outcome in (Outcome.STARTED, Outcome.UNKNOWN):
            attempt.finished_at = timezone.now()
        attempt.outcome = answer
        _merge(attempt, Receipt.NONE, None)
        if isinstance(result, Accepted | Unknown):
            _learn_id(attempt, result.provider_message_id or "")
        _save(attempt, before, attempts)
        return Outcome(attempt.outcome)


def _lock_id(attempt: DeliveryAttempt, provider_message_id: str) -> None:
    """Lock the id before the message's row, in the order in which the reader of events does."""
    if provider_message_id:
        pending_events.lock_id(attempt.channel_id, provider_message_id)


def close_abandoned(attempts: Sequence[DeliveryAttempt]) -> None:
    """End an attempt whose worker died: whether it was sent is not known.

    The caller holds the message's row, and the job's lock proves that no worker is at it.
    """
    for attempt in attempts:
        if attempt.outcome != Outcome.STARTED:
            continue
        attempt.outcome = Outcome.UNKNOWN
        attempt.finished_at = timezone.now()
        _set_error(
            attempt,
            code=policy.WORKER_LOST,
            title=gettext_noop("The process that was sending it ended before the answer came"),
            detail="",
        )
        attempt.save()


def record_receipt(
    attempt: DeliveryAttempt,
    receipt: Receipt,
    *,
    provider_message_id: str = "",
    error: SendError | None = None,
) -> None:
    """Add what a provider told about an attempt. Telling it again, or late, changes nothing."""
    if _is_known(attempt, receipt, provider_message_id, error):
        return
    # What fails here fails the caller's transaction as well, which reads many receipts.
    with transaction.atomic(savepoint=False):
        _lock_id(attempt, provider_message_id)
        attempts, attempt = _locked(attempt)
        before = _known(attempt)
        _merge(attempt, receipt, error)
        _learn_id(attempt, provider_message_id)
        _save(attempt, before, attempts)
        if attempt.outcome == Outcome.REJECTED != before.outcome:
            # A late failure: the policy decides again, as for a refusal at once.
            tasks.enqueue_delivery(attempt.message)
        news = (attempt.outcome, attempt.error_code) != (before.outcome, before.error_code)
        if news or attempt.rule in ("probe", "asked"):
            channel_feedback.note_receipt(attempt)


def confirm(message: Message, *, user: User | None) -> None:
    """Let a person's word prove the latest unknown attempt. The caller holds the message's row."""
    unknown = message.attempts.filter(outcome=Outcome.UNKNOWN).latest("number")
    unknown.confirmed_by = user
    unknown.save(update_fields=["confirmed_by"])
    record_receipt(unknown, Receipt.SENT)


def refresh_message_status(
    message: Message, attempts: Sequence[DeliveryAttempt], **decided: Any
) -> None:
    """Derive the message's status, route and error from its attempts, store and push them.

    `decided` are the policy's own fields (`next_attempt_at`, `decision`), where it was asked. The
    caller holds the message's row.
    """
    decision = decided.get("decision", message.decision)
    waiting = decided.get("next_attempt_at", message.next_attempt_at)
    summary = statuses.summarize(
        [
            statuses.AttemptState(Route(a.route), Outcome(a.outcome), Receipt(a.receipt), a.round)
            for a in attempts
        ],
        round=message.round,
        final=bool(decision) and waiting is None,
    )
    told = _error_to_tell(attempts, summary)
    if summary.status in TAKEN:
        decided = {"next_attempt_at": None, "decision": ""}
    values = {
        "status": summary.status.value,
        "route": summary.route.value if summary.route else None,
        "error_code": told.error_code if told else "",
        "error_title": told.error_title if told else "",
        "error_detail": told.error_detail if told else "",
        **decided,
    }
    # An attempt's own change counts as well: pages show the trail.
    for field, value in values.items():
        setattr(message, field, value)
    message.version += 1
    message.save(update_fields=[*values, "version", "updated_at"])
    publisher.message_changed(message)


def _error_to_tell(
    attempts: Sequence[DeliveryAttempt], summary: statuses.Summary
) -> DeliveryAttempt | None:
    """The error that explains the icon: the first one, as it is why all else followed.

    A message that its first route took after all has nothing to explain.
    """
    took = summary.status in TAKEN
    if not attempts or (took and summary.route == attempts[0].route):
        return None
    return next((a for a in attempts if a.error_code and a.outcome != Outcome.ACCEPTED), None)


def attempts_for(message: Message) -> list[DeliveryAttempt]:
    """Return the message's attempts in order."""
    return list(message.attempts.order_by("number"))


def _locked(attempt: DeliveryAttempt) -> tuple[list[DeliveryAttempt], DeliveryAttempt]:
    """Lock the attempt's message; return all of its attempts, and this one, as they are now."""
    message = Message.objects.select_for_update().get(pk=attempt.message_id)
    attempts = attempts_for(message)
    return attempts, next(a for a in attempts if a.pk == attempt.pk)


@dataclass(frozen=True, slots=True)
class _Known:
    outcome: str
    receipt: str
    error_code: str
    provider_message_id: str


def _known(attempt: DeliveryAttempt) -> _Known:
    return _Known(attempt.outcome, attempt.receipt, attempt.error_code, attempt.provider_message_id)


def _is_known(
    attempt: DeliveryAttempt, told: Receipt, provider_message_id: str, error: SendError | None
) -> bool:
    """Whether this was told before: receipts only climb, so an unlocked row is proof enough."""
    receipt = Receipt(attempt.receipt)
    return (
        receipt != Receipt.NONE
        and statuses.merge_receipt(receipt, told) == receipt
        and not (told == receipt == Receipt.FAILED and _stands(error, attempt))
        and bool(attempt.provider_message_id or not provider_message_id)
    )


def _stands(error: SendError | None, attempt: DeliveryAttempt) -> bool:
    return statuses.late_error_overrides(
        error.code if error else "",
        known=attempt.error_code,
        outcome=Outcome(attempt.outcome),
        receipt=Receipt(attempt.receipt),
    )


def _save(attempt: DeliveryAttempt, before: _Known, attempts: Sequence[DeliveryAttempt]) -> None:
    """Write an attempt, and what its message is now, where there is something new."""
    if _known(attempt) == before:
        return
    attempt.save()
    refresh_message_status(attempt.message, attempts)
    # What it, or those behind it, waited for is known. A running job needs nobody to wake it.
    if attempt.outcome != before.outcome and (
        before.outcome == Outcome.UNKNOWN
        or (attempt.outcome == Outcome.ACCEPTED and before.outcome != Outcome.STARTED)
    ):
        tasks.wake_conversation(attempt.message.conversation_id)


def _learn_id(attempt: DeliveryAttempt, provider_message_id: str) -> None:
    """Take the provider's id where there was none, and the events that wait for it."""
    if not provider_message_id or attempt.provider_message_id:
        return
    pending_events.lock_id(attempt.channel_id, provider_message_id)
    attempt.provider_message_id = provider_message_id
    _apply_pending(attempt)
    if attempt.route != Route.OFFICIAL:
        _link_echoes(attempt)


def _apply_pending(attempt: DeliveryAttempt) -> None:
    key = (attempt.channel_id, attempt.provider_message_id)
    for receipt, error in pending_events.take_receipts(*key):
        _merge(attempt, receipt, error)
    for event in pending_events.take_amendments(*key):
        amendments.apply(attempt.message, event, channel=attempt.channel)


def _link_echoes(attempt: DeliveryAttempt) -> None:
    """An echo that was faster than our own send learns whose it is."""
    message = attempt.message
    # A Baileys channel that is the fallback tells it in its own conversation with the customer.
    places = Conversation.objects.filter(
        contact=message.conversation.contact_id,
        channel__in={message.conversation.channel_id, attempt.channel_id},
    )
    unlinked = Message.objects.filter(
        conversation__in=places.values("pk"),
        sent_outside=True,
        echo_of=None,
        created_at__gte=attempt.started_at - _UNNAMED_BEFORE,
    )
    for echo in unlinked:
        told = echo.provider_message_id
        if attempt.provider_message_id in (told, web_message_id(told)):
            echo.echo_of = message
            echo.version += 1
            echo.save(update_fields=["echo_of", "version", "updated_at"])
            publisher.message_changed(echo)


def _merge(attempt: DeliveryAttempt, told: Receipt, error: SendError | None) -> None:
    receipt = statuses.merge_receipt(Receipt(attempt.receipt), told)
    outcome = statuses.merge_outcome(Outcome(attempt.outcome), receipt)
    if told == receipt == Receipt.FAILED and _stands(error, attempt):
        if error is None or not error.code:
            error = Rejected(NO_REASON, gettext_noop("The provider gave no reason"))
        _set_error(attempt, code=error.code, title=error.title, detail=error.detail)
    if outcome == Outcome.ACCEPTED:
        _clear_error(attempt)
    if outcome != Outcome.STARTED and attempt.finished_at is None:
        attempt.finished_at = timezone.now()
    attempt.receipt, attempt.outcome = receipt.value, outcome.value


def _set_error(attempt: DeliveryAttempt, *, code: str, title: str, detail: str) -> None:
    attempt.error_code = code[:64]
    attempt.error_title = str(title)[:300]
    attempt.error_detail = str(detail)[:4000].replace("\x00", "")


def _clear_error(attempt: DeliveryAttempt) -> None:
    attempt.error_code = attempt.error_title = attempt.error_detail = ""
