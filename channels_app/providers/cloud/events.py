"""Parses Meta's webhook payloads (docs/providers/cloud.md §3, §4.3) into neutral events. Pure."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeVar

from channels_app.providers import error_codes
from channels_app.providers.addresses import MAX_LENGTH, Address, Kind, is_user_id, named
from channels_app.providers.cloud import account, contents
from channels_app.providers.events import (
    US,
    AccountEvent,
    AddressBookEvent,
    AddressEvent,
    CallEvent,
    CallStatus,
    EditEvent,
    Event,
    Failure,
    MessageEvent,
    PreferenceEvent,
    ReactionEvent,
    Receipt,
    ReceiptEvent,
    RevokeEvent,
    TemplateEvent,
    UnsupportedEvent,
)
from channels_app.providers.times import from_seconds

Owner = TypeVar("Owner", bound=Hashable)

_NONE = object()
_RECEIPTS = {
    "sent": Receipt.SENT,
    "delivered": Receipt.DELIVERED,
    "read": Receipt.READ,
    "played": Receipt.READ,
    "failed": Receipt.FAILED,
}
_HISTORY_RECEIPTS = {
    "SENT": Receipt.SENT,
    "DELIVERED": Receipt.DELIVERED,
    "READ": Receipt.READ,
    "PLAYED": Receipt.READ,
    "ERROR": Receipt.FAILED,
}
# The lists of the fields in which others may stand beside them.
_LISTS = dict.fromkeys(
    ("messages", "smb_message_echoes"),
    ("contacts", "statuses", "messages", "message_echoes", "calls", "errors"),
)
_BESIDE = ("messaging_product", "metadata")
_DIGITS = re.compile(r"[0-9]{4,19}")
# In the text of a change of ids, which did not name the former one otherwise (§10.1.6). The text
# begins with the customer's own name, which may be anything.
_FORMER_ID = re.compile(r"\bfrom ([A-Z]{2}\.[A-Za-z0-9]+) to ([A-Z]{2}\.[A-Za-z0-9]+)\W*\Z")
_WAMID_KEY = re.compile(rb"\x15.\x00[\x11\x12]\x18(.)", re.DOTALL)
_WAMID_REMOTE = re.compile(rb"\x1c\x18(.)([0-9A-Za-z.]+)\x15.\x00[\x11\x12]\x18", re.DOTALL)


def read(payload: Any) -> Iterator[Event]:
    """Yield every update of a POST: all entries, all changes, all statuses and messages.

    Anything unknown is yielded as UnsupportedEvent; raises nothing for any JSON.
    """
    is_empty = True
    for entry in _dicts(payload, "entry"):
        at = from_seconds(entry.get("time"))
        for change in _dicts(entry, "changes"):
            is_empty = False
            field, value = str(change.get("field", "")), change.get("value")
            if isinstance(value, Mapping):
                yield from _read_change(field, value, str(entry.get("id") or ""), at)
            else:
                yield UnsupportedEvent("", f"{field or 'change'}:no_value"[:100])
    if is_empty:
        yield UnsupportedEvent("", "entry:empty")


def split_by_owner(
    payload: Mapping[str, Any], owner_of: Callable[[str], Owner]
) -> dict[Owner, Any]:
    """Split a POST by the owners of the phone numbers that its changes name.

    `owner_of` gets the phone number ID of a change, "" if it names none. Each part has its changes
    in their order; together they contain everything. A POST of one owner is returned unchanged.
    """
    changes = [(entry, change, owner_of(key)) for entry, change, key in _changes(payload)]
    owners = dict.fromkeys(owner for _, _, owner in changes)
    if len(owners) < 2:
        return {next(iter(owners), owner_of("")): payload}
    parts: dict[Owner, list[Any]] = {owner: [] for owner in owners}
    for owner, entries in parts.items():
        last = None
        for entry, change, its_owner in changes:
            if its_owner != owner:
                continue
            if change is _NONE:
                entries.append(entry)
            elif entry is last:
                entries[-1]["changes"].append(change)
            else:
                entries.append({**entry, "changes": [change]})
                last = entry
    return {owner: {**payload, "entry": entries} for owner, entries in parts.items()}


def _changes(payload: Mapping[str, Any]) -> Iterator[tuple[Any, Any, str]]:
    """Yield each entry and change with its phone number ID; an entry without changes once."""
    entries = payload.get("entry")
    for entry in entries if isinstance(entries, list) else []:
        changes = entry.get("changes") if isinstance(entry, Mapping) else None
        if not isinstance(changes, list) or not changes:
            yield entry, _NONE, ""
            continue
        for change in changes:
            value = _dict(change, "value") if isinstance(change, Mapping) else {}
            yield entry, change, _channel_key(value)


def _read_change(
    name: str, value: Mapping[str, Any], account_id: str, at: dt.datetime | None
) -> Iterator[Event]:
    key, field = _channel_key(value), name
    if name == "standby":
        field, value = "messages", _opened(value)
    people = [_person(contact) for contact in _dicts(value, "contacts")]
    found = list(_parts(key, field, value, account_id, people, at))
    if name == "standby":
        found = [_on_standby(event) for event in found]
    if field in _LISTS:
        found += _unread(key, name, value, _LISTS[field])
    found = [_dated(event, at) for event in found] or [UnsupportedEvent(key, f"{name}:empty"[:100])]
    yield from _pairs(key, people, found, at=_latest(value))
    yield from found


def _unread(
    key: str, field: str, value: Mapping[str, Any], lists: Collection[str]
) -> Iterator[Event]:
    """Name what stands in a change beside the lists that are read, or in them in another form."""
    for name, part in value.items():
        is_read = isinstance(part, list) and all(isinstance(item, Mapping) for item in part)
        if name not in _BESIDE and not (name in lists and is_read):
            yield UnsupportedEvent(key, f"{field}:{name}"[:100])


def _dated(event: Event, at: dt.datetime | None) -> Event:
    """Give an event about an account the time of its entry: it has none of its own."""
    return replace(event, at=at) if isinstance(event, AccountEvent) else event


def _parts(
    key: str,
    field: str,
    value: Mapping[str, Any],
    account_id: str,
    people: Sequence[_Person],
    at: dt.datetime | None,
) -> Iterator[Event]:
    """Yield everything in a change but the addresses in `contacts`. `at` is its entry's time."""
    if field in ("messages", "smb_message_echoes"):
        for status in _dicts(value, "statuses"):
            yield _status(key, status)
        # Some resellers put several lists into one value.
        for name, role in (("messages", "from"), ("message_echoes", "to")):
            messages = _dicts(value, name)
            is_only = len({str(message.get(role)) for message in messages}) == 1
            for message in messages:
                person = _sender(message, people, role, is_only=is_only)
                yield _message(key, message, person, outgoing=role == "to")
        for call in _dicts(value, "calls"):
            yield _call(key, call, people)
        for error in _dicts(value, "errors"):
            yield account.read_error(key, error)
    elif field == "history":
        yield from _history(key, value, people)
    elif field == "smb_app_state_sync":
        for entry in _dicts(value, "state_sync"):
            yield _saved_contact(key, entry)
    elif field == "messaging_handovers":
        yield _handover(key, value, at)
    elif field == "user_id_update":
        for update in _dicts(value, field):
            yield _id_update(key, update)
    elif field == "user_preferences":
        for preference in _dicts(value, "user_preferences"):
            yield _preference(key, preference)
    elif field == "calls":
        for call in _dicts(value, "calls"):
            yield _call(key, call, people)
        for status in _dicts(value, "statuses"):
            # The progress of a call that the business made.
            yield UnsupportedEvent(key, f"call:{status.get('status')}"[:100])
    else:
        report = account.read(field, value, account_id) or UnsupportedEvent(key, f"field:{field}")
        if account.is_about_template(field, value):
            is_edit = field == "message_template_components_update"
            edited = str(value.get("message_template_id") or "")[:64] if is_edit else ""
            yield TemplateEvent("", account_id, edited)
        if not (isinstance(report, UnsupportedEvent) and account.is_about_template(field, value)):
            yield report


