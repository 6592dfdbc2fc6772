"""Who is who: the addresses of a customer, merging, message keys, and answering everybody."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import requests
from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from channels_app.models import Channel
from channels_app.providers.addresses import Address, Kind, named
from channels_app.providers.base import Accepted
from channels_app.providers.cloud import events as cloud_events
from channels_app.providers.events import (
    AddressEvent,
    CallEvent,
    CallStatus,
    ContactEvent,
    EditEvent,
    Event,
    MessageEvent,
    ReactionEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
)
from channels_app.providers.evolution import events as evolution_events
from channels_app.providers.wwebjs import events as wwebjs_events
from core import phone_numbers
from messaging import contacts, merging, reachability, selectors
from messaging.delivery.preview import preview
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import handlers
from messaging.models import (
    CallAttempt,
    Contact,
    ContactAddress,
    ContactMerge,
    Conversation,
    DeliveryAttempt,
    InboundEvent,
    Message,
)
from simulators.graph.app import make_wamid
from tests.messaging.support import (
    accept,
    attempt_of,
    deliver,
    envelope,
    post,
    read_events,
    receive,
    stored_attempts,
    trail,
)

if TYPE_CHECKING:
    from tests.conftest import Provider, Webhooks

pytestmark = pytest.mark.django_db

NUMBER, USER_ID, PARENT, LID = "+5511988887777", "BR.77001", "BR.ENT.9", "222000000000001@lid"
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
_ids = itertools.count(1)


def apply(channel: Channel, *events: Event) -> None:
    with transaction.atomic():
        handlers.apply_events(events, {"": channel})


def message(phone_number: str = "", user_id: str = "", **fields: Any) -> MessageEvent:
    defaults = {"provider_message_id": f"wamid.{next(_ids)}", "at": NOW, "type": "text"}
    return MessageEvent(
        channel_key="", phone_number=phone_number, user_id=user_id, **{**defaults, **fields}
    )


def cloud(channel: Channel, message: dict[str, Any], *contacts: dict[str, Any]) -> None:
    """Post a message of Meta's webhook."""
    sent = {"id": f"wamid.{next(_ids)}", "timestamp": str(int(NOW.timestamp())), **message}
    text = {} if "type" in message else {"type": "text", "text": {"body": "oi"}}
    value: dict[str, Any] = {"messages": [{**text, **sent}]}
    if contacts:
        value["contacts"] = list(contacts)
    post(envelope(value, channel))
    read_events()
    event = InboundEvent.objects.order_by("-id")[0]
    assert (event.state, event.error, event.skipped) == ("done", "", "")


def addresses_of(contact: Contact) -> set[tuple[str, str]]:
    return set(contact.addresses.values_list("kind", "value"))


def the_contact() -> Contact:
    """Return the only contact, which has the only conversation of each channel."""
    contact = Contact.objects.get(merged_into=None)
    channels = list(Conversation.objects.values_list("channel", flat=True))
    assert len(channels) == len(set(channels))
    assert {row.contact for row in Conversation.objects.all()} <= {contact}
    return contact


# -- Learning --------------------------------------------------------------------------------------


@contextmanager
def undone() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


PERSON = (
    Address(Kind.PHONE, NUMBER),
    Address(Kind.PHONE, "+551188887777"),
    Address(Kind.PHONE, "+5215512340001"),
    Address(Kind.USER_ID, USER_ID),
    Address(Kind.USER_ID, "US.2"),
    Address(Kind.PARENT_USER_ID, PARENT),
    Address(Kind.LID, LID),
)


def event_naming(kind: str, one: Address, other: Address) -> Event:
    """Return an event of this kind that names both addresses."""
    if kind == "pair":
        return AddressEvent("", (one, other))
    if kind == "message":
        return message(also=(one, other))
    number, user_id = (
        next((a.value for a in (one, other) if (a.kind == Kind.PHONE) == wanted), "")
        for wanted in (True, False)
    )
    if not (number and user_id):
        return message(also=(one, other))
    if kind == "receipt":
        return ReceiptEvent("", "wamid.X", Receipt.READ, phone_number=number, user_id=user_id)
    return CallEvent("", f"C{next(_ids)}", number, CallStatus.MISSED, NOW, user_id=user_id)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, Event]]:
    """Events about one person in any order, repeated: each address alone, and pairs joining all."""
    order = draw(st.permutations(PERSON))
    kinds = st.sampled_from(["pair", "message", "receipt", "call"])
    history: list[tuple[int, Event]] = [
        (draw(st.integers(0, 1)), message(also=(a,))) for a in order
    ]
    for position, address in enumerate(order[1:], start=1):
        other = order[draw(st.integers(0, position - 1))]
        history.append((draw(st.integers(0, 1)), event_naming(draw(kinds), address, other)))
    history += draw(st.lists(st.sampled_from(history), max_size=4))
    return draw(st.permutations(history))


