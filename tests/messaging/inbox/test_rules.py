"""The pure rules: opening hours, automatic answers, variables, marking, folding."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from channels_app import opening_hours
from core import search_text
from messaging.inbox import answer_rules, snooze, states, variables
from messaging.inbox.answer_rules import Texts, Waiting

HOURS: dict[str, Any] = {
    "mon": [["08:00", "12:00"], ["13:00", "24:00"]],
    "fri": [["22:00", "02:00"]],
}
# 2026-11-30 is a Monday. São Paulo is three hours behind UTC.
MONDAY = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("utc", "is_open"),
    [
        ("2026-11-30T10:59", False),
        ("2026-11-30T11:00", True),
        ("2026-11-30T14:59", True),
        ("2026-11-30T15:00", False),
        ("2026-12-01T02:59", True),  # still Monday there
        ("2026-12-01T03:00", False),
        ("2026-12-05T01:00", True),  # Friday, 22:00
        ("2026-12-05T04:59", True),  # Saturday, 01:59: Friday's period
        ("2026-12-05T05:00", False),
    ],
)
def test_hours_are_those_of_the_channels_own_clock(utc: str, is_open: bool) -> None:
    at = dt.datetime.fromisoformat(utc).replace(tzinfo=dt.UTC)
    assert opening_hours.is_open(HOURS, at, "America/Sao_Paulo") is is_open
    assert opening_hours.is_open({}, at, "America/Sao_Paulo")


@pytest.mark.parametrize(
    ("hours", "is_valid"),
    [
        (HOURS, True),
        ({}, True),
        ({"mon": []}, True),
        ({"monday": []}, False),
        ([], False),
        ({"mon": [["08:00"]]}, False),
        ({"mon": [["8:00", "18:00"]]}, False),
        ({"mon": [["08:00", "25:00"]]}, False),
        ({"mon": [["08:00", "08:00"]]}, False),
        ({"mon": [["24:00", "08:00"]]}, False),
        ({"mon": "08:00"}, False),
    ],
)
def test_hours_that_make_no_sense_are_refused(hours: Any, is_valid: bool) -> None:
    assert (opening_hours.error_in(hours) == "") is is_valid


TEXTS = Texts("Olá!", "Voltamos às 8h.", HOURS, "America/Sao_Paulo")
OPEN, CLOSED = MONDAY.replace(hour=11), MONDAY.replace(hour=9)


@pytest.mark.parametrize(
    ("now", "changes", "kind"),
    [
        (OPEN, {}, "greeting"),
        (CLOSED, {}, "away"),
        (OPEN, {"answered": {"greeting"}}, None),
        (OPEN, {"answered": {"away"}}, "greeting"),
        (CLOSED, {"answered": {"away"}}, None),
        (OPEN, {"is_group": True}, None),
        (OPEN, {"is_elsewhere": True}, None),
        (OPEN, {"last_inbound_at": OPEN - dt.timedelta(hours=24)}, None),
        (OPEN, {"last_outgoing_at": OPEN - dt.timedelta(hours=11)}, None),
        (OPEN, {"last_outgoing_at": OPEN - dt.timedelta(hours=12)}, "greeting"),
        (CLOSED, {"last_outgoing_at": CLOSED - dt.timedelta(minutes=29)}, None),
        (CLOSED, {"last_outgoing_at": CLOSED - dt.timedelta(hours=1)}, "away"),
    ],
)
def test_a_customer_is_answered_once_a_day_in_the_window_and_not_beside_a_person(
    now: dt.datetime, changes: dict[str, Any], kind: str | None
) -> None:
    waiting = {
        "last_inbound_at": now,
        "last_outgoing_at": None,
        "is_group": False,
        "is_elsewhere": False,
        "answered": (),
    }
    assert answer_rules.answer(TEXTS, Waiting(**{**waiting, **changes}), now=now) == kind  # type: ignore[arg-type]
    silent = Texts(" ", "", HOURS, "America/Sao_Paulo")
    assert answer_rules.answer(silent, Waiting(**{**waiting, **changes}), now=now) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "until", "found"),
    [
        ("open", None, ("open", None)),
        ("resolved", None, ("resolved", None)),
        (None, OPEN, ("snoozed", OPEN)),
        ("snoozed", OPEN, ("snoozed", OPEN)),
        (None, None, ("open", None)),
        ("snoozed", None, "snoozed_until"),
        ("snoozed", CLOSED, "snoozed_until"),
        ("resolved", OPEN, "snoozed_until"),
        ("closed", None, "status"),
    ],
)
def test_a_conversation_is_open_resolved_or_snoozed_until_a_time(
    status: str | None, until: dt.datetime | None, found: Any
) -> None:
    now = CLOSED + dt.timedelta(minutes=1)
    if isinstance(found, str):
        with pytest.raises(ValidationError) as error:
            states.changed(status, until, now=now)
        assert list(error.value.message_dict) == [found]
    else:
        assert tuple(states.changed(status, until, now=now).values()) == found


def test_variables_are_filled_in_once_and_unknown_ones_are_named() -> None:
    values = {"name": "Ana {agent}", "agent": "Rui", "CPF": "123", "phone_number": ""}
    filled = variables.fill("{Nome} / { cpf } / {atendente} / {telefone} / {xyz} / {}", values)
    assert filled.text == "Ana {agent} / 123 / Rui / {telefone} / {xyz} / {}"
    assert filled.missing == ("telefone", "xyz")


@given(st.text(), st.integers(1, 40))
def test_marking_changes_no_character(text: str, length: int) -> None:
    parts = search_text.mark(text, lambda word: "a" in word, length=max(length, len(text)))
    assert "".join(part.text for part in parts) == text
    marked = [part.text for part in parts if part.marked]
    assert [search_text.fold(one) for one in marked] == [
        word for word in search_text.words(text) if "a" in word
    ]


def test_a_long_text_is_cut_around_the_first_match() -> None:
    text = "palavra " * 100 + "Orçamento final " + "outra " * 100
    parts = search_text.mark(text, lambda word: word == "orcamento")
    assert [part.text for part in parts if part.marked] == ["Orçamento"]
    shown = "".join(part.text for part in parts)
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert len(shown) < 170


LATIN = st.text(st.characters(codec="utf-8", max_codepoint=0x36F, categories=("L", "M", "N", "Zs")))


@pytest.mark.django_db
@given(LATIN)
def test_texts_are_folded_as_the_database_folds_them(text: str) -> None:
    plain = "".join(one for one in text if one.isascii() or one in FOLDED)
    with connection.cursor() as cursor:
        cursor.execute("SELECT alterna_fold(%s)", [plain])
        assert cursor.fetchone() == (search_text.fold(plain),)


FOLDED = search_text.ACCENTED + search_text.MARKS


@pytest.mark.parametrize(
    ("now", "offered"),
    [
        ("2026-11-30T08:00", {"later": "30T11:00", "tomorrow": "01T09:00", "monday": "07T09:00"}),
        ("2026-11-30T08:01", {"later": "30T12:00", "tomorrow": "01T09:00", "monday": "07T09:00"}),
        ("2026-11-30T18:00", {"later": "30T21:00", "tomorrow": "01T09:00", "monday": "07T09:00"}),
        ("2026-11-30T18:01", {"tomorrow": "01T09:00", "monday": "07T09:00"}),
        ("2026-11-30T22:30", {"tomorrow": "01T09:00", "monday": "07T09:00"}),
        ("2026-12-05T00:00", {"later": "05T03:00", "tomorrow": "06T09:00", "monday": "07T09:00"}),
        ("2026-12-06T20:00", {"tomorrow": "07T09:00"}),  # a Sunday
    ],
)
def test_a_conversation_can_be_snoozed_until_a_full_hour_or_a_morning(
    now: str, offered: dict[str, str]
) -> None:
    moment = dt.datetime.fromisoformat(now).replace(tzinfo=zoneinfo.ZoneInfo("America/Sao_Paulo"))
    found = {choice.name: choice.until for choice in snooze.choices(moment)}
    assert {name: f"{until:%dT%H:%M}" for name, until in found.items()} == offered
    assert sorted(found.values()) == list(found.values())
    assert all(until > moment for until in found.values())
    assert all(snooze.time_of(name, moment) == until for name, until in found.items())
    assert snooze.time_of("at", moment) is None


@pytest.mark.parametrize(
    ("written", "periods"),
    [
        ("", []),
        ("08:00-12:00, 13:00-18:00", [["08:00", "12:00"], ["13:00", "18:00"]]),
        ("8-12; 13:30 – 18h", [["08:00", "12:00"], ["13:30", "18:00"]]),
        ("8h às 18h30", [["08:00", "18:30"]]),
        ("20:00-02:00", [["20:00", "02:00"]]),
        ("0-24", [["00:00", "24:00"]]),
        ("8", None),
        ("8-8", None),
        ("8-25", None),
        ("24-8", None),
        ("fechado", None),
    ],
)
def test_opening_hours_are_read_as_people_write_them(
    written: str, periods: list[list[str]] | None
) -> None:
    if periods is None:
        with pytest.raises(ValueError):
            opening_hours.from_text(written)
        return
    assert opening_hours.from_text(written) == periods
    assert opening_hours.from_text(opening_hours.to_text(periods)) == periods
