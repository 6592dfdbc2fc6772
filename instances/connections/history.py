"""What of an instance's messages is history: it was sent before the phone was linked."""

from __future__ import annotations

import datetime as dt

from channels_app.models import Channel, Connection
from channels_app.providers.sessions import State
from instances.models import WhatsAppSession

# We observe a link late: messages that a customer writes in between are not history.
LINK_MARGIN = dt.timedelta(minutes=2)


def end_of_history(channel: Channel) -> dt.datetime | None:
    """Return the time before which a message of this channel is history; None if unknown.

    A new link delivers the messages of days or years as messages.set
    (docs/providers/evolution.md §10.4), and Evolution stores them like all others. Age does not
    distinguish them from messages delayed by an outage, so the time of the link decides. Older
    messages were handled on the phone; newer ones were sent to a linked instance. While a code is
    displayed, the link is still to come. An instance that was taken over already linked has no
    link time; then only messages that Evolution marks as history count.
    """
    session = WhatsAppSession.objects.filter(channel=channel).first()
    if session is None:
        return None
    row = session.connection
    shown_at = row.qr_seen_at if row.qr_digest and row.state != State.READY else None
    link = shown_at - LINK_MARGIN if shown_at else None
    return max(filter(None, [session.history_before, link]), default=None)


def is_linking(row: Connection) -> bool:
    """Return whether the last poll was still waiting for a phone to be linked.

    A command to connect proves nothing if a phone was linked before: usually the login still
    exists and no code is shown.
    """
    waits = row.state in (State.QR, State.PAIRING)
    never_linked = row.linking_since is not None and row.last_ready_at is None
    return waits or bool(row.qr_digest) or never_linked
