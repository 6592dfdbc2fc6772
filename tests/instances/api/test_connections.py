"""REST: the connection of an instance, with the simulated Evolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from instances.connections import pictures
from instances.models import WhatsAppSession
from tests.factories import change_channel
from tests.instances.support import NAME, Evolution, wait_until

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from rest_framework.test import APIClient

BASE = f"/api/instances/{NAME}"
FIELDS = {
    "state", "code", "detail", "field", "since", "checked_at", "own_number", "last_drop_at",
    "last_drop_reason", "qr_seen_at", "unconfirmed_number", "profile_name",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "HOSTS", ())


def state(api: APIClient) -> Any:
    answer = api.get(f"{BASE}/connection/")
    assert answer.status_code == 200, answer.data
    return answer.json()


@pytest.mark.parametrize("version", ["2.3.6", "2.3.7", "2.4.0"])
def test_the_api_covers_the_whole_life_cycle_of_an_instance(
    api: APIClient, session: WhatsAppSession, evolution: Evolution, version: str
) -> None:
    evolution.control("settings", version=version)
    current = state(api)
    assert set(current) == FIELDS
    assert (current["state"], current["own_number"]) == ("ready", "5511900000777")

    assert api.post(f"{BASE}/logout/").json()["code"] == "unlinked"
    assert api.get(f"{BASE}/qr").json()["code"] == "qr_not_ready"
    assert api.post(f"{BASE}/connect").json()["state"] == "qr"
    code = api.get(f"{BASE}/qr/")
    assert code.json()["qr"].startswith("2@")
    assert code.json()["svg"].startswith("<svg")
    assert code["Cache-Control"] == "no-store"
    typed = api.post(f"{BASE}/pairing-code/", {"phone_number": "+55 11 90000-0777"}, format="json")
    assert len(typed.json()["code"]) == 8
    evolution.control("scan", instance=NAME)
    wait_until(lambda: state(api)["state"] == "ready")
    assert api.post(f"{BASE}/reconnect/").json()["code"] == "reconnecting"
    wait_until(lambda: state(api)["state"] == "ready")
    assert api.delete(f"{BASE}/").json()["code"] == "instance_deleted"
    assert state(api)["code"] == "instance_deleted"
    [listed] = api.get("/api/instances/").json()
    assert (listed["state"], listed["state_code"]) == ("disconnected", "instance_deleted")


def test_an_error_names_the_field_to_correct(api: APIClient, session: WhatsAppSession) -> None:
    channel = session.channel
    change_channel(channel, evolution_api_key="wrong")
    answer = api.post(f"{BASE}/connect/")
    assert answer.status_code == 502
    assert answer.json()["code"] == "wrong_key"
    assert answer.json()["field"] == "evolution_api_key"
    assert "wrong" not in answer.json()["detail"]
    bad = api.post(f"{BASE}/pairing-code/", {"phone_number": "12"}, format="json")
    assert (bad.status_code, list(bad.json())) == (400, ["phone_number"])
    assert api.get("/api/instances/ghost/connection/").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("get", "/connection/", "channels_app.view_channel"),
        ("get", "/qr/", "channels_app.change_channel"),
        ("post", "/connect/", "channels_app.change_channel"),
        ("post", "/pairing-code/", "channels_app.change_channel"),
        ("post", "/reconnect/", "channels_app.change_channel"),
        ("post", "/logout/", "channels_app.change_channel"),
        ("delete", "/", "channels_app.change_channel"),
    ],
)
def test_the_connection_requires_the_permission_to_change_the_channel(
    make_user: Callable[..., User], session: WhatsAppSession, method: str, path: str,
    permission: str,
) -> None:  # fmt: skip
    from rest_framework.test import APIClient

    client = APIClient()
    assert getattr(client, method)(BASE + path).status_code == 401
    others = {"channels_app.view_channel", "instances.change_whatsappsession"} - {permission}
    client.force_authenticate(make_user("leo", *others))
    assert getattr(client, method)(BASE + path).status_code == 403
