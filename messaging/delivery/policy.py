"""Decide the next step of an outgoing message. Pure: no database, no clock, no network.

All rules about retries, fallback, uncertainty, age and rate limits are in this module. The caller
passes facts and the time; `next_step` returns one step and its reason.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from channels_app.providers import error_codes
from channels_app.providers.error_codes import FallbackRule
from messaging.delivery.statuses import Outcome, Route

# Seconds before the second, third, … official try. The channel sets how many tries there are.
OFFICIAL_BACKOFF = (2, 8, 30, 120)
# Seconds between tries of a fallback that certainly does not send (session down, rejected).
FALLBACK_BACKOFF = (3, 15, 60)
# The same after rate limiting by the provider or WhatsApp: retrying sooner prolongs it.
RATE_LIMITED_BACKOFF = (60, 180, 600)
_RATE_LIMITED = frozenset({"rate_overlimit", "http_429"})
# Limit of messages to one customer: Meta asks to wait 4^n seconds (docs/providers/cloud.md §5).
PAIR_LIMIT_MAX_TRIES = 5
# Per-customer limit: a burst, then one message every RECIPIENT_SECONDS (§5).
RECIPIENT_BURST, RECIPIENT_SECONDS = 45, 6
RECIPIENT_WINDOW = dt.timedelta(seconds=RECIPIENT_BURST * RECIPIENT_SECONDS)
# WhatsApp blocks new chats of a number with error 463. No provider forwards that code, so this many
# rejected first messages within the period are taken as the block.
NEW_CHAT_REJECTIONS, NEW_CHAT_REJECTIONS_WITHIN = 2, dt.timedelta(hours=1)
_NEW_CHAT_BLOCK_CODE, _GENERIC_REJECTIONS = "463", frozenset({"ack_error", "error"})

# Resend a message that may have been sent, if its id makes that harmless; and the maximum.
REPEAT, MAX_REPEATS = "repeat", 2
# Seconds before a delivery with an internal error runs again; after that a person must look.
FAULT_BACKOFF = (2, 10, 30, 60)
MAX_FAULTS = len(FAULT_BACKOFF) + 1
INTERNAL_ERROR = "internal_error"
# The error code of an attempt whose worker was considered dead.
WORKER_LOST = "worker_lost"

# The reason of a message that waits for the number's limit per second.
WAITING_THROUGHPUT = "waiting_throughput"
# The reason of a message that waits for an earlier one of its conversation.
WAITING_TURN = "waiting_turn"
# The reason of a message that is scheduled. Those behind it do not wait for it.
WAITING_SCHEDULE = "waiting_schedule"
# The end of a message that was not sent by its deadline, and of one that was canceled.
# Meta's code for marketing to a customer who stopped it.
STOPPED_MARKETING: Final = "131050"
DEADLINE_PASSED, CANCELED = "deadline_passed", "canceled"
# A message that a provider accepted, but did not deliver by its deadline. It is also the error code
# of an attempt that the provider will certainly not deliver any more.
UNDELIVERED = error_codes.UNDELIVERED
# Reasons to wait for a reserved slot; if the limits change, the slots change.
THROTTLE_REASONS = (WAITING_THROUGHPUT, "waiting_pace", "waiting_new_chat")

# Reasons after which only a person can retry the message.
FINAL_REASONS = frozenset(
    {
        "no_fallback",
        "never_fall_back",
        "opted_out",
        "opt_in_only",
        "too_old",
        "pair_limit",
        "fallback_refused",
        "fallback_unavailable",
        "fallback_unconfirmed",
        "fallback_broken",
        "new_chats_stopped",
        "new_chat_limit",
        "fallback_full",
        "held",
        "inactive",
        DEADLINE_PASSED,
        CANCELED,
        INTERNAL_ERROR,
    }
)

REASONS: dict[str, str | Promise] = {
    "first": _("The official API is tried first."),
    "retry": _("The official API may accept it on another try."),
    "asked": _("A user requested it."),
    "probe": _(
        "The official API was rejecting every message; this message checks whether it still does."
    ),
    "breaker_open": _("The official API rejects every message until someone fixes it."),
    "opted_in": _(
        "The official API limits this message; the channel allows the fallback in this case."
    ),
    "refused": _("The official API rejected it permanently."),
    "retries_exhausted": _("The official API did not accept it on any attempt."),
    "unconfirmed": _("Delivery through the official API was not confirmed in time."),
    "waiting_retry": _("Waiting to retry the official API."),
    "waiting_confirmation": _("The provider did not respond; awaiting delivery confirmation."),
    "waiting_pace": _("Waiting for the fallback's limit per minute."),
    "waiting_fallback": _("The fallback is not available; waiting to retry."),
    WAITING_THROUGHPUT: _("Waiting for the number's limit per second."),
    "waiting_recipient": _("WhatsApp limits how many messages one customer receives; waiting."),
    WAITING_TURN: _("An earlier message to this customer is waiting; this one is sent after it."),
    "waiting_new_chat": _("Waiting for the daily limit of new customers."),
    WAITING_SCHEDULE: _("Scheduled: it is sent at the chosen time."),
    "waiting_expiry": _(
        "It was not delivered in time. The next route sends it once the first one cannot deliver"
        " it any more."
    ),
    REPEAT: _(
        "Delivery was not confirmed. The server recognizes this message by its ID, so the "
        "customer sees it only once."
    ),
    "waiting_internal_error": _("An error in Alterna stopped the delivery; retrying soon."),
    "next_fallback": _("The previous fallback could not send it."),
    "fallback_retry": _("The fallback may be available again."),
    "no_fallback": _("The channel has no working fallback."),
    "never_fall_back": _("This rejection cannot be retried on another route."),
    "opted_out": _("The customer stopped marketing messages; no route may send this one."),
    "opt_in_only": _("Sending this message through another route could harm the number."),
    "pair_limit": _("WhatsApp limits how many messages this customer receives in a short time."),
    "too_old": _("The message is too old to be sent again."),
    "fallback_refused": _("The fallback also rejected it."),
    "fallback_unavailable": _("The fallback was not available on any attempt."),
    "fallback_unconfirmed": _("The fallback did not respond: someone must check."),
    "fallback_broken": _("The fallback rejects every message until someone fixes it."),
    "new_chats_stopped": _("WhatsApp blocked new chats from the fallback's number."),
    "new_chat_limit": _("The fallback has reached its daily limit of new customers."),
    "fallback_full": _("The fallback's limit per minute does not allow it in time."),
    "held": _("Delivery was not confirmed: someone must check."),
    "inactive": _("The channel is not active."),
    DEADLINE_PASSED: _("It could not be sent by its deadline, so it is not sent any more."),
    CANCELED: _("It was canceled before it was sent."),
    UNDELIVERED: _("It was accepted, but not delivered by its deadline."),
    INTERNAL_ERROR: _("An error in Alterna stopped the delivery each time: someone must check."),
}


# Meta's categories of templates.
MARKETING, NOT_MARKETING = "MARKETING", frozenset({"UTILITY", "AUTHENTICATION"})


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """`round_started_at` is when the message, or its latest manual retry, was requested.

    `send_seconds` is the maximum duration of a send on the primary route. `marketing_stopped`:
    the customer stopped marketing messages. `template_category` is Meta's, "" if it is unknown.
    Nothing is sent before `send_at` or from `deliver_by` on; `on_undelivered` is for a message that
    a provider accepted, but did not deliver by then.
    """

    round: int
    round_route: Literal["official", "fallback"]
    round_started_at: dt.datetime
    send_seconds: float = 0
    type: str = "text"
    marketing_stopped: bool = False
    template_category: str = ""
    send_at: dt.datetime | None = None
    deliver_by: dt.datetime | None = None
    on_undelivered: Literal["hold", "fallback"] = "hold"

    @property
    def opted_out(self) -> bool:
        """Whether it may be marketing, which the customer stopped: no fallback sends it.

        Only templates are marketing. Of one whose category is unknown, Meta decides.
        """
        may_be_marketing = self.template_category not in NOT_MARKETING
        return self.type == "template" and self.marketing_stopped and may_be_marketing

    @property
    def is_stopped_marketing(self) -> bool:
        """Whether it is marketing, which the customer stopped: Meta would reject it."""
        return self.opted_out and self.template_category == MARKETING


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """`repeatable`: the provider uses our id for the message, so a resend shows nothing twice.

    `key` is the key of its Sender. `expires_at`: from then on the provider certainly does not
    deliver a message that it accepted; None if that is not known.
    """

    round: int
    route: str
    outcome: Outcome
    error_code: str
    finished_at: dt.datetime | None
    repeatable: bool = False
    key: int = 0
    delivered: bool = False
    expires_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Sender:
    """A connection by which the channel sends. Route and `key` identify it.

    `probe_due`: a message may test whether its open circuit breaker can be closed.
    """

    route: str
    key: int = 0
    breaker_open: bool = False
    probe_due: bool = False

    def made(self, attempt: AttemptFacts) -> bool:
        """Return whether this connection made the attempt."""
        return (attempt.route, attempt.key) == (self.route, self.key)


@dataclass(frozen=True, slots=True)
class ChannelRules:
    """The channel owner's settings. `fallbacks` are those that are usable now, in their order."""

    active: bool
    fallbacks: tuple[Sender, ...]
    official_retries: int
    confirm_seconds: int
    on_unconfirmed: Literal["fallback", "hold"]
    fallback_max_age: dt.timedelta
    primary: Sender = Sender(Route.OFFICIAL)
    fallback_despite_limits: bool = False


