"""Roles, invitations, who may change whom, and API keys with a scope."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import profiles, roles, sessions, team
from accounts.models import ApiToken, Invitation, Profile, Team
from channels_app.models import Channel
from messaging.models import Conversation, Message
from tests.pages.html import parse

pytestmark = pytest.mark.django_db
PASSWORD = "bom-dia-balcao-7"
Person = Callable[..., User]


@pytest.fixture
def person() -> Person:
    """Make somebody of the team, by role."""
    roles.install()

    def make(name: str, role: str = "", **fields: Any) -> User:
        user = User.objects.create_user(name, password=PASSWORD, is_staff=True, **fields)
        user.groups.set(Group.objects.filter(name=role))
        return user

    return make


def signed_in(user: User) -> Client:
    client = Client()
    client.cookies["django_language"] = "en"
    client.force_login(user)
    return client


# --- roles --------------------------------------------------------------------------------------

LISTED = [
    # method, address, and the lowest role that it serves
    ("get", "/conversations/", roles.VIEWER),
    ("get", "/", roles.VIEWER),
    ("get", "/channels/", roles.VIEWER),
    ("get", "/team/", roles.VIEWER),
    ("get", "/api/conversations/", roles.VIEWER),
    ("get", "/conversations/new/", roles.AGENT),
    ("post", "/api/messages/", roles.AGENT),
    ("post", "/api/templates/sync/", roles.SUPERVISOR),
    ("post", "/api/instance-management/enable-webhook/none", roles.SUPERVISOR),
    ("get", "/channels/new/", roles.ADMINISTRATOR),
    ("post", "/api/channels/", roles.ADMINISTRATOR),
    ("post", "/team/", roles.ADMINISTRATOR),
]


@pytest.mark.parametrize(("method", "address", "lowest"), LISTED)
def test_an_address_serves_a_role_and_those_above_it(
    method: str, address: str, lowest: str, person: Person
) -> None:
    for role in ("", *roles.ROLES):
        answer = getattr(signed_in(person(f"p-{role}", role)), method)(address)
        refused = answer.status_code == 403 or answer.headers.get("Location", "").startswith(
            ("/accounts/login", "/admin")
        )
        assert refused == (roles.rank(role) < roles.rank(lowest)), (role, answer.status_code)


def test_whoever_is_refused_learns_which_role_is_needed_and_whom_to_ask(person: Person) -> None:
    person("ada", roles.ADMINISTRATOR, first_name="Ada")
    viewer = signed_in(person("vera", roles.VIEWER))

    for refused in (viewer.get("/conversations/new/"), viewer.post("/api/messages/")):
        assert refused.status_code == 403
        text = refused.content.decode()
        assert "Agent" in text
        assert "Ada" in text


def test_installing_the_roles_again_changes_no_group() -> None:
    roles.install()
    Group.objects.get(name=roles.AGENT).permissions.clear()

    roles.install()

    assert not Group.objects.get(name=roles.AGENT).permissions.exists()
    assert Group.objects.get(name=roles.VIEWER).permissions.count() == len(
        roles.permissions_of(roles.VIEWER)
    )


# --- invitations --------------------------------------------------------------------------------


def test_an_invited_person_chooses_name_and_password_and_is_signed_in(person: Person) -> None:
    sales = Team.objects.create(name="Sales")
    admin = signed_in(person("ada", roles.ADMINISTRATOR))
    page = parse(admin.post("/team/", {"role": roles.AGENT, "teams": [sales.pk]}).content)
    link = page.one("input", id="invitation-link").attributes["value"]

    newcomer = Client()
    answer = newcomer.post(link, {"name": "João Silva", "username": "joao", "password": PASSWORD})

    joined = User.objects.get(username="joao")
    assert answer["Location"] == "/"
    assert (joined.get_full_name(), roles.of(joined)) == ("João Silva", roles.AGENT)
    assert list(joined.teams.all()) == [sales]
    assert newcomer.get("/conversations/").status_code == 200
    # Only a digest is stored, and the link works once.
    secret = link.rstrip("/").rsplit("/", 1)[-1]
    assert secret not in str(list(Invitation.objects.values_list()))
    assert Client().get(link).status_code == 410
    again = Client().post(link, {"name": "X", "username": "x", "password": PASSWORD})
    assert again.status_code == 410
    assert not User.objects.filter(username="x").exists()


def test_an_invitation_ends_after_its_days(person: Person) -> None:
    _invitation, secret = team.invite(by=person("ada", roles.ADMINISTRATOR), role=roles.AGENT)
    later = timezone.now() + dt.timedelta(days=team.INVITATION_DAYS, seconds=1)

    with time_machine.travel(later), pytest.raises(ValidationError):
        team.accept(secret, username="joao", name="João", password=PASSWORD)


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"password": "123"}, "password"), ({"username": "ada"}, "username"),
     ({"username": "a b"}, "username")],
)  # fmt: skip
def test_an_invalid_choice_is_shown_at_its_field_and_keeps_the_link(
    fields: dict[str, str], field: str, person: Person
) -> None:
    _invitation, secret = team.invite(by=person("ada", roles.ADMINISTRATOR), role=roles.AGENT)
    chosen = {"name": "João", "username": "joao", "password": PASSWORD, **fields}

    answer = Client().post(f"/team/join/{secret}/", chosen)

    assert answer.status_code == 400
    assert parse(answer.content).error_of(field)
    assert team.open_invitation(secret) is not None


# --- who may change whom ------------------------------------------------------------------------


@pytest.mark.parametrize("by", [roles.VIEWER, roles.AGENT, roles.SUPERVISOR])
def test_only_administrators_change_people(by: str, person: Person) -> None:
    acting, other = person("one", by), person("two", roles.VIEWER)

    for act in (
        lambda: team.change(other, by=acting, role=roles.VIEWER, teams=[]),
        lambda: team.change(acting, by=acting, role=roles.ADMINISTRATOR, teams=[]),
        lambda: team.deactivate(other, by=acting),
        lambda: team.invite(by=acting, role=roles.VIEWER),
    ):
        with pytest.raises(PermissionDenied):
            act()


def test_nobody_gives_or_changes_a_role_above_their_own(person: Person) -> None:
    # An installation may let supervisors manage people.
    Group.objects.get(name=roles.SUPERVISOR).permissions.add(
        *Group.objects.get(name=roles.ADMINISTRATOR).permissions.filter(codename="manage_people")
    )
    supervisor, admin = person("sue", roles.SUPERVISOR), person("ada", roles.ADMINISTRATOR)

    assert team.roles_given_by(supervisor) == [roles.VIEWER, roles.AGENT, roles.SUPERVISOR]
    with pytest.raises(PermissionDenied):
        team.change(supervisor, by=supervisor, role=roles.ADMINISTRATOR, teams=[])
    with pytest.raises(PermissionDenied):
        team.deactivate(admin, by=supervisor)


def test_the_last_administrator_stays(person: Person) -> None:
    admin = person("ada", roles.ADMINISTRATOR)

    with pytest.raises(ValidationError, match=r"last administrator|último"):
        team.change(admin, by=admin, role=roles.AGENT, teams=[])


@pytest.mark.django_db(transaction=True)
def test_two_administrators_who_demote_each_other_leave_one(person: Person) -> None:
    pair = person("ada", roles.ADMINISTRATOR), person("bea", roles.ADMINISTRATOR)
    start = threading.Barrier(2)

    def demote(by: User, other: User) -> None:
        start.wait()
        try:
            team.change(other, by=by, role=roles.AGENT, teams=[])
        except (ValidationError, PermissionDenied):
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=demote, args=order) for order in (pair, pair[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert team.administrators().count() == 1


def test_a_deactivated_person_is_out_at_once(
    person: Person, django_capture_on_commit_callbacks: Any
) -> None:
    admin, agent = person("ada", roles.ADMINISTRATOR), person("joao", roles.AGENT)
    _invitation, link = team.invite(by=admin, role=roles.AGENT)
    Invitation.objects.update(invited_by=agent)
    client = signed_in(agent)
    key = client.session.session_key
    _token, secret = team.create_key(agent, name="bot")
    ended: list[str] = []
    receiver = lambda keys, **_: ended.extend(keys)  # noqa: E731
    team.sessions_ended.connect(receiver)

    with django_capture_on_commit_callbacks(execute=True):
        team.deactivate(agent, by=admin)

    assert ended == [key]
    assert team.open_invitation(link) is None
    assert client.get("/conversations/").status_code == 302
    bot = Client().get("/api/conversations/", headers={"Authorization": f"Token {secret}"})
    assert bot.status_code == 401
    assert not sessions.signed_in_users([str(key)])
    with pytest.raises(ValidationError):
        team.deactivate(admin, by=admin)


# --- one's own account --------------------------------------------------------------------------


def test_a_key_is_shown_once_reads_only_if_it_may_no_more_and_ends(person: Person) -> None:
    client = signed_in(person("joao", roles.AGENT))
    page = client.post("/account/keys/", {"name": "Loja", "scope": "read", "days": "30"})
    secret = parse(page.content).one("input", id="new-key").attributes["value"]
    program, headers = Client(), {"Authorization": f"Token {secret}"}

    assert program.get("/api/conversations/", headers=headers).status_code == 200
    assert program.post("/api/quick-replies/", headers=headers).status_code == 403
    token = ApiToken.objects.get()
    assert token.last_used_at is not None
    assert secret not in client.get("/account/").content.decode()
    with time_machine.travel(timezone.now() + dt.timedelta(days=31)):
        assert program.get("/api/conversations/", headers=headers).status_code == 401
    client.post(f"/account/keys/{token.token_key}/revoke/")
    assert not ApiToken.objects.exists()


def test_a_key_that_may_only_read_gets_no_code_that_links_a_phone(
    person: Person, channel: Channel
) -> None:
    _key, secret = team.create_key(person("ada", roles.ADMINISTRATOR), name="BI", scope="read")

    answer = Client().get(
        f"/api/channels/{channel.pk}/wwebjs/qr/",
        headers={"Authorization": f"Token {secret}", "Accept-Language": "en"},
    )

    assert answer.status_code == 403
    assert "only read" in answer.json()["detail"]


def test_own_rights_and_the_teams_of_somebody_deactivated_stay_as_they_are(
    person: Person,
) -> None:
    admin = signed_in(person("ada", roles.ADMINISTRATOR))
    own, away = person("own"), person("away", roles.AGENT, is_active=False)
    sales = Team.objects.create(name="Sales")
    sales.members.add(away)

    admin.post(f"/team/people/{own.pk}/", {"role": "", "teams": [sales.pk]})
    admin.post(f"/team/teams/{sales.pk}/", {"name": "Vendas", "members": [own.pk, away.pk]})

    assert not own.groups.exists()
    assert set(Team.objects.get(name="Vendas").members.all()) == {own, away}
    assert admin.post(f"/team/people/{away.pk}/", {"role": ""}).status_code == 400


def test_nobody_revokes_the_key_of_another(person: Person) -> None:
    token, _secret = team.create_key(person("ada", roles.ADMINISTRATOR), name="Loja")

    answer = signed_in(person("joao", roles.AGENT)).post(f"/account/keys/{token.token_key}/revoke/")

    assert answer.status_code == 404


def test_choices_are_stored_and_the_page_wears_the_chosen_colors(person: Person) -> None:
    joao = person("joao", roles.AGENT)
    client = signed_in(joao)
    assert profiles.signature_of(joao) == ""

    client.post(
        "/account/",
        {"first_name": "João Silva", "theme": "dark", "signature": "João", "signature_on": "on"},
    )

    joao.refresh_from_db()
    assert joao.get_full_name() == "João Silva"
    assert profiles.of(joao).theme == Profile.Theme.DARK
    assert profiles.signature_of(joao) == "João"
    assert 'data-theme="dark"' in client.get("/account/").content.decode()


def test_a_signature_stands_under_what_its_person_writes(
    person: Person, channel: Channel, make_conversation: Callable[..., Conversation]
) -> None:
    joao, made = person("joao", roles.AGENT), make_conversation(channel)
    Profile.objects.create(user=joao, signature="João", signature_on=True)
    client = signed_in(joao)

    client.post(f"/conversations/{made.pk}/", {"text": "Pode vir.", "key": "k1"})

    assert Message.objects.get().text == "Pode vir.\n\n— João"
    assert "Signed: João" in client.get(f"/conversations/{made.pk}/").content.decode()
