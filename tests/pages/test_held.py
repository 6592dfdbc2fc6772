"""Held messages, attempt history, the error table, and fallback-rate alerts."""

from __future__ import annotations

import datetime as dt
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.test import Client
from django.utils import timezone, translation

from channels_app.incidents import incidents
from channels_app.models import Channel
from channels_app.providers import error_codes
from messaging.delivery import fallback_share
from messaging.delivery.fallback_share import Share, is_anomalous
from messaging.delivery.statuses import Outcome, Route
from messaging.models import Conversation, DeliveryAttempt, Message
from tests.factories import change_channel
from tests.messaging.support import accept, attempt_of
from tests.pages.html import parse

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def held(channel: Channel) -> Message:
    """A message rejected by the official API, with a fallback attempt of unknown outcome."""
    message = accept(channel, text="Chegou?")
    attempt_of(
        message,
        outcome=Outcome.REJECTED,
        route=Route.OFFICIAL,
        error_code="131047",
        error_detail="More than 24 hours",
        rule="first",
        finished_at=timezone.now(),
    )
    attempt_of(
        message,
        outcome=Outcome.UNKNOWN,
        route=Route.WWEBJS,
        number=2,
        error_code="timeout",
        rule="refused",
        finished_at=timezone.now(),
    )
    Message.objects.filter(pk=message.pk).update(
        status="unconfirmed", route="wwebjs", error_code="131047", decision="fallback_unconfirmed"
    )
    message.refresh_from_db()
    return message


# -- held ------------------------------------------------------------------------------------------


def test_held_messages_are_listed_with_their_actions(
    staff_client: Client, held: Message, channel: Channel
) -> None:
    change_channel(
        channel, fallback="wwebjs", wwebjs_url="http://127.0.0.1:9", wwebjs_session_id="A"
    )
    page = parse(staff_client.get("/messages/held/").content)
    row = page.one(data_held=str(held.pk))
    assert "Chegou?" in row.text
    assert [button.attributes["data-action"] for button in row.all("button")] == [
        "confirm", "again", "fallback",
    ]  # fmt: skip
    link = parse(staff_client.get("/").content).one("a", data_held="1")
    assert link.attributes["href"] == "/messages/held/"


def test_read_only_users_get_no_buttons(reader: Client, held: Message) -> None:
    page = parse(reader.get("/messages/held/").content)
    assert page.one(data_held=str(held.pk))
    assert not page.one(data_held=str(held.pk)).all("button")


def test_a_message_that_waits_for_a_rule_is_not_held(staff_client: Client, held: Message) -> None:
    Message.objects.filter(pk=held.pk).update(next_attempt_at=timezone.now())
    assert "No message is held" in parse(staff_client.get("/messages/held/").content).text


def test_a_confirmation_marks_the_message_as_sent_and_names_the_user(
    staff_client: Client, staff: User, held: Message
) -> None:
    answer = staff_client.post(f"/messages/{held.pk}/confirm/")
    assert parse(answer.content).one("article").attributes["data-status"] == "sent"
    held.refresh_from_db()
    assert (held.status, held.route, held.icon, held.decision) == ("sent", "wwebjs", "globe", "")
    assert held.attempts.get(number=2).confirmed_by == staff

    history = parse(staff_client.get(f"/messages/{held.pk}/").content)
    assert "confirmed by ana" in history.text


def test_only_a_held_message_can_be_confirmed(staff_client: Client, held: Message) -> None:
    Message.objects.filter(pk=held.pk).update(status="rejected")
    answer = staff_client.post(f"/messages/{held.pk}/confirm/")
    assert "toast" in answer.headers["HX-Trigger"]


def test_rest_confirms_a_held_message(api: Any, held: Message) -> None:
    path = f"/api/messages/{held.pk}/confirm/"
    assert api.post(path, {"arrived": False}, format="json").status_code == 400
    answer = api.post(path, {"arrived": True}, format="json")
    assert (answer.status_code, answer.json()["status"]) == (200, "sent")
    again = api.post(path, {"arrived": True}, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "not_confirmable")


