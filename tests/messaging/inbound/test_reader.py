"""Reading events together gives the same rows as applying each by itself."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels_app.models import Channel, Connection, Incident
from channels_app.providers.events import (
    EditEvent,
    Event,
    Failure,
    MessageEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
    UnsupportedEvent,
)
from messaging.delivery import receipts
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import handlers, journal, reader
from messaging.models import DeliveryAttempt, InboundEvent, Message, PendingEvent
from tests.messaging.support import accept, attempt_of, jobs, post, read_events, status

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.django_db

NUMBER = "number"
# What the events name: (message, attempt's number, provider id), as `sends` creates them.
NAMED = [
    ("accepted", 1, "wamid.accepted"),
    ("accepted", 1, "wamid.another"),
    ("no id yet", 1, "wamid.late"),
    ("started", 1, "wamid.started"),
    ("unknown", 1, "wamid.unknown"),
    ("probe", 1, "wamid.probe"),
    ("delivered late", 1, "wamid.rejected"),
    ("by the fallback", 1, "wamid.refused"),
    ("by the fallback", 2, "3EB0F"),
    ("by the fallback", 3, "wamid.no-such-attempt"),
]
FAILURES = [Failure("131026", "Undeliverable"), Failure("131047", "Re-engagement"), None]


def sends(channel: Channel) -> dict[str, Message]:
    """Create one message in each state that an event may find."""
    now = timezone.now()
    accepted: dict[str, Any] = {"outcome": Outcome.ACCEPTED, "route": Route.OFFICIAL}
    messages = {}

    def create(name: str, *attempts: dict[str, Any]) -> None:
        message = messages[name] = accept(channel, f"+55119888877{len(messages):02d}", text=name)
        for number, values in enumerate(attempts, 1):
            finished_at = None if values["outcome"] == Outcome.STARTED else now
            attempt_of(message, number=number, finished_at=finished_at, **values)

    create("accepted", {**accepted, "provider_message_id": "wamid.accepted"})
    create("no id yet", accepted)
    create("started", {**accepted, "outcome": Outcome.STARTED})
    create("unknown", {**accepted, "outcome": Outcome.UNKNOWN, "error_code": "timeout"})
    create("probe", {**accepted, "rule": "probe", "provider_message_id": "wamid.probe"})
    create(
        "delivered late",
        {**accepted, "outcome": Outcome.REJECTED, "error_code": "131026",
         "receipt": "failed", "provider_message_id": "wamid.rejected"},
    )  # fmt: skip
    create(
        "by the fallback",
        {**accepted, "outcome": Outcome.REJECTED, "error_code": "131047"},
        {**accepted, "route": Route.WWEBJS, "provider_message_id": "3EB0F"},
    )
    outside = messages["accepted"].conversation
    Message.objects.create(
        conversation=outside, direction="out", status="sent", route="wwebjs", sent_outside=True,
        provider_message_id="3EB0F", text="by hand", created_at=now,
    )  # fmt: skip
    # A receipt of the probe closes it.
    Connection.objects.filter(channel=channel, provider=Route.OFFICIAL).update(
        breaker_opened_at=now, breaker_late=True
    )
    return messages


def events_about(messages: dict[str, Message]) -> st.SearchStrategy[Event]:
    """Generate events about these messages, or about none of them."""
    at = timezone.now() - dt.timedelta(seconds=5)

    def receipt(
        named: tuple[str, int, str], reported: Receipt, by_reference: bool, failure: Failure | None
    ) -> Event:
        name, number, id_ = named
        return ReceiptEvent(
            NUMBER, id_, reported,
            reference=f"{messages[name].pk}.{number}" if by_reference else "",
            failure=failure if reported == Receipt.FAILED else None,
        )  # fmt: skip

    ids = st.sampled_from([id_ for _, _, id_ in NAMED])
    reported = st.sampled_from([Receipt.SENT, Receipt.DELIVERED, Receipt.READ])
    simple = st.builds(receipt, st.sampled_from(NAMED), reported, st.booleans(), st.none())
    failed = st.builds(
        receipt, st.sampled_from(NAMED), st.just(Receipt.FAILED), st.booleans(),
        st.sampled_from(FAILURES),
    )  # fmt: skip
    other = st.one_of(
        failed,
        st.builds(lambda id_: EditEvent(NUMBER, id_, "edited", at), ids),
        st.builds(lambda id_: RevokeEvent(NUMBER, id_, at), ids),
        st.builds(
            lambda n: MessageEvent(NUMBER, f"wamid.in.{n}", "+5511977776666", at, "text", "Oi"),
            st.integers(0, 2),
        ),
        st.just(UnsupportedEvent(NUMBER, "event:odd")),
        st.just(ReceiptEvent("another number", "wamid.accepted", Receipt.READ)),
    )
    return st.one_of(simple, simple, simple, other)


def rows(model: Any, *fields: str) -> list[Any]:
    """Return the rows' values; of a time, only whether it is set."""
    values = model.objects.values_list(*fields)
    return sorted(([isinstance(v, dt.datetime) or v for v in row] for row in values), key=repr)


