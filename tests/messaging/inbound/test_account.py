"""What Meta reports about the account, its numbers and templates, and what customers wish."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone, translation

from channels_app.incidents import incidents
from channels_app.models import Channel, Incident
from channels_app.providers.cloud.events import read as cloud_events
from channels_app.providers.events import AccountEvent
from messaging import selectors
from messaging.inbound import account
from messaging.inbound.replay import replay
from messaging.models import Contact, Conversation, InboundEvent
from simulators.base import only_digits
from tests.conftest import Provider
from tests.messaging.support import (
    accept,
    customer,
    deliver,
    envelope,
    post,
    read_events,
    trail,
)

if TYPE_CHECKING:
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static")]

WABA = "102290129340398"
TEMPLATE = {
    "message_template_id": 1689556908129835,
    "message_template_name": "abandoned_cart",
    "message_template_language": "pt-BR",
}


def report(field: str, account_id: str = WABA, **value: Any) -> None:
    """Post a change as Meta does: without metadata, with the account as the entry's id."""
    entry = {
        "id": account_id,
        # An event that is received twice is stored once.
        "time": int(timezone.now().timestamp()) - 900 + InboundEvent.objects.count(),
        "changes": [{"field": field, "value": value}],
    }
    post({"object": "whatsapp_business_account", "entry": [entry]})
    read_events()


def open_incidents() -> list[str]:
    with translation.override("en"):
        return [incidents.headline(incident) for incident in incidents.current()]


def test_the_recorded_disconnection_raises_an_incident_and_a_reconnection_ends_it(
    channel: Channel,
) -> None:
    info = {"reason": "PRIMARY_INACTIVITY", "initiated_by": "SYSTEM"}
    report("account_update", event="PARTNER_REMOVED", phone_number="5511900000001",
           disconnection_info=info)  # fmt: skip
    assert open_incidents() == [
        "account at Meta: The account was disconnected from the app (PRIMARY_INACTIVITY): connect"
        " it again, or no message arrives"
    ]
    assert set(InboundEvent.objects.values_list("state", "skipped")) == {("done", "")}
    report("account_update", event="PARTNER_ADDED", waba_info={"waba_id": WABA})
    assert open_incidents() == []


