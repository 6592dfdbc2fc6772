"""Events about a message that is not known yet are stored until it is."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from channels_app.models import Channel
from channels_app.providers.base import Accepted
from channels_app.providers.events import (
    EditEvent,
    Event,
    MediaEvent,
    MessageEvent,
    ReactionEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
    VoteEvent,
)
from messaging import retention
from messaging.delivery import attempts
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import handlers, journal, pending_events
from messaging.models import InboundEvent, Message, PendingEvent
from simulators.graph.app import make_wamid
from tests.messaging.support import accept, attempt_of, envelope, post, read_events

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db

ID = "3AF0701"
NOW = dt.datetime(2026, 11, 1, 9, tzinfo=dt.UTC)
EARLIER, LATER = NOW + dt.timedelta(minutes=1), NOW + dt.timedelta(minutes=2)


def received(type_: str = "text", text: str = "antes", *, outgoing: bool = False) -> MessageEvent:
    return MessageEvent("", ID, "+5511910000013", NOW, type_, text, outgoing=outgoing)


def read(channel: Channel, *events: Event) -> None:
    for event in events:
        handlers.HANDLERS[type(event)](channel, event)


def evolution_event(name: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"event": name, "instance": "oficina_demo", "data": data}


def upsert(id_: str, text: str) -> dict[str, Any]:
    key = {"remoteJid": "5511910000013@s.whatsapp.net", "fromMe": False, "id": id_}
    data = {"key": key, "pushName": "Lia", "status": "DELIVERY_ACK"}
    data |= {"message": {"conversation": text}, "messageType": "conversation"}
    return evolution_event("messages.upsert", data | {"messageTimestamp": int(NOW.timestamp())})


def test_evolution_edits_and_deletions_before_their_messages_are_not_lost(
    baileys: Channel,
) -> None:
    address = {"remoteJid": "5511910000013@s.whatsapp.net", "fromMe": False}
    edit = {"key": {**address, "id": "3AF0701"}, "type": "MESSAGE_EDIT"}
    edit["editedMessage"] = {"conversation": "depois"}
    payloads = [
        evolution_event("messages.edited", edit),
        upsert("3AF0701", "antes"),
        evolution_event("messages.delete", {**address, "id": "3AF0702", "status": "DELETED"}),
        upsert("3AF0702", "apagada"),
    ]
    for number, payload in enumerate(payloads):
        journal.store(
            source=InboundEvent.Source.EVOLUTION,
            source_key=str(baileys.pk),
            dedupe_key=f"test:{number}",
            payload=payload,
        )
        read_events()

    first, second = Message.objects.order_by("provider_message_id")
    assert first.text == "depois"
    assert first.edited_at
    assert second.revoked_at
    assert not PendingEvent.objects.exists()


def state_of(message: Message) -> Any:
    message.refresh_from_db()
    file = message.media.source if message.media else None
    return message.text, message.edited_at, message.revoked_at, file


@pytest.mark.parametrize("outgoing", [False, True])
def test_order_and_repetition_of_events_do_not_change_the_result(
    channel: Channel, outgoing: bool
) -> None:
    """A photo whose caption was edited twice, whose file came separately, and which was deleted."""
    channel.ignore_messages_sent_outside = False
    channel.save()
    events: list[Event] = [
        received("image", outgoing=outgoing),
        EditEvent("", ID, "depois", EARLIER),
        EditEvent("", ID, "por fim", LATER),
        RevokeEvent("", ID, LATER),
        MediaEvent("", ID, "inbound/a.bin", "a.jpg"),
    ]
    dice = random.Random(12)
    orders = list(itertools.permutations(events))
    for order in dice.sample(orders, 25):
        repeated = [*order, *dice.choices(events, k=3)]
        read(channel, *repeated)
        message = Message.objects.get()
        assert state_of(message) == ("por fim", LATER, LATER, {"stored": "inbound/a.bin"}), repeated
        message.delete()
        PendingEvent.objects.all().delete()


def test_an_edit_is_applied_once_its_send_returns(channel: Channel) -> None:
    message = accept(channel, text="antes")
    attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)
    read(
        channel,
        EditEvent("", ID, "depois", LATER),
        EditEvent("", ID, "entre", EARLIER),
        RevokeEvent("", ID, LATER),
        ReceiptEvent("", ID, Receipt.DELIVERED),
    )
    assert state_of(message)[0] == "antes"

    attempts.record_result(attempt, Accepted(ID))

    assert state_of(message)[:3] == ("depois", LATER, LATER)
    assert message.status == "delivered"
    assert not PendingEvent.objects.exists()


def test_an_edit_of_an_unlinked_echo_is_applied_to_the_original(
    channel: Channel,
) -> None:
    """The echo of our own send is read first, then the edit, then the provider's response."""
    channel.ignore_messages_sent_outside = False
    channel.save()
    original = accept(channel, to="+5511910000013", text="Com outras palavras")
    attempt = attempt_of(original, outcome=Outcome.STARTED, route=Route.WWEBJS)
    read(channel, received(outgoing=True), EditEvent("", ID, "depois", EARLIER))
    echo = Message.objects.get(provider_message_id=ID)
    assert state_of(echo)[0] == "depois"

    attempts.record_result(attempt, Accepted(ID))

    assert state_of(original)[:2] == ("depois", EARLIER)