def test_rest_requires_the_change_permission_to_confirm(
    make_user: Callable[..., User], client_of: Callable[[User], Any], held: Message
) -> None:
    client = client_of(make_user("leo", "messaging.view_message", "messaging.add_message"))
    answer = client.post(f"/api/messages/{held.pk}/confirm/", {"arrived": True}, format="json")
    assert answer.status_code == 403


# -- attempt history -------------------------------------------------------------------------------


def test_the_attempt_history_shows_each_attempt_its_result_and_rule(
    staff_client: Client, held: Message
) -> None:
    page = parse(staff_client.get(f"/messages/{held.pk}/").content)
    first, second = page.one(data_attempt="1"), page.one(data_attempt="2")
    for expected in ("official API", "The official API is tried first", "rejected", "131047",
                     "More than 24 hours", "use the fallback immediately"):  # fmt: skip
        assert expected in first.text
    assert "wwebjs" in second.text
    assert "The official API rejected it permanently" in second.text
    bubbles = parse(staff_client.get(f"/conversations/{held.conversation_id}/").content)
    assert bubbles.all("a", href=f"/messages/{held.pk}/")


def test_a_waiting_message_shows_the_reason_and_the_expected_time(
    staff_client: Client, conversation: Conversation, make_message: Callable[..., Message]
) -> None:
    message = make_message(conversation, status="queued", route=None)
    until = timezone.now() + dt.timedelta(seconds=30)
    Message.objects.filter(pk=message.pk).update(
        decision="waiting_recipient", next_attempt_at=until
    )
    page = parse(staff_client.get(f"/conversations/{conversation.pk}/").content)
    bubble = page.one(data_message=str(message.pk))
    assert "WhatsApp limits how many messages one customer receives" in bubble.text
    assert "Next attempt at" in bubble.text
    assert bubble.one("p", class_="message-reason").one("time").attributes["datetime"] == (
        until.isoformat()
    )


# -- errors ----------------------------------------------------------------------------------------


def test_the_error_table_has_every_rule_on_the_page_and_in_the_docs(
    staff_client: Client,
) -> None:
    page = parse(staff_client.get("/help/errors/").content)
    for rule in error_codes.all_rules():
        row = page.one("tr", id=f"code-{rule.code}")
        with translation.override("en"):
            assert str(rule.title) in row.text
    script = runpy.run_path(str(ROOT / "scripts" / "error_table.py"))
    assert script["PAGE"].read_text() == script["page"](), "run scripts/error_table.py"


# -- fallback rate ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recent", "before", "was_anomalous", "expected"),
    [
        (Share(9, 9), Share(0, 0), False, False),
        (Share(10, 10), Share(0, 0), False, True),
        (Share(10, 40), Share(0, 0), False, False),
        (Share(15, 40), Share(50, 400), False, True),
        (Share(15, 40), Share(60, 400), False, False),
        (Share(40, 40), Share(140, 400), False, True),
        (Share(26, 40), Share(140, 400), False, False),
        (Share(40, 40), Share(360, 400), False, False),
        (Share(8, 40), Share(0, 0), True, True),
        (Share(5, 40), Share(0, 0), True, False),
        (Share(4, 4), Share(0, 0), True, False),
    ],
)
def test_a_jump_in_the_share_of_fallbacks_is_detected(
    recent: Share, before: Share, was_anomalous: bool, expected: bool
) -> None:
    assert is_anomalous(recent, before, was_anomalous=was_anomalous) is expected


OFFICIAL = [{"outcome": "accepted"}]


def by_fallback(code: str) -> dict[str, Any]:
    """Return the fields of a message that the API rejected and the fallback accepted."""
    attempts = [
        {"outcome": "rejected", "error_code": code},
        {"outcome": "accepted", "route": "wwebjs"},
    ]
    return {"status": "sent", "route": "wwebjs", "error_code": code, "attempts": attempts}


@pytest.fixture
def with_fallback(channel: Channel, conversation: Conversation) -> QuerySet[Channel]:
    change_channel(
        channel, fallback="wwebjs", wwebjs_url="http://127.0.0.1:9", wwebjs_session_id="A"
    )
    return Channel.objects.filter(pk=channel.pk)


