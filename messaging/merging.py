"""Merge two contacts that are one customer, and undo it.

A merge deletes nothing. The later contact and those of its conversations that were joined to
another one stay as empty rows that lead to where everything went (`merged_into`); their messages
and calls name the conversation from which they came (`merged_from`). So an undo can take back
exactly what was joined, in whatever order several merges are undone.

Contacts are locked in the order of their ids, then conversations in the order of theirs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import F, Max, Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from channels_app.models import Provider
from channels_app.providers import addresses
from channels_app.providers.addresses import Kind
from channels_app.providers.contents import UNSUPPORTED
from channels_app.providers.events import US
from channels_app.providers.message_keys import CLOUD_CALL, WAMID
from core import phone_numbers
from messaging import address_books, control, names, words
from messaging.delivery import policy
from messaging.inbox import states
from messaging.live import publisher
from messaging.models import (
    CallAttempt,
    Contact,
    ContactAddress,
    ContactMerge,
    Conversation,
    Message,
    PersonalState,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# What is stored of the merged contact besides its addresses.
_FIELDS = ("phone_number", "user_id", "username", "name", "named_by_staff")
# What follows from a contact's addresses.
_DERIVED = ("phone_number", "user_id", "address_given_up")
# How long a conversation says that it was joined from two.
NOTED_FOR = dt.timedelta(days=7)
# How many of the joined messages are pushed to open pages; a reload shows the others.
_ANNOUNCED = 40
_NEVER = dt.datetime.min.replace(tzinfo=dt.UTC)


def lock_contacts(ids: Collection[int]) -> list[Contact]:
    """Lock contacts in the order of their ids until the end of the transaction."""
    if not ids:
        return []
    return list(Contact.objects.select_for_update().filter(pk__in=ids).order_by("pk"))


def current(contact: Contact) -> Contact:
    """Return the contact into which this one was merged, itself if it was not."""
    while contact.merged_into is not None:
        contact = contact.merged_into
    return contact


def merge(one: Contact, other: Contact, *, reason: str = "", user: User | None = None) -> Contact:
    """Make two contacts one: the older one, which is returned. The caller has locked both."""
    kept, merged = sorted((one, other), key=lambda contact: contact.pk)
    conversations = list(
        Conversation.objects.select_for_update().filter(contact__in=[kept, merged]).order_by("pk")
    )
    theirs = [row for row in conversations if row.contact_id == merged.pk]
    by_channel = {row.channel_id: row for row in conversations if row.contact_id == kept.pk}
    moving = ContactAddress.objects.filter(contact=merged)
    ContactMerge.objects.create(
        contact=kept,
        merged=merged,
        reason=reason[:200],
        fields={name: getattr(merged, name) for name in _FIELDS},
        addresses=list(moving.values_list("pk", flat=True)),
        conversations=[row.pk for row in theirs],
        created_by=user,
    )
    moving.update(contact=kept)
    values = {name: getattr(merged, name) for name in _FIELDS}
    merged.phone_number, merged.user_id, merged.merged_into = None, None, kept
    merged.save(update_fields=["phone_number", "user_id", "merged_into"])
    _keep_wish(kept, merged)
    # The merged contact keeps its own, for an undo.
    kept.custom_fields = merged.custom_fields | kept.custom_fields
    names.adopt(kept, merged, saved=address_books.name_of(kept))
    _adopt(kept, values)
    for conversation in theirs:
        if target := by_channel.get(conversation.channel_id):
            _join(conversation, target)
        else:
            conversation.contact = kept
            conversation.save(update_fields=["contact"])
            publisher.publish(publisher.INBOX, conversations=conversation.pk)
    return kept


def merge_by_hand(contact: Contact, other: Contact, *, user: User | None) -> Contact:
    """Merge two contacts as a person decided. Raises ValidationError if they are one already."""
    with transaction.atomic():
        locked = lock_contacts({current(contact).pk, current(other).pk})
        if len(locked) < 2 or any(one.merged_into_id for one in locked):
            raise ValidationError({"with": _("This is the same contact.")})
        groups = ContactAddress.objects.filter(contact__in=locked, kind=Kind.GROUP)
        if groups.exists():
            raise ValidationError({"with": _("A group is not a customer.")})
        for record in _undone_between(*locked):
            # What a person joins is no longer kept apart.
            record.delete()
        return merge(*locked, user=user)


def undo(record: ContactMerge, *, user: User | None) -> Contact:
    """Undo a merge; return the contact that exists again. They are kept apart from then on.

    Messages that arrived after the merge stay where they are.
    """
    with transaction.atomic():
        record = ContactMerge.objects.select_for_update().get(pk=record.pk)
        if record.undone_at is not None:
            return record.merged
        root = current(record.contact)
        locked = {one.pk: one for one in lock_contacts({root.pk, record.merged_id})}
        root, restored = locked[root.pk], locked[record.merged_id]
        returning = list(ContactAddress.objects.filter(pk__in=record.addresses, contact=root))
        if not returning:
            raise ValidationError(_("The addresses of this contact belong to others by now."))
        conversations = Conversation.everything.select_for_update().filter(
            pk__in=record.conversations, contact__in=all_of(root)
        )
        _require_latest(record, conversations)
        for name in _FIELDS:
            setattr(restored, name, record.fields[name])
        restored.merged_into = None
        _keep_wish(restored, root)
        _give_addresses(root, restored, returning)
        for conversation in conversations.order_by("pk"):
            conversation.contact = restored
            conversation.save(update_fields=["contact"])
            _separate(conversation)
        record.undone_at, record.undone_by = timezone.now(), user
        record.save(update_fields=["undone_at", "undone_by"])
    return restored


def _require_latest(record: ContactMerge, conversations: models.QuerySet[Conversation]) -> None:
    """Raise ValidationError if other customers' messages were moved into these conversations."""
    theirs = all_of(record.merged)
    for conversation in conversations:
        joined = Conversation.everything.filter(
            pk__in=_closure(Conversation, {conversation.pk}) - {conversation.pk}
        )
        if joined.exclude(contact__in=theirs).exists():
            raise ValidationError(_("Undo the later joins of this contact first."))


