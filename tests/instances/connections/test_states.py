"""What the server's words mean, and what is done about them. Pure."""

from __future__ import annotations

import datetime as dt

import pytest

from channels_app.connections.states import RECOVERY_PAUSES, SENTENCES, DerivedState, State
from channels_app.incidents.reason_text import describe, field_for_code
from instances.connections.states import (
    Known,
    Observation,
    RecoveryAction,
    RecoveryContext,
    derive,
    drop_reason,
    holds_for_server,
    recovery_action_for,
)

NOW = dt.datetime(2026, 11, 25, 12, 0, tzinfo=dt.UTC)


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("told", "known", "state", "code"),
    [
        (Observation(connection="open"), Known(), State.READY, "ready"),
        (Observation(connection="open"), Known(dead=True), State.ERROR, "dead_socket"),
        (Observation(connection="connecting"), Known(), State.STARTING, "dialling"),
        (Observation(connection="connecting", qr="2@x"), Known(), State.QR, "waiting_for_scan"),
        (Observation(connection="connecting"), Known(shown=True), State.QR, "waiting_for_scan"),
        (
            Observation(connection="connecting"),
            Known(dialling_since=ago(119)),
            State.STARTING,
            "dialling",
        ),
        (
            Observation(connection="connecting"),
            Known(dialling_since=ago(120)),
            State.ERROR,
            "dialling_long",
        ),
        (
            Observation(connection="connecting", qr="2@x"),
            Known(dialling_since=ago(900)),
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
        # Given up with a code on show, not unlinked by a phone.
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
        (Observation(trouble="instance_missing"), Known(), State.DISCONNECTED, "no_instance"),
        (
            Observation(trouble="instance_missing"),
            Known(ever=True),
            State.DISCONNECTED,
            "instance_gone",
        ),
        (
            Observation(trouble="instance_missing"),
            Known(ever=True, note="deleting"),
            State.DISCONNECTED,
            "instance_deleted",
        ),
        (Observation(trouble="wrong_key"), Known(ever=True), State.ERROR, "wrong_key"),
        (Observation(connection="unknown"), Known(), State.ERROR, "unreadable_answer"),
    ],
)
def test_the_state_follows_from_what_was_told_and_what_is_known(
    told: Observation, known: Known, state: State, code: str
) -> None:
    seen = derive(told, known, now=NOW)
    assert (seen.state, seen.code) == (state, code)
    assert describe(seen.code, seen.detail)
    assert code in SENTENCES or code in ("wrong_key", "unreadable_answer")


WANTED = RecoveryContext(wanted=True, closed_since=ago(61))


@pytest.mark.parametrize(
    ("code", "care", "cure"),
    [
        ("dead_socket", WANTED, RecoveryAction.RESTART),
        ("dialling_long", WANTED, RecoveryAction.RESTART),
        ("connection_lost", WANTED, RecoveryAction.DIAL),
        # A server that comes up dials by itself.
        (
            "connection_lost",
            RecoveryContext(wanted=True, closed_since=ago(59)),
            RecoveryAction.NONE,
        ),
        (
            "connection_lost",
            RecoveryContext(wanted=False, closed_since=ago(999)),
            RecoveryAction.NONE,
        ),
        # A new code helps nobody who is not there.
        ("unlinked_on_phone", WANTED, RecoveryAction.NONE),
        ("qr_limit", WANTED, RecoveryAction.NONE),
        ("refused_by_whatsapp", WANTED, RecoveryAction.NONE),
        ("instance_gone", WANTED, RecoveryAction.NONE),
        ("waiting_for_scan", WANTED, RecoveryAction.NONE),
        ("connection_refused", WANTED, RecoveryAction.NONE),
    ],
)
def test_only_what_needs_no_person_is_mended(
    code: str, care: RecoveryContext, cure: RecoveryAction
) -> None:
    assert recovery_action_for(DerivedState(State.ERROR, code), care, now=NOW) == cure


def test_the_tries_are_few_and_further_and_further_apart() -> None:
    seen = DerivedState(State.ERROR, "dead_socket")
    for tries, pause in enumerate(RECOVERY_PAUSES):
        soon = RecoveryContext(wanted=True, tries=tries, tried_at=ago(pause - 1))
        due = RecoveryContext(wanted=True, tries=tries, tried_at=ago(pause))
        assert pause == 0 or recovery_action_for(seen, soon, now=NOW) == RecoveryAction.NONE
        assert recovery_action_for(seen, due, now=NOW) == RecoveryAction.RESTART
    over = RecoveryContext(wanted=True, tries=len(RECOVERY_PAUSES), tried_at=ago(10**6))
    assert recovery_action_for(seen, over, now=NOW) == RecoveryAction.NONE


def test_dialling_again_is_told_as_a_loss() -> None:
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
def test_a_trouble_of_the_settings_names_the_field_of_a_baileys_channel(
    code: str, field: str
) -> None:
    assert field_for_code(code, evolution=True) == field


@pytest.mark.parametrize(
    "trouble", ["dns_failed", "certificate_refused", "not_tls", "tls_failed", "unreachable"]
)
def test_what_no_connection_can_pass_holds_for_all_instances_of_a_server(trouble: str) -> None:
    assert holds_for_server(Observation(trouble=trouble))
    assert not holds_for_server(Observation(trouble="wrong_key"))