def test_any_order_of_the_events_about_one_person_ends_in_one_contact(
    channel: Channel, baileys: Channel
) -> None:
    @settings(max_examples=12, deadline=None)
    @given(history=histories())
    def in_any_order(history: list[tuple[int, Event]]) -> None:
        with undone():
            for where, event in history:
                apply((channel, baileys)[where], event)
            contact = the_contact()
            keys = {address.key for address in PERSON}
            assert set(contact.addresses.values_list("key", flat=True)) == keys
            reported = {e.provider_message_id for _, e in history if isinstance(e, MessageEvent)}
            shown = Message.objects.filter(conversation__merged_into=None)
            assert sorted(shown.values_list("provider_message_id", flat=True)) == sorted(reported)
            unread = sum(Conversation.objects.values_list("unread_count", flat=True))
            called = CallAttempt.objects.count()
            assert unread == len(reported) + called
            for merge in ContactMerge.objects.all():
                merging.undo(merge, user=None)
            separate = Conversation.objects.values_list("unread_count", flat=True)
            assert sum(separate) <= unread
            separate = Conversation.objects.values_list("unread_count", flat=True)
            assert sum(separate) <= unread
            assert (
                Contact.objects.filter(merged_into=None).count() == 1 + ContactMerge.objects.count()
            )
            assert not Message.objects.exclude(conversation__merged_into=None).exists()
            assert Message.objects.count() == len(reported)

    in_any_order()


def test_phone_and_user_id_are_joined_by_the_first_payload_that_names_both(
    channel: Channel,
) -> None:
    person, number = {"from_user_id": USER_ID}, {"from": NUMBER[1:]}
    cloud(channel, number, {"profile": {"name": "Cliente"}, "wa_id": NUMBER[1:]})
    cloud(channel, person, {"profile": {"name": "Caio"}, "user_id": USER_ID})
    assert Conversation.objects.count() == 2
    both = {"profile": {"name": "Caio"}, "wa_id": NUMBER[1:], "user_id": USER_ID}
    cloud(channel, number | person, both)
    cloud(channel, person, {"profile": {"name": "Caio"}, "user_id": USER_ID})
    contact = the_contact()
    assert (contact.phone_number, contact.user_id, contact.name) == (NUMBER, USER_ID, "Caio")
    assert Conversation.objects.get().messages.count() == 4
    assert Conversation.objects.get().unread_count == 4
    [merge] = ContactMerge.objects.all()
    assert (merge.contact, merge.reason) == (contact, f"{NUMBER} = {USER_ID}")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            {"remoteJid": LID, "remoteJidAlt": "5511988887777@s.whatsapp.net"},
            {"remoteJid": LID},
        ),
        (
            {"remoteJid": LID},
            {"remoteJid": LID, "remoteJidAlt": "5511988887777@s.whatsapp.net"},
        ),
        (
            {"remoteJid": "5511988887777@s.whatsapp.net", "remoteJidAlt": LID},
            {"remoteJid": LID},
        ),
        (
            {"remoteJid": "5511988887777@s.whatsapp.net"},
            {"remoteJid": "5511988887777@s.whatsapp.net", "previousRemoteJid": LID},
        ),
        (
            {"remoteJid": LID, "senderPn": "5511988887777@s.whatsapp.net"},
            {"remoteJid": LID, "fromMe": True, "senderPn": "5511900000002@s.whatsapp.net"},
        ),
    ],
)
def test_lid_and_number_of_evolution_are_one_contact(
    baileys: Channel, first: dict[str, Any], second: dict[str, Any]
) -> None:
    baileys.ignore_messages_sent_outside = False
    for number, key in enumerate((first, second)):
        data = {
            "key": {"fromMe": False, "id": f"3AF010{number}", **key},
            "message": {"conversation": "oi"},
            "messageTimestamp": int(NOW.timestamp()),
        }
        payload = {"event": "messages.upsert", "instance": "", "data": data}
        apply(baileys, *evolution_events.read(payload))
    contact = the_contact()
    assert (contact.phone_number, contact.user_id) == (NUMBER, LID)
    assert Conversation.objects.get().messages.count() == 2


def test_an_address_book_and_a_call_of_evolution_join_lid_and_number(baileys: Channel) -> None:
    apply(baileys, message(NUMBER), message(user_id=LID))
    data = {"remoteJid": NUMBER[1:] + "@s.whatsapp.net", "lid": LID}
    apply(
        baileys,
        *evolution_events.read({"event": "contacts.update", "instance": "", "data": [data]}),
    )
    assert addresses_of(the_contact()) == {("phone", NUMBER), ("lid", LID)}
    call = {"id": "C1", "status": "timeout", "from": "9@lid", "callerPn": data["remoteJid"]}
    apply(baileys, *evolution_events.read({"event": "call", "instance": "", "data": call}))
    assert ("lid", "9@lid") in addresses_of(the_contact())


def test_an_answer_that_names_the_lid_joins_it_with_the_number(wired: Channel) -> None:
    sent = accept(wired, to=NUMBER)
    attempt = attempt_of(sent, outcome=Outcome.ACCEPTED, route=Route.WWEBJS)
    answer = Accepted("3EB0", f"{NUMBER[1:]}@c.us", lid="999000000000001@lid")
    contacts.learn_from_answer(attempt, answer)
    reply = {
        "id": {"fromMe": False, "remote": "999000000000001@lid", "id": "3AF01B1"},
        "body": "resposta",
        "type": "chat",
        "timestamp": int(NOW.timestamp()),
        "from": "999000000000001@lid",
    }
    payload = {"sessionId": "", "dataType": "message", "data": {"message": reply}}
    apply(wired, *wwebjs_events.read(payload))
    assert set(sent.conversation.messages.values_list("text", flat=True)) == {"resposta", "Olá"}
    with CaptureQueriesContext(connection) as queries:
        contacts.learn_from_answer(attempt, Accepted("wamid.1", NUMBER[1:]))
    assert not queries.captured_queries


