"""A number that is also on the WhatsApp Business app, and conversations that another app has."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from django.utils import timezone, translation
from hypothesis import Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from channels_app.incidents import incidents
from channels_app.models import Channel
from messaging import contacts, control, merging, names, selectors, words
from messaging.delivery.accept import accept_message
from messaging.inbound import handlers
from messaging.inbound.replay import replay
from messaging.live import publisher
from messaging.models import Contact, ContactMerge, Conversation, InboundEvent, Message
from tests.messaging.support import deliver, envelope, post, read_events, trail
from tests.pages.html import parse

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.test import Client
    from rest_framework.test import APIClient

    from tests.conftest import Provider

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static")]

OWN, ANA, BIA = "5511900000001", "5511988887777", "BR.13491208655302741918"
NOW = int(timezone.now().timestamp())
DAYS = 24 * 3600


@pytest.fixture
def channel(channel: Channel) -> Channel:
    channel.ignore_messages_sent_outside = False
    channel.save()
    return channel


def arrive(channel: Channel, field: str, **value: Any) -> None:
    """Post a change and read it. `seen` distinguishes repeated ones, which are stored once."""
    metadata = {"phone_number_id": channel.phone_number_id, "display_phone_number": OWN}
    value = {"metadata": metadata, "seen": InboundEvent.objects.count(), **value}
    post(envelope(value, None, field=field))
    read_events()
    event = InboundEvent.objects.order_by("-pk")[0]
    assert (event.state, event.error) == ("done", "")


def text(id_: str, body: str, at: int, *, outgoing: bool = False, **more: Any) -> dict[str, Any]:
    side = {"from": OWN, "to": ANA} if outgoing else {"from": ANA}
    own = {"id": id_, "timestamp": str(at), "type": "text", "text": {"body": body}}
    return {**side, **own, **more}


def history(*messages: dict[str, Any], thread: Any = None, phase: int = 0) -> dict[str, Any]:
    status = {"history_context": {"status": "READ"}}
    listed = [{**status, **message} for message in messages]
    metadata = {"phase": phase, "chunk_order": 1, "progress": 50}
    return {
        "history": [
            {"metadata": metadata, "threads": [{**(thread or {"id": ANA}), "messages": listed}]}
        ]
    }


def saved(name: str, at: int, action: str = "add", **who: Any) -> dict[str, Any]:
    contact = {"full_name": name, **(who or {"phone_number": ANA})}
    entry = {"type": "contact", "contact": contact, "action": action}
    return {"state_sync": [{**entry, "metadata": {"timestamp": str(at)}}]}


IMAGE = {"mime_type": "image/jpeg", "sha256": "x", "id": "24230790383178626", "caption": "foto"}
PICTURE = {"from": OWN, "id": "wamid.H3", "timestamp": str(NOW - 5 * DAYS)}
CHUNKS: list[tuple[str, dict[str, Any]]] = [
    ("history", history(text("wamid.H1", "oi", NOW - 90 * DAYS), phase=2)),
    (
        "history",
        history(
            text("wamid.H2", "pois não", NOW - 5 * DAYS - 60, outgoing=True),
            {**PICTURE, "type": "media_placeholder"},
            text("wamid.H4", "obrigada", NOW - 30),
            {"from": ANA, "id": "wamid.H5", "timestamp": str(NOW - 20), "type": "reaction",
             "reaction": {"message_id": "wamid.H2", "emoji": "👍"}},
        ),
    ),
    ("history", {"messages": [{**PICTURE, "to": ANA, "type": "image", "image": IMAGE}]}),
    ("smb_app_state_sync", saved("Ana (padaria)", NOW - 40)),
    ("smb_app_state_sync", saved("Ana da padaria", NOW - 30)),
    # It arrives by itself, too: only then it is new.
    (
        "messages",
        {
            "contacts": [{"profile": {"name": "Ana"}, "wa_id": ANA}],
            "messages": [text("wamid.H4", "obrigada", NOW - 30)],
        },
    ),
]  # fmt: skip


def rows(channel: Channel) -> Any:
    conversation = Conversation.objects.select_related("contact").get()
    contact = conversation.contact
    window = conversation.last_inbound_at
    return [
        [
            (m.provider_message_id, m.type, m.text, m.status, m.media is not None,
             [one["emoji"] for one in m.reactions], m.created_at.timestamp(), m.context)
            for m in conversation.messages.order_by("created_at")
        ],
        (contact.name, contact.profile_name, contact.saved_name, contact.phone_number),
        (conversation.unread_count, window and window.timestamp()),
    ]  # fmt: skip


def test_history_ends_in_the_same_rows_in_any_order(channel: Channel) -> None:
    expected: Any = None

    @examples(max_examples=5, phases=[Phase.generate])
    @given(order=st.permutations(CHUNKS), again=st.lists(st.sampled_from(CHUNKS), max_size=2))
    def in_any_order(order: list[Any], again: list[Any]) -> None:
        nonlocal expected
        with transaction.atomic():
            for field, value in [*order, *again]:
                arrive(channel, field, **value)
            found = rows(channel)
            transaction.set_rollback(True)
        expected = expected or found
        assert found == expected
        messages, who, (unread, window) = found
        assert [message[:4] for message in messages] == [
            ("wamid.H1", "text", "oi", ""),
            ("wamid.H2", "text", "pois não", "read"),
            ("wamid.H3", "image", "foto", messages[2][3]),
            ("wamid.H4", "text", "obrigada", ""),
        ]
        assert messages[2][4]
        assert messages[1][5] == ["👍"]
        assert [message[6] for message in messages] == [
            NOW - 90 * DAYS, NOW - 5 * DAYS - 60, NOW - 5 * DAYS, NOW - 30,
        ]  # fmt: skip
        assert who == ("Ana da padaria", "Ana", "Ana da padaria", f"+{ANA}")
        # Only the message that arrived by itself is new.
        assert (unread, window) == (1, NOW - 30)

    in_any_order()


def test_history_alone_alarms_nobody_and_opens_no_window(
    channel: Channel,
    client: Client,
    staff: User,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pushed: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(publisher, "publish", lambda group, **changed: pushed.append(changed))
        arrive(channel, "history", **CHUNKS[0][1])
        arrive(channel, "history", **history({**PICTURE, "type": "media_placeholder"}))
    by_id = {"context": {"user_id": BIA, "username": "bia"}}
    message = {"from_user_id": BIA, "id": "wamid.B1", "timestamp": str(NOW - 100), "type": "text",
               "text": {"body": "sou a Bia"}}  # fmt: skip
    failed = {"from": OWN, "to_user_id": BIA, "id": "wamid.B2", "timestamp": str(NOW - 90),
              "type": "text", "text": {"body": "oi"}}  # fmt: skip
    failed |= {"history_context": {"status": "ERROR"}}
    arrive(channel, "history", **history(message, failed, thread=by_id))
    assert not pushed
    ana, bia = Conversation.objects.order_by("pk")
    assert [(one.unread_count, one.last_inbound_at) for one in (ana, bia)] == [(0, None)] * 2
    assert (bia.contact.user_id, bia.contact.username) == (BIA, "bia")
    assert bia.messages.get(provider_message_id="wamid.B2").status == "rejected"
    placeholder = ana.messages.get(provider_message_id="wamid.H3")
    with translation.override("en"):
        [line] = words.lines(placeholder.type, placeholder.text, placeholder.content)
        assert line.text == "A file from the time before the number was connected"
    client.force_login(staff)
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "en"
    page = client.get(f"/conversations/{ana.pk}/").content.decode()
    assert "Window closed" in page
    assert "Has not written yet" not in page
    # Neither does joining and separating them.
    arrive(channel, "messages", **CHUNKS[5][1])
    merging.merge_by_hand(ana.contact, bia.contact, user=None)
    merging.undo(bia.contact.merged_by.get(), user=None)
    bia.refresh_from_db()
    ana.refresh_from_db()
    assert (bia.last_inbound_at, ana.last_inbound_at is None) == (None, False)


def test_a_history_that_is_not_shared_is_a_notice(channel: Channel) -> None:
    error = {"code": 2593109, "title": "History sync is turned off by the business"}
    arrive(channel, "history", history=[{"errors": [error]}])
    with translation.override("en"):
        [line] = map(incidents.headline, incidents.current())
    assert line.startswith("notice from Meta: The history was not shared (2593109)")


NAMES: list[tuple[str, dict[str, Any]]] = [
    *CHUNKS[5:],
    ("smb_app_state_sync", saved("Ana 1", NOW - 50)),
    ("smb_app_state_sync", saved("Ana 2", NOW - 40)),
    ("smb_app_state_sync", saved("Ana 2", NOW - 30, "remove")),
]


@pytest.mark.parametrize("removed", [False, True])
def test_staff_name_a_contact_before_the_address_book_and_that_before_the_profile(
    channel: Channel, removed: bool
) -> None:
    events = NAMES if removed else NAMES[:3]

    @examples(max_examples=4, phases=[Phase.generate])
    @given(order=st.permutations([*events, None]))
    def in_any_order(order: list[Any]) -> None:
        with transaction.atomic():
            by_staff = None
            for event in order:
                if event:
                    arrive(channel, event[0], **event[1])
                elif by_staff := Contact.objects.first():
                    contacts.rename(by_staff, "Dona Ana")
            contact = Contact.objects.get()
            assert contact.name == ("Dona Ana" if by_staff else "Ana" if removed else "Ana 2")
            contacts.rename(contact, "")
            assert contact.name == ("Ana" if removed else "Ana 2")
            transaction.set_rollback(True)

    in_any_order()


def test_joined_contacts_keep_the_name_that_stands_first() -> None:
    ana, beto = (Contact(name=name) for name in ("Ana", "Beto"))
    names.set_saved(beto, "Beto (oficina)")
    names.adopt(ana, beto, saved="Beto (oficina)")
    assert (ana.name, ana.profile_name) == ("Beto (oficina)", "Ana")
    names.rename(beto, "Seu Beto")
    names.adopt(ana, beto, saved="Beto (oficina)")
    assert (ana.name, ana.named_by_staff) == ("Seu Beto", True)


def test_a_name_belongs_to_the_address_book_and_to_the_address_that_it_was_given_to(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    """Two phones of the business have the customer; a third event removes them from one only."""
    other = make_channel(phone_number="+5511900000002")
    events = [
        (channel, saved("Ana (A)", NOW - 50)),
        (other, saved("Ana (B)", NOW - 40)),
        (other, saved("", NOW - 30, "remove")),
        (channel, {"contacts": [{"profile": {"name": "Aninha"}, "wa_id": ANA}],
                   "messages": [text("wamid.N1", "oi", NOW - 60)]}),
    ]  # fmt: skip
    for order in list(itertools.permutations(events))[::3]:
        with transaction.atomic():
            for its_channel, value in order:
                is_book = "state_sync" in value
                arrive(its_channel, "smb_app_state_sync" if is_book else "messages", **value)
            contact = Contact.objects.get()
            assert (contact.name, contact.profile_name) == ("Ana (A)", "Aninha")
            transaction.set_rollback(True)
    for its_channel, value in (events[0], (channel, saved("Bia", NOW - 20, user_id=BIA))):
        arrive(its_channel, "smb_app_state_sync", **value)
    # The latest of several entries counts; an undo gives each their own.
    ana, bia = Contact.objects.order_by("pk")
    merging.merge_by_hand(ana, bia, user=None)
    assert Contact.objects.get(pk=ana.pk).name == "Bia"
    arrive(channel, "smb_app_state_sync", **saved("", NOW - 10, "remove", user_id=BIA))
    arrive(other, "smb_app_state_sync", **saved("Bia (B)", NOW - 9, user_id=BIA))
    assert Contact.objects.get(pk=ana.pk).name == "Bia (B)"
    merging.undo(ContactMerge.objects.get(), user=None)
    assert [one.name for one in Contact.objects.order_by("pk")] == ["Ana (A)", "Bia (B)"]


def test_who_was_removed_from_the_address_book_before_anybody_knew_them_is_no_contact(
    channel: Channel,
) -> None:
    arrive(channel, "smb_app_state_sync", **saved("Ana", NOW - 30, "remove"))
    assert not Contact.objects.exists()
    # It is remembered: an earlier entry that is late does not name them again.
    arrive(channel, "smb_app_state_sync", **saved("Ana", NOW - 40))
    assert Contact.objects.get().name == ""


# -- another app has the conversation --------------------------------------------------------------


def handover(type_: str, at: int, **part: Any) -> tuple[str, dict[str, Any]]:
    recipient = {"phone_number_id": "106540352242922", "display_phone_number": OWN}
    value = {"recipient": recipient, "sender": {"phone_number": ANA}, "timestamp": str(at)}
    return "messaging_handovers", {"metadata": {}, **value, "type": type_, type_: part}


def on_standby(id_: str, at: int) -> tuple[str, dict[str, Any]]:
    return "standby", {"standby": {"messages": [text(id_, "oi", at)]}}


def test_each_hand_over_is_a_notice_of_its_own_and_a_repeated_one_is_not(channel: Channel) -> None:
    _, value = handover("control_taken", NOW, new_owner_role="ai_agent")
    del value["timestamp"]
    for entry_time in (NOW - 20, NOW - 10, NOW - 10):
        payload = envelope({**value, "metadata": {}}, None, field="messaging_handovers")
        payload["entry"][0]["time"] = entry_time
        payload["seen"] = InboundEvent.objects.count()
        post(payload)
    # Two of the same second that say different things.
    for role in ("ai_agent", "escalation"):
        field, value = handover("control_taken", NOW - 5, new_owner_role=role)
        arrive(channel, field, **value)
    times = Message.objects.order_by("created_at").values_list("created_at", flat=True)
    assert [int(at.timestamp()) - NOW for at in times] == [-20, -10, -5, -5]


TAKEN = handover("control_taken", NOW - 80, new_owner_role="ai_agent")
PASSED = handover(
    "control_passed", NOW - 50, previous_owner_role="ai_agent", new_owner_role="escalation",
    conversation_context={"type": "summary", "summary": "Quer trocar o bolo"}, metadata="urgente",
)  # fmt: skip
ECHO = {"id": "wamid.S3", "timestamp": str(NOW - 60),
        "message": {"to": ANA, "recipient_type": "individual", "type": "text",
                    "text": {"body": "resposta do agente"}}}  # fmt: skip
TALK = [
    ("messages", {"messages": [text("wamid.S1", "bom dia", NOW - 100)]}),
    TAKEN,
    on_standby("wamid.S2", NOW - 70),
    ("standby", {"standby": {"message_echoes": [ECHO]}}),
    PASSED,
    ("messages", {"messages": [text("wamid.S4", "e aí?", NOW - 40)]}),
]


@pytest.mark.parametrize(("until", "holder"), [(1, ""), (2, "ai_agent"), (4, "ai_agent"), (6, "")])
def test_who_has_a_conversation_does_not_depend_on_the_order(
    channel: Channel, until: int, holder: str
) -> None:
    @examples(max_examples=5, phases=[Phase.generate])
    @given(order=st.permutations(TALK[:until]))
    def in_any_order(order: list[Any]) -> None:
        with transaction.atomic():
            for field, value in [*order, *order[:1]]:
                arrive(channel, field, **value)
            conversation = Conversation.objects.get()
            assert control.holder(conversation) == holder
            assert conversation.messages.count() == until
            # Two of them are notices; of those only the one that is for us is to be read.
            assert conversation.unread_count == {1: 1, 2: 1, 4: 2, 6: 4}[until]
            transaction.set_rollback(True)

    in_any_order()


def test_what_the_agent_sent_before_it_passed_the_conversation_takes_nothing(
    channel: Channel,
) -> None:
    late = {**ECHO, "timestamp": str(NOW - 49)}
    events = [*TALK[:3], ("standby", {"standby": {"message_echoes": [late]}}), PASSED]
    for order in (events, [*events[:3], events[4], events[3]], events[::-1]):
        with transaction.atomic():
            for field, value in order:
                arrive(channel, field, **value)
            assert control.holder(Conversation.objects.get()) == ""
            transaction.set_rollback(True)


def test_our_own_message_takes_the_conversation(wired: Channel, graph: Provider) -> None:
    for field, value in TALK[:3]:
        arrive(wired, field, **value)
    conversation = Conversation.objects.get()
    assert control.holder(conversation) == "ai_agent"
    sent = accept_message(user=None, conversation=conversation, text="oi").message
    assert control.holder(Conversation.objects.get()) == "ai_agent"
    deliver(sent)
    assert trail(sent) == [("official", "accepted", "")]
    assert control.holder(Conversation.objects.get()) == ""
    # What came before that does not give it back.
    arrive(wired, *TALK[3][:1], **TALK[3][1])
    assert control.holder(Conversation.objects.get()) == ""


def test_a_conversation_of_another_app_is_shown_as_such(
    channel: Channel, api: APIClient, client: Client, staff: User, settings: Any
) -> None:
    for field, value in TALK[:4]:
        arrive(channel, field, **value)
    conversation = Conversation.objects.get()
    client.force_login(staff)
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "en"
    path = f"/conversations/{conversation.pk}/"
    page = parse(client.get(path).content)
    note = "Meta's agent has this conversation. A message from here takes it over."
    assert page.one(id="chat-control").text == note
    assert "Meta's agent has the conversation now" in page.text
    assert "resposta do agente" in page.text
    assert api.get(f"/api/conversations/{conversation.pk}/").json()["controlled_by"] == "ai_agent"
    arrive(channel, PASSED[0], **PASSED[1])
    seen = parse(client.post(f"{path}seen/").content)
    assert seen.one(id="chat-control").text == ""
    notice = Message.objects.latest("created_at")
    page = parse(client.get(path).content)
    for shown in ("Meta's agent passed the conversation to you", "Quer trocar o bolo", "urgente"):
        assert shown in page.text
    assert "Quer trocar o bolo" in api.get(f"/api/messages/{notice.pk}/").json()["summary"]
    # Nothing reports that an app gives a conversation back: that is so after a day.
    Conversation.objects.update(
        controlled_by="app", controlled_at=timezone.now() - dt.timedelta(hours=25)
    )
    assert api.get(f"/api/conversations/{conversation.pk}/").json()["controlled_by"] == ""


# -- what an earlier version skipped ---------------------------------------------------------------


def test_what_an_earlier_version_skipped_is_named_and_can_be_replayed(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    attached = make_channel(
        fallback="wwebjs", wwebjs_url="http://127.0.0.1:9", wwebjs_api_key="key",
        wwebjs_session_id="demo",
    )  # fmt: skip
    changes = [*CHUNKS[:4], TAKEN, TALK[2]]
    for field, value in changes:
        metadata = {"phone_number_id": channel.phone_number_id, "display_phone_number": OWN}
        payload = envelope({"metadata": metadata, **value}, None, field=field)
        skip(payload, "cloud", channel, f"field:{field}")
    call = {"id": "C1", "from": f"{ANA}@c.us", "timestamp": NOW, "isVideo": True, "fromMe": False}
    body = {"sessionId": "demo", "dataType": "call", "data": {"call": call}}
    skip(body, "wwebjs", attached, "callback:call")
    counted = dict(selectors.skipped().kinds)
    assert counted == {
        "field:history": 3, "field:smb_app_state_sync": 1, "field:messaging_handovers": 1,
        "field:standby": 1, "callback:call": 1,
    }  # fmt: skip
    assert [replay(skipped=kind) for kind in counted] == [(n, 0) for n in counted.values()]
    assert selectors.skipped().kinds == []
    assert Message.objects.count() == 6
    [called] = attached.conversations.get().calls.all()
    assert (called.status, called.video, called.call_id) == ("ringing", True, "C1")
    for _ in range(2):
        handlers.apply(InboundEvent.objects.get(source="wwebjs"), {"demo": attached})
    assert attached.conversations.get().unread_count == 1


def skip(payload: Any, source: str, channel: Channel, kind: str) -> None:
    number = InboundEvent.objects.count()
    InboundEvent.objects.create(
        source=source, source_key=str(channel.pk), dedupe_key=f"{kind} {number}",
        payload=payload, state="done", skipped=kind,
    )  # fmt: skip
