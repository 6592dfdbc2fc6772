"""The error table: complete, with reasons, and reasonable for unknown codes."""

from __future__ import annotations

from http.client import BadStatusLine

import pytest
from django.utils import translation

from channels_app.providers import error_codes
from channels_app.providers.base import Rejected
from channels_app.providers.error_codes import (
    ErrorClass,
    FallbackRule,
    lookup,
    stored_detail,
    stored_title,
    title_for,
)
from core import http_client

R, P, C, T = ErrorClass.RETRY, ErrorClass.PERMANENT, ErrorClass.CONFIG, ErrorClass.TEMPLATE

# docs/providers/cloud.md §2.3, row by row: which codes, class, rule.
ROWS: list[tuple[str, ErrorClass, FallbackRule]] = [
    ("-1 1 2 4 80007 130429 131000 131016 133004 131057", R, FallbackRule.RETRY_FIRST),
    ("131056", R, FallbackRule.WAIT),
    ("131048 131064", R, FallbackRule.OPT_IN),
    ("131047 131026 131030 131051 131053 131035 131036", P, FallbackRule.IMMEDIATE),
    ("131049 130472", P, FallbackRule.OPT_IN),
    ("131050 130403 130497 131021 131062 137000", P, FallbackRule.NEVER),
    ("131052 131060 613 138000 138006 138018", P, FallbackRule.NEVER),
    ("131008 131009 100 135000", P, FallbackRule.IMMEDIATE_ALERT),
    ("0 3 10 33 104 190 200 250 299 131005 131037 131042 131045", C, FallbackRule.IMMEDIATE_ALERT),
    ("133000 133006 133010 134011", C, FallbackRule.IMMEDIATE_ALERT),
    ("368 131031", C, FallbackRule.OPT_IN),
    ("131063 131044 133005 133008 133009 133015 133016", C, FallbackRule.NEVER),
    ("2593107 2593108 2593109", C, FallbackRule.NEVER),
    ("132000 132001 132005 132008 132012 132018", T, FallbackRule.IMMEDIATE_ALERT),
    ("132007 132068 132069 131055 134100 134101 134102", T, FallbackRule.NEVER),
    ("132015 132016", T, FallbackRule.OPT_IN),
]


@pytest.mark.parametrize(
    ("code", "kind", "rule"),
    [(code, kind, rule) for codes, kind, rule in ROWS for code in codes.split()],
)
def test_each_code_has_the_class_and_rule_of_the_contract(
    code: str, kind: ErrorClass, rule: FallbackRule
) -> None:
    error_rule = lookup(code)
    assert (error_rule.code, error_rule.kind, error_rule.fallback, error_rule.known) == (
        code,
        kind,
        rule,
        True,
    )
    assert error_rule.transient is (kind == R)


def test_every_code_of_the_table_is_tested() -> None:
    tested = {code for codes, _, _ in ROWS for code in codes.split()}
    assert set(error_codes.TABLE) <= tested


def test_codes_that_need_a_person_raise_an_alert() -> None:
    for rule in error_codes.all_rules():
        wanted = rule.fallback == FallbackRule.IMMEDIATE_ALERT or rule.code in {
            "368", "131031", "131048", "131064",
        }  # fmt: skip
        assert rule.alerts_staff is wanted, rule.code


@pytest.mark.parametrize("code", ["199", "300", "137999", "138019"])
def test_ranges_have_exact_bounds(code: str) -> None:
    assert not lookup(code).known


def test_every_row_has_a_translatable_title_and_reason() -> None:
    rules = [*error_codes.all_rules(), *error_codes.WORDS.values()]
    assert len({rule.code for rule in rules}) == len(rules)
    for rule in rules:
        assert str(rule.title)
        assert str(rule.explanation)
        assert not isinstance(rule.title, str)
        assert not isinstance(rule.explanation, str)


def test_every_class_and_rule_has_a_label() -> None:
    assert all(str(kind.label) for kind in ErrorClass)
    assert all(str(rule.label) for rule in FallbackRule)