def test_an_echo_to_an_unknown_lid_is_the_only_send_with_its_text(wired: Channel) -> None:
    """A session may answer a send without an id, and then report it under the hidden address."""
    wired.ignore_messages_sent_outside = False
    sent = accept(wired, to=NUMBER, text="Pedido pronto")
    attempt_of(sent, outcome=Outcome.ACCEPTED, route=Route.WWEBJS, started_at=NOW)
    echo = message(user_id=LID, provider_message_id="3EB0F1", text="Pedido pronto", outgoing=True)
    apply(wired, echo)
    copy = Message.objects.get(sent_outside=True)
    assert (copy.echo_of, copy.conversation) == (sent, sent.conversation)
    assert stored_attempts(sent)[0].provider_message_id == "3EB0F1"
    assert Contact.objects.count() == 1
    assert not ContactAddress.objects.filter(key=LID).exists()


def test_what_an_old_event_says_does_not_replace_what_is_known(channel: Channel) -> None:
    apply(channel, message(NUMBER, LID, name="Ana Maria"))
    old = message("+5511977776666", LID, name="Ana", history=True)
    apply(channel, old)
    contact = the_contact()
    assert (contact.phone_number, contact.name) == (NUMBER, "Ana Maria")
    assert len(addresses_of(contact)) == 3


@pytest.mark.django_db(transaction=True)
def test_concurrent_events_about_one_person_end_in_one_contact(channel: Channel) -> None:
    others = [Address(Kind.LID, f"{number}@lid") for number in range(6)]
    pairs = [(one, other) for one in PERSON for other in (*PERSON[:3], *others) if one != other]

    def learn_all(reverse: bool) -> None:
        for one, other in reversed(pairs) if reverse else pairs:
            named = (other, one) if reverse else (one, other)
            event = message(also=named)
            apply(channel, event)
        connection.close()

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(learn_all, reverse) for reverse in (False, True, False)]:
            done.result(60)
    contact = the_contact()
    assert contact.addresses.count() == len(PERSON) - 1 + len(others)
    assert Conversation.objects.get().messages.count() == 3 * len(pairs)
    assert Conversation.objects.get().unread_count == 3 * len(pairs)


def test_a_status_that_names_number_and_user_id_joins_them(channel: Channel) -> None:
    apply(channel, message(user_id=USER_ID))
    sent = accept(channel, to=NUMBER)
    attempt = attempt_of(
        sent, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL, provider_message_id="wamid.S"
    )
    for reported in ("sent", "delivered"):
        status = {
            "id": "wamid.S",
            "status": reported,
            "recipient_id": NUMBER[1:],
            "recipient_user_id": USER_ID,
        }
        post(envelope({"statuses": [status]}, channel))
        read_events()
    assert addresses_of(the_contact()) == {("phone", NUMBER), ("user_id", USER_ID)}
    attempt.refresh_from_db()
    assert attempt.receipt == "delivered"


def test_a_pair_about_somebody_who_has_not_written_yet_is_remembered(channel: Channel) -> None:
    apply(channel, AddressEvent("", named(phone_number=NUMBER, user_id=LID)))
    assert not Conversation.objects.exists()
    apply(channel, message(user_id=LID), message(NUMBER))
    assert Conversation.objects.get().contact == the_contact()


def test_our_own_number_is_never_the_address_of_a_customer(channel: Channel) -> None:
    apply(channel, message(user_id=LID, also=(Address(Kind.PHONE, channel.phone_number),)))
    apply(channel, message(user_id="9@lid", also=(Address(Kind.PHONE, channel.phone_number),)))
    assert Contact.objects.count() == 2


NEW_NUMBER, NEW_ID = "+12195555358", "US.999"


@pytest.mark.parametrize(
    ("message", "change", "then"),
    [
        (
            {"from": NUMBER[1:]},
            {"type": "user_changed_number", "wa_id": NEW_NUMBER[1:]},
            {"from": NEW_NUMBER[1:]},
        ),
        (
            {"from": NUMBER[1:]},
            {"type": "customer_changed_number", "new_wa_id": NEW_NUMBER[1:]},
            {"from": NEW_NUMBER[1:]},
        ),
        (
            {},
            {"type": "user_changed_user_id", "user_id": NEW_ID, "previous_user_id": USER_ID},
            {"from_user_id": NEW_ID},
        ),
        (
            {},
            {
                "type": "user_changed_user_id",
                "user_id": NEW_ID,
                "body": f"User from BR.99 to BR.98 changed from {USER_ID} to {NEW_ID}",
            },
            {"from_user_id": NEW_ID},
        ),
    ],
)
def test_a_customer_goes_on_under_a_new_number_or_id(
    channel: Channel, message: dict[str, Any], change: dict[str, Any], then: dict[str, Any]
) -> None:
    cloud(
        channel,
        {"from": NUMBER[1:], "from_user_id": USER_ID},
        {"wa_id": NUMBER[1:], "user_id": USER_ID},
    )
    change = {"body": "A changed", **change}
    for _ in range(2):
        cloud(channel, {**message, "id": "wamid.S", "type": "system", "system": change})
    cloud(channel, then)
    the_contact()
    texts = (
        Conversation.objects.get().messages.order_by("created_at").values_list("text", flat=True)
    )
    assert sorted(texts) == sorted(["oi", change["body"], "oi"])
    contact = the_contact()
    assert {contact.phone_number, contact.user_id} & {NEW_NUMBER, NEW_ID}