# -- Who it is -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Person:
    """The addresses of one customer as one object of a payload names them (§10.1.3)."""

    number: str = ""
    user_id: str = ""
    also: tuple[Address, ...] = ()
    former: tuple[Address, ...] = ()
    name: str = ""
    username: str = ""

    @property
    def phone_number(self) -> str:
        return f"+{self.number}" if self.number else ""

    @property
    def addresses(self) -> tuple[Address, ...]:
        return named(phone_number=self.phone_number, user_id=self.user_id, also=self.also)


def _person(contact: Mapping[str, Any]) -> _Person:
    """Read an element of `contacts`."""
    profile = _dict(contact, "profile")
    return _Person(
        number=_number(contact.get("wa_id")),
        user_id=_user_id(contact.get("user_id")),
        also=_parent(contact.get("parent_user_id")),
        name=str(profile.get("name") or ""),
        # Some texts write it with the sign.
        username=str(profile.get("username") or "").removeprefix("@")[:100],
    )


def _sender(
    message: Mapping[str, Any], people: Sequence[_Person], role: str, *, is_only: bool = False
) -> _Person:
    """Return the customer of a message: what it says itself, and what `contacts` adds.

    `role` is "from", or "to" for an echo. If the message itself names nobody, a single contact is
    the sender; also if both name an address of different kinds, and nobody else has written
    (`is_only`).
    """
    own = _Person(
        number=_number(message.get(role)),
        user_id=_user_id(message.get(f"{role}_user_id")),
        also=_parent(message.get(f"{role}_parent_user_id")),
    )
    if message.get("type") == "system":
        own = _changed(own, _dict(message, "system"))
    keys = {address.key for address in own.addresses}
    known = [p for p in people if keys & {address.key for address in p.addresses}]
    if not known and len(people) == 1 and message.get("type") != "system":
        kinds = {one.kind for one in own.addresses} & {one.kind for one in people[0].addresses}
        known = list(people) if not keys or (is_only and not kinds) else []
    also = tuple(chain(own.also, *(person.also for person in known)))
    card = "" if role == "to" else _shared_number(message)
    return _Person(
        number=_first(own.number, *(p.number for p in known), card),
        user_id=_first(own.user_id, *(p.user_id for p in known)),
        also=(*also, *([Address(Kind.PHONE, f"+{card}")] if card else [])),
        former=own.former,
        name=_first(*(p.name for p in known)),
        username=_first(*(p.username for p in known)),
    )


