"""A session outlives its channel, so people are asked what to do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from channels_app.connections import monitor, records, remote_sessions
from channels_app.connections.session_engines import SessionRefused
from channels_app.models import Channel
from tests.channels_app.wwebjs_session.conftest import Server, jobs, run_starts, session_of
from tests.conftest import WWEBJS_KEY, WWEBJS_SESSION

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("inline", "plain_static")]

# What remains on the server after each choice: the session in a browser, and the login.
ENDS = [("keep", True, True), ("stop", False, True), ("unlink", False, False)]


@pytest.fixture
def page(staff: User) -> Client:
    client = Client()
    client.cookies["django_language"] = "en"
    client.force_login(staff)
    return client


def left(server: Server) -> tuple[bool, bool]:
    return WWEBJS_SESSION in server.known, server.paired


def wishes(channel: Channel) -> dict[str, Any]:
    """Return the stored requests to keep the session running or to end it."""
    session = session_of(channel)
    return {name: getattr(session, name) for name in records.COMMANDED}


def typed(channel: Channel, **changes: Any) -> dict[str, Any]:
    """Return the form data that a browser would post for this channel."""
    names = (
        "name", "phone_number", "phone_number_id", "graph_url", "graph_version", "wwebjs_url",
        "wwebjs_session_id", "official_retries", "request_timeout_seconds", "confirm_seconds",
        "on_unconfirmed", "on_undelivered", "fallback_max_age_minutes", "fallback_per_minute",
        "fallback_new_chats_per_day", "messages_per_second",
    )  # fmt: skip
    values = {name: str(getattr(channel, name)) for name in names}
    return {**values, "active": "on", "wwebjs_enabled": "on", **changes}


# -- deleting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("choice", "runs", "linked"), ENDS)
def test_the_page_asks_before_deletion_and_applies_the_choice(
    ready: Channel, server: Server, page: Client, choice: str, runs: bool, linked: bool
) -> None:
    url = f"/channels/{ready.pk}/delete/"
    asked = page.get(url).content.decode()
    assert f"What should happen to “{WWEBJS_SESSION}” on {server.url}?" in asked
    assert page.post(url).status_code == 400
    assert page.post(url, {"previous_session": "delete"}).status_code == 400
    assert Channel.objects.exists()
    assert left(server) == (True, True)

    assert page.post(url, {"previous_session": choice}).status_code == 302
    assert not Channel.objects.exists()
    assert left(server) == (runs, linked)


@pytest.mark.parametrize(("choice", "runs", "linked"), [*ENDS, ("", True, True)])
def test_rest_deletes_with_the_same_choices(
    ready: Channel, server: Server, api: APIClient, choice: str, runs: bool, linked: bool
) -> None:
    url = f"/api/channels/{ready.pk}/"
    refused = api.delete(f"{url}?previous_session=log_out")
    assert refused.status_code == 400
    assert "previous_session" in refused.json()
    query = f"?previous_session={choice}" if choice else ""
    assert api.delete(url + query).status_code == 204
    assert left(server) == (runs, linked)


def test_ending_the_session_needs_the_permission_to_change_channels(
    ready: Channel, server: Server, staff: User
) -> None:
    staff.is_superuser = False
    with pytest.raises(SessionRefused) as refused:
        remote_sessions.delete(ready, "unlink", user=staff)
    assert (refused.value.status, left(server)) == (403, (True, True))
    remote_sessions.delete(ready, "keep", user=staff)
    assert not Channel.objects.exists()


def test_a_channel_whose_session_cannot_be_ended_is_not_deleted(
    ready: Channel, server: Server, page: Client, api: APIClient
) -> None:
    before = wishes(ready)
    assert before["keep_connected"]
    server.settings.api_key = "another"
    chosen = {"previous_session": "unlink"}
    answer = page.post(f"/channels/{ready.pk}/delete/", chosen)
    assert answer.status_code == 502
    assert "rejected the key" in answer.content.decode()
    refused = api.delete(f"/api/channels/{ready.pk}/?previous_session=stop")
    assert (refused.status_code, refused.json()["code"]) == (502, "wrong_key")
    assert Channel.objects.exists()
    # It is not carried out later either.
    assert wishes(ready) == before
    assert Channel.objects.get().wwebjs.state == "ready"
    server.settings.api_key = WWEBJS_KEY
    assert monitor.state(ready.wwebjs).state == "ready"
    assert not jobs("end_session")
    server.settings.api_key = "another"
    assert page.post(f"/channels/{ready.pk}/delete/", {"previous_session": "keep"})
    assert not Channel.objects.exists()


def test_a_channel_is_not_deleted_while_its_session_starts_and_awaits_unlinking(
    attached: Channel, server: Server, page: Client
) -> None:
    server.simulator.browsers.starting.add(WWEBJS_SESSION)
    monitor.connect(attached.wwebjs)
    run_starts()
    before = wishes(attached)
    answer = page.post(f"/channels/{attached.pk}/delete/", {"previous_session": "unlink"})
    assert answer.status_code == 409
    assert "Try again when it is running" in answer.content.decode()
    assert Channel.objects.exists()
    assert wishes(attached) == before
    assert Channel.objects.get().wwebjs.state_code == "starting"


def test_the_page_does_not_ask_if_there_is_no_session_or_others_use_it(
    attached: Channel, server: Server, page: Client, make_channel: Callable[..., Channel]
) -> None:
    assert remote_sessions.session_of(attached) is None
    monitor.state(attached.wwebjs)
    assert remote_sessions.session_of(Channel.objects.get(pk=attached.pk)) is None
    server.steer("make_ready")
    monitor.state(attached.wwebjs)
    assert remote_sessions.session_of(Channel.objects.get(pk=attached.pk)) is not None
    make_channel(
        fallback="wwebjs",
        wwebjs_url=f"{server.url}/",
        wwebjs_api_key=WWEBJS_KEY,
        wwebjs_session_id=WWEBJS_SESSION,
    )
    assert remote_sessions.session_of(Channel.objects.get(pk=attached.pk)) is None
    assert page.post(f"/channels/{attached.pk}/delete/").status_code == 302
    assert left(server) == (True, True)


def test_the_session_of_a_channel_that_cannot_be_deleted_is_not_ended(
    ready: Channel, server: Server, page: Client
) -> None:
    from messaging.models import Contact, Conversation

    contact = Contact.objects.create(phone_number="+5511977776666")
    Conversation.objects.create(channel=ready, contact=contact)
    answer = page.post(f"/channels/{ready.pk}/delete/", {"previous_session": "unlink"})
    assert answer.status_code == 409
    assert left(server) == (True, True)


# -- renaming and moving --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"wwebjs_session_id": "OTHER"},
        {"wwebjs_session_id": ""},
        {"wwebjs_url": "http://127.0.0.1:9"},
        {"wwebjs_enabled": ""},
    ],
)
@pytest.mark.parametrize(("choice", "runs", "linked"), ENDS)
def test_the_form_asks_what_to_do_with_an_abandoned_session(
    ready: Channel, server: Server, page: Client, choice: str, runs: bool, linked: bool,
    changes: dict[str, str],
) -> None:  # fmt: skip
    url = f"/channels/{ready.pk}/"
    assert f"What should happen to “{WWEBJS_SESSION}”" in page.get(url).content.decode()
    refused = page.post(url, typed(ready, **changes))
    assert refused.status_code == 400
    assert "Choose what to do with the current session." in refused.content.decode()
    assert left(server) == (True, True)

    assert page.post(url, typed(ready, **changes, previous_session=choice)).status_code == 302
    ready.refresh_from_db()
    assert ready.wwebjs_session_id != WWEBJS_SESSION or "wwebjs_session_id" not in changes
    assert left(server) == (runs, linked)


def test_the_form_does_not_ask_if_the_session_stays(
    ready: Channel, server: Server, page: Client
) -> None:
    other_spelling = {"wwebjs_url": f"{server.url}/", "wwebjs_api_key": WWEBJS_KEY, "name": "B"}
    answer = page.post(f"/channels/{ready.pk}/", typed(ready, **other_spelling))
    assert answer.status_code == 302
    assert left(server) == (True, True)


def test_a_form_is_not_saved_if_the_server_does_not_end_the_session(
    ready: Channel, server: Server, page: Client
) -> None:
    server.settings.api_key = "another"
    changes = {"wwebjs_session_id": "OTHER", "previous_session": "unlink"}
    answer = page.post(f"/channels/{ready.pk}/", typed(ready, **changes))
    assert answer.status_code == 400
    assert "rejected the key" in answer.content.decode()
    ready.refresh_from_db()
    assert ready.wwebjs_session_id == WWEBJS_SESSION


@pytest.mark.parametrize(("choice", "runs", "linked"), [*ENDS, ("", True, True)])
def test_rest_renames_with_the_same_choices(
    ready: Channel, server: Server, api: APIClient, choice: str, runs: bool, linked: bool
) -> None:
    url = f"/api/channels/{ready.pk}/"
    body = {"wwebjs_session_id": "OTHER"}
    refused = api.patch(url, {**body, "previous_session": "delete"}, format="json")
    assert (refused.status_code, list(refused.json())) == (400, ["previous_session"])
    if choice:
        body["previous_session"] = choice
    answer = api.patch(url, body, format="json")
    assert answer.status_code == 200
    assert "previous_session" not in answer.json()
    assert left(server) == (runs, linked)
    # Without an abandoned session there is nothing to end.
    again = api.patch(url, {"name": "B", "previous_session": "unlink"}, format="json")
    assert again.status_code == 200


def test_the_admin_redirects_to_the_page_that_asks(
    ready: Channel, server: Server, page: Client
) -> None:
    base = f"/admin/channels_app/channel/{ready.pk}"
    assert page.get(f"{base}/delete/")["Location"] == f"/channels/{ready.pk}/delete/"
    several = {"action": "delete_selected", "_selected_action": str(ready.pk), "post": "yes"}
    asked = page.post("/admin/channels_app/channel/", several).content.decode()
    assert f'<a href="/channels/{ready.pk}/delete/">Oficial</a> has a session' in asked
    assert Channel.objects.exists()
    fields = typed(ready, kind="official", fallbacks=["wwebjs"], wwebjs_session_id="OTHER")
    refused = page.post(f"{base}/change/", fields)
    assert refused.status_code == 200
    assert "Change this on the channel&#x27;s page" in refused.content.decode()
    fields["wwebjs_session_id"] = WWEBJS_SESSION
    assert page.post(f"{base}/change/", fields).status_code == 302
    assert left(server) == (True, True)