@pytest.mark.parametrize("together", [False, True])
def test_nobody_else_changes_a_message_whenever_the_change_comes(
    channel: Channel, together: bool
) -> None:
    """B names A's messages and ours. Each refusal is counted on the event that brought it."""
    ana, beto = "5511910000013", "5511910000014"
    ours = accept(channel, to=f"+{ana}", text="nossa")
    attempt = attempt_of(ours, outcome=Outcome.STARTED, route=Route.OFFICIAL)
    mine = {"from": ana, "type": "text", "text": {"body": "de Ana"}, "timestamp": "1749416383"}
    known = {"from": beto, "type": "text", "text": {"body": "de Beto"}, "timestamp": "1749416383"}
    attacks = [
        {"id": f"wamid.E{number}", "from": by, "type": kind, "timestamp": "1749416384",
         kind: {"original_message_id": target, "message": {"type": "text", "text": {"body": "x"}}}}
        for number, (by, kind, target) in enumerate(
            [(ana, "edit", "wamid.OUT"), (ana, "revoke", "wamid.OUT"),
             (beto, "edit", "wamid.1"), (beto, "revoke", "wamid.1"),
             (beto, "edit", "wamid.2"), ("5511910000015", "revoke", "wamid.2")]
        )
    ]  # fmt: skip
    messages = [{**known, "id": "wamid.B"}, {**mine, "id": "wamid.2"}, *attacks]
    for message in [*messages, {**mine, "id": "wamid.1"}]:
        post(envelope({"messages": [message]}, channel))
        if not together:
            read_events()
    read_events()
    attempts.record_result(attempt, Accepted("wamid.OUT"))

    assert state_of(ours)[:3] == ("nossa", None, None)
    received = Message.objects.filter(direction="in").order_by("provider_message_id")
    assert [state_of(message)[:3] for message in received] == [
        ("de Ana", None, None), ("de Ana", None, None), ("de Beto", None, None),
    ]  # fmt: skip
    refused = InboundEvent.objects.filter(skipped="change:not_the_author").order_by("pk")
    names = [e.payload["entry"][0]["changes"][0]["value"]["messages"][0]["id"] for e in refused]
    assert names == [attack["id"] for attack in attacks]
    assert not InboundEvent.objects.exclude(pk__in=refused).exclude(skipped="").exists()


