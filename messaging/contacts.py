"""Contacts and conversations: look up or create; learn which addresses are one customer's.

Whatever names two addresses together — an event, or the answer to a send — passes through `learn`,
in any order and any number of times. If two contacts turn out to be one, they are merged
(`messaging.merging`). Every query by address uses `ContactAddress.key`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Max, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_app.models import Channel
from channels_app.providers import addresses, engines
from channels_app.providers.addresses import Address, Kind
from core import advisory_locks, phone_numbers
from core.text import is_storable
from messaging import address_books, merging, names
from messaging.models import Contact, ContactAddress, Conversation, DeliveryAttempt

if TYPE_CHECKING:
    from channels_app.providers.base import Accepted

# Why nothing is sent to a contact with `address_given_up`: a code of `error_codes`.
GIVEN_UP = "address_given_up"


def conversation_with(
    channel: Channel,
    *,
    phone_number: str = "",
    user_id: str = "",
    also: Iterable[Address] = (),
    name: str = "",
    username: str = "",
    is_current: bool = True,
    at: dt.datetime | None = None,
    former: Collection[Address] = (),
) -> Conversation:
    """Return the channel's conversation with the customer; create it if there is none.

    All addresses are the same customer's, and are stored as such. `phone_number` is E.164 in any
    spelling, `user_id` a business-scoped id, a LID or a group's address. What an old event says
    (`is_current` False, or a time before what is known) only fills what is unknown. Safe for
    concurrent callers. In a transaction of the caller's, the conversation stays locked until its
    end. See `learn` for `at` and `former`.
    """
    named = addresses.named(phone_number=phone_number, user_id=user_id, also=also)
    with transaction.atomic():
        contact = learn(channel, named, is_current=is_current, at=at, former=former)
        found = _locked().filter(channel=channel, contact=contact).first()
        if found is not None and at is not None and found.last_inbound_at is not None:
            is_current = is_current and at >= found.last_inbound_at
        changes = _description(contact, name=name, username=username, is_current=is_current)
        _store(contact, changes)
        if found is not None:
            found.contact = contact
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
    at: dt.datetime | None = None,
    former: Collection[Address] = (),
) -> Conversation:
    """Like `conversation_with`, but locked until the end of the transaction.

    Most messages come from customers of whom everything is stored already: one query. Only then is
    the conversation locked at once. Otherwise its lock follows those of addresses and contacts, as
    in a merge.
    """
    named = addresses.named(phone_number=phone_number, user_id=user_id, also=also)
    known = _locked().filter(
        _nothing_new(named, name=name, username=username),
        channel=channel,
        contact__address_given_up=False,
    )
    for address in named:
        known = known.filter(contact__addresses__key=address.key)
    if found := list(known.order_by()) if named and not former else []:
        return found[0]
    return conversation_with(
        channel,
        phone_number=phone_number,
        user_id=user_id,
        also=also,
        name=name,
        username=username,
        is_current=is_current,
        at=at,
        former=former,
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
    creates: bool,
) -> None:
    """Note how the phone's address book calls a customer; "": removed from it.

    With `creates` an unknown customer becomes a contact, unless it was removed. The caller holds a
    transaction.
    """
    _lock_addresses(named)
    known = ids_with(named)
    if creates and (known or name):
        known = [learn(channel, named, is_current=False).pk]
    if known or creates:
        address_books.note(channel, named, name=name, at=at)
    for contact in merging.lock_contacts(known):
        if username and username != contact.username:
            contact.username = username
            contact.save(update_fields=["username"])
        address_books.refresh(contact)


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


def learn(
    channel: Channel,
    named: Sequence[Address],
    *,
    is_current: bool = True,
    at: dt.datetime | None = None,
    former: Collection[Address] = (),
) -> Contact:
    """Store that these addresses are one customer's; return the contact, which may be new.

    If the event is current, the first address of each kind is the one to send to, unless a later
    event named another one. `at` is its time; without one, nothing is sent again to what the
    customer gave up. `former` are those of the addresses that the customer gave up by this event.
    Who is named later by a number that was given up, without an id that the former owner has, is
    somebody else: WhatsApp passes numbers on. Contacts that a person keeps apart stay so; the one
    with the first address is returned. The caller holds a transaction, in which the addresses and
    contacts stay locked.
    """
    named = _without_our_own(channel, named)
    _lock_addresses(named)
    owners = _lock_owners(named)
    if at is not None and not former and _release(named, owners, at):
        owners = _owners(named)
    if len(set(chain(*owners.values()))) > 1 and (passed_on := _passed_on(named)):
        named = [one for one in named if one.key not in passed_on]
        owners = {key: found for key, found in owners.items() if key not in passed_on}
    found = list(dict.fromkeys(chain(*owners.values())))
    _confirm(found, named)
    contact: Contact | None = None
    reason = " = ".join(address.value for address in named)
    for owner in found:
        if contact is None:
            contact = owner
        elif not merging.are_kept_apart(contact, owner):
            contact = merging.merge(contact, owner, reason=reason)
            owners = _owners(named)
    is_new = contact is None
    contact = contact or _create(named)
    theirs = [one for one in named if contact in owners.get(one.key, [contact])]
    _add_addresses(channel, contact, theirs)
    if not is_new and any(one.key not in owners for one in theirs):
        address_books.refresh(contact)
    _settle(contact, named, is_current=is_current, at=at, former=former)
    return contact


def learn_pair(
    channel: Channel,
    named: Sequence[Address],
    *,
    is_current: bool = False,
    at: dt.datetime | None = None,
    former: Collection[Address] = (),
) -> None:
    """Store that these addresses are one customer's, whether or not either is known yet.

    One query, and no lock, if that is known. The caller holds a transaction.
    """
    named = _without_our_own(channel, named)
    if len(named) > 1 and not _is_known(named, is_current=is_current, at=at, former=former):
        learn(channel, named, is_current=is_current, at=at, former=former)


def _is_known(
    named: Sequence[Address],
    *,
    is_current: bool,
    at: dt.datetime | None,
    former: Collection[Address],
) -> bool:
    """Return whether `learn` would change nothing."""
    keys = {address.key for address in named}
    stored = ContactAddress.objects.select_related("contact").filter(key__in=keys)
    rows = {row.key: row for row in stored}
    owners = {row.contact for row in rows.values()}
    if len(rows) < len(keys) or len(owners) > 1:
        return False
    retired = [rows[one.key].retired_at for one in former]
    if not all(since is not None and (at is None or since >= at) for since in retired):
        return False
    if _numbers_of_retired_ids([rows[one.key] for one in named]):
        return False
    [contact] = owners
    shown = {phone_numbers.key(contact.phone_number or ""), contact.user_id}
    return not is_current or all(
        row.key in shown
        or (row.is_retired if at is None else row.named_at is not None and row.named_at >= at)
        for row in (rows[one.key] for one in _answered_to(named, former))
        if row.kind in (Kind.PHONE, Kind.USER_ID)
    )


def _release(named: Sequence[Address], owners: dict[str, list[Contact]], at: dt.datetime) -> bool:
    """Take numbers from customers who gave them up before this event, which names somebody else.

    Returns whether there are any.
    """
    ids = [one.key for one in named if one.kind != Kind.PHONE]
    theirs = list(chain(*(owners.get(key, []) for key in ids)))
    numbers = [one.key for one in named if one.kind == Kind.PHONE and one.key in owners]
    if all(owners[key][0] in theirs for key in numbers):
        return False
    given_up = [
        row
        for row in ContactAddress.objects.select_related("contact").filter(key__in=numbers)
        if row.contact not in theirs
        and row.is_retired
        and row.retired_at is not None
        and row.retired_at < at
        and row.contact.addresses.exclude(pk=row.pk).exists()
    ]
    for row in given_up:
        merging.give_up(row.contact, row, to=next(iter(theirs), None))
    return bool(given_up)


def _passed_on(named: Sequence[Address]) -> set[str]:
    """Return the keys of numbers that somebody else has had since a customer gave them up.

    An event from before then still names them together with the customer's former id.
    """
    stored = ContactAddress.objects.select_related("contact")
    rows = list(stored.filter(key__in=[one.key for one in named]))
    ids = [row for row in rows if row.kind == Kind.USER_ID and row.is_retired]
    return {
        row.key
        for row in rows
        for former in ids
        if row.kind == Kind.PHONE
        and row.contact != former.contact
        and row.named_at is not None
        and former.retired_at is not None
        and row.named_at > former.retired_at
    }


def _confirm(found: Sequence[Contact], named: Sequence[Address]) -> None:
    """Note until when each contact is known to have used what is shown, if others are named.

    A message from the address that is shown stores no time, for speed.
    """
    for contact in found:
        shown = {phone_numbers.key(contact.phone_number or ""), contact.user_id or ""} - {""}
        kinds = (Kind.PHONE, Kind.USER_ID)
        if {one.key for one in named if one.kind in kinds} <= shown and len(found) == 1:
            continue
        written = contact.conversations.aggregate(at=Max("last_inbound_at"))["at"]
        if written is not None:
            earlier = Q(named_at=None) | Q(named_at__lt=written)
            alive = Q(retired_at=None) | Q(retired_at__lt=F("named_at"))
            rows = ContactAddress.objects.filter(earlier, alive, contact=contact, key__in=shown)
            rows.update(named_at=written)


def _settle(
    contact: Contact,
    named: Sequence[Address],
    *,
    is_current: bool,
    at: dt.datetime | None,
    former: Collection[Address],
) -> None:
    """Store which addresses an event names as current and as former, and what follows from it."""
    rows = {row.key: row for row in contact.addresses.all()}
    before = {key: _times(row) for key, row in rows.items()}
    for one in addresses.named(
        phone_number=contact.phone_number or "", user_id=contact.user_id or ""
    ):
        # A contact of an earlier version may have no row of it.
        rows.setdefault(one.key, ContactAddress(kind=one.kind, value=one.value, key=one.key))
    current = [rows[one.key] for one in _answered_to(named, former) if one.key in rows]
    for row in current if is_current else []:
        if at is not None or not row.is_retired:
            row.named_at = _later(row.named_at, at or timezone.now())
    if former:
        since = at or timezone.now()
        gone = [rows[one.key] for one in former if one.key in rows]
        if not any(row.kind == Kind.PHONE for row in (*current, *gone)):
            # A new id is that of a new number (docs/providers/cloud.md §10.1.1), which is hidden.
            gone += [
                row
                for row in rows.values()
                if row.kind == Kind.PHONE and (row.named_at is None or row.named_at < since)
            ]
        for row in gone:
            row.retired_at = _later(row.retired_at, since)
    for row, since in _numbers_of_retired_ids([rows[one.key] for one in named if one.key in rows]):
        row.retired_at = _later(row.retired_at, since)
    changed = [rows[key] for key, times in before.items() if _times(rows[key]) != times]
    if changed:
        ContactAddress.objects.bulk_update(changed, ["named_at", "retired_at"])
    if fields := merging.set_current(contact, rows.values()):
        contact.save(update_fields=fields)


def _answered_to(named: Sequence[Address], former: Collection[Address]) -> list[Address]:
    """Return the first address of each kind that the customer has not given up."""
    gone = {one.key for one in former}
    first: dict[Kind, Address] = {}
    for one in named:
        if one.key not in gone:
            first.setdefault(one.kind, one)
    return list(first.values())


def _numbers_of_retired_ids(
    rows: Sequence[ContactAddress],
) -> list[tuple[ContactAddress, dt.datetime]]:
    """Return the numbers among these addresses, named together, that went with a former id."""
    ids = [row for row in rows if row.kind == Kind.USER_ID]
    since = max((row.retired_at for row in ids if row.retired_at and row.is_retired), default=None)
    if since is None:
        return []
    return [
        (row, since)
        for row in rows
        if row.kind == Kind.PHONE
        and (row.named_at is None or row.named_at < since)
        and (row.retired_at is None or row.retired_at < since)
    ]


def _times(row: ContactAddress) -> tuple[dt.datetime | None, dt.datetime | None]:
    return row.named_at, row.retired_at


def _later(one: dt.datetime | None, other: dt.datetime) -> dt.datetime:
    return other if one is None else max(one, other)


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

    Never one that the customer gave up, unless there is no other (`Contact.address_given_up`); then
    a send refuses it. The phone number if it is known: every route can send to it. Otherwise a user
    id for the official API, preferably one of the channel's business account, and a LID for any
    other route. If there is none, the provider gets what is shown, and rejects it.
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
    # Those of the channel's own account last. Only ids of a business have an account.
    ranked = sorted(
        (row for row in stored if row.kind in kinds and not row.is_retired),
        key=lambda row: (
            row.scope == account,
            -kinds.index(Kind(row.kind)),
            row.value == row.contact.user_id,
            row.pk,
        ),
    )
    return ranked[-1].value if ranked else ""


def _account(channel: Channel) -> str:
    """Return the business account whose ids of customers the channel reports."""
    return (channel.business_account_id or f"channel:{channel.pk}")[:64]
