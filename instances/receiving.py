"""The ways into the journal: the webhook's, and what it shares with the listener's."""

from __future__ import annotations

import enum
import json
from typing import Any

import structlog
from django.db import close_old_connections

from instances.models import WhatsAppSession, digest_of
from messaging.inbound import evolution, journal, media
from messaging.models import InboundEvent

log = structlog.get_logger(__name__)

# Evolution puts media into the event as base64.
MOST_BYTES = 64 * 1024 * 1024
SOURCE = InboundEvent.Source.EVOLUTION


class Received(enum.Enum):
    """What the receiver answers: HTTP status and code."""

    STORED = (200, "stored")
    BAD_SECRET = (401, "bad_secret")
    NOT_JSON = (400, "not_json")
    WRONG_INSTANCE = (401, "wrong_instance")


def receive(body: bytes, authorization: str) -> Received:
    """Check the session's secret and store the event.

    The secret says which session it is; the name in the body is only compared, so one session
    cannot speak for another. Raises a database error or OSError when the event is not stored.
    """
    try:
        session = find_session(authorization)
        if session is None:
            return Received.BAD_SECRET
        try:
            payload = json.loads(body)
        except (ValueError, RecursionError):
            return Received.NOT_JSON
        if not isinstance(payload, dict):
            return Received.NOT_JSON
        if payload.get("instance") != session.name:
            log.warning("event for another instance refused", instance=session.name)
            return Received.WRONG_INSTANCE
        journal.store_all(SOURCE, [raw_event(session.channel_id, payload)])
        return Received.STORED
    finally:
        close_old_connections()


def raw_event(channel_id: int, payload: dict[str, Any]) -> journal.Raw:
    """Return an event as the journal keeps it: the same whichever way it came.

    Its media become files. Raises OSError where they cannot be written.
    """
    return journal.Raw(
        source_key=str(channel_id),
        # Instances of two servers may have the same name.
        dedupe_key=f"{channel_id}:{evolution.dedupe_key(payload)}",
        payload=media.set_aside(payload),
    )


def find_session(authorization: str) -> WhatsAppSession | None:
    """Return the session whose secret this header carries. Found by digest: nothing to time."""
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret:
        return None
    return (
        WhatsAppSession.objects.filter(webhook_secret_digest=digest_of(secret.strip()))
        .select_related("channel")
        .only("channel", "channel__instance_name")
        .first()
    )