def _changed(person: _Person, change: Mapping[str, Any]) -> _Person:
    """Read a change of number or id (§10.1.6): the new addresses first, the former ones beside."""
    number = _number(change.get("wa_id")) or _number(change.get("new_wa_id"))
    user_id = _user_id(change.get("user_id"))
    former = _user_id(change.get("previous_user_id"))
    if user_id and not former:
        in_text = _FORMER_ID.search(str(change.get("body") or ""))
        former = in_text[1] if in_text and in_text[2] == user_id else ""
    customer = _number(change.get("customer"))
    before = named(
        phone_number=person.phone_number,
        user_id=former or person.user_id,
        also=(
            *([Address(Kind.PHONE, f"+{customer}")] if customer else []),
            *person.also,
            *_parent(change.get("previous_parent_user_id")),
        ),
    )
    if not (number or user_id or "changed_number" in str(change.get("type"))):
        return replace(person, also=before)
    now = _Person(number=number, user_id=user_id, also=_parent(change.get("parent_user_id")))
    keys = {one.key for one in now.addresses}
    kinds = {Kind.PHONE, *(one.kind for one in now.addresses)}
    return replace(
        now,
        also=(*now.also, *before),
        # An id that no other one replaces is still valid.
        former=tuple(one for one in before if one.key not in keys and one.kind in kinds),
    )


def _shared_number(message: Mapping[str, Any]) -> str:
    """Return the sender's own number that they shared on request, else "" (§10.1.7).

    Any other card may be anybody's.
    """
    cards = _dicts(message, "contacts") if message.get("type") == "contacts" else []
    for card in cards:
        if "contact_request" not in (card.get("origin"), message.get("origin")):
            continue
        for phone in _dicts(card, "phones"):
            own = re.sub(r"[\s()+.-]", "", str(phone.get("wa_id") or phone.get("phone") or ""))
            if number := _number(own):
                return number
    return ""


def _id_update(key: str, update: Mapping[str, Any]) -> Event:
    """Read an element of `user_id_update`, which some accounts may still send (§10.1.6)."""
    user_id, parent = _dict(update, "user_id"), _dict(update, "parent_user_id")
    wa_id = _number(update.get("wa_id"))
    before = named(user_id=_user_id(user_id.get("previous")), also=_parent(parent.get("previous")))
    now = named(
        phone_number=f"+{wa_id}" if wa_id else "",
        user_id=_user_id(user_id.get("current")),
        also=_parent(parent.get("current")),
    )
    return AddressEvent(
        key,
        named(also=(*now, *before)),
        former=tuple(one for one in before if one not in now),
        at=from_seconds(update.get("timestamp")),
    )


