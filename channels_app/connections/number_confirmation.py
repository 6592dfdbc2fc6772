"""Records the linked phone of a channel, and a person's confirmation of its number."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from django.db import transaction
from django.utils.translation import gettext as _

from channels_app.connections import linked_numbers
from channels_app.models import Channel
from channels_app.signals import session_changed

log = structlog.get_logger(__name__)


class ConfirmationRefused(Exception):
    """There is nothing to confirm, or the linked number is not the given one."""


def record_linked(channel: Channel, number: str) -> None:
    """Record the number (digits) of the linked phone, or "" for none. In a transaction.

    The caller holds the lock of the channel's row, and `channel` is that row. The first correct
    number counts as confirmed from then on. After "" the next phone's number is unknown until it
    is recorded.
    """
    linked = linked_numbers.canonical(number)
    values: dict[str, str | bool] = {}
    if channel.link_unverified != (not linked):
        values["link_unverified"] = not linked
    if linked != channel.linked_number:
        values["linked_number"] = linked
        # Another phone does not know the ids of messages that this one may have sent.
        values["takes_message_ids"] = False
    if linked:
        known = {"confirmed": channel.confirmed_number, "expected": channel.phone_number}
        is_correct = not linked_numbers.unconfirmed(linked, **known)
        if is_correct and not channel.confirmed_number:
            values["confirmed_number"] = linked
        if channel.kind == Channel.Kind.BAILEYS and not channel.phone_number and is_correct:
            values["phone_number"] = f"+{number}"
    if not values:
        return
    before = channel.linked_number
    _store(channel, values)
    if "linked_number" in values:
        # The cards of other channels show that they share the phone.
        shared = Channel.objects.filter(linked_number__in={before, linked} - {""})
        for other in shared.exclude(pk=channel.pk):
            session_changed.send(sender=Channel, channel=other)


def forget_link(channel: Channel) -> None:
    """Forget the linked phone of a server or session that the channel does not use any more.

    The caller holds the lock of the channel's row, and `channel` is that row.
    """
    record_linked(channel, "")
    _store(channel, {"link_unverified": False})


def confirm(channel: Channel, number: str, *, user_id: int | None) -> None:
    """Record a person's confirmation of the linked number. Raises ConfirmationRefused.

    `number` is the one shown to the person: if another phone was linked meanwhile, nothing is
    confirmed. It becomes the phone number of a Baileys channel, which has no other.
    """
    with transaction.atomic():
        row = Channel.objects.select_for_update(no_key=True).get(pk=channel.pk)
        linked = row.unconfirmed_number
        if not linked:
            raise ConfirmationRefused(_("There is no number to confirm."))
        if not linked_numbers.is_same(linked, number):
            raise ConfirmationRefused(
                _("Another phone was linked in the meantime. Check the number again.")
            )
        values: dict[str, str | bool] = {"confirmed_number": linked}
        if row.kind == Channel.Kind.BAILEYS:
            values["phone_number"] = f"+{linked}"
        _store(row, values)
        session_changed.send(sender=Channel, channel=row)
    for name in ("confirmed_number", "phone_number"):
        setattr(channel, name, getattr(row, name))
    log.warning(
        "linked number confirmed", channel=channel.pk, user=user_id, number=f"…{linked[-4:]}"
    )


def also_linked_at(channel: Channel) -> str:
    """Return the name of another channel that has the same phone linked, or "".

    Runs a query unless the channel was loaded by `extensions.channels`.
    """
    known = getattr(channel, "also_linked", None)
    if known is not None or not channel.linked_number:
        return str(known or "")
    others = Channel.objects.filter(linked_number=channel.linked_number).exclude(pk=channel.pk)
    return others.order_by("name").values_list("name", flat=True).first() or ""


def _store(channel: Channel, values: Mapping[str, str | bool]) -> None:
    Channel.objects.filter(pk=channel.pk).update(**values)
    for name, value in values.items():
        setattr(channel, name, value)