OLD = named(phone_number="+16505551234", user_id="US.1")
NEW = named(phone_number=NEW_NUMBER, user_id="US.2")


def at(seconds: int) -> dt.datetime:
    return NOW - dt.timedelta(minutes=5) + dt.timedelta(seconds=seconds)


def system(at: dt.datetime, type_: str, from_: str = "", **change: Any) -> list[Event]:
    """Return the events of Meta's notice of a change."""
    notice = {"id": "wamid.C", "timestamp": str(int(at.timestamp())), "type": "system"}
    sender = {"from": from_[1:]} if from_ else {}
    value = {"messages": [{**notice, **sender, "system": {"body": "x", "type": type_, **change}}]}
    return list(cloud_events.read(envelope(value, None)))


def id_update(at: dt.datetime, **update: Any) -> list[Event]:
    value = {"user_id_update": [{"timestamp": str(int(at.timestamp())), **update}]}
    return list(cloud_events.read(envelope(value, None, field="user_id_update")))


IDS = {"user_id": "US.2", "previous_user_id": "US.1"}
# How the change is reported, and where the customer is answered afterwards: before and after they
# wrote from the new number, if it is shown.
CHANGES: dict[str, tuple[list[Event], str]] = {
    "ids": (system(at(50), "user_changed_user_id", **IDS), "US.2"),
    "number hidden": (system(at(50), "user_changed_number", "+16505551234", **IDS), "US.2"),
    "both": (
        system(at(50), "user_changed_number", "+16505551234", wa_id=NEW_NUMBER[1:], **IDS),
        NEW_NUMBER,
    ),
    "customer": (
        system(at(50), "user_changed_number", customer="16505551234", wa_id=NEW_NUMBER[1:]),
        NEW_NUMBER,
    ),
    "update": (id_update(at(50), user_id={"previous": "US.1", "current": "US.2"}), "US.2"),
}


@pytest.mark.parametrize(
    ("change", "is_shown"),
    [*((change, True) for change in CHANGES), ("ids", False), ("update", False)],
)
def test_in_any_order_a_customer_is_answered_where_they_are_now(
    channel: Channel, change: str, is_shown: bool
) -> None:
    """Whether the old number was known or only the old id; messages, statuses and retries."""
    reported, expected = CHANGES[change]
    hidden = set() if is_shown else {OLD[0], NEW[0]}

    def known(*addresses: Address) -> tuple[Address, ...]:
        return tuple(one for one in addresses if one not in hidden)

    events: list[Event] = [
        message(also=known(*OLD), at=at(0), name="Ana"),
        AddressEvent("", known(*OLD), at=at(10)),
        message(also=known(*OLD), at=at(20), name="Ana"),
        *reported,
        message(also=known(*NEW), at=at(60), name="Ana Maria"),
    ]
    # Nothing but a message links the old number's notice with the new id.
    always = change == "customer"

    @settings(max_examples=4, deadline=None, phases=[Phase.generate])
    @given(order=st.permutations([*events, *events[2:4]]), wrote=st.booleans())
    def in_any_order(order: list[Event], wrote: bool) -> None:
        with undone():
            apply(channel, *(e for e in order if wrote or always or e is not events[-1]))
            contact = the_contact()
            conversation = Conversation.objects.get()
            now = NEW_NUMBER if (wrote or always) and not hidden else expected
            assert contacts.address_for(conversation, "official") == now
            assert (contact.phone_number or contact.user_id) == now
            # What was given up still identifies them.
            assert {one.value for one in known(*OLD)} <= {
                value for _, value in addresses_of(contact)
            }

    in_any_order()


def test_the_new_owner_of_a_number_that_was_given_up_is_somebody_else(channel: Channel) -> None:
    known = message(also=OLD, at=at(0), name="Ana")
    late = message(also=OLD, at=at(40), name="Ana")
    stranger = message(OLD[0].value, "US.99", at=at(70), name="Stranger")
    for is_known in (False, True):
        with undone():
            apply(channel, known, *CHANGES["both"][0])
            if is_known:
                apply(channel, message(user_id="US.99", at=at(65)))
            apply(channel, stranger, late)
            ana, other = Contact.objects.filter(merged_into=None).order_by("pk")
            assert (ana.name, ana.phone_number, ana.user_id) == ("Ana", NEW_NUMBER, "US.2")
            assert (other.name, other.phone_number, other.user_id) == (
                "Stranger", OLD[0].value, "US.99",
            )  # fmt: skip
            assert ana.conversations.get().messages.count() == 3
            # A retry of what happened before the change joins nothing.
            apply(channel, *CHANGES["both"][0], late)
            assert Contact.objects.filter(merged_into=None).count() == 2


