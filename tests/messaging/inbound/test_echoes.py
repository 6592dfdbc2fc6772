"""Confirming sends with an unknown outcome, and linking echoes to their original message."""

from __future__ import annotations

import datetime as dt
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from channels_app.models import Channel
from channels_app.providers.base import Accepted, LookupFailed
from channels_app.providers.cloud.events import web_message_id
from channels_app.providers.events import MessageEvent, Receipt
from channels_app.providers.evolution import events as evolution_events
from messaging.delivery import attempts, reconcile
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import handlers
from messaging.models import DeliveryAttempt, Message, PendingEvent
from simulators.graph.app import make_wamid
from tests.messaging.support import (
    accept,
    attempt_of,
    customer,
    deliver,
    envelope,
    post,
    read_events,
    stored_attempts,
)

if TYPE_CHECKING:
    from tests.conftest import Provider

pytestmark = pytest.mark.django_db

NUMBER = "+5511988887777"
KEY = "3EB0C767D26A1D8F4A2B"


def official_echo(channel: Channel, *, text: str = "Olá", key: str = KEY) -> str:
    """Receive Meta's echo of a message from the app or a companion device; return its id."""
    wamid = make_wamid(NUMBER.removeprefix("+"), key)
    echo = {
        "from": "5511900000001",
        "to": NUMBER.removeprefix("+"),
        "id": wamid,
        "timestamp": str(int(timezone.now().timestamp())),
        "type": "text",
        "text": {"body": text},
    }
    post(envelope({"message_echoes": [echo]}, channel, field="smb_message_echoes"))
    read_events()
    return wamid


def session_reports(channel: Channel, id: str, *, text: str = "Olá") -> None:
    """Receive the attached session's report of a message sent from the number."""
    event = MessageEvent(
        channel_key=channel.wwebjs_session_id,
        provider_message_id=id,
        phone_number=NUMBER,
        at=timezone.now(),
        type="text",
        text=text,
        outgoing=True,
    )
    handlers.HANDLERS[MessageEvent](channel, event)


def fallback_attempt(channel: Channel, outcome: Outcome, **changes: Any) -> DeliveryAttempt:
    message = accept(channel, NUMBER)
    return attempt_of(message, outcome=outcome, route=Route.WWEBJS, **changes)


def show_sent_outside(channel: Channel) -> Channel:
    channel.ignore_messages_sent_outside = False
    channel.save()
    return channel


def outside() -> list[Message]:
    return list(Message.objects.filter(sent_outside=True))


# -- confirmation by echo --------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_the_official_echo_of_a_fallback_send_proves_it(channel: Channel, known: bool) -> None:
    unknown = fallback_attempt(
        channel,
        Outcome.UNKNOWN,
        provider_message_id=KEY if known else "",
        finished_at=timezone.now(),
    )
    official_echo(channel)
    unknown.refresh_from_db()
    assert (unknown.outcome, unknown.provider_message_id) == (Outcome.ACCEPTED, KEY)
    assert (unknown.message.status, unknown.message.route) == ("sent", "wwebjs")
    assert not outside()


def test_an_echo_with_another_text_proves_nothing(channel: Channel) -> None:
    unknown = fallback_attempt(channel, Outcome.UNKNOWN)
    official_echo(channel, text="Tchau")
    unknown.refresh_from_db()
    assert unknown.outcome == Outcome.UNKNOWN


def test_an_invalid_id_causes_no_error(channel: Channel) -> None:
    echo = {"from": "1", "to": "5511988887777", "id": "wamid.!!", "type": "text"}
    echo |= {"timestamp": "1751142888", "text": {"body": "x"}}  # type: ignore[dict-item]
    post(envelope({"message_echoes": [echo]}, channel, field="smb_message_echoes"))
    read_events()


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: f"wamid.{raw.hex()}"))
def test_the_decoder_returns_none_and_never_raises(text: str) -> None:
    assert web_message_id(text) is None or web_message_id(text)


def test_an_echo_before_our_send_returned_is_stored_until_then(channel: Channel) -> None:
    started = fallback_attempt(channel, Outcome.STARTED)
    started.message.text = "Com outras palavras"
    started.message.save()
    official_echo(channel)
    assert PendingEvent.objects.get().provider_message_id == KEY

    attempts.record_result(started, Accepted(KEY))

    started.refresh_from_db()
    assert (started.outcome, started.receipt) == (Outcome.ACCEPTED, "sent")
    assert not PendingEvent.objects.exists()