@pytest.mark.parametrize(
    ("field", "raises", "reason", "detail", "ends"),
    [
        ("account_update", {"event": "ACCOUNT_DELETED"}, "account_deleted", "", None),
        (
            "account_update",
            {"event": "ACCOUNT_VIOLATION", "violation_info": {"violation_type": "ADULT"}},
            "account_violation", "ADULT", None,
        ),
        (
            "account_update",
            {"event": "ACCOUNT_RESTRICTION",
             "restriction_info": [{"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING"}]},
            "account_restricted", "RESTRICTED_BIZ_INITIATED_MESSAGING", None,
        ),
        (
            "account_update",
            {"event": "DISABLED_UPDATE",
             "ban_info": {"waba_ban_state": "DISABLE", "waba_ban_date": "April 17, 2025"}},
            "account_disabled", "April 17, 2025",
            {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "REINSTATE"}},
        ),
        (
            "account_alerts",
            {"entity_type": "BUSINESS", "entity_id": "1",
             "alert_info": {"alert_severity": "WARNING", "alert_status": "ACTIVE",
                            "alert_type": "OBA_REJECTED", "alert_description": "Not notable"}},
            "account_alert", "Not notable", None,
        ),
        (
            "account_review_update", {"decision": "REJECTED"}, "account_review_rejected", "",
            {"decision": "APPROVED"},
        ),
        (
            "phone_number_quality_update",
            {"display_phone_number": "5511900000001", "event": "FLAGGED"}, "number_flagged", "",
            {"display_phone_number": "5511900000001", "event": "UNFLAGGED"},
        ),
        (
            "business_capability_update",
            {"max_daily_conversations_per_business": 250, "max_phone_numbers_per_waba": 2},
            "limit_low", "250", {"max_daily_conversations_per_business": "TIER_2K"},
        ),
        (
            "phone_number_name_update",
            {"display_phone_number": "+55 11 90000-0001", "decision": "REJECTED",
             "requested_verified_name": "Test Shop", "rejection_reason": "NAME_X"},
            "display_name_rejected", "Test Shop",
            {"display_phone_number": "+55 11 90000-0001", "decision": "APPROVED"},
        ),
        (
            "security",
            {"display_phone_number": "5511900000001", "event": "PIN_RESET_REQUEST"},
            "pin_reset_requested", "", None,
        ),
        (
            "message_template_status_update",
            {**TEMPLATE, "event": "paused", "reason": None}, "template_paused",
            "abandoned_cart (pt_BR)", {**TEMPLATE, "event": "REINSTATED", "reason": "NONE"},
        ),
        (
            "message_template_status_update",
            {**TEMPLATE, "event": "REJECTED", "reason": "INVALID_FORMAT"}, "template_rejected",
            "abandoned_cart (pt_BR, INVALID_FORMAT)", {**TEMPLATE, "event": "APPROVED"},
        ),
        (
            # Meta's own sample has this field.
            "message_template_status_update",
            {**TEMPLATE, "previous_quality_score": "GREEN", "new_quality_score": "RED"},
            "template_quality_low", "abandoned_cart (pt_BR)",
            {**TEMPLATE, "previous_quality_score": "RED", "new_quality_score": "GREEN"},
        ),
        (
            "template_category_update",
            {**TEMPLATE, "new_category": "UTILITY", "correct_category": "MARKETING"},
            "template_category_will_change", "abandoned_cart (pt_BR, UTILITY → MARKETING)", None,
        ),
    ],
)  # fmt: skip
def test_each_report_raises_an_incident_that_its_opposite_or_a_day_ends(
    channel: Channel, field: str, raises: dict[str, Any], reason: str, detail: str,
    ends: dict[str, Any] | None, time_machine: time_machine.TimeMachineFixture,
) -> None:  # fmt: skip
    report(field, **raises)
    incident = Incident.objects.get()
    assert (incident.channel, incident.reason, incident.detail) == (channel, reason, detail)
    with translation.override("en"):
        text = incidents.headline(incident)
    assert "Unknown error" not in text
    assert detail in text or reason in ("account_disabled",)
    report(field, **raises)
    assert Incident.objects.get().drops == 2
    if ends is not None:
        report(field, **ends)
        assert Incident.objects.get().recovered_at is not None
    time_machine.move_to(timezone.now() + dt.timedelta(hours=25))
    incidents.process_due()
    # An account that was deleted stays deleted.
    assert (Incident.objects.get().closed_at is None) == (reason == "account_deleted")


_DISABLED = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}
_REINSTATED = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "REINSTATE"}}
_ALERT = {"entity_id": "1", "alert_type": "X", "alert_severity": "WARNING"}


@pytest.mark.parametrize(
    ("reports", "open_in_the_end"),
    [
        ([("account_update", _DISABLED), ("account_update", _REINSTATED)], []),
        (
            [("account_update", one) for one in (_DISABLED, _REINSTATED, _DISABLED)],
            [("account", "account_disabled")],
        ),
        (
            [
                ("message_template_status_update", {**TEMPLATE, "event": "PAUSED"}),
                ("message_template_status_update", {**TEMPLATE, "event": "DISABLED"}),
                ("account_update", _DISABLED),
            ],
            [("account", "account_disabled"), ("account", "template_disabled")],
        ),
        (
            [
                ("account_alerts", {**_ALERT, "alert_status": "ACTIVE"}),
                ("account_alerts", {**_ALERT, "alert_status": "RESOLVED"}),
                ("security", {"display_phone_number": "5511900000001", "event": "PIN_CHANGED"}),
            ],
            [("notice", "pin_changed")],
        ),
    ],
)
def test_reports_in_any_order_end_in_the_incidents_that_the_latest_ones_mean(
    channel: Channel, reports: list[tuple[str, dict[str, Any]]], open_in_the_end: list[Any]
) -> None:
    at = int(timezone.now().timestamp()) - 600
    events = [
        next(
            event
            for event in cloud_events(
                {
                    "entry": [
                        {
                            "id": WABA,
                            "time": at + second,
                            "changes": [{"field": field, "value": value}],
                        }
                    ]
                }
            )
            if isinstance(event, AccountEvent)
        )
        for second, (field, value) in enumerate(reports)
    ]
    for order in itertools.permutations(events):
        with transaction.atomic():
            # Each is delivered twice.
            for event in (*order, order[0]):
                account.apply_account(channel, event)
            found = incidents.current().values_list("kind", "reason")
            assert sorted(found) == open_in_the_end, order
            transaction.set_rollback(True)


