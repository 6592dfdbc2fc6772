"""Record the outcome of an attempt and the resulting state of its message.

Everything that ends an attempt or adds to it goes through this module: the worker's own result, a
receipt from a webhook, a worker that died. The message's row is always locked first.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_noop

from channels_app.models import Connection
from channels_app.providers import engines
from channels_app.providers.addresses import Address, Kind
from channels_app.providers.base import Accepted, Quote, Rejected, SendError, Unknown
from channels_app.providers.cloud.events import web_message_id
from channels_app.providers.error_codes import NO_REASON
from channels_app.providers.events import US, ReactionEvent, Receipt
from channels_app.providers.message_keys import WAMID, message_key
from messaging import contacts, queue, words
from messaging.content import MEDIA_TYPES
from messaging.delivery import channel_feedback, downgrade, outbox, policy, quotes, statuses
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import amendments, pending_events
from messaging.live import publisher
from messaging.models import Conversation, DeliveryAttempt, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# A provider has the message: nothing more is decided, and nothing waits.
ACCEPTED_STATUSES = (
    statuses.Status.HELD,
    statuses.Status.SENT,
    statuses.Status.DELIVERED,
    statuses.Status.READ,
)
# How far the start of the send may be from the message timestamp in the ack.
_SENT_BEFORE_ACK, _SENT_AFTER_ACK = dt.timedelta(minutes=10), dt.timedelta(seconds=10)

_UNCHANGED = Q(sent_type="")
WITHOUT_CAPTION = _UNCHANGED & (
    ~Q(message__content__has_key="caption") | Q(message__content__caption="")
)
# Among sends of the same content, an ack is matched last to one that may not have left.
TAKEN_FIRST = (ExpressionWrapper(Q(outcome=Outcome.UNKNOWN), BooleanField()), "started_at")


def reference(attempt: DeliveryAttempt) -> str:
    """Return the reference that identifies this attempt in a provider's callbacks."""
    return f"{attempt.message_id}.{attempt.number}"


def find(*, channel_id: int, reference: str, provider_message_id: str) -> DeliveryAttempt | None:
    """Return the attempt of this channel that an event names, by reference or by provider id.

    The caller holds a transaction. If the result is None, no worker can store the id before that
    transaction ends: an event that it stores as pending will be applied.
    """
    if attempt := _find_by_reference(reference, channel_id=channel_id):
        return attempt
    pending_events.lock_id(channel_id, provider_message_id)
    of_channel = _with_route(DeliveryAttempt.objects.filter(connection__channel=channel_id))
    of_channel = of_channel.order_by("-id")
    if named := of_channel.filter(message_key=message_key(provider_message_id)).first():
        return named
    if not provider_message_id or provider_message_id.startswith(WAMID):
        # The official API lets us choose no id.
        return None
    # The response to the send has not arrived yet, or never will.
    return of_channel.filter(reserved_id=provider_message_id, provider_message_id="").first()


def find_unnamed(
    *, channel_id: int, phone_number: str, text: str, at: dt.datetime
) -> DeliveryAttempt | None:
    """Return the attempt that an ack refers to when the send's response contained no id.

    A response without an id is normal on today's WhatsApp Web (docs/providers/wwebjs.md §3); an ack
    also matches a send whose response was lost. Returns the oldest attempt with this text to this
    number, unknown outcomes last. If the number is hidden, returns the only attempt with this text.
    """
    candidates = (
        DeliveryAttempt.objects.filter(
            _sent_as("text", text, unchanged=Q(message__text=text)),
            connection__channel=channel_id,
            connection__provider__in=engines.names_with(lambda engine: engine.may_omit_id),
            provider_message_id="",
            outcome__in=(Outcome.STARTED, Outcome.ACCEPTED, Outcome.UNKNOWN),
            started_at__range=(at - _SENT_BEFORE_ACK, at + _SENT_AFTER_ACK),
        )
        .select_related("connection__channel")
        .order_by(*TAKEN_FIRST)
    )
    if phone_number:
        ids = contacts.ids_with([Address(Kind.PHONE, phone_number)])
        return candidates.filter(message__conversation__contact__in=ids).first()
    matches = list(candidates[:2])
    return matches[0] if len(matches) == 1 else None


