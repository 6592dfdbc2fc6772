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

from channels_app import breakers
from channels_app.models import Channel
from channels_app.providers.base import Accepted, OutboundMessage, SendError, Unknown
from channels_app.providers.registry import provider_for
from messaging import attempts as outcomes
from messaging import contacts, live, media, pacing, policy, states, tasks, ways
from messaging.models import DeliveryAttempt, Message

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = structlog.get_logger(__name__)

# Seconds for which a worker in the middle of an attempt waits for the database.
WRITE_PATIENCE = 600
_DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)


@dataclass(frozen=True, slots=True)
class _Send:
    """An attempt that is committed as started, and what its provider is to be told."""

    attempt: DeliveryAttempt
    outbound: OutboundMessage


def deliver(message_id: str) -> dt.datetime | None:
    """Take a message as far as it goes now. Returns when to come back, or None when it is over.

    Must be called by one worker at a time for one conversation (the job's lock sees to that). A
    message that was deleted is over.
    """
    while True:
        try:
            step, send = _decide(message_id)
        except Message.DoesNotExist:
            log.warning("message is gone", message=message_id)
            return None
        if isinstance(step, policy.Wait):
            _tell_those_behind(message_id, step.until)
            return step.until
        if send is None:
            return None
        result = _ask_provider(send)
        outcome = _persistently(partial(outcomes.finish, send.attempt, result))
        _persistently(partial(ways.note, send.attempt, result))
        if outcome == states.Outcome.ACCEPTED:
            return None


def _decide(message_id: str) -> tuple[policy.Step, _Send | None]:
    """Ask the policy and write its answer down; an attempt is committed as started."""
    with transaction.atomic():
        message = (
            Message.objects.select_for_update(of=("self",))
            .select_related(
                "conversation__channel__fallback_channel", "conversation__contact", "media"
            )
            .get(pk=message_id)
        )
        attempts = outcomes.of(message)
        outcomes.close_abandoned(attempts)
        now = timezone.now()
        step = _next_step(message, attempts, now)
        send = None
        if isinstance(step, policy.Attempt):
            attempt = _start(message, step, now, number=len(attempts) + 1)
            send = _Send(attempt, _outbound(message, attempt))
            pacing.note_start(attempt)
            outcomes.settle(message, [*attempts, attempt], next_attempt_at=None, decision="")
        elif isinstance(step, policy.Wait):
            outcomes.settle(message, attempts, next_attempt_at=step.until, decision=step.reason)
        elif not isinstance(step, policy.Done):
            outcomes.settle(message, attempts, next_attempt_at=None, decision=step.reason)
            log.info("message is given up", message=message_id, reason=step.reason)
    return step, send


def _tell_those_behind(message_id: str, until: dt.datetime) -> None:
    """Have the later messages of a conversation say that they wait for this one.

    Under the conversation's lock, like the storing of a message: none is missed between the two.
    """
    with transaction.atomic():
        conversation = contacts.lock_conversation_of(message_id)
        behind = Message.objects.filter(
            conversation=conversation,
            direction=Message.Direction.OUT,
            status=states.Status.QUEUED,
            decision__in=("", policy.TURN),
        ).exclude(pk=message_id)
        _say_of(behind, decision=policy.TURN, next_attempt_at=until)


def give_places_anew(channel: Channel) -> None:
    """Have the messages ask again that wait for a place by the limits that a channel had."""
    waiting = Message.objects.filter(
        Q(conversation__channel=channel) | Q(conversation__channel__fallback_channel=channel),
        next_attempt_at__isnull=False,
        decision__in=policy.PLACES,
    )
    with transaction.atomic():
        for message in _say_of(waiting, decision="", next_attempt_at=None):
            tasks.wake_conversation(message.conversation_id)


