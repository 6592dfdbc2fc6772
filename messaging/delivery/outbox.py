"""Which worker delivers which message.

The message table is the outbox. A message is due when it is unfinished, its time has come and no
earlier message of its conversation is unfinished. A worker claims due messages and is then the only
one to deliver them. The claims of a worker that seems dead end; whoever claims such a message next
treats a started attempt as one that may have been sent.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from messaging import queue
from messaging.delivery import policy
from messaging.models import UNFINISHED, DeliveryWorker, Message

# In a statement that is built once: the time of the claim.
_AT = dt.datetime.min.replace(tzinfo=dt.UTC)

log = structlog.get_logger(__name__)


class LeaseExpired(Exception):
    """This worker seemed dead to the others: its claims have ended, and it must register again."""


def register() -> int:
    """Register this process as a worker. Returns its id."""
    return DeliveryWorker.objects.create(seen_at=Now()).pk


def renew(worker_id: int) -> None:
    """Show that the worker is alive. Raises LeaseExpired."""
    if not _alive().filter(pk=worker_id).update(seen_at=Now()):
        raise LeaseExpired


def unregister(worker_id: int) -> None:
    """End a worker and its claims."""
    with transaction.atomic():
        DeliveryWorker.objects.filter(pk=worker_id).delete()
        _end_claims(Message.objects.filter(claimed_by=worker_id))


def end_dead_claims() -> None:
    """End the claims of workers that have not been seen for WORKER_STALLED_SECONDS."""
    with transaction.atomic():
        # A worker that stands still in the middle of a claim holds its row. It stops no other.
        dead = DeliveryWorker.objects.exclude(pk__in=_alive().values("pk"))
        ids = list(dead.select_for_update(skip_locked=True).values_list("pk", flat=True))
        DeliveryWorker.objects.filter(pk__in=ids).delete()
        worker = DeliveryWorker.objects.filter(pk=OuterRef("claimed_by"))
        orphans = Message.objects.filter(~Exists(worker), claimed_by__isnull=False)
        unlocked = orphans.select_for_update(skip_locked=True).values_list("pk", flat=True)
        if ended := _end_claims(Message.objects.filter(pk__in=list(unlocked))):
            log.warning("messages of a dead worker are delivered again", messages=ended)


def end_forgotten_claims(worker_id: int, *, known: Collection[UUID]) -> None:
    """End the worker's claims on messages that it does not know to deliver.

    Those whose release failed, for example because the database was down.
    """
    _end_claims(Message.objects.filter(claimed_by=worker_id).exclude(pk__in=list(known)))


def lock_lease(worker_id: int) -> None:
    """Hold the lease until the end of the transaction, which may claim messages.

    Whoever ends the worker's claims waits for it. Raises LeaseExpired.
    """
    if not _ids(_lease(), [settings.WORKER_STALLED_SECONDS, worker_id]):
        raise LeaseExpired


def lock_new(*, limit: int) -> list[UUID]:
    """Lock the oldest due messages on which nothing has been decided; return their ids.

    The caller holds the lease (`lock_lease`) and stores `claimed_by`.
    """
    return _lock_due(limit, None)


def lock_waiting(*, now: dt.datetime, limit: int) -> list[UUID]:
    """Lock the messages whose waiting time is over, as `lock_new` does."""
    return _lock_due(limit, now)


def release(message_id: str, worker_id: int | None) -> None:
    """End a claim. Unless the message waits, it or the next of its conversation is due now."""
    with transaction.atomic():
        Message.objects.filter(pk=message_id, claimed_by=worker_id).update(claimed_by=None)
        waits = Q(UNFINISHED, next_attempt_at__gt=timezone.now())
        message = Message.objects.filter(pk=message_id).exclude(waits).only("conversation").first()
        if message is not None:
            wake([message.conversation_id])


def wake(conversation_ids: Iterable[int]) -> bool:
    """Let the first unfinished message of these conversations be delivered now.

    Because what it waited for is known, or nothing is before it any more. Returns whether there is
    one.
    """
    unfinished = Message.objects.filter(UNFINISHED, conversation__in=list(conversation_ids))
    if not unfinished.exists():
        return False
    now = timezone.now()
    waiting = unfinished.filter(next_attempt_at__gt=now).exclude(decision=policy.WAITING_SCHEDULE)
    waiting.update(next_attempt_at=now)
    queue.wake_senders()
    return True


def with_several_unfinished(conversation_ids: Iterable[int]) -> list[int]:
    """Return those of these conversations that have more than one unfinished message."""
    ids = list(conversation_ids)
    if not ids:
        return []
    unfinished = Message.objects.filter(UNFINISHED, conversation__in=ids).order_by()
    counted = unfinished.values("conversation").annotate(count=Count("pk")).filter(count__gt=1)
    return list(counted.values_list("conversation", flat=True))


def is_claimed_by(message_id: str, worker_id: int | None) -> bool:
    """Return whether the worker may still deliver the message."""
    return Message.objects.filter(pk=message_id, claimed_by=worker_id).exists()


def _alive() -> QuerySet[DeliveryWorker]:
    since = Now() - dt.timedelta(seconds=settings.WORKER_STALLED_SECONDS)
    return DeliveryWorker.objects.filter(seen_at__gt=since)


# The statements of a claim are run for nearly every message, and Django takes far longer to build
# them than PostgreSQL to run them. Therefore each is built once.


@cache
def _lease() -> str:
    return (
        f"SELECT id FROM {DeliveryWorker._meta.db_table}"  # noqa: S608 (the model's own name)
        " WHERE seen_at > statement_timestamp() - %s * interval '1 second' AND id = %s"
        " FOR NO KEY UPDATE"
    )


@cache
def _due(*, waiting: bool) -> tuple[str, list[Any]]:
    """Return the statement that locks due messages, up to a limit, and its other values.

    Of a waiting message, the time until which it waits is compared with `_AT`.
    """
    same = Q(conversation=OuterRef("conversation"))
    earlier = Q(created_at__lt=OuterRef("created_at")) | Q(
        created_at=OuterRef("created_at"), pk__lt=OuterRef("pk")
    )
    before = Message.objects.filter(UNFINISHED, same, earlier | Q(claimed_by__isnull=False))
    state = Q(decision="")
    if waiting:
        # The turn of a message comes with the end of those before it, whatever time it shows.
        state = Q(decision=policy.WAITING_TURN) | (~state & Q(next_attempt_at__lte=_AT))
    due = Message.objects.filter(UNFINISHED, state, ~Exists(before), claimed_by=None)
    ids = due.order_by("created_at", "pk").values_list("pk", flat=True)
    sql, values = ids.query.sql_with_params()
    return f"{sql} LIMIT %s FOR UPDATE SKIP LOCKED", list(values)


def _lock_due(limit: int, waiting_until: dt.datetime | None) -> list[UUID]:
    if limit <= 0:
        return []
    statement, values = _due(waiting=waiting_until is not None)
    return _ids(statement, [*(waiting_until if v == _AT else v for v in values), limit])


def _ids(statement: str, values: Sequence[Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [id_ for (id_,) in cursor.fetchall()]


def _end_claims(messages: QuerySet[Message]) -> int:
    ended = messages.update(claimed_by=None)
    if ended:
        queue.wake_senders()
    return ended
