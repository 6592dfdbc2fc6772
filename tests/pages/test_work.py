"""Shared work on the pages: who has a conversation, private notes, the panel, labels."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from accounts.models import Team
from channels_app.models import Channel
from messaging.inbox import custom_fields, lists, notes, work
from messaging.live import frames
from messaging.models import Conversation, Label, Message, Note
from tests.pages.html import parse

pytestmark = pytest.mark.django_db

MakeMessage = Callable[..., Message]
HTMX = {"HX-Request": "true"}


def page_of(client: Client, conversation: Conversation) -> str:
    return client.get(f"/conversations/{conversation.pk}/").content.decode()


def element(html: str, key: str) -> str:
    """Return an element of a page as a frame has it: without what needs a request or the time."""
    found = re.search(rf'<(\w+)[^>]*?data-live="{key}".*?</\1>', html, re.S)
    assert found, key
    kept = re.sub(r'<input type="hidden" name="csrf[^>]*>|data-version="\d+"', "", found[0])
    return re.sub(r"\s+", " ", kept)


def test_frames_show_what_the_page_shows(
    staff_client: Client, staff: User, conversation: Conversation, make_user: Callable[..., User]
) -> None:
    make_user("bia", first_name="Bia")
    work.change(conversation, assignee=staff, labels=["VIP"])
    work.change(conversation, snoozed_until=timezone.now() + timezone.timedelta(days=2))
    note = notes.add(conversation, "@bia <b>veja</b>\nhttps://a.example", user=staff)
    query = {"conversation": [str(conversation.pk)]}
    views = frames.views_for_query(query, user=staff, language="en")
    sent = {frame["key"]: frame for frame in frames.catch_up(views, timezone.now())}
    page = page_of(staff_client, conversation)
    for key in (f"work:{conversation.pk}", f"note:{note.pk}"):
        assert element(page, key) == element(sent[key]["html"], key)
    shown = sent[f"note:{note.pk}"]["html"]
    assert '<span class="mention">@Bia</span> &lt;b&gt;veja&lt;/b&gt;<br>' in shown
    assert 'href="https://a.example"' in shown


def test_a_conversation_is_given_away_resolved_and_snoozed_with_a_click(
    staff_client: Client, staff: User, conversation: Conversation, make_user: Callable[..., User]
) -> None:
    bia, team = make_user("bia"), Team.objects.create(name="Vendas")
    url = f"/conversations/{conversation.pk}"

    def post(**fields: Any) -> tuple[int, Conversation]:
        answer = staff_client.post(f"{url}/work/", fields, headers=HTMX)
        return answer.status_code, Conversation.objects.get()

    assert post(assignee="me")[1].assignee == staff
    assert post(assignee=bia.pk)[1].assignee == bia
    assert post(assignee="")[1].assignee is None
    assert post(team=team.pk)[1].team == team
    assert post(status="resolved")[1].status == "resolved"
    code, snoozed = post(snooze="tomorrow", until="")
    assert (code, snoozed.status) == (200, "snoozed")
    assert snoozed.snoozed_until is not None
    assert timezone.localtime(snoozed.snoozed_until).hour == 9
    assert post(snooze="at", until="2099-01-01T10:00")[1].snoozed_until > timezone.now()
    for wrong in ({"snooze": "at", "until": "x"}, {"snooze": "at", "until": "2001-01-01T10:00"}):
        assert post(**wrong)[0] == 400
    assert post(status="lost")[0] == 400
    assert post(assignee=make_user("leo", is_active=False).pk)[0] == 404
    assert post(assignee="9" * 30)[0] == 404
    assert post(status="open")[1].snoozed_until is None
    # Without scripts the forms lead back to the page.
    assert staff_client.post(f"{url}/work/", {"status": "open"}).headers["Location"] == f"{url}/"
    assert staff_client.post(f"{url}/unread/").headers["Location"] == "/conversations/"
    assert Conversation.objects.get().unread_count == 1
    menu = parse(staff_client.get(f"{url}/people/").content).text
    assert "bia" in menu
    assert "Vendas" in menu
    assert "leo" not in menu


def test_what_is_written_as_a_note_reaches_no_message(
    staff_client: Client, conversation: Conversation
) -> None:
    """Each form of the page: that of the note names no field that any other endpoint would send."""
    url = f"/conversations/{conversation.pk}/"
    page = parse(page_of(staff_client, conversation).encode())
    form = page.one("form", data_note_form=None)
    assert form.attributes["action"] == form.attributes["hx-post"] == f"{url}notes/"
    named = [one.attributes["name"] for one in form.all(name=None)]
    assert set(named) <= {"csrfmiddlewaretoken", "note"}
    secret = "Não dar desconto"
    assert staff_client.post(f"{url}notes/", {"note": secret}, headers=HTMX).status_code == 200
    assert staff_client.post(f"{url}notes/", {"note": " "}, headers=HTMX).status_code == 400
    for path in ("", "work/", "labels/", "panel/", "unread/", "seen/", "ask/", "verdict/"):
        staff_client.post(url + path, {"note": secret, "key": path}, headers=HTMX)
    assert [note.text for note in Note.objects.all()] == [secret]
    sent = Message.objects.values_list("text", "content")
    assert not [one for one in sent if secret in str(one)]


def test_mentions_are_counted_until_the_conversation_is_opened(
    staff: User,
    conversation: Conversation,
    make_user: Callable[..., User],
    client_for: Callable[[User], Client],
) -> None:
    read = ("messaging.view_conversation", "messaging.view_message")
    bia, leo = make_user("bia", *read, "messaging.view_note"), make_user("leo", *read)
    notes.add(conversation, "@bia @leo vejam", user=staff)
    assert [lists.counts(user)["mentions"] for user in (staff, bia, leo)] == [0, 1, 0]
    client = client_for(bia)
    assert "Mariana" in client.get("/conversations/?tab=mentions").content.decode()
    page_of(client, conversation)
    assert lists.counts(bia)["mentions"] == 0
    notes.add(conversation, "@bia de novo", user=staff)
    assert lists.counts(bia)["mentions"] == 1
    # Whoever may not see notes learns nothing of them.
    shown = page_of(client_for(leo), conversation)
    panel = client_for(leo).get(f"/conversations/{conversation.pk}/panel/").content.decode()
    assert "vejam" not in shown + panel
    assert "data-note-form" not in shown


def test_the_panel_shows_what_is_known_and_changes_it(
    staff_client: Client,
    channel: Channel,
    staff: User,
    conversation: Conversation,
    make_channel: Callable[..., Channel],
    make_conversation: Callable[..., Conversation],
    make_message: MakeMessage,
    django_assert_max_num_queries: Any,
) -> None:
    other = make_conversation(make_channel(name="Filial", phone_number_id="2"), name="Mariana")
    custom_fields.change(conversation.contact, {"CPF": "1"})
    type(conversation.contact).objects.update(marketing_stopped=True)
    make_message(conversation, status="rejected", decision="never_fall_back", error_code="131050")
    make_message(
        conversation, text="Lembrete", decision="waiting_schedule", send_at=timezone.now(),
        minutes_ago=-60,
    )  # fmt: skip
    notes.add(conversation, "Prefere à noite", user=staff)
    url = f"/conversations/{conversation.pk}"
    with django_assert_max_num_queries(16):
        text = parse(staff_client.get(f"{url}/panel/").content).text
    for expected in (
        "+55 11 99999-0000", "Only reachable through the official API", "Filial", "Lembrete",
        "Has stopped marketing messages", "was refused", "Prefere à noite", "CPF",
    ):  # fmt: skip
        assert expected in text
    assert other.contact_id == conversation.contact_id
    staff_client.post(f"{url}/labels/", {"add": " vip  ouro "}, headers=HTMX)
    staff_client.post(f"{url}/labels/", {"add": "Novo"}, headers=HTMX)
    staff_client.post(f"{url}/labels/", {"remove": "novo"}, headers=HTMX)
    assert staff_client.post(f"{url}/labels/", {"add": "x" * 51}, headers=HTMX).status_code == 400
    staff_client.post(f"{url}/panel/", {"name": "Mari"})
    staff_client.post(f"{url}/panel/", {"field": "Pedido", "value": "7"}, headers=HTMX)
    assert staff_client.post(f"{url}/panel/", {"field": ""}, headers=HTMX).status_code == 400
    found = Conversation.objects.select_related("contact").get(pk=conversation.pk)
    assert [label.name for label in found.labels.all()] == ["vip ouro"]
    assert (found.contact.name, found.contact.custom_fields) == (
        "Mari",
        {"CPF": "1", "Pedido": "7"},
    )


def test_labels_are_renamed_colored_merged_and_deleted(
    staff_client: Client, conversation: Conversation, make_conversation: Callable[..., Conversation]
) -> None:
    second = make_conversation(conversation.channel, "+5511999990001")
    work.change(conversation, labels=["VIP", "Ouro"])
    work.change(second, labels=["Ouro"])
    vip, ouro = Label.objects.get(name="VIP"), Label.objects.get(name="Ouro")

    def post(**fields: Any) -> int:
        return staff_client.post("/labels/", fields).status_code

    assert post(label=vip.pk, name="ouro") == 400
    assert post(label=vip.pk, name="Vip", color="red") == 400
    assert post(label=vip.pk, name="Vip", color="#3f7cb5") == 302
    assert 'class="label hue-0">Vip<' in staff_client.get("/labels/").content.decode()
    assert post(label=ouro.pk, merge="", into=ouro.pk) == 400
    assert post(label=ouro.pk, merge="", into=vip.pk) == 302
    assert {one.pk for one in vip.conversations.all()} == {conversation.pk, second.pk}
    assert post(label=vip.pk, delete="") == 302
    assert not Label.objects.exists()
    assert post(label=vip.pk, delete="") == 404


def test_merging_or_deleting_labels_needs_its_permission(
    make_user: Callable[..., User], client_for: Callable[[User], Client]
) -> None:
    label = Label.objects.create(name="VIP")
    client = client_for(make_user("leo", "messaging.view_label", "messaging.change_label"))
    for action in ("delete", "merge"):
        answer = client.post("/labels/", {"label": label.pk, action: "", "into": label.pk})
        assert answer.status_code == 403
    assert client.post("/labels/", {"label": label.pk, "name": "Vip"}).status_code == 302


def test_a_channel_names_who_answers_it_and_when(
    staff_client: Client, staff: User, channel: Channel
) -> None:
    team = Team.objects.create(name="Vendas")
    url = f"/channels/{channel.pk}/inbox/"
    fields = {
        "team": team.pk, "assignee": staff.pk, "greeting": "Oi!", "away_message": "Até amanhã",
        "time_zone": "America/Manaus", "mon": "8-12, 13-18", "sat": "9h às 12h30",
    }  # fmt: skip
    assert staff_client.post(url, fields).status_code == 302
    stored = Channel.objects.get()
    assert (stored.team, stored.assignee, stored.greeting) == (team, staff, "Oi!")
    assert stored.opening_hours == {
        "mon": [["08:00", "12:00"], ["13:00", "18:00"]],
        "sat": [["09:00", "12:30"]],
    }
    assert 'value="08:00-12:00, 13:00-18:00"' in staff_client.get(url).content.decode()
    for wrong in ({"mon": "sempre"}, {"time_zone": "Lua"}, {"mon": "", "sat": ""}):
        assert staff_client.post(url, {**fields, **wrong}).status_code == 400
    assert Channel.objects.get().away_message == "Até amanhã"


def test_the_page_of_a_conversation_costs_few_queries(
    staff_client: Client,
    staff: User,
    conversation: Conversation,
    make_message: MakeMessage,
    django_assert_max_num_queries: Any,
) -> None:
    for number in range(5):
        make_message(conversation)
        notes.add(conversation, f"@{staff.username} {number}", user=staff)
    page_of(staff_client, conversation)  # stores that the mentions were seen
    with django_assert_max_num_queries(26):
        page_of(staff_client, conversation)
