"""Tell open pages that a session changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from messaging.live import publisher

if TYPE_CHECKING:
    from instances.models import WhatsAppSession

GROUP = "instances"


def session_changed(session: WhatsAppSession) -> None:
    """Push the session to the pages that show it, once this is committed."""
    publisher.publish(GROUP, sessions=session.pk)
    # The channel's page has the same cards.
    publisher.publish(publisher.CHANNELS, channels=session.channel_id)


def session_beat(session_id: int) -> None:
    """Push a session whose listener has given a sign of life."""
    publisher.publish(GROUP, sessions=session_id)
