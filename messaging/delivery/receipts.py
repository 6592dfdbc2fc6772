"""Record the receipts of many sends in a few statements.

Nearly every receipt says that an accepted message was sent, delivered or read: it changes the
attempt's receipt and what the message's row derives from it, and nothing else. Such a receipt is
*simple* (`_is_simple`), if the addresses that it names are known to be one customer's. Every other
one is left to `attempts.record_receipt`, one at a time. Both ways use the same rules (`statuses`,
`attempts.derived_fields`), and simple receipts may be recorded in any order, so the rows end up the
same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from uuid import UUID

from django.utils import timezone

from channels_app.models import Connection
from channels_app.providers import addresses
from channels_app.providers.addresses import Address
from channels_app.providers.events import Receipt, ReceiptEvent
from channels_app.providers.message_keys import message_key
from core.bulk import update_rows
from messaging import contacts
from messaging.delivery import attempts, statuses
from messaging.delivery.statuses import Outcome, Route
from messaging.live import publisher
from messaging.models import DeliveryAttempt, Message

_SIMPLE_RECEIPTS = (Receipt.SENT, Receipt.DELIVERED, Receipt.READ)
# The receipt of such an attempt also changes its connection (`channel_feedback.note_receipt`).
_TESTS_CONNECTION = ("probe", "asked")
# What is read of the rows: a burst consists of hundreds of them.
_MESSAGE_FIELDS = (
    "conversation", "status", "route", "error_code", "error_title", "error_detail",
    "decision", "next_attempt_at", "round", "version",
)  # fmt: skip
_ATTEMPT_FIELDS = (
    "message", "number", "round", "connection", "rule", "outcome", "receipt", "held", "pricing",
    "error_code", "error_title", "error_detail", "provider_message_id", "message_key",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reported:
    """A receipt and the channel for which it was received."""

    channel_id: int
    event: ReceiptEvent


@dataclass(frozen=True, slots=True)
class Group:
    """Receipts that arrived in one event. `is_complete`: the event contains nothing else."""

    receipts: Sequence[Reported]
    is_complete: bool


def record_simple(groups: Sequence[Group]) -> list[bool]:
    """Record the receipts of those complete groups that contain simple receipts only.

    Returns which groups were recorded. If an attempt has a receipt that is not simple, all groups
    that concern it are left, so that its receipts stay in order. The caller holds a transaction,
    in which the messages stay locked; they are locked in the order of their ids.
    """
    reported = [item for group in groups for item in group.receipts]
    attempts_of = _lock(_messages_of(reported))
    by_reported = _match(reported, attempts_of)
    blocked = {
        attempt.pk for item, attempt in by_reported.items() if not _is_simple(item.event, attempt)
    }
    outside = _sent_outside(
        item for item, attempt in by_reported.items() if not _is_official(attempt)
    )
    unknown = contacts.unknown_pairs(map(_named, reported))
    recorded = [
        group.is_complete
        and all(
            (attempt := by_reported.get(item)) is not None
            and attempt.pk not in blocked
            and (item.channel_id, message_key(item.event.provider_message_id)) not in outside
            and frozenset(address.key for address in _named(item)) not in unknown
            for item in group.receipts
        )
        for group in groups
    ]
    simple = [
        (by_reported[item], item.event)
        for group, is_recorded in zip(groups, recorded, strict=True)
        if is_recorded
        for item in group.receipts
    ]
    _store(simple, attempts_of)
    return recorded


def _is_simple(event: ReceiptEvent, attempt: DeliveryAttempt) -> bool:
    """Return whether recording this receipt changes nothing but receipt and derived status."""
    return (
        event.receipt in _SIMPLE_RECEIPTS
        and event.failure is None
        and attempt.outcome == Outcome.ACCEPTED
        and attempt.rule not in _TESTS_CONNECTION
        and bool(attempt.provider_message_id or not event.provider_message_id)
    )


def _named(item: Reported) -> tuple[Address, ...]:
    """Return the addresses of the recipient that a receipt names."""
    event = item.event
    return addresses.named(phone_number=event.phone_number, user_id=event.user_id, also=event.also)


def _is_official(attempt: DeliveryAttempt) -> bool:
    return attempt.route == Route.OFFICIAL


def _messages_of(reported: Sequence[Reported]) -> set[UUID]:
    """Return the messages that receipts name by our reference, or else by the provider's id."""
    references = [attempts.parse_reference(item.event.reference) for item in reported]
    ids = {
        message_key(item.event.provider_message_id)
        for item, reference in zip(reported, references, strict=True)
        if reference is None
    }
    named = {reference[0] for reference in references if reference is not None}
    if ids:
        channels = {item.channel_id for item in reported}
        by_id = DeliveryAttempt.objects.filter(
            message_key__in=ids - {""}, connection__channel__in=channels
        )
        named |= set(by_id.values_list("message_id", flat=True))
    return named


