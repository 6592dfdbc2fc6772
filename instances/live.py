"""Notifies open pages of session changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from messaging.live import publisher

if TYPE_CHECKING:
    from instances.models import WhatsAppSession

GROUP = "instances"


def session_changed(session: WhatsAppSession) -> None:
    """Push the session to the pages that show it when the transaction commits."""
    publisher.publish(GROUP, sessions=session.pk)
    # The channel page has the same cards.
    publisher.publish(publisher.CHANNELS, channels=session.channel_id)


def session_beat(session_id: int) -> None:
    """Push a session after a heartbeat of its listener."""
    publisher.publish(GROUP, sessions=session_id)