def matching_content(type_: str, text: str, filename: str = "") -> Q | None:
    """Return a filter for the attempts of messages with this content, or None if it is ambiguous.

    A file is identified by its caption, a document also by its name. Any other file without a
    caption could be any file.
    """
    if type_ == "text":
        return _sent_as(type_, text, unchanged=Q(message__text=text)) if text else None
    if type_ not in MEDIA_TYPES:
        return None
    if text:
        return _sent_as(type_, text, unchanged=Q(message__content__caption=text))
    if type_ == "document" and filename:
        same = Q(message__content__filename=filename) | Q(message__media__filename=filename)
        return Q(same, WITHOUT_CAPTION, message__type=type_)
    return None


def _sent_as(type_: str, text: str, *, unchanged: Q) -> Q:
    """Return a filter for what was sent with this text: as it is, or in place of another type."""
    changed = Q(sent_type=type_, sent_text=text)
    return (_UNCHANGED & Q(unchanged, message__type=type_)) | changed


def parse_reference(text: str) -> tuple[uuid.UUID, int] | None:
    """Return the message's id and the attempt's number in a reference, None if it is not ours."""
    message, _, number = text.partition(".")
    try:
        return uuid.UUID(message), int(number)
    except ValueError:
        return None


def _find_by_reference(text: str, *, channel_id: int) -> DeliveryAttempt | None:
    if (named := parse_reference(text)) is None:
        return None
    message_id, number = named
    attempts = DeliveryAttempt.objects.filter(
        message_id=message_id, number=number, connection__channel=channel_id
    )
    return _with_route(attempts).order_by().first()


def _with_route(attempts: QuerySet[DeliveryAttempt]) -> QuerySet[DeliveryAttempt]:
    """Load with each attempt its route and channel ID, but not the many columns of its connection.

    A receipt needs no more, and Django takes longer to build a wide query than to run it. Other
    columns of the connection are loaded when they are read.
    """
    own = [field.name for field in DeliveryAttempt._meta.concrete_fields]
    connection = ("connection__provider", "connection__channel")
    return attempts.select_related("connection").only(*own, *connection)


def _would_repeat(attempt: DeliveryAttempt) -> bool:
    """Whether a resend uses the attempt's own account, which recognizes its id."""
    channel, sender = attempt.message.conversation.channel, attempt.connection
    return sender.takes_message_ids and sender in (channel.primary, *channel.fallback_connections)


def facts(attempts: Sequence[DeliveryAttempt]) -> list[policy.AttemptFacts]:
    """Return a message's attempts as input for the policy."""
    # `repeatable` matters only after an unknown outcome; otherwise the query is skipped.
    in_doubt = any(attempt.outcome == Outcome.UNKNOWN for attempt in attempts)
    return [
        policy.AttemptFacts(
            round=attempt.round,
            route=attempt.route,
            outcome=Outcome(attempt.outcome),
            error_code=attempt.error_code,
            finished_at=attempt.finished_at,
            key=attempt.connection_id,
            delivered=attempt.receipt in (Receipt.DELIVERED, Receipt.READ),
            repeatable=in_doubt and bool(attempt.reserved_id) and _would_repeat(attempt),
        )
        for attempt in attempts
    ]


def is_stopped_by_customer(message: Message) -> bool:
    """Return whether a message is not sent again, because its customer wants no marketing."""
    contact = message.conversation.contact
    resumed_at = None if contact.marketing_stopped else contact.marketing_wish_at
    return policy.is_stopped_by_customer(
        message.decision, message.error_code, since=message.round_started_at, resumed_at=resumed_at
    )


def quote(message: Message, attempt: DeliveryAttempt) -> Quote | None:
    """Return the message's quote as this attempt's provider knows it; None without a quote.

    Of a reaction, the message that it refers to.
    """
    quoted = reaction_target(message) if message.type == "reaction" else message.reply_to
    if quoted is None:
        return None
    channel = message.conversation.channel
    # An echo of our own message carries the id from the other connection.
    copies = (
        [quoted, *quoted.echoes.all()] if quoted.direction == Message.Direction.OUT else [quoted]
    )
    ids = [
        quotes.KnownId(
            copy.provider_message_id,
            by=_known_as(
                channel.connection(quotes.source_route(copy.provider_message_id, channel.kind))
            ),
            chat=copy.provider_chat,
        )
        for copy in copies
        if copy.conversation_id == message.conversation_id
    ]
    ids += [
        quotes.KnownId(sent.provider_message_id, by=_known_as(sent.connection))
        for sent in quoted.attempts.select_related("connection__channel").order_by("number")
        if sent.outcome in (Outcome.ACCEPTED, Outcome.UNKNOWN)
    ]
    from_us = quoted.direction == Message.Direction.OUT
    by = _known_as(attempt.connection)
    found = quotes.quote(ids, from_us=from_us, by=by)
    if found is None:
        return None
    author = quoted.context.get("author") or {}
    named = str(author.get("lid") or author.get("id") or "")
    return replace(found, text=_words_of(quoted), author=named)