def test_many_incidents_of_one_kind_are_one_line(channel: Channel) -> None:
    for number in range(1, 41):
        template = {
            **TEMPLATE,
            "message_template_id": number,
            "message_template_name": f"t{number}",
        }
        report("message_template_status_update", **template, event="PAUSED")
    [line] = incidents.alert_lines()
    with translation.override("en"):
        assert incidents.headline(line).startswith("account at Meta: Meta paused the template t1 ")
        assert incidents.headline(line).endswith(" (and 39 more)")
    report(
        "message_template_status_update", **{**TEMPLATE, "message_template_id": 1}, event="APPROVED"
    )
    [line] = incidents.alert_lines()
    assert ("t2 " in line.detail, line.more) == (True, 38)


def test_an_error_that_names_no_message_is_a_notice_with_the_meaning_of_its_code(
    channel: Channel,
) -> None:
    post(envelope({"errors": [{"code": 130429, "title": "Rate limit hit"}]}, channel))
    read_events()
    [line] = open_incidents()
    assert line.startswith("notice from Meta: Throughput limit of the number reached (130429)")
    assert InboundEvent.objects.get().skipped == ""


def test_a_report_concerns_the_number_that_it_names_or_else_the_channels_of_its_account(
    make_channel: Callable[..., Channel],
) -> None:
    first = make_channel(business_account_id=WABA)
    second = make_channel(business_account_id=WABA, phone_number="+5511900000002")
    other = make_channel(business_account_id="7", phone_number="+5511900000003")
    foreign = make_channel(phone_number="+5511900000004", app_secret="another app")

    def concerned() -> set[Channel]:
        found = {incident.channel for incident in Incident.objects.all()}
        Incident.objects.all().delete()
        return found

    report("account_review_update", decision="REJECTED")
    assert concerned() == {first, second}
    report("account_review_update", account_id="7", decision="REJECTED")
    assert concerned() == {other}
    report("security", display_phone_number="5511900000002", event="PIN_CHANGED")
    assert concerned() == {second}
    for number in ("5511900000009", foreign.phone_number):
        report("security", display_phone_number=number, event="PIN_CHANGED")
    assert concerned() == set()
    assert InboundEvent.objects.filter(skipped="unknown_channel").count() == 2


def test_what_only_informs_is_skipped_under_its_own_name_and_can_be_replayed(
    channel: Channel,
) -> None:
    report("account_update", event="AD_ACCOUNT_LINKED")
    report("flows", event="FLOW_STATUS_CHANGE")
    skipped = list(InboundEvent.objects.order_by("pk").values_list("skipped", flat=True))
    assert skipped == ["field:account_update:AD_ACCOUNT_LINKED", "field:flows"]
    assert not Incident.objects.exists()
    assert replay(skipped="field:flows") == (0, 1)


def test_the_status_of_a_payment_says_nothing_about_the_message(
    wired: Channel, graph: Provider
) -> None:
    message = accept(wired)
    deliver(message)
    [attempt] = message.attempts.all()
    payment = {"reference_id": "pedido-17", "amount": {"value": 1000, "offset": 100}}
    for reported in ("failed", "pending", "captured"):
        status = {
            "id": attempt.provider_message_id, "status": reported, "timestamp": "1751142888",
            "recipient_id": "5511988887777", "type": "payment", "payment": payment,
        }  # fmt: skip
        post(envelope({"statuses": [status]}, wired))
    read_events()
    assert deliver(message) is None
    assert trail(message) == [("official", "accepted", "")]
    assert message.icon == "sent"
    skipped = InboundEvent.objects.order_by("pk").values_list("skipped", flat=True)
    assert list(skipped) == [
        "status:payment:failed", "status:payment:pending", "status:payment:captured",
    ]  # fmt: skip