def split(contact: Contact, address: ContactAddress, *, user: User | None) -> Contact:
    """Give an address a contact of its own, which is returned.

    If the address came by a merge, that merge is undone. Otherwise the conversations stay, and
    the next message from the address begins a new one. Raises ValidationError for the only address.
    """
    with transaction.atomic():
        contact = lock_contacts({contact.pk})[0]
        if not contact.addresses.exclude(pk=address.pk).exists():
            raise ValidationError({"address": _("This is the contact's only address.")})
        for record in ContactMerge.objects.filter(undone_at=None, addresses__contains=address.pk):
            if current(record.contact) == contact:
                return undo(record, user=user)
        field = "name" if contact.named_by_staff else names.profile_field(contact)
        separate = Contact(name=getattr(contact, field), username=contact.username)
        _keep_wish(separate, contact)
        _give_addresses(contact, separate, [address])
        ContactMerge.objects.create(
            contact=contact,
            merged=separate,
            addresses=[address.pk],
            created_by=user,
            undone_at=timezone.now(),
            undone_by=user,
        )
    return separate


def recent_merge(contact: Contact) -> ContactMerge | None:
    """Return the contact's last merge of the past days that no person made, for a note."""
    since = timezone.now() - NOTED_FOR
    merges = ContactMerge.objects.filter(contact=contact, undone_at=None, created_by=None)
    return merges.filter(created_at__gte=since).first()


def are_kept_apart(one: Contact, other: Contact) -> bool:
    """Return whether a person decided that these are two customers."""
    return _undone_between(one, other).exists()


def _undone_between(one: Contact, other: Contact) -> models.QuerySet[ContactMerge]:
    ours, theirs = all_of(one), all_of(other)
    return ContactMerge.objects.filter(
        Q(contact__in=ours, merged__in=theirs) | Q(contact__in=theirs, merged__in=ours),
        undone_at__isnull=False,
    )


def all_of(contact: Contact) -> set[int]:
    """Return the ids of the contact and of all that were merged into it."""
    return _closure(Contact, {contact.pk})


def joined_to(conversation_id: int) -> set[int]:
    """Return the ids of a conversation and of all that were joined to it, at any distance."""
    return _closure(Conversation, {conversation_id})


def _closure(model: type[Contact | Conversation], ids: set[int]) -> set[int]:
    found, latest = set(ids), set(ids)
    while latest:
        merged = model._base_manager.filter(merged_into__in=latest)
        latest = set(merged.values_list("pk", flat=True)) - found
        found |= latest
    return found


def _keep_wish(contact: Contact, other: Contact) -> None:
    """Take over the other contact's wish about marketing if it is the later one.

    Contacts that are separated again both keep it: nobody knows which of them it came from.
    """
    theirs = other.marketing_wish_at
    if theirs is not None and (contact.marketing_wish_at or theirs) <= theirs:
        contact.marketing_stopped = other.marketing_stopped
        contact.marketing_wish_at = theirs


def _adopt(kept: Contact, values: dict[str, object]) -> None:
    """Fill what the contact lacks with what the merged one had."""
    own_id, other_id = kept.user_id or "", str(values["user_id"] or "")
    if other_id and (not own_id or (addresses.is_lid(own_id) and not addresses.is_lid(other_id))):
        kept.user_id = other_id
    kept.phone_number = kept.phone_number or values["phone_number"]  # type: ignore[assignment]
    kept.username = kept.username or str(values["username"])
    if kept.address_given_up:
        set_current(kept, kept.addresses.all())
    kept.save()


