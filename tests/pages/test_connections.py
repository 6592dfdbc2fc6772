"""An instance's connection on cards and pages: visible buttons and their effects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone, translation

from channels_app.connections import monitor
from channels_app.connections.session_engines import QrCode, SessionRefused
from channels_app.incidents import incidents
from channels_app.models import Channel, Connection, EvolutionCredentials
from instances.connections import lifecycle
from instances.models import ProfilePicture, WhatsAppSession
from messaging.live import frames
from tests.factories import update_connection
from tests.pages.html import Element, parse

pytestmark = pytest.mark.django_db

NAME = "oficina"
BASE = f"/instances/{NAME}/connection/"


@pytest.fixture
def baileys(make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        name="Celular", kind="baileys", evolution_url="http://127.0.0.1:9",
        evolution_api_key="evo-key", instance_name=NAME, phone_number="",
    )  # fmt: skip


@pytest.fixture
def official(make_channel: Callable[..., Channel], baileys: Channel) -> Channel:
    return make_channel(name="Loja oficial", fallback="baileys", fallback_channel=baileys)


def store_state(channel: Channel, state: str, code: str, **changes: Any) -> WhatsAppSession:
    update_connection(
        channel, state=state, state_code=code, state_changed_at=timezone.now(), **changes
    )
    return WhatsAppSession.objects.get(channel=channel)


def section(client: Client, channel: Channel, page: str = "/channels/") -> Element:
    card = parse(client.get(page).content).one(data_channel=str(channel.pk))
    return card.one("section", data_baileys_state=None)


def triggers(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer["HX-Trigger"])
    return found


@pytest.mark.parametrize(
    ("state", "code", "buttons"),
    [
        ("disconnected", "unchecked", ["Check now"]),
        ("disconnected", "no_instance", ["Create instance and connect"]),
        ("disconnected", "instance_gone", ["Create instance and connect"]),
        ("disconnected", "instance_deleted", ["Create instance and connect"]),
        ("disconnected", "deleting", ["Check now"]),
        ("disconnected", "not_linked", ["Connect", "Delete instance"]),
        ("disconnected", "unlinked", ["Connect", "Delete instance"]),
        ("disconnected", "unlinked_on_phone", ["Connect", "Delete instance"]),
        ("disconnected", "qr_limit", ["Connect", "Delete instance"]),
        ("starting", "dialling", ["Show QR", "Reconnect", "Delete instance"]),
        ("qr", "waiting_for_scan", ["Show QR", "Delete instance"]),
        ("ready", "ready", ["Disconnect", "Reconnect", "Delete instance"]),
        ("error", "dead_socket", ["Reconnect", "Disconnect", "Delete instance"]),
        ("error", "dialling_long", ["Reconnect", "Disconnect", "Delete instance"]),
        (
            "error",
            "number_unconfirmed",
            ["+55 11 97777-6666 is correct", "Disconnect", "Delete instance"],
        ),
        ("error", "refused_by_whatsapp", ["Connect", "Delete instance"]),
        ("error", "wrong_key", ["Check now"]),
        ("error", "connection_refused", ["Check now"]),
    ],
)
def test_each_state_shows_its_buttons(
    staff_client: Client, reader: Client, baileys: Channel, state: str, code: str, buttons: Any
) -> None:
    store_state(baileys, state, code)
    if code == "number_unconfirmed":
        Channel.objects.update(phone_number="+5511900000001")
        update_connection(baileys, linked_number="5511977776666")

    for page in ("/channels/", f"/channels/{baileys.pk}/"):
        shown = section(staff_client, baileys, page)
        assert shown.attributes["data-baileys-state"] == state
        assert [button.text for button in shown.all("button")] == buttons
        assert not section(reader, baileys, page).all("button")


def test_the_instance_page_shows_the_connection_and_the_channel_page_the_receive_mode(
    staff_client: Client, baileys: Channel
) -> None:
    session = store_state(baileys, "ready", "ready")

    page = parse(staff_client.get(f"/instances/{NAME}/").content)
    card = page.one(data_live=f"connection:{session.pk}")
    assert card.one("section").attributes["data-baileys-state"] == "ready"
    assert page.one("dialog")

    page = parse(staff_client.get(f"/channels/{baileys.pk}/").content)
    assert page.one(data_session=NAME).one(data_mode="webhook")


@pytest.mark.parametrize(
    ("permissions", "shown", "usable"),
    [
        ((), False, False),
        (("channels_app.change_channel",), False, False),
        (("instances.change_whatsappsession",), False, False),
        (("instances.view_whatsappsession",), True, False),
        (("instances.view_whatsappsession", "channels_app.change_channel"), True, False),
        (("instances.view_whatsappsession", "instances.change_whatsappsession"), True, True),
    ],
)
def test_the_receive_mode_on_the_channel_page_requires_instance_permissions(
    make_user: Callable[..., User],
    client_for: Callable[[User], Client],
    baileys: Channel,
    permissions: tuple[str, ...],
    shown: bool,
    usable: bool,
) -> None:
    store_state(baileys, "ready", "ready")
    client = client_for(make_user("eva", "channels_app.view_channel", *permissions))

    cards = parse(client.get(f"/channels/{baileys.pk}/").content).all(data_session=NAME)
    buttons = [button for card in cards for button in card.all("button", hx_post=None)]
    switches = [b for b in buttons if "/switch/" in b.attributes["hx-post"]]
    assert (bool(cards), bool(switches)) == (shown, usable)


@pytest.mark.parametrize(
    ("code", "field"),
    [
        ("wrong_key", "evolution_api_key"),
        ("connection_refused", "evolution_url"),
        ("other_integration", "instance_name"),
    ],
)
def test_a_configuration_problem_links_to_its_field(
    staff_client: Client, baileys: Channel, code: str, field: str
) -> None:
    store_state(baileys, "error", code)
    problem = section(staff_client, baileys).one("p", class_="wwebjs-problem")
    assert problem.one("a").attributes["href"] == f"/channels/{baileys.pk}/#id_{field}"
    assert parse(staff_client.get(f"/channels/{baileys.pk}/").content).one(id=f"id_{field}")


def test_the_card_shows_the_account_state_and_last_incident(
    staff_client: Client, baileys: Channel
) -> None:
    store_state(
        baileys, "ready", "ready", own_number="5511900000777", profile_name="Loja Centro",
        last_drop_at=timezone.now(), last_drop_reason="unlinked_on_phone",
        checked_at=timezone.now(),
    )  # fmt: skip
    text = section(staff_client, baileys).text
    for expected in (
        "Ready now",
        "Loja Centro",
        "+55 11 90000-0777",
        "Last disconnection now",
        "unlinked on",
    ):
        assert expected in text


def test_the_profile_picture_is_served_locally(
    staff_client: Client, client: Client, baileys: Channel
) -> None:
    session = store_state(baileys, "ready", "ready", own_number="5511900000777")
    assert staff_client.get(f"{BASE}picture/").status_code == 404
    png = b"\x89PNG\r\n\x1a\n"
    ProfilePicture.objects.create(
        connection=session.connection, url="x", content=png, content_type="image/png",
        fetched_at=timezone.now(),
    )  # fmt: skip
    image = section(staff_client, baileys).one("img")
    answer = staff_client.get(image.attributes["src"])
    assert (answer.content, answer["Content-Type"]) == (png, "image/png")
    assert client.get(f"{BASE}picture/").status_code == 302


# -- the fallback on the official card -------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "code", "active", "works", "expected"),
    [
        ("ready", "ready", True, "true", "Ready"),
        ("disconnected", "unlinked_on_phone", True, "false", "unlinked on the phone"),
        ("error", "dead_socket", True, "false", "connection is no longer working"),
        ("ready", "ready", False, "false", "is not active."),
    ],
)
def test_the_official_card_shows_a_fallback_that_is_not_ready(
    staff_client: Client, official: Channel, baileys: Channel, state: str, code: str,
    active: bool, works: str, expected: str,
) -> None:  # fmt: skip
    store_state(baileys, state, code)
    Channel.objects.filter(pk=baileys.pk).update(active=active)
    for page in ("/channels/", f"/channels/{official.pk}/"):
        shown = section(staff_client, official, page)
        assert shown.attributes["data-fallback-works"] == works
        assert expected in shown.text
        assert ("is unavailable" in shown.text) == (works == "false")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("5511900000001", "Some phones first show such a message as “Waiting for this message”"),
        ("551100000001", "Same number as the official channel"),
        ("5511955550000", "Different number from the official channel"),
    ],
)
def test_the_page_describes_what_the_recipient_will_see(
    staff_client: Client, official: Channel, baileys: Channel, number: str, expected: str
) -> None:
    store_state(baileys, "ready", "ready", own_number=number)
    assert expected in section(staff_client, official).text


def test_both_pages_warn_against_mass_messages(
    staff_client: Client, official: Channel, baileys: Channel
) -> None:
    for channel in (official, baileys):
        text = parse(staff_client.get(f"/channels/{channel.pk}/").content).text
        assert "Do not use the fallback for mass messages" in text


def test_a_channel_without_credentials_cannot_be_a_fallback(
    make_channel: Callable[..., Channel], baileys: Channel
) -> None:
    EvolutionCredentials.objects.filter(pk=baileys.pk).update(url="")
    baileys.refresh_from_db()
    channel = make_channel(name="Outra")
    channel.fallback, channel.fallback_channel = "baileys", baileys
    with translation.override("en"), pytest.raises(ValidationError) as refused:
        channel.full_clean()
    [text] = refused.value.message_dict["fallback_channel"]
    assert "has no address, key or instance name" in text


def test_deactivating_a_channel_names_the_channels_that_use_it_as_fallback(
    staff_client: Client, official: Channel, baileys: Channel
) -> None:
    body = {
        "name": "Celular", "evolution_url": "http://127.0.0.1:9", "instance_name": NAME,
        "request_timeout_seconds": "15",
    }  # fmt: skip
    answer = staff_client.post(f"/channels/{baileys.pk}/", body, follow=True)
    baileys.refresh_from_db()
    assert not baileys.active
    text = parse(answer.content).text
    assert "It is the fallback of Loja oficial, which can no longer use it." in text
    assert "Loja oficial" in parse(staff_client.get(f"/channels/{baileys.pk}/delete/").content).text


def test_deactivating_a_fallback_in_the_admin_shows_the_notice(
    staff_client: Client, official: Channel, baileys: Channel
) -> None:
    url = f"/admin/channels_app/channel/{baileys.pk}/change/"
    form = staff_client.get(url).context["adminform"].form
    data = {name: value for name, value in form.initial.items() if value is not None}
    notice = "It is the fallback of Loja oficial, which can no longer use it."

    answer = staff_client.post(url, data, follow=True)
    assert answer.redirect_chain
    assert notice not in answer.content.decode()

    del data["active"]
    assert notice in staff_client.post(url, data, follow=True).content.decode()
    baileys.refresh_from_db()
    assert not baileys.active


def test_the_dashboard_shows_the_incident_and_the_state(
    staff_client: Client, baileys: Channel
) -> None:
    store_state(baileys, "disconnected", "unlinked_on_phone")
    baileys.primary.record_health(ok=False, detail="x")
    incidents.open_or_update(
        baileys.primary, reason="unlinked_on_phone", detail="", at=timezone.now()
    )
    page = parse(staff_client.get("/").content)
    alert = page.one(data_alarm="baileys")
    assert "The session was unlinked on the phone · now" in alert.text
    [row] = page.all("a", class_="row", href=f"/channels/{baileys.pk}/")
    # One state: that of the session.
    assert "Disconnected" in row.text
    assert "Not working" not in row.text

    baileys.active = False
    baileys.save()
    assert not parse(staff_client.get("/").content).all(data_alarm="baileys"), "it may rest"


# -- actions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "module", "function"),
    [
        ("ask/", monitor, "state"),
        ("reconnect/", lifecycle, "reconnect"),
        ("log-out/", lifecycle, "log_out"),
    ],
)
def test_an_action_returns_the_cards_and_closes_the_dialog(
    staff_client: Client, baileys: Channel, monkeypatch: pytest.MonkeyPatch, path: str,
    module: Any, function: str,
) -> None:  # fmt: skip
    session = store_state(baileys, "ready", "ready")
    called: list[Connection] = []

    def act(connection: Connection, **by: Any) -> Any:
        called.append(connection)
        return monitor.stored_state(connection)

    monkeypatch.setattr(module, function, act)
    answer = staff_client.post(BASE + path)
    assert called == [session.connection]
    page = parse(answer.content)
    assert page.one(data_live=f"channel:{baileys.pk}")
    assert page.one(data_live=f"connection:{session.pk}")
    assert "dialog:close" in triggers(answer)
    assert answer["Cache-Control"] == "no-store"


def test_an_error_is_shown_as_a_toast(
    staff_client: Client, baileys: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(connection: Connection, **by: Any) -> Any:
        raise SessionRefused("timeout", "It hangs.", status=502)

    monkeypatch.setattr(lifecycle, "reconnect", refuse)
    toast = triggers(staff_client.post(f"{BASE}reconnect/"))["toast"]
    assert (toast["text"], toast["level"]) == ("It hangs.", "error")


def test_deleting_requires_the_name(
    staff_client: Client, official: Channel, baileys: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted: list[str] = []

    def act(connection: Connection, **by: Any) -> Any:
        deleted.append(connection.channel.instance_name)
        return monitor.stored_state(connection)

    monkeypatch.setattr(lifecycle, "delete", act)
    dialog = parse(staff_client.get(f"{BASE}delete/").content)
    assert "It is the fallback of Loja oficial" in dialog.text
    wrong = staff_client.post(f"{BASE}delete/", {"confirm": "outra"})
    assert triggers(wrong)["toast"]["level"] == "error"
    assert deleted == []
    staff_client.post(f"{BASE}delete/", {"confirm": NAME})
    assert deleted == [NAME]


def test_logging_out_asks_for_confirmation_and_names_dependent_channels(
    staff_client: Client, official: Channel
) -> None:
    dialog = parse(staff_client.get(f"{BASE}log-out/").content)
    assert "It is the fallback of Loja oficial" in dialog.text
    assert [button.text for button in dialog.one(class_="dialog-actions").all("button")] == [
        "Disconnect and unlink the phone",
        "Cancel",
    ]


def test_the_dialog_starts_the_session_only_by_post(
    staff_client: Client, baileys: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def connect(connection: Connection, **by: Any) -> None:
        started.append(connection.channel.instance_name)

    monkeypatch.setattr(monitor, "connect", connect)
    box = parse(staff_client.get(f"{BASE}dialog/?start=1").content).one(class_="qr-box")
    assert box.attributes["hx-post"] == f"{BASE}qr/"
    box = parse(staff_client.get(f"{BASE}dialog/").content).one(class_="qr-box")
    assert box.attributes["hx-get"] == f"{BASE}qr/"
    assert started == []

    code = QrCode("2@x", "<svg class='qr'></svg>", timezone.now(), 3.4, "ABCD1234")
    monkeypatch.setattr(monitor, "qr", lambda connection: code)
    shown = parse(staff_client.post(f"{BASE}qr/").content)
    assert started == [NAME]
    assert shown.one("svg")
    assert "appeared 3 seconds ago" in shown.text
    assert shown.one(class_="pairing-code").text == "ABCD1234"


def test_the_dialog_closes_once_the_phone_is_linked(
    staff_client: Client, baileys: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_state(baileys, "ready", "ready")

    def none(connection: Connection) -> Any:
        raise SessionRefused("qr_not_ready", "None.")

    monkeypatch.setattr(monitor, "qr", none)
    answer = staff_client.get(f"{BASE}qr/")
    assert triggers(answer)["toast"]["text"] == "WhatsApp is connected."
    assert "dialog:close" in triggers(answer)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "ask/"), ("post", "reconnect/"), ("get", "log-out/"), ("post", "log-out/"),
        ("get", "delete/"), ("post", "delete/"), ("get", "dialog/"), ("get", "qr/"),
        ("post", "qr/"), ("post", "pairing/"),
    ],
)  # fmt: skip
def test_changing_a_connection_requires_the_change_permission(
    reader: Client, client: Client, baileys: Channel, method: str, path: str
) -> None:
    assert getattr(reader, method)(BASE + path).status_code == 403
    assert getattr(client, method)(BASE + path).status_code == 302


def test_the_channel_socket_sends_changes_of_the_connection(
    staff: User, official: Channel, baileys: Channel
) -> None:
    session = store_state(baileys, "ready", "ready")

    def kinds(query: dict[str, list[str]], changed: dict[str, Any]) -> set[str]:
        views = frames.views_for_query(query, user=staff, language="en")
        return {frame["key"] for frame in frames.frames(views, changed)}

    both = {f"channel:{baileys.pk}", f"session:{session.pk}"}
    assert kinds({"channel": [str(baileys.pk)]}, {"channels": [baileys.pk]}) == both
    assert kinds({"channel": [str(official.pk)]}, {"channels": [baileys.pk]}) == set()
    assert kinds({"instance": [NAME]}, {"sessions": [session.pk]}) == {
        f"session:{session.pk}",
        f"history:{session.pk}",
        f"connection:{session.pk}",
    }