def test_a_number_that_was_given_up_is_the_former_owners_only_in_what_they_wrote_before(
    channel: Channel,
) -> None:
    """Without an id nothing else says who writes from it: WhatsApp passes numbers on."""
    number = OLD[0].value
    apply(channel, message(also=OLD, at=at(0), name="Ana"), *CHANGES["both"][0])
    apply(channel, message(number, at=at(40)), message(number, at=at(70), name="Stranger"))
    ana, other = Contact.objects.order_by("pk")
    assert (ana.name, ana.phone_number, ana.conversations.get().messages.count()) == (
        "Ana", NEW_NUMBER, 3,
    )  # fmt: skip
    assert (other.name, other.phone_number, other.user_id) == ("Stranger", number, None)
    # A late one still finds the new owner's conversation, and one from before the former owner.
    apply(channel, message(number, at=at(80)), message(also=OLD, at=at(30)))
    counts = [one.conversations.get().messages.count() for one in (ana, other)]
    assert counts == [4, 2]


def test_nothing_is_sent_to_the_only_address_if_it_was_given_up(
    wired: Channel, graph: Provider, wwebjs: Provider
) -> None:
    apply(wired, message(NUMBER, at=at(0)))
    conversation = Conversation.objects.get()
    sent = accept_to(conversation=conversation, text="oi")
    apply(wired, *system(at(50), "user_changed_number", NUMBER))
    conversation = Conversation.objects.select_related("contact", "channel").get()
    reachable = reachability.of(conversation)
    assert (reachable.any, "gave up" in reachable.why or "abandonou" in reachable.why) == (
        False,
        True,
    )
    said = preview(user=None, conversation=conversation, text="oi")
    assert (said.would, said.reason) == ("reject", "address_given_up")
    deliver(sent)
    assert trail(sent) == [("official", "rejected", "address_given_up")]
    assert not graph.sends()
    assert not wwebjs.sends()
    # Whoever writes from it again can be answered.
    apply(wired, message(NUMBER, at=at(70)))
    assert reachability.of(Conversation.objects.get()).any


def test_a_sender_only_in_contacts_is_the_sender(channel: Channel) -> None:
    card = {"vcard": "…", "phones": [{"phone": "15551234567"}]}
    cloud(
        channel,
        {"type": "contacts", "origin": "contact_request/other", "contacts": [card]},
        {"profile": {"name": "Sheena", "username": "@sheena"}, "user_id": "US.1000939"},
    )
    contact = the_contact()
    assert (contact.name, contact.username, contact.user_id) == ("Sheena", "sheena", "US.1000939")
    # Anybody's card says nothing about the sender.
    assert contact.phone_number is None


def test_a_sender_named_in_part_by_contacts_is_one_customer(channel: Channel) -> None:
    profile = {"profile": {"name": "Ana"}, "user_id": USER_ID}
    cloud(channel, {"from": NUMBER[1:]}, profile)
    assert addresses_of(the_contact()) == {("phone", NUMBER), ("user_id", USER_ID)}
    assert the_contact().name == "Ana"
    # Of several senders, nobody knows whose it is.
    value = {
        "contacts": [{"profile": {"name": "Bia"}, "user_id": "BR.2"}],
        "messages": [
            {"from": number, "id": f"wamid.{number}", "type": "text", "text": {"body": "oi"}}
            for number in ("5511900000003", "5511900000004")
        ],
    }
    apply(channel, *cloud_events.read(envelope(value, None)))
    assert not Contact.objects.filter(name="Bia").exists()


@pytest.mark.parametrize("on_the_card", [True, False])
def test_only_the_answer_to_a_request_for_it_is_the_customers_number(
    wired: Channel, on_the_card: bool
) -> None:
    channel = wired

    def shares(origin: str) -> None:
        card: dict[str, Any] = {"phones": [{"phone": "+55 11 98888-7777", "type": "CELL"}]}
        place = card if on_the_card else sent
        place["origin"] = origin
        cloud(channel, {**sent, "contacts": [card]}, {"user_id": USER_ID})

    # The button of a template and a request within the window are answered alike.
    sent: dict[str, Any] = {"type": "contacts", "from_user_id": USER_ID}
    sent["context"] = {"from": "5511900000001", "id": "wamid.TEMPLATE"}
    shares("other")
    assert the_contact().phone_number is None
    assert not reachability.of(Conversation.objects.get()).fallback
    shares("contact_request")
    assert the_contact().phone_number == NUMBER
    # Only that lets a fallback send to them.
    assert reachability.of(Conversation.objects.get()).fallback


def test_an_address_event_that_says_nothing_new_locks_nothing(channel: Channel) -> None:
    pair = AddressEvent("", named(phone_number=NUMBER, user_id=USER_ID))
    apply(channel, pair)
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        handlers.apply_events([pair, pair], {"": channel})
    assert len(queries) == 2
    assert not [one for one in queries.captured_queries if "FOR UPDATE" in one["sql"]]


