"""REST: the work on conversations, notes, quick replies, drafts, search."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from accounts.models import Team
from messaging import contacts
from messaging.models import Conversation, Message, Note, QuickReply

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from rest_framework.test import APIClient

    from channels_app.models import Channel

pytestmark = pytest.mark.django_db

CONVERSATIONS = "/api/conversations/"
REPLIES = "/api/quick-replies/"


@pytest.fixture
def conversation(channel: Channel) -> Conversation:
    made = contacts.conversation_with(channel, phone_number="+5511988887777", name="Ana Souza")
    Message.objects.create(
        conversation=made, direction="in", text="Quero um orçamento", created_at=timezone.now()
    )
    return made


def test_a_conversation_is_changed_and_found_by_what_was_changed(
    api: APIClient, conversation: Conversation, staff: User
) -> None:
    team = Team.objects.create(name="Vendas")
    team.members.add(staff)
    url = f"{CONVERSATIONS}{conversation.pk}/"
    until = timezone.now().replace(microsecond=0) + dt.timedelta(hours=1)
    change = {"assignee": staff.pk, "team": team.pk, "labels": ["VIP"], "snoozed_until": until}
    changed = api.patch(url, change, format="json").json()
    assert {name: changed[name] for name in ("assignee", "team", "labels", "status")} == {
        "assignee": staff.pk,
        "team": team.pk,
        "labels": ["VIP"],
        "status": "snoozed",
    }
    assert dt.datetime.fromisoformat(changed["snoozed_until"]) == until
    for query, found in (
        ("assignee=me", True),
        ("assignee=none", False),
        (f"assignee={staff.pk}&status=snoozed&label=vip&team={team.pk}&search=orcamentos", True),
        ("search=orcamento&status=open", False),
        ("unread=true", False),
        ("problem=true", False),
        ("unread=false&problem=false", True),
        ("unread=false&search=orcamento", True),
        ("label=nenhum", False),
    ):
        results = api.get(f"{CONVERSATIONS}?{query}").json()["results"]
        assert bool(results) is found, query
    for query in ("search=%00", "assignee=x", "assignee=-1", "status=closed", "team=0"):
        assert api.get(f"{CONVERSATIONS}?{query}").status_code == 400, query
    for wrong, field in (
        ({"status": "closed"}, "status"),
        ({"status": "snoozed"}, "snoozed_until"),
        ({"assignee": 0}, "assignee"),
        ({"labels": "VIP"}, "labels"),
        ({"unknown": 1}, "unknown"),
    ):
        answer = api.patch(url, wrong, format="json")
        assert (answer.status_code, field in answer.json()) == (400, True), wrong
    assert api.patch(url, {"status": "open", "assignee": None}, format="json").status_code == 200
    Conversation.objects.update(unread_count=1)
    Message.objects.create(
        conversation=conversation, direction="out", status="rejected", decision="no_fallback",
        created_at=timezone.now(),
    )  # fmt: skip
    for query in ("unread=false", "problem=false", "unread=true&problem=false&search=orcamento"):
        assert api.get(f"{CONVERSATIONS}?{query}").json()["results"] == [], query
    assert api.get(url).json()["window"] == {"open": False, "until": None}
    written = timezone.now().replace(microsecond=0) - dt.timedelta(hours=1)
    Conversation.objects.update(last_inbound_at=written)
    window = api.get(url).json()["window"]
    assert window["open"]
    assert dt.datetime.fromisoformat(window["until"]) == written + dt.timedelta(hours=24)
    assert api.get("/api/labels/").json()[0]["name"] == "VIP"
    members = [{"id": staff.pk, "username": "ana", "name": "ana"}]
    assert api.get("/api/teams/").json() == [{"id": team.pk, "name": "Vendas", "members": members}]


def test_notes_need_a_permission_of_their_own(
    api: APIClient,
    conversation: Conversation,
    make_user: Callable[..., User],
    client_of: Callable[[User], APIClient],
) -> None:
    url = f"{CONVERSATIONS}{conversation.pk}/notes/"
    made = api.post(url, {"text": "Falar com @ana"}, format="json")
    assert made.status_code == 201
    assert (made.json()["author"], made.json()["mentions"]) == ("ana", ["ana"])
    assert api.get(url).json() == [made.json()]
    assert api.post(url, {"text": " "}, format="json").status_code == 400
    seen = ("messaging.view_conversation", "messaging.view_note")
    reader = client_of(make_user("bia", *seen))
    assert reader.get(url).status_code == 200
    assert reader.post(url, {"text": "x"}, format="json").status_code == 403
    other = client_of(make_user("caio", "messaging.view_conversation"))
    assert other.get(url).status_code == 403
    assert Note.objects.count() == 1


def test_a_person_has_quick_replies_of_their_own_and_needs_permission_for_those_of_all(
    api: APIClient,
    conversation: Conversation,
    make_user: Callable[..., User],
    client_of: Callable[[User], APIClient],
) -> None:
    shared = api.post(REPLIES, {"shortcut": "oi", "text": "Oi {nome} {x}"}, format="json").json()
    assert (shared["personal"], shared["filled"]) == (False, None)
    bia = client_of(make_user("bia", "messaging.view_conversation"))
    own = bia.post(REPLIES, {"shortcut": "tchau", "text": "Até", "personal": True}, format="json")
    assert own.status_code == 201
    [one] = bia.get(f"{REPLIES}?search=oi&conversation={conversation.pk}").json()["results"]
    assert (one["filled"], one["missing"]) == ("Oi Ana Souza {x}", ["x"])
    assert bia.get(f"{REPLIES}?conversation=0").status_code == 404
    for answer in (
        bia.post(REPLIES, {"shortcut": "x", "text": "x"}, format="json"),
        bia.patch(f"{REPLIES}{shared['id']}/", {"text": "x"}, format="json"),
        bia.delete(f"{REPLIES}{shared['id']}/"),
    ):
        assert answer.status_code == 403
    url = f"{REPLIES}{own.json()['id']}/"
    assert bia.patch(url, {"text": "Até logo"}, format="json").json()["text"] == "Até logo"
    # To give it to all is to add one for all.
    assert bia.patch(url, {"personal": False}, format="json").status_code == 403
    assert api.get(url).status_code == 404
    assert bia.delete(url).status_code == 204
    again = api.post(REPLIES, {"shortcut": "OI", "text": "x"}, format="json")
    assert (again.status_code, list(again.json())) == (400, ["shortcut"])
    assert QuickReply.objects.count() == 1


def test_search_draft_and_jump_to_a_date(api: APIClient, conversation: Conversation) -> None:
    found = api.get("/api/search/?q=ORCAMENTOS").json()
    assert found["next"] is None
    [hit] = found["results"]
    assert hit["message"]["conversation"] == conversation.pk
    assert [part["text"] for part in hit["parts"] if part["marked"]] == ["orçamento"]
    assert api.get("/api/search/").status_code == 400
    assert api.get(f"/api/search/?q=nada&conversation={conversation.pk}").json()["results"] == []
    draft = f"{CONVERSATIONS}{conversation.pk}/draft/"
    assert api.put(draft, {"text": " Bom d"}, format="json").json() == {"text": " Bom d"}
    assert api.get(draft).json() == {"text": " Bom d"}
    first = f"{CONVERSATIONS}{conversation.pk}/first_message/?date="
    message = conversation.messages.get()
    assert api.get(f"{first}2026-01-01").json() == {"message": str(message.pk)}
    assert api.get(f"{first}2999-01-01").json() == {"message": None}
    assert api.get(f"{first}x").status_code == 400


def test_a_contact_has_custom_fields_and_a_channel_a_team_and_hours(
    api: APIClient, conversation: Conversation, staff: User
) -> None:
    url = f"/api/contacts/{conversation.contact_id}/"
    changed = api.patch(url, {"custom_fields": {"CPF": "1", "Cidade": "Rio"}}, format="json")
    assert changed.json()["custom_fields"] == {"CPF": "1", "Cidade": "Rio"}
    changed = api.patch(url, {"custom_fields": {"CPF": ""}}, format="json")
    assert changed.json()["custom_fields"] == {"Cidade": "Rio"}
    team = Team.objects.create(name="Vendas")
    channel = f"/api/channels/{conversation.channel_id}/"
    settings: dict[str, Any] = {
        "team": team.pk,
        "assignee": staff.pk,
        "greeting": "Olá!",
        "away_message": "Até amanhã",
        "opening_hours": {"mon": [["08:00", "18:00"]]},
        "time_zone": "America/Manaus",
    }
    changed = api.patch(channel, settings, format="json")
    assert settings.items() <= changed.json().items()
    for wrong in ({"opening_hours": {"monday": []}}, {"time_zone": "Mars/Olympus"}):
        answer = api.patch(channel, wrong, format="json")
        assert (answer.status_code, list(answer.json())) == (400, list(wrong))