def _pairs(
    key: str, people: Sequence[_Person], others: Sequence[Event], *, at: dt.datetime | None
) -> Iterator[AddressEvent]:
    """Yield the addresses in `contacts` that no other event of the change names together.

    A status names no parent id, and comes too often to look for one.
    """
    together = [_named_by(event) for event in others]
    only_statuses = all(isinstance(event, ReceiptEvent) for event in others)
    for person in people:
        keys = {
            address.key
            for address in person.addresses
            if not (only_statuses and address.kind == Kind.PARENT_USER_ID)
        }
        if len(keys) > 1 and not any(keys <= named_keys for named_keys in together):
            yield AddressEvent(key, person.addresses, at=at)


def _latest(value: Mapping[str, Any]) -> dt.datetime | None:
    """Return the latest time in a change, at which its `contacts` were right."""
    lists = ("statuses", "messages", "message_echoes", "calls")
    parts = chain(*(_dicts(value, name) for name in lists))
    return max(filter(None, (from_seconds(part.get("timestamp")) for part in parts)), default=None)


def _named_by(event: Event) -> set[str]:
    if isinstance(event, MessageEvent | ReceiptEvent | CallEvent | PreferenceEvent):
        people = named(phone_number=event.phone_number, user_id=event.user_id, also=event.also)
    else:
        return set()
    return {address.key for address in people}


def _user_id(value: Any) -> str:
    return _id(value, longest=MAX_LENGTH) or ""


def _parent(value: Any) -> tuple[Address, ...]:
    parent = _user_id(value)
    return (Address(Kind.PARENT_USER_ID, parent),) if parent else ()


def _first(*values: str) -> str:
    return next(filter(None, values), "")


# -- Messages and statuses -----------------------------------------------------------------------


def _status(key: str, status: Mapping[str, Any]) -> Event:
    # Payments and calls have statuses, too, which say nothing about the delivery of a message.
    if (type_ := status.get("type")) not in (None, "", "message"):
        return UnsupportedEvent(key, f"status:{type_}:{status.get('status')}"[:100])
    receipt = _RECEIPTS.get(str(status.get("status")))
    wamid = _id(status.get("id"))
    if receipt is None or wamid is None:
        return UnsupportedEvent(key, f"status:{status.get('status')}"[:100])
    # A group has an id of its own in `recipient_id`, and each of its members has a status.
    role = "recipient_participant" if status.get("recipient_type") == "group" else "recipient"
    number, user_id = _number(status.get(f"{role}_id")), _user_id(status.get(f"{role}_user_id"))
    # Its name until May 2026 is the other one (§10.1.3).
    parent = _parent(status.get(f"{role}_parent_user_id") or status.get(f"parent_{role}_user_id"))
    is_pair = len([one for one in (number, user_id, *parent) if one]) > 1
    return ReceiptEvent(
        channel_key=key,
        provider_message_id=wamid,
        receipt=receipt,
        reference=str(status.get("biz_opaque_callback_data") or ""),
        failure=_most_severe([_failure(error) for error in _dicts(status, "errors")]),
        # One address alone says nothing: a status is matched by its ids.
        phone_number=f"+{number}" if number and is_pair else "",
        user_id=user_id if is_pair else "",
        also=parent if is_pair else (),
        pricing=_pricing(_dict(status, "pricing")),
    )


def _pricing(pricing: Mapping[str, Any]) -> str:
    """Return what Meta charges for (§10.5), e.g. "marketing:regular"; "" if it does not say."""
    category, type_ = (pricing.get(name) for name in ("category", "type"))
    if not isinstance(category, str) or not category:
        return ""
    return f"{category}:{type_ if isinstance(type_, str) else ''}"[:64]


def _most_severe(failures: Sequence[Failure]) -> Failure | None:
    """Return the most severe of several reasons (§3.5: `errors` is a list).

    Only one of them is stored, and the fallback must respect all of them.
    """
    return max(failures, key=lambda failure: error_codes.severity(failure.code), default=None)


