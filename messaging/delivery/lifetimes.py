"""Until when a provider may still deliver a message that it accepted."""

from __future__ import annotations

import datetime as dt

from messaging.delivery import sent_templates
from messaging.delivery.statuses import Route
from messaging.models import DeliveryAttempt, Message

# A status of a delivery just before the end may still be on its way.
SLACK = dt.timedelta(seconds=60)


def expires_at(message: Message, attempt: DeliveryAttempt) -> dt.datetime | None:
    """Return from when on the message certainly does not arrive by this attempt, None if unknown.

    Only Meta drops a message after a known time: a template whose time to live was set here before
    the send (docs/providers/cloud.md §11).
    """
    if attempt.route != Route.OFFICIAL or message.type != "template" or attempt.held:
        return None
    template = sent_templates.find(message.conversation.channel, message.content)
    if template is None or template.ttl_seconds is None or attempt.finished_at is None:
        return None
    if template.updated_at > attempt.started_at:
        # It was changed since: the message was sent with what it had before.
        return None
    return attempt.finished_at + dt.timedelta(seconds=template.ttl_seconds) + SLACK