def _give_addresses(contact: Contact, other: Contact, moving: Sequence[ContactAddress]) -> None:
    """Move addresses from a contact to another one, whose row may be new; their fields follow."""
    ids = [row.pk for row in moving]
    # First the contact that has them: the fields are unique.
    set_current(contact, contact.addresses.exclude(pk__in=ids))
    contact.save(update_fields=_DERIVED)
    set_current(other, moving)
    other.save()
    ContactAddress.objects.filter(pk__in=ids).update(contact=other)
    for one in (contact, other):
        address_books.refresh(one)


def set_current(contact: Contact, addresses: Iterable[ContactAddress]) -> list[str]:
    """Derive number and user id from the contact's addresses; return which of them changed.

    Those that were named last, and else those that are shown already. An address that the customer
    gave up is neither, as long as there is another one.
    """
    rows = list(addresses)
    shown = {phone_numbers.key(contact.phone_number or ""), contact.user_id}
    ranked = sorted(
        rows,
        key=lambda row: (
            not row.is_retired,
            # A business-scoped id goes before a LID.
            row.kind == Kind.USER_ID,
            row.kind == Kind.PARENT_USER_ID,
            row.named_at or _NEVER,
            row.key in shown,
            row.pk or 0,
        ),
    )
    numbers = [row for row in ranked if row.kind == Kind.PHONE]
    ids = [row for row in ranked if row.kind != Kind.PHONE]
    number = next((row for row in numbers[::-1] if not row.is_retired), None)
    if number is None and not ids:
        # Every contact has an address.
        number = numbers[-1] if numbers else None
    user_id = ids[-1] if ids and (not ids[-1].is_retired or number is None) else None
    before = (contact.phone_number, contact.user_id, contact.address_given_up)
    if number is None or phone_numbers.key(contact.phone_number or "") != number.key:
        contact.phone_number = number.value if number else None
    contact.user_id = user_id.value if user_id else None
    contact.address_given_up = bool(rows) and all(row.is_retired for row in rows)
    after = (contact.phone_number, contact.user_id, contact.address_given_up)
    changed = zip(_DERIVED, before, after, strict=True)
    return [name for name, old, new in changed if old != new]


def give_up(contact: Contact, address: ContactAddress, *, to: Contact | None) -> None:
    """Move a number that the customer gave up to whom it belongs now, by default a new contact.

    Both contacts are locked.
    """
    ContactAddress.objects.filter(pk=address.pk).update(named_at=None, retired_at=None)
    address.named_at = address.retired_at = None
    if to is None:
        _give_addresses(contact, Contact(), [address])
        return
    ContactAddress.objects.filter(pk=address.pk).update(contact=to)
    for one in (contact, to):
        if changed := set_current(one, one.addresses.all()):
            one.save(update_fields=changed)
        address_books.refresh(one)


def _join(source: Conversation, target: Conversation) -> None:
    """Move the messages and calls of a conversation to another one. Both are locked.

    A message that both have stays behind: it is one message, which was reported twice.
    """
    twice = Message.objects.filter(conversation=target).exclude(message_key="")
    moving = Message.objects.filter(conversation=source).exclude(
        message_key__in=twice.values("message_key")
    )
    _separate_times(moving, target)
    latest = list(moving.order_by("-created_at", "-id").values_list("pk", flat=True)[:_ANNOUNCED])
    moving.filter(merged_from=None).update(merged_from=source)
    moving.update(conversation=target)
    calls = CallAttempt.objects.filter(conversation=source)
    calls.filter(merged_from=None).update(merged_from=source)
    calls.update(conversation=target)
    _join_work(source, target)
    Conversation.objects.filter(pk=target.pk).update(
        last_message_at=_later(target.last_message_at, source.last_message_at),
        last_inbound_at=_later(target.last_inbound_at, source.last_inbound_at),
        unread_count=F("unread_count") + source.unread_count,
        **(states.REOPENED if source.status == states.OPEN and source.unread_count else {}),
        **control.adopted(target, source),
        assignee=target.assignee_id or source.assignee_id,
        team=target.team_id or source.team_id,
    )
    source.merged_into = target
    source.save(update_fields=["merged_into"])
    _publish(source, target, latest)


def _join_work(source: Conversation, target: Conversation) -> None:
    """Let the labels and drafts of a conversation be found in the one that it is joined to.

    It keeps its own, for an undo. A person's draft in the other one stays.
    """
    target.labels.add(*source.labels.all())
    drafts = PersonalState.objects.filter(conversation=source).exclude(draft="")
    for state in drafts:
        own, _new = PersonalState.objects.get_or_create(
            user_id=state.user_id, conversation=target, defaults={"read_at": state.read_at}
        )
        if not own.draft:
            own.draft, own.draft_at = state.draft, state.draft_at
            own.save(update_fields=["draft", "draft_at"])


