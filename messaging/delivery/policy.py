"""What happens next to an outgoing message. Pure: no database, no clock, no network.

Every rule about retry, fallback, uncertainty, age and pacing is here and nowhere else. The caller
gives facts and the time; `next_step` answers with one step and the reason for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from channels_app.providers import error_codes
from channels_app.providers.error_codes import FallbackRule
from messaging.delivery.statuses import Outcome, Route

# Seconds to wait before the second, third, … official try. The channel says how many there are.
OFFICIAL_BACKOFF = (2, 8, 30, 120)
# Seconds between the tries of a fallback that is certainly not sending (session down, refused).
FALLBACK_BACKOFF = (3, 15, 60)
# The same where the provider or WhatsApp asks for fewer requests: asking again at once prolongs it.
RATE_LIMITED_BACKOFF = (60, 180, 600)
_RATE_LIMITED = frozenset({"rate_overlimit", "http_429"})
# The limit of messages to one customer: Meta asks to wait 4^n seconds (contracts/cloud-api.md §5).
PAIR_LIMIT_TRIES = 5
# What one customer may get: a burst, and from then on one message in so many seconds (§5).
RECIPIENT_BURST, RECIPIENT_SECONDS = 45, 6
RECIPIENT_WINDOW = dt.timedelta(seconds=RECIPIENT_BURST * RECIPIENT_SECONDS)
# WhatsApp stops first messages of a number with error 463. No provider passes the number on, so
# this many refusals of first messages within the time are taken for it.
NEW_CHAT_REFUSALS, NEW_CHAT_REFUSALS_WITHIN = 2, dt.timedelta(hours=1)
_NEW_CHATS_STOPPED, _REFUSED_BY_WHATSAPP = "463", frozenset({"ack_error", "error"})

# Sending once more what may have been sent, where its id makes that harmless, and how often.
REPEAT, REPEATS = "repeat", 2
# Seconds before a delivery runs again in which Alterna itself failed; then a person must look.
FAULT_BACKOFF = (2, 10, 30, 60)
FAULT_TRIES = len(FAULT_BACKOFF) + 1
INTERNAL_ERROR = "internal_error"
# The error of an attempt whose worker was taken for dead.
WORKER_LOST = "worker_lost"

# What a message waits for whose turn has not come.
WAITING_TURN = "waiting_turn"
# What is waited for until a place that was given; with other limits there are other places.
THROTTLE_REASONS = ("waiting_throughput", "waiting_pace", "waiting_new_chat")

# Reasons after which only a person sets the message going again.
FINAL_REASONS = frozenset(
    {
        "no_fallback",
        "never_fall_back",
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
        INTERNAL_ERROR,
    }
)

REASONS: dict[str, str | Promise] = {
    "first": _("The official API is tried first."),
    "retry": _("The official API may accept it on another try."),
    "asked": _("A person asked for it."),
    "probe": _("The official API refused everything; this message finds out if it still does."),
    "breaker_open": _("The official API refuses everything until somebody acts."),
    "opted_in": _("The official API limits it; the channel's owner allows the other way."),
    "refused": _("The official API refused it for good."),
    "retries_exhausted": _("The official API did not accept it on any try."),
    "unconfirmed": _("Nothing confirmed the official send in time."),
    "waiting_retry": _("Waiting to try the official API again."),
    "waiting_confirmation": _("The provider did not answer; waiting for a proof of the send."),
    "waiting_pace": _("Waiting for a free place in the fallback's limit per minute."),
    "waiting_fallback": _("The fallback is not available; waiting to try it again."),
    "waiting_throughput": _("Waiting for a free place in the number's limit per second."),
    "waiting_recipient": _("WhatsApp limits how much one customer gets; waiting for a free place."),
    WAITING_TURN: _("An earlier message to this customer waits; this one goes out after it."),
    "waiting_new_chat": _("Waiting for a free place in the day's limit of new customers."),
    REPEAT: _(
        "Nothing confirmed the send. The server knows this message by its id, so the customer sees "
        "it once."
    ),
    "waiting_internal_error": _("An error in Alterna stopped the delivery; trying again soon."),
    "fallback_retry": _("The fallback may be available again."),
    "no_fallback": _("The channel has no working fallback."),
    "never_fall_back": _("This refusal must not be gone around."),
    "opt_in_only": _("Sending this by another way could harm the number."),
    "pair_limit": _("WhatsApp limits how many messages this customer gets in a short time."),
    "too_old": _("The message is too old to be sent again."),
    "fallback_refused": _("The fallback refused it, too."),
    "fallback_unavailable": _("The fallback was not available on any try."),
    "fallback_unconfirmed": _("The fallback did not answer: a person must look."),
    "fallback_broken": _("The fallback refuses everything until somebody acts."),
    "new_chats_stopped": _("WhatsApp stopped first messages by the fallback's number."),
    "new_chat_limit": _("The fallback has written to enough new customers for today."),
    "fallback_full": _("The fallback's limit per minute leaves no place for it in time."),
    "held": _("Nothing confirmed the send: a person must look."),
    "inactive": _("The channel is not active."),
    INTERNAL_ERROR: _("An error in Alterna stopped the delivery each time: a person must look."),
}


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """`round_started_at` is when the message, or its latest retry by a person, was asked for.

    `send_seconds` is how long a send by the main route takes at most.
    """

    round: int
    round_route: Literal["official", "fallback"]
    round_started_at: dt.datetime
    send_seconds: float = 0


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """`repeatable`: the provider is known to take the id that we chose for the message, so that
    a further send under the same id shows nothing twice."""

    round: int
    route: Route
    outcome: Outcome
    error_code: str
    finished_at: dt.datetime | None
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class ChannelRules:
    """What the channel's owner decided. `fallback` is None where none is usable now."""

    active: bool
    fallback: Route | None
    official_retries: int
    confirm_seconds: int
    on_unconfirmed: Literal["fallback", "hold"]
    fallback_max_age: dt.timedelta
    main_route: Route = Route.OFFICIAL
    fallback_despite_limits: bool = False
    # The circuit breakers; `probing` says that this message was chosen to try the main route.
    main_open: bool = False
    probing: bool = False
    fallback_open: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """When each limit next has a place for this message; None where it has one now.

    A place is behind those that others wait for already.

    `new_chat` and `new_chats_stopped` are told for a customer to whom the fallback's number has
    not written yet and who never wrote to us.
    """

    throughput: dt.datetime | None = None
    recipient: dt.datetime | None = None
    fallback: dt.datetime | None = None
    new_chat: dt.datetime | None = None
    new_chats_stopped: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """Ask the provider of this route now."""

    route: Route
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing before this time, then ask again."""

    until: dt.datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Nothing more will be tried unless a person asks."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The message may have been sent: only a person may send it again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """Some attempt was accepted."""


Step = Attempt | Wait | Fail | Hold | Done


def next_step(
    message: MessageFacts,
    attempts: Sequence[AttemptFacts],
    rules: ChannelRules,
    *,
    now: dt.datetime,
    limits: Limits = Limits(),
) -> Step:
    """Return what to do with an outgoing message now.

    `attempts` are all of its attempts in order, none of them still running: an attempt whose
    worker died must have been closed as unknown before. Raises ValueError on a running attempt.
    """
    if any(attempt.outcome == Outcome.STARTED for attempt in attempts):
        raise ValueError("an attempt is still running")
    if any(attempt.outcome == Outcome.ACCEPTED for attempt in attempts):
        return Done()
    if not rules.active:
        return Fail("inactive")
    tried = [attempt for attempt in attempts if attempt.round == message.round]
    by_fallback = [attempt for attempt in tried if attempt.route != rules.main_route]
    to_fallback = _Fallback(message, rules, now, limits, _forbidden(attempts, tried, rules))
    if by_fallback:
        return _after_fallback(by_fallback, rules, to_fallback, now=now)
    if message.round_route == "fallback" and not tried:
        return to_fallback("asked")
    if not tried:
        reason = "probe" if rules.probing else "first"
        step: Step = Attempt(rules.main_route, reason if message.round == 1 else "asked")
    else:
        step = _after_official(tried, rules, to_fallback, now=now)
    return _by_main_route(step, message, rules, limits, to_fallback, now=now)


def after_fault(faults: int, *, now: dt.datetime) -> Wait | Hold:
    """Return what to do with a message whose delivery failed by an error of Alterna's own.

    `faults` are those of the present round, this one included.
    """
    if faults >= FAULT_TRIES:
        return Hold(INTERNAL_ERROR)
    pause = dt.timedelta(seconds=_backoff(FAULT_BACKOFF, faults))
    return Wait(now + pause, "waiting_internal_error")


def _by_main_route(
    step: Step,
    message: MessageFacts,
    rules: ChannelRules,
    limits: Limits,
    to_fallback: _Fallback,
    *,
    now: dt.datetime,
) -> Step:
    """Return the step unless it asks the main route while that is broken or has no place."""
    by_main = isinstance(step, Attempt) and step.route == rules.main_route
    # A customer's limit is waited for all the same: the other way must not go around it.
    retries = isinstance(step, Wait) and step.reason == "waiting_retry"
    asked = isinstance(step, Attempt) and step.reason == "asked"
    if rules.main_open and (by_main or retries) and not asked:
        around = to_fallback("breaker_open")
        # Where nothing else can carry it, being refused once more is the truth about it.
        if not isinstance(around, Fail):
            return around
    if not by_main:
        return step
    if limits.recipient is not None and limits.recipient > now:
        return Wait(limits.recipient, "waiting_recipient")
    if limits.throughput is not None and limits.throughput > now:
        return Wait(limits.throughput, "waiting_throughput")
    return step


def recipient_free_at(sent: Sequence[dt.datetime], *, now: dt.datetime) -> dt.datetime | None:
    """Return when a customer may next get a message, given those of RECIPIENT_WINDOW.

    The burst is borrowed from the time that follows: each message takes RECIPIENT_SECONDS of it.
    """
    each = dt.timedelta(seconds=RECIPIENT_SECONDS)
    paid_until: dt.datetime | None = None
    for at in sorted(sent):
        paid_until = max(paid_until or at, at) + each
    if paid_until is None:
        return None
    free_at = paid_until - (RECIPIENT_BURST - 1) * each
    return free_at if free_at > now else None


def new_chats_are_stopped(code: str, *, refusals: int) -> bool:
    """Whether a fallback's refusal of a first message says that WhatsApp stops all of them.

    `refusals` are those of NEW_CHAT_REFUSALS_WITHIN, this one included.
    """
    if code == _NEW_CHATS_STOPPED:
        return True
    return code in _REFUSED_BY_WHATSAPP and refusals >= NEW_CHAT_REFUSALS


@dataclass(frozen=True, slots=True)
class _Fallback:
    """The one gate that every way to the fallback passes."""

    message: MessageFacts
    rules: ChannelRules
    now: dt.datetime
    limits: Limits
    # The reason why it must not be used for this message, where there is one.
    forbidden: str | None

    @property
    def too_late(self) -> bool:
        return self.now - self.message.round_started_at > self.rules.fallback_max_age

    def __call__(self, reason: str) -> Step:
        if self.forbidden is not None:
            return Fail(self.forbidden)
        if self.rules.fallback is None:
            return Fail("no_fallback")
        if self.too_late:
            return Fail("too_old")
        if self.rules.fallback_open and reason != "asked":
            return Fail("fallback_broken")
        limits = self.limits
        if limits.new_chats_stopped:
            return Fail("new_chats_stopped")
        for free_at, waiting, in_vain in (
            (limits.new_chat, "waiting_new_chat", "new_chat_limit"),
            (limits.fallback, "waiting_pace", "fallback_full"),
        ):
            if free_at is None or free_at <= self.now:
                continue
            # It would be too old by then.
            if free_at - self.message.round_started_at > self.rules.fallback_max_age:
                return Fail(in_vain)
            return Wait(free_at, waiting)
        return Attempt(self.rules.fallback, reason)


def fallback_prohibited(attempts: Sequence[AttemptFacts], rules: ChannelRules) -> bool:
    """Whether the main route ever refused this message in a way that not even a person goes around.

    The customer blocked or stopped us, or the law or WhatsApp's safety forbids it.
    """
    return any(
        error_codes.lookup(attempt.error_code).fallback == FallbackRule.NEVER
        for attempt in attempts
        if attempt.route == rules.main_route
    )


def _forbidden(
    attempts: Sequence[AttemptFacts], tried: Sequence[AttemptFacts], rules: ChannelRules
) -> str | None:
    """Return why what the main route said forbids the fallback, whenever it was said.

    A limit of this round (`tried`) does unless the channel opts in; a person may decide otherwise.
    """
    if fallback_prohibited(attempts, rules):
        return "never_fall_back"
    limited = any(
        error_codes.lookup(attempt.error_code).fallback == FallbackRule.OPT_IN
        for attempt in tried
        if attempt.route == rules.main_route
    )
    return "opt_in_only" if limited and not rules.fallback_despite_limits else None


def _after_official(
    tried: Sequence[AttemptFacts], rules: ChannelRules, to_fallback: _Fallback, *, now: dt.datetime
) -> Step:
    last = tried[-1]
    ended = last.finished_at or now
    first_in_doubt = next((a for a in tried if a.outcome == Outcome.UNKNOWN), None)
    # Whatever followed a send in doubt repeated it: the doubt stays, whatever was learned since.
    if first_in_doubt is not None and (first_in_doubt.repeatable or last is not first_in_doubt):

        def once_more() -> Step:
            return Fail("too_old") if to_fallback.too_late else Attempt(rules.main_route, REPEAT)

        return _repeat(tried, rules, to_fallback, once_more, "held", now=now)
    if last.outcome == Outcome.UNKNOWN:
        until = _proof_due_at(last, rules, to_fallback, now=now)
        if now < until:
            return Wait(until, "waiting_confirmation")
        if rules.on_unconfirmed == "hold" or rules.fallback is None:
            return Hold("held")
        return to_fallback("unconfirmed")

    if to_fallback.forbidden is not None:
        return Fail(to_fallback.forbidden)
    rule = error_codes.lookup(last.error_code).fallback
    if rule == FallbackRule.OPT_IN:
        # Such a limit lasts for hours: trying again would only ask for trouble.
        return to_fallback("opted_in")
    if last.outcome == Outcome.REJECTED:
        if rule not in (FallbackRule.RETRY_FIRST, FallbackRule.WAIT):
            return to_fallback("refused")
        # A late failure with a code that is worth another try, if the message still is.
        if to_fallback.too_late:
            return Fail("too_old")
    limited = [a for a in tried if error_codes.lookup(a.error_code).fallback == FallbackRule.WAIT]
    if rule == FallbackRule.WAIT:
        if len(limited) >= PAIR_LIMIT_TRIES:
            return Fail("pair_limit")
        seconds = 4 ** (len(limited) - 1)
        return _again_after(seconds, ended, rules.main_route, "waiting_recipient", now=now)
    others = len(tried) - len(limited)
    if others > rules.official_retries:
        return to_fallback("retries_exhausted")
    seconds = _backoff(OFFICIAL_BACKOFF, others)
    return _again_after(seconds, ended, rules.main_route, "waiting_retry", now=now)


def _repeat(
    tried: Sequence[AttemptFacts],
    rules: ChannelRules,
    to_fallback: _Fallback,
    once_more: Callable[[], Step],
    held: str,
    *,
    now: dt.datetime,
) -> Step:
    """Send again, under the same id, what may have been sent; a few times, and not in haste.

    Whatever becomes of a repetition, the first send stays in doubt: only a person may go on then.
    """
    first = next(n for n, attempt in enumerate(tried) if attempt.outcome == Outcome.UNKNOWN)
    last, since = tried[-1], tried[first:]
    over = last.outcome == Outcome.REJECTED or len(since) > REPEATS
    if over or not all(attempt.repeatable for attempt in since):
        return Hold(held)
    until = _proof_due_at(last, rules, to_fallback, now=now)
    if now < until:
        return Wait(until, "waiting_confirmation")
    step = once_more()
    elsewhere = isinstance(step, Attempt) and step.route != tried[first].route
    return Hold(held) if elsewhere or isinstance(step, Fail) else step


def _proof_due_at(
    last: AttemptFacts, rules: ChannelRules, to_fallback: _Fallback, *, now: dt.datetime
) -> dt.datetime:
    """Return until when a proof of the last send may come."""
    wait: float = rules.confirm_seconds
    if last.error_code == WORKER_LOST:
        # It may only have been cut off from the database, and still be sending.
        wait = max(wait, to_fallback.message.send_seconds)
    return (last.finished_at or now) + dt.timedelta(seconds=wait)


def _after_fallback(
    tried: Sequence[AttemptFacts],
    rules: ChannelRules,
    to_fallback: _Fallback,
    *,
    now: dt.datetime,
) -> Step:
    last = tried[-1]
    if any(attempt.outcome == Outcome.UNKNOWN for attempt in tried):
        once_more = partial(to_fallback, REPEAT)
        return _repeat(tried, rules, to_fallback, once_more, "fallback_unconfirmed", now=now)
    if last.outcome == Outcome.REJECTED:
        return Fail("fallback_refused")
    if len(tried) > len(FALLBACK_BACKOFF):
        return Fail("fallback_unavailable")
    limited = last.error_code in _RATE_LIMITED
    backoff = RATE_LIMITED_BACKOFF if limited else FALLBACK_BACKOFF
    until = (last.finished_at or now) + dt.timedelta(seconds=backoff[len(tried) - 1])
    if now < until:
        return Wait(until, "waiting_fallback")
    return to_fallback("fallback_retry")


def _again_after(
    seconds: int, ended: dt.datetime, route: Route, waiting: str, *, now: dt.datetime
) -> Step:
    until = ended + dt.timedelta(seconds=seconds)
    return Wait(until, waiting) if now < until else Attempt(route, "retry")


def _backoff(schedule: Sequence[int], tries: int) -> int:
    return schedule[min(tries, len(schedule)) - 1]


def reason_text(reason: str) -> Any:
    """Return the sentence for a reason; the reason itself where it has none."""
    return REASONS.get(reason, reason)