def test_an_echo_of_the_phone_is_not_stored_as_pending(channel: Channel) -> None:
    official_echo(channel)
    assert not PendingEvent.objects.exists()


def test_a_session_report_identifies_its_send_but_does_not_prove_it(channel: Channel) -> None:
    unknown = fallback_attempt(channel, Outcome.UNKNOWN)
    session_reports(channel, KEY)
    unknown.refresh_from_db()
    assert (unknown.outcome, unknown.provider_message_id) == (Outcome.UNKNOWN, KEY)


# -- shown echoes ----------------------------------------------------------------------------------


def test_a_shown_echo_is_linked_to_its_original(channel: Channel) -> None:
    sent = fallback_attempt(show_sent_outside(channel), Outcome.ACCEPTED, provider_message_id=KEY)
    official_echo(channel)
    [echo] = outside()
    assert echo.echo_of == sent.message


def test_an_echo_shown_before_our_send_returned_is_linked_later(channel: Channel) -> None:
    started = fallback_attempt(show_sent_outside(channel), Outcome.STARTED)
    started.message.text = "Com outras palavras"
    started.message.save()
    official_echo(channel)
    assert outside()[0].echo_of is None
    attempts.record_result(started, Accepted(KEY))
    assert outside()[0].echo_of == started.message


def test_a_companions_report_of_an_official_send_is_linked_by_the_inner_id(
    channel: Channel,
) -> None:
    message = accept(show_sent_outside(channel), NUMBER)
    attempt_of(
        message,
        outcome=Outcome.ACCEPTED,
        route=Route.OFFICIAL,
        provider_message_id=make_wamid(NUMBER.removeprefix("+"), KEY),
    )
    session_reports(channel, KEY)
    assert [echo.echo_of for echo in outside()] == [message]


@pytest.mark.parametrize("ignored", [True, False])
def test_an_echo_of_a_session_send_follows_the_option(channel: Channel, ignored: bool) -> None:
    if not ignored:
        show_sent_outside(channel)
    sent = fallback_attempt(channel, Outcome.STARTED)
    session_reports(channel, KEY)
    attempts.record_result(sent, Accepted(None))
    session_reports(channel, KEY)
    assert [echo.echo_of for echo in outside()] == ([] if ignored else [sent.message])
    session_reports(channel, "3EB0FFFFFFFFFFFFFFFF", text="Digitada no celular")
    echoes = {echo.text: echo.echo_of for echo in outside()}
    assert echoes == ({} if ignored else {"Olá": sent.message, "Digitada no celular": None})


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("first", ["meta", "session"])
def test_a_message_reported_by_meta_and_the_session_is_shown_once(
    channel: Channel, first: str, typed: bool
) -> None:
    show_sent_outside(channel)
    sent = None if typed else fallback_attempt(channel, Outcome.ACCEPTED, provider_message_id=KEY)
    for source in (first, "session", "meta", "session"):
        if source == "meta":
            official_echo(channel)
        else:
            session_reports(channel, KEY)
    assert [echo.echo_of for echo in outside()] == [sent.message if sent else None]


def test_the_same_text_sent_twice_by_the_session_is_shown_twice(channel: Channel) -> None:
    show_sent_outside(channel)
    both = [fallback_attempt(channel, Outcome.ACCEPTED) for _ in range(2)]
    for key in (KEY, "3EB0FFFFFFFFFFFFFFFF"):
        session_reports(channel, key)
        official_echo(channel, key=key)
    assert {echo.echo_of for echo in outside()} == {attempt.message for attempt in both}
    assert len(outside()) == 2


# -- a Baileys channel as the fallback -------------------------------------------------------------


@pytest.fixture
def by_baileys(make_channel: Any) -> Channel:
    """An official channel whose fallback is a Baileys channel."""
    other = make_channel(name="Oficina", kind="baileys", phone_number_id="", instance_name="of")
    return make_channel(fallback="baileys", fallback_channel=other)  # type: ignore[no-any-return]


def instance_reports(
    channel: Channel, id: str, *, text: str = "Olá", kind: str = "send.message"
) -> None:
    """Receive Evolution's report of a message sent by the API or typed on the phone."""
    [event] = evolution_events.read(
        {
            "event": kind,
            "instance": channel.instance_name,
            "data": {
                "key": {"remoteJid": "5511988887777@s.whatsapp.net", "fromMe": True, "id": id},
                "pushName": "Você",
                "status": "PENDING",
                "message": {"conversation": text},
                "messageType": "conversation",
                "messageTimestamp": int(timezone.now().timestamp()),
            },
        }
    )
    handlers.HANDLERS[type(event)](channel, event)


