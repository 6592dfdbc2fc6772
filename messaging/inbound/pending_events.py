"""Store events about messages that are not known yet, until they are known or the events expire.

A status can arrive before our send request returns (docs/providers/cloud.md §3.3), and an edit or a
deletion can arrive before its message. They are stored under the key of its id (`message_keys`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from channels_app.providers.base import SendError
from channels_app.providers.error_codes import severity
from channels_app.providers.events import (
    EditEvent,
    MediaEvent,
    ReactionEvent,
    Receipt,
    RevokeEvent,
    VoteEvent,
)
from channels_app.providers.message_keys import bare_key, keys_of, message_key
from core import advisory_locks
from messaging.inbound.amendments import Amendment
from messaging.models import PendingEvent

_Kind = PendingEvent.Kind
_AMENDMENTS: dict[_Kind, type[Amendment]] = {
    _Kind.EDIT: EditEvent,
    _Kind.REVOKE: RevokeEvent,
    _Kind.MEDIA: MediaEvent,
    _Kind.REACTION: ReactionEvent,
    _Kind.VOTE: VoteEvent,
}
# A message may get one of these from each person: the row has them by person.
_BY_PERSON = (_Kind.REACTION, _Kind.VOTE)
_KIND_OF = {event: kind for kind, event in _AMENDMENTS.items()}
# Event fields that the row itself holds, so that the payload does not repeat them.
_ROW_FIELDS = ("channel_key", "provider_message_id")


def lock_id(channel_id: int, provider_message_id: str) -> None:
    """Serialize the transactions that link this id to a message or look up its message."""
    advisory_locks.lock(f"{channel_id}:{bare_key(message_key(provider_message_id))}")


def try_lock_ids(keys: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    """Like `lock_id` for many keys of channels, but skips those that another transaction holds.

    Returns those that are locked.
    """
    named = {f"{channel_id}:{bare_key(id_)}": (channel_id, id_) for channel_id, id_ in keys}
    return {named[name] for name in advisory_locks.try_lock(named)}


def which_exist(keys: Collection[tuple[int, str]]) -> set[tuple[int, str]]:
    """Return the keys of channels for which an event is stored."""
    channels, ids = {channel_id for channel_id, _ in keys}, {id_ for _, id_ in keys}
    stored = PendingEvent.objects.filter(channel__in=channels, provider_message_id__in=ids)
    return set(stored.values_list("channel_id", "provider_message_id")) & set(keys)


def store_receipt(
    *, channel_id: int, provider_message_id: str, receipt: Receipt, error: SendError | None
) -> None:
    """Store a receipt whose attempt is not known yet. The caller holds `lock_id`."""
    reason = {"code": "", "title": "", "detail": ""}
    if error is not None:
        reason = {"code": error.code, "title": str(error.title), "detail": error.detail}
    _store(
        channel_id,
        provider_message_id,
        _Kind(receipt.value),
        reason,
        replaces=lambda stored: severity(reason["code"]) > severity(stored["code"]),
    )


def store_amendment(channel_id: int, event: Amendment) -> None:
    """Store an event whose message is not known yet. The caller holds `lock_id`."""
    kind = _KIND_OF[type(event)]
    values = {k: v for k, v in dataclasses.asdict(event).items() if k not in _ROW_FIELDS}
    if not isinstance(event, MediaEvent):
        values["at"] = (event.at or timezone.now()).isoformat()
    if isinstance(event, VoteEvent):
        values["chosen"] = list(event.chosen)
    if isinstance(event, ReactionEvent | VoteEvent):
        _store_of_person(channel_id, event, kind, values)
        return
    _store(
        channel_id,
        event.provider_message_id,
        kind,
        values,
        # The latest of several edits wins.
        replaces=lambda stored: (
            isinstance(event, EditEvent)
            and event.text != stored["text"]
            and _time(values["at"]) > _time(stored["at"])
        ),
    )


def _store_of_person(
    channel_id: int, event: ReactionEvent | VoteEvent, kind: _Kind, values: dict[str, Any]
) -> None:
    pending, is_new = PendingEvent.objects.get_or_create(
        channel_id=channel_id,
        provider_message_id=message_key(event.provider_message_id),
        kind=kind,
        defaults={"payload": {"of": [values]}},
    )
    if is_new:
        return
    others = [one for one in pending.payload["of"] if one["by"] != event.by]
    own = [one for one in pending.payload["of"] if one["by"] == event.by]
    if own and {**own[0], "at": ""} == {**values, "at": ""}:
        return
    if not own or _time(values["at"]) >= _time(own[0]["at"]):
        pending.payload = {"of": [*others, values]}
        pending.save(update_fields=["payload"])


def take(
    channel_id: int, provider_message_id: str
) -> tuple[list[tuple[Receipt, SendError | None]], list[Amendment]]:
    """Return the receipts and the other events stored for this id, and delete them."""
    rows = _pending(channel_id, [message_key(provider_message_id)], _Kind)
    _delete(rows)
    return (
        [_receipt(row) for row in rows if row.kind not in _AMENDMENTS],
        [one for row in rows if row.kind in _AMENDMENTS for one in _amendments(row)],
    )


def receipts(channel_id: int, provider_message_id: str) -> list[tuple[Receipt, SendError | None]]:
    """Return the receipts stored for this id."""
    kinds = (kind for kind in _Kind if kind not in _AMENDMENTS)
    rows = _pending(channel_id, [message_key(provider_message_id)], kinds)
    return [_receipt(row) for row in rows]


def take_amendments(
    channel_id: int, provider_message_id: str, *, keep: bool = False
) -> list[Amendment]:
    """Return the other events stored for this id, and delete them unless `keep` is set."""
    rows = _pending(channel_id, keys_of(provider_message_id), _AMENDMENTS)
    if not keep:
        _delete(rows)
    return [one for row in rows for one in _amendments(row)]


def _receipt(row: PendingEvent) -> tuple[Receipt, SendError | None]:
    return Receipt(row.kind), _error(row.payload)


def _amendments(row: PendingEvent) -> list[Amendment]:
    payloads = row.payload["of"] if row.kind in _BY_PERSON else [row.payload]
    return [_amendment(row, payload) for payload in payloads]


def _amendment(row: PendingEvent, payload: Mapping[str, Any]) -> Amendment:
    values = dict(payload)
    if "at" in values:
        values["at"] = _time(values["at"])
    if "chosen" in values:
        values["chosen"] = tuple(values["chosen"])
    return _AMENDMENTS[_Kind(row.kind)]("", row.provider_message_id, **values)


def stored_files(events: QuerySet[PendingEvent]) -> set[str]:
    """Return the names of the files that came with these events."""
    media = events.filter(kind=_Kind.MEDIA)
    return set(media.values_list("payload__stored", flat=True))


def _store(
    channel_id: int,
    provider_message_id: str,
    kind: PendingEvent.Kind,
    payload: dict[str, Any],
    *,
    replaces: Callable[[Mapping[str, Any]], bool],
) -> None:
    pending, is_new = PendingEvent.objects.get_or_create(
        channel_id=channel_id,
        provider_message_id=message_key(provider_message_id),
        kind=kind,
        defaults={"payload": payload},
    )
    if not is_new and replaces(pending.payload):
        pending.payload = payload
        pending.save(update_fields=["payload"])


def _pending(
    channel_id: int, keys: Collection[str], kinds: Iterable[PendingEvent.Kind]
) -> list[PendingEvent]:
    events = PendingEvent.objects.filter(
        channel_id=channel_id,
        provider_message_id__in=keys,
        kind__in=list(kinds),
    )
    return list(events.order_by("pk"))


def _delete(rows: Iterable[PendingEvent]) -> None:
    if ids := [row.pk for row in rows]:
        PendingEvent.objects.filter(pk__in=ids).delete()


def _error(reason: Mapping[str, str]) -> SendError | None:
    return SendError(reason["code"], reason["title"], reason["detail"]) if reason["code"] else None


def _time(value: str) -> Any:
    return parse_datetime(value)