def test_what_was_read_in_a_joined_conversation_stays_read(channel: Channel) -> None:
    first, second = two_halves(channel)
    merging.merge_by_hand(first.contact, second.contact, user=None)
    first.refresh_from_db()
    assert first.unread_count == 3
    selectors.mark_read(first)
    apply(channel, message(NUMBER))
    merging.undo(ContactMerge.objects.get(), user=None)
    assert sum(Conversation.objects.values_list("unread_count", flat=True)) == 1


def test_contacts_that_share_a_numbers_spellings_are_both_found(channel: Channel) -> None:
    old = [Contact.objects.create(phone_number=number) for number in SPELLINGS]
    assert contacts.ids_with(named(phone_number=SPELLINGS[0])) == [one.pk for one in old]


SPELLINGS = ("+525512340001", "+5215512340001")


def test_username_and_name_follow_changes_and_the_username_is_no_key(channel: Channel) -> None:
    person = {"from_user_id": USER_ID}
    cloud(channel, person, {"profile": {"username": "@realsheena"}, "user_id": USER_ID})
    contact = the_contact()
    assert (str(contact), contact.username) == ("realsheena", "realsheena")
    profile = {"name": "Sheena", "username": "sheena2"}
    cloud(channel, person, {"profile": profile, "user_id": USER_ID})
    cloud(channel, {"from_user_id": "BR.2"}, {"profile": profile, "user_id": "BR.2"})
    assert Contact.objects.filter(name="Sheena", username="sheena2").count() == 2
    apply(channel, message(NUMBER, name="Ana"), ContactEvent("", NUMBER, "Ana Maria"))
    assert Contact.objects.get(phone_number=NUMBER).name == "Ana Maria"


# -- Spellings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "wa_id"),
    [
        ("+525512340001", "5215512340001"),
        ("+5511988887777", "551188887777"),
        ("+5491123456789", "541123456789"),
        ("+2250707123456", "22507123456"),
    ],
)
def test_national_spellings_of_a_number_are_one_contact(
    channel: Channel, typed: str, wa_id: str
) -> None:
    sent = accept(channel, to=typed)
    cloud(channel, {"from": wa_id}, {"wa_id": wa_id})
    assert Conversation.objects.get() == sent.conversation
    other = accept(channel, to=f"+{wa_id}")
    assert other.conversation == sent.conversation
    assert phone_numbers.key(typed) == phone_numbers.key(f"+{wa_id}") == typed


# -- Message keys ----------------------------------------------------------------------------------


def test_a_message_reported_under_two_addresses_is_one_message(channel: Channel) -> None:
    """Its wamids differ only in the address; quotes, edits and statuses find it by either."""
    by_number, by_id = (
        make_wamid(who, "3EB0C767D26A1D8F4A2B", from_me=False) for who in (NUMBER[1:], USER_ID)
    )
    apply(channel, EditEvent("", by_id, "editada", NOW))
    apply(channel, message(NUMBER, provider_message_id=by_number, text="oi"))
    apply(channel, message(user_id=USER_ID, provider_message_id=by_id, text="oi"))
    received = Message.objects.get()
    assert received.text == "editada"
    assert Contact.objects.count() == 1
    apply(channel, RevokeEvent("", by_id, NOW))
    received.refresh_from_db()
    assert received.revoked_at is not None
    sent = accept(channel, to=NUMBER)
    ours = [make_wamid(who, "AABBCCDDEEFF001122") for who in (NUMBER[1:], USER_ID)]
    attempt_of(sent, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL, provider_message_id=ours[0])
    apply(channel, ReceiptEvent("", ours[1], Receipt.READ))
    sent.refresh_from_db()
    assert sent.status == "read"
    apply(channel, message(NUMBER, reply_to=ours[1]), message(NUMBER, reply_to=by_id))
    replies = Message.objects.filter(reply_to__isnull=False).order_by("provider_message_id")
    assert {reply.reply_to for reply in replies} == {sent, received}


@pytest.mark.parametrize("meta_first", [True, False])
def test_a_message_reported_by_meta_and_a_session_is_one_message(
    wired: Channel, meta_first: bool
) -> None:
    """Only what Meta reports opens the window: the session may be another number's."""
    session_id = "3EB0C767D26A1D8F4A2B"
    wamid = make_wamid(NUMBER[1:], session_id, from_me=False)
    copies = [message(NUMBER, provider_message_id=id_) for id_ in (wamid, session_id)]
    for copy in copies if meta_first else copies[::-1]:
        apply(wired, copy)
        conversation = Conversation.objects.get()
        is_reported = meta_first or copy is copies[0]
        assert (conversation.last_inbound_at is not None) == is_reported
        assert conversation.unread_count == 1
    received = Message.objects.get()
    assert received.provider_message_id == wamid
    assert conversation.last_inbound_at == NOW
    for id_, edited in ((session_id, "um"), (wamid, "dois")):
        apply(wired, EditEvent("", id_, edited, at(len(edited) * 10), NUMBER))
        received.refresh_from_db()
        assert received.text == edited
    # Neither does a session's reaction.
    sent = accept(wired, to="+5511900000009")
    attempt_of(sent, outcome=Outcome.ACCEPTED, route=Route.WWEBJS, provider_message_id="3EB0AA")
    apply(wired, ReactionEvent("", "3EB0AA", "+5511900000009", "👍", NOW))
    sent.conversation.refresh_from_db()
    assert sent.conversation.last_inbound_at is None


