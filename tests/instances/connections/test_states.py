"""The derived states and recovery actions of instances. Pure."""

from __future__ import annotations

import datetime as dt

import pytest

from channels_app.connections.recovery import RECOVERY_PAUSES, RecoveryAction, RecoveryContext
from channels_app.connections.states import SENTENCES, applies_to_server, drop_reason
from channels_app.incidents.reason_text import describe, field_for_code
from channels_app.providers.sessions import DerivedState, State
from instances.connections.states import Known, Observation, derive, recovery_action_for

NOW = dt.datetime(2026, 11, 25, 12, 0, tzinfo=dt.UTC)


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("observation", "known", "state", "code"),
    [
        (Observation(connection="open"), Known(), State.READY, "ready"),
        (Observation(connection="open"), Known(dead=True), State.ERROR, "dead_socket"),
        (Observation(connection="connecting"), Known(), State.STARTING, "dialling"),
        (Observation(connection="connecting", qr="2@x"), Known(), State.QR, "waiting_for_scan"),
        (Observation(connection="connecting"), Known(shown=True), State.QR, "waiting_for_scan"),
        (
            Observation(connection="connecting"),
            Known(dialing_since=ago(119)),
            State.STARTING,
            "dialling",
        ),
        (
            Observation(connection="connecting"),
            Known(dialing_since=ago(120)),
            State.ERROR,
            "dialling_long",
        ),
        (
            Observation(connection="connecting", qr="2@x"),
            Known(dialing_since=ago(900)),
            State.QR,
            "waiting_for_scan",
        ),
        (Observation(connection="close"), Known(), State.DISCONNECTED, "not_linked"),
        (Observation(connection="close"), Known(shown=True), State.DISCONNECTED, "qr_limit"),
        (
            Observation(connection="close"),
            Known(linked=True, ever=True),
            State.DISCONNECTED,
            "connection_lost",
        ),
        (
            Observation(connection="close", ended_with=401),
            Known(linked=True, ever=True),
            State.DISCONNECTED,
            "unlinked_on_phone",
        ),
        # It stopped with a code displayed; no phone unlinked it.
        (
            Observation(connection="close", ended_with=401),
            Known(shown=True),
            State.DISCONNECTED,
            "qr_limit",
        ),
        (
            Observation(connection="close", ended_with=401),
            Known(ever=True, note="unlinked"),
            State.DISCONNECTED,
            "unlinked",
        ),
        (
            Observation(connection="close", ended_with=403),
            Known(linked=True, ever=True),
            State.ERROR,
            "refused_by_whatsapp",
        ),
        (Observation(connection="close"), Known(note="deleting"), State.DISCONNECTED, "deleting"),
        (
            Observation(connection="close"),
            Known(note="instance_deleted"),
            State.DISCONNECTED,
            "not_linked",
        ),
        (Observation(error_code="instance_missing"), Known(), State.DISCONNECTED, "no_instance"),
        (
            Observation(error_code="instance_missing"),
            Known(ever=True),
            State.DISCONNECTED,
            "instance_gone",
        ),
        (
            Observation(error_code="instance_missing"),
            Known(ever=True, note="deleting"),
            State.DISCONNECTED,
            "instance_deleted",
        ),
        (Observation(error_code="wrong_key"), Known(ever=True), State.ERROR, "wrong_key"),
        (Observation(connection="unknown"), Known(), State.ERROR, "unreadable_answer"),
    ],
)
def test_the_state_is_derived_from_the_observation_and_known_facts(
    observation: Observation, known: Known, state: State, code: str
) -> None:
    derived = derive(observation, known, now=NOW)
    assert (derived.state, derived.code) == (state, code)
    assert describe(derived.code, derived.detail)
    assert code in SENTENCES or code in ("wrong_key", "unreadable_answer")


WANTED = RecoveryContext(keep_connected=True, closed_since=ago(61))


@pytest.mark.parametrize(
    ("code", "context", "action"),
    [
        ("dead_socket", WANTED, RecoveryAction.RESTART),
        ("dialling_long", WANTED, RecoveryAction.RESTART),
        ("connection_lost", WANTED, RecoveryAction.START),
        # A starting server reconnects automatically.
        (
            "connection_lost",
            RecoveryContext(keep_connected=True, closed_since=ago(59)),
            RecoveryAction.NONE,
        ),
        (
            "connection_lost",
            RecoveryContext(keep_connected=False, closed_since=ago(999)),
            RecoveryAction.NONE,
        ),
        # A new code needs a user to scan it.
        ("unlinked_on_phone", WANTED, RecoveryAction.NONE),
        ("qr_limit", WANTED, RecoveryAction.NONE),
        ("refused_by_whatsapp", WANTED, RecoveryAction.NONE),
        ("instance_gone", WANTED, RecoveryAction.NONE),
        ("waiting_for_scan", WANTED, RecoveryAction.NONE),
        ("connection_refused", WANTED, RecoveryAction.NONE),
    ],
)
def test_only_problems_that_need_no_staff_are_recovered(
    code: str, context: RecoveryContext, action: RecoveryAction
) -> None:
    assert recovery_action_for(DerivedState(State.ERROR, code), context, now=NOW) == action


def test_recovery_attempts_are_few_with_growing_delays() -> None:
    derived = DerivedState(State.ERROR, "dead_socket")
    for attempts, delay in enumerate(RECOVERY_PAUSES):
        early = RecoveryContext(keep_connected=True, attempts=attempts, attempted_at=ago(delay - 1))
        due = RecoveryContext(keep_connected=True, attempts=attempts, attempted_at=ago(delay))
        assert delay == 0 or recovery_action_for(derived, early, now=NOW) == RecoveryAction.NONE
        assert recovery_action_for(derived, due, now=NOW) == RecoveryAction.RESTART
    exhausted = RecoveryContext(
        keep_connected=True, attempts=len(RECOVERY_PAUSES), attempted_at=ago(10**6)
    )
    assert recovery_action_for(derived, exhausted, now=NOW) == RecoveryAction.NONE


def test_reconnecting_is_reported_as_a_lost_connection() -> None:
    assert drop_reason(DerivedState(State.STARTING, "dialling")) == "connection_lost"
    assert drop_reason(DerivedState(State.DISCONNECTED, "unlinked_on_phone")) == "unlinked_on_phone"
    assert drop_reason(DerivedState(State.DISCONNECTED, "instance_gone")) == "instance_vanished"


@pytest.mark.parametrize(
    ("code", "field"),
    [
        ("wrong_key", "evolution_api_key"),
        ("key_cannot_create", "evolution_api_key"),
        ("dns_failed", "evolution_url"),
        ("wrong_address", "evolution_url"),
        ("other_integration", "instance_name"),
        ("ready", ""),
        ("license_required", ""),
    ],
)
def test_a_settings_problem_names_the_field_of_a_baileys_channel(code: str, field: str) -> None:
    assert field_for_code(code, evolution=True) == field


@pytest.mark.parametrize(
    "problem", ["dns_failed", "certificate_refused", "not_tls", "tls_failed", "unreachable"]
)
def test_a_connection_failure_applies_to_all_instances_of_a_server(problem: str) -> None:
    assert applies_to_server(Observation(error_code=problem))
    assert not applies_to_server(Observation(error_code="wrong_key"))
