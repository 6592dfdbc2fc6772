"""Contacts and conversations: look up or create; learn which addresses are one customer's.

Whatever names two addresses together — an event, or the answer to a send — passes through `learn`,
in any order and any number of times. If two contacts turn out to be one, they are merged
(`messaging.merging`). Every query by address uses `ContactAddress.key`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from channels_app.models import Channel
from channels_app.providers import addresses, engines
from channels_app.providers.addresses import Address, Kind
from core import advisory_locks, phone_numbers
from core.text import is_storable
from messaging import merging, names
from messaging.models import Contact, ContactAddress, Conversation, DeliveryAttempt

if TYPE_CHECKING:
    from channels_app.providers.base import Accepted


def conversation_with(
    channel: Channel,
    *,
    phone_number: str = "",
    user_id: str = "",
    also: Iterable[Address] = (),
    name: str = "",
    username: str = "",
    is_current: bool = True,
) -> Conversation:
    """Return the channel's conversation with the customer; create it if there is none.

    All addresses are the same customer's, and are stored as such. `phone_number` is E.164 in any
    spelling, `user_id` a business-scoped id, a LID or a group's address. What an old event says
    (`is_current` False) only fills what is unknown. Safe for concurrent callers. In a transaction
    of the caller's, the conversation stays locked until its end.
    """
    named = addresses.named(phone_number=phone_number, user_id=user_id, also=also)
    with transaction.atomic():
        contact = learn(channel, named, is_current=is_current)
        changes = _description(contact, name=name, username=username, is_current=is_current)
        _store(contact, changes)
        found = _locked().filter(channel=channel, contact=contact).first()
        # Nobody else can create it: the contact is locked.
        return found or Conversation.objects.create(channel=channel, contact=contact)


def lock_conversation_with(
    channel: Channel,
    *,
    phone_number: str = "",
    user_id: str = "",
    also: Iterable[Address] = (),
    name: str = "",
    username: str = "",
    is_current: bool = True,
) -> Conversation:
    """Like `conversation_with`, but locked until the end of the transaction.

    Most messages come from customers of whom everything is stored already: one query. Only then is
    the conversation locked at once. Otherwise its lock follows those of addresses and contacts, as
    in a merge.
    """
    named = addresses.named(phone_number=phone_number, user_id=user_id, also=also)
    known = _locked().filter(_nothing_new(named, name=name, username=username), channel=channel)
    for address in named:
        known = known.filter(contact__addresses__key=address.key)
    if found := list(known.order_by()) if named else []:
        return found[0]
    return conversation_with(
        channel,
        phone_number=phone_number,
        user_id=user_id,
        also=also,
        name=name,
        username=username,
        is_current=is_current,
    )


def _nothing_new(named: Sequence[Address], *, name: str, username: str) -> Q:
    """Return a condition for conversations of which no change of the contact can follow.

    What it excludes may have nothing to change, either: that is found out afterwards.
    """
    contact = Q()
    if number := _first(named, Kind.PHONE):
        contact &= Q(contact__phone_number__in=phone_numbers.spellings(number))
    if user_id := _first(named, Kind.USER_ID):
        contact &= Q(contact__user_id=user_id)
    elif any(address.kind != Kind.PHONE for address in named):
        contact &= Q(contact__user_id__isnull=False)
    if name:
        behind = Q(contact__named_by_staff=True) | ~Q(contact__saved_name="")
        name = name[: names.MAX_LENGTH]
        contact &= Q(contact__name=name) | (behind & Q(contact__profile_name=name))
    if username:
        contact &= Q(contact__username=username[:100])
    return contact


def lock_conversation_of(message_id: str) -> Conversation:
    """Return a message's conversation, locked until the end of the transaction."""
    return Conversation.objects.select_for_update().get(messages__pk=message_id)


def bump(conversation_id: int, at: dt.datetime) -> None:
    """Record that a message of this time was sent, unless the conversation has a later one."""
    earlier = Q(last_message_at=None) | Q(last_message_at__lt=at)
    Conversation.objects.filter(earlier, pk=conversation_id).update(last_message_at=at)


