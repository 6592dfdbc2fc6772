"""Carry out the policy for one message.

An attempt is committed as `started` before its provider is asked, the provider is asked outside of
any transaction, and the outcome is written in a second one. So a crash leaves either no attempt or
one that is known to be unfinished; such an attempt counts as an unknown outcome, never as nothing.
What the provider is told is read before that commit: nothing lies between it and the send that
could take long, as another worker goes on with a message whose worker seems to be gone.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from psycopg_pool import PoolTimeout

from channels_app.connections import circuit_breaker
from channels_app.models import Channel
from channels_app.providers import registry
from channels_app.providers.base import (
    Accepted,
    OutboundMessage,
    SendError,
    Transient,
    Unknown,
)
from channels_app.providers.cloud.client import longest_send
from channels_app.providers.error_codes import failure
from messaging import contacts, tasks
from messaging.delivery import attempts as outcomes
from messaging.delivery import channel_feedback, policy, rate_limits, statuses
from messaging.live import publisher
from messaging.media import files
from messaging.models import DeliveryAttempt, Message

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = structlog.get_logger(__name__)

# Seconds for which a worker in the middle of an attempt waits for the database.
WRITE_PATIENCE = 600
# So long after it was decided an attempt is made without asking whose it is now.
FRESH = dt.timedelta(seconds=2)
# What a request takes beside its own time limit: FRESH, a look-up of the server's name.
SEND_SLACK = 10
_DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)


@dataclass(frozen=True, slots=True)
class _Send:
    """An attempt that is committed as started, and what its provider is to be told."""

    attempt: DeliveryAttempt
    outbound: OutboundMessage


class _TakenOver(Exception):
    """Another worker delivers the message now: this one seemed to be dead."""


def _always() -> bool:
    return True


def run(message_id: str, is_ours: Callable[[], bool] = _always) -> dt.datetime | None:
    """Deliver a message, and keep an error of our own from blocking its conversation for ever.

    As `deliver`; `is_ours` says whether no other worker was given the message. After such an error
    the message is tried again a few times; then it is set aside with the reason, and staff are
    alerted. Raises only while the database is away.
    """
    try:
        return deliver(message_id, is_ours)
    except Exception as error:
        if _is_database_away(error):
            raise
        log.exception("delivery failed by an error of ours", message=message_id)
        return _note_fault(message_id, error)


def deliver(message_id: str, is_ours: Callable[[], bool] = _always) -> dt.datetime | None:
    """Take a message as far as it goes now. Returns when to come back, or None when it is over.

    Must be called by one worker at a time for one conversation. The job's lock sees to that, but
    for a worker that was cut off from the database and counts as dead: such a worker begins nothing
    any more (`is_ours`), and the one that goes on waits until what the first was sending has ended
    (`policy.MessageFacts.send_seconds`). A message that was deleted is over.
    """
    while True:
        try:
            step, send = _decide(message_id, is_ours)
        except Message.DoesNotExist:
            log.warning("message is gone", message=message_id)
            return None
        except _TakenOver:
            log.warning("message was taken over by another worker", message=message_id)
            return None
        if isinstance(step, policy.Wait):
            _mark_queued_behind(message_id, step.until)
            return step.until
        if send is None:
            return None
        result = _send(send, is_ours)
        outcome = _retry_while_db_down(partial(outcomes.record_result, send.attempt, result))
        _retry_while_db_down(partial(channel_feedback.note, send.attempt, result))
        if outcome == statuses.Outcome.ACCEPTED:
            return None


def _decide(
    message_id: str, is_ours: Callable[[], bool] = _always
) -> tuple[policy.Step, _Send | None]:
    """Ask the policy and write its answer down; an attempt is committed as started."""
    with transaction.atomic():
        message = (
            Message.objects.select_for_update(of=("self",))
            .select_related(
                "conversation__channel__fallback_channel", "conversation__contact", "media"
            )
            .get(pk=message_id)
        )
        if not is_ours():
            raise _TakenOver
        attempts = outcomes.attempts_for(message)
        outcomes.close_abandoned(attempts)
        now = timezone.now()
        step = _next_step(message, attempts, now)
        send = None
        if isinstance(step, policy.Attempt):
            attempt = _start(message, step, now, before=attempts)
            send = _Send(attempt, _outbound(message, attempt))
            rate_limits.note_start(attempt)
            outcomes.refresh_message_status(
                message, [*attempts, attempt], next_attempt_at=None, decision=""
            )
        elif isinstance(step, policy.Wait):
            outcomes.refresh_message_status(
                message, attempts, next_attempt_at=step.until, decision=step.reason
            )
        elif not isinstance(step, policy.Done):
            outcomes.refresh_message_status(
                message, attempts, next_attempt_at=None, decision=step.reason
            )
            log.info("message is given up", message=message_id, reason=step.reason)
    return step, send


def _note_fault(message_id: str, error: Exception) -> dt.datetime | None:
    """Record a failed delivery. Returns when to try again, None where the message is set aside."""
    with transaction.atomic():
        message = Message.objects.select_for_update().filter(pk=message_id).first()
        if message is None:
            return None
        message.faults += 1
        step = policy.after_fault(message.faults, now=timezone.now())
        until = step.until if isinstance(step, policy.Wait) else None
        Message.objects.filter(pk=message_id).update(faults=message.faults)
        if until is None:
            log.error("message is set aside", message=message_id)
            channel = message.conversation.channel
            circuit_breaker.note_refused(channel, code=step.reason, detail=type(error).__name__)
        try:
            with transaction.atomic():
                attempts = outcomes.attempts_for(message)
                if until is None:
                    outcomes.close_abandoned(attempts)
                outcomes.refresh_message_status(
                    message, attempts, next_attempt_at=until, decision=step.reason
                )
        except Exception as again:
            if _is_database_away(again):
                raise
            # The error is in what derives the status: only what is certain is written.
            _set_aside_plainly(message_id, until, step.reason)
    if until is not None:
        _mark_queued_behind(message_id, until)
    return until


def _set_aside_plainly(message_id: str, until: dt.datetime | None, reason: str) -> None:
    status = {}
    if until is None:
        tried = DeliveryAttempt.objects.filter(message__id=message_id)
        lost = {"error_code": "worker_lost", "finished_at": timezone.now()}
        tried.filter(outcome=statuses.Outcome.STARTED).update(
            outcome=statuses.Outcome.UNKNOWN, **lost
        )
        may_be_sent = tried.filter(outcome=statuses.Outcome.UNKNOWN).exists()
        status = {
            "status": statuses.Status.UNCONFIRMED if may_be_sent else statuses.Status.REJECTED
        }
    chosen = Message.objects.filter(pk=message_id)
    chosen.exclude(status__in=outcomes.TAKEN).update(
        **status,
        decision=reason,
        next_attempt_at=until,
        version=F("version") + 1,
        updated_at=timezone.now(),
    )


def _is_database_away(error: BaseException | None) -> bool:
    """Whether this error, or what it was raised from, says that the database cannot be asked."""
    while error is not None:
        if isinstance(error, _DATABASE_AWAY):
            return True
        error = error.__cause__
    return False


def _mark_queued_behind(message_id: str, until: dt.datetime) -> None:
    """Have the later messages of a conversation say that they wait for this one.

    Under the conversation's lock, like the storing of a message: none is missed between the two.
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
    waiting = Message.objects.filter(
        Q(conversation__channel=channel_id) | Q(conversation__channel__fallback_channel=channel_id),
        next_attempt_at__isnull=False,
        decision__in=policy.THROTTLE_REASONS,
    )
    with transaction.atomic():
        for message in _update_and_publish(waiting, decision="", next_attempt_at=None):
            tasks.wake_conversation(message.conversation_id)


