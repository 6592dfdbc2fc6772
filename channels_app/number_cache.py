"""Remembered look-ups: under which chat id WhatsApp knows a number."""

from __future__ import annotations

import datetime as dt

import structlog
from django.db import Error as DatabaseProblem
from django.db import transaction
from django.utils import timezone

from channels_app.models import Channel, ResolvedNumber

log = structlog.get_logger(__name__)

# People leave WhatsApp, and come back with the other form of their number.
GOOD_FOR = dt.timedelta(days=7)


def lookup(channel: Channel, number: str) -> str | None:
    """Return the chat id of a number that was looked up lately, else None. Never raises.

    Without a stored channel nothing is known.
    """
    if channel.pk is None:
        return None
    try:
        with transaction.atomic():
            found = ResolvedNumber.objects.filter(
                channel_id=channel.pk, number=number, found_at__gt=timezone.now() - GOOD_FOR
            )
            return found.values_list("chat_id", flat=True).first()
    except DatabaseProblem as error:
        _complain(error)
        return None


def remember(channel: Channel, number: str, chat_id: str) -> None:
    """Keep what a look-up told. Never raises: the send goes on without."""
    if channel.pk is None or len(number) > 20:
        return
    try:
        with transaction.atomic():
            ResolvedNumber.objects.update_or_create(
                channel_id=channel.pk,
                number=number,
                defaults={"chat_id": chat_id, "found_at": timezone.now()},
            )
    except DatabaseProblem as error:
        _complain(error)


def lid_of(channel: Channel, number: str) -> str:
    """Return WhatsApp's hidden id (`…@lid`) of a number, "" where it is not known. Never raises."""
    if channel.pk is None:
        return ""
    try:
        with transaction.atomic():
            found = ResolvedNumber.objects.filter(channel_id=channel.pk, number=number)
            return found.values_list("lid", flat=True).first() or ""
    except DatabaseProblem as error:
        _complain(error)
        return ""


def note_lid(channel: Channel, number: str, lid: str) -> None:
    """Store the hidden id that a send to a remembered number named. Never raises."""
    if channel.pk is None or not lid:
        return
    try:
        with transaction.atomic():
            known = ResolvedNumber.objects.filter(channel_id=channel.pk, number=number)
            known.exclude(lid=lid).update(lid=lid)
    except DatabaseProblem as error:
        _complain(error)


def forget(channel: Channel, number: str) -> None:
    """Drop what is remembered of a number: it did not hold. Never raises."""
    if channel.pk is None:
        return
    try:
        with transaction.atomic():
            ResolvedNumber.objects.filter(channel_id=channel.pk, number=number).delete()
    except DatabaseProblem as error:
        _complain(error)


def _complain(error: Exception) -> None:
    log.warning("known numbers are out of reach", error=type(error).__name__)
