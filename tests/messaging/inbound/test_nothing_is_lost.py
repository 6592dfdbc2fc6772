"""Any event of any recorded or invented shape leaves a row, a change or a named skip."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels_app.models import Channel, Incident
from channels_app.providers import engines
from channels_app.providers.events import (
    AccountEvent,
    CallEvent,
    ConnectionEvent,
    ContactEvent,
    MessageEvent,
    PreferenceEvent,
    QrEvent,
    SessionEvent,
    UnsupportedEvent,
)
from messaging import words
from messaging.inbound import handlers
from messaging.models import CallAttempt, Contact, Conversation, Message, PendingEvent
from tests import FIXTURES_DIR
from tests.channels_app.providers.evolution import recordings

pytestmark = pytest.mark.django_db

# What may stand where another value is expected.
EDGES: tuple[Any, ...] = (
    None, True, -1, 0, 10**20, 1.5, "", "x", "9" * 30, "2026-11-30T00:00:00Z", [], {}, [{}],
    {"low": -1, "high": 10**30}, {"message": {"conversation": "oi"}}, {"text": 5},
)  # fmt: skip


def samples() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {"cloud": [], "wwebjs": []}
    found["evolution"] = list(recordings.samples().values())
    for folder in ("cases", "cloud"):
        for file in sorted((FIXTURES_DIR / folder).rglob("*.json")):
            for payload in payloads(json.loads(file.read_text())):
                found[source_of(payload)].append(payload)
    lines = (FIXTURES_DIR / "wwebjs" / "webhook_events.jsonl").read_text().splitlines()
    found["wwebjs"] += [json.loads(line)["body"] for line in lines]
    return found


def payloads(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from payloads(item)
    elif isinstance(value, dict):
        if source_of(value):
            yield value
        else:
            yield from payloads(list(value.values()))


def source_of(value: Mapping[str, Any]) -> str:
    if "entry" in value:
        return "cloud"
    if "dataType" in value:
        return "wwebjs"
    return "evolution" if isinstance(value.get("event"), str) else ""


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = (
        value.items() if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list) else ()
    )  # fmt: skip
    for name, inner in items:
        yield (*path, name)
        yield from nodes(inner, (*path, name))


SAMPLES = samples()
NAMES = ("newThing", "type", "message", "caption", "messageType")


@st.composite
def changed(draw: st.DrawFn) -> tuple[str, Any]:
    """A recorded event of which a few parts are replaced, renamed or missing."""
    source = draw(st.sampled_from(sorted(SAMPLES)))
    payload = copy.deepcopy(draw(st.sampled_from(SAMPLES[source])))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from([(), *nodes(payload)]))
        if not path:
            continue
        parent = payload
        for name in path[:-1]:
            parent = parent[name]
        if draw(st.booleans()) or not isinstance(parent, dict):
            parent[path[-1]] = copy.deepcopy(draw(st.sampled_from(EDGES)))
        else:
            value = parent.pop(path[-1])
            parent[draw(st.sampled_from(NAMES))] = value
    return source, payload


def traces() -> list[Any]:
    return [
        *(model.objects.count() for model in (Contact, Conversation, CallAttempt)),
        list(Message.objects.order_by("pk").values_list("pk", "version")),
        list(PendingEvent.objects.order_by("pk").values_list("kind", "payload")),
        list(Conversation.objects.order_by("pk").values_list("controlled_by", "unread_count")),
        list(Contact.objects.order_by("pk").values_list("name", "saved_name", "marketing_stopped")),
        list(Incident.objects.order_by("pk").values_list("kind", "reason", "closed_at")),
    ]


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(event=changed())
def test_any_event_leaves_a_row_a_change_or_a_named_skip(
    make_channel: Callable[..., Channel], event: tuple[str, Any]
) -> None:
    source, payload = event
    channel = Channel.objects.filter(kind=engines.by_source(source).name).first()
    channel = channel or Channel.objects.first()
    if channel is None:
        channel = make_channel(ignore_messages_sent_outside=False)
    items = list(engines.event_source(source).parse(payload))
    assert items, "what has no effect has a name"
    for item in items:
        if isinstance(item, UnsupportedEvent):
            assert item.kind
            continue
        if isinstance(item, (ConnectionEvent, QrEvent, SessionEvent)):
            continue  # they concern sessions, not messages
        handler = handlers.HANDLERS[type(item)]
        with connection.cursor() as cursor:
            cursor.execute("SAVEPOINT before")
        before = traces()
        skipped_as = handler(channel, item)
        first = traces()
        handler(channel, item)
        assert traces() == first, "applying it again has no further effect"
        assert first != before or skipped_as or is_known(channel, item)
        for message in Message.objects.all():
            with_words = words.summary(message.type, message.text, message.content)
            assert with_words or not message.text
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK TO SAVEPOINT before")


def is_known(channel: Channel, item: Any) -> bool:
    """Whether the event says nothing new, or something that is no message: a name, a status."""
    if isinstance(item, AccountEvent):
        return not item.reason  # nothing was wrong
    return isinstance(item, (ContactEvent, CallEvent, PreferenceEvent)) or (
        isinstance(item, MessageEvent) and item.outgoing
    )