def _say_of(chosen: QuerySet[Message], **decided: Any) -> list[Message]:
    """Lock these messages, write the policy's fields into each and push them. In a transaction."""
    messages = list(chosen.select_for_update(of=("self",)).order_by("pk").only("conversation"))
    if messages:
        Message.objects.filter(pk__in=[message.pk for message in messages]).update(
            **decided, version=F("version") + 1, updated_at=timezone.now()
        )
    for message in messages:
        live.message_changed(message)
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
    limits = pacing.limits_of(message, rules, now=now, may_fall_back=may_fall_back)

    def ask(rules: policy.ChannelRules) -> policy.Step:
        return policy.next_step(facts, tried, rules, now=now, limits=limits)

    for route, closed in (
        (rules.main_route, replace(rules, main_open=False, probing=True)),
        (rules.fallback, replace(rules, fallback_open=False)),
    ):
        if route is None:
            continue
        owner = _sends_by(channel, route)
        if not breakers.probe_is_due(owner, route, now):
            continue
        step = ask(closed)
        if not isinstance(step, policy.Attempt) or step.route != route:
            continue
        if breakers.claim_probe(owner, route, now):
            # What became of a probe closes the breaker, whichever try of the message it is.
            return replace(step, reason="probe") if step.reason == "retry" else step
    return ask(rules)


def _sends_by(channel: Channel, route: states.Route) -> Channel:
    """Return the channel whose credentials a route uses: the Baileys channel of a fallback's."""
    if route == states.Route.BAILEYS and channel.kind == Channel.Kind.OFFICIAL:
        assert channel.fallback_channel is not None
        return channel.fallback_channel
    return channel


def _start(
    message: Message, step: policy.Attempt, now: dt.datetime, *, number: int
) -> DeliveryAttempt:
    attempt = DeliveryAttempt(
        message=message,
        number=number,
        round=message.round,
        route=step.route,
        channel=_sends_by(message.conversation.channel, step.route),
        rule=step.reason,
        started_at=now,
    )
    attempt.save(force_insert=True)
    return attempt


def _ask_provider(send: _Send) -> Accepted | SendError:
    attempt, message = send.attempt, send.attempt.message
    started = time.monotonic()
    result: Accepted | SendError
    try:
        with media.place_to_send(send.outbound.file):
            provider = provider_for(message.conversation.channel, route=attempt.route)
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


def _outbound(message: Message, attempt: DeliveryAttempt) -> OutboundMessage:
    return OutboundMessage(
        reference=outcomes.reference(attempt),
        to=message.conversation.contact.phone_number or "",
        type=message.type,
        text=message.text,
        content=message.content,
        quote=outcomes.quote(message, attempt),
        file=media.outbound_file(message, channel=attempt.channel),
    )


def _persistently(ask: Callable[[], T]) -> T:
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
    )


def rules_of(channel: Channel) -> policy.ChannelRules:
    """Return what the policy needs to know of a channel."""
    fallback: states.Route | None = None
    if channel.fallback == Channel.Fallback.WWEBJS:
        fallback = states.Route.WWEBJS
    elif channel.fallback == Channel.Fallback.BAILEYS:
        other = channel.fallback_channel
        fallback = states.Route.BAILEYS if other is not None and other.active else None
    official = channel.kind == Channel.Kind.OFFICIAL
    main = states.Route.OFFICIAL if official else states.Route.BAILEYS
    return policy.ChannelRules(
        active=channel.active,
        main_route=main,
        fallback=fallback if official else None,
        official_retries=channel.official_retries,
        confirm_seconds=channel.confirm_seconds,
        on_unconfirmed="hold" if channel.on_unconfirmed == "hold" else "fallback",
        fallback_max_age=dt.timedelta(minutes=channel.fallback_max_age_minutes),
        fallback_despite_limits=channel.fallback_despite_limits,
        main_open=breakers.is_open(channel, main),
        fallback_open=official
        and fallback is not None
        and breakers.is_open(_sends_by(channel, fallback), fallback),
    )