@dataclass(frozen=True, slots=True)
class FallbackLimits:
    """When each limit of one fallback next has a slot for this message; None if it has one now.

    `new_chat` and `new_chats_blocked` are set for a customer whom the fallback's number has not
    written to and who never wrote to us.
    """

    slot: dt.datetime | None = None
    new_chat: dt.datetime | None = None
    new_chats_blocked: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """When each limit next has a slot for this message; None if it has one now.

    A slot comes after those that are reserved for other waiting messages. `fallbacks` maps the key
    of each fallback's Sender to its limits.
    """

    throughput: dt.datetime | None = None
    recipient: dt.datetime | None = None
    fallbacks: Mapping[int, FallbackLimits] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send by this connection now. `probes`: it tests an open circuit breaker."""

    route: str
    reason: str
    key: int = 0
    probes: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing before this time, then run the policy again."""

    until: dt.datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Nothing more is tried unless a person asks for it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The message may have been sent: only a person may send it again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """An attempt was accepted."""


@dataclass(frozen=True, slots=True)
class Expire:
    """The accepted attempt cannot arrive any more: it counts as rejected (UNDELIVERED)."""


Step = Attempt | Wait | Fail | Hold | Done


def next_step(
    message: MessageFacts,
    attempts: Sequence[AttemptFacts],
    rules: ChannelRules,
    *,
    now: dt.datetime,
    limits: Limits = Limits(),
) -> Step:
    """Return the next step of an outgoing message.

    `attempts` are all of its attempts in order, none of them running: the attempt of a dead worker
    must have been closed as unknown first. Raises ValueError on a running attempt.
    """
    if any(attempt.outcome == Outcome.STARTED for attempt in attempts):
        raise ValueError("an attempt is still running")
    if any(attempt.outcome == Outcome.ACCEPTED for attempt in attempts):
        return Done()
    if message.send_at is not None and now < message.send_at:
        return Wait(message.send_at, WAITING_SCHEDULE)
    if not rules.active:
        return Fail("inactive")
    step = _step_at_any_time(message, attempts, rules, now=now, limits=limits)
    return _before_deadline(step, message, attempts, now=now)