# -- what customers wish ---------------------------------------------------------------------------


def wish(channel: Channel, value: str, at: int, **who: Any) -> None:
    preference = {"category": "marketing_messages", "value": value, "timestamp": at, **who}
    post(envelope({"user_preferences": [preference]}, channel, field="user_preferences"))
    read_events()


def test_the_latest_wish_about_marketing_is_kept_on_the_contact(channel: Channel) -> None:
    number = {"wa_id": "5511988887777"}
    wish(channel, "stop", 1731705721, **number)
    contact = Contact.objects.get(phone_number="+5511988887777")
    assert contact.marketing_stopped
    wish(channel, "resume", 1731705700, **number)
    contact.refresh_from_db()
    assert contact.marketing_stopped, "an older wish that arrives later changes nothing"
    wish(channel, "resume", 1731705800, **number)
    contact.refresh_from_db()
    assert not contact.marketing_stopped
    wish(channel, "stop", 1731705721, user_id="US.13491208655302741918")
    assert Contact.objects.get(user_id="US.13491208655302741918").marketing_stopped
    assert not Conversation.objects.exists()


@pytest.mark.parametrize("breaker_is_open", [False, True])
def test_no_fallback_sends_a_template_to_a_customer_who_stopped_marketing(
    wired: Channel, wwebjs: Provider, graph: Provider, breaker_is_open: bool
) -> None:
    to = customer(graph="47")
    wish(wired, "stop", 1731705721, wa_id=only_digits(to))
    if breaker_is_open:
        wired.primary.breaker_opened_at = dt.datetime.now(dt.UTC)
        wired.primary.save()
    content = {"name": "promo", "language": {"code": "pt_BR"}}
    message = accept(wired, to, type="template", text="", content=content)
    deliver(message)
    assert [route for route, _, _ in trail(message)] == ["official"]
    assert (message.status, message.decision) == ("rejected", "opted_out")
    # What the customer asked for is no marketing.
    answer = accept(wired, to)
    deliver(answer)
    assert answer.route == "wwebjs"
    assert len(wwebjs.sends()) == 1


def test_what_a_customer_refuses_is_offered_for_another_try_only_after_they_resumed(
    wired: Channel, graph: Provider, api: APIClient
) -> None:
    """Meta refuses it, and knows the wish before its webhook tells us."""
    content = {"name": "promo", "language": {"code": "pt_BR"}}
    message = accept(wired, customer(graph="50"), type="template", text="", content=content)
    deliver(message)
    shown = selectors.messages().get(pk=message.pk)
    assert (shown.status, shown.error_code) == ("rejected", "131050")
    context = {"message": shown, "may_retry": True}
    assert "retry-official" not in render_to_string("messaging/_message.html", context)
    for route in ("official", "fallback"):
        answer = api.post(f"/api/messages/{message.pk}/retry/", {"route": route}, format="json")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_retryable")
    later = int(timezone.now().timestamp()) + 1
    wish(wired, "resume", later, wa_id=only_digits(message.conversation.contact.phone_number or ""))
    Contact.objects.update(marketing_wish_at=timezone.now() + dt.timedelta(seconds=1))
    shown = selectors.messages().get(pk=message.pk)
    context = {"message": shown, "may_retry": True}
    assert "retry-official" in render_to_string("messaging/_message.html", context)
    answer = api.post(f"/api/messages/{message.pk}/retry/", {"route": "official"}, format="json")
    assert answer.status_code == 202


def test_a_wish_of_a_category_that_is_not_known_is_named(channel: Channel) -> None:
    preference = {"category": "calls", "value": "stop", "wa_id": "5511988887777"}
    post(envelope({"user_preferences": [preference]}, channel, field="user_preferences"))
    read_events()
    assert InboundEvent.objects.get().skipped == "preference:calls:stop"
