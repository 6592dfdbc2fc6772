"""A short form of `bench receive_mode`: events during switches are stored once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from instances.models import WhatsAppSession
from instances.receive_mode import monitor
from messaging.models import InboundEvent, Message
from tests.instances.support import NAME, Evolution, agreed, read, state, switch, wait_until

if TYPE_CHECKING:
    from rest_framework.test import APIClient

COUNT = 200


def arrived() -> bool:
    return InboundEvent.objects.filter(payload__event="messages.upsert").count() >= COUNT


def assert_none_lost_or_duplicated(prefix: str) -> None:
    read()
    rows = Counter(Message.objects.values_list("provider_message_id", flat=True))
    assert rows == Counter(f"{prefix}{number:06d}" for number in range(1, COUNT + 1))
    keys = Counter(
        payload["data"]["key"]["id"]
        for payload in InboundEvent.objects.values_list("payload", flat=True)
        if payload["event"] == "messages.upsert"
    )
    assert set(keys.values()) == {1}


def is_over(api: APIClient) -> bool:
    """Return whether no switch is running; resume a waiting one."""
    if state(api)["switching"] is None:
        return True
    monitor.resume_handovers()
    return False


def test_switching_back_and_forth_under_load_loses_and_duplicates_nothing(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("flood", instance=NAME, count=COUNT, per_second=100, prefix="SWITCH")
    switched = 0
    while not evolution.ledger("floods")[0]["done"]:
        for to in ("webhook", "websocket"):
            # Under load, the socket may open after the request times out.
            assert switch(api, to).status_code in (200, 202)
            wait_until(lambda: is_over(api))
            switched += 1
    assert switched >= 2
    wait_until(arrived)
    assert_none_lost_or_duplicated("SWITCH")
    assert agreed(api, evolution) == "websocket"


@pytest.mark.parametrize("mode", ["webhook", "websocket"])
def test_a_burst_in_either_mode_loses_and_duplicates_nothing(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution, mode: str
) -> None:
    assert switch(api, mode).status_code == 200
    evolution.control("flood", instance=NAME, count=COUNT, per_second=300, prefix="BURST")
    wait_until(arrived)
    assert_none_lost_or_duplicated("BURST")