def _step_at_any_time(
    message: MessageFacts,
    attempts: Sequence[AttemptFacts],
    rules: ChannelRules,
    *,
    now: dt.datetime,
    limits: Limits,
) -> Step:
    """Return the next step of a message that has no deadline, or not reached it."""
    tried = [attempt for attempt in attempts if attempt.round == message.round]
    by_fallback = [attempt for attempt in tried if not rules.primary.made(attempt)]
    prohibited = _fallback_prohibited_reason(message, attempts, tried, rules)
    to_fallback = _Fallbacks(message, rules, now, limits, by_fallback, prohibited)
    if by_fallback:
        return _after_fallback(by_fallback, rules, to_fallback, now=now)
    if message.round_route == "fallback" and not tried:
        return to_fallback("asked")
    step = _by_primary(message, tried, rules, to_fallback, now=now)
    if rules.primary.breaker_open and rules.primary.probe_due:
        probe = _apply_primary_limits(step, rules, limits, now=now)
        if isinstance(probe, Attempt) and probe.route == rules.primary.route:
            # The probe's outcome closes the breaker, whichever try of the message it is.
            reason = "probe" if probe.reason in ("first", "retry") else probe.reason
            return replace(probe, reason=reason, probes=True)
    if rules.primary.breaker_open and _may_skip_primary(step, rules):
        fallback_step = to_fallback("breaker_open")
        # If no fallback can send it either, let the primary route reject it once more.
        if not isinstance(fallback_step, Fail):
            return fallback_step
    return _apply_primary_limits(step, rules, limits, now=now)


