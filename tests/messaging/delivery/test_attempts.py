"""What an attempt stores of Meta's answers besides outcome and receipt."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import translation

from channels_app.models import Channel
from messaging.delivery.statuses import Outcome, Route
from messaging.models import DeliveryAttempt, InboundEvent
from messaging.templatetags.statuses import pricing_label
from tests.conftest import Provider, Webhooks
from tests.messaging.support import (
    accept,
    attempt_of,
    customer,
    deliver,
    post,
    read_events,
    receive,
    status,
    trail,
)

pytestmark = pytest.mark.django_db

TEMPLATE = {"name": "promo", "language": {"code": "pt_BR"}}


@pytest.mark.parametrize(
    ("scenario", "later"),
    [("held", ("read", "")), ("held_then_failed", ("rejected", "132015"))],
)
def test_a_held_template_is_neither_waiting_nor_sent_until_meta_decides(
    wired: Channel, graph: Provider, webhooks: Webhooks, scenario: str, later: tuple[str, str]
) -> None:
    graph.simulator.settings.status_delay = graph.simulator.settings.late_failure_delay = 0.3
    to = customer(graph=graph.simulator.scenarios[scenario].digits)
    message = accept(wired, to, type="template", text="", content=TEMPLATE)
    assert deliver(message) is None
    assert trail(message) == [("official", "accepted", "")]
    assert (message.status, message.icon, message.next_attempt_at) == ("held", "held", None)
    graph.settle()
    receive(webhooks)
    message.refresh_from_db()
    assert (message.status, message.error_code) == later


@pytest.mark.parametrize("together", [True, False])
def test_each_attempt_keeps_what_meta_charges_for(channel: Channel, together: bool) -> None:
    message = accept(channel)
    attempt_of(
        message, outcome=Outcome.ACCEPTED if together else Outcome.STARTED, route=Route.OFFICIAL,
        provider_message_id="wamid.1" if together else "", finished_at=message.created_at,
    )  # fmt: skip
    pricing = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "marketing"}
    for reported, price in (("sent", pricing), ("delivered", {**pricing, "type": "?"})):
        payload: Any = status(message, reported, channel=channel)
        payload["entry"][0]["changes"][0]["value"]["statuses"][0]["pricing"] = price
        post(payload)
        read_events()
    attempt = DeliveryAttempt.objects.get()
    assert (attempt.pricing, attempt.receipt) == ("marketing:regular", "delivered")
    assert set(InboundEvent.objects.values_list("state", "error")) == {("done", "")}
    with translation.override("en"):
        assert pricing_label(attempt.pricing) == "marketing (charged)"
        assert pricing_label("service:free_entry_point").startswith("service (free")
        assert pricing_label("new_kind:") == "new_kind"
