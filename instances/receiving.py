"""The Evolution webhook's way into the journal."""

from __future__ import annotations

import enum
import json

from django.db import close_old_connections

from instances.models import WhatsAppSession, digest_of
from messaging.inbound import evolution, journal, media
from messaging.models import InboundEvent

# Evolution puts media into the event as base64.
MOST_BYTES = 64 * 1024 * 1024


class Received(enum.Enum):
    """What the receiver answers: HTTP status and code."""

    STORED = (200, "stored")
    BAD_SECRET = (401, "bad_secret")
    NOT_JSON = (400, "not_json")


def receive(body: bytes, authorization: str) -> Received:
    """Check the session's secret and store the event.

    The secret says which session it is; the name in the body is only compared, so one session
    cannot speak for another. Raises a database error when the event is not stored.
    """
    try:
        session = find_session(authorization)
        if session is None:
            return Received.BAD_SECRET
        try:
            payload = json.loads(body)
        except (ValueError, RecursionError):
            return Received.NOT_JSON
        if not isinstance(payload, dict) or payload.get("instance") != session.name:
            return Received.NOT_JSON
        journal.store(
            source=InboundEvent.Source.EVOLUTION,
            source_key=str(session.channel_id),
            dedupe_key=evolution.dedupe_key(payload),
            payload=media.set_aside(payload),
        )
        return Received.STORED
    finally:
        close_old_connections()


def find_session(authorization: str) -> WhatsAppSession | None:
    """Return the session whose secret this header carries. Found by digest: nothing to time."""
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret:
        return None
    return (
        WhatsAppSession.objects.select_related("channel")
        .filter(webhook_secret_digest=digest_of(secret))
        .first()
    )
