"""Accept many messages of a program at once: each is stored as a whole, or not at all.

A batch is for messages that customers expect, not for advertising to strangers. Outside the 24-hour
window it takes templates only, and it is refused as a whole if an unofficial route would have to
carry more of it than its quota allows now.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_app.connections import circuit_breaker
from channels_app.models import Channel, Connection
from channels_app.providers.addresses import Address
from messaging import contacts
from messaging.delivery import accept, rate_limits, verdict
from messaging.delivery.schedule import NO_TIMES, Times
from messaging.delivery.statuses import Route
from messaging.models import Conversation, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import User

MAX_MESSAGES = 100
# After so many internal errors the rest of a batch is not tried: the database may be down.
MAX_FAILURES = 3
_MINUTE, _DAY = dt.timedelta(minutes=1), dt.timedelta(days=1)

log = structlog.get_logger(__name__)


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
    """What became of an item: accepted (`created`: not a replay), invalid or in conflict.

    `has_failed`: it was not stored because of an internal error, and can be sent again.
    """

    message: Message | None = None
    created: bool = False
    errors: Any = None
    is_conflict: bool = False
    has_failed: bool = False


def accept_batch(
    items: Sequence[Item], *, user: User | None, idempotency_key: str = "", body: Any = None
) -> list[Result]:
    """Accept each valid item; return a result for each, in their order.

    With an `idempotency_key`, the same batch (`body`) can be repeated: what was stored is returned,
    and the rest is tried again. An item may have a key of its own instead. Raises
    IdempotencyConflict if the key was used for another batch, or OverQuota: nothing is stored then
    that was not stored before.
    """
    digest = hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()
    numbered = _numbered(idempotency_key) if idempotency_key else [""] * MAX_MESSAGES
    stored = _stored({*numbered, *(item.idempotency_key for item in items)} - {""}, user)
    if any(stored[key].request_digest != digest for key in numbered if key in stored):
        raise accept.IdempotencyConflict
    keys = [item.idempotency_key or numbered[index] for index, item in enumerate(items)]
    # What was sent before is neither judged nor counted again.
    left = [
        index
        for index, item in enumerate(items)
        if item.arguments is not None and keys[index] not in stored
    ]
    refused = {index: errors for index in left if (errors := _needs_template(items[index]))}
    _check_quotas([items[index].arguments or {} for index in left if index not in refused])
    results: list[Result] = []
    failures = 0
    for index, (item, key) in enumerate(zip(items, keys, strict=True)):
        if key in stored and not item.idempotency_key:
            results.append(Result(stored[key]))
        elif item.arguments is None or index in refused:
            results.append(Result(errors=refused.get(index, item.errors)))
        elif failures >= MAX_FAILURES:
            results.append(Result(has_failed=True))
        else:
            results.append(_accept(item, key, "" if item.idempotency_key else digest, user))
            failures += results[-1].has_failed
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
    except Exception:
        # The caller must learn what became of the others.
        log.exception("message of a batch not accepted")
        return Result(has_failed=True)
    return Result(accepted.message, accepted.created)


def _stored(keys: Iterable[str], user: User | None) -> dict[str, Message]:
    found = Message.objects.filter(created_by=user, idempotency_key__in=list(keys))
    return {message.idempotency_key: message for message in found}


def _numbered(key: str) -> list[str]:
    """Return the keys of the items of a batch; none is one that somebody chooses."""
    prefix = hashlib.sha256(f"batch {key}".encode()).hexdigest()
    return [f"{prefix}#{index}" for index in range(MAX_MESSAGES)]


def _needs_template(item: Item) -> ValidationError | None:
    """Return the error of an item that is no template, for a customer with a closed window."""
    arguments = item.arguments or {}
    is_valid = arguments.get("conversation") or accept.parse_recipient(arguments.get("to", ""))
    if arguments.get("type") == "template" or not is_valid:
        return None
    conversation = _conversation(arguments)
    last = conversation.last_inbound_at if conversation else None
    if last is not None and _send_at(arguments) < last + verdict.WINDOW:
        return None
    text = _(
        "A batch takes only templates for a customer whose last message is more than 24 hours old"
        " when it is sent."
    )
    return ValidationError({"type": text})


def _send_at(arguments: dict[str, Any]) -> dt.datetime:
    times: Times = arguments.get("times", NO_TIMES)
    return times.send_at or timezone.now()


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
        _check_schedule(channels[id_], route, concerned, now)
        concerned = [one for one in concerned if _send_at(one) < now + _MINUTE]
        if len(concerned) > quota.messages or _new_chats(concerned, route) > quota.new_chats:
            raise OverQuota(
                _(
                    "The official API does not send now, and the other route may send only"
                    " %(messages)s messages in this minute, %(new)s of them to new customers. A"
                    " number that sends more is banned."
                )
                % {"messages": quota.messages, "new": min(quota.messages, quota.new_chats)}
            )


def _check_schedule(
    channel: Channel, route: Connection, messages: Sequence[dict[str, Any]], now: dt.datetime
) -> None:
    """Raise OverQuota if a later minute or day would have more than the quota of the route.

    Where the route is a fallback, the official API may send again by then; if not, the fallback
    sends no more than its quota then.
    """
    if channel.kind == Route.OFFICIAL:
        return
    minutes, days = defaultdict[int, list[dict[str, Any]]](list), defaultdict[int, list[Any]](list)
    for one in messages:
        ahead = _send_at(one) - now
        minutes[ahead // _MINUTE].append(one)
        days[ahead // _DAY].append(one)
    most, new_chats = channel.fallback_per_minute, channel.fallback_new_chats_per_day
    if any(minute > 0 and len(of) > most for minute, of in minutes.items()) or any(
        day > 0 and _new_chats(of, route) > new_chats for day, of in days.items()
    ):
        raise OverQuota(
            _(
                "The channel's route may send only %(messages)s messages in a minute, and write to"
                " only %(new)s new customers in a day. A number that sends more is banned."
            )
            % {"messages": most, "new": new_chats}
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


def _new_chats(messages: Sequence[dict[str, Any]], route: Connection) -> int:
    """Return to how many customers the route would write for the first time."""
    new = set[Any]()
    for arguments in messages:
        conversation = _conversation(arguments)
        if conversation is None:
            new.add(accept.parse_recipient(arguments.get("to", "")))
        elif conversation.contact_id not in new and rate_limits.is_first_contact(
            Message(conversation=conversation), route
        ):
            new.add(conversation.contact_id)
    return len(new)