def _separate_times(moving: models.QuerySet[Message], target: Conversation) -> None:
    """Let messages follow those of their second that are there, if two have the same time.

    A second has its messages in the order of arrival (`messaging.sequence`), which is not known
    across two conversations: those of the older contact come first.
    """
    own = Message.objects.filter(conversation=target)
    same = moving.filter(created_at__in=own.values("created_at"))
    for second in {at.replace(microsecond=0) for at in same.values_list("created_at", flat=True)}:
        within = Q(created_at__gte=second, created_at__lt=second + dt.timedelta(seconds=1))
        latest = own.filter(within).aggregate(at=Max("created_at"))["at"]
        rows = moving.filter(within).order_by("created_at", "pk").values_list("pk", flat=True)
        for place, pk in enumerate(list(rows), start=1):
            at = latest + dt.timedelta(microseconds=place)
            Message.objects.filter(pk=pk).update(created_at=at)


def _separate(conversation: Conversation) -> None:
    """Take back what was moved out of a conversation, from wherever it is now."""
    root = _root(conversation)
    conversation.merged_into = None
    if root != conversation:
        # What was read in the joined conversation is read.
        conversation.unread_count = min(conversation.unread_count, root.unread_count)
    conversation.save(update_fields=["merged_into", "unread_count"])
    joined = _closure(Conversation, {conversation.pk})
    left: set[int] = set()
    for model in (Message, CallAttempt):
        rows = model._default_manager.filter(merged_from__in=joined)
        left |= set(rows.order_by().values_list("conversation_id", flat=True).distinct())
        rows.update(conversation=conversation)
        model._default_manager.filter(merged_from=conversation).update(merged_from=None)
    for target in Conversation.objects.filter(pk__in=(left | {root.pk}) - {conversation.pk}):
        is_root = target == root
        unread = target.unread_count - (conversation.unread_count if is_root else 0)
        _recount(target, unread=max(0, unread))
    _publish(conversation, conversation, [])


def _root(conversation: Conversation) -> Conversation:
    """Return the conversation into which this one was joined, itself if it was not."""
    while conversation.merged_into is not None:
        conversation = conversation.merged_into
    return conversation


def _recount(conversation: Conversation, *, unread: int) -> None:
    """Derive the times of a conversation from what it has."""
    messages = Message.objects.filter(conversation=conversation)
    # Neither history nor a notice opens the 24-hour window, nor does a change of a message.
    opens = Q(direction=Message.Direction.IN) & ~Q(context__has_key="imported")
    opens &= ~Q(type__in=words.OPEN_NO_WINDOW)
    if conversation.channel.kind == Provider.OFFICIAL:
        # What only a session reported opens no window of Meta's.
        opens &= Q(provider_message_id__startswith=WAMID)
    opens &= (
        ~Q(type=UNSUPPORTED)
        | ~Q(content__has_key="message_type")
        | ~Q(content__message_type__in=words.CHANGES)
    )
    # A scheduled message has a time in the future.
    latest = messages.exclude(decision=policy.WAITING_SCHEDULE).aggregate(
        any=Max("created_at"), inbound=Max("created_at", filter=opens)
    )
    called = CallAttempt.objects.filter(conversation=conversation, incoming=True)
    opened = called.filter(call_id__startswith=CLOUD_CALL).aggregate(at=Max("created_at"))["at"]
    inbound = _later(_later(latest["inbound"], opened), _latest_reaction(messages))
    Conversation.objects.filter(pk=conversation.pk).update(
        last_message_at=_later(latest["any"], called.aggregate(at=Max("created_at"))["at"]),
        last_inbound_at=inbound,
        unread_count=unread,
    )
    publisher.publish(publisher.INBOX, conversations=conversation.pk)


def _latest_reaction(messages: models.QuerySet[Message]) -> dt.datetime | None:
    """Return when the customer last reacted to a message of ours, which opens the window."""
    ours = messages.filter(direction=Message.Direction.OUT, sent_outside=False)
    entries = chain.from_iterable(ours.exclude(reactions=[]).values_list("reactions", flat=True))
    times = [
        parse_datetime(str(entry.get("at", "")))
        for entry in entries
        if entry.get("emoji") and entry["by"] != US
    ]
    return max(filter(None, times), default=None)


def _publish(source: Conversation, target: Conversation, moved: Iterable[object]) -> None:
    for id_ in moved:
        publisher.publish(publisher.conversation_group(target.pk), messages=str(id_))
    publisher.publish(publisher.INBOX, conversations=source.pk)
    publisher.publish(publisher.INBOX, conversations=target.pk)


def _later(one: dt.datetime | None, other: dt.datetime | None) -> dt.datetime | None:
    return max(filter(None, [one, other]), default=None)
