"""Carry out the policy for one message that this worker has claimed (`outbox`).

An attempt is committed as `started` before the provider is called. The provider is called outside
of any transaction, and the outcome is written in a second transaction. A crash therefore leaves
either no attempt or one that is known to be unfinished; an unfinished attempt counts as an unknown
outcome, never as nothing. The request is built before the first commit: nothing slow may run
between that commit and the send, because another worker takes over a message whose worker seems
dead. `first_sends` does the same for many messages at once if their case is simple.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from psycopg_pool import PoolTimeout

from channels_app.connections import circuit_breaker, registry
from channels_app.models import Channel, Connection, FallbackRoute
from channels_app.providers import engines
from channels_app.providers.base import (
    Accepted,
    OutboundMessage,
    Provider,
    Rejected,
    SendError,
    Transient,
    Unknown,
)
from channels_app.providers.cloud.client import longest_send
from channels_app.providers.error_codes import failure
from messaging import contacts, control, queue, template_bubbles
from messaging.delivery import (
    attempts,
    channel_feedback,
    downgrade,
    outbox,
    policy,
    rate_limits,
    statuses,
    template_content,
)
from messaging.live import publisher
from messaging.media import files
from messaging.models import DeliveryAttempt, Message

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = structlog.get_logger(__name__)

# How many seconds a worker in the middle of an attempt waits for the database.
DB_RETRY_SECONDS = 600
# For this long after the decision, an attempt is made without checking who owns the message.
OWNERSHIP_GRACE = dt.timedelta(seconds=2)
# Seconds beyond a request's own time limit: OWNERSHIP_GRACE and the DNS lookup.
SEND_SLACK = 10
_DATABASE_DOWN = (OperationalError, InterfaceError, PoolTimeout)


@dataclass(frozen=True, slots=True)
class PendingSend:
    """An attempt that is committed as started, with its provider and the request for it.

    The provider has its credentials already: nothing may fail between the commit and the send.
    `outbound` is the rejection if the route cannot carry the message. `worker_id` is the claim
    under which it was started.
    """

    attempt: DeliveryAttempt
    outbound: OutboundMessage | Rejected
    provider: Provider
    worker_id: int | None = None


@dataclass(frozen=True, slots=True)
class MadeSend:
    """An attempt and the provider's response to it, which is not stored yet."""

    attempt: DeliveryAttempt
    result: Accepted | SendError
    worker_id: int | None = None


class _TakenOver(Exception):
    """Another worker now delivers the message, because this one seemed dead."""


def run(message_id: str, worker_id: int | None = None) -> dt.datetime | None:
    """Deliver a message, and prevent internal errors from blocking its conversation forever.

    Works like `deliver`. After an internal error the message is retried a few times. Then it is
    held with the reason, and staff are alerted. Raises only while the database is down.
    """
    try:
        return deliver(message_id, worker_id)
    except Exception as error:
        return _after_error(message_id, error)


def store(made: MadeSend) -> bool:
    """Store the result of a send. Returns whether the message has to be delivered further.

    An internal error counts as in `run`.
    """
    try:
        return _store(made)
    except Exception as error:
        _after_error(str(made.attempt.message_id), error)
        return False


def _after_error(message_id: str, error: Exception) -> dt.datetime | None:
    if _is_database_down(error):
        raise error
    log.error("delivery failed with an internal error", message=message_id, exc_info=error)
    return _record_fault(message_id, error)


def deliver(message_id: str, worker_id: int | None = None) -> dt.datetime | None:
    """Deliver a message as far as possible now. Return when to run again, or None when finished.

    The caller has claimed the message for `worker_id`. A worker whose claim has ended, because it
    seemed dead, starts no new attempt, and its successor waits until the first send must have ended
    (`policy.MessageFacts.send_seconds`). A message that was deleted is finished.
    """
    while True:
        try:
            step, send = _decide(message_id, worker_id)
        except Message.DoesNotExist:
            log.warning("message no longer exists", message=message_id)
            return None
        except _TakenOver:
            log.warning("message was taken over by another worker", message=message_id)
            return None
        if isinstance(step, policy.Wait):
            mark_queued_behind(message_id, step.until)
            return step.until
        if send is None or not _store(make(send)):
            return None


def _store(made: MadeSend) -> bool:
    message = made.attempt.message
    if isinstance(made.result, Accepted) and made.attempt.route == statuses.Route.OFFICIAL:
        # Before the pages are informed of the result.
        retry_while_db_down(partial(control.note_sent, message.conversation))
    outcome = retry_while_db_down(partial(attempts.record_result, made.attempt, made.result))
    if message.send_at is not None:
        bump = partial(contacts.bump, message.conversation_id, message.created_at)
        retry_while_db_down(bump)
    if isinstance(made.result, Accepted):
        retry_while_db_down(partial(contacts.learn_from_answer, made.attempt, made.result))
    retry_while_db_down(partial(channel_feedback.note, made.attempt, made.result))
    return outcome != statuses.Outcome.ACCEPTED


