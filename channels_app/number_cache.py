"""Cache of number look-ups: the chat ID under which WhatsApp knows a number."""

from __future__ import annotations

import datetime as dt

import structlog
from django.db import Error as DatabaseError
from django.db import transaction
from django.utils import timezone

from channels_app.models import Channel, ResolvedNumber

log = structlog.get_logger(__name__)

# People leave WhatsApp and may return with the other form of their number.
GOOD_FOR = dt.timedelta(days=7)


def lookup(channel: Channel, number: str) -> str | None:
    """Return the chat ID of a recently looked-up number, else None. Never raises.

    Always None for a channel that is not stored.
    """
    if channel.pk is None:
        return None
    try:
        with transaction.atomic():
            found = ResolvedNumber.objects.filter(
                channel_id=channel.pk, number=number, found_at__gt=timezone.now() - GOOD_FOR
            )
            return found.values_list("chat_id", flat=True).first()
    except DatabaseError as error:
        _log_failure(error)
        return None


def remember(channel: Channel, number: str, chat_id: str) -> None:
    """Store the result of a look-up. Never raises: the send does not depend on it."""
    if channel.pk is None or len(number) > 20:
        return
    try:
        with transaction.atomic():
            ResolvedNumber.objects.update_or_create(
                channel_id=channel.pk,
                number=number,
                defaults={"chat_id": chat_id, "found_at": timezone.now()},
            )
    except DatabaseError as error:
        _log_failure(error)


def lid_of(channel: Channel, number: str) -> str:
    """Return WhatsApp's hidden ID (`…@lid`) of a number, or "" if unknown. Never raises."""
    if channel.pk is None:
        return ""
    try:
        with transaction.atomic():
            found = ResolvedNumber.objects.filter(channel_id=channel.pk, number=number)
            return found.values_list("lid", flat=True).first() or ""
    except DatabaseError as error:
        _log_failure(error)
        return ""


def note_lid(channel: Channel, number: str, lid: str) -> None:
    """Store the hidden ID from the response to a send to a cached number. Never raises."""
    if channel.pk is None or not lid:
        return
    try:
        with transaction.atomic():
            rows = ResolvedNumber.objects.filter(channel_id=channel.pk, number=number)
            rows.exclude(lid=lid).update(lid=lid)
    except DatabaseError as error:
        _log_failure(error)


def forget(channel: Channel, number: str) -> None:
    """Delete the cached entry of a number that proved wrong. Never raises."""
    if channel.pk is None:
        return
    try:
        with transaction.atomic():
            ResolvedNumber.objects.filter(channel_id=channel.pk, number=number).delete()
    except DatabaseError as error:
        _log_failure(error)


def _log_failure(error: Exception) -> None:
    log.warning("number cache unavailable", error=type(error).__name__)
