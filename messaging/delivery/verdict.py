"""What would happen to a message if it were sent now. Pure: no database, no clock, no network.

The policy is asked as for a real delivery. Where it would use a route, the outcome is predicted
from what is stored: a route that certainly refuses the message, or cannot send at present, is
passed over as the policy does after the real response. The reasons are those of the history.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from channels_app.providers import error_codes
from channels_app.providers.cloud.templates import UNUSABLE
from messaging.delivery import policy
from messaging.delivery.policy import (
    Attempt,
    AttemptFacts,
    ChannelRules,
    Limits,
    MessageFacts,
    Wait,
)
from messaging.delivery.statuses import Outcome, Route

# Meta's code for a message outside the 24-hour window.
WINDOW_CLOSED: Final = "131047"
# Meta's code for a one-time code to a customer without a known number.
NEEDS_PHONE: Final = "131062"
WINDOW: Final = dt.timedelta(hours=24)
# The free period of a customer who came from an advertisement (docs/providers/cloud.md §10.5).
FREE_ENTRY: Final = dt.timedelta(hours=72)
SERVICE: Final = "service"

Would = Literal["send", "fall_back", "wait", "hold", "reject"]


@dataclass(frozen=True, slots=True)
class Charge:
    """What Meta charges for: a category of its price list, and whether this message is free."""

    category: str
    free: bool


@dataclass(frozen=True, slots=True)
class RouteState:
    """What is stored about a route. The codes are those of the errors that a send would have.

    `refuses`: it certainly rejects this message. `unavailable`: it cannot send anything at present.
    `changes`: what it alters in the message.
    """

    refuses: str = ""
    unavailable: str = ""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Situation:
    """What is stored about the customer and the routes, besides the policy's input.

    `is_template`, `category`: the message is a template of Meta's category (in lower case; "" if
    that is not known). `window_until`, `free_entry_until`: the end of the 24-hour window, and of
    the free period after an advertisement. `free_service_left`: messages within the window are
    still free this month. `routes` are keyed by route and key of their Sender.
    """

    is_template: bool = False
    category: str = ""
    window_until: dt.datetime | None = None
    free_entry_until: dt.datetime | None = None
    free_service_left: bool = False
    routes: Mapping[tuple[str, int], RouteState] = field(default_factory=dict)

    def is_window_open(self, now: dt.datetime) -> bool:
        """Return whether Meta accepts messages that are no templates."""
        return self.window_until is not None and now < self.window_until

    def charge(self, now: dt.datetime) -> Charge | None:
        """Return what Meta charges for the message; None if that is not known."""
        category = self.category if self.is_template else SERVICE
        if not category:
            return None
        free = self.free_entry_until is not None and now < self.free_entry_until
        return Charge(category, free or (category == SERVICE and self.free_service_left))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A route that the message would not take, with the code of the reason."""

    route: str
    code: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What would happen: `reason` is a code of the policy or of an error (`reason_text`).

    `rule` is the policy's reason for the step. `refusals` are the routes that would not send it, in
    their order. `until` is the end of a wait. `then` is what follows if the route refuses the
    message after all, or after the wait; its `then` is what follows if that one refuses, too.
    """

    would: Would
    reason: str
    rule: str
    route: str | None = None
    until: dt.datetime | None = None
    charge: Charge | None = None
    changes: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    then: Verdict | None = None


def template_code(status: str) -> str:
    """Return the code for a template that is not sent because of its status."""
    return f"template_{status.lower()}"


_TEMPLATE_TEXTS: Final = {template_code(status): text for status, text in UNUSABLE.items()}


def reason_text(code: str) -> str:
    """Return the sentence for the reason of a verdict: that of the history."""
    if code in _TEMPLATE_TEXTS:
        return str(_TEMPLATE_TEXTS[code])
    if code in policy.REASONS:
        return str(policy.reason_text(code))
    return str(error_codes.title_for(code))


def verdict(
    message: MessageFacts,
    rules: ChannelRules,
    limits: Limits,
    situation: Situation,
    *,
    now: dt.datetime,
) -> Verdict:
    """Return what would happen to a message that nothing has tried to send yet."""
    return _verdict(message, (), rules, limits, situation, now=now, looks_ahead=True)


def _verdict(
    message: MessageFacts,
    tried: Sequence[AttemptFacts],
    rules: ChannelRules,
    limits: Limits,
    situation: Situation,
    *,
    now: dt.datetime,
    looks_ahead: bool,
) -> Verdict:
    made, refusals = list(tried), list[Refusal]()
    while True:
        step = policy.next_step(message, made, rules, now=now, limits=limits)
        if not isinstance(step, Attempt):
            break
        outcome, code = _predict(step, rules, situation, now)
        attempt = AttemptFacts(message.round, step.route, outcome, code, now, key=step.key)
        if outcome == Outcome.ACCEPTED:
            break
        made.append(attempt)
        refusals.append(Refusal(step.route, code))
    why = refusals[0].code if refusals else ""
    if isinstance(step, Attempt):
        then = None
        if looks_ahead:
            refused = replace(attempt, outcome=Outcome.REJECTED, error_code=error_codes.NO_REASON)
            then = _verdict(
                message, [*made, refused], rules, limits, situation, now=now, looks_ahead=True
            )
        is_primary = step.route == rules.primary.route
        return Verdict(
            would="send" if is_primary else "fall_back",
            reason=why or step.reason,
            rule=step.reason,
            route=step.route,
            charge=situation.charge(now) if step.route == Route.OFFICIAL else None,
            changes=situation.routes.get((step.route, step.key), RouteState()).changes,
            refusals=tuple(refusals),
            then=then,
        )
    if isinstance(step, Wait):
        then = None
        if looks_ahead and not made:
            # The slot for which it waits is reserved.
            then = _verdict(
                message, (), rules, Limits(), situation, now=step.until, looks_ahead=False
            )
        return Verdict(
            "wait", step.reason, step.reason, until=step.until, refusals=tuple(refusals), then=then
        )
    reason = "" if isinstance(step, policy.Done) else step.reason
    would: Would = "hold" if isinstance(step, policy.Hold) else "reject"
    return Verdict(would, why or reason, reason, refusals=tuple(refusals))


def _predict(
    step: Attempt, rules: ChannelRules, situation: Situation, now: dt.datetime
) -> tuple[Outcome, str]:
    """Return the outcome of an attempt, as far as what is stored tells it."""
    state = situation.routes.get((step.route, step.key), RouteState())
    if state.unavailable:
        return Outcome.TRANSIENT, state.unavailable
    if state.refuses:
        return Outcome.REJECTED, state.refuses
    closed = not situation.is_template and not situation.is_window_open(now)
    if step.route == Route.OFFICIAL and closed:
        return Outcome.REJECTED, WINDOW_CLOSED
    return Outcome.ACCEPTED, ""