def lock_conversation(conversation: Conversation) -> Conversation:
    """Lock a conversation, or the one that it was joined to, until the end of the transaction."""
    while True:
        locked = Conversation.everything.select_related("contact").select_for_update(of=("self",))
        found = locked.get(pk=conversation.pk)
        if found.merged_into is None:
            return found
        conversation = found.merged_into


def _locked() -> QuerySet[Conversation]:
    return Conversation.objects.select_related("contact").select_for_update(of=("self",))


def find(address: Address) -> Contact | None:
    """Return the contact with this address."""
    owner = ContactAddress.objects.select_related("contact").filter(key=address.key).first()
    if owner is not None:
        return owner.contact
    return _without_addresses([address]).first()


def find_written(text: str) -> Contact:
    """Return the contact with an address that a person entered. Raises ValidationError."""
    try:
        address: Address | None = Address(Kind.PHONE, phone_numbers.normalize(text))
    except ValueError:
        address = addresses.parse(text.strip())
    contact = find(address) if address else None
    if contact is None:
        raise ValidationError({"with": _("There is no contact with this address.")})
    return contact


def address_of(contact: Contact, text: str) -> ContactAddress:
    """Return one of the contact's addresses by its value. Raises ValidationError."""
    for row in contact.addresses.all():
        if text.strip() in (row.value, row.key):
            return row
    raise ValidationError({"address": _("The contact has no such address.")})


def rename(contact: Contact, name: str) -> None:
    """Give a contact the name that a person entered; "" leaves it to the providers again.

    Raises ValidationError.
    """
    if not is_storable(name):
        raise ValidationError({"name": _("The text contains a character that cannot be stored.")})
    names.rename(contact, name)
    contact.save(update_fields=names.FIELDS)


def note_saved_name(
    channel: Channel,
    named: Sequence[Address],
    *,
    name: str,
    username: str = "",
    at: dt.datetime,
) -> None:
    """Note how the business phone's address book calls a customer; "": removed from it.

    The customer may be unknown yet: the contact is created. The caller holds a transaction.
    """
    contact = learn(channel, named, is_current=False)
    changed = ["username"] if username and username != contact.username else []
    contact.username = username or contact.username
    if names.note_saved(contact, name, at):
        changed += names.FIELDS
    if changed:
        contact.save(update_fields=changed)


def ids_with(named: Iterable[Address]) -> list[int]:
    """Return the ids of the contacts that have one of these addresses, in any spelling.

    A query of its own: joined to others, the planner may read whole tables.
    """
    named = list(named)
    owned = ContactAddress.objects.filter(key__in={address.key for address in named})
    found = dict(owned.order_by().values_list("key", "contact_id"))
    ids = set(found.values())
    if missing := [address for address in named if address.key not in found]:
        ids |= set(_without_addresses(missing).values_list("pk", flat=True))
    return sorted(ids)


# -- Learning ------------------------------------------------------------------------------------


def learn(channel: Channel, named: Sequence[Address], *, is_current: bool = True) -> Contact:
    """Store that these addresses are one customer's; return the contact, which may be new.

    If the event is current, the first address of each kind is the one to send to. Contacts that a
    person keeps apart stay so; the one with the first address is returned. The caller holds a
    transaction, in which the addresses and contacts stay locked.
    """
    named = _without_our_own(channel, named)
    _lock_addresses(named)
    owners = _lock_owners(named)
    contact: Contact | None = None
    reason = " = ".join(address.value for address in named)
    for owner in list(dict.fromkeys(chain(*owners.values()))):
        if contact is None:
            contact = owner
        elif not merging.are_kept_apart(contact, owner):
            contact = merging.merge(contact, owner, reason=reason)
            owners = _owners(named)
    contact = contact or _create(named)
    theirs = [one for one in named if contact in owners.get(one.key, [contact])]
    _add_addresses(channel, contact, theirs)
    _store(contact, _current(contact, theirs, is_current=is_current))
    return contact