def _failure(error: Mapping[str, Any]) -> Failure:
    return Failure(
        code=str(error.get("code", "")),
        title=str(error.get("title") or error.get("message") or ""),
        detail=str(_dict(error, "error_data").get("details") or error.get("message") or ""),
    )


def _preference(key: str, preference: Mapping[str, Any]) -> Event:
    number = _number(preference.get("wa_id"))
    user_id = _user_id(preference.get("user_id"))
    category, value = preference.get("category"), preference.get("value")
    is_known = category == "marketing_messages" and value in ("stop", "resume")
    if not is_known or not (number or user_id):
        return UnsupportedEvent(key, f"preference:{category}:{value}"[:100])
    return PreferenceEvent(
        channel_key=key,
        phone_number=f"+{number}" if number else "",
        stopped=value == "stop",
        at=from_seconds(preference.get("timestamp")),
        user_id=user_id,
        also=_parent(preference.get("parent_user_id")),
    )


def _call(key: str, call: Mapping[str, Any], people: Sequence[_Person]) -> Event:
    """Return a customer's call. Those of the business are not shown (§6.1)."""
    call_id, event = _id(call.get("id")), str(call.get("event"))
    ended = CallStatus.ENDED if call.get("status") == "COMPLETED" else CallStatus.MISSED
    status = {"connect": CallStatus.RINGING, "terminate": ended}.get(event)
    ours = call.get("direction") == "BUSINESS_INITIATED"
    caller = _sender(call, people, "from")
    if call_id is None or status is None or ours or not (caller.number or caller.user_id):
        return UnsupportedEvent(key, f"call:{event}"[:100])
    return CallEvent(
        channel_key=key,
        call_id=call_id,
        phone_number=caller.phone_number,
        status=status,
        at=from_seconds(call.get("timestamp")),
        user_id=caller.user_id,
        also=caller.also,
        name=caller.name,
        username=caller.username,
        opens_window=True,
    )


def _message(
    key: str,
    message: Mapping[str, Any],
    person: _Person,
    *,
    outgoing: bool = False,
) -> Event:
    wamid = _id(message.get("id"))
    type_ = contents.type_of(message)
    at = from_seconds(message.get("timestamp"))
    if _id(message.get("group_id")):
        return UnsupportedEvent(key, "group")
    if type_ in contents.CHANGES:
        by = US if outgoing else person.phone_number or person.user_id
        change = _change(key, type_, _dict(message, type_), by=by, name=person.name, at=at)
        if change:
            return change
    if wamid is None or not person.addresses:
        return UnsupportedEvent(key, f"message:{type_[:60]}")
    found = contents.read(message)
    return MessageEvent(
        channel_key=key,
        provider_message_id=wamid,
        phone_number=person.phone_number,
        user_id=person.user_id,
        also=person.also,
        former=person.former,
        name=person.name,
        username=person.username,
        at=at,
        type=found.type,
        text=found.text,
        content=found.content,
        reply_to=str(_dict(message, "context").get("id") or ""),
        outgoing=outgoing,
        context=_context(message),
    )


def _change(
    key: str,
    type_: str,
    content: Mapping[str, Any],
    *,
    by: str,
    name: str,
    at: dt.datetime | None,
) -> Event | None:
    """Parse what a person did to another message; None if it does not name that message."""
    if type_ == "reaction":
        target = _id(content.get("message_id"))
        # A reaction that is taken back has no emoji.
        emoji = str(content.get("emoji") or "")[:32]
        return ReactionEvent(key, target, by, emoji, at, name) if target and by else None
    target = _id(content.get("original_message_id"))
    if target is None:
        return None
    if type_ == "revoke":
        return RevokeEvent(key, target, at, by)
    changed = _dict(content, "message")
    found = contents.read(changed)
    # A caption may have been removed. Anything else without words is not what the message says.
    if not found.text and not contents.is_media(found):
        return UnsupportedEvent(key, f"edit:{contents.type_of(changed)}"[:100])
    return EditEvent(key, target, found.text, at, by)