def _decide(
    message_id: str, worker_id: int | None = None
) -> tuple[policy.Step, PendingSend | None]:
    """Run the policy and store its decision. An attempt is committed as started."""
    with transaction.atomic():
        message = (
            Message.objects.select_for_update(of=("self",))
            # Most messages are sent with the credentials of their channel's Cloud account.
            .select_related("conversation__channel__cloud", "conversation__contact", "media")
            .get(pk=message_id)
        )
        if message.claimed_by_id != worker_id:
            raise _TakenOver
        previous = attempts.attempts_for(message)
        attempts.close_attempts_of_dead_worker(previous)
        now = timezone.now()
        step = _next_step(message, previous, now)
        send = None
        if isinstance(step, policy.Attempt):
            attempt = new_attempt(message, step, now, before=previous)
            outgoing = outbound(message, attempt)
            attempt.save(force_insert=True)
            provider = registry.provider_for(attempt.connection)
            send = PendingSend(attempt, outgoing, provider, worker_id)
            rate_limits.record_start(attempt)
            attempts.refresh_message_status(
                message, [*previous, attempt], next_attempt_at=None, decision=""
            )
        elif isinstance(step, policy.Wait):
            attempts.refresh_message_status(
                message, previous, next_attempt_at=step.until, decision=step.reason
            )
        elif not isinstance(step, policy.Done):
            attempts.refresh_message_status(
                message, previous, next_attempt_at=None, decision=step.reason
            )
            log.info("delivery stopped", message=str(message_id), reason=step.reason)
    return step, send


def _record_fault(message_id: str, error: Exception) -> dt.datetime | None:
    """Record an internal error. Return when to try again, or None if the message is now held."""
    with transaction.atomic():
        message = Message.objects.select_for_update().filter(pk=message_id).first()
        if message is None:
            return None
        message.faults += 1
        step = policy.after_fault(message.faults, now=timezone.now())
        until = step.until if isinstance(step, policy.Wait) else None
        Message.objects.filter(pk=message_id).update(faults=message.faults)
        if until is None:
            log.error("message is held after internal errors", message=message_id)
            connection = Connection.objects.stored(
                message.conversation.channel, message.conversation.channel.kind
            )
            circuit_breaker.record_rejection(
                connection, code=step.reason, detail=type(error).__name__
            )
        try:
            with transaction.atomic():
                previous = attempts.attempts_for(message)
                if until is None:
                    attempts.close_attempts_of_dead_worker(previous)
                attempts.refresh_message_status(
                    message, previous, next_attempt_at=until, decision=step.reason
                )
        except Exception as second_error:
            if _is_database_down(second_error):
                raise
            # Deriving the status is what fails: write only what is certain.
            _store_fault_decision(message_id, until, step.reason)
    if until is not None:
        mark_queued_behind(message_id, until)
    return until


def _store_fault_decision(message_id: str, until: dt.datetime | None, reason: str) -> None:
    """Store the decision without deriving the status, which raised an error."""
    status = {}
    if until is None:
        made = DeliveryAttempt.objects.filter(message__id=message_id)
        lost = {"error_code": "worker_lost", "finished_at": timezone.now()}
        made.filter(outcome=statuses.Outcome.STARTED).update(
            outcome=statuses.Outcome.UNKNOWN, **lost
        )
        may_be_sent = made.filter(outcome=statuses.Outcome.UNKNOWN).exists()
        status = {
            "status": statuses.Status.UNCONFIRMED if may_be_sent else statuses.Status.REJECTED
        }
    messages = Message.objects.filter(pk=message_id)
    messages.exclude(status__in=attempts.ACCEPTED_STATUSES).update(
        **status,
        decision=reason,
        next_attempt_at=until,
        version=F("version") + 1,
        updated_at=timezone.now(),
    )


def _is_database_down(error: BaseException | None) -> bool:
    """Return whether this error, or one of its causes, means that the database is unreachable."""
    while error is not None:
        if isinstance(error, _DATABASE_DOWN):
            return True
        error = error.__cause__
    return False


def mark_queued_behind(message_id: str, until: dt.datetime) -> None:
    """Record on the later messages of a conversation that they wait for this one.

    Takes the conversation's lock, as storing a message does, so that no new message is missed.
    """
    with transaction.atomic():
        conversation = contacts.lock_conversation_of(message_id)
        behind = Message.objects.filter(
            conversation=conversation,
            direction=Message.Direction.OUT,
            status=statuses.Status.QUEUED,
            decision__in=("", policy.WAITING_TURN),
        ).exclude(pk=message_id)
        _update_and_publish(behind, decision=policy.WAITING_TURN, next_attempt_at=until)


