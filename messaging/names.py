"""What a contact is called: as staff say, else the phone's address book, else the profile. Pure.

`Contact.name` is what is shown. The other names are stored where another one stands before them, so
that events in any order end in the same name.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from messaging.models import Contact

MAX_LENGTH = 200
FIELDS = ("name", "profile_name", "saved_name", "named_by_staff")


def profile_field(contact: Contact) -> str:
    """Return the field that a name from the customer's profile belongs into."""
    return "profile_name" if contact.named_by_staff or contact.saved_name else "name"


def in_address_books(entries: Iterable[tuple[int, dt.datetime, str]]) -> str:
    """Return the name that the address books give: of each the latest entry, of these the latest.

    An entry is an address book, its time and the name, "" if the address was removed from it.
    """
    latest: dict[int, tuple[dt.datetime, str]] = {}
    for book, at, name in entries:
        latest[book] = max(latest.get(book, (at, name)), (at, name))
    named = [(at, name) for at, name in latest.values() if name]
    return max(named)[1] if named else ""


def set_saved(contact: Contact, name: str) -> bool:
    """Set the name of the address books; "" if none has one. Returns whether it is another one."""
    if name == contact.saved_name:
        return False
    if profile_field(contact) == "name":
        contact.profile_name = contact.name
    contact.saved_name = name
    if not contact.named_by_staff:
        contact.name = contact.saved_name or contact.profile_name
    return True


def rename(contact: Contact, name: str) -> None:
    """Give the contact the name that a person entered; "" leaves it to the providers again."""
    name = name.strip()[:MAX_LENGTH]
    if name and profile_field(contact) == "name":
        contact.profile_name = contact.name
    contact.named_by_staff = bool(name)
    contact.name = name or contact.saved_name or contact.profile_name or contact.name


def adopt(contact: Contact, other: Contact, *, saved: str) -> None:
    """Take over the other contact's names, as far as they stand before this one's.

    `saved` is the name that the address books give to the addresses of both.
    """
    profiles = [getattr(one, profile_field(one)) for one in (contact, other)]
    by_staff = [one.name for one in (contact, other) if one.named_by_staff]
    contact.saved_name = saved
    contact.profile_name = next(filter(None, profiles), "")
    contact.named_by_staff = bool(by_staff)
    contact.name = next(filter(None, [*by_staff, contact.saved_name, contact.profile_name]), "")