def _words_of(message: Message) -> str:
    """Return the message in one line, for a phone that shows it as quoted."""
    filename = "" if message.media is None else message.media.filename
    return words.summary(message.type, message.text, message.content, filename=filename)


def reaction_target(message: Message) -> Message | None:
    """Return the stored message that a reaction refers to, or None."""
    content = message.content if isinstance(message.content, Mapping) else {}
    here = message.conversation.messages.select_related("media")
    if (ours := content.get("message")) is not None:
        return here.filter(pk=ours).first()
    key = message_key(str(content.get("message_id") or ""))
    if not key:
        return None
    sent = DeliveryAttempt.objects.filter(
        message_key=key, message__conversation=message.conversation_id
    )
    received = here.filter(message_key=key).first()
    return received or here.filter(pk__in=sent.values("message")).first()


def _known_as(connection: Connection) -> quotes.Connection:
    digits = re.sub(r"\D", "", connection.number)
    return quotes.Connection(connection.channel_id, connection.provider, digits)


def record_result(attempt: DeliveryAttempt, result: Accepted | SendError) -> Outcome:
    """Store the provider's response to an attempt, and the resulting state of the message.

    Returns the attempt's outcome, which also reflects receipts that arrived before the response.
    Repeating the call changes nothing.
    """
    with transaction.atomic():
        if isinstance(result, Accepted | Unknown):
            _lock_id(attempt, result.provider_message_id or "")
        attempts, attempt = _lock_attempts(attempt)
        before = _snapshot(attempt)
        apply_result(attempt, result)
        if isinstance(result, Accepted | Unknown):
            _store_provider_id(attempt, result.provider_message_id or "")
        _save(attempt, before, attempts)
        return Outcome(attempt.outcome)


def apply_result(attempt: DeliveryAttempt, result: Accepted | SendError) -> None:
    """Set what follows from the provider's response, besides its id. Stores nothing."""
    if attempt.outcome in (Outcome.STARTED, Outcome.UNKNOWN):
        attempt.finished_at = timezone.now()
    if isinstance(result, Accepted):
        outcome = Outcome.ACCEPTED
        attempt.held = result.held
        if result.unquoted and downgrade.QUOTE_LEFT_OUT not in attempt.changes:
            attempt.changes = [*attempt.changes, downgrade.QUOTE_LEFT_OUT]
    else:
        outcome = Outcome(result.outcome)
        if attempt.receipt != Receipt.FAILED or not statuses.late_error_replaces(
            attempt.error_code, known=result.code, outcome=outcome
        ):
            _set_error(attempt, code=result.code, title=result.title, detail=result.detail)
    attempt.outcome = outcome
    _merge_receipt(attempt, Receipt.NONE, None)


def _lock_id(attempt: DeliveryAttempt, provider_message_id: str) -> None:
    """Lock the id before the message's row, in the order in which the reader of events does."""
    if provider_message_id:
        pending_events.lock_id(attempt.connection.channel_id, provider_message_id)


def close_attempts_of_dead_worker(attempts: Sequence[DeliveryAttempt]) -> None:
    """Close the attempts of a dead worker: whether the message was sent is unknown.

    The caller holds the message's row and its claim, so no living worker is sending.
    """
    for attempt in attempts:
        if attempt.outcome != Outcome.STARTED:
            continue
        attempt.outcome = Outcome.UNKNOWN
        attempt.finished_at = timezone.now()
        _set_error(
            attempt,
            code=policy.WORKER_LOST,
            title=gettext_noop("The process that was sending it ended before the response arrived"),
            detail="",
        )
        attempt.save()


