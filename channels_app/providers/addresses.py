"""The addresses by which providers name a customer. Pure.

One customer has several: phone numbers, Meta's business-scoped user ids and parent ids
(docs/providers/cloud.md §10.1), and WhatsApp's own hidden ids, the LIDs. A username is none of
them: it can be given to somebody else.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass

from core import phone_numbers

_USER_ID = re.compile(r"[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}")
_LID = re.compile(r"[0-9]{1,32}@lid")
_NUMBER = re.compile(r"\+[0-9]{4,19}")
MAX_LENGTH = 150


class Kind(enum.StrEnum):
    """What an address is."""

    PHONE = "phone"
    USER_ID = "user_id"
    PARENT_USER_ID = "parent_user_id"
    LID = "lid"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class Address:
    """One address. `value` is as the provider reported it; a phone number is E.164 with the plus.

    `key` is equal for all spellings of one phone number. Keys of different kinds differ by their
    form.
    """

    kind: Kind
    value: str

    @property
    def key(self) -> str:
        return phone_numbers.key(self.value) if self.kind == Kind.PHONE else self.value


def named(
    *, phone_number: str = "", user_id: str = "", also: Iterable[Address] = ()
) -> tuple[Address, ...]:
    """Return the addresses that an event names, each once, the one to answer to first.

    `user_id` is a business-scoped id, a LID or a group's address: their form says which.
    """
    found = [Address(Kind.PHONE, phone_number)] if phone_number else []
    if user_id:
        found.append(Address(_kind_of(user_id), user_id))
    return unique([*found, *also])


def _kind_of(user_id: str) -> Kind:
    if is_group(user_id):
        return Kind.GROUP
    return Kind.LID if _LID.fullmatch(user_id) else Kind.USER_ID


def unique(addresses: Iterable[Address]) -> tuple[Address, ...]:
    """Return each address once, in the spelling that comes first."""
    found: dict[str, Address] = {}
    for address in addresses:
        found.setdefault(address.key, address)
    return tuple(found.values())


def parse(text: str) -> Address | None:
    """Return the address with exactly this form, None for any other text."""
    if _NUMBER.fullmatch(text):
        return Address(Kind.PHONE, text)
    if _LID.fullmatch(text):
        return Address(Kind.LID, text)
    if match := _USER_ID.fullmatch(text):
        return Address(Kind.PARENT_USER_ID if match[1] else Kind.USER_ID, text)
    return None


def is_user_id(text: str) -> bool:
    """Whether this is a business-scoped user id or parent id, which only the Cloud API knows."""
    return bool(_USER_ID.fullmatch(text))


def is_lid(text: str) -> bool:
    """Whether this is a LID, which only a linked phone knows."""
    return bool(_LID.fullmatch(text))


def is_group(text: str) -> bool:
    """Whether this is the address of a group."""
    return text.endswith("@g.us")


def of_answer(text: str | None) -> Address | None:
    """Return the person whom a provider's answer names: by a user id, a JID, or a number."""
    user, _, server = (text or "").partition("@")
    user = user.partition(":")[0]
    if server in ("", "s.whatsapp.net", "c.us") and user.removeprefix("+").isdecimal():
        return parse(f"+{user.removeprefix('+')}")
    return parse(f"{user}@{server}" if server else user)
