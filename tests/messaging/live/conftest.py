from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from channels.layers import channel_layers
from django.utils import timezone

from messaging.delivery.statuses import Outcome, Route
from messaging.live import publisher
from messaging.models import Message
from tests.messaging.support import accept, attempt_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from channels_app.models import Channel


@pytest.fixture(autouse=True)
def fresh_channel_layer() -> Iterator[None]:
    """Reset the layer: it holds a lock of its event loop, and each test has its own loop."""
    yield
    channel_layers.backends.clear()


@pytest.fixture
def sent(channel: Channel) -> Message:
    """A message that was sent an hour ago."""
    message = accept(channel, to="+5511988887777", text="Olá")
    attempt_of(message, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL)
    Message.objects.update(
        status="sent", route="official", updated_at=timezone.now() - dt.timedelta(hours=1)
    )
    message.refresh_from_db()
    publisher.flush()
    return message
