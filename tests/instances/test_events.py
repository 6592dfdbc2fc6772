"""Every kind of event, from the entry point to the rows that it changes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import structlog.testing
from django.core.management import call_command

from channels_app.models import Channel, Connection
from channels_app.providers.events import MessageEvent
from channels_app.providers.evolution import events as evolution_reader
from instances import receiving
from instances.models import WhatsAppSession
from messaging.inbound import handlers, journal
from messaging.models import CallAttempt, Contact, InboundEvent, Message
from tests.channels_app.providers.evolution.recordings import samples
from tests.instances.support import CUSTOMER, NAME, Evolution, read, state, texts, wait_until

if TYPE_CHECKING:
    from rest_framework.test import APIClient


def store(session: WhatsAppSession, *payloads: dict[str, Any]) -> None:
    raws = [receiving.raw_event(session.channel_id, payload) for payload in payloads]
    journal.store_all(receiving.SOURCE, raws)


def test_every_recorded_event_is_stored_and_processed(session: WhatsAppSession) -> None:
    recorded = samples()
    assert len(recorded) > 90
    for payload in recorded.values():
        payload["instance"] = NAME
    Channel.objects.update(ignore_messages_sent_outside=False)
    store(session, *recorded.values())
    read()
    events = InboundEvent.objects.all()
    assert events.count() > 80
    assert list(events.exclude(state="done").values_list("payload__event", "error")) == []
    assert Message.objects.exists()
    # Processing it again changes nothing.
    before = Message.objects.count()
    InboundEvent.objects.update(state="pending")
    read()
    assert Message.objects.count() == before


def test_an_unknown_event_is_stored_and_counted(
    session: WhatsAppSession,
) -> None:
    payload = {"event": "something.new", "instance": NAME, "data": {"a": 1}, "date_time": "x"}
    store(session, payload)
    event = InboundEvent.objects.get()
    counts = handlers.apply(event, handlers.channels_of(event.source, event.source_key))
    assert counts == {"event:something.new": 1}
    store(session, {**payload, "date_time": "y"})
    with structlog.testing.capture_logs() as logs:
        read()
    [entry] = [line for line in logs if line["event"] == "events of unknown kinds"]
    assert entry["counts"] == {"event:something.new": 2}
    event.refresh_from_db()
    assert (event.state, event.payload) == ("done", payload)
    assert event.skipped == "event:something.new"


def test_events_unknown_to_an_earlier_version_are_processed_later(
    session: WhatsAppSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = dict(samples()["baileys/messages.upsert:conversation/webhook"], instance=NAME)
    with monkeypatch.context() as earlier:
        earlier.delitem(evolution_reader._READERS, "messages.upsert")
        store(session, message, {**message, "event": "something.new"})
        read()
        assert not Message.objects.exists()
        assert replay("--skipped") == "2 not read: 0 read now, 2 still not"
    assert replay() == "0 set aside: 0 read now, 0 set aside again"
    assert replay("--skipped", "event:other") == "0 not read: 0 read now, 0 still not"
    assert replay("--skipped", "event:messages.upsert", "--source", "evolution") == (
        "1 not read: 1 read now, 0 still not"
    )
    assert Message.objects.count() == 1
    assert replay("--skipped") == "1 not read: 0 read now, 1 still not"
    left = InboundEvent.objects.exclude(skipped="")
    assert [event.skipped for event in left] == ["event:something.new"]


@pytest.mark.usefixtures("by_webhook")
def test_an_edit_changes_the_text_and_a_revoke_marks_the_message(evolution: Evolution) -> None:
    id_ = evolution.writes("primeiro")
    wait_until(lambda: texts() == ["primeiro"])
    evolution.control("inbound", instance=NAME, kind="edit", target=id_, text="segundo")
    wait_until(lambda: texts() == ["segundo"])
    assert Message.objects.get().edited_at is not None
    evolution.control("inbound", instance=NAME, kind="revoke", target=id_)
    wait_until(lambda: (read(), Message.objects.get().revoked_at)[1])
    other = evolution.writes("apagada")
    wait_until(lambda: len(texts()) == 2)
    evolution.control("inbound", instance=NAME, kind="delete", target=other)
    deleted = Message.objects.filter(provider_message_id=other, revoked_at__isnull=False)
    wait_until(lambda: (read(), deleted.exists())[1])


@pytest.mark.usefixtures("by_webhook")
def test_a_contact_event_sets_the_name_of_a_known_customer(evolution: Evolution) -> None:
    # Evolution sends the number if it knows no name.
    evolution.writes("oi", push_name=CUSTOMER)
    wait_until(lambda: texts() == ["oi"])
    assert Contact.objects.get().name == ""
    data = [{"remoteJid": f"{CUSTOMER}@s.whatsapp.net", "pushName": "Ana Souza"}]
    evolution.control("event", instance=NAME, event="contacts.upsert", data=data)
    wait_until(lambda: (read(), Contact.objects.get().name == "Ana Souza")[1])


@pytest.mark.usefixtures("by_webhook")
def test_a_ringing_and_missed_call_is_one_note(evolution: Evolution) -> None:
    for status in ("offer", "timeout"):
        order = {"kind": "call", "id": "C9", "status": status, "from": CUSTOMER}
        evolution.control("inbound", instance=NAME, **order)
    missed = CallAttempt.objects.filter(call_id="C9", status="missed")
    wait_until(lambda: (read(), missed.exists())[1])
    assert missed.get().conversation.contact.phone_number == f"+{CUSTOMER}"


@pytest.mark.parametrize("mode", ["by_webhook", "by_websocket"])
def test_neither_mode_stores_a_token_or_a_qr_code(
    mode: str, request: pytest.FixtureRequest, evolution: Evolution
) -> None:
    session: WhatsAppSession = request.getfixturevalue(mode)
    evolution.control("settings", expose_token=True)
    code = {"instance": NAME, "code": "2@secret", "pairingCode": "ABCD1234", "base64": "data:png"}
    evolution.control("event", instance=NAME, event="qrcode.updated", data={"qrcode": code})
    wait_until(lambda: _connection(session) == ("connecting", "qr"))
    assert session.connection.qr_digest == hashlib.sha256(b"2@secret").hexdigest()
    stored = InboundEvent.objects.filter(payload__event="qrcode.updated").latest("id").payload
    assert stored["apikey"] == "withheld"
    digest = f"sha256:{session.connection.qr_digest}"
    assert stored["data"]["qrcode"] == {
        "instance": NAME, "code": digest, "pairingCode": "withheld", "base64": "withheld",
    }  # fmt: skip
    # Processing it again changes nothing.
    before = Connection.objects.get().qr_seen_at
    InboundEvent.objects.update(state="pending")
    read()
    assert Connection.objects.get().qr_seen_at == before


def _connection(session: WhatsAppSession) -> tuple[str, str]:
    read()
    session.refresh_from_db()
    return session.connection.server_state, session.connection.server_state_reason


def test_the_state_of_the_connection_follows_the_events(
    by_webhook: WhatsAppSession, evolution: Evolution, api: APIClient
) -> None:
    def emit(event: str, data: Any) -> None:
        evolution.control("event", instance=NAME, event=event, data=data)

    emit("qrcode.updated", {"qrcode": {"instance": NAME, "code": "2@x", "base64": "data:"}})
    wait_until(lambda: _connection(by_webhook) == ("connecting", "qr"))
    opened = {"state": "open", "statusReason": 200, "wuid": "5511900000777@s.whatsapp.net"}
    emit("connection.update", opened)
    wait_until(lambda: _connection(by_webhook) == ("open", "200"))
    assert by_webhook.connection.server_state_changed_at is not None
    assert Channel.objects.get().phone_number == "+5511900000777"
    assert api.get("/api/instances/").json()[0]["connection"] == "open"
    emit("connection.update", {"state": "close", "statusReason": 401})
    wait_until(lambda: _connection(by_webhook) == ("close", "401"))
    emit("qrcode.updated", {"message": "QR code limit reached", "statusCode": 500})
    wait_until(lambda: _connection(by_webhook) == ("close", "qr_limit"))
    assert state(api)["inSync"] is True


@pytest.fixture
def repair_handler(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make the message handler fail on one text; the returned function repairs it."""
    handler = handlers.HANDLERS[MessageEvent]

    def picky(channel: Channel, event: Any) -> None:
        if event.text == "ruim":
            raise KeyError("what the reader did not expect")
        handler(channel, event)

    monkeypatch.setitem(handlers.HANDLERS, MessageEvent, picky)
    return lambda: monkeypatch.setitem(handlers.HANDLERS, MessageEvent, handler)


