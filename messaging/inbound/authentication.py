"""Authenticate event deliveries and choose the channel under which each event is stored."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import hmac
from collections.abc import Mapping

import structlog
from django.db import close_old_connections

from channels_app.models import Channel, CloudCredentials, Provider
from channels_app.providers import engines
from channels_app.providers.wwebjs import events as wwebjs_events
from messaging.inbound import handlers, journal
from messaging.inbound.arrivals import Arrival
from messaging.models import InboundEvent

log = structlog.get_logger(__name__)


class Received(enum.Enum):
    """A receiver's response: HTTP status and code."""

    STORED = (200, "stored")
    BAD_SIGNATURE = (401, "bad_signature")
    BAD_KEY = (401, "bad_key")
    OTHER_SESSION = (200, "other_session")
    NOT_AUTHENTICATED = (401, "not_authenticated")
    UNKNOWN_SOURCE = (404, "unknown_source")


def is_verify_token(token: str) -> bool:
    """Return whether an active official channel has this verification token."""
    try:
        of_active = CloudCredentials.objects.filter(
            channel__kind=Provider.OFFICIAL, channel__active=True
        )
        return any(_same(credentials.verify_token, token) for credentials in of_active)
    finally:
        close_old_connections()


def receive_cloud(body: bytes, signature: str) -> Received:
    """Check Meta's signature over the raw body (docs/providers/cloud.md §3.2) and store the event.

    The signature is checked before the body is parsed. An event for a number without a channel is
    stored too: if we rejected it, Meta would repeat it for a week. A body that is not a JSON
    object is stored as a stub (`inbound.arrivals`).
    """
    try:
        channel_id = _channel_for_signature(body, signature)
        if channel_id is None:
            return Received.BAD_SIGNATURE
        journal.receive(InboundEvent.Source.CLOUD, [Arrival.from_body(str(channel_id), body)])
        return Received.STORED
    finally:
        close_old_connections()


def receive_wwebjs(channel_id: int, body: bytes, key: str) -> Received:
    """Check the key of the channel's wwebjs-api (docs/providers/wwebjs.md §4) and store the event.

    A server posts the events of all its sessions to one URL. An event goes to the channel of its
    session if that channel has the same server and key. An event of a session without a channel is
    stored under the channel of the URL: it is processed and shown as `unknown_channel`, and can be
    replayed once a channel has the session. A body that is not an object becomes a stub of the
    channel of the URL (`inbound.arrivals`).
    """
    try:
        channel = Channel.objects.filter(pk=channel_id).first()
        # Always compared, so that the response time does not reveal which channels exist.
        allowed = _same(channel.wwebjs_api_key if channel else "no channel has this key", key)
        if channel is None or not channel.has_wwebjs or not allowed:
            return Received.BAD_KEY
        arrival = Arrival.from_body(str(channel.pk), body)
        result = Received.STORED
        if isinstance(arrival.payload, dict):
            session_id = wwebjs_events.session_of(arrival.payload)
            owner = handlers.wwebjs_channels(channel).get(session_id)
            if owner is not None:
                arrival = dataclasses.replace(arrival, source_key=str(owner.pk))
            else:
                # Ids are unique per session only. Keys of known sessions have no scope.
                name = hashlib.sha256(session_id.encode(errors="replace")).hexdigest()[:16]
                arrival = dataclasses.replace(arrival, key_scope=f"{name}:")
                result = Received.OTHER_SESSION
        journal.receive(InboundEvent.Source.WWEBJS, [arrival])
        return result
    finally:
        close_old_connections()


def receive(source: str, channel_id: int, body: bytes, headers: Mapping[str, str]) -> Received:
    """Let an engine authenticate a request to its channel's webhook, and store the event.

    Header names are lower case. For every engine that has no receiver of its own
    (`EventSource.authenticate`).
    """
    try:
        try:
            engine = engines.by_source(source)
        except ValueError:
            return Received.UNKNOWN_SOURCE
        authenticate = engine.events.authenticate
        if authenticate is None:
            return Received.UNKNOWN_SOURCE
        of_engine = Channel.objects.filter(connections__provider=engine.name)
        channel = of_engine.filter(pk=channel_id).first()
        if channel is None or not authenticate(channel, headers, body):
            return Received.NOT_AUTHENTICATED
        journal.receive(source, [Arrival.from_body(str(channel_id), body)])
        return Received.STORED
    finally:
        close_old_connections()


def _channel_for_signature(body: bytes, signature: str) -> int | None:
    """Return the id of the oldest channel whose secret made this signature, or None.

    The channels of one app share a secret: the body is hashed once per app. All are compared.
    """
    received = signature.removeprefix("sha256=")
    officials = CloudCredentials.objects.filter(channel__kind=Provider.OFFICIAL)
    by_secret = {
        credentials.app_secret: credentials.pk
        for credentials in officials.only("app_secret").order_by("-pk")
        if credentials.app_secret
    }
    matching = [
        pk
        for secret, pk in by_secret.items()
        if _same(hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(), received)
    ]
    return min(matching, default=None)


def _same(expected: str, received: str) -> bool:
    return bool(expected) and hmac.compare_digest(expected.encode(), received.encode())
