"""Accept many messages of a program at once: each is stored as a whole, or not at all.

A batch is for messages that customers expect, not for advertising to strangers. Outside the 24-hour
window it takes templates only, and it is refused as a whole if an unofficial route would have to
carry more of it than its quota allows now.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_app.connections import circuit_breaker
from channels_app.models import Channel, Connection
from channels_app.providers.addresses import Address
from messaging import contacts
from messaging.delivery import accept, rate_limits, verdict
from messaging.delivery.statuses import Route
from messaging.models import Conversation, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import User

MAX_MESSAGES = 100


class OverQuota(Exception):
    """An unofficial route would have to send more than its quota. `str()` is for users."""


@dataclass(frozen=True, slots=True)
class Item:
    """One message of a batch: the arguments for `accept_message`, or what is wrong with it."""

    arguments: dict[str, Any] | None = None
    errors: Any = None
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an item: accepted (`created`: not a replay), invalid or in conflict."""

    message: Message | None = None
    created: bool = False
    errors: Any = None
    is_conflict: bool = False


def accept_batch(
    items: Sequence[Item], *, user: User | None, idempotency_key: str = "", body: Any = None
) -> list[Result]:
    """Accept each valid item; return a result for each, in their order.

    With an `idempotency_key`, the same batch (`body`) can be repeated: what was stored is returned,
    and the rest is tried again. An item may have a key of its own instead. Raises
    IdempotencyConflict if the key was used for another batch, or OverQuota: nothing is stored then.
    """
    digest = hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()
    keys = [
        item.idempotency_key or (f"{_short(idempotency_key)}#{index}" if idempotency_key else "")
        for index, item in enumerate(items)
    ]
    replayed = _replay(items, keys, digest, user, idempotency_key) if idempotency_key else {}
    left = [index for index, item in enumerate(items) if item.arguments and index not in replayed]
    refused = {index: errors for index in left if (errors := _needs_template(items[index]))}
    _check_quotas([items[index].arguments or {} for index in left if index not in refused])
    results = []
    for index, item in enumerate(items):
        if index in replayed:
            results.append(replayed[index])
        elif item.arguments is None or index in refused:
            results.append(Result(errors=refused.get(index, item.errors)))
        else:
            own_key = bool(item.idempotency_key)
            results.append(_accept(item, keys[index], "" if own_key else digest, user))
    return results


def _accept(item: Item, key: str, batch: str, user: User | None) -> Result:
    try:
        accepted = accept.accept_message(
            **item.arguments or {}, user=user, idempotency_key=key, batch=batch if key else ""
        )
    except ValidationError as error:
        return Result(errors=error)
    except accept.IdempotencyConflict:
        return Result(is_conflict=True)
    return Result(accepted.message, accepted.created)


def _replay(
    items: Sequence[Item], keys: Sequence[str], digest: str, user: User | None, key: str
) -> dict[int, Result]:
    """Return the items that an earlier request with the same key has stored."""
    possible = [f"{_short(key)}#{index}" for index in range(MAX_MESSAGES)]
    stored = Message.objects.filter(created_by=user, idempotency_key__in=possible)
    used = set(stored.values_list("idempotency_key", flat=True))
    found = {}
    for index in sorted(possible.index(one) for one in used):
        if index >= len(items) or items[index].arguments is None or keys[index] not in used:
            raise accept.IdempotencyConflict
        found[index] = _accept(items[index], keys[index], digest, user)
        if found[index].message is None:
            raise accept.IdempotencyConflict
    return found


def _short(key: str) -> str:
    """Return a key that leaves room for the number of the item."""
    return key if len(key) <= accept.MAX_KEY - 5 else hashlib.sha256(key.encode()).hexdigest()


def _needs_template(item: Item) -> ValidationError | None:
    """Return the error of an item that is no template, for a customer with a closed window."""
    arguments = item.arguments or {}
    is_valid = arguments.get("conversation") or accept.parse_recipient(arguments.get("to", ""))
    if arguments.get("type") == "template" or not is_valid:
        return None
    conversation = _conversation(arguments)
    last = conversation.last_inbound_at if conversation else None
    if last is not None and timezone.now() < last + verdict.WINDOW:
        return None
    text = _("A batch takes only templates for a customer who wrote more than 24 hours ago.")
    return ValidationError({"type": text})


def _conversation(arguments: dict[str, Any]) -> Conversation | None:
    """Return the existing conversation to which a message would go."""
    if arguments.get("conversation") is not None:
        given: Conversation = arguments["conversation"]
        return given.merged_into or given
    recipient = accept.parse_recipient(arguments.get("to", ""))
    contact = contacts.find(recipient) if isinstance(recipient, Address) else None
    if contact is None:
        return None
    return Conversation.objects.filter(channel=arguments["channel"], contact=contact).first()


def _check_quotas(messages: Sequence[dict[str, Any]]) -> None:
    """Raise OverQuota if an unofficial route would have to send more than it may now."""
    by_channel: dict[int, list[dict[str, Any]]] = defaultdict(list)
    channels: dict[int, Channel] = {}
    for arguments in messages:
        conversation = arguments.get("conversation")
        channel = arguments.get("channel") or (conversation and conversation.channel)
        if channel is not None:
            channels[channel.pk] = channel
            by_channel[channel.pk].append(arguments)
    now = timezone.now()
    for id_, concerned in by_channel.items():
        route = _unofficial_route(channels[id_])
        if route is None:
            continue
        quota = rate_limits.quota_of(channels[id_], route, now=now)
        new = sum(_is_first_contact(one, route) for one in concerned)
        if len(concerned) > quota.messages or new > quota.new_chats:
            raise OverQuota(
                _(
                    "The official API does not send now, and the other route may send only"
                    " %(messages)s messages in this minute, %(new)s of them to new customers. A"
                    " number that sends more is banned."
                )
                % {"messages": quota.messages, "new": min(quota.messages, quota.new_chats)}
            )


def _unofficial_route(channel: Channel) -> Connection | None:
    """Return the unofficial connection by which the channel's messages would go now, if any."""
    primary = channel.primary
    if channel.kind != Route.OFFICIAL:
        return Connection.objects.stored(channel, channel.kind)
    if primary.pk is None or not circuit_breaker.is_open(primary):
        return None
    usable = (one for one in channel.fallback_connections if one.channel.active)
    return next((one for one in usable if not circuit_breaker.is_open(one)), None)


def _is_first_contact(arguments: dict[str, Any], route: Connection) -> bool:
    conversation = _conversation(arguments)
    if conversation is None:
        return True
    return rate_limits.is_first_contact(Message(conversation=conversation), route)
