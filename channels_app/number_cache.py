"""Cache of number look-ups: the chat ID under which WhatsApp knows a number."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from typing import Any

import structlog
from django.db import Error as DatabaseError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from channels_app.models import Connection, ResolvedNumber

log = structlog.get_logger(__name__)

# People leave WhatsApp and may return with the other form of their number.
GOOD_FOR = dt.timedelta(days=7)


class NumberCache:
    """The look-ups of one connection. Nothing here raises: no send depends on it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lookup(self, number: str) -> str | None:
        """Return the chat ID of a recently looked-up number, else None."""
        found = self._read(number, "chat_id", found_at__gt=timezone.now() - GOOD_FOR)
        return found or None

    def remember(self, number: str, chat_id: str) -> None:
        """Store the result of a look-up."""
        if self._connection.pk is None or len(number) > 20:
            return
        with _logging_failures(), transaction.atomic():
            ResolvedNumber.objects.update_or_create(
                connection=self._connection,
                number=number,
                defaults={"chat_id": chat_id, "found_at": timezone.now()},
            )

    def forget(self, number: str) -> None:
        """Delete the entry of a number that proved wrong."""
        with _logging_failures(), self._savepoint():
            self._rows(number).delete()

    def lid_of(self, number: str) -> str:
        """Return WhatsApp's hidden ID (`…@lid`) of a number, or "" if unknown."""
        return self._read(number, "lid")

    def note_lid(self, number: str, lid: str) -> None:
        """Store the hidden ID from the response to a send to a cached number."""
        if lid:
            with _logging_failures(), self._savepoint():
                self._rows(number).exclude(lid=lid).update(lid=lid)

    def _rows(self, number: str, **facts: Any) -> QuerySet[ResolvedNumber]:
        rows = ResolvedNumber.objects
        if self._connection.pk is None:
            # The settings of a form that was not saved.
            return rows.none()
        return rows.filter(connection_id=self._connection.pk, number=number, **facts)

    def _read(self, number: str, field: str, **facts: Any) -> str:
        with _logging_failures(), self._savepoint():
            return self._rows(number, **facts).values_list(field, flat=True).first() or ""
        return ""

    def _savepoint(self) -> contextlib.AbstractContextManager[object]:
        """Keep the caller's transaction usable after an error."""
        return transaction.atomic() if self._connection.pk else contextlib.nullcontext()


@contextlib.contextmanager
def _logging_failures() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        log.warning("number cache unavailable", error=type(error).__name__)
