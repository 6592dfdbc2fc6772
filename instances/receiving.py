"""The ways into the journal: the webhook's, and what it shares with the listener's."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import structlog
from django.db import InterfaceError, OperationalError, close_old_connections
from psycopg_pool import PoolTimeout

from instances.models import WhatsAppSession, digest_of
from messaging.inbound import evolution, journal, media
from messaging.models import InboundEvent

log = structlog.get_logger(__name__)

# Evolution puts media into the event as base64.
MOST_BYTES = 64 * 1024 * 1024
SOURCE = InboundEvent.Source.EVOLUTION
# The database, or the place of the files, cannot be reached now.
AWAY = (OperationalError, InterfaceError, PoolTimeout, OSError)


class Received(enum.Enum):
    """What the receiver answers: HTTP status and code."""

    STORED = (200, "stored")
    BAD_SECRET = (401, "bad_secret")
    NOT_JSON = (400, "not_json")
    WRONG_INSTANCE = (401, "wrong_instance")


class Delivery(NamedTuple):
    """What came to the receiver: the body, and its Authorization header."""

    body: bytes
    authorization: str


def receive(delivery: Delivery) -> Received:
    """Check the session's secret and store the event.

    The secret says which session it is; the name in the body is only compared, so one session
    cannot speak for another. Raises a database error or OSError when the event is not stored.
    """
    [result] = receive_all([delivery])
    if isinstance(result, Exception):
        raise result
    return result


def receive_all(deliveries: Sequence[Delivery]) -> list[Received | Exception]:
    """Receive many at once: see `receive`. What that would raise stands in place of an answer."""
    try:
        return _receive_all(deliveries)
    except Exception as error:
        if len(deliveries) > 1 and not isinstance(error, AWAY):
            # One of them cannot be stored, ever: the others must not fail with it.
            return [result for delivery in deliveries for result in receive_all([delivery])]
        return [error] * len(deliveries)
    finally:
        close_old_connections()


def _receive_all(deliveries: Sequence[Delivery]) -> list[Received | Exception]:
    sessions = _find_sessions(delivery.authorization for delivery in deliveries)
    results: list[Received | Exception] = []
    raws: list[journal.Raw] = []
    for delivery in deliveries:
        session = sessions.get(delivery.authorization)
        payload = _parse(delivery.body) if session else None
        if session is None:
            results.append(Received.BAD_SECRET)
        elif payload is None:
            results.append(Received.NOT_JSON)
        elif payload.get("instance") != session.name:
            log.warning("event for another instance refused", instance=session.name)
            results.append(Received.WRONG_INSTANCE)
        else:
            raws.append(raw_event(session.channel_id, payload))
            results.append(Received.STORED)
    if raws:
        journal.store_all(SOURCE, raws)
    return results


def _parse(body: bytes) -> dict[str, Any] | None:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def raw_event(channel_id: int, payload: dict[str, Any]) -> journal.Raw:
    """Return an event as the journal keeps it: the same whichever way it came.

    Its media become files. Raises OSError where they cannot be written.
    """
    return journal.Raw(
        source_key=str(channel_id),
        dedupe_key=dedupe_key(channel_id, payload),
        payload=media.set_aside(payload),
    )


def dedupe_key(channel_id: int, payload: dict[str, Any]) -> str:
    """Return what the journal knows an event by. Instances of two servers may have one name."""
    return f"{channel_id}:{evolution.dedupe_key(payload)}"


def _find_sessions(headers: Iterable[str]) -> dict[str, WhatsAppSession]:
    """Return the sessions whose secrets these headers carry, by header.

    Found by digest: nothing to time.
    """
    digests = {header: digest(header) for header in headers}
    wanted = set(filter(None, digests.values()))
    found = (
        WhatsAppSession.objects.filter(webhook_secret_digest__in=wanted)
        .select_related("channel")
        .only("webhook_secret_digest", "channel", "channel__instance_name")
    )
    by_digest = {session.webhook_secret_digest: session for session in found}
    return {header: by_digest[value] for header, value in digests.items() if value in by_digest}


def is_known(header: str) -> bool:
    """Whether an Authorization header carries the secret of a session."""
    try:
        return header in _find_sessions([header])
    finally:
        close_old_connections()


def digest(header: str) -> str:
    """Return what a session is found by of an Authorization header; "" where it has no secret."""
    scheme, _, secret = header.partition(" ")
    return digest_of(secret.strip()) if scheme.lower() == "bearer" and secret.strip() else ""
