"""The texts of the pages are correct, complete, and in the reader's language."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone, translation
from rest_framework.test import APIClient

from channels_app.connections import circuit_breaker
from channels_app.incidents import incidents
from channels_app.models import Channel, Connection
from channels_app.providers import error_codes
from core import sizes
from messaging.models import Conversation, Message
from tests.factories import update_connection
from tests.pages.html import parse

pytestmark = pytest.mark.django_db


@pytest.fixture
def attached(make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        fallback="wwebjs", wwebjs_url="http://127.0.0.1:9", wwebjs_api_key="k",
        wwebjs_session_id="demo",
    )  # fmt: skip


# -- why a message failed --------------------------------------------------------------------------


def test_a_bubble_shows_the_rejection_of_each_route(
    conversation: Conversation,
    make_message: Callable[..., Message],
    staff: User,
    client_for: Callable[..., Client],
) -> None:
    make_message(
        conversation, status="rejected", route=None, decision="no_more_routes",
        error_code="131047",
        attempts=[
            {"outcome": "rejected", "error_code": "131047"},
            {"outcome": "rejected", "route": "wwebjs", "error_code": "refused_request",
             "error_detail": "Evaluation failed: r"},
        ],
    )  # fmt: skip
    page = client_for(staff, "pt-br").get(f"/conversations/{conversation.pk}/").content
    official, fallback = [found.text for found in parse(page).all("span", data_refusal=None)]
    assert official.startswith("API oficial: Mais de 24 horas")
    assert "131047" in official
    # The provider's own text is quoted.
    assert fallback.startswith("wwebjs: O provedor recusou")
    assert "“Evaluation failed: r”" in fallback
    # The dashboard has one line: the last word about the message.
    attention = parse(client_for(staff, "pt-br").get("/").content).one(
        "section", aria_labelledby="attention"
    )
    assert "wwebjs: O provedor recusou" in attention.text


def test_a_reply_shows_what_it_quotes(
    conversation: Conversation, make_message: Callable[..., Message], staff_client: Client
) -> None:
    quoted = make_message(conversation, direction="in", text="Qual o preço?", minutes_ago=5)
    make_message(conversation, text="R$ 50", reply_to=quoted)
    page = parse(staff_client.get(f"/conversations/{conversation.pk}/").content)
    quote = page.one("a", class_="bubble-quote")
    assert quote.attributes["href"] == f"#message-{quoted.pk}"
    assert quote.text == "In reply to: Mariana Alves Qual o preço?"


def test_only_rejections_of_the_current_round_are_shown(
    conversation: Conversation, make_message: Callable[..., Message], staff_client: Client
) -> None:
    make_message(
        conversation, status="rejected", route=None, decision="no_more_routes", round=2,
        error_code="not_on_whatsapp",
        attempts=[
            {"outcome": "rejected", "error_code": "131047", "round": 1},
            {"outcome": "rejected", "route": "wwebjs", "error_code": "not_on_whatsapp",
             "round": 2},
        ],
    )  # fmt: skip
    page = parse(staff_client.get(f"/conversations/{conversation.pk}/").content)
    assert not page.all("span", data_refusal=None)
    reason = page.one("p", class_="message-reason")
    assert "not on WhatsApp" in reason.text


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (sizes.detail(7 * 1024 * 1024, 5 * 1024 * 1024), "7,0 MB; o limite é 5,0 MB"),
        (sizes.detail(None, 100 * 1024 * 1024), "o limite é 100,0 MB"),
        (sizes.detail(1536, None), "1,5 KB"),
        ("Payload Too Large", "Payload Too Large"),
        ("", ""),
    ],
)
def test_sizes_have_units_in_the_readers_language(stored: str, words: str) -> None:
    with translation.override("pt-br"):
        assert error_codes.stored_detail(stored).replace("\xa0", " ") == words


# -- consistent state on a card --------------------------------------------------------------------


def test_an_old_test_result_of_the_fallback_does_not_contradict_its_state(
    attached: Channel, staff_client: Client
) -> None:
    update_connection(
        attached, health="ok", health_detail="number_answers|+55 11\nfallback_wwebjs|not_started"
    )
    update_connection(attached, "wwebjs", state="ready", state_code="ready")
    [card] = parse(staff_client.get("/channels/").content).all("article")
    assert "Ready to send." in card.text
    assert "not started" not in card.text
    assert "does not report whether the app also uses the number" in card.text


def test_a_session_waiting_for_a_code_labels_its_first_reason(
    attached: Channel, staff_client: Client
) -> None:
    now = timezone.now()
    session = update_connection(
        attached, "wwebjs", state="qr", state_code="unlinked_scan_qr", last_drop_at=now,
        last_drop_reason="connection_refused",
    )  # fmt: skip
    incidents.open_or_update(session, reason="connection_refused", detail="", at=now)
    incidents.observed(session, reason="unlinked_scan_qr", detail="", at=now)
    [card] = parse(staff_client.get("/channels/").content).all("article")
    assert "The phone was unlinked. Scan the QR code." in card.text
    assert "first sign of the problem: The server refused the connection" in card.text
    dashboard = parse(staff_client.get("/").content)
    [alert] = dashboard.all("div", data_alarm="wwebjs")
    assert "Scan the QR code" in alert.text
    assert "refused" not in alert.text


def test_a_baileys_channel_has_one_state_on_the_dashboard(
    make_channel: Callable[..., Channel], staff_client: Client
) -> None:
    channel = make_channel(
        kind="baileys", phone_number_id="", instance_name="x",
        evolution_url="http://127.0.0.1:9", evolution_api_key="k",
    )  # fmt: skip
    update_connection(channel, health="ok", state="qr", state_code="waiting_for_scan")
    page = parse(staff_client.get("/").content)
    row = page.one("a", class_="row", href=f"/channels/{channel.pk}/")
    assert "Waiting for the QR code" in row.text
    assert "Connection established" not in row.text
    update_connection(
        channel, health="failing", state="error", state_code="number_unconfirmed",
        state_detail="+5521977776666", last_drop_at=timezone.now(),
        last_drop_reason="another_phone",
    )  # fmt: skip
    page = parse(staff_client.get("/").content)
    row = page.one("a", class_="row", href=f"/channels/{channel.pk}/")
    assert row.text.count("Not working") == 1
    [card] = parse(staff_client.get("/channels/").content).all("article")
    assert "Last disconnection" in card.text
    assert "has not been confirmed for this channel" in card.text
    assert "with an unconfirmed number" not in card.text


# -- lifting a new-chat block ----------------------------------------------------------------------


def blocked(channel: Channel) -> Connection:
    circuit_breaker.block_new_chats(channel.wwebjs, code="463")
    channel.refresh_from_db()
    return channel.wwebjs


def test_a_person_can_lift_the_block_and_is_named(
    attached: Channel, staff: User, staff_client: Client
) -> None:
    session = blocked(attached)
    assert incidents.current(session).exists()
    [card] = parse(staff_client.get(f"/channels/{attached.pk}/").content).all("article")
    assert card.all("p", data_new_chats="blocked")
    url = f"/channels/{attached.pk}/lift-block/"
    assert (
        "Continuing too early can get the number banned" in staff_client.get(url).content.decode()
    )
    answer = staff_client.post(url)
    assert f"{staff.username} lifted the new-chat block" in answer.content.decode()
    session.refresh_from_db()
    assert session.new_chats_stopped_until is None
    assert session.new_chats_lifted_by == staff
    assert not incidents.current(session).exists()
    entry = LogEntry.objects.get(object_id=str(attached.pk))
    assert (entry.user, entry.change_message) == (staff, "The new-chat block was lifted.")
    # The user is shown for a day, and a second click has no effect.
    assert "no new-chat block" in staff_client.post(url).headers["HX-Trigger"]
    update_connection(attached, "wwebjs", new_chats_lifted_at=timezone.now() - dt.timedelta(days=2))
    assert "lifted the new-chat block" not in staff_client.get("/channels/").content.decode()


def test_a_block_of_a_shared_session_is_lifted_for_all_of_its_channels(
    attached: Channel, staff: User, make_channel: Callable[..., Channel]
) -> None:
    other = make_channel(
        name="Filial", phone_number_id="2", fallback="wwebjs", wwebjs_url=attached.wwebjs_url,
        wwebjs_api_key="k", wwebjs_session_id="demo",
    )  # fmt: skip
    session = blocked(other)
    assert circuit_breaker.lift_new_chat_block(attached, user=staff)
    session.refresh_from_db()
    assert session.new_chats_stopped_until is None


def test_a_read_only_user_cannot_lift_a_block(attached: Channel, reader: Client) -> None:
    session = blocked(attached)
    page = reader.get("/channels/").content.decode()
    assert 'data-new-chats="blocked"' in page
    assert "Lift the block" not in page
    assert reader.post(f"/channels/{attached.pk}/lift-block/").status_code == 403
    session.refresh_from_db()
    assert session.new_chats_stopped_until is not None


def test_a_block_can_be_lifted_by_rest(attached: Channel, staff: User) -> None:
    client = APIClient()
    client.force_authenticate(staff)
    url = f"/api/channels/{attached.pk}/new-chats/lift/"
    answer: Any = client.post(url)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_blocked")
    blocked(attached)
    answer = client.post(url)
    assert answer.status_code == 200
    assert answer.json()["new_chats_stopped_until"] is None
    assert answer.json()["new_chats_lifted_by"] == staff.username