@pytest.mark.parametrize("kind", ["send.message", "messages.upsert"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("ignored", [True, False])
def test_a_fallback_send_reported_by_its_instance_follows_the_option(
    by_baileys: Channel, ignored: bool, known: bool, kind: str
) -> None:
    other = by_baileys.fallback_channel
    assert other is not None
    if not ignored:
        show_sent_outside(other)
    message = accept(by_baileys, NUMBER)
    sent = attempt_of(
        message,
        outcome=Outcome.ACCEPTED if known else Outcome.STARTED,
        route=Route.BAILEYS,
        channel=other,
        provider_message_id=KEY if known else "",
    )
    for _ in range(2):
        instance_reports(other, KEY, kind=kind)
    sent.refresh_from_db()
    assert sent.provider_message_id == KEY
    assert [echo.echo_of for echo in outside()] == ([] if ignored else [message])
    assert all(echo.conversation.channel == other for echo in outside())


def test_an_instance_report_before_our_send_returned_is_linked_later(by_baileys: Channel) -> None:
    other = by_baileys.fallback_channel
    assert other is not None
    show_sent_outside(other)
    message = accept(by_baileys, NUMBER)
    started = attempt_of(message, outcome=Outcome.STARTED, route=Route.BAILEYS, channel=other)
    instance_reports(other, KEY, text="Com outras palavras")
    assert [echo.echo_of for echo in outside()] == [None]
    attempts.record_result(started, Accepted(KEY))
    assert [echo.echo_of for echo in outside()] == [message]


def test_a_baileys_echo_in_its_own_conversation_is_not_shown_again(
    by_baileys: Channel,
) -> None:
    other = by_baileys.fallback_channel
    assert other is not None
    message = accept(show_sent_outside(other), NUMBER)
    attempt_of(
        message,
        outcome=Outcome.ACCEPTED,
        route=Route.BAILEYS,
        channel=other,
        provider_message_id=KEY,
    )
    instance_reports(other, KEY)
    assert not outside()


@pytest.mark.parametrize("ignored", [True, False])
@pytest.mark.parametrize("reported_by", ["meta", "instance"])
def test_a_message_typed_on_the_phone_follows_the_option(
    by_baileys: Channel, reported_by: str, ignored: bool
) -> None:
    channel = by_baileys if reported_by == "meta" else by_baileys.fallback_channel
    assert channel is not None
    if not ignored:
        show_sent_outside(channel)
    if reported_by == "meta":
        official_echo(channel, text="Digitada")
    else:
        instance_reports(channel, KEY, text="Digitada", kind="messages.upsert")
    assert [(m.text, m.echo_of, m.status) for m in outside()] == (
        [] if ignored else [("Digitada", None, "sent")]
    )


@pytest.mark.parametrize("ignored", [True, False])
def test_the_official_echo_of_a_fallback_send_follows_the_option(
    channel: Channel, ignored: bool
) -> None:
    if not ignored:
        show_sent_outside(channel)
    sent = fallback_attempt(channel, Outcome.ACCEPTED, provider_message_id=KEY)
    for _ in range(2):
        official_echo(channel)
    assert [echo.echo_of for echo in outside()] == ([] if ignored else [sent.message])


# -- look-ups --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "found"),
    [("11", True), ("21", True), ("24", True), ("20", False), ("15", False), ("23", False)],
)
def test_an_unknown_fallback_send_is_looked_up_on_the_server(
    wired: Channel, wwebjs: Provider, scenario: str, found: bool
) -> None:
    message = accept(wired, customer(graph="47", fallback=scenario))
    deliver(message)
    assert message.decision == "fallback_unconfirmed"
    wwebjs.settle()
    [*_, unknown] = stored_attempts(message)
    unknown.started_at -= dt.timedelta(seconds=6)
    unknown.save()

    reconcile.look_up_unknown()

    message.refresh_from_db()
    assert (message.icon == "globe") is found
    assert (message.decision == "") is found


A_MINUTE = dt.timedelta(minutes=1)


def unknown_sends(channel: Channel, how_many: int) -> set[int]:
    long_ago = timezone.now() - A_MINUTE
    made = [
        fallback_attempt(channel, Outcome.UNKNOWN, started_at=long_ago) for _ in range(how_many)
    ]
    return {attempt.pk for attempt in made}


def test_a_server_that_does_not_respond_is_queried_once_per_run(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown_sends(channel, 3)
    asked: list[DeliveryAttempt] = []

    def hangs(attempt: DeliveryAttempt, words: Any, since: Any) -> list[str]:
        asked.append(attempt)
        raise LookupFailed("timeout", answered=False)

    monkeypatch.setattr(reconcile, "_search", hangs)
    reconcile.look_up_unknown()
    assert len(asked) == 1


def test_an_error_about_one_chat_does_not_prevent_the_other_lookups(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sends = unknown_sends(channel, 3)
    asked: set[int] = set()

    def returns_an_error(attempt: DeliveryAttempt, *args: Any) -> list[str]:
        asked.add(attempt.pk)
        raise LookupFailed("session_check_failed", answered=True)

    monkeypatch.setattr(reconcile, "_search", returns_an_error)
    reconcile.look_up_unknown()
    assert asked == sends


def test_a_lookup_without_a_result_does_not_prevent_the_others(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sends = unknown_sends(channel, 4)
    asked: list[int] = []

    def finds_nothing(attempt: DeliveryAttempt, words: Any, since: Any) -> list[str]:
        asked.append(attempt.pk)
        return []

    monkeypatch.setattr(reconcile, "_search", finds_nothing)
    ticks = count(step=reconcile.RUN_SECONDS * 0.6)  # one request uses up a run
    monkeypatch.setattr(reconcile.time, "monotonic", lambda: next(ticks))
    runs = 0
    while set(asked) < sends:
        reconcile.look_up_unknown()
        runs += 1
        assert len(asked) == runs


def test_one_message_does_not_prove_two_unknown_sends_of_the_same_text(
    wired: Channel, wwebjs: Provider
) -> None:
    for scenario in ("reset_after", "reset_before"):
        wwebjs.plays(scenario)
        deliver(accept(wired, customer(graph="47")))
    wwebjs.settle()
    DeliveryAttempt.objects.filter(outcome=Outcome.UNKNOWN).update(
        started_at=timezone.now() - dt.timedelta(seconds=6)
    )
    reconcile.look_up_unknown()
    assert DeliveryAttempt.objects.filter(outcome=Outcome.UNKNOWN).count() == 1


def test_a_later_send_of_the_same_text_does_not_prove_the_unknown_one(
    wired: Channel, wwebjs: Provider
) -> None:
    wwebjs.plays("reset_before")
    lost = accept(wired, customer(graph="47"))
    deliver(lost)
    wwebjs.plays("bare_delivered")
    arrived = accept(wired, customer(graph="47"))
    deliver(arrived)
    assert arrived.icon == "globe"
    [*_, unknown] = stored_attempts(lost)
    unknown.started_at -= dt.timedelta(seconds=6)
    unknown.save()

    reconcile.look_up_unknown()

    lost.refresh_from_db()
    assert lost.decision == "fallback_unconfirmed"


@pytest.mark.parametrize("by_echo", [True, False])
def test_a_confirmation_of_the_same_text_goes_to_the_accepted_attempt_first(
    channel: Channel, by_echo: bool
) -> None:
    unknown = fallback_attempt(channel, Outcome.UNKNOWN)
    accepted = fallback_attempt(channel, Outcome.ACCEPTED)

    def confirm(key: str) -> None:
        if by_echo:
            official_echo(channel, key=key)
            return
        found = attempts.find_unnamed(
            channel_id=channel.pk, phone_number=NUMBER, text="Olá", at=timezone.now()
        )
        assert found is not None
        attempts.record_receipt(found, Receipt.DELIVERED, provider_message_id=key)

    confirm(KEY)
    accepted.refresh_from_db()
    unknown.refresh_from_db()
    assert (accepted.provider_message_id, unknown.outcome) == (KEY, "unknown")
    confirm(KEY.replace("C", "D"))
    unknown.refresh_from_db()
    assert unknown.outcome == "accepted"


def test_a_send_stays_unconfirmed_if_the_server_cannot_list_the_chat(
    wired: Channel, wwebjs: Provider
) -> None:
    message = accept(wired, customer(graph="47", fallback="24"))
    deliver(message)
    DeliveryAttempt.objects.filter(outcome=Outcome.UNKNOWN).update(
        started_at=timezone.now() - dt.timedelta(seconds=6)
    )
    wwebjs.simulator.settings.dollar_ids = True
    reconcile.look_up_unknown()
    message.refresh_from_db()
    assert message.decision == "fallback_unconfirmed"
