"""Nothing becomes slower because messages accumulate: indexes, search, clean-up in batches."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from bench import growth, growth_rows, growth_steps
from channels_app.models import Channel
from messaging import contacts, retention, selectors
from messaging.models import Contact, Conversation, InboundEvent, Media, Message

pytestmark = pytest.mark.django_db

# The tables that grow with each message. (A list of all conversations may read all of them.)
GROWING = (
    "messaging_message", "messaging_deliveryattempt", "messaging_inboundevent",
    "messaging_messagewords",
)  # fmt: skip


def test_no_step_reads_a_growing_table_from_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short form of `bench.growth`, with the plan of every statement at the larger size."""
    for name, value in {"JOURNAL_MESSAGES": 2_000, "EXPIRED_EVENTS": 200, "ORPHANS": 5}.items():
        monkeypatch.setattr(growth_rows, name, value)
    growth_rows.fill(20_000)
    scans: dict[str, str] = {}
    explained: set[str] = set()

    def explain(call: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        text = str(sql).lstrip()
        is_query = text.startswith(("SELECT", "UPDATE", "DELETE")) and "messaging_" in text
        if is_query and text not in explained:
            explained.add(text)
            with context["cursor"].connection.cursor() as cursor:
                plan = "\n".join(row[0] for row in cursor.execute(f"EXPLAIN {text}", params))
            if any(f"Seq Scan on {table}" in plan for table in GROWING):
                scans[text] = plan
        return call(sql, params, many, context)

    with connection.execute_wrapper(explain):
        timings = growth_steps.measure(runs=0)

    assert len(explained) > 50
    assert not scans, "\n\n".join(f"{sql}\n{plan}" for sql, plan in scans.items())
    same = {name: asdict(timing) for name, timing in timings.items()}
    measured = {10_000: same, 20_000: same}
    results = growth.judge(measured)
    jobs = [name for name in same if name.startswith("job: ")]
    assert len(jobs) > 10
    assert len(results) == len(same) + len(jobs)
    assert all(result.goal for result in results)
    assert len(list(growth.table(measured))) > len(same)


def test_expired_events_are_deleted_in_batches_with_the_files_that_only_they_had(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    deleted: list[str] = []
    monkeypatch.setattr(
        "messaging.media.embedded_files.default_storage.delete", lambda name: deleted.append(name)
    )

    def event(number: int, file: str, *, days: int, state: str = "done") -> InboundEvent:
        stored = {"data": {"message": {"base64": {"stored": file, "size": 1}}}}
        row = InboundEvent.objects.create(
            source="evolution", source_key="1", dedupe_key=str(number), payload=stored, state=state
        )
        at = timezone.now() - dt.timedelta(days=days)
        InboundEvent.objects.filter(pk=row.pk).update(received_at=at)
        return row

    for number in range(7):
        event(number, f"inbound/old-{number}", days=60)
    event(7, "inbound/shared", days=60)
    event(8, "inbound/attached", days=60)
    event(9, "inbound/waiting", days=60)
    kept = [
        event(10, "inbound/shared", days=1),
        event(11, "inbound/failed", days=60, state="set_aside"),
    ]
    Media.objects.create(file="inbound/attached", size=1)
    Media.objects.create(state="waiting", source={"stored": "inbound/waiting"})

    retention.delete_expired()

    assert list(InboundEvent.objects.order_by("pk")) == kept
    assert sorted(deleted) == [f"inbound/old-{number}" for number in range(7)]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("maria", ["Mariana Álvares"]),
        ("ÁLVARES", ["Mariana Álvares"]),
        ("alvares", ["Mariana Álvares"]),
        ("JOÃO DA", ["João da Silva"]),
        ("joao", ["João da Silva"]),
        ("ja", ["100% Loja"]),
        ("na ál", ["Mariana Álvares"]),
        ("100%", ["100% Loja"]),
        ("(11) 98888", ["João da Silva"]),
        ("7", ["100% Loja", "Mariana Álvares"]),
        ("nobody", []),
    ],
)
def test_the_search_finds_any_part_of_a_name_or_number(
    channel: Channel, search: str, found: list[str]
) -> None:
    for name, number in (
        ("Mariana Álvares", "+5511977771234"),
        ("João da Silva", "+5511988881234"),
        ("100% Loja", "+5521977770000"),
    ):
        contacts.conversation_with(channel, phone_number=number, name=name)

    rows = selectors.conversation_list(search=search)

    assert sorted(row.contact.name for row in rows) == found


def test_a_conversation_without_messages_is_listed_last(channel: Channel) -> None:
    now = timezone.now()
    conversations = [
        Conversation.objects.create(
            channel=channel,
            contact=Contact.objects.create(phone_number=f"+551198888000{number}"),
            last_message_at=at,
        )
        for number, at in enumerate([None, now - dt.timedelta(days=1), now])
    ]
    message = Message.objects.create(
        conversation=conversations[2], direction="in", text="Oi", created_at=now
    )

    page = selectors.with_latest(selectors.conversation_list()[:2])

    assert page == conversations[:0:-1]
    assert [row.latest for row in page] == [message, None]  # type: ignore[attr-defined]