def _before_deadline(
    step: Step, message: MessageFacts, attempts: Sequence[AttemptFacts], *, now: dt.datetime
) -> Step:
    """Return the step, or the end of a message that would be sent after its deadline.

    One that another route accepted in time, and did not deliver, is exempt (`at_deadline`).
    """
    sends_later = isinstance(step, Attempt) or (
        isinstance(step, Wait) and step.reason != "waiting_confirmation"
    )
    if message.deliver_by is None or not sends_later:
        return step
    if any((a.round, a.error_code) == (message.round, UNDELIVERED) for a in attempts):
        return step
    if now >= message.deliver_by:
        in_doubt = any(attempt.outcome == Outcome.UNKNOWN for attempt in attempts)
        return Hold(DEADLINE_PASSED) if in_doubt else Fail(DEADLINE_PASSED)
    if isinstance(step, Wait):
        return replace(step, until=min(step.until, message.deliver_by))
    return step


def at_deadline(
    message: MessageFacts,
    attempts: Sequence[AttemptFacts],
    rules: ChannelRules,
    *,
    now: dt.datetime,
) -> Step | Expire:
    """Return what follows when the deadline of a message has passed. It is never an Attempt.

    Hold(UNDELIVERED): a provider accepted the message and may still deliver it, so only a person
    decides. The next route is used (Expire) only if the message's rule asks for it, nothing forbids
    it, and the first route certainly does not deliver the message any more.
    """
    accepted = [attempt for attempt in attempts if attempt.outcome == Outcome.ACCEPTED]
    if not accepted:
        return next_step(message, attempts, rules, now=now)
    if any(attempt.delivered for attempt in accepted):
        return Done()
    may_arrive = [a for a in attempts if a.outcome in (Outcome.ACCEPTED, Outcome.UNKNOWN)]
    expires_at = accepted[0].expires_at
    if message.on_undelivered != "fallback" or expires_at is None or len(may_arrive) > 1:
        return Hold(UNDELIVERED)
    expired = [
        replace(a, outcome=Outcome.REJECTED, error_code=UNDELIVERED) if a is accepted[0] else a
        for a in attempts
    ]
    follows = next_step(message, expired, rules, now=max(now, expires_at))
    if not isinstance(follows, Attempt | Wait):
        return Hold(UNDELIVERED)
    return Wait(expires_at, "waiting_expiry") if now < expires_at else Expire()


def _by_primary(
    message: MessageFacts,
    tried: Sequence[AttemptFacts],
    rules: ChannelRules,
    to_fallback: _Fallbacks,
    *,
    now: dt.datetime,
) -> Step:
    """Return the step of a message that no fallback has tried, regardless of breaker and limits."""
    if tried:
        return _after_primary(tried, rules, to_fallback, now=now)
    if message.is_stopped_marketing:
        return Fail("opted_out")
    return Attempt(
        rules.primary.route, "first" if message.round == 1 else "asked", rules.primary.key
    )


def _may_skip_primary(step: Step, rules: ChannelRules) -> bool:
    """Return whether an open breaker of the primary route sends this step to the fallback."""
    if isinstance(step, Attempt):
        return step.route == rules.primary.route and step.reason != "asked"
    # Still wait for a customer's limit: the fallback must not bypass it.
    return isinstance(step, Wait) and step.reason == "waiting_retry"


