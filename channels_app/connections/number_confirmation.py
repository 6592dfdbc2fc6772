"""Records the linked phone of a channel, and a person's confirmation of its number."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from django.db import transaction
from django.utils.translation import gettext as _

from channels_app.connections import linked_numbers
from channels_app.models import Channel, Connection
from channels_app.signals import session_changed

log = structlog.get_logger(__name__)


class ConfirmationRefused(Exception):
    """There is nothing to confirm, or the linked number is not the given one."""


def record_linked(connection: Connection, number: str) -> None:
    """Record the number (digits) of the linked phone, or "" for none. In a transaction.

    The caller holds the lock of the connection's row, and `connection` is that row. The first
    correct number counts as confirmed from then on. After "" the next phone's number is unknown
    until it is recorded.
    """
    linked, channel = linked_numbers.canonical(number), connection.channel
    values: dict[str, str | bool] = {}
    if linked != connection.linked_number:
        values["linked_number"] = linked
        # Another phone does not know the ids of messages that this one may have sent.
        values["takes_message_ids"] = False
    if linked:
        known = {"confirmed": connection.confirmed_number, "expected": channel.phone_number}
        is_correct = not linked_numbers.unconfirmed(linked, **known)
        if is_correct and not connection.confirmed_number:
            values["confirmed_number"] = linked
        if connection.is_primary and not channel.phone_number and is_correct:
            _set_phone_number(channel, f"+{number}")
    if not values:
        return
    before = connection.linked_number
    _store(connection, values)
    if "linked_number" in values:
        # The cards of other channels show that they share the phone.
        shared = Channel.objects.filter(connections__linked_number__in={before, linked} - {""})
        for other in shared.exclude(pk=channel.pk).distinct():
            session_changed.send(sender=Channel, channel=other)


def confirm(channel: Channel, provider: str, number: str, *, user_id: int | None) -> None:
    """Record a person's confirmation of the linked number. Raises ConfirmationRefused.

    `number` is the one shown to the person: if another phone was linked meanwhile, nothing is
    confirmed. It becomes the phone number of a Baileys channel, which has no other.
    """
    with transaction.atomic():
        row = Connection.objects.lock(channel.pk, provider)
        linked = row.unconfirmed_number if row is not None else ""
        if row is None or not linked:
            raise ConfirmationRefused(_("There is no number to confirm."))
        if not linked_numbers.is_same(linked, number):
            raise ConfirmationRefused(
                _("Another phone was linked in the meantime. Check the number again.")
            )
        _store(row, {"confirmed_number": linked})
        if row.is_primary:
            _set_phone_number(row.channel, f"+{linked}")
            channel.phone_number = row.channel.phone_number
        session_changed.send(sender=Channel, channel=row.channel)
    log.warning(
        "linked number confirmed", channel=channel.pk, user=user_id, number=f"…{linked[-4:]}"
    )


def also_linked_at(connection: Connection) -> str:
    """Return the name of another channel that has the same phone linked, or "".

    Runs a query unless the channel was loaded by `extensions.channels`.
    """
    known = getattr(connection.channel, "also_linked", None)
    if known is not None or not connection.linked_number:
        return str(known or "")
    others = Channel.objects.filter(connections__linked_number=connection.linked_number)
    others = others.exclude(pk=connection.channel_id)
    return others.order_by("name").values_list("name", flat=True).first() or ""


def _set_phone_number(channel: Channel, number: str) -> None:
    Channel.objects.filter(pk=channel.pk).update(phone_number=number)
    channel.phone_number = number


def _store(connection: Connection, values: Mapping[str, str | bool]) -> None:
    Connection.objects.filter(pk=connection.pk).update(**values)
    for name, value in values.items():
        setattr(connection, name, value)
