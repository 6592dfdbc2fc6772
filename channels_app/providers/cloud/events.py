"""Parses Meta's webhook payloads (docs/providers/cloud.md §3, §4.3) into neutral events. Pure."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from channels_app.providers import error_codes
from channels_app.providers.cloud import account, contents
from channels_app.providers.events import (
    US,
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
_DIGITS = re.compile(r"[0-9]{4,19}")
_WAMID_KEY = re.compile(rb"\x15.\x00[\x11\x12]\x18(.)", re.DOTALL)


def read(payload: Any) -> Iterator[Event]:
    """Yield every update of a POST: all entries, all changes, all statuses and messages.

    Anything unknown is yielded as UnsupportedEvent; raises nothing for any JSON.
    """
    for entry in _dicts(payload, "entry"):
        for change in _dicts(entry, "changes"):
            value = change.get("value")
            if isinstance(value, Mapping):
                account_id = str(entry.get("id") or "")
                yield from _read_change(str(change.get("field", "")), value, account_id)


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


def _read_change(field: str, value: Mapping[str, Any], account_id: str) -> Iterator[Event]:
    key = _channel_key(value)
    if field in ("messages", "smb_message_echoes"):
        names = {
            address: str(_dict(contact, "profile").get("name") or "")
            for contact in _dicts(value, "contacts")
            for address in (_number(contact.get("wa_id")), _id(contact.get("user_id")))
            if address
        }
        for status in _dicts(value, "statuses"):
            yield _status(key, status)
        for message in _dicts(value, "messages"):
            yield _message(key, message, address="from", names=names)
        # Some resellers put several lists into one value.
        for message in _dicts(value, "message_echoes"):
            yield _message(key, message, address="to", names={}, outgoing=True)
        for call in _dicts(value, "calls"):
            yield _call(key, call)
        for error in _dicts(value, "errors"):
            yield account.read_error(key, error)
    elif field == "user_preferences":
        for preference in _dicts(value, "user_preferences"):
            yield _preference(key, preference)
    elif field == "calls":
        for call in _dicts(value, "calls"):
            yield _call(key, call)
        for status in _dicts(value, "statuses"):
            # The progress of a call that the business made.
            yield UnsupportedEvent(key, f"call:{status.get('status')}"[:100])
    else:
        yield account.read(field, value, account_id) or UnsupportedEvent(key, f"field:{field}")


def _status(key: str, status: Mapping[str, Any]) -> Event:
    # Payments and calls have statuses, too, which say nothing about the delivery of a message.
    if (type_ := status.get("type")) not in (None, "", "message"):
        return UnsupportedEvent(key, f"status:{type_}:{status.get('status')}"[:100])
    receipt = _RECEIPTS.get(str(status.get("status")))
    wamid = _id(status.get("id"))
    if receipt is None or wamid is None:
        return UnsupportedEvent(key, f"status:{status.get('status')}"[:100])
    return ReceiptEvent(
        channel_key=key,
        provider_message_id=wamid,
        receipt=receipt,
        reference=str(status.get("biz_opaque_callback_data") or ""),
        failure=_most_severe([_failure(error) for error in _dicts(status, "errors")]),
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
    user_id = _id(preference.get("user_id"), longest=128) or ""
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
    )


def _call(key: str, call: Mapping[str, Any]) -> Event:
    """Return a customer's call. Those of the business are not shown (§6.1)."""
    call_id, event = _id(call.get("id")), str(call.get("event"))
    number, user_id = _number(call.get("from")), _id(call.get("from_user_id"), longest=128) or ""
    ended = CallStatus.ENDED if call.get("status") == "COMPLETED" else CallStatus.MISSED
    status = {"connect": CallStatus.RINGING, "terminate": ended}.get(event)
    ours = call.get("direction") == "BUSINESS_INITIATED"
    if call_id is None or status is None or ours or not (number or user_id):
        return UnsupportedEvent(key, f"call:{event}"[:100])
    return CallEvent(
        channel_key=key,
        call_id=call_id,
        phone_number=f"+{number}" if number else "",
        status=status,
        at=from_seconds(call.get("timestamp")),
        user_id=user_id,
    )


def _message(
    key: str,
    message: Mapping[str, Any],
    *,
    address: str,
    names: Mapping[str, str],
    outgoing: bool = False,
) -> Event:
    wamid, number = _id(message.get("id")), _number(message.get(address))
    user_id = _id(message.get(f"{address}_user_id"), longest=128) or ""
    type_ = contents.type_of(message)
    at = from_seconds(message.get("timestamp"))
    if _id(message.get("group_id")):
        return UnsupportedEvent(key, "group")
    if type_ in contents.CHANGES:
        by = US if outgoing else f"+{number}" if number else user_id
        name = names.get(number) or names.get(user_id, "")
        if change := _change(key, type_, _dict(message, type_), by=by, name=name, at=at):
            return change
    if wamid is None or not (number or user_id):
        return UnsupportedEvent(key, f"message:{type_[:60]}")
    found = contents.read(message)
    return MessageEvent(
        channel_key=key,
        provider_message_id=wamid,
        phone_number=f"+{number}" if number else "",
        user_id=user_id,
        name=names.get(number) or names.get(user_id, ""),
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
        return RevokeEvent(key, target, at)
    return EditEvent(key, target, contents.read(_dict(content, "message")).text, at)


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


def web_message_id(wamid: str) -> str | None:
    """Return the WhatsApp Web ID inside a wamid, or None if it cannot be decoded.

    Undocumented by Meta, verified on its own samples (docs/providers/cloud.md §4.4). Some samples
    are scrambled, so a decoding failure is normal.
    """
    encoded = wamid.removeprefix("wamid.")
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    found = _WAMID_KEY.search(raw)
    if found is None:
        return None
    start, length = found.end(), found.group(1)[0]
    key = raw[start : start + length]
    if len(key) != length or not re.fullmatch(rb"[0-9A-Za-z._-]+", key):
        return None
    return key.decode()


def _channel_key(value: Mapping[str, Any]) -> str:
    return str(_dict(value, "metadata").get("phone_number_id") or "")


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