# -- Answering -------------------------------------------------------------------------------------


def test_a_customer_with_a_username_is_answered_by_user_id(
    wired: Channel, graph: Provider, webhooks: Webhooks
) -> None:
    person = {"user_id": USER_ID, "username": "bia.loja", "name": "Bia", "text": "olá"}
    requests.post(f"{graph.url}/_control/inbound", json=person, timeout=5).raise_for_status()
    graph.settle()
    receive(webhooks)
    conversation = Conversation.objects.get()
    for target in ({"to": USER_ID, "channel": wired}, {"conversation": conversation}):
        sent = accept_to(text="oi", **target)
        assert sent.conversation == conversation
        deliver(sent)
        assert trail(sent) == [("official", "accepted", "")]
    for body in graph.sends():
        assert (body["recipient"], "to" in body) == (USER_ID, False)
    graph.settle()
    receive(webhooks)
    sent.refresh_from_db()
    assert sent.status == "read"
    assert [(e.to, e.delivered) for e in graph.simulator.book.entries] == [(USER_ID, True)] * 2
    assert the_contact().username == "bia.loja"


def accept_to(**target: Any) -> Message:
    from messaging.delivery import accept as sending

    return sending.accept_message(user=None, **target).message


def test_where_a_fallback_cannot_reach_a_customer_nothing_is_sent_by_it(
    wired: Channel, wwebjs: Provider
) -> None:
    apply(wired, message(user_id=USER_ID))
    sent = accept_to(conversation=Conversation.objects.get(), text="oi")
    # Nothing listens at the Graph address of this number's scenario: the fallback is tried.
    sent.round_route = "fallback"
    sent.save()
    deliver(sent)
    assert trail(sent) == [("wwebjs", "rejected", "no_address")]
    assert not wwebjs.sends()


def test_a_customer_behind_a_lid_is_answered_there(wired: Channel, wwebjs: Provider) -> None:
    apply(wired, message(user_id=LID, provider_message_id="3AF1"))
    sent = accept_to(conversation=Conversation.objects.get(), text="oi")
    deliver(sent)
    assert trail(sent) == [("official", "rejected", "no_address"), ("wwebjs", "accepted", "")]
    [body] = wwebjs.sends()
    assert body["chatId"] == LID


def test_what_a_provider_reported_can_be_answered_and_what_people_type_is_checked(
    channel: Channel,
) -> None:
    for typed in ("+999123456789", "BR.123", LID, "@bia"):
        with pytest.raises(ValidationError, match="número de telefone válido"):
            accept(channel, to=typed)
    for reported in ("+999123456789", "BR.123", LID):
        known = named(**{"phone_number" if reported[0] == "+" else "user_id": reported})
        apply(channel, message(also=known))
        assert accept(channel, to=reported).conversation.contact == contacts.find(known[0])


def test_the_user_id_of_the_channels_own_account_is_sent_to(
    make_channel: Callable[..., Channel],
) -> None:
    first, second = make_channel(business_account_id="1"), make_channel(business_account_id="2")
    apply(first, message(user_id="BR.1", also=(Address(Kind.LID, LID),)))
    apply(second, message(user_id="BR.2", also=(Address(Kind.LID, LID),)))
    contact = the_contact()
    for channel, expected in ((first, "BR.1"), (second, "BR.2")):
        conversation = Conversation.objects.get(channel=channel, contact=contact)
        assert contacts.address_for(conversation, "official") == expected
        assert contacts.address_for(conversation, "wwebjs") == LID


# -- Merging by hand -------------------------------------------------------------------------------


def two_halves(channel: Channel) -> tuple[Conversation, Conversation]:
    apply(channel, message(NUMBER, name="Ana"), message(NUMBER), message(user_id=USER_ID))
    first, second = Conversation.objects.order_by("pk")
    return first, second


def test_a_merge_by_hand_moves_everything_and_its_undo_brings_it_back(
    channel: Channel, make_user: Callable[..., Any]
) -> None:
    first, second = two_halves(channel)
    waiting = accept_to(conversation=second, text="oi")
    apply(channel, CallEvent("", "C1", "", CallStatus.MISSED, NOW, user_id=USER_ID))
    user = make_user("ana")
    kept = merging.merge_by_hand(second.contact, first.contact, user=user)
    assert kept == first.contact == the_contact()
    assert Conversation.objects.get().messages.count() == 4
    # A page or a program that still has the other conversation writes in the joined one.
    assert accept_to(conversation=second, text="oi").conversation == first
    with pytest.raises(ValidationError):
        merging.merge_by_hand(kept, second.contact, user=user)

    [merge] = ContactMerge.objects.all()
    assert merge.created_by == user
    merging.undo(merge, user=user)
    merging.undo(merge, user=user)
    waiting.refresh_from_db()
    assert waiting.conversation == second
    assert (first.messages.count(), second.messages.count(), second.calls.count()) == (3, 2, 1)
    first.contact.refresh_from_db()
    assert (first.contact.phone_number, first.contact.user_id) == (NUMBER, None)
    assert Conversation.objects.get(pk=second.pk).contact.user_id == USER_ID
    # What a person separated stays apart, whatever an event says.
    apply(channel, message(NUMBER, USER_ID))
    assert Conversation.objects.count() == 2
    merging.merge_by_hand(first.contact, second.contact, user=user)
    the_contact()