def learn_pair(channel: Channel, named: Sequence[Address], *, is_current: bool = False) -> None:
    """Store that these addresses are one customer's, whether or not either is known yet.

    One query, and no lock, if that is known. The caller holds a transaction.
    """
    named = _without_our_own(channel, named)
    if len(named) > 1 and not _is_known(named, is_current=is_current):
        learn(channel, named, is_current=is_current)


def _is_known(named: Sequence[Address], *, is_current: bool) -> bool:
    """Return whether `learn` would change nothing."""
    keys = {address.key for address in named}
    rows = ContactAddress.objects.select_related("contact").filter(key__in=keys)
    owners = {row.key: row.contact for row in rows}
    if len(owners) < len(keys) or len(set(owners.values())) > 1:
        return False
    return not _current(owners[named[0].key], named, is_current=is_current)


def learn_from_answer(attempt: DeliveryAttempt, accepted: Accepted) -> None:
    """Store what the answer to a send says about its recipient: another address of the same person.

    The caller holds no transaction. No query if the answer names the address that was sent to.
    """
    named = named_by_answer(attempt, accepted)
    if len(named) > 1:
        with transaction.atomic():
            learn_pair(attempt.message.conversation.channel, named)


def named_by_answer(attempt: DeliveryAttempt, accepted: Accepted) -> tuple[Address, ...]:
    """Return the address that was sent to, and those that the answer names besides."""
    to = address_for(attempt.message.conversation, attempt.connection.provider)
    answered = filter(None, (to, accepted.recipient_id, accepted.lid))
    return addresses.unique(filter(None, map(addresses.of_answer, answered)))


def unknown_pairs(pairs: Iterable[Sequence[Address]]) -> set[frozenset[str]]:
    """Return those pairs, as sets of keys, that are not stored as one contact's. One query."""
    keys = {frozenset(address.key for address in pair) for pair in pairs}
    keys = {pair for pair in keys if len(pair) > 1}
    if not keys:
        return set()
    owned = ContactAddress.objects.filter(key__in=frozenset().union(*keys))
    owners = dict(owned.values_list("key", "contact_id"))
    return {
        pair for pair in keys if not pair <= owners.keys() or len({owners[key] for key in pair}) > 1
    }


def _without_our_own(channel: Channel, named: Sequence[Address]) -> Sequence[Address]:
    """Leave out the channel's own number where an event names it beside a customer's address."""
    own = phone_numbers.key(channel.phone_number) if channel.phone_number else ""
    return [one for one in named if one.key != own] or named


def _lock_addresses(named: Iterable[Address]) -> None:
    """Serialize the transactions that learn about one of these addresses."""
    for key in sorted(address.key for address in named):
        advisory_locks.lock(f"address:{key}")


def _lock_owners(named: Sequence[Address]) -> dict[str, list[Contact]]:
    """Return the contacts that have each of these addresses, locked in the order of their ids."""
    owners = _owners(named)
    while owners:
        merging.lock_contacts({contact.pk for contact in chain(*owners.values())})
        # While this waited for the locks, others may have been merged or split.
        now = _owners(named)
        if now == owners:
            return now
        owners = now
    # A new customer: nobody else can create one while the addresses are locked.
    return owners


def _owners(named: Sequence[Address]) -> dict[str, list[Contact]]:
    """Return the contacts that have each address, in the order in which they are named.

    There may be several of one number only where an earlier version took its spellings for
    different numbers.
    """
    stored = ContactAddress.objects.select_related("contact").filter(
        key__in=[address.key for address in named]
    )
    by_key = {row.key: [row.contact] for row in stored}
    missing = [address for address in named if address.key not in by_key]
    if missing:
        for contact in _without_addresses(missing):
            for address in addresses.named(
                phone_number=contact.phone_number or "", user_id=contact.user_id or ""
            ):
                if address.key in {one.key for one in missing}:
                    by_key.setdefault(address.key, []).append(contact)
    return {address.key: by_key[address.key] for address in named if address.key in by_key}


