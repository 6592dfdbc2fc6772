"""The REST routes of a session, as specified by the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from channels_app.channels import save_channel
from channels_app.models import Channel
from tests.channels_app.wwebjs_session.conftest import Server, run_starts

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db


@pytest.fixture
def base(attached: Channel) -> str:
    return f"/api/channels/{attached.pk}/wwebjs/"


def test_the_complete_session_lifecycle(api: APIClient, base: str, server: Server) -> None:
    response = api.get(base)
    assert response.status_code == 200
    assert response.json()["state"] == "disconnected"
    assert response.json()["detail"] == "The session is not started; connect it."

    begun = api.post(f"{base}connect/")
    assert (begun.status_code, begun.json()["state"]) == (200, "starting")
    run_starts()

    shown = api.get(f"{base}qr/")
    assert shown.status_code == 200
    assert shown.json()["qr"].startswith("2@")
    assert shown.json()["svg"].startswith("<svg")
    assert shown.json()["age_seconds"] >= 0
    assert shown["Cache-Control"] == "no-store"
    assert api.get(base).json()["qr_seen_at"] is not None

    server.steer("make_ready")
    ready = api.get(base).json()
    assert (ready["state"], ready["own_number"]) == ("ready", "5511900000001")

    ended = api.post(f"{base}disconnect/")
    assert (ended.json()["state"], ended.json()["code"]) == ("disconnected", "unlinked")
    assert not server.paired


def test_disconnect_may_preserve_the_login(api: APIClient, base: str, server: Server) -> None:
    server.steer("make_ready")
    ended = api.post(f"{base}disconnect/", {"unlink": False}, format="json")
    assert (ended.status_code, ended.json()["code"]) == (200, "stopped")
    assert server.paired
    refused = api.post(f"{base}disconnect/", {"unlink": "perhaps"}, format="json")
    assert refused.status_code == 400
    assert "unlink" in refused.json()


def test_a_missing_code_returns_the_documented_message(client: Any, staff: User, base: str) -> None:
    client.force_login(staff)
    refused = client.get(f"{base}qr/", headers={"accept-language": "pt-br"})
    assert refused.status_code == 409
    assert refused.json() == {
        "code": "qr_not_ready",
        "detail": "QR Code não está pronto ou já foi escaneado",
    }


def test_a_pairing_code(api: APIClient, base: str, server: Server) -> None:
    api.post(f"{base}connect/")
    run_starts()
    given = api.post(f"{base}pairing-code/", {"phone_number": "+5511900000001"}, format="json")
    assert given.status_code == 200
    assert given.json()["code"].startswith("ABCD")
    for body in ({}, {"phone_number": "12"}):
        refused = api.post(f"{base}pairing-code/", body, format="json")
        assert refused.status_code == 400
        assert list(refused.json()) == ["phone_number"]


def test_a_channel_without_settings(api: APIClient, channel: Channel) -> None:
    base = f"/api/channels/{channel.pk}/wwebjs/"
    assert api.get(base).json()["state"] == "not_configured"
    answers = [
        api.post(f"{base}connect/"),
        api.post(f"{base}disconnect/"),
        api.get(f"{base}qr/"),
        api.post(f"{base}pairing-code/", {"phone_number": "+5511900000001"}, format="json"),
    ]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {
        (409, "not_configured")
    }


def test_a_wrong_key_names_the_field(api: APIClient, attached: Channel, base: str) -> None:
    attached.wwebjs_api_key = "wrong"
    save_channel(attached)
    response = api.get(base).json()
    assert (response["state"], response["code"], response["field"]) == (
        "error",
        "wrong_key",
        "wwebjs_api_key",
    )
    refused = api.post(f"{base}connect/")
    assert refused.status_code == 502
    assert refused.json() == {
        "code": "wrong_key",
        "detail": "The provider rejected the key",
        "field": "wwebjs_api_key",
    }


@pytest.mark.parametrize("path", ["", "qr/"])
def test_an_unknown_channel(api: APIClient, path: str) -> None:
    answer = api.get(f"/api/channels/4711/wwebjs/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_the_permission_to_view_does_not_allow_actions(
    make_user: Callable[..., User], client_of: Callable[[User], APIClient], base: str
) -> None:
    viewer = client_of(make_user("vera", "channels_app.view_channel"))
    assert viewer.get(base).status_code == 200
    calls: list[Any] = [
        viewer.post(f"{base}connect/"),
        viewer.post(f"{base}disconnect/"),
        viewer.post(f"{base}pairing-code/", {"phone_number": "+5511900000001"}, format="json"),
        # Anyone who can see the code can link a phone.
        viewer.get(f"{base}qr/"),
    ]
    assert {call.status_code for call in calls} == {403}
    changer = client_of(
        make_user("caio", "channels_app.view_channel", "channels_app.change_channel")
    )
    assert changer.post(f"{base}connect/").status_code == 200
    nobody = client_of(make_user("nina"))
    assert nobody.get(base).status_code == 403
    outsider = client_of(make_user("otto", "channels_app.view_channel", is_staff=False))
    assert outsider.get(base).status_code == 403


def test_without_a_token_nothing_is_returned(client: Any, base: str) -> None:
    assert client.get(base).status_code == 401
    assert client.post(f"{base}connect/").status_code == 401


def test_the_channel_returns_the_state_read_only(
    api: APIClient, attached: Channel, base: str, server: Server
) -> None:
    server.steer("make_ready")
    api.get(base)
    answer = api.patch(
        f"/api/channels/{attached.pk}/",
        {"name": "Novo", "wwebjs_state": "error"},
        format="json",
    )
    assert answer.status_code == 200
    assert (answer.json()["name"], answer.json()["wwebjs_state"]) == ("Novo", "ready")