def test_a_customer_has_one_reaction_and_vote_under_whatever_address(channel: Channel) -> None:
    by_phone, by_id = "+5511910000013", "BR.1"
    read(
        channel,
        received("poll"),
        ReactionEvent("", ID, by_phone, "👍", EARLIER),
        VoteEvent("", ID, by_phone, ("a", "b"), EARLIER),
        ReactionEvent("", ID, by_id, "", LATER),
        VoteEvent("", ID, "99@lid", ("a",), LATER),
        ReactionEvent("", ID, "us", "🙏", LATER),
        # What was read late is not the latest.
        ReactionEvent("", ID, by_phone, "👍", EARLIER),
    )
    message = Message.objects.get()
    assert [(one["by"], one["emoji"]) for one in message.reactions] == [(by_id, ""), ("us", "🙏")]
    assert [(one["by"], one["chosen"]) for one in message.votes] == [("99@lid", ["a"])]


def test_a_reaction_under_another_wamid_of_the_message_waits_for_it(channel: Channel) -> None:
    by_number, by_user_id = make_wamid("5511910000013", "3EB01"), make_wamid("BR.1", "3EB01")
    reaction = ReactionEvent("", by_user_id, "+5511910000013", "👍", LATER)
    read(channel, reaction)
    read(channel, replace(received(), provider_message_id=by_number))
    assert [one["emoji"] for one in Message.objects.get().reactions] == ["👍"]
    assert not PendingEvent.objects.exists()


def test_a_pending_event_belongs_to_its_channel(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    other = make_channel()
    read(other, RevokeEvent("", ID))
    read(channel, received())
    assert Message.objects.get().revoked_at is None
    assert PendingEvent.objects.get().channel == other


def test_looking_up_a_message_does_not_touch_other_channels(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    """It uses an index and does not lock another channel's message with the same id."""
    other = make_channel()
    read(channel, received())
    read(other, received())
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        read(channel, EditEvent("", ID, "depois", LATER))
    selects = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    [locking] = [sql for sql in selects if "FOR UPDATE" in sql]
    other_message = str(Message.objects.get(conversation__channel=other).pk)
    assert other_message not in locking
    plans = ""
    with connection.cursor() as cursor:
        for sql in selects:
            cursor.execute(f"EXPLAIN {sql}")
            plans += "\n".join(line for (line,) in cursor.fetchall()) + "\n"
    assert "Seq Scan on messaging_message" not in plans
    assert "by_key" in plans
    texts = Message.objects.order_by("conversation__channel").values_list("text", flat=True)
    assert list(texts) == ["depois", "antes"]


def test_old_pending_events_are_deleted_with_their_files(channel: Channel, settings: Any) -> None:
    settings.INBOUND_RETENTION_DAYS = 1
    for name in ("old", "new"):
        default_storage.save(f"inbound/{name}.bin", ContentFile(b"x"))
        read(channel, MediaEvent("", name, f"inbound/{name}.bin"))
    old = PendingEvent.objects.filter(provider_message_id="old")
    old.update(received_at=timezone.now() - dt.timedelta(days=8))

    retention.delete_expired()

    assert PendingEvent.objects.get().provider_message_id == "new"
    assert not default_storage.exists("inbound/old.bin")
    assert default_storage.exists("inbound/new.bin")


@pytest.mark.django_db(transaction=True)
def test_a_result_locks_the_id_before_the_message_as_the_reader_of_events_does(
    channel: Channel,
) -> None:
    attempt = attempt_of(accept(channel), outcome=Outcome.STARTED, route=Route.OFFICIAL)

    def record() -> None:
        try:
            attempts.record_result(attempt, Accepted("wamid.X"))
        finally:
            connection.close()

    worker = threading.Thread(target=record)
    with transaction.atomic():
        pending_events.lock_id(channel.pk, "wamid.X")
        worker.start()
        wait_for_advisory_lock()
        # In the other order this would be a deadlock.
        Message.objects.select_for_update(nowait=True).get(pk=attempt.message_id)
    worker.join(10)
    attempt.refresh_from_db()
    assert (attempt.outcome, attempt.provider_message_id) == ("accepted", "wamid.X")


def wait_for_advisory_lock() -> None:
    """Wait until another transaction waits for an advisory lock."""
    until = time.monotonic() + 10
    with connection.cursor() as cursor:
        while time.monotonic() < until:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype='advisory' AND NOT granted"
            )
            if cursor.fetchone()[0]:
                return
    raise AssertionError("nobody waits for the id")