def _without_addresses(named: Sequence[Address]) -> QuerySet[Contact]:
    """Return the contacts of earlier versions that share a number's spellings (migration 0011)."""
    numbers = [
        spelling
        for address in named
        if address.kind == Kind.PHONE
        for spelling in phone_numbers.spellings(address.value)
    ]
    values = [address.value for address in named if address.kind != Kind.PHONE]
    return Contact.objects.filter(
        Q(phone_number__in=numbers) | Q(user_id__in=values), merged_into=None
    ).order_by("pk")


def _create(named: Sequence[Address]) -> Contact:
    number = _first(named, Kind.PHONE)
    kinds = (Kind.USER_ID, Kind.PARENT_USER_ID, Kind.LID, Kind.GROUP)
    user_id = next(filter(None, (_first(named, kind) for kind in kinds)), "")
    return Contact.objects.create(phone_number=number or None, user_id=user_id or None)


def _add_addresses(channel: Channel, contact: Contact, named: Iterable[Address]) -> None:
    of_business = (Kind.USER_ID, Kind.PARENT_USER_ID)
    ContactAddress.objects.bulk_create(
        [
            ContactAddress(
                contact=contact,
                kind=address.kind.value,
                value=address.value,
                key=address.key,
                scope=_account(channel) if address.kind in of_business else "",
            )
            for address in named
        ],
        ignore_conflicts=True,
    )


def _store(contact: Contact, changes: dict[str, str]) -> None:
    for field, value in changes.items():
        setattr(contact, field, value)
    if changes:
        contact.save(update_fields=list(changes))


def _current(contact: Contact, named: Sequence[Address], *, is_current: bool) -> dict[str, str]:
    """Return the changes of what is shown and sent to: what was named last, if that is current."""
    number, user_id = _first(named, Kind.PHONE), _first(named, Kind.USER_ID)
    changes: dict[str, str] = {}
    if number and phone_numbers.key(contact.phone_number or "") != phone_numbers.key(number):
        changes["phone_number"] = number
    if not user_id and not contact.user_id:
        kinds = (Kind.PARENT_USER_ID, Kind.LID, Kind.GROUP)
        user_id = next(filter(None, (_first(named, kind) for kind in kinds)), "")
    if user_id and user_id != contact.user_id:
        changes["user_id"] = user_id
    if not is_current:
        return {field: value for field, value in changes.items() if not getattr(contact, field)}
    return changes


def _first(named: Iterable[Address], kind: Kind) -> str:
    return next((address.value for address in named if address.kind == kind), "")


def _description(contact: Contact, *, name: str, username: str, is_current: bool) -> dict[str, str]:
    """Return the changes of username and name in the profile: they follow the provider's."""
    name, username = name[: names.MAX_LENGTH], username[:100]
    changes = {}
    field = names.profile_field(contact)
    if name and name != getattr(contact, field):
        changes[field] = name
    if username and username != contact.username:
        changes["username"] = username
    if not is_current:
        return {field: value for field, value in changes.items() if not getattr(contact, field)}
    return changes


# -- Sending -------------------------------------------------------------------------------------


def address_for(conversation: Conversation, provider: str) -> str:
    """Return the address of the customer to send to through a provider.

    The phone number if it is known: every route can send to it. Otherwise a user id for the
    official API, preferably one of the channel's business account, and a LID for any other route.
    If there is none, the provider gets what is shown, and rejects it.
    """
    contact = conversation.contact
    if contact.phone_number:
        return contact.phone_number
    stored = list(contact.addresses.all())
    return pick_address(stored, conversation.channel, provider) or contact.user_id or ""


def pick_address(stored: Sequence[ContactAddress], channel: Channel, provider: str) -> str:
    """Return the address for a provider among those of a contact without a number, or ""."""
    kinds = engines.by_name(provider).capabilities.address_kinds
    account = _account(channel)
    # The latest of the channel's own account first. Only ids of a business have an account.
    ranked = sorted(
        (row for row in stored if row.kind in kinds),
        key=lambda row: (row.scope == account, -kinds.index(Kind(row.kind)), row.pk),
    )
    return ranked[-1].value if ranked else ""


def _account(channel: Channel) -> str:
    """Return the business account whose ids of customers the channel reports."""
    return (channel.business_account_id or f"channel:{channel.pk}")[:64]