@pytest.mark.usefixtures("by_webhook")
def test_a_failing_event_is_stored_with_its_error_and_replayed_later(
    evolution: Evolution, repair_handler: Callable[[], None]
) -> None:
    for text in ("um", "ruim", "dois"):
        evolution.writes(text)
    aside = InboundEvent.objects.filter(state="set_aside")
    wait_until(lambda: (read(), Message.objects.count() == 2 and aside.exists())[1])
    assert "KeyError" in aside.get().error
    assert "did not expect" in aside.get().error

    assert replay() == "1 set aside: 0 read now, 1 set aside again"
    repair_handler()
    assert replay("--source", "cloud") == "0 set aside: 0 read now, 0 set aside again"
    assert replay("--id", "999999999") == "0 set aside: 0 read now, 0 set aside again"
    name = str(aside.get().pk)
    assert replay("--source", "evolution", "--id", name) == (
        "1 set aside: 1 read now, 0 set aside again"
    )
    assert sorted(texts()) == ["dois", "ruim", "um"]
    assert InboundEvent.objects.get(pk=name).error == ""
    assert replay() == "0 set aside: 0 read now, 0 set aside again"


def replay(*arguments: str) -> str:
    output = io.StringIO()
    call_command("replay_events", *arguments, stdout=output)
    return output.getvalue().strip()