def everything() -> dict[str, Any]:
    """Return all rows that reading may change, without times and versions."""
    return {
        "messages": rows(
            Message, "direction", "text", "status", "route", "error_code", "error_title",
            "decision", "provider_message_id", "edited_at", "revoked_at",
        ),
        "attempts": rows(
            DeliveryAttempt, "message__text", "number", "outcome", "receipt", "error_code",
            "provider_message_id", "finished_at",
        ),
        "pending": rows(PendingEvent, "provider_message_id", "kind"),
        "journal": rows(InboundEvent, "dedupe_key", "state", "error", "skipped"),
        "connections": rows(Connection, "id", "health", "breaker_opened_at"),
        "incidents": rows(Incident, "reason", "closed_at"),
        "jobs": sorted((job.task_name, str(job.args)) for job in jobs()),
    }  # fmt: skip


def read(parts: Sequence[Sequence[Sequence[Event]]], channel: Channel) -> dict[str, Any]:
    """Store and read the parts one after the other; undo it and return the rows at its end."""
    with transaction.atomic():
        number = 0
        for part in parts:
            for items in part:
                CONTENT[number] = items
                journal.store(
                    source="cloud", source_key=str(channel.pk), dedupe_key=f"e{number}",
                    payload={"number": number},
                )  # fmt: skip
                number += 1
            reader.read_pending("cloud", str(channel.pk))
        end = everything()
        transaction.set_rollback(True)
    return end


CONTENT: dict[int, Sequence[Event]] = {}


@pytest.fixture
def given_events(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> dict[str, Message]:
    """Let stored events contain the neutral events in CONTENT."""
    monkeypatch.setattr(handlers, "parse", lambda event: CONTENT[event.payload["number"]])
    monkeypatch.setattr(handlers, "channels_of", lambda *source: {NUMBER: channel})
    return sends(channel)


def test_reading_together_gives_the_rows_of_reading_one_by_one(
    channel: Channel, given_events: dict[str, Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    event = st.lists(events_about(given_events), min_size=1, max_size=3)
    parts = st.lists(st.lists(event, min_size=6, max_size=12), min_size=1, max_size=2)
    together: list[bool] = []
    real = receipts.record_simple

    def noted(groups: Sequence[receipts.Group]) -> list[bool]:
        recorded = real(groups)
        together.extend(recorded)
        return recorded

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(parts)
    def same(parts: Sequence[Sequence[Sequence[Event]]]) -> None:
        monkeypatch.setattr(receipts, "record_simple", noted)
        as_read = read(parts, channel)
        monkeypatch.setattr(receipts, "record_simple", lambda groups: [False] * len(groups))
        assert as_read == read(parts, channel)

    same()
    assert {True, False} == set(together)


def test_a_burst_of_statuses_takes_few_statements_and_one_version_a_message(
    channel: Channel,
) -> None:
    messages = [accept(channel, f"+55119888877{number:02d}") for number in range(40)]
    for message in messages:
        attempt_of(
            message, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL, finished_at=timezone.now(),
            provider_message_id=f"wamid.{message.pk}",
        )  # fmt: skip
        for reported in ("read", "sent", "delivered"):
            post(status(message, reported, channel=channel, id=f"wamid.{message.pk}"))
    with CaptureQueriesContext(connection) as queries:
        read_events()
    assert set(Message.objects.values_list("status", "version")) == {("read", 2)}
    assert set(DeliveryAttempt.objects.values_list("receipt", flat=True)) == {"read"}
    assert set(InboundEvent.objects.values_list("state", flat=True)) == {"done"}
    assert len(queries) < 25, [query["sql"][:90] for query in queries]


def test_an_error_in_reading_together_is_found_by_reading_one_by_one(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = accept(channel)
    attempt_of(
        message, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL, finished_at=timezone.now(),
        provider_message_id="wamid.1",
    )  # fmt: skip

    def broken(groups: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(receipts, "record_simple", broken)
    post(status(message, "read", channel=channel))
    read_events()
    message.refresh_from_db()
    assert message.status == "read"
    assert InboundEvent.objects.get().state == "done"
