"""Shared work on conversations: who has them, when they wait, and what is never sent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Team
from channels_app.models import Channel
from messaging import contacts, merging, selectors
from messaging.delivery.accept import accept_message
from messaging.inbox import auto_answers, custom_fields, notes, personal, quick_replies, work
from messaging.live import frames
from messaging.models import AutomaticAnswer, Contact, Conversation, Message, Note, QuickReply
from tests.factories import change_channel
from tests.messaging.support import deliver_due, envelope, post, read_events

if TYPE_CHECKING:
    from rest_framework.test import APIClient

    from tests.conftest import Provider

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static")]

NUMBER = "+5511988887777"


def arrive(channel: Channel, id: str = "wamid.1", **fields: Any) -> Conversation:
    """Have the customer write a message that has just been sent."""
    message = {
        "from": NUMBER[1:],
        "id": id,
        "timestamp": str(int(timezone.now().timestamp())),
        "type": "text",
        "text": {"body": "Oi"},
        **fields,
    }
    post(envelope({"messages": [message]}, channel))
    read_events()
    return Conversation.objects.get()


def test_a_new_conversation_goes_to_the_channels_team_and_person(
    channel: Channel, staff: User
) -> None:
    team = Team.objects.create(name="Vendas")
    change_channel(channel, team=team, assignee=staff)
    made = arrive(channel)
    assert (made.team, made.assignee, made.status) == (team, staff, "open")
    work.change(made, assignee=None, team=None)
    again = arrive(channel, "wamid.2")
    assert (again.team, again.assignee) == (None, None)


def test_a_message_of_the_customer_reopens_a_conversation_without_another_query(
    channel: Channel,
) -> None:
    made = arrive(channel)
    counts = []
    until = timezone.now() + dt.timedelta(days=1)
    for number, state in enumerate(({}, {"status": "resolved"}, {"snoozed_until": until})):
        if state:
            assert work.change(made, **state).status == state.get("status", "snoozed")
        with CaptureQueriesContext(connection) as queries:
            made = arrive(channel, f"wamid.again{number}")
        counts.append(len(queries))
        assert (made.status, made.snoozed_until) == ("open", None)
    assert counts == [counts[0]] * 3
    work.change(made, status="resolved")
    # What the business writes, and a reaction, leave it resolved.
    arrive(channel, "wamid.r", type="reaction", reaction={"message_id": "wamid.1", "emoji": "👍"})
    assert Conversation.objects.get().status == "resolved"


def test_a_snoozed_conversation_opens_when_its_time_comes(channel: Channel) -> None:
    made = arrive(channel)
    until = timezone.now() + dt.timedelta(hours=1)
    work.change(made, snoozed_until=until)
    assert work.wake_snoozed() == 0
    with time_machine.travel(until, tick=False):
        assert work.wake_snoozed() == 1
    made.refresh_from_db()
    assert (made.status, made.snoozed_until, made.changed_at) == ("open", None, until)


def test_changes_are_made_together_or_not_at_all(
    channel: Channel, make_user: Callable[..., User]
) -> None:
    made = arrive(channel)
    work.change(made, labels=["  VIP ", "vip", "Obra  grande"])
    work.change(made, labels=["OBRA GRANDE", "novo"])
    assert sorted(label.name for label in made.labels.all()) == ["Obra grande", "novo"]
    outsider = make_user("outsider", is_staff=False)
    for wrong, field in (
        ({"assignee": outsider}, "assignee"),
        ({"labels": [""]}, "labels"),
        ({"labels": ["x" * 51]}, "labels"),
        ({"labels": [str(number) for number in range(21)]}, "labels"),
        ({"status": "resolved", "labels": ["\x00"]}, "labels"),
    ):
        with pytest.raises(ValidationError) as error:
            work.change(made, **wrong)
        assert list(error.value.message_dict) == [field]
    made.refresh_from_db()
    assert (made.status, made.labels.count()) == ("open", 2)


def test_the_list_shows_unassigned_conversations_first_and_is_filtered(
    channel: Channel, staff: User
) -> None:
    team = Team.objects.create(name="Vendas")
    now = timezone.now()
    made = []
    for number in range(4):
        one = contacts.conversation_with(channel, phone_number=f"+551198888000{number}")
        one.last_message_at = now - dt.timedelta(minutes=number)
        one.save()
        made.append(one)
    work.change(made[0], assignee=staff, labels=["VIP"])
    work.change(made[1], status="resolved", team=team)
    work.change(made[2], snoozed_until=now + dt.timedelta(days=1))

    def listed(**filters: Any) -> list[int]:
        return [made.index(row) for row in selectors.conversation_list(**filters)]

    assert listed() == [0, 1, 2, 3]
    assert listed(unassigned_first=True) == [1, 2, 3, 0]
    assert listed(status="open", unassigned_first=True) == [3, 0]
    assert listed(assignee=staff.pk) == [0]
    assert listed(unassigned=True) == [1, 2, 3]
    assert listed(team=team.pk, status="resolved") == [1]
    assert listed(label="vip") == [0]
    assert listed(label="vip", status="resolved") == []


def test_a_note_is_in_the_time_line_and_never_reaches_a_provider(
    wired: Channel, graph: Provider, wwebjs: Provider, make_user: Callable[..., User], staff: User
) -> None:
    made = arrive(wired)
    rui, bia = make_user("rui.silva"), make_user("Bia")
    make_user("gone", is_active=False)
    text = "@Rui.Silva. Vê isto com @bia, @gone, @ninguém e x@bia.com"
    note = notes.add(made, text, user=staff)
    assert set(note.mentions.all()) == {rui, bia}
    with pytest.raises(ValidationError):
        notes.add(made, "  ", user=staff)
    deliver_due()
    assert graph.sends() == wwebjs.sends() == []
    assert Message.objects.filter(direction="out").count() == 0
    # Nothing that is sent, or waits to be, can point to a note.
    assert Note._meta.related_objects == ()
    page = selectors.message_page(made, with_notes=True)
    assert [type(entry) for entry in page.entries] == [Message, Note]
    assert selectors.message_page(made).entries == page.messages


def test_notes_and_custom_fields_follow_a_merge_and_its_undo(channel: Channel, staff: User) -> None:
    first = contacts.conversation_with(channel, phone_number=NUMBER)
    second = contacts.conversation_with(channel, user_id="BR.1234567")
    custom_fields.change(first.contact, {"CPF": "1", "Cidade": "Rio"})
    custom_fields.change(second.contact, {"CPF": "2", "Bairro": "Lapa"})
    note = notes.add(second, "Pediu desconto", user=staff)
    work.change(first, status="resolved")
    Conversation.objects.filter(pk=second.pk).update(unread_count=1)
    merging.merge_by_hand(first.contact, second.contact, user=staff)
    contact = Contact.objects.get(pk=first.contact_id)
    assert contact.custom_fields == {"CPF": "1", "Cidade": "Rio", "Bairro": "Lapa"}
    assert list(notes.of(first.pk)) == [note]
    first.refresh_from_db()
    assert first.status == "open"
    later = notes.add(Conversation.everything.get(pk=second.pk), "Ainda", user=staff)
    assert list(notes.of(first.pk)) == [note, later]
    merging.undo(contact.merges.get(), user=staff)
    assert list(notes.of(first.pk)) == []
    assert Contact.objects.get(pk=second.contact_id).custom_fields == {"CPF": "2", "Bairro": "Lapa"}
    custom_fields.change(contact, {"CPF": ""})
    assert "CPF" not in contact.custom_fields
    for wrong in ({"": "x"}, {"x" * 51: "x"}, {"x": "y" * 1001}, {"x": "\x00"}):
        with pytest.raises(ValidationError):
            custom_fields.change(contact, wrong)


def test_what_people_did_with_a_conversation_is_found_in_the_one_that_it_is_joined_to(
    channel: Channel, staff: User, make_user: Callable[..., User]
) -> None:
    users = [f"BR.{number}" for number in range(4)]
    made = [contacts.conversation_with(channel, user_id=user_id) for user_id in users]
    bia = make_user("messaging.view_conversation")
    for number, one in enumerate(made):
        work.change(one, labels=[f"L{number}"])
        notes.add(one, f"N{number}", user=staff)
    work.change(made[3], assignee=staff)
    personal.save_draft(made[2], "Olá", user=staff)
    personal.save_draft(made[3], "Oi", user=bia)
    personal.save_draft(made[2], "Bom dia", user=bia)
    # The last into the one before it, and so on: three steps.
    for number in (2, 1, 0):
        contact = Contact.objects.get(pk=made[number].contact_id)
        merging.merge_by_hand(contact, made[number + 1].contact, user=staff)
    target = Conversation.objects.get()
    assert target == made[0]
    assert [note.text for note in notes.of(target.pk)] == ["N0", "N1", "N2", "N3"]
    assert set(target.labels.values_list("name", flat=True)) == {"L0", "L1", "L2", "L3"}
    assert target.assignee == staff
    assert [personal.draft(target, user=user) for user in (staff, bia)] == ["Olá", "Bom dia"]
    notes.add(Conversation.everything.get(pk=made[3].pk), f"@{staff.username}", user=staff)
    assert notes.mentioning(staff) == {made[3].pk: target.pk}
    notes.mark_mentions_seen(target, user=staff)
    assert notes.mentioning(staff) == {}


@pytest.mark.usefixtures("plain_static")
def test_open_pages_follow_changes_and_those_who_may_see_them_notes(
    channel: Channel, staff: User, make_user: Callable[..., User]
) -> None:
    made = arrive(channel)
    seen = ("messaging.view_conversation", "messaging.view_message")
    viewer = make_user("viewer", *seen)
    query = {"conversation": [str(made.pk)], "inbox": ["1"]}

    def views(user: User) -> list[frames.View]:
        return frames.views_for_query(query, user=user, language="en")

    Message.objects.update(updated_at=timezone.now() - dt.timedelta(days=1))
    assert frames.catch_up(views(staff), timezone.now(), frames.SentFrames()) == []
    work.change(made, assignee=staff, labels=["VIP"], status="resolved")
    note = notes.add(made, "@viewer veja", user=staff)
    sent = frames.SentFrames()
    for user, kinds in (
        (staff, ["conversation", "note", "work"]),
        (viewer, ["conversation", "work"]),
    ):
        found = frames.catch_up(views(user), timezone.now(), frames.SentFrames())
        assert [frame["kind"] for frame in found] == kinds
        data: dict[str, Any] = {frame["kind"]: frame.get("data") for frame in found}
        assert data["work"] == {
            "assignee": {"id": staff.pk, "name": "ana"},
            "team": None,
            "status": "resolved",
            "snoozed_until": None,
            "labels": ["VIP"],
        }
        if user == staff:
            assert data["note"]["text"] == note.text
            assert data["note"]["mentions"] == [{"id": viewer.pk, "name": "viewer"}]
    # What was sent is not sent again; a further change is.
    frames.catch_up(views(staff), timezone.now(), sent)
    assert frames.catch_up(views(staff), timezone.now(), sent) == []
    work.change(made, status="open")
    again = frames.catch_up(views(staff), timezone.now(), sent)
    assert "work" in [frame["kind"] for frame in again]


def test_quick_replies_have_one_shortcut_each_and_are_filled_in(
    channel: Channel, staff: User, make_user: Callable[..., User]
) -> None:
    made = contacts.conversation_with(channel, phone_number=NUMBER, name="Ana Souza")
    custom_fields.change(made.contact, {"Pedido": "77"})
    text = "Oi {primeiro_nome}, aqui é {agent}. Pedido {pedido}, {bairro}"
    shared = quick_replies.save(QuickReply(shortcut="/Oi", text=text))
    own = quick_replies.save(QuickReply(shortcut="oi", text="x", owner=staff))
    for wrong in (
        QuickReply(shortcut="OI", text="x"),
        QuickReply(shortcut="oi", text="x", owner=staff),
        QuickReply(shortcut="a b", text="x"),
        QuickReply(shortcut="", text="x"),
        QuickReply(shortcut="b", text=""),
    ):
        with pytest.raises(ValidationError):
            quick_replies.save(wrong)
    assert list(quick_replies.visible_to(staff, search="/o")) == [shared, own]
    assert list(quick_replies.visible_to(make_user("bia"))) == [shared]
    filled = quick_replies.fill(shared, made, user=staff)
    assert filled.text == "Oi Ana, aqui é ana. Pedido 77, {bairro}"
    assert filled.missing == ("bairro",)


def test_drafts_and_the_new_messages_are_each_persons_own(
    channel: Channel, staff: User, make_user: Callable[..., User]
) -> None:
    made, bia = arrive(channel), make_user("bia")
    personal.save_draft(made, "Bom d", user=staff)
    assert (personal.draft(made, user=staff), personal.draft(made, user=bia)) == ("Bom d", "")
    assert personal.drafts(staff, [made.pk]) == {made.pk: "Bom d"}
    personal.save_draft(made, "", user=staff)
    assert personal.drafts(staff, [made.pk]) == {}

    def new_to(user: User) -> list[Message]:
        state = personal.state(made, user=user)
        return personal.new_in(list(made.messages.order_by("created_at")), state.read_at)

    assert new_to(staff) == []  # never read
    personal.mark_read(made, user=staff)
    personal.mark_read(made, user=bia, at=made.created_at - dt.timedelta(days=1))
    made = arrive(channel, "wamid.2")
    first, second = made.messages.order_by("created_at")
    assert new_to(staff) == [second]
    assert new_to(bia) == [first, second]
    personal.mark_read(made, user=staff)
    personal.mark_read(made, user=staff, at=first.created_at)  # never back
    assert new_to(staff) == []


def test_a_greeting_is_an_ordinary_message_once_a_day_and_leaves_the_customer_unread(
    wired: Channel, graph: Provider, staff: User
) -> None:
    change_channel(wired, greeting="Olá! Já respondemos.", away_message="Voltamos às 8h.")
    with time_machine.travel("2026-11-30T15:00:00Z", tick=False) as clock:
        made = arrive(wired)
        assert auto_answers.answer_new_messages() == 1
        clock.shift(60)
        arrive(wired, "wamid.2")
        assert auto_answers.answer_new_messages() == 0
        made.refresh_from_db()
        assert made.unread_count == 2
        deliver_due()
        assert [body["text"]["body"] for body in graph.sends()] == ["Olá! Já respondemos."]
        answered = AutomaticAnswer.objects.get()
        assert answered.message is not None
        assert (answered.kind, answered.message.created_by) == ("greeting", None)
        # Out of hours, on the same day.
        change_channel(wired, opening_hours={"mon": [["08:00", "09:00"]]})
        assert auto_answers.answer_new_messages() == 1
        # In opening hours again, but this message has its answer.
        AutomaticAnswer.objects.filter(kind="greeting").update(day="2026-11-29")
        change_channel(wired, opening_hours={})
        assert auto_answers.answer_new_messages() == 0
        # The next day begins at midnight of the channel's time zone; a late answer is not sent.
        clock.move_to("2026-12-01T03:00:00Z")
        assert auto_answers.answer_new_messages() == 0
        arrive(wired, "wamid.3")
        assert auto_answers.answer_new_messages() == 1
        change_channel(wired, active=False)
        clock.shift(86_400)
        arrive(wired, "wamid.4")
        assert auto_answers.answer_new_messages() == 0


def test_an_automatic_answer_is_decided_under_the_lock_is_never_late_and_marked(
    wired: Channel, graph: Provider, staff: User, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_channel(wired, greeting="Olá!")
    monkeypatch.setattr(auto_answers, "BATCH", 1)
    with time_machine.travel("2026-11-30T15:00:00Z", tick=False) as clock:
        made = arrive(wired)
        now = timezone.now()
        # Between the decision and the lock, a person answers.
        channel = Channel.objects.get(pk=wired.pk)
        accept_message(conversation=made, user=staff, text="Pois não?")
        clock.shift(1)
        assert not auto_answers._send(made, "greeting", channel, now=now)
        assert not AutomaticAnswer.objects.exists()
        # However many customers write at once, all are answered.
        for number in range(3):
            sender = {"from": f"551198888777{number}"}
            value = {"messages": [{"id": f"wamid.B{number}", "type": "text", "text": {"body": "Oi"},
                                   "timestamp": str(int(now.timestamp())), **sender}]}  # fmt: skip
            post(envelope(value, wired))
        read_events()
        assert auto_answers.answer_new_messages() == 3
        message = AutomaticAnswer.objects.order_by("pk")[0].message
        assert message is not None
        assert api.get(f"/api/messages/{message.pk}/").json()["automatic"] == "greeting"
        # It waited too long.
        clock.shift(16 * 60)
        deliver_due()
        assert [body["text"]["body"] for body in graph.sends()] == ["Pois não?"]
        message.refresh_from_db()
        assert (message.decision, message.overdue_at) == ("deadline_passed", None)