def record_receipt(
    attempt: DeliveryAttempt,
    receipt: Receipt,
    *,
    provider_message_id: str = "",
    error: SendError | None = None,
    pricing: str = "",
) -> None:
    """Record a provider's receipt for an attempt. Repeated and late receipts change nothing."""
    adds_pricing = bool(pricing and not attempt.pricing)
    if not adds_pricing and _is_duplicate(attempt, receipt, provider_message_id, error):
        return
    # An error here also rolls back the caller's transaction, which reads many receipts.
    with transaction.atomic(savepoint=False):
        if not attempt.provider_message_id:
            _lock_id(attempt, provider_message_id)
        attempts, attempt = _lock_attempts(attempt)
        before = _snapshot(attempt)
        _merge_receipt(attempt, receipt, error)
        attempt.pricing = attempt.pricing or pricing[:64]
        _store_provider_id(attempt, provider_message_id)
        _save(attempt, before, attempts)
        if attempt.outcome == Outcome.REJECTED != before.outcome:
            # A late failure: the policy decides again, as after an immediate rejection.
            if attempt.message.next_attempt_at is None:
                refresh_message_status(attempt.message, attempts, decision="")
            queue.wake_senders()
        changed = (attempt.outcome, attempt.error_code) != (before.outcome, before.error_code)
        if changed or attempt.rule in ("probe", "asked"):
            whole = Connection.objects.select_related("channel")
            attempt.connection = whole.get(pk=attempt.connection_id)
            channel_feedback.note_receipt(attempt)


def confirm(message: Message, *, user: User | None) -> None:
    """Record a person's confirmation of the latest unknown attempt. The caller locks the row."""
    unknown = message.attempts.filter(outcome=Outcome.UNKNOWN).latest("number")
    unknown.confirmed_by = user
    unknown.save(update_fields=["confirmed_by"])
    record_receipt(unknown, Receipt.SENT)


def refresh_message_status(
    message: Message, attempts: Sequence[DeliveryAttempt], **decided: Any
) -> None:
    """Derive the message's status, route and error from its attempts; store and publish them.

    `decided` holds the policy's fields (`next_attempt_at`, `decision`) if the policy was run. The
    caller holds the lock on the message's row.
    """
    message.save(update_fields=set_derived_fields(message, attempts, decided))
    publisher.message_changed(message)


def set_derived_fields(
    message: Message, attempts: Sequence[DeliveryAttempt], decided: Mapping[str, Any]
) -> list[str]:
    """Set the derived fields, version and time of change. Stores nothing; returns their names."""
    values = derived_fields(message, attempts, decided)
    for field, value in values.items():
        setattr(message, field, value)
    # Increment it for changed attempts as well: pages show the history.
    message.version += 1
    message.updated_at = timezone.now()
    return [*values, "version", "updated_at"]


