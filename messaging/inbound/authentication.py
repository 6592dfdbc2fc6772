"""Authenticate event deliveries and choose the channel under which each event is stored.

Receivers pass the deliveries that arrived together (`inbound.group_commit`). The answers have their
order. Nothing is stored if a function raises one of `arrivals.STORAGE_ERRORS`.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from channels_app.models import Channel
from channels_app.providers import engines
from channels_app.providers.base import Engine
from channels_app.providers.cloud import events as cloud_events
from channels_app.providers.wwebjs import events as wwebjs_events
from messaging.inbound import journal, keys
from messaging.inbound.arrivals import Arrival
from messaging.inbound.keys import App, Keys
from messaging.models import InboundEvent


class Received(enum.Enum):
    """A receiver's response: HTTP status and code."""

    STORED = (200, "stored")
    BAD_SIGNATURE = (401, "bad_signature")
    BAD_KEY = (401, "bad_key")
    OTHER_SESSION = (200, "other_session")
    NOT_AUTHENTICATED = (401, "not_authenticated")
    UNKNOWN_SOURCE = (404, "unknown_source")


class CloudDelivery(NamedTuple):
    body: bytes
    signature: str


class WwebjsDelivery(NamedTuple):
    channel_id: int
    body: bytes
    key: str


class EngineDelivery(NamedTuple):
    """A request to the webhook of an engine. Header names are lower case."""

    source: str
    channel_id: int
    body: bytes
    headers: Mapping[str, str]


def is_verify_token(token: str) -> bool:
    """Return whether an active official channel has this verification token."""
    return keys.current().is_verify_token(token)


def receive_cloud(body: bytes, signature: str) -> Received:
    """Receive one delivery; see `receive_cloud_group`."""
    return receive_cloud_group([CloudDelivery(body, signature)])[0]


def receive_cloud_group(deliveries: Sequence[CloudDelivery]) -> list[Received]:
    """Check signatures over the raw bodies (docs/providers/cloud.md §3.2) and store the events.

    The signature is checked before the body is parsed. An event is stored under the channel of the
    phone number that it names, so that numbers are read independently; one that names several is
    divided. An event for a number without a channel is stored too, under the app's oldest channel:
    if we rejected it, Meta would repeat it for a week. A body that is not a JSON object is stored
    as a stub (`inbound.arrivals`).
    """
    current = keys.current()
    apps = [current.app_for(*delivery) for delivery in deliveries]
    arrived = [
        arrival
        for delivery, app in zip(deliveries, apps, strict=True)
        if app
        for arrival in _cloud_arrivals(app, delivery.body)
    ]
    if arrived:
        journal.receive(InboundEvent.Source.CLOUD, arrived)
    return [Received.STORED if app else Received.BAD_SIGNATURE for app in apps]


def _cloud_arrivals(app: App, body: bytes) -> Iterable[Arrival]:
    arrival = Arrival.from_body(str(app.channel_id), body)
    if not isinstance(arrival.payload, dict):
        return [arrival]
    parts = cloud_events.split_by_owner(arrival.payload, app.owner_of)
    if parts.keys() == {app.channel_id}:
        return [arrival]
    if len(parts) == 1:
        return [dataclasses.replace(arrival, source_key=str(owner)) for owner in parts]
    return [arrival.part(str(owner), payload) for owner, payload in parts.items()]


def receive_wwebjs(channel_id: int, body: bytes, key: str) -> Received:
    """Receive one delivery; see `receive_wwebjs_group`."""
    return receive_wwebjs_group([WwebjsDelivery(channel_id, body, key)])[0]


def receive_wwebjs_group(deliveries: Sequence[WwebjsDelivery]) -> list[Received]:
    """Check the keys of wwebjs-api servers (docs/providers/wwebjs.md §4) and store the events.

    A server posts the events of all its sessions to one URL. An event goes to the channel of its
    session if that channel has the same server and key. An event of a session without a channel is
    stored under the channel of the URL: it is processed and shown as `unknown_channel`, and can be
    replayed once a channel has the session. A body that is not an object becomes a stub of the
    channel of the URL (`inbound.arrivals`).
    """
    current = keys.current()
    results: list[Received] = []
    arrived: list[Arrival] = []
    for delivery in deliveries:
        result, arrival = _wwebjs_arrival(current, delivery)
        results.append(result)
        if arrival is not None:
            arrived.append(arrival)
    if arrived:
        journal.receive(InboundEvent.Source.WWEBJS, arrived)
    return results


def _wwebjs_arrival(current: Keys, delivery: WwebjsDelivery) -> tuple[Received, Arrival | None]:
    receiver = current.sessions.get(delivery.channel_id)
    # Always compared, so that the response time does not reveal which channels exist.
    expected = receiver.api_key if receiver else "no channel has this key"
    allowed = keys.same(expected, delivery.key)
    if receiver is None or not receiver.may_deliver or not allowed:
        return Received.BAD_KEY, None
    arrival = Arrival.from_body(str(receiver.channel_id), delivery.body)
    if not isinstance(arrival.payload, dict):
        return Received.STORED, arrival
    name = wwebjs_events.session_of(arrival.payload)
    owner = current.channel_of_session(receiver, name)
    if owner is not None:
        return Received.STORED, dataclasses.replace(arrival, source_key=str(owner))
    # Ids are unique per session only. Keys of known sessions have no scope.
    scope = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:16]
    return Received.OTHER_SESSION, dataclasses.replace(arrival, key_scope=f"{scope}:")


def receive(source: str, channel_id: int, body: bytes, headers: Mapping[str, str]) -> Received:
    """Receive one delivery; see `receive_group`."""
    return receive_group([EngineDelivery(source, channel_id, body, headers)])[0]


def receive_group(deliveries: Sequence[EngineDelivery]) -> list[Received]:
    """Let engines authenticate requests to their channels' webhooks, and store the events.

    For every engine that has no receiver of its own (`EventSource.authenticate`).
    """
    found = {source: _engine(source) for source in {delivery.source for delivery in deliveries}}
    channels = _channels_of_engines(
        (engine, delivery.channel_id)
        for delivery in deliveries
        if (engine := found[delivery.source]) is not None
    )
    results: list[Received] = []
    arrived: defaultdict[str, list[Arrival]] = defaultdict(list)
    for source, channel_id, body, headers in deliveries:
        engine = found[source]
        if engine is None or (authenticate := engine.events.authenticate) is None:
            results.append(Received.UNKNOWN_SOURCE)
            continue
        channel = channels.get((engine.name, channel_id))
        if channel is None or not authenticate(channel, headers, body):
            results.append(Received.NOT_AUTHENTICATED)
            continue
        arrived[source].append(Arrival.from_body(str(channel_id), body))
        results.append(Received.STORED)
    for source, arrivals in arrived.items():
        journal.receive(source, arrivals)
    return results


def _engine(source: str) -> Engine | None:
    try:
        engine = engines.by_source(source)
    except ValueError:
        return None
    return engine if engine.events.authenticate else None


def _channels_of_engines(
    named: Iterable[tuple[Engine, int]],
) -> dict[tuple[str, int], Channel]:
    ids: defaultdict[str, set[int]] = defaultdict(set)
    for engine, channel_id in named:
        ids[engine.name].add(channel_id)
    return {
        (name, channel.pk): channel
        for name, its_ids in ids.items()
        for channel in Channel.objects.filter(connections__provider=name, pk__in=its_ids)
    }
