"""Messages from a link are history, delayed ones are not; outside messages get statuses."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from channels_app.connections import monitor
from channels_app.models import Channel
from channels_app.providers.events import Receipt
from instances import receiving
from instances.connections import lifecycle
from instances.models import WhatsAppSession
from instances.receive_mode import backfill
from messaging.delivery import accept
from messaging.delivery.statuses import Status, merge_status
from messaging.inbound import journal
from messaging.models import Conversation, Message, PendingEvent
from tests.instances.support import CUSTOMER, NAME, Evolution, read, wait_until
from tests.messaging.support import deliver_due

if TYPE_CHECKING:
    from collections.abc import Sequence

OLD = 3 * 3600


@pytest.fixture(autouse=True)
def _store_messages_sent_outside(channel: Channel) -> None:
    Channel.objects.filter(pk=channel.pk).update(ignore_messages_sent_outside=False)


@pytest.fixture
def linking(by_webhook: WhatsAppSession, evolution: Evolution) -> WhatsAppSession:
    """A session whose phone was unlinked and that displays a code."""
    monitor.state(by_webhook.connection)
    evolution.control("drop", instance=NAME, code=401)
    monitor.state(by_webhook.connection)
    monitor.connect(by_webhook.connection)
    wait_until(lambda: monitor.state(by_webhook.connection).state == "qr")
    return by_webhook


def is_ready(session: WhatsAppSession) -> bool:
    return monitor.state(session.connection).state == "ready"


def is_stored(*ids: str) -> Any:
    """Return a condition: these messages are in their conversations."""
    named = Message.objects.filter(provider_message_id__in=ids)
    return lambda: read() or named.count() == len(ids)


def assert_history_is_in_order() -> None:
    old = Message.objects.filter(provider_message_id__startswith="HISTORY")
    assert old.count() == 6
    assert not Conversation.objects.exclude(unread_count=0).exists()
    for conversation in Conversation.objects.all():
        newest = conversation.messages.latest("created_at")
        assert conversation.last_message_at == newest.created_at
        assert newest.created_at < timezone.now() - dt.timedelta(hours=1)
    read_on_the_phone = old.filter(direction="out").order_by("created_at")
    assert [message.status for message in read_on_the_phone] == ["read", "read"]
    assert not old.exclude(direction="out").exclude(status="").exists()


def test_the_history_of_a_link_is_stored_in_order_and_is_not_unread(
    linking: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("scan", instance=NAME, history=6)
    wait_until(is_stored(*(f"HISTORY{n:04d}" for n in range(1, 7))))
    assert_history_is_in_order()
    wait_until(lambda: is_ready(linking))
    # Evolution's store contains it, too: nothing is stored twice or as new messages.
    fetch(linking)
    assert Message.objects.count() == 6
    assert_history_is_in_order()
    # Later messages of customers are new.
    evolution.writes("oi", id="NEW")
    wait_until(is_stored("NEW"))
    assert Message.objects.get(provider_message_id="NEW").conversation.unread_count == 1


def test_history_fetched_from_evolution_counts_as_history(
    linking: WhatsAppSession, evolution: Evolution
) -> None:
    receive_nothing(evolution)
    evolution.control("scan", instance=NAME, history=6)
    wait_until(lambda: is_ready(linking))
    fetch(linking)
    # The records contain no read status; receipts arrive as updates.
    for message in Message.objects.filter(direction="out"):
        receive(linking, update(message.provider_message_id, "READ"))
    assert_history_is_in_order()


def test_messages_delayed_by_an_outage_are_new(
    linking: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("scan", instance=NAME)
    wait_until(lambda: is_ready(linking))
    linked_at = timezone.now() - dt.timedelta(hours=5)
    WhatsAppSession.objects.update(history_before=linked_at)
    late = int((timezone.now() - dt.timedelta(seconds=OLD)).timestamp())
    evolution.writes("late", id="LATE", timestamp=late)
    older = int((linked_at - dt.timedelta(minutes=5)).timestamp())
    evolution.writes("older", id="OLDER", timestamp=older)
    wait_until(is_stored("LATE", "OLDER"))
    conversation = Conversation.objects.get()
    assert conversation.unread_count == 1
    assert conversation.last_message_at == conversation.last_inbound_at
    assert conversation.last_inbound_at == dt.datetime.fromtimestamp(late, tz=dt.UTC)


@pytest.mark.parametrize("command", [lifecycle.reconnect, monitor.connect])
def test_late_messages_are_new_even_after_a_person_reconnected_the_instance(
    by_webhook: WhatsAppSession, evolution: Evolution, command: Any
) -> None:
    """The login still exists: no code is shown, no phone is linked."""
    assert is_ready(by_webhook)
    evolution.restart()
    assert monitor.state(by_webhook.connection).state == "disconnected"
    command(by_webhook.connection)
    wait_until(lambda: is_ready(by_webhook))
    late = int((timezone.now() - dt.timedelta(seconds=OLD)).timestamp())
    evolution.writes("late", id="LATE", timestamp=late)
    wait_until(is_stored("LATE"))
    assert Conversation.objects.get().unread_count == 1


def test_an_instance_taken_over_already_linked_has_no_history(
    by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    assert is_ready(by_webhook)
    late = int((timezone.now() - dt.timedelta(seconds=OLD)).timestamp())
    evolution.writes("late", id="LATE", timestamp=late)
    wait_until(is_stored("LATE"))
    assert Conversation.objects.get().unread_count == 1


def test_a_recent_message_within_the_history_is_new(
    session: WhatsAppSession,
) -> None:
    now = int(timezone.now().timestamp())
    records = [
        {
            "key": {"remoteJid": f"{CUSTOMER}@s.whatsapp.net", "fromMe": False, "id": id_},
            "message": {"conversation": id_},
            "messageTimestamp": now - age,
        }
        for id_, age in (("OLD", OLD), ("FRESH", 5))
    ]
    receive(session, {"event": "messages.set", "instance": NAME, "data": records})
    assert Message.objects.count() == 2
    assert Conversation.objects.get().unread_count == 1


# -- statuses of messages sent outside -------------------------------------------------------------


STATUSES = ("SERVER_ACK", "DELIVERY_ACK", "READ")


def update(id_: str, status: str) -> dict[str, Any]:
    return {
        "event": "messages.update",
        "instance": NAME,
        "data": {"keyId": id_, "remoteJid": f"{CUSTOMER}@s.whatsapp.net", "fromMe": True}
        | {"status": status},
    }


def typed(id_: str) -> dict[str, Any]:
    """Return the event of a message typed on the phone."""
    key = {"remoteJid": f"{CUSTOMER}@s.whatsapp.net", "fromMe": True, "id": id_}
    message = {"conversation": "do celular"}
    return {
        "event": "messages.upsert",
        "instance": NAME,
        "data": {"key": key, "message": message, "messageTimestamp": 1795300000},
    }


def receive(session: WhatsAppSession, *events: dict[str, Any]) -> None:
    for event in events:
        journal.store_all(receiving.SOURCE, [receiving.raw_event(session.channel_id, event)])
    read()


def test_statuses_of_messages_typed_on_the_phone_advance_in_any_order(
    session: WhatsAppSession,
) -> None:
    for number, order in enumerate(itertools.permutations([*STATUSES, "typed"])):
        id_ = f"OUT{number}"
        events = [typed(id_) if part == "typed" else update(id_, part) for part in order]
        receive(session, *events)
        message = Message.objects.get(provider_message_id=id_)
        assert (message.status, message.sent_outside) == ("read", True), order
        assert message.icon == "globe"
    version = Message.objects.get(provider_message_id="OUT0").version
    receive(session, {**update("OUT0", "READ"), "date_time": "again"})
    assert Message.objects.get(provider_message_id="OUT0").version == version


def test_a_rejected_message_typed_on_the_phone_is_never_sent_by_us(
    session: WhatsAppSession,
) -> None:
    receive(session, typed("OUT"), update("OUT", "ERROR"))
    message = Message.objects.get()
    assert (message.status, message.error_code) == ("rejected", "error")
    deliver_due()
    assert not message.attempts.exists()
    with pytest.raises(accept.NotRetryable):
        accept.retry_message(message, route="official", user=None)
    # A delivery proves more than a failure.
    receive(session, update("OUT", "DELIVERY_ACK"))
    message.refresh_from_db()
    assert (message.status, message.error_code) == ("delivered", "")


def test_a_receipt_of_an_unknown_message_waits(session: WhatsAppSession) -> None:
    receive(session, update("NOBODY", "READ"))
    assert PendingEvent.objects.get().provider_message_id == "NOBODY"


def test_the_status_of_a_message_without_attempts_only_advances() -> None:
    for receipts in itertools.permutations(Receipt):
        status = Status.SENT
        for receipt in receipts:
            status = merge_status(status, receipt)
        assert status == Status.READ
    failed: Sequence[Receipt] = (Receipt.SENT, Receipt.FAILED)
    for receipts in itertools.permutations(failed):
        status = Status.SENT
        for receipt in receipts:
            status = merge_status(status, receipt)
        assert status == Status.REJECTED


def fetch(session: WhatsAppSession) -> None:
    """Fetch the missed messages of the last hour from Evolution's store and process them."""
    backfill.fetch_and_store(session, since=timezone.now() - dt.timedelta(hours=1))
    read()


def receive_nothing(evolution: Evolution) -> None:
    order = {"webhook": {"enabled": False, "url": "", "events": []}}
    assert evolution.call("POST", f"/webhook/set/{NAME}", order).ok
