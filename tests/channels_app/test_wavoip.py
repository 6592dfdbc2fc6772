"""Which key a call uses, and the URL of Wavoip's page."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from channels_app.models import Channel
from channels_app.wavoip import caller_of, link

TOKEN = "5f2d9b9e-1111-4222-8333-abcdefabcdef"


def baileys(**fields: Any) -> Channel:
    return Channel(
        **{"name": "Oficina", "kind": "baileys", "calls_api_key": "of-baileys", **fields}
    )


def official(**fields: Any) -> Channel:
    return Channel(**{"name": "Oficial", "kind": "official", **fields})


def test_the_fallback_baileys_channel_takes_precedence_for_calls() -> None:
    other = baileys()
    both = official(fallback="baileys", fallback_channel=other, calls_api_key="own")
    assert caller_of(both) is other


@pytest.mark.parametrize(
    "changes", [{"calls_api_key": ""}, {"calls_api_key": " , "}, {"active": 0}]
)
def test_the_channel_calls_if_its_fallback_cannot(changes: dict[str, Any]) -> None:
    channel = official(fallback="baileys", fallback_channel=baileys(**changes), calls_api_key="own")
    assert caller_of(channel) is channel


def test_a_baileys_channel_that_is_not_the_current_fallback_does_not_call() -> None:
    assert caller_of(official(fallback="wwebjs", fallback_channel=baileys())) is None


def test_calls_need_a_key_and_an_active_channel() -> None:
    assert caller_of(official()) is None
    assert caller_of(baileys(active=False)) is None
    assert caller_of(official(active=False, fallback="baileys", fallback_channel=baileys())) is None


def test_a_baileys_channel_calls_its_own_contacts() -> None:
    channel = baileys()
    assert caller_of(channel) is channel


def test_the_link_is_the_one_that_public_products_use() -> None:
    address = link(baileys(calls_api_key=TOKEN), phone_number="+5511988887777", name="Ana & Cia #1")
    assert address == (
        f"https://app.wavoip.com/call?token={TOKEN}&phone=5511988887777"
        "&name=Ana%20%26%20Cia%20%231&start_if_ready=true&close_after_call=true"
    )


def test_several_tokens_are_separated_by_commas_and_escaped() -> None:
    channel = baileys(calls_api_key=" one , two&start_if_ready=false ,")
    address = link(channel, phone_number="+5511988887777", name="")
    query = parse_qs(urlsplit(address).query)
    assert "token=one,two%26" in address
    assert query["token"] == ["one,two&start_if_ready=false"]
    assert query["start_if_ready"] == ["true"]
    assert query["name"] == ["+5511988887777"]