def reschedule_throttled(channel_id: int) -> None:
    """Reschedule throttled messages after a channel's limits changed."""
    dependents = FallbackRoute.objects.filter(connection__channel=channel_id)
    waiting = Message.objects.filter(
        Q(conversation__channel=channel_id)
        | Q(conversation__channel__in=dependents.values("channel")),
        next_attempt_at__isnull=False,
        decision__in=policy.THROTTLE_REASONS,
    )
    with transaction.atomic():
        if _update_and_publish(waiting, decision="", next_attempt_at=None):
            queue.wake_senders()


def _update_and_publish(queryset: QuerySet[Message], **decided: Any) -> list[Message]:
    """Lock these messages, store the policy's fields in each and publish them. In a transaction."""
    messages = list(queryset.select_for_update(of=("self",)).order_by("pk").only("conversation"))
    if messages:
        Message.objects.filter(pk__in=[message.pk for message in messages]).update(
            **decided, version=F("version") + 1, updated_at=timezone.now()
        )
    for message in messages:
        publisher.message_changed(message)
    return messages


def _next_step(message: Message, previous: list[DeliveryAttempt], now: dt.datetime) -> policy.Step:
    """Collect the policy's input and run it. The caller holds the lock on the message's row."""
    channel = message.conversation.channel
    facts, attempt_facts = facts_of(message), attempts.facts(previous)
    # A message without attempts uses its primary route: the fallbacks are not even loaded.
    may_fall_back = (
        bool(previous)
        or circuit_breaker.is_open(channel.primary)
        or message.round_route == Message.RoundRoute.FALLBACK
    )
    rules = rules_of(channel, with_fallbacks=may_fall_back)
    limits = rate_limits.limits_for(message, rules, now=now, may_fall_back=may_fall_back)
    step = policy.next_step(facts, attempt_facts, rules, now=now, limits=limits)
    while isinstance(step, policy.Attempt) and step.probes:
        if circuit_breaker.claim_probe(_connection_for(channel, step), now):
            break
        # Another message claimed it first.
        rules = _without_probe(rules, step)
        step = policy.next_step(facts, attempt_facts, rules, now=now, limits=limits)
    return step


def _without_probe(rules: policy.ChannelRules, step: policy.Attempt) -> policy.ChannelRules:
    """Return the rules under which the step's connection is not due for a probe."""

    def taken(sender: policy.Sender) -> policy.Sender:
        is_it = (sender.route, sender.key) == (step.route, step.key)
        return replace(sender, probe_due=False) if is_it else sender

    fallbacks = tuple(map(taken, rules.fallbacks))
    return replace(rules, primary=taken(rules.primary), fallbacks=fallbacks)


def _connection_for(channel: Channel, step: policy.Attempt) -> Connection:
    """Return the connection of a step."""
    if step.route == channel.kind:
        return channel.primary
    return next(
        one
        for one in channel.fallback_connections
        if (one.provider, one.pk) == (step.route, step.key)
    )


def new_attempt(
    message: Message, step: policy.Attempt, now: dt.datetime, *, before: list[DeliveryAttempt]
) -> DeliveryAttempt:
    """Return the attempt of a step, started now and not stored yet."""
    return DeliveryAttempt(
        message=message,
        number=len(before) + 1,
        # With the same id the customer sees one message, whichever of the sends arrived.
        reserved_id=_reserved_before(before) if step.reason == policy.REPEAT else "",
        round=message.round,
        connection=_connection_for(message.conversation.channel, step),
        rule=step.reason,
        started_at=now,
    )


def _reserved_before(before: list[DeliveryAttempt]) -> str:
    return next(a.reserved_id for a in reversed(before) if a.outcome == "unknown")


def make(send: PendingSend) -> MadeSend:
    """Call the provider. Raises nothing."""
    attempt, message = send.attempt, send.attempt.message
    started = time.monotonic()
    result: Accepted | SendError
    try:
        if isinstance(send.outbound, Rejected):
            raise send.outbound
        with files.limit_large_sends(send.outbound.file):
            if not _may_send(send):
                raise failure(Transient, "taken_over")
            result = send.provider.send(send.outbound)
    except SendError as error:
        result = error
    except Exception as error:
        # After an internal error it is unknown whether the message was sent.
        log.exception("provider client failed", route=attempt.route, error=type(error).__name__)
        result = Unknown("client_error", "The provider client failed", type(error).__name__)
    log.info(
        "attempt finished",
        message=str(message.pk),
        attempt=attempt.number,
        route=attempt.route,
        outcome=getattr(result, "outcome", "accepted"),
        code=getattr(result, "code", ""),
        ms=round((time.monotonic() - started) * 1000),
    )
    return MadeSend(attempt, result, send.worker_id)