def after_fault(faults: int, *, now: dt.datetime) -> Wait | Hold:
    """Return what to do with a message whose delivery failed with an internal error.

    `faults` counts those of the current round, including this one.
    """
    if faults >= MAX_FAULTS:
        return Hold(INTERNAL_ERROR)
    pause = dt.timedelta(seconds=_backoff(FAULT_BACKOFF, faults))
    return Wait(now + pause, "waiting_internal_error")


def _apply_primary_limits(
    step: Step, rules: ChannelRules, limits: Limits, *, now: dt.datetime
) -> Step:
    """Return the step, or a wait if it uses the primary route while that has no slot."""
    if not isinstance(step, Attempt) or step.route != rules.primary.route:
        return step
    if limits.recipient is not None and limits.recipient > now:
        return Wait(limits.recipient, "waiting_recipient")
    if limits.throughput is not None and limits.throughput > now:
        return Wait(limits.throughput, WAITING_THROUGHPUT)
    return step


def recipient_free_at(sent: Sequence[dt.datetime], *, now: dt.datetime) -> dt.datetime | None:
    """Return when a customer may next get a message, given the sends in RECIPIENT_WINDOW.

    The burst is borrowed from the time that follows: each message uses RECIPIENT_SECONDS of it.
    """
    each = dt.timedelta(seconds=RECIPIENT_SECONDS)
    paid_until: dt.datetime | None = None
    for at in sorted(sent):
        paid_until = max(paid_until or at, at) + each
    if paid_until is None:
        return None
    free_at = paid_until - (RECIPIENT_BURST - 1) * each
    return free_at if free_at > now else None


def is_new_chat_block(code: str, *, rejections: int) -> bool:
    """Return whether a rejected first message of a fallback means that WhatsApp blocks new chats.

    `rejections` counts those within NEW_CHAT_REJECTIONS_WITHIN, including this one.
    """
    if code == _NEW_CHAT_BLOCK_CODE:
        return True
    return code in _GENERIC_REJECTIONS and rejections >= NEW_CHAT_REJECTIONS


@dataclass(frozen=True, slots=True)
class _Fallbacks:
    """The channel's fallbacks, with the checks that every use of one must pass.

    `tried` are this round's attempts by any of them.
    """

    message: MessageFacts
    rules: ChannelRules
    now: dt.datetime
    limits: Limits
    tried: Sequence[AttemptFacts]
    # The reason why this message must not use a fallback, if there is one.
    prohibited_reason: str | None

    @property
    def too_late(self) -> bool:
        return self.now - self.message.round_started_at > self.rules.fallback_max_age

    def __call__(self, reason: str) -> Step:
        """Return the step by the first fallback that can send now.

        One that has no slot is waited for, so that its limit does not push messages to the next.
        If none can send now, wait for the first that may later.
        """
        steps: list[Step] = []
        for sender in self.rules.fallbacks:
            step = self.step_by(sender, reason)
            throttled = isinstance(step, Wait) and step.reason in THROTTLE_REASONS
            if isinstance(step, Attempt) or throttled:
                return step
            steps.append(step)
        waits = [step for step in steps if isinstance(step, Wait)]
        if waits:
            return min(waits, key=lambda wait: wait.until)
        return steps[-1] if steps else Fail(self.prohibited_reason or "no_fallback")

    def repeat(self, attempt: AttemptFacts) -> Step:
        """Return the step that sends once more by the fallback that made the attempt."""
        maker = next((one for one in self.rules.fallbacks if one.made(attempt)), None)
        return Fail("no_fallback") if maker is None else self.step_by(maker, REPEAT)

    def step_by(self, sender: Sender, reason: str) -> Step:
        """Return the step if only this fallback existed."""
        tried = [attempt for attempt in self.tried if sender.made(attempt)]
        if tried and reason != REPEAT:
            if (outcome := self._after(tried)) is not None:
                return outcome
            reason = "fallback_retry"
        if self.prohibited_reason is not None:
            return Fail(self.prohibited_reason)
        if self.too_late:
            return Fail("too_old")
        if sender.breaker_open and not sender.probe_due and reason != "asked":
            return Fail("fallback_broken")
        limits = self.limits.fallbacks.get(sender.key, FallbackLimits())
        if limits.new_chats_blocked:
            return Fail("new_chats_stopped")
        for free_at, waiting, failed in (
            (limits.new_chat, "waiting_new_chat", "new_chat_limit"),
            (limits.slot, "waiting_pace", "fallback_full"),
        ):
            if free_at is None or free_at <= self.now:
                continue
            # By then it would be too old.
            if free_at - self.message.round_started_at > self.rules.fallback_max_age:
                return Fail(failed)
            return Wait(free_at, waiting)
        probes = sender.breaker_open and sender.probe_due
        return Attempt(sender.route, reason, sender.key, probes=probes)

    def _after(self, tried: Sequence[AttemptFacts]) -> Step | None:
        """Return what follows from the attempts by one fallback; None if it may try again."""
        last = tried[-1]
        if last.outcome == Outcome.REJECTED:
            return Fail("fallback_refused")
        if len(tried) > len(FALLBACK_BACKOFF):
            return Fail("fallback_unavailable")
        limited = last.error_code in _RATE_LIMITED
        backoff = RATE_LIMITED_BACKOFF if limited else FALLBACK_BACKOFF
        until = (last.finished_at or self.now) + dt.timedelta(seconds=backoff[len(tried) - 1])
        return Wait(until, "waiting_fallback") if self.now < until else None