def derived_fields(
    message: Message, attempts: Sequence[DeliveryAttempt], decided: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the fields of a message that follow from its attempts and the policy's decision."""
    decision = decided.get("decision", message.decision)
    waiting = decided.get("next_attempt_at", message.next_attempt_at)
    summary = statuses.summarize(
        [
            statuses.AttemptState(
                a.route, Outcome(a.outcome), Receipt(a.receipt), a.round, held=a.held
            )
            for a in attempts
        ],
        round=message.round,
        final=bool(decision) and waiting is None,
    )
    shown = _error_to_show(attempts, summary)
    if summary.status in ACCEPTED_STATUSES:
        decided = {"next_attempt_at": None, "decision": ""}
    return {
        "status": summary.status.value,
        "route": summary.route,
        "error_code": shown.error_code if shown else "",
        "error_title": shown.error_title if shown else "",
        "error_detail": shown.error_detail if shown else "",
        **decided,
    }


def _error_to_show(
    attempts: Sequence[DeliveryAttempt], summary: statuses.Summary
) -> DeliveryAttempt | None:
    """Return the attempt whose error explains the icon: the first one caused all that followed.

    A message that its first route accepted after all has no error to show.
    """
    accepted = summary.status in ACCEPTED_STATUSES
    if not attempts or (accepted and summary.route == attempts[0].route):
        return None
    return next((a for a in attempts if a.error_code and a.outcome != Outcome.ACCEPTED), None)


def attempts_for(message: Message) -> list[DeliveryAttempt]:
    """Return the message's attempts in order."""
    return list(_with_route(message.attempts.order_by("number")))


def _lock_attempts(attempt: DeliveryAttempt) -> tuple[list[DeliveryAttempt], DeliveryAttempt]:
    """Lock the attempt's message; return all its attempts, and this one, freshly loaded."""
    message = Message.objects.select_for_update().get(pk=attempt.message_id)
    attempts = attempts_for(message)
    return attempts, next(a for a in attempts if a.pk == attempt.pk)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    outcome: str
    receipt: str
    error_code: str
    provider_message_id: str
    held: bool
    pricing: str


def _snapshot(attempt: DeliveryAttempt) -> _Snapshot:
    return _Snapshot(
        attempt.outcome,
        attempt.receipt,
        attempt.error_code,
        attempt.provider_message_id,
        attempt.held,
        attempt.pricing,
    )


def _is_duplicate(
    attempt: DeliveryAttempt, reported: Receipt, provider_message_id: str, error: SendError | None
) -> bool:
    """Return whether this receipt adds nothing. Receipts only rise, so no lock is needed."""
    receipt = Receipt(attempt.receipt)
    return (
        receipt != Receipt.NONE
        and statuses.merge_receipt(receipt, reported) == receipt
        and not (reported == receipt == Receipt.FAILED and _error_replaces(error, attempt))
        and bool(attempt.provider_message_id or not provider_message_id)
    )


def _error_replaces(error: SendError | None, attempt: DeliveryAttempt) -> bool:
    return statuses.late_error_replaces(
        error.code if error else "",
        known=attempt.error_code,
        outcome=Outcome(attempt.outcome),
        receipt=Receipt(attempt.receipt),
    )


def _save(attempt: DeliveryAttempt, before: _Snapshot, attempts: Sequence[DeliveryAttempt]) -> None:
    """Store an attempt and the resulting state of its message, if anything changed."""
    if _snapshot(attempt) == before:
        return
    attempt.save()
    refresh_message_status(attempt.message, attempts)
    if attempt.message.type == "reaction" and attempt.outcome != before.outcome:
        _show_reaction(attempt.message, before=before.outcome, outcome=attempt.outcome)
    # Continue with what waited for this outcome. A worker that delivers it now needs no wake-up.
    if attempt.outcome != before.outcome and (
        before.outcome == Outcome.UNKNOWN
        or (attempt.outcome == Outcome.ACCEPTED and before.outcome != Outcome.STARTED)
    ):
        outbox.wake([attempt.message.conversation_id])


def _show_reaction(message: Message, *, before: str, outcome: str) -> None:
    """Show our reaction with its message once a provider has accepted it; not if it fails later."""
    emoji = message.content.get("emoji", "")
    if outcome != Outcome.ACCEPTED:
        if before != Outcome.ACCEPTED:
            return
        emoji = ""
    found = reaction_target(message)
    if found is None:
        return
    target = Message.objects.select_for_update().get(pk=found.pk)
    amendments.apply(
        target,
        ReactionEvent(
            channel_key="",
            provider_message_id=target.provider_message_id,
            by=US,
            emoji=emoji,
            at=message.created_at if emoji else None,
        ),
        channel=message.conversation.channel,
    )


def _store_provider_id(attempt: DeliveryAttempt, provider_message_id: str) -> None:
    """Store the provider's id if there was none, and apply the events that wait for it.

    The caller has locked the id.
    """
    if not provider_message_id or attempt.provider_message_id:
        return
    attempt.provider_message_id = provider_message_id
    _apply_pending(attempt)
    if attempt.route != Route.OFFICIAL:
        _link_echoes(attempt)


def _apply_pending(attempt: DeliveryAttempt) -> None:
    channel_id = attempt.connection.channel_id
    receipts, changes = pending_events.take(channel_id, attempt.provider_message_id)
    for receipt, error in receipts:
        _merge_receipt(attempt, receipt, error)
    amendments.apply_waiting(attempt.message, changes, channel=attempt.connection.channel)


def _link_echoes(attempt: DeliveryAttempt) -> None:
    """Link an echo that arrived before our own send's id was known."""
    message = attempt.message
    # A Baileys fallback channel reports the echo in its own conversation with the customer.
    conversations = Conversation.objects.filter(
        contact=message.conversation.contact_id,
        channel__in={message.conversation.channel_id, attempt.connection.channel_id},
    )
    unlinked = Message.objects.filter(
        conversation__in=conversations.values("pk"),
        sent_outside=True,
        echo_of=None,
        created_at__gte=attempt.started_at - _SENT_BEFORE_ACK,
    )
    for echo in unlinked:
        echo_id = echo.provider_message_id
        if attempt.provider_message_id in (echo_id, web_message_id(echo_id)):
            echo.echo_of = message
            echo.version += 1
            echo.save(update_fields=["echo_of", "version", "updated_at"])
            publisher.message_changed(echo)


def _merge_receipt(attempt: DeliveryAttempt, reported: Receipt, error: SendError | None) -> None:
    receipt = statuses.merge_receipt(Receipt(attempt.receipt), reported)
    outcome = statuses.outcome_after_receipt(Outcome(attempt.outcome), receipt)
    if reported == receipt == Receipt.FAILED and _error_replaces(error, attempt):
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
