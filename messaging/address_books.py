"""How the address books of the business's phones call the customers.

An entry belongs to an address book, which is that of a channel's phone, and to an address. So a
merge, its undo and a number that passes to somebody else need no more than to look again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from channels_app.models import Channel
from channels_app.providers.addresses import Address
from messaging import names
from messaging.models import AddressBookEntry, Contact


def note(channel: Channel, named: Iterable[Address], *, name: str, at: dt.datetime) -> None:
    """Store how the channel's address book calls these addresses; "": not any more.

    What is known from a later time stays. The caller has locked the addresses.
    """
    name = name[: names.MAX_LENGTH]
    rows = {one.key: AddressBookEntry(channel=channel, key=one.key, name=name, at=at)
            for one in named}  # fmt: skip
    known = AddressBookEntry.objects.filter(channel=channel, key__in=rows)
    for key, since, before in known.values_list("key", "at", "name"):
        if (since, before) >= (at, name):
            del rows[key]
    AddressBookEntry.objects.bulk_create(
        rows.values(),
        update_conflicts=True,
        unique_fields=["channel", "key"],
        update_fields=["name", "at"],
    )


def name_of(contact: Contact) -> str:
    """Return the name that the address books give to the contact's addresses, or ""."""
    entries = AddressBookEntry.objects.filter(key__in=contact.addresses.values("key"))
    return names.in_address_books(entries.values_list("channel_id", "at", "name"))


def refresh(contact: Contact) -> None:
    """Give a contact, which is locked, the name of the address books after a change."""
    if names.set_saved(contact, name_of(contact)):
        contact.save(update_fields=names.FIELDS)