def is_stopped_by_customer(
    decision: str, error_code: str, *, since: dt.datetime | None, resumed_at: dt.datetime | None
) -> bool:
    """Return whether a message that ended so stays refused: the customer wants no marketing.

    `since` is when it was tried, `resumed_at` when the customer asked for marketing again, if that
    is the latest wish. To send it again before would only be refused again.
    """
    if decision != "opted_out" and error_code != STOPPED_MARKETING:
        return False
    return resumed_at is None or since is None or resumed_at <= since


def never_falls_back(attempts: Sequence[AttemptFacts], rules: ChannelRules) -> bool:
    """Return whether the primary route rejected this message in a way that forbids any fallback.

    The customer blocked us or opted out, or law or WhatsApp's safety rules forbid it: final.
    """
    return any(
        error_codes.lookup(attempt.error_code).fallback == FallbackRule.NEVER
        for attempt in attempts
        if rules.primary.made(attempt)
    )


def _fallback_prohibited_reason(
    message: MessageFacts,
    attempts: Sequence[AttemptFacts],
    tried: Sequence[AttemptFacts],
    rules: ChannelRules,
) -> str | None:
    """Return why the customer's wish or the primary route's responses forbid the fallback.

    A limit reached in this round (`tried`) does, unless the channel opts in; a person may override.
    """
    if message.opted_out:
        return "opted_out"
    if never_falls_back(attempts, rules):
        return "never_fall_back"
    limited = any(
        error_codes.lookup(attempt.error_code).fallback == FallbackRule.OPT_IN
        for attempt in tried
        if rules.primary.made(attempt)
    )
    return "opt_in_only" if limited and not rules.fallback_despite_limits else None


