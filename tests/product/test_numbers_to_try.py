"""Each number to try, as listed at startup and in the READMEs, shows the documented result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from messaging.demo_settings import NUMBERS
from tests.product.conftest import Api

pytestmark = [pytest.mark.product]


def number(digits: str) -> str:
    """Return the number to try that ends with these digits."""
    [match] = [number for number, _ in NUMBERS if number.endswith(digits)]
    return match


def routes(message: Any) -> list[tuple[str, str]]:
    return [(attempt["route"], attempt["outcome"]) for attempt in message["attempts"]]


def is_final(message: Any) -> bool:
    """Whether nothing more happens automatically."""
    return bool(message["decision"]) and message["next_attempt_at"] is None


def change(api: Api, **fields: Any) -> Any:
    """Change the demo's channel by REST; return the previous values of these fields."""
    address = f"{api.product.url}/api/channels/{api.channel}/"
    before = requests.get(address, headers=api.headers, timeout=20).json()
    response = requests.patch(address, json=fields, headers=api.headers, timeout=20)
    assert response.status_code == 200, response.text
    return {name: before[name] for name in fields}


@pytest.fixture
def soon_unconfirmed(api: Api) -> Iterator[None]:
    """Do not wait a minute for a proof that never arrives."""
    before = change(api, confirm_seconds=2, request_timeout_seconds=1)
    yield
    change(api, **before)


def test_every_number_to_try_is_tested_here() -> None:
    assert [number[-4:] for number, _ in NUMBERS] == [
        "0000",
        "0047",
        "0050",
        "0647",
        "0080",
        "0067",
    ]


def test_a_normal_message_is_read(api: Api) -> None:
    sent = api.send(number("0000"), "Uma comum")
    assert sent["icon"] == "clock"
    message = api.wait_for(sent, lambda message: message["icon"] == "read")
    assert routes(message) == [("official", "accepted")]


def test_outside_the_window_the_x_becomes_the_globe(api: Api, slow_fallback: None) -> None:
    sent = api.send(number("0047"), "Fora da janela")
    api.wait_for(sent, lambda message: message["icon"] == "rejected")
    message = api.wait_for(sent, lambda message: message["icon"] == "globe")
    assert routes(message) == [("official", "rejected"), ("wwebjs", "accepted")]


def test_an_opt_out_does_not_use_the_fallback(api: Api) -> None:
    message = api.wait_for(api.send(number("0050"), "Promoção"), is_final)
    assert (message["icon"], routes(message)) == ("rejected", [("official", "rejected")])


def test_the_x_stays_if_the_fallback_does_not_find_the_number(api: Api) -> None:
    message = api.wait_for(api.send(number("0647"), "Para ninguém"), is_final)
    assert message["icon"] == "rejected"
    assert routes(message) == [("official", "rejected"), ("wwebjs", "rejected")]


@pytest.mark.usefixtures("soon_unconfirmed")
def test_without_a_response_the_question_mark_becomes_the_globe(api: Api) -> None:
    sent = api.send(number("0080"), "Sem resposta")
    api.wait_for(sent, lambda message: message["icon"] == "unconfirmed")
    message = api.wait_for(sent, lambda message: message["icon"] == "globe")
    assert routes(message) == [("official", "unknown"), ("wwebjs", "accepted")]


@pytest.mark.usefixtures("soon_unconfirmed")
def test_a_channel_that_holds_unconfirmed_messages_leaves_the_decision_to_a_person(
    api: Api,
) -> None:
    before = change(api, on_unconfirmed="hold")
    try:
        message = api.wait_for(api.send(number("0080"), "Sem resposta"), is_final)
    finally:
        change(api, **before)
    assert (message["icon"], routes(message)) == ("unconfirmed", [("official", "unknown")])


def test_a_late_rejection_triggers_the_fallback_once(api: Api) -> None:
    sent = api.send(number("0067"), "Recusada tarde")
    message = api.wait_for(sent, lambda message: message["icon"] == "globe")
    assert routes(message) == [("official", "rejected"), ("wwebjs", "accepted")]
