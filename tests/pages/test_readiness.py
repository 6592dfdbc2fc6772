"""Warnings about a fallback that is not ready, and incidents on the pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from channels_app.connections import circuit_breaker
from channels_app.incidents import incidents
from channels_app.models import Channel
from messaging.live import frames
from tests.factories import change_channel, update_connection
from tests.pages.html import Element, parse

pytestmark = pytest.mark.django_db


@pytest.fixture
def attached(make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        fallback="wwebjs", wwebjs_url="http://127.0.0.1:9", wwebjs_api_key="k",
        wwebjs_session_id="demo",
    )  # fmt: skip


@pytest.fixture
def by_baileys(make_channel: Callable[..., Channel]) -> Channel:
    other = make_channel(
        name="Oficina", kind="baileys", phone_number_id="", instance_name="x",
        evolution_url="http://127.0.0.1:9", evolution_api_key="k",
    )  # fmt: skip
    return make_channel(fallback="baileys", fallback_channel=other)


def warnings(client: Client) -> tuple[str, str]:
    """Return the fallback warnings of the dashboard and the card, "" for no warning."""
    dashboard = parse(client.get("/").content).all("span", data_fallback_problem=None)
    articles = parse(client.get("/channels/").content).all("article")
    cards = [card for card in articles if card.all("span", data_fallback_problem=None)]
    return _text(dashboard), _text(cards)


def _text(found: list[Element]) -> str:
    return found[0].text if found else ""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": "disconnected", "state_code": "stopped"}, "Stopped here"),
        (
            {"state": "error", "state_code": "conflict"},
            "opened in WhatsApp Web somewhere else",
        ),
        ({"state": "qr", "state_code": "waiting_for_scan"}, "Waiting for the QR"),
        ({"state": "connected", "state_code": "syncing"}, "still loading"),
        (
            {
                "state": "ready",
                "state_code": "ready",
                "breaker_opened_at": timezone.now(),
                "breaker_code": "wrong_key",
            },
            "Paused after a rejection",
        ),
    ],
)
def test_a_session_that_is_not_ready_shows_a_warning(
    staff_client: Client, attached: Channel, fields: dict[str, Any], expected: str
) -> None:
    update_connection(attached, "wwebjs", **fields)
    dashboard, card = warnings(staff_client)
    assert "The fallback is unavailable:" in dashboard
    assert expected in dashboard
    assert "Unavailable" in card


@pytest.mark.parametrize(
    ("state", "code", "changes"),
    [
        ("ready", "ready", {}),
        ("disconnected", "unchecked", {}),
        ("error", "conflict", {"active": False}),
        ("error", "conflict", {"fallback": "none"}),
    ],
)
def test_a_ready_unchecked_or_unused_fallback_shows_no_warning(
    staff_client: Client, attached: Channel, state: str, code: str, changes: dict[str, Any]
) -> None:
    change_channel(attached, **changes)
    update_connection(attached, "wwebjs", state=state, state_code=code)
    assert warnings(staff_client) == ("", "")


def test_a_corrected_key_or_another_fallback_ends_the_warning(
    staff_client: Client, attached: Channel, by_baileys: Channel
) -> None:
    update_connection(attached, "wwebjs", state="ready", state_code="ready")
    for changes in (
        {"wwebjs_api_key": "mended"},
        {"fallback": "baileys", "fallback_channel": by_baileys.fallback_channel},
    ):
        circuit_breaker.trip(attached.wwebjs, code="wrong_key")
        assert "Unavailable" in warnings(staff_client)[1]
        change_channel(attached, **changes)
        assert warnings(staff_client) == ("", "")
        assert "data-breaker" not in staff_client.get("/channels/").content.decode()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"active": False}, "The channel “Oficina” is not active."),
        ({"health": "failing", "health_detail": "401 Unauthorized"}, "401 Unauthorized"),
        (
            {"breaker_opened_at": timezone.now(), "breaker_code": "wrong_key"},
            "Paused after a rejection",
        ),
    ],
)
def test_a_baileys_channel_that_is_not_ready_shows_a_warning(
    staff_client: Client, by_baileys: Channel, fields: dict[str, Any], expected: str
) -> None:
    assert warnings(staff_client) == ("", "")
    assert by_baileys.fallback_channel
    if "active" in fields:
        change_channel(by_baileys.fallback_channel, **fields)
    else:
        update_connection(by_baileys.fallback_channel, **fields)
    dashboard, card = warnings(staff_client)
    assert expected in dashboard
    assert expected in card


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        ("starting", "dialling", "Evolution is connecting"),
        ("qr", "waiting_for_scan", "Waiting for the QR code to be scanned."),
        ("disconnected", "connection_lost", "connection"),
        ("ready", "ready", ""),
        ("disconnected", "unchecked", ""),
    ],
)
def test_badge_dashboard_and_card_show_the_same_state_of_an_instance(
    staff_client: Client, by_baileys: Channel, state: str, code: str, expected: str
) -> None:
    # Unchanged since it was last ready: connecting does not affect the channel's health.
    assert by_baileys.fallback_channel
    update_connection(by_baileys.fallback_channel, health="ok", state=state, state_code=code)
    dashboard, card = warnings(staff_client)
    section = parse(staff_client.get("/channels/").content).one(data_fallback_works=None)
    works = not expected
    assert section.attributes["data-fallback-works"] == str(works).lower()
    assert ("is unavailable" in section.text) is not works
    assert ("Unavailable" in card) is not works
    assert expected in dashboard
    assert bool(dashboard) is not works


def test_the_dashboard_shows_the_state_of_a_session_and_its_last_incident(
    staff_client: Client, attached: Channel
) -> None:
    update_connection(
        attached,
        "wwebjs",
        state="ready",
        state_code="ready",
        state_changed_at=timezone.now(),
        last_drop_at=timezone.now(),
        last_drop_reason="conflict",
    )
    line = parse(staff_client.get("/").content).one("span", class_="row-session").text
    assert line.startswith(
        "Ready now · Last disconnection now : This session was opened in WhatsApp Web somewhere else"  # noqa: E501
    )


def test_the_dashboard_shows_the_state_of_an_instance_and_its_last_incident(
    staff_client: Client, by_baileys: Channel
) -> None:
    def line() -> str:
        return parse(staff_client.get("/").content).one("span", data_baileys_state=None).text

    assert line() == "The connection is being checked."
    assert by_baileys.fallback_channel
    update_connection(
        by_baileys.fallback_channel,
        state="disconnected",
        state_code="unlinked_on_phone",
        state_changed_at=timezone.now(),
        last_drop_at=timezone.now(),
        last_drop_reason="unlinked_on_phone",
    )
    assert (
        line()
        == "Disconnected now · Last disconnection now : The session was unlinked on the phone."
    )


def test_the_number_of_dashboard_queries_does_not_depend_on_the_number_of_channels(
    staff_client: Client, make_channel: Callable[..., Channel], django_assert_max_num_queries: Any
) -> None:
    counts: list[int] = []
    for _ in range(2):
        for number in range(4):
            make_channel(
                kind="baileys", phone_number_id="", instance_name=f"n{number}{len(counts)}",
                evolution_url="http://127.0.0.1:9", evolution_api_key="k",
            )  # fmt: skip
        with django_assert_max_num_queries(30) as queries:
            staff_client.get("/")
        counts.append(len(queries))
    assert counts[0] == counts[1]


# -- incidents -------------------------------------------------------------------------------------


def open_incident(channel: Channel) -> None:
    incidents.open_or_update(
        channel.wwebjs, reason="unlinked_on_phone", detail="", at=timezone.now()
    )


def test_every_page_has_an_alert_area_and_the_dashboard_has_one_list(
    staff_client: Client, attached: Channel
) -> None:
    open_incident(attached)
    for path in ("/help/fallback/", "/instances/", "/channels/new/", f"/channels/{attached.pk}/"):
        region = parse(staff_client.get(path).content).one(data_alarms=None)
        assert region.attributes["data-watch"] == "alarms=1"
        assert "hidden" not in region.attributes
    for path in ("/admin/", "/admin/messaging/message/"):
        page = parse(staff_client.get(path).content)
        assert page.one(data_alarms=None).attributes["data-watch"] == "alarms=1"
        assert page.one(data_connection=None)
    page = parse(staff_client.get("/").content)
    assert "hidden" in page.one(data_alarms=None).attributes
    assert page.one(data_alarm="wwebjs")


def test_the_dashboard_reloads_its_figures_when_a_session_changes(
    staff: User, attached: Channel
) -> None:
    page = frames.StatsView(user=staff, language="en", value="1")
    assert frames.frames([page], {"channels": [attached.pk]}) == [{"kind": "refresh"}]