def _lock(message_ids: set[UUID]) -> dict[UUID, list[DeliveryAttempt]]:
    """Lock these messages in the order of their ids; return the attempts of each, in order."""
    if not message_ids:
        return {}
    locked = Message.objects.select_for_update().filter(pk__in=message_ids).order_by("pk")
    messages = {message.pk: message for message in locked.only(*_MESSAGE_FIELDS)}
    found: dict[UUID, list[DeliveryAttempt]] = {pk: [] for pk in messages}
    of_messages = list(
        DeliveryAttempt.objects.filter(message__in=list(messages))
        .only(*_ATTEMPT_FIELDS)
        .order_by("number")
    )
    connections = Connection.objects.only("channel", "provider").in_bulk(
        {attempt.connection_id for attempt in of_messages}
    )
    for attempt in of_messages:
        attempt.message = messages[attempt.message_id]
        attempt.connection = connections[attempt.connection_id]
        found[attempt.message_id].append(attempt)
    return found


def _match(
    reported: Sequence[Reported], attempts_of: Mapping[UUID, Sequence[DeliveryAttempt]]
) -> dict[Reported, DeliveryAttempt]:
    """Return the attempt that each receipt names, as `attempts.find` does.

    A receipt whose attempt is known by neither our reference nor the provider's id is left out.
    """
    by_number: dict[tuple[UUID, int], DeliveryAttempt] = {}
    by_id: dict[tuple[int, str], DeliveryAttempt] = {}
    for attempt in sorted(chain(*attempts_of.values()), key=lambda attempt: attempt.pk):
        by_number[attempt.message_id, attempt.number] = attempt
        if attempt.message_key:
            by_id[attempt.connection.channel_id, attempt.message_key] = attempt
    found: dict[Reported, DeliveryAttempt] = {}
    for item in reported:
        reference, id_ = (
            attempts.parse_reference(item.event.reference),
            message_key(item.event.provider_message_id),
        )
        named = by_number.get(reference) if reference else by_id.get((item.channel_id, id_))
        if named is not None and named.connection.channel_id == item.channel_id:
            found[item] = named
    return found


def _sent_outside(reported: Iterable[Reported]) -> set[tuple[int, str]]:
    """Return channel and key of those that are also messages sent outside."""
    keys = {(item.channel_id, message_key(item.event.provider_message_id)) for item in reported}
    if not keys:
        return set()
    outside = Message.objects.filter(
        sent_outside=True,
        message_key__in={key for _, key in keys if key},
        conversation__channel__in={channel_id for channel_id, _ in keys},
    )
    return set(outside.values_list("conversation__channel", "message_key"))


def _store(
    simple: Sequence[tuple[DeliveryAttempt, ReceiptEvent]],
    attempts_of: Mapping[UUID, Sequence[DeliveryAttempt]],
) -> None:
    changed: dict[int, DeliveryAttempt] = {}
    columns = ["receipt"]
    for attempt, event in simple:
        receipt = statuses.merge_receipt(Receipt(attempt.receipt), event.receipt)
        if receipt != attempt.receipt:
            attempt.receipt = receipt.value
            changed[attempt.pk] = attempt
        if event.pricing and not attempt.pricing:
            attempt.pricing = event.pricing[:64]
            changed[attempt.pk] = attempt
            columns = ["receipt", "pricing"]
    update_rows(list(changed.values()), columns)
    messages = {attempt.message_id: attempt.message for attempt in changed.values()}
    fields = {"version", "updated_at"}
    now = timezone.now()
    for message in messages.values():
        for name, value in attempts.derived_fields(message, attempts_of[message.pk], {}).items():
            if getattr(message, name) != value:
                setattr(message, name, value)
                fields.add(name)
        message.version += 1
        message.updated_at = now
    # In most bursts only the status differs.
    update_rows(list(messages.values()), sorted(fields))
    for message in messages.values():
        publisher.message_changed(message)
