"""Turning journal events into contacts, conversations and messages."""

from __future__ import annotations

import datetime as dt
import hmac
import json
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models.signals import post_init
from django.utils import timezone

from channels_app.models import Channel
from channels_app.providers.events import MessageEvent
from messaging import contacts, selectors
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import handlers, pending_events, reader
from messaging.inbound.authentication import Received
from messaging.models import Contact, Conversation, InboundEvent, Message, PendingEvent
from tests import FIXTURES_DIR
from tests.factories import change_channel
from tests.messaging.support import accept, attempt_of, envelope, post, read_events, status

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.django_db

FIXTURES = FIXTURES_DIR / "cloud"


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def receive(payload: Any) -> InboundEvent:
    """Receive and read one payload."""
    assert post(payload) == Received.STORED
    read_events()
    return InboundEvent.objects.order_by("-id")[0]


def text(
    body: str = "Oi", *, channel: Channel, id: str = "wamid.IN", name: str = "", **message: Any
) -> Any:
    """Meta's payload of a received text; None removes a field."""
    fields = {
        "from": message.pop("from_", "5511999990000"),
        "id": id,
        "timestamp": "1749416383",
        "type": "text",
        "text": {"body": body},
        **message,
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    contact = {
        "profile": {"name": name},
        "wa_id": fields.get("from"),
        "user_id": fields.get("from_user_id"),
    }
    return envelope({"messages": [fields], "contacts": [contact]}, channel)


# -- received messages -----------------------------------------------------------------------------


def test_a_customers_text_becomes_a_message_of_a_conversation(channel: Channel) -> None:
    event = receive(text("Bom dia", channel=channel, name="Ana"))

    message = Message.objects.get()
    assert (event.state, event.error) == ("done", "")
    assert event.processed_at
    assert (message.direction, message.type, message.text) == ("in", "text", "Bom dia")
    assert (message.status, message.route, message.icon) == ("", None, "")
    assert message.provider_message_id == "wamid.IN"
    conversation = message.conversation
    assert (conversation.channel, conversation.unread_count) == (channel, 1)
    assert conversation.last_message_at == conversation.last_inbound_at == message.created_at
    assert (conversation.contact.phone_number, conversation.contact.name) == (
        "+5511999990000",
        "Ana",
    )
    assert str(conversation) == "Ana · Oficial"


def test_the_same_message_reported_twice_is_stored_once(channel: Channel) -> None:
    receive(text(channel=channel))
    receive({**text(channel=channel), "delivered": "again"})
    assert Message.objects.count() == 1
    assert Conversation.objects.get().unread_count == 1


def test_an_event_received_twice_is_stored_once(channel: Channel) -> None:
    assert post(text(channel=channel)) == post(text(channel=channel)) == Received.STORED
    assert InboundEvent.objects.count() == 1


def test_recorded_payloads_are_read_without_an_error(channel: Channel) -> None:
    for file in sorted(FIXTURES.glob("*.json")):
        event = receive(json.loads(file.read_text()))
        assert (event.state, event.error) == ("done", ""), file.name
    assert Message.objects.count() == 1 + 2 + 6  # and a reaction
    # Echoes are ignored unless the channel shows messages sent outside.
    assert not Message.objects.filter(sent_outside=True).exists()


def test_a_message_sent_outside_is_shown_if_the_channel_allows_it(channel: Channel) -> None:
    channel.ignore_messages_sent_outside = False
    channel.save()
    receive(recorded("echoes"))
    message = Message.objects.get()
    assert (message.direction, message.status, message.sent_outside) == ("out", "sent", True)
    assert message.icon == "sent"
    assert message.conversation.unread_count == 0
    assert message.conversation.last_inbound_at is None


def test_an_older_message_does_not_move_the_conversation_back(channel: Channel) -> None:
    receive(text(channel=channel, timestamp="1749416383"))
    receive(text(channel=channel, timestamp="1749416000", id="wamid.older"))
    conversation = Conversation.objects.get()
    assert conversation.last_message_at == dt.datetime.fromtimestamp(1749416383, dt.UTC)
    assert conversation.last_inbound_at == conversation.last_message_at
    assert conversation.unread_count == 2


def test_a_fast_clock_does_not_keep_a_message_at_the_end(channel: Channel) -> None:
    receive(text(channel=channel, timestamp="4102444800"))
    assert Message.objects.get().created_at <= timezone.now()


def test_a_reply_references_the_quoted_message(channel: Channel) -> None:
    sent = accept(channel, to="+5511999990000")
    attempt_of(
        sent, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL, provider_message_id="wamid.OUT"
    )
    receive(text(channel=channel, id="wamid.1", context={"id": "wamid.OUT"}))
    receive(text(channel=channel, id="wamid.2", context={"id": "wamid.1"}))
    receive(text(channel=channel, id="wamid.3", context={"id": "wamid.unknown"}))
    received = Message.objects.filter(direction="in")
    quoted = [message.reply_to for message in received.order_by("provider_message_id")]
    assert quoted == [sent, received.get(provider_message_id="wamid.1"), None]


def test_writing_to_a_customer_marks_the_conversation_as_read(channel: Channel) -> None:
    receive(text(channel=channel))
    accept(channel, to="+5511999990000")
    assert Conversation.objects.get().unread_count == 0


def test_long_or_invalid_text_is_stored_as_far_as_possible(channel: Channel) -> None:
    event = receive(
        text("a\x00b\ud83d", channel=channel, name="N" * 500, type="text", x=float("inf"))
    )
    assert (event.state, event.error) == ("done", "")
    message = Message.objects.get()
    assert message.text == "ab?"
    assert message.conversation.contact.name == "N" * 200
    long = [{"code": "9" * 100, "title": "t" * 500, "error_data": {"details": "d" * 9000}}]
    event = receive(
        status(message, "failed", channel=channel, errors=long, with_reference=False, id="w" * 255)
    )
    assert (event.state, event.error) == ("done", "")


# -- contacts --------------------------------------------------------------------------------------


def test_the_ninth_digit_does_not_create_another_contact(channel: Channel) -> None:
    sent = accept(channel, to="+5531987654321")
    receive(text(channel=channel, from_="553187654321"))
    assert Conversation.objects.get() == sent.conversation
    assert Contact.objects.get().phone_number == "+5531987654321"


def test_a_customer_of_two_channels_has_two_conversations(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    other = make_channel()
    receive(text(channel=channel))
    receive(text(channel=other))
    assert Contact.objects.count() == 1
    assert Conversation.objects.count() == 2


def test_a_customer_without_a_phone_number_is_identified_by_id(channel: Channel) -> None:
    payload = text(channel=channel, name="Ana", from_=None, from_user_id="BR.1")
    receive(payload)
    contact = Contact.objects.get()
    assert (contact.phone_number, contact.user_id) == (None, "BR.1")
    assert str(contact) == "Ana"
    receive(text(channel=channel, id="wamid.2", from_user_id="BR.1"))
    contact.refresh_from_db()
    assert contact.phone_number == "+5511999990000"
    assert Conversation.objects.count() == 1


def test_a_profile_name_is_followed_unless_a_person_gave_the_name(channel: Channel) -> None:
    for id_, name in (("1", "Ana"), ("2", "ana.s2"), ("3", "")):
        receive(text(channel=channel, id=f"wamid.{id_}", name=name))
    assert Contact.objects.get().name == "ana.s2"
    Contact.objects.update(name="Dona Ana", named_by_staff=True)
    receive(text(channel=channel, id="wamid.4", name="Ana"))
    assert Contact.objects.get().name == "Dona Ana"


# -- the channel of an event -----------------------------------------------------------------------


def test_an_event_for_a_number_without_a_channel_is_stored_without_effect(
    channel: Channel,
) -> None:
    channel.phone_number_id = "999"
    event = receive(text(channel=channel))
    assert event.state == "done"
    assert not Message.objects.exists()


def test_an_event_signed_by_another_app_does_not_affect_our_channel(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    make_channel(app_secret="another-secret")
    assert post(text(channel=channel), secret="another-secret") == Received.STORED
    read_events()
    assert not Message.objects.exists()


def test_an_event_received_by_two_apps_is_applied_for_the_channels_own_app(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    make_channel(app_secret="another-secret")
    post(text(channel=channel), secret="another-secret")
    post(text(channel=channel))
    read_events()
    assert Message.objects.count() == 1


def test_the_cost_of_an_event_does_not_depend_on_the_number_of_channels(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    """Reading loads only the channels that it names; receiving hashes it once per app."""

    def cost() -> tuple[int, int]:
        hashed: list[bytes] = []

        def count(secret: bytes, body: bytes, digest: Any) -> Any:
            hashed.append(secret)
            return real(secret, body, digest)

        with patch("messaging.inbound.keys.hmac.new", count):
            post({"number": Channel.objects.count()})
            post(text(channel=channel, id=f"wamid.{Channel.objects.count()}"))
        loaded: list[Channel] = []

        def note(instance: Channel, **kwargs: Any) -> None:
            loaded.append(instance)

        post_init.connect(note, sender=Channel)
        read_events()
        post_init.disconnect(note, sender=Channel)
        return len(hashed), len(loaded)

    real = hmac.new
    cost_of_one = cost()
    for _ in range(5):
        make_channel()
    assert cost() == cost_of_one
    assert Message.objects.count() == 2
    apps_channels = handlers.channels_of("cloud", str(channel.pk))
    assert apps_channels[channel.phone_number_id] == channel
    assert apps_channels.get("999") is None
    assert apps_channels.get("") is None


def test_an_event_of_a_deleted_channel_has_no_effect(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    other = make_channel(app_secret="another-secret")
    post(text(channel=other), secret="another-secret")
    other.delete()
    read_events()
    assert InboundEvent.objects.get().state == "done"


# -- the journal -----------------------------------------------------------------------------------


def test_an_event_that_fails_is_recorded_and_the_next_one_is_read(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = handlers.apply_events

    def broken(items: Any, channels: Any) -> dict[str, int]:
        items = list(items)
        counts = real(items, channels)
        if any(item.text == "poison" for item in items):
            raise ZeroDivisionError("no way")
        return counts

    monkeypatch.setattr(handlers, "apply_events", broken)
    post(text("poison", channel=channel, id="wamid.1"))
    post(text("fine", channel=channel, id="wamid.2"))
    read_events()

    first, second = InboundEvent.objects.order_by("id")
    assert (first.state, first.error) == ("set_aside", "ZeroDivisionError: no way")
    assert (second.state, second.error) == ("done", "")
    assert Message.objects.get().text == "fine"

    monkeypatch.undo()
    channels = handlers.channels_of(first.source, first.source_key)
    reader.read_one(first, channels)
    reader.read_one(first, channels)
    assert (first.state, first.error) == ("done", "")
    assert Message.objects.count() == 2


def test_events_of_a_source_are_read_in_order_in_batches(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "BATCH", 2)
    for number in range(5):
        post(text(str(number), channel=channel, id=f"wamid.{number}"))
    post({"another": "source"})
    InboundEvent.objects.filter(payload__another="source").update(source_key="other")
    read: list[str] = []
    real = handlers.apply_events

    def note(items: Any, channels: Any) -> dict[str, int]:
        items = list(items)
        read.extend(item.text for item in items)
        return real(items, channels)

    monkeypatch.setattr(handlers, "apply_events", note)
    reader.read_pending("cloud", str(channel.pk))
    assert read == ["0", "1", "2", "3", "4"]
    assert InboundEvent.objects.get(state="pending").source_key == "other"


@pytest.mark.django_db(transaction=True)
def test_an_event_of_any_size_is_read_with_few_locks_at_a_time(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL's lock table holds a few thousand locks, of all connections together."""
    most: list[int] = []
    ids: list[str] = []

    def take_lock(channel: Channel, event: MessageEvent) -> None:
        pending_events.lock_id(channel.pk, event.provider_message_id)
        ids.append(event.provider_message_id)
        if len(ids) % 100 == 0:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM pg_locks"
                    " WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                )
                most.append(cursor.fetchone()[0])

    monkeypatch.setitem(handlers.HANDLERS, MessageEvent, take_lock)
    sizes = [1, 2500, 300, 300, 1]
    for number, size in enumerate(sizes):
        body = text(channel=channel)
        value = body["entry"][0]["changes"][0]["value"]
        value["messages"] = [
            {**value["messages"][0], "id": f"wamid.{number}.{n}"} for n in range(size)
        ]
        assert post(body) == Received.STORED
    reader.read_pending("cloud", str(channel.pk))
    expected = [f"wamid.{number}.{n}" for number, size in enumerate(sizes) for n in range(size)]
    assert ids == expected, "each once, in their order"
    assert max(most) <= reader.MAX_EVENTS_PER_TRANSACTION + 1, "the source's lock, too"
    states = InboundEvent.objects.values_list("state", "error", "skipped").distinct()
    assert set(states) == {("done", "", "")}


def test_a_deadlock_does_not_fail_the_event(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OperationalError("deadlock detected")] * 2
    real = handlers.apply_events

    def unlucky(items: Any, channels: Any) -> dict[str, int]:
        if failures:
            raise failures.pop()
        return real(items, channels)

    monkeypatch.setattr(handlers, "apply_events", unlucky)
    monkeypatch.setattr("messaging.inbound.reader.connection.close", lambda: None)
    assert receive(text(channel=channel)).state == "done"


def test_an_event_stays_pending_during_a_database_outage(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(items: Any, channels: Any) -> dict[str, int]:
        raise OperationalError("gone")

    monkeypatch.setattr(handlers, "apply_events", away)
    monkeypatch.setattr("messaging.inbound.reader.connection.close", lambda: None)
    post(text(channel=channel))
    with pytest.raises(OperationalError):
        read_events()
    assert InboundEvent.objects.get().state == "pending"


def test_repeated_and_reordered_events_give_the_same_result(
    channel: Channel,
) -> None:
    message = accept(channel, to="+5511999990000")
    attempt_of(message, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL)
    events = [
        status(message, "sent", channel=channel),
        text(channel=channel),
        status(message, "read", channel=channel),
        status(message, "delivered", channel=channel),
    ]

    def state() -> Any:
        message.refresh_from_db()
        conversation = Conversation.objects.get()
        return (
            message.status,
            Message.objects.count(),
            conversation.unread_count,
            PendingEvent.objects.count(),
        )

    for payload in events:
        receive(payload)
    end = state()
    for number, payload in enumerate([*reversed(events), *events]):
        receive({**payload, "told": number})
    assert state() == end == ("read", 2, 1, 0)


_PREVIEW = {"type": "unsupported", "text": None, "errors": [{"code": 131051, "title": "x"}]}


@pytest.mark.parametrize(
    "without",
    [
        _PREVIEW,
        _PREVIEW | {"unsupported": {"type": "edit"}},
        {"type": "unknown", "text": None},
    ],
)
def test_a_message_that_first_came_without_its_content_is_filled_as_if_it_had_come_with_it(
    channel: Channel, without: dict[str, Any]
) -> None:
    """In any order and repeated: content, quote, answer, unread, window, name."""
    asked = Message.objects.create(
        conversation=contacts.conversation_with(channel, phone_number="+5511999990000"),
        direction="in", text="Qual?", provider_message_id="wamid.Q",
        created_at=timezone.now() - dt.timedelta(days=400),
    )  # fmt: skip
    context = {"id": "wamid.Q", "forwarded": True}
    whole = text("Este", channel=channel, name="Ana", context=context)
    empty = text(channel=channel, **without)

    def state() -> Any:
        message = Message.objects.exclude(pk=asked.pk).get()
        conversation = Conversation.objects.select_related("contact").get()
        return (
            [message.type, message.text, message.content, message.context, message.reply_to],
            [conversation.unread_count, conversation.last_inbound_at, conversation.contact.name],
        )

    ends = []
    for order in ([whole], [empty, whole], [whole, empty], [empty, whole, empty, whole]):
        with transaction.atomic():
            for number, payload in enumerate(order):
                receive({**payload, "seen": number})
            ends.append(state())
            transaction.set_rollback(True)
    assert ends == [ends[0]] * 4
    assert ends[0][0][:2] == ["text", "Este"]
    assert (ends[0][0][4], ends[0][1][0], ends[0][1][2]) == (asked, 1, "Ana")


def test_a_filled_message_keeps_how_it_came_and_gets_its_file(channel: Channel) -> None:
    image = {"type": "image", "text": None, "image": {"id": "1", "mime_type": "image/jpeg"}}
    for seen, payload in enumerate((_PREVIEW, image)):
        receive({**text(channel=channel, **payload), "seen": seen})
    message = Message.objects.get()
    assert (message.type, message.media is not None, message.version) == ("image", True, 2)
    assert "error" not in message.context


def test_a_call_of_the_official_api_opens_the_window_and_names_its_caller(channel: Channel) -> None:
    call = {
        "id": "wacid.1", "event": "connect", "direction": "USER_INITIATED",
        "from": "5511999990000", "timestamp": str(int(timezone.now().timestamp()) - 60),
    }  # fmt: skip
    caller = {"profile": {"name": "Ana", "username": "ana"}, "wa_id": "5511999990000"}
    value = {"calls": [call], "contacts": [caller]}
    for event in ("connect", "terminate"):
        call["event"] = event
        receive(envelope(value, channel, field="calls"))
        conversation = Conversation.objects.get()
        assert (conversation.contact.name, conversation.contact.username) == ("Ana", "ana")
        assert conversation.unread_count == 1
        assert conversation.last_inbound_at is not None
        age = timezone.now() - conversation.last_inbound_at
        assert dt.timedelta(seconds=59) < age < dt.timedelta(seconds=90)


def test_the_conversation_list_shows_received_messages(channel: Channel) -> None:
    receive(text("Oi", channel=channel, name="Ana"))
    [row] = selectors.with_latest(list(selectors.conversation_list(search="ana")))
    assert row.latest.text == "Oi"  # type: ignore[attr-defined]
    assert not selectors.conversation_list(search="5512").exists()
    selectors.mark_read(row)
    row.refresh_from_db()
    assert row.unread_count == 0


def test_an_event_that_names_no_number_belongs_to_no_channel(channel: Channel) -> None:
    change_channel(channel, phone_number_id="")
    assert receive(text(channel=channel)).skipped == "unknown_channel"
    assert not Message.objects.exists()
