"""What a contact is called: as staff say, else the phone's address book, else the profile. Pure.

`Contact.name` is what is shown. The other names are stored where another one stands before them, so
that events in any order end in the same name.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from messaging.models import Contact

MAX_LENGTH = 200
FIELDS = ("name", "profile_name", "saved_name", "saved_name_at", "named_by_staff")


def profile_field(contact: Contact) -> str:
    """Return the field that a name from the customer's profile belongs into."""
    return "profile_name" if contact.named_by_staff or contact.saved_name else "name"


def note_saved(contact: Contact, name: str, at: dt.datetime) -> bool:
    """Note the name in the address book, "" if the contact was removed from it.

    Returns whether this is later than what is known; otherwise nothing changes.
    """
    before = contact.saved_name_at
    if before is not None and (at, name) <= (before, contact.saved_name):
        return False
    if profile_field(contact) == "name":
        contact.profile_name = contact.name
    contact.saved_name, contact.saved_name_at = name[:MAX_LENGTH], at
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


def adopt(contact: Contact, other: Contact) -> None:
    """Take over the other contact's names, as far as they stand before this one's."""
    profiles = [getattr(one, profile_field(one)) for one in (contact, other)]
    books = [one for one in (contact, other) if one.saved_name_at is not None]
    by_staff = [one.name for one in (contact, other) if one.named_by_staff]
    if books:
        latest = max(books, key=lambda one: (one.saved_name_at, one.saved_name))
        contact.saved_name, contact.saved_name_at = latest.saved_name, latest.saved_name_at
    contact.profile_name = next(filter(None, profiles), "")
    contact.named_by_staff = bool(by_staff)
    contact.name = next(filter(None, [*by_staff, contact.saved_name, contact.profile_name]), "")


def give_back(contact: Contact, other: Contact) -> bool:
    """Undo `adopt`: return whether the contact had the other one's name of the address book."""
    if other.saved_name_at is None or contact.saved_name_at != other.saved_name_at:
        return False
    contact.saved_name, contact.saved_name_at = "", None
    if not contact.named_by_staff:
        contact.name = contact.profile_name
    return True
