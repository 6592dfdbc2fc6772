"""Answer deadlines: what was not delivered by `deliver_by`.

A message has one entry in a partial index (`deadline_check_at`) until nothing more follows from its
deadline. So a delivery costs nothing, and the job finds the deadlines that have passed without
looking at other messages. What follows is decided by `policy.at_deadline`.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, field, replace
from uuid import UUID

import structlog
from django.db import transaction
from django.utils import timezone

from channels_app.connections import circuit_breaker
from channels_app.models import Channel, Connection
from channels_app.providers.base import Rejected
from channels_app.providers.error_codes import failure
from channels_app.providers.events import Receipt
from core.bulk import update_rows
from messaging import queue
from messaging.delivery import attempts, policy, runner
from messaging.delivery.lifetimes import expires_at
from messaging.delivery.statuses import Outcome
from messaging.live import publisher
from messaging.models import DeliveryAttempt, Message

# Messages in one transaction.
BATCH = 200
# How soon a message is looked at again whose worker died while it was sending.
_LATER = dt.timedelta(seconds=5)
_FIELDS = (
    "status", "route", "error_code", "error_title", "error_detail", "decision", "next_attempt_at",
    "deadline_check_at", "overdue_at", "version", "updated_at",
)  # fmt: skip

log = structlog.get_logger(__name__)


@dataclass
class _Round:
    """What one transaction has decided. `expired` are attempts that will not arrive any more."""

    now: dt.datetime
    changed: list[Message] = field(default_factory=list)
    expired: list[DeliveryAttempt] = field(default_factory=list)
    undelivered: dict[int, Connection] = field(default_factory=dict)
    has_ended: bool = False
    _rules: dict[int, policy.ChannelRules] = field(default_factory=dict)

    def rules_of(self, channel: Channel) -> policy.ChannelRules:
        """Return the rules of a channel, read once."""
        if channel.pk not in self._rules:
            self._rules[channel.pk] = runner.rules_of(channel)
        return self._rules[channel.pk]


def check() -> int:
    """Answer the deadlines that have passed. Return how many messages were looked at."""
    looked_at = 0
    while True:
        number = _check_batch()
        looked_at += number
        if number < BATCH:
            return looked_at


def _check_batch() -> int:
    with transaction.atomic():
        found = _Round(timezone.now())
        # One that a worker is sending is looked at in the next round.
        due = Message.objects.filter(deadline_check_at__lte=found.now, claimed_by=None)
        messages = list(
            due.order_by("deadline_check_at")
            .select_for_update(of=("self",), skip_locked=True)
            .select_related("conversation__channel__cloud", "conversation__contact", "media")[
                :BATCH
            ]
        )
        made: dict[UUID, list[DeliveryAttempt]] = defaultdict(list)
        of_these = DeliveryAttempt.objects.filter(message__in=messages).order_by("number")
        for attempt in of_these.select_related("connection__channel"):
            made[attempt.message_id].append(attempt)
        for message in messages:
            for attempt in made[message.pk]:
                attempt.message = message
            _answer(message, made[message.pk], found)
        update_rows(messages, _FIELDS)
        for message in found.changed:
            publisher.message_changed(message)
        for attempt in found.expired:
            # As if the provider had reported it: the policy runs once more.
            error = failure(Rejected, policy.UNDELIVERED)
            attempts.record_receipt(attempt, Receipt.FAILED, error=error)
        if found.has_ended:
            # What waited behind may be due.
            queue.wake_senders()
    for connection in found.undelivered.values():
        circuit_breaker.record_rejection(connection, code=policy.UNDELIVERED, detail="")
    return len(messages)


def _answer(message: Message, made: list[DeliveryAttempt], found: _Round) -> None:
    """Decide about one message and set its fields."""
    if any(attempt.outcome == Outcome.STARTED for attempt in made):
        message.deadline_check_at = found.now + _LATER
        return
    accepted = next((one for one in made if one.outcome == Outcome.ACCEPTED), None)
    if accepted is None and message.decision in policy.FINAL_REASONS:
        # It ended before.
        message.deadline_check_at = None
        return
    facts = [
        replace(one, expires_at=expires_at(message, attempt))
        for one, attempt in zip(attempts.facts(made), made, strict=True)
    ]
    rules = found.rules_of(message.conversation.channel)
    step = policy.at_deadline(runner.facts_of(message), facts, rules, now=found.now)
    message.deadline_check_at = step.until if isinstance(step, policy.Wait) else None
    if isinstance(step, policy.Done):
        return
    decided = {}
    if accepted is not None:
        message.overdue_at = message.overdue_at or message.deliver_by
        if isinstance(step, policy.Expire):
            found.expired.append(accepted)
        elif isinstance(step, policy.Hold):
            found.undelivered[accepted.connection_id] = accepted.connection
    elif isinstance(step, policy.Fail | policy.Hold):
        decided = {"decision": step.reason, "next_attempt_at": None}
        found.has_ended = True
    attempts.set_derived_fields(message, made, decided)
    found.changed.append(message)
    log.info("message not delivered by its deadline", message=str(message.pk), step=repr(step))
