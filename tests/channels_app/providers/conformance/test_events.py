"""What a server posts becomes neutral events, and nothing that it posts breaks the parser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings

from channels_app.providers.events import (
    EditEvent,
    MessageEvent,
    QrEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
    SessionEvent,
    UnsupportedEvent,
)
from messaging.inbound import arrivals
from messaging.inbound.arrivals import Arrival, Raw
from tests.channels_app.conftest import ORDINARY
from tests.channels_app.providers.conformance.adapter import Adapter
from tests.channels_app.providers.conformance.test_sending import json_values

# Values that break a parser which expects another, in the form of `inbound.neutral`.
EDGES: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 10**18, 10**30, 1.5, "", "x" * 300, "-1", "9" * 30, [], {},
    [{}], [[]], {"low": -1, "high": 10**30},
)  # fmt: skip


def exercise(adapter: Adapter) -> None:
    """Cause an event of every kind that the engine reports, and wait for each."""
    reports = adapter.engine.capabilities.reports
    received = adapter.customer_writes("Bom dia")
    adapter.event(MessageEvent, provider_message_id=received)
    if adapter.can("edit"):
        adapter.edit(received, "Boa tarde")
        adapter.event(EditEvent, provider_message_id=received)
    if adapter.can("revoke"):
        adapter.revoke(received)
        adapter.event(RevokeEvent, provider_message_id=received)
    _, sent = adapter.send("ok")
    adapter.event(ReceiptEvent, provider_message_id=sent, receipt=Receipt.READ)
    adapter.send(adapter.late_failure)
    adapter.event(ReceiptEvent, receipt=Receipt.FAILED)
    adapter.other_events()
    for kind in reports:
        adapter.event(kind)


def test_a_customers_message_is_reported_with_number_text_and_time(adapter: Adapter) -> None:
    received = adapter.customer_writes("Bom dia")
    event = adapter.event(MessageEvent, provider_message_id=received)
    assert (event.phone_number, event.type, event.text) == (ORDINARY, "text", "Bom dia")
    assert (event.outgoing, event.history) == (False, False)
    assert event.at.tzinfo is not None
    assert event.channel_key == adapter.engine.events.channel_key(adapter.channel())


def test_a_message_from_our_own_phone_is_reported_as_outgoing(adapter: Adapter) -> None:
    sent = adapter.echo("Já vai")
    event = adapter.event(MessageEvent, provider_message_id=sent)
    assert (event.outgoing, event.phone_number, event.text) == (True, ORDINARY, "Já vai")


def test_every_receipt_of_a_send_names_it(adapter: Adapter) -> None:
    _, sent = adapter.send("ok")
    for receipt in (Receipt.SENT, Receipt.DELIVERED, Receipt.READ):
        event = adapter.event(ReceiptEvent, provider_message_id=sent, receipt=receipt)
        assert event.failure is None
        assert event.reference in ("", adapter.message().reference)


def test_a_late_failure_is_reported_with_its_reason(adapter: Adapter) -> None:
    adapter.send(adapter.late_failure)
    event = adapter.event(ReceiptEvent, receipt=Receipt.FAILED)
    assert event.provider_message_id
    assert event.failure is not None
    assert event.failure.code
    assert event.failure.title


def test_an_edit_and_a_deletion_name_the_message(adapter: Adapter) -> None:
    received = adapter.customer_writes("Bom dia")
    adapter.event(MessageEvent, provider_message_id=received)
    if adapter.can("edit"):
        adapter.edit(received, "Boa tarde")
        assert adapter.event(EditEvent, provider_message_id=received).text == "Boa tarde"
    if adapter.can("revoke"):
        adapter.revoke(received)
        adapter.event(RevokeEvent, provider_message_id=received)


def test_exactly_the_declared_kinds_are_reported(adapter: Adapter) -> None:
    exercise(adapter)
    kinds = {type(event) for event in adapter.events}
    assert kinds - {UnsupportedEvent} == adapter.engine.capabilities.reports
    key = adapter.engine.events.channel_key(adapter.channel())
    messages = [e for e in adapter.events if isinstance(e, (MessageEvent, ReceiptEvent))]
    assert {event.channel_key for event in messages} == {key}


def test_no_secret_is_stored_and_nothing_else_is_lost(adapter: Adapter) -> None:
    exercise(adapter)
    events = adapter.engine.events
    for payload in adapter.payloads:
        redacted = events.redact(payload)
        assert not any(secret in json.dumps(redacted) for secret in adapter.secrets)
        assert events.redact(redacted) == redacted
        assert list(events.parse(redacted)) == list(events.parse(payload))
        assert events.defect(payload) == ""


def test_a_repeated_delivery_has_the_same_key_and_two_facts_have_two(adapter: Adapter) -> None:
    exercise(adapter)
    events, keys = adapter.engine.events, set()
    facts = [
        body
        for body, payload in zip(adapter.bodies, adapter.payloads, strict=True)
        # A session may change in the same way again.
        if not any(isinstance(e, (SessionEvent, QrEvent)) for e in events.parse(payload))
        and not all(isinstance(e, UnsupportedEvent) for e in events.parse(payload))
    ]
    for body in facts:
        first, again = (
            arrivals.prepare(events.name, Arrival.from_body("1", body)) for _ in range(2)
        )
        elsewhere = arrivals.prepare(events.name, Arrival.from_body("2", body))
        assert isinstance(first, Raw)
        assert first.dedupe_key == again.dedupe_key != elsewhere.dedupe_key
        keys.add(first.dedupe_key)
    assert len(keys) == len(set(facts))


def test_no_json_breaks_the_parser(adapter: Adapter) -> None:
    exercise(adapter)
    events, reports = adapter.engine.events, adapter.engine.capabilities.reports

    def read(payload: Any) -> None:
        for event in (*events.parse(payload), *events.parse(events.redact(payload))):
            assert isinstance(event, (UnsupportedEvent, *reports))
            assert isinstance(event.channel_key, str)
        if events.dedupe_key is not None and isinstance(payload, dict):
            key = events.dedupe_key(payload)
            assert 0 < len(key) <= 150

    @settings(max_examples=100)
    @given(payload=json_values)
    def anything(payload: Any) -> None:
        read(payload)

    anything()
    for payload in adapter.payloads:
        for path in paths(payload):
            for value in EDGES:
                read(replaced(payload, path, value))


def paths(value: Any) -> Iterator[tuple[Any, ...]]:
    yield ()
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, item in inner:
        for path in paths(item):
            yield key, *path


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    key, *rest = path
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[key] = replaced(value[key], tuple(rest), new)
    return copy