def _update_and_publish(chosen: QuerySet[Message], **decided: Any) -> list[Message]:
    """Lock these messages, write the policy's fields into each and push them. In a transaction."""
    messages = list(chosen.select_for_update(of=("self",)).order_by("pk").only("conversation"))
    if messages:
        Message.objects.filter(pk__in=[message.pk for message in messages]).update(
            **decided, version=F("version") + 1, updated_at=timezone.now()
        )
    for message in messages:
        publisher.message_changed(message)
    return messages


def _next_step(message: Message, attempts: list[DeliveryAttempt], now: dt.datetime) -> policy.Step:
    """Gather what the policy must know, and ask it. The caller holds the message's row."""
    channel = message.conversation.channel
    facts, tried = _facts(message), outcomes.facts(attempts)
    rules = rules_of(channel)
    # A message that was not tried yet goes by its main route: no need to count the fallbacks.
    may_fall_back = (
        bool(attempts) or rules.main_open or message.round_route == Message.RoundRoute.FALLBACK
    )
    limits = rate_limits.limits_of(message, rules, now=now, may_fall_back=may_fall_back)

    def ask(rules: policy.ChannelRules) -> policy.Step:
        return policy.next_step(facts, tried, rules, now=now, limits=limits)

    for route, closed in (
        (rules.main_route, replace(rules, main_open=False, probing=True)),
        (rules.fallback, replace(rules, fallback_open=False)),
    ):
        if route is None:
            continue
        owner = _sends_by(channel, route)
        if not circuit_breaker.probe_is_due(owner, route, now):
            continue
        step = ask(closed)
        if not isinstance(step, policy.Attempt) or step.route != route:
            continue
        if circuit_breaker.claim_probe(owner, route, now):
            # What became of a probe closes the breaker, whichever try of the message it is.
            return replace(step, reason="probe") if step.reason == "retry" else step
    return ask(rules)