def _after_primary(
    tried: Sequence[AttemptFacts], rules: ChannelRules, to_fallback: _Fallbacks, *, now: dt.datetime
) -> Step:
    last = tried[-1]
    ended = last.finished_at or now
    first_in_doubt = next((a for a in tried if a.outcome == Outcome.UNKNOWN), None)
    # Whatever followed a send in doubt repeated it: the doubt stays, whatever was learned since.
    if first_in_doubt is not None and (first_in_doubt.repeatable or last is not first_in_doubt):

        def repeat_step() -> Step:
            return (
                Fail("too_old")
                if to_fallback.too_late
                else Attempt(rules.primary.route, REPEAT, rules.primary.key)
            )

        return _resend_or_hold(tried, rules, to_fallback, repeat_step, "held", now=now)
    if last.outcome == Outcome.UNKNOWN:
        until = _proof_due_at(last, rules, to_fallback, now=now)
        if now < until:
            return Wait(until, "waiting_confirmation")
        if rules.on_unconfirmed == "hold" or not rules.fallbacks:
            return Hold("held")
        return to_fallback("unconfirmed")

    if to_fallback.prohibited_reason is not None:
        return Fail(to_fallback.prohibited_reason)
    rule = error_codes.lookup(last.error_code).fallback
    if rule == FallbackRule.OPT_IN:
        # Such a limit lasts for hours, and retrying would make it worse.
        return to_fallback("opted_in")
    if last.outcome == Outcome.REJECTED:
        if rule not in (FallbackRule.RETRY_FIRST, FallbackRule.WAIT):
            return to_fallback(UNDELIVERED if last.error_code == UNDELIVERED else "refused")
        # A late failure with a code that allows a retry, if the message is not too old.
        if to_fallback.too_late:
            return Fail("too_old")
    limited = [a for a in tried if error_codes.lookup(a.error_code).fallback == FallbackRule.WAIT]
    if rule == FallbackRule.WAIT:
        if len(limited) >= PAIR_LIMIT_MAX_TRIES:
            return Fail("pair_limit")
        seconds = 4 ** (len(limited) - 1)
        return _retry_after(seconds, ended, rules.primary, "waiting_recipient", now=now)
    others = len(tried) - len(limited)
    if others > rules.official_retries:
        return to_fallback("retries_exhausted")
    seconds = _backoff(OFFICIAL_BACKOFF, others)
    return _retry_after(seconds, ended, rules.primary, "waiting_retry", now=now)


def _resend_or_hold(
    tried: Sequence[AttemptFacts],
    rules: ChannelRules,
    to_fallback: _Fallbacks,
    repeat_step: Callable[[], Step],
    held: str,
    *,
    now: dt.datetime,
) -> Step:
    """Resend under the same id what may have been sent: a few times, with pauses.

    The first send stays unconfirmed whatever the resend's outcome: then only a person decides.
    """
    first = next(n for n, attempt in enumerate(tried) if attempt.outcome == Outcome.UNKNOWN)
    last, since = tried[-1], tried[first:]
    over = last.outcome == Outcome.REJECTED or len(since) > MAX_REPEATS
    if over or not all(attempt.repeatable for attempt in since):
        return Hold(held)
    until = _proof_due_at(last, rules, to_fallback, now=now)
    if now < until:
        return Wait(until, "waiting_confirmation")
    step = repeat_step()
    return Hold(held) if isinstance(step, Fail) else step


def _proof_due_at(
    last: AttemptFacts, rules: ChannelRules, to_fallback: _Fallbacks, *, now: dt.datetime
) -> dt.datetime:
    """Return until when a proof of the last send may arrive."""
    wait: float = rules.confirm_seconds
    if last.error_code == WORKER_LOST:
        # It may only have lost the database, and still be sending.
        wait = max(wait, to_fallback.message.send_seconds)
    return (last.finished_at or now) + dt.timedelta(seconds=wait)


def _after_fallback(
    tried: Sequence[AttemptFacts],
    rules: ChannelRules,
    to_fallback: _Fallbacks,
    *,
    now: dt.datetime,
) -> Step:
    """Return what follows once a fallback has tried: the same one again, or the next.

    What one of them may have sent goes out by no other.
    """
    in_doubt = next((attempt for attempt in tried if attempt.outcome == Outcome.UNKNOWN), None)
    if in_doubt is not None:
        once_more = partial(to_fallback.repeat, in_doubt)
        return _resend_or_hold(
            tried, rules, to_fallback, once_more, "fallback_unconfirmed", now=now
        )
    return to_fallback("next_fallback")


def _retry_after(
    seconds: int, ended: dt.datetime, sender: Sender, waiting: str, *, now: dt.datetime
) -> Step:
    until = ended + dt.timedelta(seconds=seconds)
    return Wait(until, waiting) if now < until else Attempt(sender.route, "retry", sender.key)


def _backoff(schedule: Sequence[int], tries: int) -> int:
    return schedule[min(tries, len(schedule)) - 1]


def reason_text(reason: str) -> Any:
    """Return the text for a reason, or the reason itself if there is none."""
    return REASONS.get(reason, reason)