def test_the_displayed_rows_are_sorted_and_show_ranges() -> None:
    codes = [rule.code for rule in error_codes.all_rules()]
    assert codes[:2] == ["-1", "0"]
    assert codes[-2:] == ["200-299", "138000-138018"]


@pytest.mark.parametrize(
    ("is_transient", "http_status", "kind", "rule"),
    [
        (True, 400, R, FallbackRule.RETRY_FIRST),
        (False, 500, P, FallbackRule.IMMEDIATE_ALERT),
        (None, 500, R, FallbackRule.RETRY_FIRST),
        (None, 503, R, FallbackRule.RETRY_FIRST),
        (None, 429, R, FallbackRule.RETRY_FIRST),
        (None, 400, P, FallbackRule.IMMEDIATE_ALERT),
        (None, 401, C, FallbackRule.IMMEDIATE_ALERT),
        (None, 403, C, FallbackRule.IMMEDIATE_ALERT),
        (None, None, P, FallbackRule.IMMEDIATE_ALERT),
    ],
)
def test_an_unknown_code_follows_is_transient_and_then_the_status(
    is_transient: bool | None, http_status: int | None, kind: ErrorClass, rule: FallbackRule
) -> None:
    error_rule = lookup("131999", is_transient, http_status)
    assert (error_rule.kind, error_rule.fallback, error_rule.known) == (kind, rule, False)
    assert error_rule.alerts_staff
    assert "131999" in str(error_rule.title)


def test_a_known_code_does_not_follow_the_status_or_is_transient() -> None:
    assert lookup("131047", True, 500) == lookup("131047")


@pytest.mark.parametrize("code", ["", "x" * 1000, "-7", "1.5", "٣", "9" * 400, "\x00"])
def test_the_look_up_never_raises(code: str) -> None:
    assert lookup(code).known is False
    assert isinstance(str(title_for(code)), str)


def test_http_statuses_have_their_own_title() -> None:
    assert "404" in str(title_for("http_404"))
    assert lookup("http_404").known
    assert lookup("http_429").transient
    assert not lookup("http_404").transient


def test_our_own_codes_have_titles() -> None:
    with translation.override("en"):
        assert title_for("timeout") == "The provider did not respond in time"
    assert title_for("") == ""


def test_a_failure_has_the_source_text_in_any_active_language() -> None:
    with translation.override("pt-br"):
        error = error_codes.failure(Rejected, "wrong_key", "detail", http_status=403)
    assert (error.code, error.title) == ("wrong_key", "The provider rejected the key")
    assert (error.detail, error.http_status) == ("detail", 403)


@pytest.mark.parametrize(
    ("error", "left", "shown"),
    [
        (TimeoutError(), True, "sem resposta completa a tempo"),
        (TimeoutError(), False, "sem conexão a tempo"),
        (BadStatusLine("x"), True, "a resposta não é HTTP"),
        (ConnectionRefusedError(), False, "conexão recusada"),
        (http_client._NotPublic(), False, "não é um endereço público da internet"),
    ],
)
def test_our_own_details_are_shown_in_the_readers_language(
    error: Exception, left: bool, shown: str
) -> None:
    with translation.override("en"):
        stored = http_client._failure(error, left=left).detail
        assert stored_detail(stored) == stored
    with translation.override("pt-br"):
        assert stored_detail(stored) == shown


def test_the_providers_own_text_is_unchanged() -> None:
    with translation.override("pt-br"):
        assert stored_detail("Message failed to send") == "Message failed to send"
        assert stored_detail("") == ""
        assert stored_title("999999", "Something new") == "Something new"
        assert stored_title("-1", "An unknown error occurred") == "A Meta não informou o motivo"
        expired = "Error validating access token: Session has expired on Friday"
        assert stored_title("190", "x", expired) == "O token de acesso expirou"
        for detail in (
            "Malformed access token EAA",
            "Invalid OAuth access token - Cannot parse it",
        ):
            assert "malformado" in stored_title("190", "x", detail)
        assert stored_title("", "") == ""
        assert stored_title("999999", "Unknown error 999999") == "Erro desconhecido 999999"
        assert stored_title("timeout", "x") == str(title_for("timeout"))
