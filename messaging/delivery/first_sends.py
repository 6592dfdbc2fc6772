"""Start the first sends of many messages, and store their results, in a few statements.

Nearly every message is sent once by the official API, which accepts it. Such a case is *simple*.
Every other one is left to `runner`, one message at a time. Both ways use the same rules (`policy`,
`statuses`, `attempts`), so the rows end up the same. `take` claims and decides, `record` stores
what the provider answered.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from django.db import DatabaseError, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from channels_app.connections import circuit_breaker, registry
from channels_app.models import Channel
from channels_app.providers.base import Accepted, Provider
from channels_app.providers.message_keys import message_key
from core.bulk import update_rows
from messaging import contacts
from messaging.delivery import attempts, channel_feedback, outbox, policy, runner
from messaging.delivery.rate_limits import BatchLimits
from messaging.delivery.runner import MadeSend, PendingSend
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import pending_events
from messaging.live import publisher
from messaging.models import DeliveryAttempt, Message

log = structlog.get_logger(__name__)

# What a decision and a result change in a message.
_DECIDED = (
    "status", "route", "error_code", "error_title", "error_detail", "decision", "next_attempt_at",
    "claimed_by", "version", "updated_at",
)  # fmt: skip
_ANSWERED = ("outcome", "finished_at", "provider_message_id", "message_key")
# What is read of the rows to store a result.
_MESSAGE_FIELDS = (
    "conversation", "status", "route", "error_code", "error_title", "error_detail", "decision",
    "next_attempt_at", "round", "claimed_by", "version",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Taken:
    """What a worker has claimed: sends that are started, and messages for `runner.run`."""

    worker_id: int
    sends: Sequence[PendingSend] = ()
    others: Sequence[UUID] = ()
    # Messages that now wait for a slot, which `mark_queued_behind` has to know.
    waits: Sequence[Message] = ()
    # Whether more messages of either kind may be due.
    more_new: bool = False
    more_waiting: bool = False

    def ids(self) -> list[UUID]:
        """Return the claimed messages."""
        return [*(send.attempt.message_id for send in self.sends), *self.others]


def take(worker_id: int, *, new: int, waiting: int) -> Taken:
    """Claim due messages, and start the simple sends among them.

    At most `new` messages on which nothing has been decided, and `waiting` others. Raises
    outbox.LeaseExpired.
    """
    with transaction.atomic():
        now = timezone.now()
        outbox.lock_lease(worker_id)
        fresh = outbox.lock_new(limit=new)
        resumed = outbox.lock_waiting(now=now, limit=waiting)
        batch = _Batch(worker_id, now)
        if ids := [*fresh, *resumed]:
            batch.add(ids)
            batch.store()
        return Taken(
            worker_id,
            batch.sends,
            batch.others,
            batch.waits,
            more_new=len(fresh) == new,
            more_waiting=len(resumed) == waiting,
        )


def mark_queued_behind(waits: Sequence[Message]) -> None:
    """Record on later messages that they wait behind one of these. After the commit."""
    by_conversation = {message.conversation_id: message for message in waits}
    for conversation_id in outbox.with_several_unfinished(by_conversation):
        message = by_conversation[conversation_id]
        assert message.next_attempt_at is not None
        runner.mark_queued_behind(str(message.pk), message.next_attempt_at)


@dataclass(slots=True)
class _Account:
    """What all simple messages of a channel have in common."""

    channel: Channel
    rules: policy.ChannelRules
    limits: BatchLimits
    provider: Provider


@dataclass
class _Batch:
    worker_id: int
    now: dt.datetime
    sends: list[PendingSend] = field(default_factory=list)
    others: list[UUID] = field(default_factory=list)
    waits: list[Message] = field(default_factory=list)
    _accounts: dict[int, _Account] = field(default_factory=dict)

    def add(self, ids: Sequence[UUID]) -> None:
        """Decide about these messages in their order."""
        tried = DeliveryAttempt.objects.filter(message=OuterRef("pk"))
        locked = Message.objects.filter(pk__in=ids).annotate(is_tried=Exists(tried))
        messages = {one.pk: one for one in locked.select_related("conversation__contact")}
        self._load_accounts({one.conversation.channel_id for one in messages.values()})
        for message in (messages[id_] for id_ in ids):
            if message.is_tried or not _is_simple(message) or not self._decide(message):
                self.others.append(message.pk)

    def store(self) -> None:
        """Store what was decided about the simple messages, and claim the others."""
        started = [send.attempt for send in self.sends]
        if started:
            DeliveryAttempt.objects.bulk_create(started)
        changed = [*(attempt.message for attempt in started), *self.waits]
        update_rows(changed, _DECIDED)
        for message in changed:
            publisher.message_changed(message)
        if self.others:
            Message.objects.filter(pk__in=self.others).update(claimed_by=self.worker_id)

    def _load_accounts(self, channel_ids: Iterable[int]) -> None:
        channels = Channel.objects.filter(pk__in=channel_ids, kind=Route.OFFICIAL, active=True)
        for channel in channels.select_related("cloud").prefetch_related("connections"):
            connection = channel.primary
            if connection.pk is None or circuit_breaker.is_open(connection):
                continue
            try:
                self._accounts[channel.pk] = _Account(
                    channel,
                    runner.rules_of(channel, with_fallbacks=False),
                    BatchLimits(connection, self.now),
                    registry.provider_for(connection),
                )
            except Exception:
                # The runner counts the error against each message.
                log.exception("channel cannot send", channel=channel.pk)

    def _decide(self, message: Message) -> bool:
        """Decide about a message as the runner would. False: the runner has to."""
        account = self._accounts.get(message.conversation.channel_id)
        if account is None:
            return False
        try:
            return self._decide_simple(message, account)
        except DatabaseError:
            raise
        except Exception:
            # The runner counts the error against the message; the others are not concerned.
            log.exception("message not decided together with others", message=str(message.pk))
            return False

    def _decide_simple(self, message: Message, account: _Account) -> bool:
        message.conversation.channel = account.channel
        step = policy.next_step(
            runner.facts_of(message),
            [],
            account.rules,
            now=self.now,
            limits=account.limits.limits_for(message),
        )
        if isinstance(step, policy.Wait):
            if step.reason == policy.WAITING_THROUGHPUT:
                account.limits.add_wait(step.until)
            decided = {"next_attempt_at": step.until, "decision": step.reason}
            attempts.set_derived_fields(message, [], decided)
            self.waits.append(message)
            return True
        if not isinstance(step, policy.Attempt) or step.probes:
            return False
        attempt = runner.new_attempt(message, step, self.now, before=[])
        outbound = runner.outbound(message, attempt)
        account.limits.add_start(attempt)
        attempts.set_derived_fields(message, [attempt], {"next_attempt_at": None, "decision": ""})
        message.claimed_by_id = self.worker_id
        self.sends.append(PendingSend(attempt, outbound, account.provider, self.worker_id))
        return True


def _is_simple(message: Message) -> bool:
    """Return whether the send of a message without attempts needs nothing else from the database.

    A file has to be uploaded, a reply or reaction names another message, and a scheduled message
    moves its conversation to the top of the list.
    """
    return (
        message.round == 1
        and message.round_route == Message.RoundRoute.OFFICIAL
        and message.faults == 0
        and message.media_id is None
        and message.reply_to_id is None
        and message.send_at is None
        and message.type != "reaction"
    )


def record(made: Sequence[MadeSend]) -> tuple[list[MadeSend], bool]:
    """Store the results that are simple, and end the claims on their messages.

    Returns the results that are left for `runner.run`, and whether other messages became due.
    """
    candidates = {
        send.attempt.message_id: send
        for send in made
        if isinstance(send.result, Accepted)
        and send.result.provider_message_id
        and not send.result.held
        and channel_feedback.is_nothing_new(send.attempt, send.result)
        # The runner takes the conversation from another app, and learns another address.
        and not send.attempt.message.conversation.controlled_by
        and len(contacts.named_by_answer(send.attempt, send.result)) < 2
    }
    left = [send for send in made if send.attempt.message_id not in candidates]
    if not candidates:
        return left, False
    with transaction.atomic():
        stored = _lock(candidates)
        for attempt in stored.values():
            message, result = attempt.message, candidates[attempt.message_id].result
            attempts.apply_result(attempt, result)
            assert isinstance(result, Accepted)
            attempt.provider_message_id = result.provider_message_id or ""
            attempt.message_key = message_key(attempt.provider_message_id)
            attempts.set_derived_fields(message, [attempt], {})
            message.claimed_by_id = None
        update_rows(list(stored.values()), _ANSWERED)
        messages = [attempt.message for attempt in stored.values()]
        update_rows(messages, _DECIDED)
        for message in messages:
            publisher.message_changed(message)
    # Not while the rows and ids are locked: see `_lock`.
    more_due = bool(messages) and outbox.wake({message.conversation_id for message in messages})
    left += [send for id_, send in candidates.items() if id_ not in stored]
    return left, more_due


def _lock(made: dict[UUID, MadeSend]) -> dict[UUID, DeliveryAttempt]:
    """Lock the rows of these sends whose results change nothing but the row of their message.

    Rows and ids that somebody else has locked are left out: whoever waits for one while holding
    others can deadlock with the reader of events.
    """
    key_of = {
        message_id: (
            send.attempt.connection.channel_id,
            message_key(send.result.provider_message_id or ""),
        )
        for message_id, send in made.items()
        if isinstance(send.result, Accepted)
    }
    locked_keys = pending_events.try_lock_ids(key_of.values())
    free = locked_keys - pending_events.which_exist(locked_keys)
    usable = [message_id for message_id, key in key_of.items() if key in free]
    rows = Message.objects.filter(pk__in=usable).select_for_update(skip_locked=True)
    messages = {
        message.pk: message
        for message in rows.only(*_MESSAGE_FIELDS)
        if message.claimed_by_id == made[message.pk].worker_id
    }
    found: dict[UUID, DeliveryAttempt] = {}
    for attempt in DeliveryAttempt.objects.filter(message__in=list(messages)):
        mine = made[attempt.message_id].attempt
        attempt.message, attempt.connection = messages[attempt.message_id], mine.connection
        if attempt.pk == mine.pk and _is_untouched(attempt):
            found[attempt.message_id] = attempt
    return found


def _is_untouched(attempt: DeliveryAttempt) -> bool:
    """Return whether no receipt and no other worker has changed the attempt meanwhile."""
    return (
        attempt.outcome == Outcome.STARTED
        and not attempt.receipt
        and not attempt.provider_message_id
        and attempt.route == Route.OFFICIAL
    )
