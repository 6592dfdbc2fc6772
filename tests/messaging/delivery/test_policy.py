"""The policy: every rule, with a given time."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_app.providers import error_codes
from channels_app.providers.error_codes import FallbackRule
from messaging.delivery import policy
from messaging.delivery.policy import (
    Attempt,
    AttemptFacts,
    ChannelRules,
    Done,
    Fail,
    FallbackLimits,
    Hold,
    MessageFacts,
    Sender,
    Step,
    Wait,
)
from messaging.delivery.statuses import Outcome, Route

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
MESSAGE = MessageFacts(round=1, round_route="official", round_started_at=NOW)
RULES = ChannelRules(
    active=True,
    fallbacks=(Sender(Route.WWEBJS),),
    official_retries=2,
    confirm_seconds=60,
    on_unconfirmed="fallback",
    fallback_max_age=dt.timedelta(minutes=60),
)
LIMITS = {"throughput", "recipient"}
ACCEPTED, REJECTED, TRANSIENT = Outcome.ACCEPTED, Outcome.REJECTED, Outcome.TRANSIENT
STARTED, UNKNOWN = Outcome.STARTED, Outcome.UNKNOWN


def later(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def official(outcome: Outcome, code: str = "", *, at: float = 0, round: int = 1) -> AttemptFacts:
    return AttemptFacts(round, Route.OFFICIAL, outcome, code, later(at))


def fallback(
    outcome: Outcome, code: str = "", *, at: float = 0, route: Route = Route.WWEBJS, round: int = 1
) -> AttemptFacts:
    return AttemptFacts(round, route, outcome, code, later(at))


def step(
    *attempts: AttemptFacts, at: float = 0, message: MessageFacts = MESSAGE, **rules: Any
) -> Step:
    slots = FallbackLimits(
        rules.pop("free_at", None),
        rules.pop("new_chat", None),
        rules.pop("new_chats_blocked", False),
    )
    limits = policy.Limits(
        **{name: rules.pop(name) for name in LIMITS & rules.keys()}, fallbacks={0: slots}
    )
    return policy.next_step(message, attempts, with_rules(**rules), now=later(at), limits=limits)


def with_rules(
    *,
    primary_route: Route = Route.OFFICIAL,
    primary_breaker_open: bool = False,
    probing: bool = False,
    fallback: Route | None = Route.WWEBJS,
    fallback_breaker_open: bool = False,
    **rules: Any,
) -> ChannelRules:
    """Return the rules of a channel with one fallback, or none."""
    primary = Sender(primary_route, breaker_open=primary_breaker_open or probing, probe_due=probing)
    fallbacks = (Sender(fallback, breaker_open=fallback_breaker_open),) if fallback else ()
    return dataclasses.replace(RULES, **{"primary": primary, "fallbacks": fallbacks, **rules})


def test_the_first_step_uses_the_official_api() -> None:
    assert step() == Attempt(Route.OFFICIAL, "first")


def test_the_first_step_ignores_the_message_age() -> None:
    assert step(at=10**6) == Attempt(Route.OFFICIAL, "first")


def test_a_baileys_channel_sends_by_its_primary_route() -> None:
    assert step(primary_route=Route.BAILEYS, fallback=None) == Attempt(Route.BAILEYS, "first")


def test_a_running_attempt_raises_value_error() -> None:
    with pytest.raises(ValueError, match="still running"):
        step(official(STARTED))


def test_an_accepted_message_is_done() -> None:
    assert step(official(REJECTED, "131047"), fallback(ACCEPTED)) == Done()


def test_an_accepted_message_is_done_even_if_the_channel_is_inactive() -> None:
    assert step(official(ACCEPTED), active=False) == Done()


def test_an_accepted_attempt_of_an_earlier_round_counts() -> None:
    retried = MessageFacts(2, "official", NOW)
    assert step(official(ACCEPTED), official(UNKNOWN, round=2), message=retried) == Done()


def test_an_inactive_channel_sends_nothing() -> None:
    assert step(active=False) == Fail("inactive")


# -- the official API rejects ----------------------------------------------------------------------


@pytest.mark.parametrize("code", ["131047", "131026", "190", "131042", "132001", "100", "131999"])
def test_a_rejection_falls_back_immediately(code: str) -> None:
    assert step(official(REJECTED, code)) == Attempt(Route.WWEBJS, "refused")


def test_a_rejection_uses_the_channel_s_fallback() -> None:
    rejected = official(REJECTED, "131047")
    assert step(rejected, fallback=Route.BAILEYS) == Attempt(Route.BAILEYS, "refused")


def test_without_a_fallback_a_rejection_is_final() -> None:
    assert step(official(REJECTED, "131047"), fallback=None) == Fail("no_fallback")


@pytest.mark.parametrize(
    "code", [rule.code for rule in error_codes.TABLE.values() if rule.fallback == "never"]
)
@pytest.mark.parametrize("outcome", [REJECTED, TRANSIENT])
def test_some_rejections_never_fall_back(outcome: Outcome, code: str) -> None:
    assert step(official(outcome, code), at=10**4) == Fail("never_fall_back")


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(REJECTED, "131049"), (REJECTED, "130472"), (TRANSIENT, "131048"), (REJECTED, "131031")],
)
def test_some_rejections_fall_back_only_by_opt_in(outcome: Outcome, code: str) -> None:
    assert step(official(outcome, code)) == Fail("opt_in_only")


# -- the official API may accept it later ----------------------------------------------------------


def test_a_transient_failure_is_retried_after_a_delay() -> None:
    failed = official(TRANSIENT, "131016", at=10)
    assert step(failed, at=11) == Wait(later(12), "waiting_retry")
    assert step(failed, at=12) == Attempt(Route.OFFICIAL, "retry")


def test_the_retry_delay_grows_with_each_try() -> None:
    failed = [official(TRANSIENT, "2", at=0), official(TRANSIENT, "2", at=3)]
    assert step(*failed, at=4) == Wait(later(3 + 8), "waiting_retry")


def test_the_retry_delay_has_a_maximum() -> None:
    failed = [official(TRANSIENT, "2")] * 7
    assert step(*failed, at=1, official_retries=10) == Wait(later(120), "waiting_retry")


def test_exhausted_retries_fall_back() -> None:
    failed = [official(TRANSIENT, "131016")] * 3
    assert step(*failed) == Attempt(Route.WWEBJS, "retries_exhausted")
    assert step(*failed, fallback=None) == Fail("no_fallback")


def test_a_channel_may_disable_retries() -> None:
    failed = official(TRANSIENT, "connection_refused")
    assert step(failed, official_retries=0) == Attempt(Route.WWEBJS, "retries_exhausted")


def test_an_unknown_code_that_meta_calls_transient_is_retried() -> None:
    assert step(official(TRANSIENT, "131999"), at=1) == Wait(later(2), "waiting_retry")


def test_a_late_failure_with_a_transient_code_is_retried() -> None:
    failed = official(REJECTED, "131000", at=-300)
    assert step(failed) == Attempt(Route.OFFICIAL, "retry")
    assert step(failed, failed, failed) == Attempt(Route.WWEBJS, "retries_exhausted")


def test_a_late_failure_of_an_old_message_is_not_retried() -> None:
    assert step(official(REJECTED, "131000"), at=3601) == Fail("too_old")


@pytest.mark.parametrize(("tries", "seconds"), [(1, 1), (2, 4), (3, 16), (4, 64)])
@pytest.mark.parametrize("outcome", [TRANSIENT, REJECTED])
def test_the_per_customer_limit_waits_longer_each_time(
    outcome: Outcome, tries: int, seconds: int
) -> None:
    failed = [official(outcome, "131056")] * tries
    assert step(*failed, at=0.5, official_retries=0) == Wait(later(seconds), "waiting_recipient")
    assert step(*failed, at=seconds) == Attempt(Route.OFFICIAL, "retry")


def test_the_per_customer_limit_never_falls_back() -> None:
    assert step(*[official(TRANSIENT, "131056")] * 5, at=10**4) == Fail("pair_limit")


def test_an_open_breaker_does_not_skip_the_per_customer_limit() -> None:
    limited = [official(TRANSIENT, "131056")] * 2
    assert step(*limited, at=3, primary_breaker_open=True) == Wait(later(4), "waiting_recipient")
    assert step(*limited, at=4, primary_breaker_open=True) == Attempt(Route.WWEBJS, "breaker_open")


def test_the_per_customer_limit_does_not_use_retries_of_other_failures() -> None:
    failed = [*[official(TRANSIENT, "131056")] * 3, official(TRANSIENT, "131000")]
    assert step(*failed, at=1, official_retries=1) == Wait(later(2), "waiting_retry")
    assert step(*failed, at=2, official_retries=1) == Attempt(Route.OFFICIAL, "retry")
    assert step(*failed, failed[-1], official_retries=1) == Attempt(
        Route.WWEBJS, "retries_exhausted"
    )


def test_a_fallback_round_waits_after_an_unknown_send() -> None:
    asked = MessageFacts(round=1, round_route="fallback", round_started_at=NOW)
    assert step(official(UNKNOWN), message=asked) == Wait(later(60), "waiting_confirmation")


# -- unconfirmed sends -----------------------------------------------------------------------------


def test_an_unconfirmed_send_waits_for_confirmation() -> None:
    assert step(official(UNKNOWN, "timeout", at=5), at=64) == Wait(
        later(65), "waiting_confirmation"
    )


def test_an_unconfirmed_send_falls_back_without_confirmation() -> None:
    assert step(official(UNKNOWN, "timeout"), at=60) == Attempt(Route.WWEBJS, "unconfirmed")


@pytest.mark.parametrize("rules", [{"on_unconfirmed": "hold"}, {"fallback": None}])
def test_an_unconfirmed_send_is_held_if_it_may_not_fall_back(rules: dict[str, Any]) -> None:
    unknown = official(UNKNOWN, "timeout")
    assert step(unknown, at=59, **rules) == Wait(later(60), "waiting_confirmation")
    assert step(unknown, at=60, **rules) == Hold("held")


def test_an_unconfirmed_send_of_a_baileys_channel_is_held() -> None:
    unknown = AttemptFacts(1, Route.BAILEYS, UNKNOWN, "timeout", NOW)
    assert step(unknown, at=60, primary_route=Route.BAILEYS, fallback=None) == Hold("held")


def test_an_unconfirmed_send_without_an_end_time_waits_from_now() -> None:
    unknown = AttemptFacts(1, Route.OFFICIAL, UNKNOWN, "", None)
    assert step(unknown, at=7) == Wait(later(67), "waiting_confirmation")


# -- checks before the fallback --------------------------------------------------------------------


def test_an_old_message_does_not_fall_back() -> None:
    refused = official(REJECTED, "131047")
    assert step(refused, at=3600) == Attempt(Route.WWEBJS, "refused")
    assert step(refused, at=3600.1) == Fail("too_old")


def test_an_old_unconfirmed_message_does_not_fall_back() -> None:
    assert step(official(UNKNOWN, "timeout"), at=4000) == Fail("too_old")


def test_the_fallback_waits_for_a_slot_in_its_per_minute_limit() -> None:
    refused = official(REJECTED, "131047")
    assert step(refused, free_at=later(30)) == Wait(later(30), "waiting_pace")
    assert step(refused, at=30, free_at=later(30)) == Attempt(Route.WWEBJS, "refused")


def test_the_per_minute_limit_does_not_affect_the_official_api() -> None:
    assert step(free_at=later(30)) == Attempt(Route.OFFICIAL, "first")


# -- the fallback ----------------------------------------------------------------------------------

REFUSED = official(REJECTED, "131047")


def test_a_rejection_by_the_fallback_is_final() -> None:
    assert step(REFUSED, fallback(REJECTED, "not_on_whatsapp")) == Fail("fallback_refused")


def test_an_unconfirmed_fallback_is_always_held() -> None:
    assert step(REFUSED, fallback(UNKNOWN, "timeout"), at=10**4) == Hold("fallback_unconfirmed")


@pytest.mark.parametrize(("tries", "seconds"), [(1, 3), (2, 15), (3, 60)])
def test_a_fallback_that_is_down_is_retried(tries: int, seconds: int) -> None:
    down = [fallback(TRANSIENT, "session_not_connected")] * tries
    assert step(REFUSED, *down, at=1) == Wait(later(seconds), "waiting_fallback")
    assert step(REFUSED, *down, at=seconds) == Attempt(Route.WWEBJS, "fallback_retry")


@pytest.mark.parametrize("code", ["rate_overlimit", "http_429"])
@pytest.mark.parametrize(("tries", "seconds"), [(1, 60), (2, 180), (3, 600)])
def test_a_rate_limit_of_the_fallback_is_waited_out(tries: int, seconds: int, code: str) -> None:
    limited = [fallback(TRANSIENT, code)] * tries
    assert step(REFUSED, *limited, at=seconds - 1) == Wait(later(seconds), "waiting_fallback")
    assert step(REFUSED, *limited, at=seconds) == Attempt(Route.WWEBJS, "fallback_retry")


def test_a_fallback_that_stays_down_fails() -> None:
    down = [fallback(TRANSIENT, "session_not_connected")] * 4
    assert step(REFUSED, *down, at=1000) == Fail("fallback_unavailable")


def test_a_fallback_retry_passes_the_same_checks() -> None:
    down = fallback(TRANSIENT, "session_not_connected")
    assert step(REFUSED, down, at=5, free_at=later(9)) == Wait(later(9), "waiting_pace")
    assert step(REFUSED, down, at=3700) == Fail("too_old")
    assert step(REFUSED, down, at=5, fallback=None) == Fail("no_fallback")


def test_a_customer_s_opt_out_stops_a_waiting_fallback_retry() -> None:
    opted_out = official(REJECTED, "131050")
    down = fallback(TRANSIENT, "session_not_connected")
    assert step(opted_out, down, at=5) == Fail("never_fall_back")


def test_no_fallback_sends_a_template_to_somebody_who_stopped_marketing() -> None:
    template = dataclasses.replace(MESSAGE, type="template", marketing_stopped=True)
    assert step(message=template) == Attempt(Route.OFFICIAL, "first"), "Meta knows what it is"
    assert step(REFUSED, message=template) == Fail("opted_out")
    # Of a stored template, the category is known.
    marketing = dataclasses.replace(template, template_category="MARKETING")
    assert step(message=marketing) == Fail("opted_out"), "Meta is not asked"
    by_hand = dataclasses.replace(marketing, round_route="fallback")
    assert step(message=by_hand) == Fail("opted_out")
    allowed: list[dict[str, Any]] = [
        {"type": "text"},
        {"marketing_stopped": False},
        {"template_category": "UTILITY"},
        {"template_category": "AUTHENTICATION"},
    ]
    for changes in allowed:
        other = dataclasses.replace(template, **changes)
        assert step(REFUSED, message=other) == Attempt(Route.WWEBJS, "refused")


# -- limits that the channel's owner may override --------------------------------------------------


@pytest.mark.parametrize("code", ["131049", "130472", "131048", "368", "131031", "132015"])
def test_a_limit_on_the_number_falls_back_only_if_the_channel_opts_in(code: str) -> None:
    rule = error_codes.lookup(code)
    outcome = TRANSIENT if rule.transient else REJECTED
    assert step(official(outcome, code)) == Fail("opt_in_only")
    assert step(official(outcome, code), fallback_despite_limits=True) == Attempt(
        Route.WWEBJS, "opted_in"
    )


@pytest.mark.parametrize("code", ["131050", "130403", "130497", "137000", "131021"])
def test_opting_in_does_not_override_an_opt_out_or_the_law(code: str) -> None:
    result = step(official(REJECTED, code), fallback_despite_limits=True)
    assert result == Fail("never_fall_back")


# -- circuit breakers ------------------------------------------------------------------------------


def test_an_open_breaker_sends_messages_directly_to_the_fallback() -> None:
    assert step(primary_breaker_open=True) == Attempt(Route.WWEBJS, "breaker_open")
    assert step(primary_breaker_open=True, free_at=later(9)) == Wait(later(9), "waiting_pace")


def test_a_retry_does_not_wait_for_a_route_whose_breaker_opened() -> None:
    tried = official(TRANSIENT, "131000")
    assert step(tried, at=1) == Wait(later(2), "waiting_retry")
    assert step(tried, at=1, primary_breaker_open=True) == Attempt(Route.WWEBJS, "breaker_open")


def test_the_probe_message_uses_the_official_api() -> None:
    assert step(probing=True) == Attempt(Route.OFFICIAL, "probe", probes=True)


def test_a_message_that_cannot_use_the_official_api_now_leaves_its_probe_to_another() -> None:
    assert step(probing=True, throughput=later(5)) == Attempt(Route.WWEBJS, "breaker_open")


def test_a_fallback_whose_probe_is_due_is_probed() -> None:
    due = Sender(Route.WWEBJS, breaker_open=True, probe_due=True)
    found = Attempt(Route.WWEBJS, "refused", probes=True)
    assert step(REFUSED, fallbacks=(due,)) == found


def test_a_retry_of_the_official_api_probes_it() -> None:
    tried = official(TRANSIENT, "timeout")
    probe = Attempt(Route.OFFICIAL, "probe", probes=True)
    assert step(tried, at=2, probing=True) == probe
    # Also in a round that a person started: a receipt closes the breaker after a probe only.
    again = MessageFacts(2, "official", NOW)
    assert step(dataclasses.replace(tried, round=2), at=2, message=again, probing=True) == probe


@pytest.mark.parametrize(
    "without", [{"fallback": None}, {"fallback_breaker_open": True}, {"new_chats_blocked": True}]
)
def test_without_a_usable_fallback_the_broken_route_is_tried(without: Any) -> None:
    assert step(primary_breaker_open=True, **without) == Attempt(Route.OFFICIAL, "first")


def test_a_manual_retry_ignores_an_open_breaker() -> None:
    retried = MessageFacts(2, "official", later(500))
    assert step(at=500, message=retried, primary_breaker_open=True) == Attempt(
        Route.OFFICIAL, "asked"
    )
    retried = MessageFacts(2, "fallback", later(500))
    assert step(at=500, message=retried, fallback_breaker_open=True) == Attempt(
        Route.WWEBJS, "asked"
    )


def test_a_broken_fallback_is_not_used() -> None:
    assert step(REFUSED, fallback_breaker_open=True) == Fail("fallback_broken")


def test_an_open_breaker_does_not_shorten_the_wait_for_confirmation() -> None:
    assert step(official(UNKNOWN), at=59, primary_breaker_open=True) == Wait(
        later(60), "waiting_confirmation"
    )


# -- rate limits -----------------------------------------------------------------------------------


def test_an_exhausted_limit_waits_with_its_reason() -> None:
    assert step(throughput=later(0.3)) == Wait(later(0.3), "waiting_throughput")
    assert step(recipient=later(6), throughput=later(1)) == Wait(later(6), "waiting_recipient")
    assert step(recipient=later(6), throughput=later(1), at=6) == Attempt(Route.OFFICIAL, "first")
    assert step(REFUSED, throughput=later(9), recipient=later(9)) == Attempt(
        Route.WWEBJS, "refused"
    )


def test_a_customer_gets_a_burst_and_then_one_message_per_six_seconds() -> None:
    burst = [NOW] * 44
    assert policy.recipient_free_at([], now=NOW) is None
    assert policy.recipient_free_at(burst, now=NOW) is None
    assert policy.recipient_free_at([*burst, NOW], now=NOW) == later(6)
    assert policy.recipient_free_at([*burst, NOW, later(6)], now=later(6)) == later(12)
    assert policy.recipient_free_at([*burst, NOW], now=later(6)) is None


@given(st.lists(st.integers(0, 600), max_size=120))
def test_the_recipient_limit_is_never_exceeded(asked: list[int]) -> None:
    sent: list[dt.datetime] = []
    for second in sorted(asked):
        at = max(later(second), sent[-1] if sent else NOW)
        sent.append(policy.recipient_free_at(sent, now=at) or at)
    for first, window_start in enumerate(sent):
        for count, window_end in enumerate(sent[first:], start=1):
            elapsed = (window_end - window_start).total_seconds()
            assert count <= policy.RECIPIENT_BURST + elapsed / policy.RECIPIENT_SECONDS + 1e-6


def test_the_daily_new_chat_limit_waits_until_the_message_is_too_old() -> None:
    assert step(REFUSED, new_chat=later(60)) == Wait(later(60), "waiting_new_chat")
    assert step(REFUSED, new_chat=later(4000)) == Fail("new_chat_limit")
    assert step(REFUSED, new_chats_blocked=True) == Fail("new_chats_stopped")


def test_a_new_chat_block_is_detected_by_code_or_repetition() -> None:
    assert policy.is_new_chat_block("463", rejections=1)
    assert not policy.is_new_chat_block("ack_error", rejections=1)
    assert policy.is_new_chat_block("ack_error", rejections=2)
    assert not policy.is_new_chat_block("not_on_whatsapp", rejections=9)


# -- manual retries --------------------------------------------------------------------------------


def test_a_person_retries_by_the_official_api() -> None:
    retried = MessageFacts(2, "official", later(500))
    assert step(REFUSED, fallback(UNKNOWN), at=500, message=retried) == Attempt(
        Route.OFFICIAL, "asked"
    )


def test_a_person_retries_by_the_fallback_only() -> None:
    retried = MessageFacts(2, "fallback", later(5000))
    assert step(REFUSED, at=5000, message=retried) == Attempt(Route.WWEBJS, "asked")
    assert step(REFUSED, at=5000, message=retried, fallback=None) == Fail("no_fallback")


@pytest.mark.parametrize("asked", ["official", "fallback"])
def test_a_customer_s_opt_out_survives_a_manual_retry(asked: Any) -> None:
    retried = MessageFacts(2, asked, later(5000))
    stopped = official(REJECTED, "131050")
    refused = official(REJECTED, "131047", at=5001, round=2)
    tried = [stopped, refused] if asked == "official" else [stopped]
    assert step(*tried, at=5002, message=retried) == Fail("never_fall_back")


def test_a_person_may_send_a_limited_message_by_the_fallback() -> None:
    retried = MessageFacts(2, "fallback", later(5000))
    limited = official(REJECTED, "131049")
    assert step(limited, at=5001, message=retried) == Attempt(Route.WWEBJS, "asked")


def test_a_new_round_follows_the_same_policy() -> None:
    retried = MessageFacts(2, "official", later(5000))
    refused = official(REJECTED, "131047", at=5001, round=2)
    assert step(REFUSED, refused, at=5002, message=retried) == Attempt(Route.WWEBJS, "refused")


# -- reasons ---------------------------------------------------------------------------------------


def test_every_reason_has_a_text() -> None:
    assert set(policy.REASONS) >= policy.FINAL_REASONS
    # Unfinished messages are selected in the database by this prefix (`models.UNFINISHED`).
    assert not [reason for reason in policy.FINAL_REASONS if reason.startswith("waiting_")]
    assert str(policy.reason_text("held"))
    assert policy.reason_text("something of tomorrow") == "something of tomorrow"


# -- properties ------------------------------------------------------------------------------------

CODES = [*error_codes.TABLE, *error_codes.WORDS, "", "200", "138005", "131999", "http_500"]
ATTEMPTS = st.lists(
    st.builds(
        AttemptFacts,
        round=st.integers(1, 2),
        route=st.sampled_from(Route),
        outcome=st.sampled_from([ACCEPTED, REJECTED, TRANSIENT, UNKNOWN]),
        error_code=st.sampled_from(CODES),
        finished_at=st.none() | st.floats(-5000, 5000).map(later),
    ),
    max_size=6,
)
MESSAGES = st.builds(
    MessageFacts,
    round=st.integers(1, 2),
    round_route=st.sampled_from(["official", "fallback"]),
    round_started_at=st.floats(-5000, 5000).map(later),
)
KEYS = st.integers(0, 2)
CHANNELS = st.builds(
    ChannelRules,
    active=st.booleans(),
    primary=st.builds(
        Sender, st.just(Route.OFFICIAL), breaker_open=st.booleans(), probe_due=st.booleans()
    ),
    fallbacks=st.lists(
        st.builds(
            Sender,
            st.sampled_from([Route.WWEBJS, Route.BAILEYS]),
            KEYS,
            breaker_open=st.booleans(),
            probe_due=st.booleans(),
        ),
        max_size=3,
        unique_by=lambda sender: sender.key,
    ).map(tuple),
    official_retries=st.integers(0, 10),
    confirm_seconds=st.integers(1, 3600),
    on_unconfirmed=st.sampled_from(["fallback", "hold"]),
    fallback_max_age=st.integers(1, 10**4).map(lambda minutes: dt.timedelta(minutes=minutes)),
    fallback_despite_limits=st.booleans(),
)
FREE_AT = st.none() | st.floats(-100, 100).map(later)
LIMITS_OF_ALL_KINDS = st.builds(
    policy.Limits,
    throughput=FREE_AT,
    recipient=FREE_AT,
    fallbacks=st.dictionaries(
        KEYS,
        st.builds(FallbackLimits, slot=FREE_AT, new_chat=FREE_AT, new_chats_blocked=st.booleans()),
    ),
)


def checked_step(
    message: MessageFacts,
    attempts: list[AttemptFacts],
    rules: ChannelRules,
    limits: policy.Limits,
) -> Step:
    result = policy.next_step(message, attempts, rules, now=NOW, limits=limits)
    if isinstance(result, Attempt | Wait | Fail | Hold):
        assert result.reason in policy.REASONS
        assert result.reason.startswith("waiting_") == isinstance(result, Wait)
    return result


@given(MESSAGES, ATTEMPTS, CHANNELS, LIMITS_OF_ALL_KINDS)
def test_an_accepted_message_is_never_sent_again(
    message: MessageFacts,
    attempts: list[AttemptFacts],
    rules: ChannelRules,
    limits: policy.Limits,
) -> None:
    result = checked_step(message, attempts, rules, limits)
    accepted = any(attempt.outcome == ACCEPTED for attempt in attempts)
    assert accepted == isinstance(result, Done)


@given(MESSAGES, ATTEMPTS, CHANNELS, LIMITS_OF_ALL_KINDS)
def test_no_fallback_follows_a_code_that_forbids_it(
    message: MessageFacts,
    attempts: list[AttemptFacts],
    rules: ChannelRules,
    limits: policy.Limits,
) -> None:
    result = checked_step(message, attempts, rules, limits)
    if isinstance(result, Attempt) and result.route != Route.OFFICIAL:
        for attempt in attempts:
            if attempt.round == message.round and attempt.route == Route.OFFICIAL:
                rule = error_codes.lookup(attempt.error_code).fallback
                assert rule != FallbackRule.NEVER
                assert rule != FallbackRule.OPT_IN or rules.fallback_despite_limits


@given(MESSAGES, ATTEMPTS, CHANNELS, LIMITS_OF_ALL_KINDS)
def test_an_unknown_outcome_is_never_followed_immediately_by_an_attempt(
    message: MessageFacts,
    attempts: list[AttemptFacts],
    rules: ChannelRules,
    limits: policy.Limits,
) -> None:
    tried = [attempt for attempt in attempts if attempt.round == message.round]
    if not tried or tried[-1].outcome != UNKNOWN:
        return
    last = dataclasses.replace(tried[-1], finished_at=NOW)
    result = checked_step(message, [*attempts, last], rules, limits)
    assert not isinstance(result, Attempt)


@given(MESSAGES, ATTEMPTS, CHANNELS, LIMITS_OF_ALL_KINDS)
def test_an_unknown_outcome_is_never_repeated_on_the_same_route(
    message: MessageFacts,
    attempts: list[AttemptFacts],
    rules: ChannelRules,
    limits: policy.Limits,
) -> None:
    tried = [attempt for attempt in attempts if attempt.round == message.round]
    result = checked_step(message, attempts, rules, limits)
    if tried and tried[-1].outcome == UNKNOWN and isinstance(result, Attempt):
        assert (result.route, result.key) != (tried[-1].route, tried[-1].key)
        # A message that one fallback may have sent is sent by no other.
        assert tried[-1].route == Route.OFFICIAL


@given(MESSAGES, ATTEMPTS, CHANNELS, LIMITS_OF_ALL_KINDS)
def test_a_fallback_that_rejected_a_message_does_not_get_it_again(
    message: MessageFacts,
    attempts: list[AttemptFacts],
    rules: ChannelRules,
    limits: policy.Limits,
) -> None:
    result = checked_step(message, attempts, rules, limits)
    if isinstance(result, Attempt) and result.route != Route.OFFICIAL:
        mine = [
            attempt
            for attempt in attempts
            if attempt.round == message.round
            and (attempt.route, attempt.key) == (result.route, result.key)
        ]
        assert not mine or mine[-1].outcome != REJECTED


@given(MESSAGES, ATTEMPTS, CHANNELS, LIMITS_OF_ALL_KINDS)
def test_waiting_always_ends(
    message: MessageFacts,
    attempts: list[AttemptFacts],
    rules: ChannelRules,
    limits: policy.Limits,
) -> None:
    result = checked_step(message, attempts, rules, limits)
    if isinstance(result, Wait):
        assert result.until > NOW


# -- several fallbacks -----------------------------------------------------------------------------

FIRST, SECOND = Sender(Route.WWEBJS, 1), Sender(Route.BAILEYS, 2)
RANKED = {"fallbacks": (FIRST, SECOND)}
BY_SECOND = Attempt(Route.BAILEYS, "next_fallback", 2)


def by(
    sender: Sender, outcome: Outcome, code: str = "x", *, at: float = 0, repeatable: bool = False
) -> AttemptFacts:
    return AttemptFacts(1, sender.route, outcome, code, later(at), repeatable, sender.key)


def test_the_fallbacks_are_tried_in_their_order() -> None:
    assert step(REFUSED, **RANKED) == Attempt(Route.WWEBJS, "refused", 1)
    assert step(REFUSED, by(FIRST, REJECTED), **RANKED) == BY_SECOND
    rejected = by(FIRST, REJECTED), by(SECOND, REJECTED)
    assert step(REFUSED, *rejected, **RANKED) == Fail("fallback_refused")


def test_an_unavailable_fallback_is_skipped_while_the_next_one_works() -> None:
    away = by(FIRST, TRANSIENT)
    assert step(REFUSED, away, **RANKED) == BY_SECOND
    # Both are away: the one whose time comes first.
    both = away, by(SECOND, TRANSIENT, at=1)
    assert step(REFUSED, *both, at=1, **RANKED) == Wait(later(3), "waiting_fallback")
    assert step(REFUSED, *both, at=3, **RANKED) == Attempt(Route.WWEBJS, "fallback_retry", 1)


def test_a_message_the_first_fallback_may_have_sent_is_not_sent_by_the_next() -> None:
    in_doubt = REFUSED, by(FIRST, UNKNOWN)
    assert step(*in_doubt, at=3000, **RANKED) == Hold("fallback_unconfirmed")
    again = REFUSED, by(FIRST, REJECTED), by(SECOND, UNKNOWN, repeatable=True)
    assert step(*again, at=60, **RANKED) == Attempt(Route.BAILEYS, "repeat", 2)


@pytest.mark.parametrize(
    "first",
    [dataclasses.replace(FIRST, breaker_open=True), None],
    ids=["its breaker is open", "it must not write to new customers"],
)
def test_a_fallback_that_cannot_send_is_skipped(first: Sender | None) -> None:
    limits = policy.Limits(fallbacks={} if first else {1: FallbackLimits(new_chats_blocked=True)})
    rules = dataclasses.replace(RULES, fallbacks=(first or FIRST, SECOND))
    found = policy.next_step(MESSAGE, [REFUSED], rules, now=NOW, limits=limits)
    assert found == Attempt(Route.BAILEYS, "refused", 2)


def test_the_limit_of_a_fallback_does_not_push_messages_to_the_next() -> None:
    limits = policy.Limits(fallbacks={1: FallbackLimits(slot=later(9))})
    rules = dataclasses.replace(RULES, **RANKED)
    found = policy.next_step(MESSAGE, [REFUSED], rules, now=NOW, limits=limits)
    assert found == Wait(later(9), "waiting_pace")


# -- resending under the same id -------------------------------------------------------------------


def repeatable(outcome: Outcome, *, at: float = 0, route: Route = Route.BAILEYS) -> AttemptFacts:
    return AttemptFacts(1, route, outcome, "timeout", later(at), repeatable=True)


BAILEYS = {"fallback": Route.BAILEYS}
MAIN = {"fallback": None, "primary_route": Route.BAILEYS}
REFUSED = official(REJECTED, "131047")
AGAIN = Attempt(Route.BAILEYS, "repeat")


def test_an_unknown_send_is_repeated_if_its_id_makes_that_harmless() -> None:
    waits = Wait(later(60), "waiting_confirmation")
    assert step(REFUSED, repeatable(UNKNOWN), at=59, **BAILEYS) == waits
    assert step(REFUSED, repeatable(UNKNOWN), at=60, **BAILEYS) == AGAIN
    assert step(repeatable(UNKNOWN), at=59, **MAIN) == waits
    assert step(repeatable(UNKNOWN), at=60, **MAIN) == AGAIN


@pytest.mark.parametrize(
    "tried",
    [
        # Another id would create another message.
        [fallback(UNKNOWN, "timeout", route=Route.BAILEYS)],
        [repeatable(UNKNOWN), fallback(TRANSIENT, "x", route=Route.BAILEYS)],
        # A rejected resend says nothing about the first send.
        [repeatable(UNKNOWN), repeatable(REJECTED)],
        [repeatable(UNKNOWN)] * 3,
        [repeatable(UNKNOWN), repeatable(TRANSIENT), repeatable(TRANSIENT)],
    ],
)
def test_a_message_that_may_have_been_sent_is_never_sent_under_another_id(
    tried: list[AttemptFacts],
) -> None:
    assert step(REFUSED, *tried, at=3000, **BAILEYS) == Hold("fallback_unconfirmed")
    assert step(*tried, at=3000, **MAIN) == Hold("held")


def test_an_unknown_send_stays_unknown_if_the_server_stops_using_our_ids() -> None:
    tried = [
        fallback(UNKNOWN, "timeout", route=Route.BAILEYS),
        fallback(TRANSIENT, "x", route=Route.BAILEYS),
    ]
    assert step(*tried, at=3000, official_retries=3, **MAIN) == Hold("held")


def test_an_unknown_send_is_repeated_on_its_route_only_after_its_worker_ended() -> None:
    tried = (REFUSED, repeatable(UNKNOWN))
    assert step(*tried, at=60, fallback=Route.WWEBJS) == Hold("fallback_unconfirmed")
    lost = dataclasses.replace(repeatable(UNKNOWN), error_code=policy.WORKER_LOST)
    slow = dataclasses.replace(MESSAGE, send_seconds=25)
    found = step(REFUSED, lost, at=1, message=slow, confirm_seconds=0, **BAILEYS)
    assert found == Wait(later(25), "waiting_confirmation")


def test_a_resend_passes_the_same_checks_as_any_fallback() -> None:
    tried = (REFUSED, repeatable(UNKNOWN))
    assert step(*tried, at=60, free_at=later(90), **BAILEYS) == Wait(later(90), "waiting_pace")
    assert step(*tried, at=4000, **BAILEYS) == Hold("fallback_unconfirmed")
    assert step(repeatable(UNKNOWN), at=4000, **MAIN) == Hold("held")