def _context(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands beside the object of a message."""
    context = _dict(message, "context")
    found: dict[str, Any] = {}
    if id_ := _id(context.get("id")):
        found["quoted"] = {"id": id_}
    if context.get("frequently_forwarded") is True:
        found["forwarded"] = "often"
    elif context.get("forwarded") is True:
        found["forwarded"] = "once"
    beside = {"product": context.get("referred_product"), "referral": message.get("referral")}
    found |= {name: beside[name] for name in beside if isinstance(beside[name], Mapping)}
    if failure := _most_severe([_failure(error) for error in _dicts(message, "errors")]):
        found["error"] = {"code": failure.code, "title": failure.title, "detail": failure.detail}
    return found


# -- Coexistence, and conversations that another app has -----------------------------------------


def _history(key: str, value: Mapping[str, Any], people: Sequence[_Person]) -> Iterator[Event]:
    """Read a chunk of the history of the WhatsApp Business app (§10.4.5).

    Its chunks come in any order. A file follows by itself, in `messages` or `message_echoes`.
    """
    own = re.sub(r"\D", "", str(_dict(value, "metadata").get("display_phone_number") or ""))
    is_empty = True
    for chunk in _dicts(value, "history"):
        # The business does not share its history.
        for error in _dicts(chunk, "errors"):
            is_empty = False
            yield account.read_error(key, error)
        for thread in _dicts(chunk, "threads"):
            customer = _thread_person(thread)
            for message in _dicts(thread, "messages"):
                is_empty = False
                yield from _old_message(key, message, customer, people, own=own)
    for name in ("messages", "message_echoes"):
        is_echo = name == "message_echoes"
        for message in _dicts(value, name):
            is_empty = False
            yield from _old_message(key, message, _Person(), people, own=own, is_echo=is_echo)
    if is_empty:
        # Such a chunk only reports the progress.
        yield UnsupportedEvent(key, "history:empty")


def _thread_person(thread: Mapping[str, Any]) -> _Person:
    """Return the customer of a thread, which has no `id` if the number is hidden (§10.1.10)."""
    context = _dict(thread, "context")
    return replace(
        _person(context),
        number=_number(context.get("wa_id")) or _number(thread.get("id")),
        username=str(context.get("username") or "").removeprefix("@")[:100],
    )


def _old_message(
    key: str, message: Mapping[str, Any], customer: _Person, people: Sequence[_Person], *, own: str,
    is_echo: bool = False,
) -> Iterator[Event]:  # fmt: skip
    outgoing = _is_from_us(message, customer, own, is_echo=is_echo)
    said = _sender(message, people, "to" if outgoing else "from")
    person = _Person(
        number=_first(customer.number, said.number),
        user_id=_first(customer.user_id, said.user_id),
        also=(*customer.also, *said.also),
        name=said.name,
        username=_first(customer.username, said.username),
    )
    if not person.addresses:
        # A file that we sent does not name its recipient, except in its id.
        person = _remote(str(message.get("id") or ""))
    event = _message(key, message, person, outgoing=outgoing)
    if isinstance(event, ReactionEvent):
        event = replace(event, history=True)
    if not isinstance(event, MessageEvent):
        yield event
        return
    yield replace(event, history=True, context={**event.context, "imported": True})
    status = str(_dict(message, "history_context").get("status")).upper()
    if outgoing and (receipt := _HISTORY_RECEIPTS.get(status)):
        yield ReceiptEvent(key, event.provider_message_id, receipt, history=True)


def _is_from_us(message: Mapping[str, Any], customer: _Person, own: str, *, is_echo: bool) -> bool:
    """Return whether a message of the history was sent by the business, which has only a number."""
    number, user_id = _number(message.get("from")), _user_id(message.get("from_user_id"))
    keys = {one.key for one in named(phone_number=f"+{number}" if number else "", user_id=user_id)}
    if own and Address(Kind.PHONE, f"+{own}").key in keys:
        return True
    if keys & {address.key for address in customer.addresses}:
        return False
    if number and customer.number:
        # A former number of the business.
        return True
    if number and not own:
        # Our number is not known: the message's id has the customer's address (§4.4).
        remote = {address.key for address in _remote(str(message.get("id") or "")).addresses}
        return not keys & remote if remote else is_echo or bool(customer.addresses)
    return not keys and (is_echo or "to" in message or "to_user_id" in message)


def _remote(wamid: str) -> _Person:
    """Return the customer whose address is inside a message's id (§4.4)."""
    found = _WAMID_REMOTE.search(_decoded(wamid))
    remote = found[2].decode() if found and len(found[2]) == found[1][0] else ""
    return _Person(number=_number(remote), user_id=remote if is_user_id(remote) else "")


def _saved_contact(key: str, entry: Mapping[str, Any]) -> Event:
    """Read a contact of the address book of the WhatsApp Business app (§10.4.6)."""
    contact, action = _dict(entry, "contact"), str(entry.get("action"))
    number = _number(re.sub(r"[\s()+.-]", "", str(contact.get("phone_number") or "")))
    also = _parent(contact.get("parent_user_id"))
    person = _Person(number=number, user_id=_user_id(contact.get("user_id")), also=also)
    if entry.get("type") != "contact" or action not in ("add", "remove") or not person.addresses:
        return UnsupportedEvent(key, f"contact:{action}"[:100])
    name = str(contact.get("full_name") or contact.get("first_name") or "").strip()
    return AddressBookEvent(
        key,
        person.addresses,
        "" if action == "remove" else name[:200],
        username=str(contact.get("username") or "").removeprefix("@")[:100],
        at=from_seconds(_dict(entry, "metadata").get("timestamp")),
    )


def _opened(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what another app received or sent, in the form of the field `messages` (§10.4.8)."""
    inner = _dict(value, "standby")
    echoes = [
        {**_dict(echo, "message"), **{name: echo[name] for name in echo if name != "message"}}
        for echo in _dicts(inner, "message_echoes")
    ]
    return {**inner, "metadata": _dict(value, "metadata"), "message_echoes": echoes}


def _on_standby(event: Event) -> Event:
    if isinstance(event, MessageEvent):
        return replace(event, context={**event.context, "standby": True})
    return event


def _handover(key: str, value: Mapping[str, Any], at: dt.datetime | None) -> Event:
    """Read who has a conversation now (§10.4.9), as a notice in it."""
    type_, sender = str(value.get("type") or ""), _dict(value, "sender")
    part = _dict(value, type_)
    person = _Person(
        number=_number(sender.get("phone_number") or sender.get("wa_id")),
        user_id=_user_id(sender.get("user_id")),
        also=_parent(sender.get("parent_user_id")),
    )
    if type_ not in ("control_passed", "control_taken") or not person.addresses:
        return UnsupportedEvent(key, f"handover:{type_}"[:100])
    at = from_seconds(value.get("timestamp")) or at
    found = contents.handover(part, taken=type_ == "control_taken")
    # It has no id. Two of a second differ in what they contain, two of the same content in their
    # time, which is that of the entry if they have none. A repetition by Meta differs in nothing.
    mark = f"{int(at.timestamp()) if at else ''}:{_digest(part)}"
    name = f"{type_}:{mark}:{person.addresses[0].value}"
    return MessageEvent(
        channel_key=key,
        provider_message_id=f"handover:{name}"[:255],
        phone_number=person.phone_number,
        user_id=person.user_id,
        also=person.also,
        at=at,
        type=found.type,
        text=found.text,
        content=found.content,
    )


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


# -- Ids -----------------------------------------------------------------------------------------


def web_message_id(wamid: str) -> str | None:
    """Return the WhatsApp Web ID inside a wamid, or None if it cannot be decoded.

    Undocumented by Meta, verified on its own samples (docs/providers/cloud.md §4.4). Some samples
    are scrambled, so a decoding failure is normal.
    """
    raw = _decoded(wamid)
    found = _WAMID_KEY.search(raw)
    if found is None:
        return None
    start, length = found.end(), found.group(1)[0]
    key = raw[start : start + length]
    if len(key) != length or not re.fullmatch(rb"[0-9A-Za-z._-]+", key):
        return None
    return key.decode()


def _decoded(wamid: str) -> bytes:
    """Return the bytes of a wamid, b"" if it is none."""
    encoded = wamid.removeprefix("wamid.")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _channel_key(value: Mapping[str, Any]) -> str:
    # A hand-over names our number as its recipient.
    names = ("metadata", "recipient")
    found = (_dict(value, name).get("phone_number_id") for name in names)
    return next((str(id_) for id_ in found if id_), "")


def _dicts(parent: Any, name: str) -> list[Mapping[str, Any]]:
    found = parent.get(name) if isinstance(parent, Mapping) else None
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _dict(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = parent.get(name)
    return found if isinstance(found, Mapping) else {}


def _id(value: Any, *, longest: int = 255) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= longest else None


def _number(value: Any) -> str:
    """Return the digits of a phone number, or "" for anything else."""
    digits = str(value).removeprefix("+")
    return digits if _DIGITS.fullmatch(digits) else ""