def _may_send(send: PendingSend) -> bool:
    """Return whether this worker may still call the provider: no other took the message over.

    A recent decision needs no check. A clock that was set back counts as a pause.
    """
    age = timezone.now() - send.attempt.started_at
    if dt.timedelta(0) <= age <= OWNERSHIP_GRACE:
        return True
    message_id = str(send.attempt.message_id)
    return retry_while_db_down(partial(outbox.is_claimed_by, message_id, send.worker_id))


def outbound(message: Message, attempt: DeliveryAttempt) -> OutboundMessage | Rejected:
    """Return the message as the attempt's provider gets it, or why its route cannot carry it.

    Sets in the attempt what that changes, and the ID to assign to the message. Stores nothing.
    """
    if message.conversation.contact.address_given_up:
        return failure(Rejected, contacts.GIVEN_UP)
    connection = attempt.connection
    engine = engines.by_name(connection.provider)
    adapted = downgrade.adapt(
        message.type,
        message.text,
        message.content,
        engine.capabilities,
        template=template_bubbles.read(message.context),
    )
    if isinstance(adapted, downgrade.Refusal):
        return failure(Rejected, adapted.code)
    quote = attempts.quote(message, attempt)
    attempt.changes = list(adapted.changes)
    if adapted.changes:
        attempt.sent_type = adapted.type
        attempt.sent_text = adapted.text or adapted.content.get("caption", "")
    if message.reply_to_id is not None and quote is None:
        attempt.changes.append(downgrade.QUOTE_LEFT_OUT)
    if not attempt.reserved_id:
        attempt.reserved_id = engine.reserve_id(adapted.type, adapted.content)
    return OutboundMessage(
        reference=attempts.reference(attempt),
        to=contacts.address_for(message.conversation, connection.provider),
        type=adapted.type,
        text=adapted.text,
        content=adapted.content,
        quote=quote,
        message_id=attempt.reserved_id,
        file=files.outbound_file(message, channel=connection.channel),
    )


def retry_while_db_down(operation: Callable[[], T]) -> T:
    """Call `operation`, waiting for the database while it is down.

    Giving up loses a provider's response: the attempt then counts as unknown.
    """
    deadline = time.monotonic() + DB_RETRY_SECONDS
    pause = 0.1
    while True:
        try:
            return operation()
        except _DATABASE_DOWN:
            if time.monotonic() > deadline:
                raise
            log.warning("database is down; an attempt is waiting for it")
            connection.close()
            time.sleep(pause)
            pause = min(pause * 2, 5)


def facts_of(message: Message) -> policy.MessageFacts:
    """Return what the policy needs to know of the message."""
    timeout = message.conversation.channel.request_timeout_seconds
    size = message.media.size if message.media else 0
    return policy.MessageFacts(
        round=message.round,
        round_route="fallback" if message.round_route == "fallback" else "official",
        round_started_at=message.round_started_at or message.created_at,
        send_seconds=SEND_SLACK + longest_send(timeout, size),
        type=message.type,
        marketing_stopped=message.conversation.contact.marketing_stopped,
        template_category=_template_category(message),
        send_at=message.send_at,
        deliver_by=message.deliver_by,
        on_undelivered=_on_undelivered(message),
    )


def _template_category(message: Message) -> str:
    """Return the category of the message's template, which only matters after a stop."""
    if message.type != "template" or not message.conversation.contact.marketing_stopped:
        return ""
    return template_content.category(message.conversation.channel, message.content)


def _on_undelivered(message: Message) -> Literal["hold", "fallback"]:
    rule = message.on_undelivered or message.conversation.channel.on_undelivered
    return "fallback" if rule == Channel.OnUndelivered.FALLBACK else "hold"


def rules_of(channel: Channel, *, with_fallbacks: bool = True) -> policy.ChannelRules:
    """Return the channel settings that the policy needs."""
    now = timezone.now()

    def sender(connection: Connection) -> policy.Sender:
        if connection.pk is None:
            connection = Connection.objects.stored(connection.channel, connection.provider)
        return policy.Sender(
            connection.provider,
            connection.pk,
            breaker_open=circuit_breaker.is_open(connection),
            probe_due=circuit_breaker.probe_is_due(connection, now),
        )

    fallbacks = channel.fallback_connections if with_fallbacks else []
    usable = [one for one in fallbacks if one.channel.active]
    return policy.ChannelRules(
        active=channel.active,
        primary=sender(channel.primary),
        fallbacks=tuple(map(sender, usable)),
        official_retries=channel.official_retries,
        confirm_seconds=channel.confirm_seconds,
        on_unconfirmed="hold" if channel.on_unconfirmed == "hold" else "fallback",
        fallback_max_age=dt.timedelta(minutes=channel.fallback_max_age_minutes),
        fallback_despite_limits=channel.fallback_despite_limits,
    )
