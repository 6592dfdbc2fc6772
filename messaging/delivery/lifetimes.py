"""Until when a provider may still deliver a message that it accepted."""

from __future__ import annotations

import datetime as dt

from messaging.models import DeliveryAttempt, Message


def expires_at(message: Message, attempt: DeliveryAttempt) -> dt.datetime | None:
    """Return from when on the message certainly does not arrive by this attempt, None if unknown.

    Only Meta drops a message after a known time: a template with a time to live.
    """
    return None
