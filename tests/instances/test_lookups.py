"""Unknown sends of an instance without an event, looked up in Evolution's own store."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from messaging.delivery import reconcile
from messaging.delivery.statuses import Outcome
from messaging.models import DeliveryAttempt, Message
from tests.instances.support import wait_until
from tests.messaging.support import accept, deliver, make_older

if TYPE_CHECKING:
    from channels_app.models import Channel
    from tests.instances.support import Evolution


def held(channel: Channel, evolution: Evolution, scenario: str) -> Message:
    """Return a message whose send got no answer and no event."""
    channel.request_timeout_seconds, channel.confirm_seconds = 1, 0
    channel.save()
    evolution.control("script", scenarios=[scenario])
    message = accept(channel)
    deliver(message)
    assert message.icon == "unconfirmed"
    make_older(message.attempts.all(), dt.timedelta(seconds=6))
    return message


@pytest.mark.parametrize("scenario", ["hang_delivered", "reset_after", "error_delivered"])
def test_a_lookup_finds_an_unknown_send_accepted_by_whatsapp(
    channel: Channel, evolution: Evolution, scenario: str
) -> None:
    message = held(channel, evolution, scenario)

    def confirmed() -> bool:
        reconcile.look_up_unknown()
        message.refresh_from_db()
        return message.icon == "globe"

    wait_until(confirmed)
    [attempt] = message.attempts.all()
    assert (attempt.outcome, message.decision) == ("accepted", "")
    assert attempt.provider_message_id


def test_a_stored_message_without_an_ack_proves_nothing(
    channel: Channel, evolution: Evolution
) -> None:
    message = held(channel, evolution, "reset_after")
    lost = accept(channel, text="Outra")
    evolution.control("script", scenarios=["pending_lost"])
    deliver(lost)
    DeliveryAttempt.objects.filter(message=lost).update(
        outcome=Outcome.UNKNOWN, provider_message_id=""
    )
    make_older(lost.attempts.all(), dt.timedelta(seconds=6))

    def confirmed() -> bool:
        reconcile.look_up_unknown()
        message.refresh_from_db()
        return message.icon == "globe"

    wait_until(confirmed)
    assert DeliveryAttempt.objects.get(message=lost).outcome == "unknown"


def test_an_unreachable_server_leaves_the_message_held(
    channel: Channel, evolution: Evolution
) -> None:
    message = held(channel, evolution, "reset_after")
    evolution.fault("/chat/findMessages")
    reconcile.look_up_unknown()
    message.refresh_from_db()
    assert (message.icon, message.decision) == ("unconfirmed", "held")