def _sends_by(channel: Channel, route: statuses.Route) -> Channel:
    """Return the channel whose credentials a route uses: the Baileys channel of a fallback's."""
    if route == statuses.Route.BAILEYS and channel.kind == Channel.Kind.OFFICIAL:
        assert channel.fallback_channel is not None
        return channel.fallback_channel
    return channel


def _start(
    message: Message, step: policy.Attempt, now: dt.datetime, *, before: list[DeliveryAttempt]
) -> DeliveryAttempt:
    reserved = registry.reserved_id(route=step.route, type_=message.type, content=message.content)
    if step.reason == policy.REPEAT:
        # Under the same id the customer sees one message, whichever of the sends arrived.
        reserved = next(a.reserved_id for a in reversed(before) if a.outcome == "unknown")
    attempt = DeliveryAttempt(
        message=message,
        number=len(before) + 1,
        reserved_id=reserved,
        round=message.round,
        route=step.route,
        channel=_sends_by(message.conversation.channel, step.route),
        rule=step.reason,
        started_at=now,
    )
    attempt.save(force_insert=True)
    return attempt


def _send(send: _Send, is_ours: Callable[[], bool] = _always) -> Accepted | SendError:
    attempt, message = send.attempt, send.attempt.message
    started = time.monotonic()
    result: Accepted | SendError
    try:
        with files.limit_large_sends(send.outbound.file):
            if not _may_ask(attempt, is_ours):
                raise failure(Transient, "taken_over")
            provider = registry.provider_for(message.conversation.channel, route=attempt.route)
            result = provider.send(send.outbound)
    except SendError as error:
        result = error
    except Exception as error:
        # A fault of ours in the middle of a send proves nothing about the send.
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
    return result


def _may_ask(attempt: DeliveryAttempt, is_ours: Callable[[], bool]) -> bool:
    """Whether the provider may still be asked: nobody else has taken the message over.

    What was decided a moment ago needs no question. A clock that was set back counts as a pause.
    """
    fresh = dt.timedelta(0) <= timezone.now() - attempt.started_at <= FRESH
    return fresh or _retry_while_db_down(is_ours)


def _outbound(message: Message, attempt: DeliveryAttempt) -> OutboundMessage:
    return OutboundMessage(
        reference=outcomes.reference(attempt),
        to=message.conversation.contact.phone_number or "",
        type=message.type,
        text=message.text,
        content=message.content,
        quote=outcomes.quote(message, attempt),
        message_id=attempt.reserved_id,
        file=files.outbound_file(message, channel=attempt.channel),
    )


def _retry_while_db_down(ask: Callable[[], T]) -> T:
    """Write down what a send came to, waiting for the database where it is away.

    Giving up loses a provider's answer: the attempt then counts as unknown.
    """
    deadline = time.monotonic() + WRITE_PATIENCE
    pause = 0.1
    while True:
        try:
            return ask()
        except _DATABASE_AWAY:
            if time.monotonic() > deadline:
                raise
            log.warning("the database is away; an attempt waits for it")
            connection.close()
            time.sleep(pause)
            pause = min(pause * 2, 5)


def _facts(message: Message) -> policy.MessageFacts:
    return policy.MessageFacts(
        round=message.round,
        round_route="fallback" if message.round_route == "fallback" else "official",
        round_started_at=message.round_started_at or message.created_at,
        send_seconds=SEND_SLACK
        + longest_send(message.conversation.channel, message.media.size if message.media else 0),
    )


def rules_of(channel: Channel) -> policy.ChannelRules:
    """Return what the policy needs to know of a channel."""
    fallback: statuses.Route | None = None
    if channel.fallback == Channel.Fallback.WWEBJS:
        fallback = statuses.Route.WWEBJS
    elif channel.fallback == Channel.Fallback.BAILEYS:
        other = channel.fallback_channel
        fallback = statuses.Route.BAILEYS if other is not None and other.active else None
    official = channel.kind == Channel.Kind.OFFICIAL
    main = statuses.Route.OFFICIAL if official else statuses.Route.BAILEYS
    return policy.ChannelRules(
        active=channel.active,
        main_route=main,
        fallback=fallback if official else None,
        official_retries=channel.official_retries,
        confirm_seconds=channel.confirm_seconds,
        on_unconfirmed="hold" if channel.on_unconfirmed == "hold" else "fallback",
        fallback_max_age=dt.timedelta(minutes=channel.fallback_max_age_minutes),
        fallback_despite_limits=channel.fallback_despite_limits,
        main_open=circuit_breaker.is_open(channel, main),
        fallback_open=official
        and fallback is not None
        and circuit_breaker.is_open(_sends_by(channel, fallback), fallback),
    )
