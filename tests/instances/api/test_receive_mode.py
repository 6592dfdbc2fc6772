"""The specified REST routes, fields, messages and three scenarios."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests
from django.core.exceptions import ValidationError
from django.urls import reverse
from django.utils.html import escape

from channels_app.channels import save_channel
from instances.models import ReceiveModeChange, WhatsAppSession
from instances.receive_mode import handover, monitor
from tests.instances.support import (
    NAME,
    OTHER,
    Evolution,
    agreed,
    state,
    switch,
    texts,
    wait_until,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.test import Client
    from rest_framework.test import APIClient

    from channels_app.models import Channel

VIEW, CHANGE = "instances.view_whatsappsession", "instances.change_whatsappsession"
STATE = f"/api/instance-management/connection-state/{NAME}"


@pytest.fixture
def api_client(staff: User) -> APIClient:
    """An API client that sends no language."""
    from rest_framework.test import APIClient

    from accounts.models import ApiToken

    _, key = ApiToken.objects.create(user=staff)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
    return client


def four_fields(session: WhatsAppSession) -> dict[str, Any]:
    session.refresh_from_db()
    names = ("webhook_enabled", "websocket_enabled", "webhook_url", "webhook_base64")
    return {name: getattr(session, name) for name in names}


def test_specification_1_the_first_configuration_makes_webhook_the_default(
    api_client: APIClient, session: WhatsAppSession, evolution: Evolution, web: str
) -> None:
    before = api_client.get(STATE).json()
    assert (before["webhookEnabled"], before["websocketEnabled"]) == (False, False)

    answer = api_client.post(f"/api/webhook-management/configure/{session.pk}")

    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "message": "Webhook ativado com sucesso. WebSocket foi desativado.",
    }
    assert four_fields(session) == {
        "webhook_enabled": True,
        "websocket_enabled": False,
        "webhook_url": f"{web}/api/webhooks/evolution",
        "webhook_base64": True,
    }
    current = api_client.get(STATE).json()
    assert current.pop("backfill")["recovered24h"] == 0
    assert current == {
        "webhookEnabled": True,
        "websocketEnabled": False,
        "webhookConfig": {
            "url": f"{web}/api/webhooks/evolution",
            "webhook_base64": True,
            "events": list(handover.EVENTS),
        },
        "inSync": True,
        "switching": None,
        "listener": {"connected": False, "lastSeenAt": None, "note": ""},
        "evolution": {
            "reachable": True,
            "webhookEnabled": True,
            "websocketEnabled": False,
            "error": None,
            "differs": [],
        },
    }
    assert evolution.enabled_modes() == (True, False)


def test_configuring_a_session_with_a_mode_enables_its_webhook(
    api_client: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    """The specified configuration disables WebSocket before it sets the webhook."""
    address = f"/api/webhook-management/configure/{by_websocket.pk}"
    answer = api_client.post(address)
    assert answer.status_code == 200
    assert answer.json()["message"] == "Webhook ativado com sucesso. WebSocket foi desativado."
    assert agreed(api_client, evolution) == "webhook"
    answer = api_client.post(address, {"webhook_base64": False}, format="json")
    assert answer.status_code == 200
    assert four_fields(by_websocket)["webhook_base64"] is False
    assert agreed(api_client, evolution) == "webhook"


@pytest.mark.usefixtures("listener")
def test_specification_2_from_webhook_to_websocket(
    api_client: APIClient, by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.open_namespace()
    answer = api_client.post(f"/api/instance-management/enable-websocket/{NAME}")

    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "message": "WebSocket ativado com sucesso. Webhook foi desativado.",
    }
    assert four_fields(by_webhook) == {
        "webhook_enabled": False,
        "websocket_enabled": True,
        "webhook_url": None,
        "webhook_base64": None,
    }
    current = api_client.get(STATE).json()
    assert current["webhookConfig"] == {"url": None, "webhook_base64": None, "events": []}
    assert current["listener"]["connected"]
    assert agreed(api_client, evolution) == "websocket"
    evolution.writes("pelo socket")
    wait_until(lambda: texts() == ["pelo socket"])


def test_specification_3_from_websocket_to_webhook(
    api_client: APIClient, by_websocket: WhatsAppSession, evolution: Evolution, web: str
) -> None:
    answer = api_client.post(
        f"/api/instance-management/enable-webhook/{NAME}", {"webhook_base64": True}, format="json"
    )

    assert answer.status_code == 200
    assert answer.json()["message"] == "Webhook ativado com sucesso. WebSocket foi desativado."
    assert four_fields(by_websocket) == {
        "webhook_enabled": True,
        "websocket_enabled": False,
        "webhook_url": f"{web}/api/webhooks/evolution",
        "webhook_base64": True,
    }
    assert agreed(api_client, evolution) == "webhook"
    wait_until(lambda: evolution.clients() == 0, "the listener leaves")
    evolution.writes("pelo webhook")
    wait_until(lambda: texts() == ["pelo webhook"])


@pytest.mark.usefixtures("by_websocket")
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_routes_work_with_and_without_a_trailing_slash(
    api: APIClient, session: WhatsAppSession, slash: str
) -> None:
    base = "/api/instance-management"
    assert api.get(f"{base}/connection-state/{NAME}{slash}").status_code == 200
    assert api.post(f"{base}/enable-webhook/{NAME}{slash}").status_code == 200
    assert api.post(f"{base}/enable-websocket/{NAME}{slash}").status_code == 200
    assert api.post(f"/api/webhook-management/configure/{session.pk}{slash}").status_code == 200


def test_the_list_contains_every_session(api: APIClient, by_webhook: WhatsAppSession) -> None:
    [current] = api.get("/api/instances/").json()
    assert (
        current.items()
        >= {
            "id": by_webhook.pk,
            "name": NAME,
            "channel": by_webhook.channel_id,
            "connection": "unknown",
            "webhookEnabled": True,
            "websocketEnabled": False,
            "state": "disconnected",
            "state_code": "unchecked",
        }.items()
    )


def test_base64_is_optional_and_stored_for_the_next_switch(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    assert switch(api, "webhook", webhook_base64=False).status_code == 200
    assert four_fields(by_webhook)["webhook_base64"] is False
    assert by_webhook.wants_base64 is False
    assert evolution.get(f"/webhook/find/{NAME}")["webhookBase64"] is False
    assert switch(api, "webhook").status_code == 200
    assert four_fields(by_webhook)["webhook_base64"] is True


def test_evolution_receives_the_address_events_and_secret(
    by_webhook: WhatsAppSession, evolution: Evolution, web: str
) -> None:
    row = evolution.get(f"/webhook/find/{NAME}")
    assert row["url"] == f"{web}/api/webhooks/evolution"
    assert row["headers"] == {"Authorization": f"Bearer {by_webhook.webhook_secret}"}
    assert row["events"] == list(handover.EVENTS)
    assert (row["webhookByEvents"], row["webhookBase64"]) == (False, True)


def test_no_response_contains_the_secret_or_the_key(
    api: APIClient, by_webhook: WhatsAppSession
) -> None:
    current = api.get(STATE).content.decode() + api.get("/api/instances/").content.decode()
    assert by_webhook.webhook_secret not in current
    assert by_webhook.channel.evolution_api_key not in current


def test_viewing_and_switching_require_their_permissions(
    by_webhook: WhatsAppSession,
    make_user: Callable[..., User],
    client_of: Callable[[User], APIClient],
    web: str,
) -> None:
    viewer = client_of(make_user("looks", VIEW))
    changer = client_of(make_user("changes", VIEW, CHANGE))
    nobody = client_of(make_user("nobody"))
    guest = client_of(make_user("guest", VIEW, CHANGE, is_staff=False))
    assert viewer.get(STATE).status_code == 200
    assert switch(viewer, "webhook").status_code == 403
    assert switch(viewer, "webhook").json()["success"] is False
    assert viewer.post(f"/api/webhook-management/configure/{by_webhook.pk}").status_code == 403
    assert switch(changer, "webhook").status_code == 200
    for client in (nobody, guest):
        assert client.get(STATE).status_code == 403
        assert switch(client, "websocket").status_code == 403
    assert requests.get(web + STATE, timeout=5).status_code == 401
    address = f"{web}/api/instance-management/enable-webhook/{NAME}"
    assert requests.post(address, timeout=5).status_code == 401


def test_every_route_requires_the_change_permission(
    by_webhook: WhatsAppSession,
    evolution: Evolution,
    make_user: Callable[..., User],
    client_of: Callable[[User], APIClient],
    web: str,
) -> None:
    base = "/api/instance-management"
    routes = [
        *(f"{base}/{word}/{NAME}" for word in ("enable-webhook", "enable-websocket")),
        *(f"{base}/{word}/{NAME}" for word in ("repair", "cancel")),
        f"/api/webhook-management/configure/{by_webhook.pk}",
    ]
    before = ReceiveModeChange.objects.count()
    without = [make_user("looks", VIEW), make_user("nobody"), make_user("other", CHANGE)]
    without[2].is_staff = False
    without[2].save()
    for path in routes:
        for user in without:
            for slash in ("", "/"):
                answer = client_of(user).post(path + slash)
                assert answer.status_code == 403, (path, user)
                assert answer.json()["success"] is False
        assert requests.post(web + path, timeout=5).status_code == 401
        wrong = {"Authorization": "Token wrong"}
        assert requests.post(web + path, headers=wrong, timeout=5).status_code == 401
        assert client_of(without[0]).get(path).status_code in (403, 405)
    assert ReceiveModeChange.objects.count() == before
    assert evolution.enabled_modes() == (True, False)


def test_a_channel_without_an_address_gets_an_error_and_nothing_to_undo(
    api: APIClient, session: WhatsAppSession
) -> None:
    session.channel.evolution_url = ""
    save_channel(session.channel)
    answer = switch(api, "webhook")
    assert answer.status_code == 502
    assert answer.json()["message"]
    current = state(api)
    assert (current["webhookEnabled"], current["switching"]) == (False, None)
    assert current["evolution"]["reachable"] is False


def test_staff_can_switch_with_a_session_and_csrf_token(
    by_webhook: WhatsAppSession, staff: User
) -> None:
    from django.test import Client

    browser = Client(enforce_csrf_checks=True)
    browser.force_login(staff)
    address = f"/api/instance-management/enable-webhook/{NAME}"
    assert browser.post(address, content_type="application/json").status_code == 403
    browser.cookies["csrftoken"] = token = "x" * 32
    answer = browser.post(address, content_type="application/json", headers={"X-CSRFToken": token})
    assert answer.status_code == 200


@pytest.mark.parametrize("to", ["", "both", None])
def test_a_click_without_a_mode_switches_nothing(
    by_webhook: WhatsAppSession, staff: User, evolution: Evolution, to: str | None
) -> None:
    from django.test import Client

    browser = Client()
    browser.force_login(staff)
    before = ReceiveModeChange.objects.count()
    answer = browser.post(f"/instances/{NAME}/switch/", {} if to is None else {"to": to})
    assert answer.status_code == 400
    assert ReceiveModeChange.objects.count() == before
    assert evolution.enabled_modes() == (True, False)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"to": "webhook", "base64": "on"}, "As mídias chegam em Base64."),
        ({"to": "webhook"}, "As mídias não chegam em Base64."),
    ],
)
def test_the_base64_checkbox_reports_its_own_change_and_not_a_switch(
    by_webhook: WhatsAppSession,
    admin_client: Client,
    evolution: Evolution,
    data: dict[str, str],
    words: str,
) -> None:
    answer = admin_client.post(f"/instances/{NAME}/switch/", data)
    assert json.loads(answer["HX-Trigger"])["toast"]["text"] == words
    by_webhook.refresh_from_db()
    assert by_webhook.webhook_base64 is ("base64" in data)
    assert evolution.get(f"/webhook/find/{NAME}")["webhookBase64"] is ("base64" in data)


def test_an_unknown_instance_is_404_with_success_false(api: APIClient) -> None:
    for answer in (
        switch(api, "webhook", "ghost"),
        switch(api, "websocket", "ghost"),
        api.post("/api/webhook-management/configure/999999"),
        api.get("/api/instance-management/connection-state/ghost"),
    ):
        assert answer.status_code == 404
        assert answer.json()["success"] is False
        assert answer.json()["message"]


def test_an_invalid_field_is_400_in_the_common_error_format(
    api: APIClient, by_webhook: WhatsAppSession
) -> None:
    answer = switch(api, "webhook", webhook_base64="perhaps")
    assert answer.status_code == 400
    assert answer.json()["webhook_base64"]
    assert answer.json()["success"] is False


def test_enabling_the_active_mode_changes_nothing(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    for _ in range(2):
        assert switch(api, "websocket").status_code == 200
        assert agreed(api, evolution) == "websocket"
    for _ in range(2):
        assert switch(api, "webhook").status_code == 200
        assert agreed(api, evolution) == "webhook"


def test_each_switch_is_recorded_with_user_time_source_and_result(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution, staff: User
) -> None:
    evolution.fault("/webhook/set", status=500, method="POST")
    assert switch(api, "webhook").status_code == 502
    failed, done = ReceiveModeChange.objects.all()
    assert (done.from_mode, done.to_mode) == ("", "webhook")
    assert (failed.from_mode, failed.to_mode) == ("webhook", "webhook")
    for change, result in ((done, "done"), (failed, "undone")):
        assert (change.session, change.user, change.source) == (by_webhook, staff, "api")
        assert change.result == result
        assert change.finished_at is not None
        assert change.finished_at >= change.started_at
    assert "500" in failed.detail


def test_websocket_needs_a_listener(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    answer = switch(api, "websocket")
    assert answer.status_code == 503
    assert answer.json() == {
        "success": False,
        "message": "No listener is running, so WebSocket events would not be received.",
        "detail": "No listener is running, so WebSocket events would not be received.",
        "code": "no_listener",
    }
    assert agreed(api, evolution) == "webhook"


@pytest.mark.usefixtures("listener")
@pytest.mark.parametrize(
    "name", ["Loja São João 2.0", "a/b#1?&(100%)", "50%2F", "loja/switch", "+;=@:'\"<b>|{}~`$^!*"]
)
def test_an_instance_can_have_any_name_that_evolution_accepts(
    api: APIClient,
    api_client: APIClient,
    channel: Channel,
    evolution: Evolution,
    admin_client: Client,
    web: str,
    name: str,
) -> None:
    escaped = quote(name, safe="")
    created = evolution.call(
        "POST", "/instance/create", {"instanceName": name, "integration": "WHATSAPP-BAILEYS"}
    )
    assert created.status_code == 201
    evolution.call("GET", f"/instance/connect/{escaped}")
    evolution.control("scan", instance=name)
    channel.instance_name = name
    channel.full_clean()
    save_channel(channel)

    assert switch(api, "webhook", name).status_code == 200
    evolution.writes("por webhook", name)
    wait_until(lambda: texts() == ["por webhook"])
    evolution.open_namespace(name)
    assert switch(api, "websocket", name).status_code == 200
    assert evolution.enabled_modes(name) == (False, True)
    evolution.writes("por WebSocket", name)
    wait_until(lambda: texts() == ["por webhook", "por WebSocket"])
    assert state(api, name)["inSync"]
    page = reverse("instances:detail", args=[name])
    for address in ("/instances/", page):
        shown = admin_client.get(address).content.decode()
        assert f'data-session="{escape(name)}"' in shown
        assert f'hx-post="{escape(reverse("instances:check", args=[name]))}"' in shown
    assert f"instance={escaped}" in shown
    done = admin_client.post(reverse("instances:check", args=[name]))
    assert done.status_code == 200
    assert f'data-session="{escape(name)}"' in done.content.decode()
    # Over a real socket, as an API client encodes it.
    answer = requests.get(
        f"{web}/api/instances/{escaped}/connection",
        headers={"Authorization": api_client._credentials["HTTP_AUTHORIZATION"]},
        timeout=20,
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.usefixtures("listener")
def test_an_instance_with_a_comma_in_its_name_is_received_by_webhook_or_at_the_root(
    api: APIClient, channel: Channel, evolution: Evolution
) -> None:
    """In Socket.IO's packets the comma ends the namespace (docs/providers/evolution.md §2)."""
    name = "Oficina, matriz"
    evolution.call(
        "POST", "/instance/create", {"instanceName": name, "integration": "WHATSAPP-BAILEYS"}
    )
    evolution.call("GET", f"/instance/connect/{quote(name)}")
    evolution.control("scan", instance=name)
    channel.instance_name = name
    channel.full_clean()
    save_channel(channel)
    assert switch(api, "webhook", name).status_code == 200
    evolution.writes("por webhook", name)
    wait_until(lambda: texts() == ["por webhook"])

    evolution.open_namespace(name)
    answer = switch(api, "websocket", name)
    assert (answer.status_code, answer.json()["success"]) == (409, False)
    assert "comma" in answer.json()["message"]
    assert evolution.enabled_modes(name) == (True, False)
    assert state(api, name)["switching"] is None
    evolution.writes("ainda por webhook", name)
    wait_until(lambda: len(texts()) == 2)

    evolution.control("settings", websocket_global_events=True)
    WhatsAppSession.objects.update(global_events=True)
    assert switch(api, "websocket", name).status_code == 202
    evolution.writes("de outra", OTHER)
    session = WhatsAppSession.objects.get()
    wait_until(lambda: monitor.resume_handovers() or state(api, name)["websocketEnabled"])
    evolution.writes("por WebSocket", name)
    wait_until(lambda: texts()[2:] == ["por WebSocket"])
    # Where this ends, the reason is shown instead of a socket that is never joined.
    WhatsAppSession.objects.update(global_events=False)

    def reason() -> str:
        session.refresh_from_db()
        return session.listener_note

    wait_until(lambda: reason() == "socket_unjoinable")


@pytest.mark.parametrize("name", ["..", ".", "a\n", "a\x00", "x" * 256])
def test_a_name_that_is_invalid_in_a_url_is_rejected(channel: Channel, name: str) -> None:
    channel.instance_name = name
    with pytest.raises(ValidationError, match="instance_name"):
        channel.full_clean()