def test_a_jump_raises_one_alert_that_ends_when_the_api_accepts_messages_again(
    with_fallback: QuerySet[Channel], conversation: Conversation,
    make_message: Callable[..., Message], staff_client: Client,
) -> None:  # fmt: skip
    for _ in range(12):
        make_message(conversation, **by_fallback("131000"))
    fallback_share.check_fallback_shares()
    fallback_share.check_fallback_shares()

    [alert] = incidents.current()
    assert (alert.subject, alert.reason, alert.detail) == ("fallbacks", "fallbacks_jumped", "12/12")
    page = parse(staff_client.get("/").content)
    assert page.one(data_alarm="fallbacks")
    row = page.one("tr", data_fallback_code="131000")
    assert "12" in row.text

    DeliveryAttempt.objects.update(started_at=timezone.now() - dt.timedelta(hours=1))
    fallback_share.check_fallback_shares()
    assert incidents.current().exists()  # a period without messages does not end it
    for _ in range(10):
        make_message(conversation, attempts=OFFICIAL)
    fallback_share.check_fallback_shares()
    assert not incidents.current().exists()


def test_a_late_failure_counts_at_the_time_of_its_fallback(
    with_fallback: QuerySet[Channel], conversation: Conversation,
    make_message: Callable[..., Message],
) -> None:  # fmt: skip
    for _ in range(20):
        make_message(conversation, attempts=OFFICIAL, minutes_ago=5)
    for _ in range(12):
        late = make_message(conversation, minutes_ago=40, **by_fallback("131026"))
        late.attempts.filter(connection__provider="wwebjs").update(started_at=timezone.now())
    fallback_share.check_fallback_shares()
    [alert] = incidents.current()
    assert alert.detail == "12/32"


def test_a_jump_is_detected_at_a_low_message_volume(
    with_fallback: QuerySet[Channel], conversation: Conversation,
    make_message: Callable[..., Message],
) -> None:  # fmt: skip
    for hours in range(30, 40):
        make_message(conversation, attempts=OFFICIAL, minutes_ago=60 * hours)
    for hours in range(9):
        make_message(conversation, minutes_ago=60 * hours, **by_fallback("131026"))
    fallback_share.check_fallback_shares()
    assert not incidents.current().exists()

    make_message(conversation, **by_fallback("131026"))
    fallback_share.check_fallback_shares()
    [alert] = incidents.current()
    assert alert.detail == "10/10"


def test_a_jump_of_one_code_is_reported_despite_a_high_usual_fallback_rate(
    with_fallback: QuerySet[Channel], conversation: Conversation,
    make_message: Callable[..., Message],
) -> None:  # fmt: skip
    for _ in range(30):
        make_message(conversation, minutes_ago=120, **by_fallback("131026"))
    for _ in range(12):
        make_message(conversation, **by_fallback("131026"))
    for _ in range(12):
        make_message(conversation, **by_fallback("131000"))
    fallback_share.check_fallback_shares()
    fallback_share.check_fallback_shares()

    [alert] = incidents.current()
    assert (alert.subject, alert.code, alert.detail) == ("fallbacks", "131000", "131000, 12/24")

    for _ in range(60):
        make_message(conversation, **by_fallback("131026"))
    fallback_share.check_fallback_shares()
    assert not incidents.current().exists()


def test_the_alert_of_a_deactivated_channel_is_hidden_and_still_ends(
    with_fallback: QuerySet[Channel], conversation: Conversation,
    make_message: Callable[..., Message], staff_client: Client,
) -> None:  # fmt: skip
    for _ in range(12):
        make_message(conversation, **by_fallback("131000"))
    fallback_share.check_fallback_shares()
    with_fallback.update(active=False)
    fallback_share.check_fallback_shares()

    [alert] = incidents.current()
    assert alert.drops == 1
    assert not parse(staff_client.get("/").content).all(data_alarm="fallbacks")

    DeliveryAttempt.objects.update(started_at=timezone.now() - dt.timedelta(days=2))
    fallback_share.check_fallback_shares()
    assert not incidents.current().exists()
