"""Entry points to the journal: the webhook's, and the code it shares with the listener."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import structlog

from instances.models import WhatsAppSession, digest_of
from messaging.inbound import arrivals, journal
from messaging.inbound.arrivals import STORAGE_ERRORS, Arrival, Entry
from messaging.models import InboundEvent

__all__ = ["SOURCE", "STORAGE_ERRORS", "Delivery", "Received", "receive_all"]

log = structlog.get_logger(__name__)

# Evolution embeds media in the event as base64.
MAX_BYTES = 64 * 1024 * 1024
SOURCE = InboundEvent.Source.EVOLUTION


class Received(enum.Enum):
    """The receiver's answer: HTTP status and code."""

    STORED = (200, "stored")
    BAD_SECRET = (401, "bad_secret")
    WRONG_INSTANCE = (401, "wrong_instance")


class Delivery(NamedTuple):
    """A request to the receiver: the body and its Authorization header."""

    body: bytes
    authorization: str


def receive_all(deliveries: Sequence[Delivery]) -> list[Received]:
    """Check the sessions' secrets and store the events that arrived together, in their order.

    The secret identifies the session; the name in the body is only compared, so one session cannot
    send events for another. A body that is not an event is stored as a stub: Evolution would never
    resend it (`inbound.arrivals`). Raises one of STORAGE_ERRORS if no event is stored.
    """
    sessions = _find_sessions(delivery.authorization for delivery in deliveries)
    results: list[Received] = []
    arrived: list[Arrival] = []
    for delivery in deliveries:
        session = sessions.get(delivery.authorization)
        if session is None:
            results.append(Received.BAD_SECRET)
            continue
        arrival = Arrival.from_body(str(session.channel_id), delivery.body)
        if _names_other_instance(arrival.payload, session):
            log.warning("event for another instance rejected", instance=session.name)
            results.append(Received.WRONG_INSTANCE)
        else:
            arrived.append(arrival)
            results.append(Received.STORED)
    if arrived:
        journal.receive(SOURCE, arrived)
    return results


def _names_other_instance(payload: Any, session: WhatsAppSession) -> bool:
    named = payload.get("instance") if isinstance(payload, dict) else None
    return isinstance(named, str) and bool(named) and named != session.name


def raw_event(channel_id: int, payload: Any) -> Entry:
    """Return an event in the journal's form, identical for both transports.

    Media are moved to files. Raises OSError if they cannot be written.
    """
    return arrivals.prepare(SOURCE, Arrival(str(channel_id), payload))


def dedupe_key(channel_id: int, payload: Any) -> str:
    """Return the key by which the journal deduplicates an event."""
    return arrivals.dedupe_key(SOURCE, str(channel_id), payload)


def _find_sessions(headers: Iterable[str]) -> dict[str, WhatsAppSession]:
    """Return the sessions whose secrets these headers contain, by header.

    The lookup by digest prevents timing attacks.
    """
    digests = {header: digest(header) for header in headers}
    known_digests = set(filter(None, digests.values()))
    matching = (
        WhatsAppSession.objects.filter(webhook_secret_digest__in=known_digests)
        .select_related("channel__evolution")
        .only("webhook_secret_digest", "channel", "channel__evolution__instance_name")
    )
    by_digest = {session.webhook_secret_digest: session for session in matching}
    return {header: by_digest[value] for header, value in digests.items() if value in by_digest}


def is_known(header: str) -> bool:
    """Return whether an Authorization header contains a session's secret."""
    return header in _find_sessions([header])


def digest(header: str) -> str:
    """Return the digest of an Authorization header's secret, or "" if it has none."""
    scheme, _, secret = header.partition(" ")
    return digest_of(secret.strip()) if scheme.lower() == "bearer" and secret.strip() else ""
