"""What the server's words mean, and what is done about them. Pure."""

from __future__ import annotations

import datetime as dt

import pytest

from channels_app.connections.states import PAUSES, SENTENCES, Seen, State
from channels_app.incidents.reason_text import field_of, sentence
from instances.connections.states import Care, Cure, Known, Told, cure_for, derive, drop_reason

NOW = dt.datetime(2026, 11, 25, 12, 0, tzinfo=dt.UTC)


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("told", "known", "state", "code"),
    [
        (Told(connection="open"), Known(), State.READY, "ready"),
        (Told(connection="open"), Known(dead=True), State.ERROR, "dead_socket"),
        (Told(connection="connecting"), Known(), State.STARTING, "dialling"),
        (Told(connection="connecting", qr="2@x"), Known(), State.QR, "waiting_for_scan"),
        (Told(connection="connecting"), Known(shown=True), State.QR, "waiting_for_scan"),
        (
            Told(connection="connecting"),
            Known(dialling_since=ago(119)),
            State.STARTING,
            "dialling",
        ),
        (
            Told(connection="connecting"),
            Known(dialling_since=ago(120)),
            State.ERROR,
            "dialling_long",
        ),
        (
            Told(connection="connecting", qr="2@x"),
            Known(dialling_since=ago(900)),
            State.QR,
            "waiting_for_scan",
        ),
        (Told(connection="close"), Known(), State.DISCONNECTED, "not_linked"),
        (Told(connection="close"), Known(shown=True), State.DISCONNECTED, "qr_limit"),
        (
            Told(connection="close"),
            Known(linked=True, ever=True),
            State.DISCONNECTED,
            "connection_lost",
        ),
        (
            Told(connection="close", ended_with=401),
            Known(linked=True, ever=True),
            State.DISCONNECTED,
            "unlinked_on_phone",
        ),
        # Given up with a code on show, not unlinked by a phone.
        (
            Told(connection="close", ended_with=401),
            Known(shown=True),
            State.DISCONNECTED,
            "qr_limit",
        ),
        (
            Told(connection="close", ended_with=401),
            Known(ever=True, note="unlinked"),
            State.DISCONNECTED,
            "unlinked",
        ),
        (
            Told(connection="close", ended_with=403),
            Known(linked=True, ever=True),
            State.ERROR,
            "refused_by_whatsapp",
        ),
        (Told(connection="close"), Known(note="deleting"), State.DISCONNECTED, "deleting"),
        (
            Told(connection="close"),
            Known(note="instance_deleted"),
            State.DISCONNECTED,
            "not_linked",
        ),
        (Told(trouble="instance_missing"), Known(), State.DISCONNECTED, "no_instance"),
        (Told(trouble="instance_missing"), Known(ever=True), State.DISCONNECTED, "instance_gone"),
        (
            Told(trouble="instance_missing"),
            Known(ever=True, note="deleting"),
            State.DISCONNECTED,
            "instance_deleted",
        ),
        (Told(trouble="wrong_key"), Known(ever=True), State.ERROR, "wrong_key"),
        (Told(connection="unknown"), Known(), State.ERROR, "unreadable_answer"),
    ],
)
def test_the_state_follows_from_what_was_told_and_what_is_known(
    told: Told, known: Known, state: State, code: str
) -> None:
    seen = derive(told, known, now=NOW)
    assert (seen.state, seen.code) == (state, code)
    assert sentence(seen.code, seen.detail)
    assert code in SENTENCES or code in ("wrong_key", "unreadable_answer")


WANTED = Care(wanted=True, closed_since=ago(61))


@pytest.mark.parametrize(
    ("code", "care", "cure"),
    [
        ("dead_socket", WANTED, Cure.RESTART),
        ("dialling_long", WANTED, Cure.RESTART),
        ("connection_lost", WANTED, Cure.DIAL),
        # A server that comes up dials by itself.
        ("connection_lost", Care(wanted=True, closed_since=ago(59)), Cure.NONE),
        ("connection_lost", Care(wanted=False, closed_since=ago(999)), Cure.NONE),
        # A new code helps nobody who is not there.
        ("unlinked_on_phone", WANTED, Cure.NONE),
        ("qr_limit", WANTED, Cure.NONE),
        ("refused_by_whatsapp", WANTED, Cure.NONE),
        ("instance_gone", WANTED, Cure.NONE),
        ("waiting_for_scan", WANTED, Cure.NONE),
        ("connection_refused", WANTED, Cure.NONE),
    ],
)
def test_only_what_needs_no_person_is_mended(code: str, care: Care, cure: Cure) -> None:
    assert cure_for(Seen(State.ERROR, code), care, now=NOW) == cure


def test_the_tries_are_few_and_further_and_further_apart() -> None:
    seen = Seen(State.ERROR, "dead_socket")
    for tries, pause in enumerate(PAUSES):
        soon = Care(wanted=True, tries=tries, tried_at=ago(pause - 1))
        due = Care(wanted=True, tries=tries, tried_at=ago(pause))
        assert pause == 0 or cure_for(seen, soon, now=NOW) == Cure.NONE
        assert cure_for(seen, due, now=NOW) == Cure.RESTART
    over = Care(wanted=True, tries=len(PAUSES), tried_at=ago(10**6))
    assert cure_for(seen, over, now=NOW) == Cure.NONE


def test_dialling_again_is_told_as_a_loss() -> None:
    assert drop_reason(Seen(State.STARTING, "dialling")) == "connection_lost"
    assert drop_reason(Seen(State.DISCONNECTED, "unlinked_on_phone")) == "unlinked_on_phone"
    assert drop_reason(Seen(State.DISCONNECTED, "instance_gone")) == "instance_vanished"


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
    assert field_of(code, evolution=True) == field
