"""What the card of a session shows, whichever engine it has. No network access.

The engine says which actions a person can take and how good a state is. The templates differ: a
wwebjs session is a part of its official channel (`templatetags/wwebjs.py`), an Evolution instance
has a channel and a page of its own (`instances/connections/cards.py`).
"""

from __future__ import annotations

from typing import Any

from channels_app.connections import number_confirmation
from channels_app.connections.monitor import stored_state
from channels_app.connections.session_engines import engine_for
from channels_app.models import Connection


def context(connection: Connection, *, may_change: bool, with_buttons: bool) -> dict[str, Any]:
    """Return state, problem and buttons of a session, for its template."""
    engine, session = engine_for(connection.provider), stored_state(connection)
    return {
        "channel": connection.channel,
        "session": session,
        "label": session.label,
        "field_label": session.field_label,
        "tone": engine.tone(session),
        "also_linked_at": number_confirmation.also_linked_at(connection),
        "may_change": may_change,
        "buttons": engine.buttons(session) if may_change and with_buttons else (),
    }


def line(connection: Connection) -> dict[str, Any]:
    """Return the context of `_session_line.html`: state, since when, and the last drop."""
    session = stored_state(connection)
    tone = engine_for(connection.provider).tone(session)
    return {"provider": connection.provider, "session": session, "tone": tone}