def test_a_wish_about_marketing_survives_joining_and_separating(channel: Channel) -> None:
    first, second = two_halves(channel)
    Contact.objects.filter(pk=second.contact_id).update(
        marketing_stopped=True, marketing_wish_at=NOW
    )
    Contact.objects.filter(pk=first.contact_id).update(
        marketing_stopped=False, marketing_wish_at=NOW - dt.timedelta(days=1)
    )
    kept = merging.merge_by_hand(first.contact, second.contact, user=None)
    assert kept.marketing_stopped
    Contact.objects.filter(pk=second.contact_id).update(marketing_stopped=False)
    Contact.objects.filter(pk=kept.pk).update(marketing_wish_at=NOW + dt.timedelta(seconds=1))
    restored = merging.undo(ContactMerge.objects.get(), user=None)
    assert restored.marketing_stopped
    assert set(Contact.objects.values_list("marketing_stopped", flat=True)) == {True}


def test_a_join_is_not_undone_below_a_later_one(channel: Channel, baileys: Channel) -> None:
    apply(channel, message(NUMBER))
    apply(baileys, message(user_id=LID), message(user_id="333@lid"))
    a, b, c = Contact.objects.order_by("pk")
    merging.merge_by_hand(a, b, user=None)
    merging.merge_by_hand(a, c, user=None)
    later, earlier = ContactMerge.objects.order_by("-pk")
    with pytest.raises(ValidationError, match="mais recentes"):
        merging.undo(earlier, user=None)
    for record in (later, earlier):
        merging.undo(record, user=None)
    counts = [one.conversations.get().messages.count() for one in Contact.objects.all()]
    assert counts == [1, 1, 1]


def test_a_group_is_joined_with_nobody(baileys: Channel) -> None:
    apply(baileys, message(NUMBER), message(user_id="120363025246125486@g.us"))
    person, group = Contact.objects.order_by("pk")
    with pytest.raises(ValidationError, match="grupo"):
        merging.merge_by_hand(person, group, user=None)


def test_an_address_is_split_off_and_stays_apart(channel: Channel) -> None:
    apply(channel, message(NUMBER, USER_ID, name="Ana"))
    contact = the_contact()
    address = ContactAddress.objects.get(key=USER_ID)
    separate = merging.split(contact, address, user=None)
    contact.refresh_from_db()
    assert (contact.phone_number, contact.user_id) == (NUMBER, None)
    assert (separate.phone_number, separate.user_id) == (None, USER_ID)
    apply(channel, message(NUMBER, USER_ID), message(user_id=USER_ID))
    assert Conversation.objects.get(contact=contact).messages.count() == 2
    assert Conversation.objects.get(contact=separate).messages.count() == 1
    with pytest.raises(ValidationError, match="único endereço"):
        merging.split(separate, address, user=None)


# -- Old rows --------------------------------------------------------------------------------------


def test_contacts_of_an_earlier_version_get_their_addresses(channel: Channel) -> None:
    from importlib import import_module

    migration = import_module("messaging.migrations.0011_addresses_and_keys_of_old_rows")
    for number, user_id in ((NUMBER, USER_ID), ("+525512340001", None), ("+5215512340001", None)):
        contact = Contact.objects.create(phone_number=number, user_id=user_id)
        Conversation.objects.create(channel=channel, contact=contact)
    Contact.objects.create(user_id=LID)
    wamid = make_wamid(NUMBER[1:], "3EB0C767D26A1D8F4A2B")
    old = accept(channel, to=NUMBER)
    attempt_of(old, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL, provider_message_id=wamid)
    ContactAddress.objects.all().delete()
    DeliveryAttempt.objects.update(message_key="")
    for _ in range(2):
        migration.add_addresses(apps, None)
        migration.add_keys(apps, None)
    stored = set(ContactAddress.objects.values_list("kind", "value"))
    assert stored == {("phone", NUMBER), ("user_id", USER_ID), ("lid", LID)}
    [attempt] = stored_attempts(old)
    assert attempt.message_key == "wamid.3EB0C767D26A1D8F4A2B"
    # Two contacts had spellings of one number: the next event joins them.
    apply(channel, message("+5215512340001"))
    assert Contact.objects.filter(merged_into=None).count() == 3


def test_a_known_customers_message_needs_one_query_for_the_conversation(channel: Channel) -> None:
    apply(channel, message(NUMBER, USER_ID, name="Ana"))
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        contacts.lock_conversation_with(channel, phone_number=NUMBER, user_id=USER_ID, name="Ana")
    assert len(queries) == 1
    assert timezone.now() > NOW
