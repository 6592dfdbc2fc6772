"""Whether an unknown send can be found again, and files that customers sent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest

from channels_app.providers.base import (
    Downloads,
    FindsById,
    ListsSent,
    LookupFailed,
    SendError,
    SentMessage,
)
from channels_app.providers.events import MessageEvent, Receipt
from tests import files
from tests.channels_app.conftest import RawServer, Script, respond
from tests.channels_app.providers.conformance.adapter import Adapter

Start = Callable[[Script], RawServer]


def test_a_provider_has_the_look_ups_that_are_declared(adapter: Adapter) -> None:
    provider, capabilities = adapter.provider(), adapter.engine.capabilities
    assert isinstance(provider, ListsSent) is capabilities.lists_sent
    assert isinstance(provider, FindsById) is capabilities.finds_by_id
    takes_ids = bool(adapter.engine.reserve_id("text", {}))
    assert takes_ids or not capabilities.finds_by_id


def test_a_message_whose_response_was_lost_is_listed(adapter: Adapter) -> None:
    provider = adapter.provider(timeout=1)
    if not isinstance(provider, ListsSent):
        return
    since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)
    lost, arrived = adapter.number("reset_before"), adapter.number("reset_after")
    assert provider.sent_messages(arrived, since=since) == []
    for number in (lost, arrived):
        with pytest.raises(Exception, match="connection_broken"):
            provider.send(adapter.message(to=number))
    [entry] = adapter.simulator.book.entries
    wait = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=10)
    while not (listed := provider.sent_messages(arrived, since=since)):
        assert dt.datetime.now(dt.UTC) < wait
    assert listed == [SentMessage(entry.id, "text", "Olá", "")]
    assert provider.sent_messages(lost, since=since) == []
    later = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    assert provider.sent_messages(arrived, since=later) == []


def test_a_message_is_found_by_the_id_that_we_chose(adapter: Adapter) -> None:
    provider = adapter.provider()
    if not isinstance(provider, FindsById):
        return
    ours = adapter.engine.reserve_id("text", {})
    assert provider.find_sent(ours) is None
    provider.send(adapter.message(message_id=ours))
    wait = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=10)
    while provider.find_sent(ours) != Receipt.SENT:
        assert dt.datetime.now(dt.UTC) < wait


def test_a_failed_look_up_says_whether_the_server_responded(
    adapter: Adapter, raw_server: Start, dead_url: str
) -> None:
    def script(conn: object, number: int) -> None:
        answer = adapter.look_up if number % 2 and adapter.look_up is not None else None
        respond(conn, answer or b"{}", status="200 OK" if answer else "500 X")  # type: ignore[arg-type]

    now = dt.datetime.now(dt.UTC)
    for url, answered in ((raw_server(script).url, True), (dead_url, False)):
        provider = adapter.provider(**{adapter.address: url})
        look_ups: list[Callable[[], object]] = []
        if isinstance(provider, ListsSent):
            look_ups += [lambda p=provider: p.sent_messages("+5511988887777", since=now)]
        if isinstance(provider, FindsById):
            look_ups += [lambda p=provider: p.find_sent("3EB0")]
        for look_up in look_ups:
            with pytest.raises(LookupFailed) as caught:
                look_up()
            assert caught.value.answered is answered
            assert caught.value.code


def test_a_file_that_a_customer_sent_is_downloaded(adapter: Adapter) -> None:
    provider, events = adapter.provider(), adapter.engine.events
    if not isinstance(provider, Downloads):
        assert events.file_reference({"id": "1", "key": {}}) is None
        return
    sent = adapter.customer_sends_a_picture(files.PNG)
    event = adapter.event(MessageEvent, provider_message_id=sent, type="image")
    reference = events.file_reference(event.content)
    assert provider.download(reference, most_bytes=10_000) == files.PNG
    assert events.file_reference({}) is None
    with pytest.raises(SendError) as caught:
        adapter.provider(**{adapter.address: "http://127.0.0.1:1"}).download(
            reference, most_bytes=10_000
        )
    assert caught.value.outcome == "transient"
