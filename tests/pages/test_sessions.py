"""The wwebjs session on a channel's card: visible buttons and their effects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone, translation

from channels_app.connections import monitor, wwebjs_commands, wwebjs_install
from channels_app.connections.session_engines import QrCode, SessionRefused
from channels_app.models import Channel, Connection, WwebjsCredentials
from tests.factories import update_connection
from tests.pages.html import Element, parse

pytestmark = pytest.mark.django_db

ACTIONS = ("connect", "check", "disconnect", "qr", "pairing")


@pytest.fixture
def attached(make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        fallback="wwebjs", wwebjs_url="http://127.0.0.1:9", wwebjs_api_key="k",
        wwebjs_session_id="demo",
    )  # fmt: skip


def store_state(channel: Channel, state: str, code: str, **changes: Any) -> None:
    update_connection(
        channel,
        "wwebjs",
        state=state,
        state_code=code,
        state_changed_at=timezone.now(),
        **changes,
    )


def section(client: Client, channel: Channel, page: str = "/channels/") -> Element:
    card = parse(client.get(page).content).one(data_channel=str(channel.pk))
    return card.one("section", class_="wwebjs")


def triggers(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer["HX-Trigger"])
    return found


@pytest.mark.parametrize(
    ("state", "code", "buttons"),
    [
        ("not_configured", "", ["Check now"]),
        ("disconnected", "unchecked", ["Check now"]),
        ("disconnected", "not_started", ["Connect"]),
        ("disconnected", "stopped", ["Connect"]),
        ("starting", "starting", ["Show QR", "Disconnect wwebjs"]),
        ("qr", "waiting_for_scan", ["Show QR", "Disconnect wwebjs"]),
        ("pairing", "pairing", ["Disconnect wwebjs"]),
        ("connected", "syncing", ["Disconnect wwebjs"]),
        ("ready", "ready", ["Disconnect wwebjs"]),
        ("error", "qr_expired", ["Show QR", "Disconnect wwebjs"]),
        ("error", "conflict", ["Connect", "Disconnect wwebjs"]),
        ("error", "start_failed", ["Connect"]),
        ("error", "wrong_key", ["Check now"]),
        ("error", "connection_refused", ["Check now"]),
    ],
)
def test_each_state_shows_its_buttons(
    staff_client: Client, reader: Client, attached: Channel, state: str, code: str, buttons: Any
) -> None:
    store_state(attached, state, code)

    for page in ("/channels/", f"/channels/{attached.pk}/"):
        shown = section(staff_client, attached, page)
        assert [button.text for button in shown.all("button")] == [*buttons, "Docker command"]
        assert not section(reader, attached, page).all("button")


@pytest.mark.parametrize(
    ("code", "field"), [("wrong_key", "wwebjs_api_key"), ("connection_refused", "wwebjs_url")]
)
def test_a_configuration_problem_links_to_its_field(
    staff_client: Client, attached: Channel, code: str, field: str
) -> None:
    store_state(attached, "error", code)

    problem = section(staff_client, attached).one("p", class_="wwebjs-problem")

    assert problem.one("a").attributes["href"] == f"/channels/{attached.pk}/#id_{field}"
    attached.refresh_from_db()
    with translation.override("en"):
        assert monitor.stored_state(attached.wwebjs).detail in problem.text
    form = parse(staff_client.get(f"/channels/{attached.pk}/").content)
    assert form.one(id=f"id_{field}")


def test_the_card_shows_the_last_incident_and_its_reason(
    staff_client: Client, attached: Channel
) -> None:
    store_state(
        attached, "ready", "ready", own_number="5511900000001",
        last_drop_at=timezone.now(), last_drop_reason="conflict",
    )  # fmt: skip

    text = section(staff_client, attached).text

    for words in (
        "Ready now",
        "+55 11 90000-0001",
        "Last disconnection now",
        "opened in WhatsApp Web somewhere else",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("state", "number", "words"),
    [
        ("ready", "5511900000001", "Same number as the official channel"),
        ("ready", "5511955550000", "Different number from the official channel"),
        ("disconnected", "5511955550000", "Last linked number: +55 11 95555-0000"),
    ],
)
def test_the_card_shows_which_number_customers_see(
    staff_client: Client, attached: Channel, state: str, number: str, words: str
) -> None:
    store_state(attached, state, "ready" if state == "ready" else "stopped", own_number=number)

    assert words in section(staff_client, attached).text


def test_a_channel_without_wwebjs_shows_no_session(staff_client: Client, channel: Channel) -> None:
    page = parse(staff_client.get("/channels/").content)

    assert not page.all("section", class_="wwebjs")


def test_accessing_a_session_requires_the_change_permission(
    reader: Client, make_user: Callable[..., User], client_for: Any, attached: Channel
) -> None:
    nobody = client_for(make_user("nina"))
    for client in (reader, nobody):
        for name in ACTIONS:
            assert client.post(f"/channels/{attached.pk}/session/{name}/").status_code == 403
        for name in ("dialog", "qr", "disconnect"):
            assert client.get(f"/channels/{attached.pk}/session/{name}/").status_code == 403


def test_connect_returns_the_card_or_the_reason_of_the_error(
    staff_client: Client, attached: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(connection: Connection, **by: Any) -> Any:
        store_state(connection.channel, "starting", "starting")
        return monitor.current_state(connection)

    monkeypatch.setattr(monitor, "connect", connect)
    answer = staff_client.post(f"/channels/{attached.pk}/session/connect/")

    card = parse(answer.content).one("article", data_live=f"channel:{attached.pk}")
    assert card.attributes["data-wwebjs-state"] == "starting"
    assert triggers(answer)["toast"]["level"] == "success"

    def refuse(connection: Connection, **by: Any) -> Any:
        raise SessionRefused("wrong_key", "The key is wrong", status=502, field="wwebjs_api_key")

    monkeypatch.setattr(monitor, "connect", refuse)
    answer = staff_client.post(f"/channels/{attached.pk}/session/connect/")

    assert answer.status_code == 200
    assert triggers(answer)["toast"] == {
        "text": "The key is wrong", "level": "error", "target": "body",
    }  # fmt: skip


@pytest.mark.parametrize(("choice", "unlink"), [("yes", True), ("no", False)])
def test_disconnecting_asks_for_confirmation_and_can_keep_the_phone_linked(
    staff_client: Client,
    attached: Channel,
    monkeypatch: pytest.MonkeyPatch,
    choice: str,
    unlink: bool,
) -> None:
    asked: list[bool] = []

    def disconnect(connection: Connection, *, unlink: bool) -> Any:
        asked.append(unlink)
        return monitor.stored_state(connection)

    monkeypatch.setattr(wwebjs_commands, "disconnect", disconnect)
    path = f"/channels/{attached.pk}/session/disconnect/"

    question = parse(staff_client.get(path).content)
    assert "The phone will be unlinked" in question.text
    assert not asked
    answer = staff_client.post(path, {"unlink": choice})

    assert asked == [unlink]
    assert "dialog:close" in triggers(answer)


def test_the_dialog_shows_the_code_with_its_age(
    staff_client: Client, attached: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = QrCode("2@abc", monitor.draw("2@abc"), timezone.now(), 12.4)
    monkeypatch.setattr(monitor, "qr", lambda connection: code)
    store_state(attached, "qr", "waiting_for_scan")

    answer = staff_client.get(f"/channels/{attached.pk}/session/qr/")

    page = parse(answer.content)
    assert page.one("svg", class_="qr")
    assert "12 seconds ago" in page.text
    assert page.one(class_="qr-box").attributes["hx-trigger"].startswith("every ")
    assert "no-store" in answer.headers.get("Cache-Control", "")


def test_the_dialog_without_a_code_can_be_refreshed_and_closes_once_ready(
    staff_client: Client, attached: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def none_yet(connection: Connection) -> Any:
        raise SessionRefused("qr_not_ready", "The QR code is not ready")

    monkeypatch.setattr(monitor, "qr", none_yet)
    monkeypatch.setattr(
        monitor, "connect", lambda connection, **by: started.append(connection.channel_id)
    )
    store_state(attached, "starting", "starting")
    path = f"/channels/{attached.pk}/session/qr/"

    page = parse(staff_client.get(path).content)
    assert "The QR code is not ready" in page.text
    assert page.one("button").text == "Refresh QR"
    assert not started
    staff_client.post(path)
    assert started == [attached.pk]

    store_state(attached, "connected", "syncing")
    assert not parse(staff_client.get(path).content).all("button")
    store_state(attached, "ready", "ready")
    answer = staff_client.get(path)
    assert not answer.content
    assert "dialog:close" in triggers(answer)


def test_the_dialog_shows_a_pairing_code_or_the_reason_for_its_absence(
    staff_client: Client, attached: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/channels/{attached.pk}/session/pairing/"

    answer = parse(staff_client.post(path, {"phone_number": "abc"}).content)
    assert "country and area code" in answer.text

    monkeypatch.setattr(monitor, "pairing_code", lambda connection, number: "ABCD1234")
    answer = parse(staff_client.post(path, {"phone_number": "+5511900000001"}).content)
    assert answer.one(class_="pairing-code").text == "ABCD1234"


# -- the docker command ----------------------------------------------------------------------------


KEY = "chave-do-canal"


def test_the_commands_hide_the_key_until_it_is_requested(
    staff_client: Client, attached: Channel
) -> None:
    WwebjsCredentials.objects.filter(pk=attached.pk).update(api_key=KEY)
    path = f"/channels/{attached.pk}/session/install/"

    for page in ("/channels/", f"/channels/{attached.pk}/", path):
        assert KEY not in staff_client.get(page).content.decode()

    answer = staff_client.post(path)
    assert answer["Cache-Control"] == "no-store"
    attached.refresh_from_db()
    page = parse(answer.content)
    for name, callbacks in (("plain", False), ("callbacks", True)):
        shown = page.one("textarea", id=f"install-{name}")
        command = wwebjs_install.docker_command(attached, callbacks=callbacks, reveal=True)
        assert shown.text == " ".join(command.split())
        assert f"API_KEY={KEY}" in shown.text
        assert page.one("button", data_copy=f"#install-{name}")
    assert "docker pull avoylenko/wwebjs-api" in page.one("textarea", id="install-update").text
    # The next request hides it again.
    answer = staff_client.get(path)
    assert KEY not in answer.content.decode()
    assert answer["Cache-Control"] == "no-store"


def test_a_read_only_user_does_not_get_the_key(reader: Client, attached: Channel) -> None:
    WwebjsCredentials.objects.filter(pk=attached.pk).update(api_key=KEY)
    for ask in (reader.get, reader.post):
        answer = ask(f"/channels/{attached.pk}/session/install/")
        assert answer.status_code == 403
        assert KEY not in answer.content.decode()


def test_an_address_that_containers_cannot_reach_shows_a_warning(
    staff_client: Client, attached: Channel, settings: Any
) -> None:
    path = f"/channels/{attached.pk}/session/install/"
    for url, local in (
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("https://chat.example.com", False),
    ):
        settings.PUBLIC_URL = url
        text = parse(staff_client.get(path).content).text
        assert ("refers to this machine only" in text) is local
