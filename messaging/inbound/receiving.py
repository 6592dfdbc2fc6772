"""Who may deliver events, and where each one goes in the journal."""

from __future__ import annotations

import enum
import hashlib
import hmac
import json

import structlog
from django.db import close_old_connections

from channels_app.models import Channel
from messaging.inbound import journal
from messaging.models import InboundEvent

log = structlog.get_logger(__name__)


class Received(enum.Enum):
    """What a receiver answers: HTTP status and code."""

    STORED = (200, "stored")
    BAD_SIGNATURE = (401, "bad_signature")
    NOT_JSON = (400, "not_json")


def is_verify_token(token: str) -> bool:
    """Return whether an active official channel has this verification token."""
    try:
        channels = Channel.objects.filter(kind=Channel.Kind.OFFICIAL, active=True)
        return any(_same(channel.verify_token, token) for channel in channels)
    finally:
        close_old_connections()


def receive_cloud(body: bytes, signature: str) -> Received:
    """Check Meta's signature over the raw body (contracts/cloud-api.md §3.2) and store the event.

    The signature is checked before the body is parsed. An event for a number that is no channel
    of ours is stored all the same: refusing it would make Meta repeat it for a week.
    """
    try:
        signer = _signer(body, signature)
        if signer is None:
            return Received.BAD_SIGNATURE
        try:
            payload = json.loads(body)
        except (ValueError, RecursionError):
            return Received.NOT_JSON
        journal.store(
            source=InboundEvent.Source.CLOUD,
            source_key=str(signer.pk),
            # Two apps may get the same event; what one app may tell, another may not.
            dedupe_key=f"cloud:{signer.pk}:{hashlib.sha256(body).hexdigest()}",
            payload=payload,
        )
        return Received.STORED
    finally:
        close_old_connections()


def _signer(body: bytes, signature: str) -> Channel | None:
    """Return the first channel whose app secret made this signature; every secret is compared."""
    made = signature.removeprefix("sha256=")
    channels = Channel.objects.filter(kind=Channel.Kind.OFFICIAL).order_by("pk")
    matching = [
        channel
        for channel in channels
        if channel.app_secret
        and _same(hmac.new(channel.app_secret.encode(), body, hashlib.sha256).hexdigest(), made)
    ]
    return matching[0] if matching else None


def _same(ours: str, theirs: str) -> bool:
    return bool(ours) and hmac.compare_digest(ours.encode(), theirs.encode())
